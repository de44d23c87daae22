"""What the verb predict does with files: several a forward pass, and one that cannot be read stops none of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dualpath.engine.device import Precision
from dualpath.engine.predict import load
from dualpath.errors import DualPathError, VideoError
from dualpath.video.protocols import ViewsConfig


@dataclass(frozen=True)
class Answer:
    """The prediction for one file, or the problem with it."""

    video: str
    classes: tuple[dict[str, str | float], ...]
    problem: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values; the key "error" is there only where the file could not be read."""
        told: dict[str, Any] = {"video": self.video, "predictions": list(self.classes)}
        return told | ({"error": self.problem} if self.problem else {})


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
    found = classifier.each(videos, views, classifier.score_views, batch_size=batch_size)
    return [
        Answer(video, (), str(row)) if isinstance(row, VideoError) else Answer(video, tuple(classifier.best(row, top_k=top_k)))
        for video, row in zip(videos, found, strict=True)
    ]
