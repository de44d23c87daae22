"""Growth is held against the multiply-adds of the first point, and what outgrows them is told."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from dualpath.engine.config import RunConfig
from dualpath.engine.entries import make_entries
from dualpath.speed.turns import Candidate, Measured


def benchmark(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[2] / "benchmarks" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


growth = benchmark("growth")


def point(clips: int, gmacs: float, bytes_: int | None, *seconds: float) -> Measured:
    steps = tuple((second,) for second in seconds)
    return Measured(Candidate("x", "m:f"), clips=clips, seconds=steps, gmacs=gmacs, step_bytes=bytes_, peak_gb=1.0)


BAD = Measured(Candidate("x", "m:f"), problem="no room")
POINTS = [
    ("1", point(1, 10.0, 100, 1.0, 2.0, 1.0)),
    ("2", point(2, 20.0, 260, 2.2, 4.0, 2.42)),  # round by round 2.2, 2 and 2.42 times the first, all clips of a step together
    ("4", point(4, 40.0, None, 6.0, 12.0, 6.0)),
    ("8", BAD),
]


def test_long_times_are_no_powers_of_ten() -> None:
    slow = growth.grow([("1", point(1, 10.0, 20_123_000_000, 12.3456, 12.3456))])
    assert "| 1 | 12346 | 0 % | 10 | 20123 MB |" in growth.growth_markdown(
        [{"axis": "views", "mode": "inference", "points": slow}]
    )


def axes(points: list[tuple[str, Measured]]) -> list[dict[str, Any]]:
    return [{"axis": "batch_size", "mode": "training", "points": growth.grow(points)}]


def test_growth_is_that_of_steps_round_by_round() -> None:
    first, second, third, bad = growth.grow(POINTS)
    assert (first["time_growth"], first["time_excess"], first["memory_excess"], first["flagged"]) == (1, 1, 1, [])
    assert second["seconds_a_step"] == 2.42
    assert (second["time_growth"], second["gmacs_growth"]) == (pytest.approx(2.2), 2)
    assert (second["time_excess"], second["memory_excess"]) == (pytest.approx(1.1), pytest.approx(1.3))
    assert second["flagged"] == ["memory"]
    assert (third["time_excess"], third["flagged"]) == (pytest.approx(1.5), ["time"])
    assert "memory_growth" not in third
    assert bad == {"value": "8", "problem": "no room"}


def test_without_a_first_point_nothing_is_compared() -> None:
    _, second = growth.grow([("0", BAD), POINTS[0]])
    assert second["flagged"] == []
    assert "time_growth" not in second
    assert "nothing can be said" in growth.verdict(axes([("0", BAD), POINTS[0]]))
    assert growth.growth_picture(axes([("0", BAD), POINTS[0]])) == b""


def test_the_words_name_what_outgrows() -> None:
    told = growth.growth_markdown(axes(POINTS))
    assert "**clips at a time, training**" in told
    assert "| 2 | 2420 | 37 % | 20 | 0.00026 MB | 1.00 GB | 1.10 | **1.30** |" in told
    assert "| 4 | 6000 | 50 % | 40 |  | 1.00 GB | **1.50** |  |" in told
    assert "- clips at a time, training, 2: memory grew by 2.60, the multiply-adds by 2.00" in told
    assert "- clips at a time, training, 4: time grew by 6.00, the multiply-adds by 4.00" in told
    assert "- clips at a time, training, 2: time" not in told
    assert growth.verdict(axes([POINTS[0], ("1", POINTS[0][1])])).startswith("Nothing grows faster than 1.25 times")


def test_the_picture_has_a_panel_for_each_axis() -> None:
    one = Image.open(io.BytesIO(growth.growth_picture(axes(POINTS))))
    four = Image.open(io.BytesIO(growth.growth_picture(axes(POINTS) * 4)))
    assert four.width == pytest.approx(3 * one.width, abs=3)
    assert four.height > 1.8 * one.height
    hidden = [("1", point(1, 10.0, None, 1.0)), ("2", point(2, 20.0, None, 2.0))]
    assert growth.growth_picture(axes(hidden)) != b""


@pytest.mark.parametrize("quick", [True, False])
def test_every_point_of_every_axis_can_be(quick: bool) -> None:
    scaling = benchmark("scaling")
    for axis in scaling.NAMES:
        for mode in ("inference", "training"):
            found = scaling.points(axis, mode, quick=quick)
            assert len({candidate.label for _, candidate in found}) == len(found) > 1
            given = [candidate.settings for _, candidate in found]
            assert len({str(settings) for settings in given}) == len(found)  # something varies
            assert {settings["batch_size"] for settings in given} != {1} or axis not in ("batch_size", "views")
            make_entries({str(n): settings["settings"] for n, settings in enumerate(given)}, base=RunConfig())
