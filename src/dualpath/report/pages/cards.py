"""A clip as the pages show it: what a model saw of it and what it said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dualpath.engine.evaluate import Evaluation
from dualpath.report.pictures import Looks, inline

FRAME_SIDE, FRAMESET_SIDE = 160, 336
"""Most pixels a side of a frame and of a frameset on a page."""


@dataclass(frozen=True)
class Guess:
    """One class of a prediction: its name, its score and whether it is the true one."""

    label: str
    score: float
    true: bool


@dataclass(frozen=True)
class Strip:
    """A row of pictures below the frames, such as maps over them.

    Attributes:
        title: above it.
        what: what one picture is, for those who do not see it: "Frame".
        tail: what else is to be said of each.
        frames: (number counted from 1, data URL), in order.
    """

    title: str
    what: str
    tail: str
    frames: list[tuple[int, str]]


@dataclass(frozen=True)
class ClipCard:
    """A clip as the page shows it.

    Attributes:
        name: of the file.
        truth: name of the true class.
        right: whether the first guess is true.
        guesses: best first.
        frames: (number counted from 1, data URL) of some frames, in order.
        num_frames: of how many.
        framesets: data URLs.
        grid: rows and columns of a frameset.
        maps: where the decision comes from.
        problem: why there are no pictures, or no maps.
        rival: names of this and of another model, and the other one's guesses.
    """

    name: str
    truth: str
    right: bool
    guesses: list[Guess]
    frames: list[tuple[int, str]] = field(default_factory=list)
    num_frames: int = 0
    framesets: list[str] = field(default_factory=list)
    grid: tuple[int, int] = (0, 0)
    maps: tuple[Strip, ...] = ()
    problem: str = ""
    rival: tuple[str, str, list[Guess]] | None = None


def best_guesses(evaluation: Evaluation, index: int, *, most: int = 3) -> list[Guess]:
    """The best classes of one video."""
    scores = evaluation.scores[index]
    truth = evaluation.videos[index].label
    best = np.argsort(-scores, kind="stable")[:most]
    return [Guess(evaluation.classes[label], float(scores[label]), bool(label == truth)) for label in best]


def card(name: str, truth: str, guesses: Sequence[dict[str, Any]], looks: Looks) -> ClipCard:
    """A clip and its prediction, with its pictures inlined."""
    told = [Guess(guess["label"], guess["score"], guess["label"] == truth) for guess in guesses]
    return with_pictures(ClipCard(name, truth, told[0].true, told), looks)


def with_pictures(card: ClipCard, looks: Looks) -> ClipCard:
    """The same with some of the clip's frames, and with its framesets."""
    return replace(
        card,
        frames=[(i + 1, inline(looks.frames[i], side=FRAME_SIDE)) for i in looks.shown],
        num_frames=len(looks.frames),
        framesets=[inline(picture, side=FRAMESET_SIDE) for picture in looks.framesets],
        grid=looks.grid,
    )
