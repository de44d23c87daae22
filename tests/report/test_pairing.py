"""Two evaluations side by side: matched by name, counted by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dualpath.engine.evaluate import Evaluation
from dualpath.errors import DualPathError
from dualpath.report.pages.pairing import match, side_by_side
from dualpath.report.pages.sources import read_source
from evaluations import guessed, made

CLASSES = ("a", "b", "c")
LABELS = [0, 0, 1, 1, 2, 2]
FIRST = guessed(LABELS, [(0, 0.9), (0, 0.5), (1, 0.6), (0, 0.8), (1, 0.7), None], CLASSES)
SECOND = guessed(LABELS, [(0, 0.4), (1, 0.7), (2, 0.6), (1, 0.8), (0, 0.9), (2, 0.5)], CLASSES)


def turned(found: Evaluation) -> Evaluation:
    """The same with videos and classes in the opposite order."""
    count, last = len(found.videos), len(found.classes) - 1
    videos = tuple(replace(video, label=last - video.label) for video in found.videos[::-1])
    failures = {count - 1 - index: reason for index, reason in found.failures.items()}
    scores = found.scores[::-1, ::-1].copy()
    return replace(found, classes=found.classes[::-1], videos=videos, scores=scores, failures=failures)


@pytest.mark.parametrize("second", [SECOND, turned(SECOND)], ids=["as it is", "turned"])
def test_counts_by_hand(second: Evaluation) -> None:
    sides = side_by_side(FIRST, second)
    assert (sides.both, sides.only_first, sides.only_second, sides.neither) == (1, 2, 2, 1)
    assert sides.interval.difference == 0
    assert sides.interval.low < 0 < sides.interval.high
    np.testing.assert_array_equal(sides.second.scores, SECOND.scores)
    assert sides.class_gaps() == [(0, 1.0, 0.5), (2, 0.0, 0.5), (1, 0.5, 0.5)]
    # Of the true class: 0.5, 0.35, 0.4, -0.7, 0.1; the one that could not be decoded is no difference.
    assert sides.gaps.tolist() == pytest.approx([0.5, 0.35, 0.4, -0.7, 0.1, 0], abs=1e-6)
    assert sides.differ_most(2) == ([0, 2], [3])


def test_failures_move_with_their_videos() -> None:
    sides = side_by_side(SECOND, turned(FIRST))
    assert sides.second.failures == {5: "is empty (0 bytes)"}
    assert sides.second.predictions.tolist() == FIRST.predictions.tolist()


def test_other_videos_labels_or_classes_are_refused() -> None:
    with pytest.raises(DualPathError, match=r"not of the same classes \(3 and 4, 'd' is in one of them only"):
        side_by_side(FIRST, guessed(LABELS, [(0, 0.5)] * 6, (*CLASSES, "d")))
    with pytest.raises(DualPathError, match=r"not of the same videos \(6 and 5, of which 5 have"):
        side_by_side(FIRST, guessed(LABELS[:5], [(0, 0.5)] * 5, CLASSES))
    with pytest.raises(DualPathError, match=r"not of the same videos \(6 and 6, of which 5 have"):
        side_by_side(FIRST, guessed([*LABELS[:5], 1], [(0, 0.5)] * 6, CLASSES))


def test_of_two_runs_the_evaluations_of_the_same_videos_are_chosen(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text("{}")
    fewer = made([0], [[0.5, 0.3, 0.2]], CLASSES, names=["other.mp4"])
    fewer.write(tmp_path / "one" / "evaluation-test")
    FIRST.write(tmp_path / "one" / "validation")
    SECOND.write(tmp_path / "two" / "validation")
    source, against, sides = match(read_source(tmp_path / "one"), read_source(tmp_path / "two"))
    assert [one.folder.name for one in source.evaluations] == ["validation", "evaluation-test"]
    assert against.evaluations[0].folder.name == "validation"
    assert sides.both == 1
    with pytest.raises(DualPathError, match=r"not of the same videos \(1 and 6"):
        match(read_source(tmp_path / "one" / "evaluation-test"), read_source(tmp_path / "two"))
    with pytest.raises(DualPathError, match=r"validation would be compared with itself"):
        match(read_source(tmp_path / "two"), read_source(tmp_path / "two" / "validation"))
    SECOND.write(tmp_path / "two" / "again")  # then there is another one to compare with
    source, against, sides = match(read_source(tmp_path / "two"), read_source(tmp_path / "two" / "validation"))
    assert (source.evaluations[0].folder.name, sides.interval.difference) == ("again", 0)
    (tmp_path / "three").mkdir()
    (tmp_path / "three" / "run.json").write_text("{}")
    with pytest.raises(DualPathError, match="three holds no evaluation to compare; make one with dualpath evaluate"):
        match(read_source(tmp_path / "three"), read_source(tmp_path / "two"))
