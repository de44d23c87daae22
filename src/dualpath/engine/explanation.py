"""Where a prediction comes from: for each path, a map over every frame that it looks at.

clip: frames 0 .. T-1    spatial  frames 2 6 10 14, a map of 14x14 shares each
                         temporal frames 0 .. 15,   a map of 56x56 shares each: a frameset's cell, at its frame's time
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8

KINDS = ("relevance", "rollout", "attention")
"""What a map can tell, see `dualpath.engine.explain`."""


@dataclass(frozen=True)
class PathMap:
    """What one path's part of the decision rests on.

    Attributes:
        path: "spatial" or "temporal".
        frames: which frames of the clip the path looks at, counted from 0, ascending.
        shares: one map a frame, in equal cells. All shares of a path add up to 1; they are all 0 if nothing in it speaks for
            the class. What lies on tokens that show no place ([CLS], registers) is left out.
        token: rows and columns of cells that a token covers, where cells are finer than tokens; pictures are smoothed so.
    """

    path: str
    frames: tuple[int, ...]
    shares: Float32[np.ndarray, "n y x"]
    token: tuple[int, int] = (1, 1)

    @cached_property
    def heat(self) -> Float32[np.ndarray, "n y x"]:
        """Shares in units of an even spread: 1 is what each cell had if the path looked at all places of all frames alike."""
        return self.shares * np.float32(self.shares.size)

    @property
    def by_frame(self) -> Float32[np.ndarray, " n"]:
        """Share of each frame."""
        return self.shares.sum(axis=(1, 2))


@dataclass(frozen=True)
class Explanation:
    """One view of a video, the prediction for it, and a map of each path.

    Attributes:
        video: the file.
        classes: class names; the index is the label.
        scores: of each class, softmax over this view's logits.
        label: the class that is explained; "relevance" speaks of it, the other kinds of all classes alike.
        kind: one of KINDS.
        block: which block's attention, counted from 0; None where all count.
        clip: what the model saw of the video, RGB.
        indices: of these frames in the file.
        times: of these frames, seconds; NaN for a folder of pictures.
        paths: one map each, spatial first.
        damage: what of the video could not be decoded, in a sentence, where the rest is taken.
    """

    video: str
    classes: tuple[str, ...]
    scores: Float32[np.ndarray, " k"]
    label: str
    kind: str
    block: int | None
    clip: UInt8[np.ndarray, "t s s 3"]
    indices: Int64[np.ndarray, " t"]
    times: Float64[np.ndarray, " t"]
    paths: tuple[PathMap, ...]
    damage: str | None = None

    def path(self, name: str) -> PathMap | None:
        """The map of that path; None if the model lacks it."""
        return next((path for path in self.paths if path.path == name), None)

    @property
    def guess(self) -> str:
        """The most likely class."""
        return self.classes[int(self.scores.argmax())]

    @property
    def score(self) -> float:
        """Of the class that is explained."""
        return float(self.scores[self.classes.index(self.label)])
