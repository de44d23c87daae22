"""Accuracy over a data set: every video counts, one that cannot be decoded counts as wrong and is listed."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dualpath.data.clips import TestClips
from dualpath.data.formats.base import Tally
from dualpath.data.loader import ViewBatch
from dualpath.data.manifest import Video
from dualpath.data.steady import steady_test
from dualpath.engine.guards import uneven_evaluation
from dualpath.engine.origin import Origin
from dualpath.engine.predict import VideoClassifier
from dualpath.files import csv_cell, write_whole
from dualpath.video.protocols import ViewsConfig, describe_protocol

ORDERS_SEED = 0
"""Chooses the orders of shuffled frames: the same ones in every evaluation."""


@dataclass(frozen=True)
class Evaluation:
    """Scores of every video, and what follows from them.

    Attributes:
        classes: class names; the index is the label.
        videos: the videos, in order.
        scores: float32 (videos, classes); a row of NaN for a video that could not be decoded.
        failures: reason by index of video, for those that could not be decoded.
        protocol: how the clips were taken and which views averaged: "dense-16x4, 3x1 views".
        data: `Manifest.census()`: how many of the listed videos there were; None if that is not known.
        quarantined: how many of the failures were not even tried, because they were known.
        seconds: how long it took, reading included.
        origin: where the scores come from, and how to have them again; None if that is not known.
        damaged: by index of video, what of it could not be decoded, where the rest was taken.
    """

    classes: tuple[str, ...]
    videos: tuple[Video, ...]
    scores: np.ndarray
    failures: dict[int, str]
    protocol: str
    data: dict[str, Any] | None = None
    quarantined: int = 0
    seconds: float = 0.0
    origin: Origin | None = None
    damaged: dict[int, str] = field(default_factory=dict)

    @property
    def labels(self) -> np.ndarray:
        """True label of each video, int64."""
        return np.array([video.label for video in self.videos], dtype=np.int64)

    @property
    def predictions(self) -> np.ndarray:
        """Most likely label of each video, -1 where it could not be decoded."""
        decoded = ~np.isnan(self.scores[:, 0])
        return np.where(decoded, np.nan_to_num(self.scores).argmax(axis=1), -1)

    def top(self, k: int) -> float:
        """Share of the videos whose true label is among the k best scores; undecodable ones are wrong."""
        best = np.argsort(-np.nan_to_num(self.scores), axis=1, kind="stable")[:, :k]
        hit = (best == self.labels[:, None]).any(axis=1) & (self.predictions >= 0)
        return float(hit.mean())

    def confusion(self) -> np.ndarray:
        """int64 (classes, classes + 1): row true, column predicted; the last column counts undecodable videos."""
        matrix = np.zeros((len(self.classes), len(self.classes) + 1), dtype=np.int64)
        np.add.at(matrix, (self.labels, self.predictions), 1)  # -1 is the last column
        return matrix

    def per_class(self) -> dict[str, float | None]:
        """Accuracy of each class; None where the data holds no video of it."""
        matrix = self.confusion()
        return {name: float(matrix[i, i] / matrix[i].sum()) if matrix[i].sum() else None for i, name in enumerate(self.classes)}

    def mean_class_accuracy(self) -> float:
        """The mean of the accuracies of the classes that there are videos of."""
        return float(np.mean([value for value in self.per_class().values() if value is not None]))

    def out_of_balance(self) -> str | None:
        """A sentence where the accuracy says more of the largest class than of the others."""
        return uneven_evaluation(self.labels.tolist(), self.top(1), self.mean_class_accuracy(), self.classes)

    def summary(self) -> dict[str, Any]:
        """All figures as plain values for JSON."""
        per_class = self.per_class()
        return {
            "videos": len(self.videos),
            "protocol": self.protocol,
            "top1": self.top(1),
            "top5": self.top(5),
            "mean_class_accuracy": self.mean_class_accuracy(),
            "per_class": per_class,
            "classes": list(self.classes),
            "confusion": self.confusion().tolist(),
            "quarantined": self.quarantined,
            "undecodable": {self.videos[i].name: reason for i, reason in self.failures.items()},
            "damaged": {self.videos[i].name: told for i, told in self.damaged.items()},
            "data": self.data,
            "origin": self.origin.as_json() if self.origin else None,
        }

    def listed_words(self) -> str:
        """The data's counts in words; empty where it lists nothing: "kinetics: val 19,881 of 19,907 listed ..."."""
        data = self.data or {}
        parts = [f"{split} {Tally(**tally)}" for split, tally in data.get("listed", {}).items()]
        fold = f" split {data['fold']}" if data.get("fold") else ""
        extra = [f"{data['extra']:,} extra"] if parts and data["extra"] else []
        return f"{data['format']}{fold}: {'; '.join([*parts, *extra])}" if parts else ""

    def predictions_csv(self) -> str:
        """video,label,prediction and one score a class; an undecodable video has empty cells."""
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(["video", "label", "prediction", *map(csv_cell, self.classes)])
        for video, guess, row in zip(self.videos, self.predictions, self.scores, strict=True):
            scores = ["" if np.isnan(value) else f"{value:.6f}" for value in row]
            name = "" if guess < 0 else self.classes[guess]
            writer.writerow([*map(csv_cell, (video.name, self.classes[video.label], name)), *scores])
        return out.getvalue()

    def write(self, folder: Path) -> None:
        """predictions.csv and evaluation.json, each whole or not at all."""
        write_whole(folder / "predictions.csv", self.predictions_csv())
        write_whole(folder / "evaluation.json", json.dumps(self.summary(), indent=2) + "\n")


