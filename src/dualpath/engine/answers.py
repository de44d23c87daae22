"""What the verb predict does with files: several a forward pass, and one that cannot be read stops none of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dualpath.engine.device import Precision
from dualpath.engine.predict import VideoClassifier, load
from dualpath.errors import DualPathError, VideoError
from dualpath.video.protocols import ViewsConfig


@dataclass(frozen=True)
class Answer:
    """The prediction for one file, or the problem with it; `damage` is what could not be decoded, where the rest was taken."""

    video: str
    classes: tuple[dict[str, str | float], ...]
    problem: str | None = None
    damage: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values; the keys "error" and "damaged" are there only where there is something to tell."""
        told: dict[str, Any] = {"video": self.video, "predictions": list(self.classes)}
        more = {"error": self.problem, "damaged": self.damage}
        return told | {key: value for key, value in more.items() if value}


def predict_files(
    checkpoint: str,
    videos: Sequence[str],
    *,
    top_k: int,
    views: ViewsConfig,
    protocol: str | None,
    weights: str | None,
    precision: Precision,
    batch_size: int = 8,
) -> list[Answer]:
    """Predicts every file, `batch_size` a forward pass; one that cannot be read is told and does not stop the others."""
    if batch_size < 1:
        raise DualPathError(f"batch_size is {batch_size}, but it must be at least 1")
    if top_k < 1:
        raise DualPathError(f"top_k {top_k} must be at least 1")
    classifier = load(checkpoint, weights=weights, precision=precision, protocol=protocol)
    answers: list[Answer | None] = [None] * len(videos)
    waiting: dict[int, Tensor] = {}
    damage: dict[int, str | None] = {}
    for index, video in enumerate(videos):
        try:
            clips = classifier.read_clips(video, views)
            waiting[index], damage[index] = torch.cat([clip.frames for clip in clips]), clips[0].damage
        except VideoError as problem:
            answers[index] = Answer(video, (), str(problem))
        if len(waiting) == batch_size or (waiting and index == len(videos) - 1):
            for done, found in _predict(classifier, waiting, top_k).items():
                answers[done] = Answer(videos[done], found, damage=damage[done])
            waiting = {}
    return [answer for answer in answers if answer is not None]


def _predict(
    classifier: VideoClassifier, clips: dict[int, Tensor], top_k: int
) -> dict[int, tuple[dict[str, str | float], ...]]:
    """Views of videos to the best classes of each, in one pass; all have the same number of views."""
    scores = classifier.score_views(torch.stack(list(clips.values())))
    return {index: tuple(classifier.best(row, top_k=top_k)) for index, row in zip(clips, scores, strict=True)}
