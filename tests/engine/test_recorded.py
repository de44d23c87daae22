"""What an evaluation writes is read back as it was, by older versions too; what is damaged is refused in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpath.engine.origin import Origin, fingerprint
from dualpath.engine.recorded import PREDICTIONS, SUMMARY, find_evaluations, read_summary
from dualpath.errors import DualPathError
from evaluations import NASTY, made

ORIGIN = Origin(
    command=("dualpath", "evaluate", "RUN", "DATA"),
    checkpoint="/runs/best",
    checkpoint_bytes=5_062_080,
    split="test",
    data="/data",
    shuffled=False,
    seconds=8.0,
    videos_per_s=2.5,
    versions={"dualpath": "0.1.0"},
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    names = [f"{name}.mp4" for name in NASTY]
    rows = [[0.5, 0.2, 0.1, 0.1, 0.1], None, [0.1, 0.6, 0.1, 0.1, 0.1], [0.2] * 5, [0.0, 0.0, 0.0, 0.0, 1.0]]
    wrote = made([0, 1, 2, 3, 4], rows, NASTY, names=names, origin=ORIGIN)
    wrote.write(tmp_path)
    told = read_summary(tmp_path)
    found = told.read()
    assert (told.top1, told.videos, told.shuffled) == (0.4, 5, False)
    assert told.origin == found.origin == ORIGIN
    assert [(video.name, video.label) for video in found.videos] == [(video.name, video.label) for video in wrote.videos]
    assert found.videos[0].path == Path("/data") / names[0]
    np.testing.assert_allclose(found.scores, wrote.scores, atol=1e-6)
    assert found.predictions.tolist() == [0, -1, 1, 0, 4]
    assert found.failures == {1: "is empty (0 bytes)"}
    assert found.summary() == wrote.summary()


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_scores(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    count = data.draw(st.integers(2, 4))
    row = st.lists(st.floats(0, 1, width=32), min_size=count, max_size=count)
    rows = data.draw(st.lists(st.none() | row, min_size=1, max_size=5))
    labels = data.draw(st.lists(st.integers(0, count - 1), min_size=len(rows), max_size=len(rows)))
    wrote = made(labels, rows, tuple("abcd"[:count]))
    folder = tmp_path_factory.mktemp("any")
    wrote.write(folder)
    found = read_summary(folder).read()
    # Scores that six digits do not tell apart: the prediction still is the one that was made.
    assert found.predictions.tolist() == wrote.predictions.tolist()
    assert found.confusion().tolist() == wrote.confusion().tolist()


def test_a_prediction_that_six_digits_do_not_tell_from_another(tmp_path: Path) -> None:
    wrote = made([1, 0], [[0.4999999, 0.5000001], [0.5000001, 0.4999999]], ("a", "b"))
    wrote.write(tmp_path)
    assert "0.500000,0.500000" in (tmp_path / PREDICTIONS).read_text()
    assert read_summary(tmp_path).read().predictions.tolist() == [1, 0]


def test_files_of_older_versions(tmp_path: Path) -> None:
    made([0, 1], [[0.75, 0.25], None], ("a", "b")).write(tmp_path)
    told = json.loads((tmp_path / SUMMARY).read_text())
    for key in ("data", "origin", "quarantined"):
        del told[key]
    (tmp_path / SUMMARY).write_text(json.dumps(told))
    found = read_summary(tmp_path)
    assert found.origin == Origin()
    assert found.read().top(1) == 0.5
    assert found.read().data is None


@pytest.mark.parametrize(
    ("name", "break_it", "told"),
    [
        (SUMMARY, lambda text: text[:100], "damaged"),
        (SUMMARY, lambda text: "[1, 2]", "damaged"),
        (SUMMARY, lambda text: text.replace('"videos": 3', '"videos": "3"'), "another kind"),
        (SUMMARY, lambda text: text.replace('"top1"', '"top"'), "top1 is missing"),
        (SUMMARY, lambda text: text.replace('"data": null', '"data": 3'), "another kind"),
        (PREDICTIONS, lambda text: "", "does not name the 2 classes"),
        (PREDICTIONS, lambda text: text.replace("prediction,a,b", "prediction,b,a"), "does not name the 2 classes"),
        (PREDICTIONS, lambda text: "".join(text.splitlines(keepends=True)[:-1]), "2 of the 3 videos"),
        (PREDICTIONS, lambda text: text[:-12], "line 4 is not one of"),
        (PREDICTIONS, lambda text: text + text.splitlines()[-1], "line 5 is not one of"),
        (PREDICTIONS, lambda text: text.replace("0.750000", "much"), "could not convert"),
        (PREDICTIONS, lambda text: text.replace("0.750000", "nan"), "do not fit its prediction"),
        (PREDICTIONS, lambda text: text.replace("0.750000", "0.050000"), "do not fit its prediction"),
        (PREDICTIONS, lambda text: text.replace("0.mp4,a", "0.mp4,b"), "its top-1 is 0.000000"),
    ],
)  # fmt: skip
def test_damaged_files_are_refused(tmp_path: Path, name: str, break_it: Callable[[str], str], told: str) -> None:
    made([0, 1, 0], [[0.75, 0.25], None, [0.25, 0.75]], ("a", "b")).write(tmp_path)
    text = (tmp_path / name).read_bytes().decode()
    broken = break_it(text)
    assert broken != text
    (tmp_path / name).write_bytes(broken.encode())
    with pytest.raises(DualPathError, match=told) as problem:
        read_summary(tmp_path).read()
    assert "\n" not in str(problem.value)
    assert "evaluate again" in str(problem.value)


def test_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DualPathError, match=r"holds no evaluation: evaluation\.json is missing"):
        read_summary(tmp_path)
    made([0], [[0.75, 0.25]], ("a", "b")).write(tmp_path)
    (tmp_path / PREDICTIONS).unlink()
    with pytest.raises(DualPathError, match=r"predictions\.csv is missing"):
        read_summary(tmp_path).read()


def test_the_evaluation_to_look_at_comes_first(tmp_path: Path) -> None:
    found = made([0], [[0.75, 0.25]], ("a", "b"))
    for place in ("validation", "last/evaluation-test", "best/evaluation-test", "best/evaluation-train"):
        found.write(tmp_path / place)
    made([0], [[0.75, 0.25]], ("a", "b"), protocol="segment-4, 1x1 views, frames shuffled").write(
        tmp_path / "best/evaluation-1"
    )
    places = [one.folder.relative_to(tmp_path).as_posix() for one in find_evaluations(tmp_path)]
    assert places[:2] == ["best/evaluation-test", "last/evaluation-test"]
    assert places[2] == "validation"
    assert places[-1] == "best/evaluation-1"


def test_an_origin_keeps_what_fits() -> None:
    told = json.loads(json.dumps(ORIGIN.as_json()))
    assert Origin.from_json(told) == ORIGIN
    strange = {"split": 3, "seconds": "8", "shuffled": 1, "trainable": True, "command": "rm", "versions": [], "new": 1}
    assert Origin.from_json(strange | {"data": "/d", "videos_per_s": 3}) == Origin(data="/d", videos_per_s=3.0)
    assert Origin.from_json(None) == Origin.from_json([1]) == Origin()


def test_a_fingerprint_is_of_names_and_labels() -> None:
    one, same = (made([0, 1], rows, ("a", "b")) for rows in ([[1.0, 0.0], None], [None, [0.0, 1.0]]))
    other = made([0, 0], [[1.0, 0.0], None], ("a", "b"))
    assert fingerprint(one.videos, one.classes) == fingerprint(same.videos, same.classes)
    assert fingerprint(one.videos, one.classes) != fingerprint(other.videos, other.classes)
    assert fingerprint(one.videos, one.classes) != fingerprint(one.videos, ("a", "c"))
