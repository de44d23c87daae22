"""Label sets: their classes, what they say, which are opposites, and what can be told without order or look."""

from __future__ import annotations

import pytest

from dualpath.errors import DualPathError
from dualpath.video.drawn.label_sets import LABEL_SETS, Label, LabelSet, find_label_set
from dualpath.video.drawn.motions import PAIRS
from dualpath.video.drawn.shapes import SHAPES

CLASSES = {
    "motion": (
        "appears", "circles clockwise", "circles counterclockwise", "comes nearer", "disappears", "goes farther",
        "moves down", "moves left", "moves right", "moves up",
    ),
    "appearance": (
        "blue cross", "blue disc", "blue square", "blue triangle", "red cross", "red disc", "red square", "red triangle",
    ),
    "both": (
        "blue cross moves left", "blue cross moves right", "blue disc moves left", "blue disc moves right",
        "red cross moves left", "red cross moves right", "red disc moves left", "red disc moves right",
    ),
}  # fmt: skip


def test_there_are_these_sets_with_these_classes() -> None:
    assert {name: labels.classes for name, labels in LABEL_SETS.items()} == CLASSES
    assert all(labels.name == name for name, labels in LABEL_SETS.items())


def test_a_class_says_look_motion_or_both() -> None:
    assert LABEL_SETS["motion"].label("moves up") == Label(None, "moves up")
    assert LABEL_SETS["appearance"].label("red square") == Label(("red", "square"), None)
    assert LABEL_SETS["both"].label("blue disc moves left") == Label(("blue", "disc"), "moves left")


def test_opposites_differ_in_their_motion_only() -> None:
    assert LABEL_SETS["motion"].opposites == PAIRS
    assert LABEL_SETS["appearance"].opposites == ()
    both = LABEL_SETS["both"]
    assert sorted(name for pair in both.opposites for name in pair) == list(both.classes)
    for first, second in both.opposites:
        assert both.label(first).look == both.label(second).look
        assert (both.label(first).motion, both.label(second).motion) in PAIRS


@pytest.mark.parametrize(
    ("name", "chance", "without_order", "without_look"),
    [("motion", 1 / 10, 1 / 2, 1), ("appearance", 1 / 8, 1, 1 / 8), ("both", 1 / 8, 1 / 2, 1 / 4)],
)
def test_best_accuracies(name: str, chance: float, without_order: float, without_look: float) -> None:
    labels = LABEL_SETS[name]
    assert labels.chance == pytest.approx(chance)
    assert labels.best_without_order == pytest.approx(without_order)
    assert labels.best_without_look == pytest.approx(without_look)


def test_a_set_of_ones_own() -> None:
    two = LabelSet("two", pairs=PAIRS[:2], looks=(("green", "star"),))
    assert two.classes == tuple(f"green star moves {way}" for way in ("down", "left", "right", "up"))
    assert (two.colours, two.motions) == (("green",), ("moves right", "moves left", "moves down", "moves up"))
    assert (two.chance, two.best_without_order, two.best_without_look) == (0.25, 0.5, 1.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pairs": (("moves left", "moves right"),)}, "no pair of motions .*'moves left', 'moves right'"),
        ({"looks": (("pink", "disc"),)}, "no pink disc; the colours are red, yellow, green, blue, the shapes disc, ring"),
        ({"looks": (("red", "house"),)}, "no red house; the colours"),
        ({"looks": tuple(("red", shape) for shape in SHAPES)}, "takes all shapes"),
        ({"motion_tells": False}, "looks where the motion tells nothing"),
        ({"pairs": ()}, "needs motions"),
    ],
)
def test_a_set_that_cannot_be_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(DualPathError, match=f"label set mine: .*{message}"):
        LabelSet("mine", **settings)


def test_what_is_unknown_is_answered_with_what_there_is() -> None:
    assert find_label_set("both") is LABEL_SETS["both"]
    with pytest.raises(DualPathError, match="no label set 'colour'; the label sets are motion, appearance, both"):
        find_label_set("colour")
    with pytest.raises(
        DualPathError, match="label set appearance has no class 'moves up'; its classes are blue cross, blue disc"
    ):
        LABEL_SETS["appearance"].label("moves up")
