"""What time is worth to a model: its accuracy with frames in order and otherwise, and with each path silenced.

    views --in order, reversed, shuffled, one frame repeated--> model --> a row of scores each
    features of the paths, frames in order --one path's replaced by its mean--> head --> a row each

Every video is decoded once; all rows are made of the same pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from dualpath.data.clips import shuffled_orders
from dualpath.data.loader import ViewBatch
from dualpath.data.manifest import Video
from dualpath.engine.evaluate import ORDERS_SEED, Evaluation, no_scores, visit
from dualpath.engine.paired import Interval, paired_bootstrap
from dualpath.engine.pieces import in_pieces
from dualpath.engine.predict import VideoClassifier, over_views
from dualpath.engine.verdicts import IN_ORDER, ONE_FRAME, REVERSED, SHUFFLED, ClassWorth, judge
from dualpath.methods.base import spread
from dualpath.methods.dualpath import DualPath
from dualpath.video.protocols import ViewsConfig, describe_protocol

ROWS = {
    IN_ORDER: "frames in order",
    REVERSED: "reversed",
    SHUFFLED: "shuffled",
    ONE_FRAME: "one frame repeated",
    "no_spatial": "spatial path silenced",
    "no_temporal": "temporal path silenced",
}
"""What a row is, in words."""
ORDERS = (IN_ORDER, REVERSED, SHUFFLED, ONE_FRAME)
SILENCED = {"no_spatial": "spatial", "no_temporal": "temporal"}
"""The path that a row goes without."""


@dataclass(frozen=True)
class Worth:
    """The same videos, judged in several ways.

    Attributes:
        rows: by key of ROWS, in its order; those of SILENCED only where `no_paths` is None.
        no_paths: why no path could be silenced, in a sentence.
    """

    rows: dict[str, Evaluation]
    no_paths: str | None = None

    @property
    def in_order(self) -> Evaluation:
        """The plain evaluation."""
        return self.rows[IN_ORDER]

    def with_data(self, data: dict[str, Any]) -> Worth:
        """The same with the counts of the data set, see `Evaluation.data`."""
        return replace(self, rows={row: replace(found, data=data) for row, found in self.rows.items()})

    def right(self, row: str) -> np.ndarray:
        """Whether each video was recognised: bool (videos,)."""
        return self.rows[row].predictions == self.rows[row].labels

    @cached_property
    def losses(self) -> dict[str, Interval]:
        """Accuracy in order less that of every other row."""
        return {row: paired_bootstrap(self.right(IN_ORDER), self.right(row)) for row in self.rows if row != IN_ORDER}

    @cached_property
    def by_class(self) -> list[ClassWorth]:
        """Every class with its counts and its verdict."""
        predictions = {row: found.predictions for row, found in self.rows.items()}
        return judge(self.in_order.labels, predictions, len(self.in_order.classes))


def measure_worth(
    classifier: VideoClassifier,
    videos: Sequence[Video],
    *,
    views: ViewsConfig | None = None,
    batch_size: int = 8,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    bad: dict[int, str] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Worth:
    """Scores every video in every row; one that cannot be decoded is wrong in each.

    The rows in order and shuffled are what `evaluate` gives without and with `shuffle_frames`. What the paths make of all
    views is kept in memory until the last is seen: 6 kB a view with features of 768 numbers in fp32.

    Args:
        classifier: model with its classes and sampling.
        videos: what to score, labelled with the classifier's labels.
        views: clips x crops a video; one of each by default.
        batch_size: videos that are scored together.
        workers: decoding processes.
        progress: is told (videos done, videos in all).
        bad: see `evaluate`.
        stopped: see `evaluate`.

    Raises:
        WorkersLost: workers were ended from outside, again and again.
    """
    views = views or ViewsConfig()
    quarantined, no_paths = len(bad or {}), why_no_paths(classifier.model)
    scores = {row: no_scores(classifier, videos) for row in ROWS if row in ORDERS or not no_paths}
    kept: list[tuple[np.ndarray, dict[str, Tensor]]] = []

    damaged: dict[int, str] = {}

    def score(batch: ViewBatch) -> None:
        damaged.update(batch.damaged)
        places = batch.indices.numpy()
        for row in ORDERS:
            frames = reorder(batch.frames, batch.indices.tolist(), order=row, num_clips=views.num_clips)
            if row == IN_ORDER and not no_paths:
                features = encode_views(classifier, frames)
                kept.append((places, features))
                scores[row][places] = score_features(classifier, features).numpy()
            else:
                scores[row][places] = classifier.score_views(frames).numpy()

    failures = visit(
        classifier, videos, score, views=views, batch_size=batch_size, workers=workers, progress=progress, bad=bad,
        stopped=stopped,
    )  # fmt: skip
    if kept:
        for row, path in SILENCED.items():
            mean = mean_features([features[path] for _, features in kept])
            for places, features in kept:
                silent = features | {path: mean.expand_as(features[path])}
                scores[row][places] = score_features(classifier, silent).numpy()
    protocol = describe_protocol(classifier.spec.sampling, views)
    rows = {
        row: Evaluation(
            classifier.classes,
            tuple(videos),
            found,
            failures,
            protocol if row == IN_ORDER else f"{protocol}, {'frames shuffled' if row == SHUFFLED else ROWS[row]}",
            quarantined=quarantined,
            damaged=damaged,
        )
        for row, found in scores.items()
    }
    return Worth(rows, no_paths)


def why_no_paths(model: nn.Module) -> str | None:
    """Why there are not two paths of which one could be silenced, in a sentence; None if there are."""
    if not isinstance(model, DualPath):
        return f"{type(model).__name__} has no paths, so none was silenced; DualPath has two."
    if model.config.paths != "both":
        return f"This DualPath has the {model.config.paths} path alone, so none was silenced."
    return None


def reorder(
    frames: UInt8[Tensor, "b v t c h w"], indices: Sequence[int], *, order: str, num_clips: int
) -> UInt8[Tensor, "b v t c h w"]:
    """The views of videos with the frames of each view in another order.

    Args:
        frames: views, clip by clip, the crops of a clip together.
        indices: of the videos in their data set, which choose how they are shuffled.
        order: one of ORDERS. "one_frame" has the clip's middle frame at every place, the later of two.
        num_clips: of the v views, how many clips they were cut from: crops of a clip are shuffled alike.
    """
    count = frames.shape[2]
    if order == IN_ORDER:
        return frames
    if order == REVERSED:
        return frames.flip(2)
    if order == ONE_FRAME:
        (middle,) = spread(count, 1)
        return frames[:, :, middle : middle + 1].expand_as(frames)
    found = torch.empty_like(frames)
    for place, index in enumerate(indices):
        orders = torch.from_numpy(shuffled_orders(ORDERS_SEED, index, (num_clips, count)))
        for view, shuffled in enumerate(orders.repeat_interleave(frames.shape[1] // num_clips, dim=0)):
            found[place, view] = frames[place, view, shuffled]
    return found


@torch.inference_mode()
def encode_views(classifier: VideoClassifier, views: UInt8[Tensor, "b v t c h w"]) -> dict[str, Float[Tensor, "b v f"]]:
    """What each path of a DualPath makes of views, on the CPU."""
    assert isinstance(classifier.model, DualPath)
    clips = in_pieces(views.flatten(0, 1), classifier.model, classifier.device, together=views.shape[1])
    features = [classifier.model.encode(piece.to(classifier.device)) for piece in clips]
    return {path: torch.cat([one[path] for one in features]).unflatten(0, views.shape[:2]).cpu() for path in features[0]}


@torch.inference_mode()
def score_features(classifier: VideoClassifier, features: dict[str, Float[Tensor, "b v f"]]) -> Float[Tensor, "b k"]:
    """What the paths have made of views to the videos' scores, on the CPU."""
    assert isinstance(classifier.model, DualPath)
    flat = {path: found.flatten(0, 1).to(classifier.device) for path, found in features.items()}
    return over_views(classifier.model.classify(flat), next(iter(features.values())).shape[1])


def mean_features(features: Sequence[Float[Tensor, "_ v f"]]) -> Float[Tensor, " f"]:
    """Mean over all views of all videos: it says nothing of any, but is what the head is used to."""
    total = sum(batch.double().sum(dim=(0, 1)) for batch in features)
    assert isinstance(total, Tensor)
    return (total / sum(batch.shape[0] * batch.shape[1] for batch in features)).to(features[0].dtype)
