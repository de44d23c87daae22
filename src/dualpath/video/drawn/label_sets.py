"""Sets of classes for drawn clips: told by motion, by appearance, or by both together.

            a clip of class ...          what the label says       what is left to chance
    motion      "moves left"             the motion                the look
    appearance  "red cross"              colour and shape          the motion
    both        "red cross moves left"   colour, shape, motion     the rest

Everything else of a scene (ground, clutter, camera, size, speed, place, texture, length) is the same for all looks, and
for opposite motions but for its order. So the best that a classifier can reach without one half of the information is
known: guessing, all frames without their order, the motion without the look:

    motion      1/10   1/2   1
    appearance  1/8    1     1/8
    both        1/8    1/2   1/4
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from dualpath.errors import DualPathError
from dualpath.video.drawn.motions import PAIRS
from dualpath.video.drawn.shapes import HUES, SHAPES


class Label(NamedTuple):
    """What a class says about its clips; None is what it leaves to chance."""

    look: tuple[str, str] | None
    motion: str | None


def _class_name(look: tuple[str, str] | None, motion: str | None) -> str:
    return " ".join([*(look or ()), *([motion] if motion else [])])


@dataclass(frozen=True)
class LabelSet:
    """Classes for drawn clips, as many clips of each.

    Attributes:
        name: what to call it.
        pairs: the motions that occur, in pairs of opposites out of `motions.PAIRS`.
        looks: (colour, shape) of each kind of object; none: objects of any look, which tells nothing.
        motion_tells: whether the motion is a part of the label.

    Raises:
        DualPathError: an unknown motion, colour or shape, all shapes taken, or nothing that tells classes apart.
    """

    name: str
    pairs: tuple[tuple[str, str], ...] = PAIRS
    looks: tuple[tuple[str, str], ...] = ()
    motion_tells: bool = True

    def __post_init__(self) -> None:
        for pair in self.pairs:
            if pair not in PAIRS:
                raise DualPathError(f"label set {self.name}: there is no pair of motions {pair}; the pairs are {PAIRS}")
        for colour, shape in self.looks:
            if colour not in HUES or shape not in SHAPES:
                allowed = f"the colours are {', '.join(HUES)}, the shapes {', '.join(SHAPES)}"
                raise DualPathError(f"label set {self.name}: there is no {colour} {shape}; {allowed}")
        if {shape for _, shape in self.looks} == set(SHAPES):
            raise DualPathError(f"label set {self.name}: it takes all shapes, but one must be left for what lies around")
        if not self.pairs or not (self.looks or self.motion_tells):
            raise DualPathError(f"label set {self.name}: it needs motions, and looks where the motion tells nothing")

    @property
    def labels(self) -> dict[str, Label]:
        """What each class says, by its name, sorted by it."""
        motions = self.motions if self.motion_tells else (None,)
        found = (Label(look, motion) for look in self.looks or (None,) for motion in motions)
        return dict(sorted((_class_name(*label), label) for label in found))

    @property
    def classes(self) -> tuple[str, ...]:
        """All class names; a class's label is its place in this order."""
        return tuple(self.labels)

    @property
    def motions(self) -> tuple[str, ...]:
        """The motions that occur."""
        return tuple(motion for pair in self.pairs for motion in pair)

    @property
    def colours(self) -> tuple[str, ...]:
        """The colours that labels speak of: nothing but the object may have them."""
        return tuple(dict.fromkeys(colour for colour, _ in self.looks))

    @property
    def opposites(self) -> tuple[tuple[str, str], ...]:
        """The pairs of classes whose clips are each other's reverse; none where the motion tells nothing."""
        if not self.motion_tells:
            return ()
        pairs = [(look, pair) for look in self.looks or (None,) for pair in self.pairs]
        return tuple((_class_name(look, first), _class_name(look, second)) for look, (first, second) in pairs)

    def label(self, name: str) -> Label:
        """What class `name` says.

        Raises:
            DualPathError: the set has no such class.
        """
        if name not in self.labels:
            raise DualPathError(f"label set {self.name} has no class {name!r}; its classes are {', '.join(self.classes)}")
        return self.labels[name]

    @property
    def chance(self) -> float:
        """Share of clips that guessing gets right, 0..1."""
        return 1 / len(self.classes)

    @property
    def best_without_order(self) -> float:
        """Share of clips, 0..1, that can be right at best when all frames are seen, but not their order.

        A clip and its reverse have the same frames, so of two opposites one is guessed: 1/2 where the motion tells. A
        single frame taken at random gives no more.
        """
        return len({(label.look, self._pair(label.motion)) for label in self.labels.values()}) * self.chance

    @property
    def best_without_look(self) -> float:
        """Share of clips, 0..1, that can be right at best when the motion is known, but not what moves."""
        return len({label.motion for label in self.labels.values()}) * self.chance

    def _pair(self, motion: str | None) -> tuple[str, str] | None:
        return next((pair for pair in self.pairs if motion in pair), None)


# The object is there in every frame, and never so small that its shape is lost in a frame of 64 pixels.
_ALWAYS_CLEAR = tuple(pair for pair in PAIRS if pair[0] in ("moves right", "moves down", "circles clockwise"))

LABEL_SETS: dict[str, LabelSet] = {
    "motion": LabelSet("motion"),
    "appearance": LabelSet(
        "appearance",
        pairs=_ALWAYS_CLEAR,
        looks=tuple((colour, shape) for colour in ("red", "blue") for shape in ("disc", "square", "triangle", "cross")),
        motion_tells=False,
    ),
    "both": LabelSet(
        "both",
        pairs=(("moves right", "moves left"),),
        looks=tuple((colour, shape) for colour in ("red", "blue") for shape in ("disc", "cross")),
    ),
}


def find_label_set(name: str) -> LabelSet:
    """The label set of that name.

    Raises:
        DualPathError: there is none.
    """
    if name not in LABEL_SETS:
        raise DualPathError(f"there is no label set {name!r}; the label sets are {', '.join(LABEL_SETS)}")
    return LABEL_SETS[name]