def evaluate(
    classifier: VideoClassifier,
    videos: Sequence[Video],
    *,
    views: ViewsConfig | None = None,
    batch_size: int = 8,
    workers: int = 1,
    shuffle_frames: bool = False,
    progress: Callable[[int, int], None] | None = None,
    bad: dict[int, str] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """Scores every video once; one that cannot be decoded, or crashes or hangs its worker, is wrong and listed.

    Args:
        classifier: model with its classes and sampling.
        videos: what to score, labelled with the classifier's labels.
        views: clips x crops a video; one of each by default.
        batch_size: videos that are scored together.
        workers: decoding processes.
        shuffle_frames: puts each clip's frames into a random order that depends on the video's place alone: what
            a model loses by it is what it knows of time.
        progress: is told (videos done, videos in all).
        bad: reason by index of videos that are not to be tried; those that crash or hang a worker are put into it.
        stopped: whether the user has asked to stop, so that the end of a worker is no surprise.

    Raises:
        WorkersLost: workers were ended from outside, again and again.
    """
    began = time.monotonic()
    views = views or ViewsConfig()
    quarantined = len(bad or {})
    scores = no_scores(classifier, videos)

    damaged: dict[int, str] = {}

    def score(batch: ViewBatch) -> None:
        damaged.update(batch.damaged)
        scores[batch.indices.numpy()] = classifier.score_views(batch.frames).numpy()

    failures = visit(
        classifier, videos, score, views=views, batch_size=batch_size, workers=workers, shuffle_frames=shuffle_frames,
        progress=progress, bad=bad, stopped=stopped,
    )  # fmt: skip
    protocol = describe_protocol(classifier.spec.sampling, views) + (", frames shuffled" if shuffle_frames else "")
    return Evaluation(
        classifier.classes, tuple(videos), scores, failures, protocol, quarantined=quarantined,
        seconds=time.monotonic() - began, damaged=damaged,
    )  # fmt: skip


def no_scores(classifier: VideoClassifier, videos: Sequence[Video]) -> np.ndarray:
    """The scores of an `Evaluation` before any video was looked at: float32 (videos, classes), NaN."""
    return np.full((len(videos), len(classifier.classes)), np.nan, dtype=np.float32)


def visit(
    classifier: VideoClassifier,
    videos: Sequence[Video],
    use: Callable[[ViewBatch], None],
    *,
    views: ViewsConfig,
    batch_size: int,
    workers: int,
    shuffle_frames: bool = False,
    progress: Callable[[int, int], None] | None = None,
    bad: dict[int, str] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> dict[int, str]:
    """Decodes every video once and hands batches of their views, of at least one video, to `use`.

    The other arguments are those of `evaluate`.

    Returns:
        Reason by index of the videos that could not be decoded.
    """
    dataset = TestClips(
        videos,
        sampling=classifier.spec.sampling,
        size=classifier.size,
        num_clips=views.num_clips,
        num_crops=views.num_crops,
        shuffle_frames=shuffle_frames,
        seed=ORDERS_SEED,
        decoder=views.decoder,
        seconds=views.seconds,
        damaged=views.damaged,
    )
    dataset.lost = {} if bad is None else bad
    failures: dict[int, str] = {}
    done = 0
    for batch in steady_test(dataset, batch_size=batch_size, workers=workers, stopped=stopped):
        if len(batch.indices):
            use(batch)
        failures.update({item.index: str(item.reason) for item in batch.unreadable})
        done += len(batch.indices) + len(batch.unreadable)
        if progress is not None:
            progress(done, len(videos))
    return failures
