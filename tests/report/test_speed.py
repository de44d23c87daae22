"""The table of speeds says what was measured."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from dualpath.errors import DualPathError
from dualpath.report.speed import HEAD, measured_from, speed_json, speed_markdown, speed_picture, speed_rows, speed_table
from dualpath.speed.turns import Candidate, Measured, ceiling_label

ONE = Measured(
    Candidate("one, inference", "x:y", {"a": 1}, group="inference", ceiling=True),
    clips=4, seconds=((2.0, 2.0), (1.0, 1.0), (3.0, 3.0)), gmacs=740.0, step_bytes=500_000_000, peak_gb=1.5,
    warm_seconds=7.25, device="cpu", dtype="bfloat16", facts={"total": 3},
)  # fmt: skip
CEILING = Measured(
    Candidate(ceiling_label("one, inference"), "dualpath.speed.ceiling:products_alone", {"products": []}, group="inference"),
    clips=4, seconds=((1.0,), (1.0,), (1.0,)), gmacs=740.0, peak_gb=1.0,
)  # fmt: skip
BAD = Measured(Candidate("two, training", "x:z", group="training"), problem="ValueError: no room")
ALL = [ONE, CEILING, BAD]


def test_the_rows() -> None:
    one, bad = speed_rows(ALL)
    assert dict(zip(HEAD, one, strict=True)) == {
        "candidate": "one, inference", "in": "bf16", "clips/s": "2", "ms a clip": "500", "+/-": "50 %", "GMACs a clip": "185",
        "of the ceiling": "50 %", "memory a clip": "0.125 GB", "peak": "1.50 GB", "first steps": "7.2 s",
    }  # fmt: skip
    assert bad == ("two, training", *[""] * 8, "ValueError: no room")
    assert "ValueError: no room" in speed_table(ALL, "a box")
    assert speed_markdown(ALL).splitlines()[2].startswith("| one, inference | bf16 | 2 | 500 | 50 % |")


def test_json_holds_every_step() -> None:
    told = speed_json(ALL, machine="a box", command="dualpath bench", versions={"torch": "2"})
    one, ceiling, bad = told["candidates"]
    assert one["seconds_a_clip"] == 0.5
    assert one["steps"] == [[2.0, 2.0], [1.0, 1.0], [3.0, 3.0]]
    assert (one["share_of_ceiling"], one["gmacs_a_clip"], one["gb_a_clip"]) == (0.5, 185.0, 0.125)
    assert ceiling["seconds_a_clip"] == 0.25
    assert bad == {
        "label": "two, training",
        "group": "training",
        "maker": "x:z",
        "settings": {},
        "problem": "ValueError: no room",
    }


def test_json_can_be_read_again() -> None:
    told = json.loads(json.dumps(speed_json(ALL, machine="a box", command="dualpath bench", versions={"torch": "2"})))
    one, ceiling, bad = measured_from(told)
    assert one == ONE
    assert ceiling == replace(CEILING, candidate=replace(CEILING.candidate, settings={}))  # its products stand in no file
    assert bad == BAD
    assert speed_json([one, ceiling, bad], machine="a box", command="dualpath bench", versions={"torch": "2"}) == told
    assert speed_picture([one, ceiling, bad], ours=["one, inference"]) == speed_picture(ALL, ours=["one, inference"])
    hidden = replace(ONE, step_bytes=None)
    assert measured_from(speed_json([hidden], machine="", command="", versions={}))[0].step_bytes is None
    assert speed_rows([hidden])[0][HEAD.index("memory a clip")] == ""


EMPTY = {"label": "a", "maker": "m", "settings": {}, "group": "", "clips": 1, "gmacs_a_clip": None, "steps": [[]]}


@pytest.mark.parametrize("wrong", [{}, [], {"candidates": [{"label": "a"}]}, {"candidates": [EMPTY]}])
def test_what_is_no_measurement_is_told(wrong: Any) -> None:
    with pytest.raises(DualPathError, match="this is no result of a measurement of speed"):
        measured_from(wrong)


def test_the_picture_has_a_bar_of_each() -> None:
    picture = Image.open(io.BytesIO(speed_picture(ALL, ours=["one, inference"]))).convert("RGB")
    colours = {colour for count, colour in picture.getcolors(1 << 24) or [] if count > 500}
    assert (0x00, 0x63, 0x9B) in colours
    assert speed_picture([ONE, CEILING], ours=[]) != speed_picture([ONE], ours=[])


@pytest.mark.parametrize("none", [[], [BAD]])
def test_nothing_measured_is_no_picture(none: list[Measured]) -> None:
    assert speed_picture(none, ours=[]) == b""
