"""Evaluations that nobody had to run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dualpath.data.manifest import Video
from dualpath.engine.evaluate import Evaluation
from dualpath.engine.origin import Origin

PROTOCOL = "segment-16, 1x1 views"
NASTY = ('<b>bold</b> & "co"', "it's, a\nnew line", "\u202egnorw\u202c right", "=1+1", "x" * 300)
"""Names of classes and files that break what does not expect them."""


def made(
    labels: Sequence[int],
    rows: Sequence[Sequence[float] | None],
    classes: tuple[str, ...],
    *,
    names: Sequence[str] | None = None,
    protocol: str = PROTOCOL,
    origin: Origin | None = None,
) -> Evaluation:
    """Scores by video; None for one that cannot be decoded."""
    names = names or [f"test/{i}.mp4" for i in range(len(labels))]
    videos = tuple(Video(Path("/data") / name, name, label, "test") for name, label in zip(names, labels, strict=True))
    scores = np.array([[np.nan] * len(classes) if row is None else row for row in rows], dtype=np.float32)
    failures = {i: "is empty (0 bytes)" for i, row in enumerate(rows) if row is None}
    return Evaluation(classes, videos, scores, failures, protocol, origin=origin)


def guessed(labels: Sequence[int], guesses: Sequence[tuple[int, float] | None], classes: tuple[str, ...]) -> Evaluation:
    """The same from (guess, its score), the rest of the score shared by the other classes alike."""
    rows: list[list[float] | None] = []
    for told in guesses:
        if told is None:
            rows.append(None)
            continue
        guess, score = told
        rows.append([score if i == guess else (1 - score) / (len(classes) - 1) for i in range(len(classes))])
    return made(labels, rows, classes)
