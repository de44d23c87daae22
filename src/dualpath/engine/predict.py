"""A trained model as a classifier of video files.

file --decode--> frames --sample--> views --model--> logits --softmax, mean over views--> one score a class
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor, nn

from dualpath.engine.checkpoint import ModelSpec, load_checkpoint
from dualpath.engine.device import Precision, frozen_dtype, pick_device
from dualpath.engine.pieces import in_pieces
from dualpath.errors import DualPathError
from dualpath.methods import VideoModel, settle, store_in_int8
from dualpath.nn.backbone import Backbone
from dualpath.video.decode import probe, read_frames
from dualpath.video.protocols import ViewsConfig
from dualpath.video.sampling import SamplingConfig, test_indices
from dualpath.video.transforms import test_transform


class _Process:
    """What is known of this process: a fork copies a model, but not the threads that it computes with.

    Attributes:
        loaded: a model was loaded here, with torch's threads.
        forked: from a process in which that was so: torch would wait for ever for threads that are not there.
    """

    loaded = forked = False

    @classmethod
    def after_fork(cls) -> None:
        cls.forked = cls.forked or cls.loaded

    @classmethod
    def check(cls) -> None:
        """Raises DualPathError in a forked process, unless it computes with one thread."""
        if cls.forked and torch.get_num_threads() > 1:
            raise DualPathError(
                "this process was forked after a model had been loaded, and torch's threads do not survive that; start "
                'processes (of a DataLoader too) with multiprocessing_context="spawn" and load the model there, or call '
                "torch.set_num_threads(1) in them first"
            )


os.register_at_fork(after_in_child=_Process.after_fork)

if TYPE_CHECKING:
    from dualpath.engine.explanation import Explanation


@dataclass(frozen=True)
class SeenClip:
    """One clip of a video, as the model sees it.

    Attributes:
        frames: one clip for each crop.
        indices: of the frames in the file, as the transform of a clip keeps their order.
        times: seconds; NaN where the file tells none.
    """

    frames: UInt8[Tensor, "v t c h w"]
    indices: Int64[np.ndarray, " t"]
    times: Float64[np.ndarray, " t"]


class VideoClassifier:
    """What `dualpath.load` returns.

    Attributes:
        model: the video model, in evaluation mode, on its device.
        classes: class names; the index is the label.
        spec: how the model was built and trained.
    """

    def __init__(self, model: nn.Module, spec: ModelSpec, *, device: torch.device) -> None:
        self.model = model.to(device).eval()
        self._video_model: VideoModel = self.model  # pyright: ignore[reportAttributeAccessIssue]
        self._video_model.backbone.fuse_attention(True)  # a training may have turned it off: scores must not depend on it
        self.spec = spec
        self.device = device
        self.classes = spec.classes
        self._told_short = False

    @property
    def size(self) -> int:
        """Side of the pictures the model takes, in pixels."""
        return self._video_model.backbone.size

    @property
    def backbone(self) -> Backbone:
        """What other models on the same frozen weights can share, see `load`."""
        return self._video_model.backbone

    def predict(
        self, path: str | Path, *, top_k: int = 5, num_clips: int = 1, num_crops: int = 1
    ) -> list[dict[str, str | float]]:
        """The most likely classes of one video file, best first.

        Returns:
            At most `top_k` entries {"label": class name, "score": probability}; all classes' scores sum to 1.

        Raises:
            VideoError: the file cannot be read.
            DualPathError: top_k or the views are not positive.
        """
        if top_k < 1:
            raise DualPathError(f"top_k {top_k} must be at least 1")
        return self.best(self.score_file(path, ViewsConfig(num_clips, num_crops)), top_k=top_k)

    def best(self, scores: Float[Tensor, " k"], *, top_k: int) -> list[dict[str, str | float]]:
        """The entries of `predict` for one video's scores."""
        found = scores.topk(min(top_k, len(self.classes)))
        return [
            {"label": self.classes[label], "score": score}
            for score, label in zip(found.values.tolist(), found.indices.tolist(), strict=True)
        ]

    def score_file(self, path: str | Path, views: ViewsConfig) -> Float[Tensor, " k"]:
        """Each class's score for one video file."""
        return self.score_views(self.read_views(path, views)[None])[0]

    def read_views(self, path: str | Path, views: ViewsConfig) -> UInt8[Tensor, "v t c h w"]:
        """The views of one video file on which it is judged.

        Raises:
            VideoError: the file cannot be read.
        """
        return torch.cat([clip.frames for clip in self.read_clips(path, views)])

    def read_clips(self, path: str | Path, views: ViewsConfig) -> list[SeenClip]:
        """The same clip by clip, with the place of each frame in the file."""
        _Process.check()
        info = probe(path)
        wanted = self.spec.sampling.num_frames
        if info.num_frames < wanted and not self._told_short:
            self._told_short = True
            print(f"{path} has {info.num_frames} frames, fewer than {wanted}: its last one is repeated", file=sys.stderr)
        clips = []
        for indices in test_indices(info.num_frames, self.spec.sampling, num_clips=views.num_clips):
            clip = read_frames(path, indices.tolist(), short_side=self.size, decoder=views.decoder)
            crops = test_transform(clip.frames, size=self.size, num_crops=views.num_crops)
            clips.append(SeenClip(crops, indices, clip.times))
        return clips

    def explain(
        self, path: str | Path, *, label: str | None = None, kind: str = "relevance", block: int | None = None
    ) -> Explanation:
        """Where the prediction for one video file comes from: maps of each path, see `dualpath.engine.explain.explain`."""
        from dualpath.engine.explain import explain

        return explain(self, path, label=label, kind=kind, block=block)

    @torch.inference_mode()
    def score_views(self, views: UInt8[Tensor, "b v t c h w"]) -> Float[Tensor, "b k"]:
        """Views of videos to scores: softmax of each view, mean over a video's views, on the CPU."""
        _Process.check()
        clips = in_pieces(views.flatten(0, 1), self.model, self.device, together=views.shape[1])
        scores = over_views(torch.cat([self._video_model(piece.to(self.device)) for piece in clips]), views.shape[1])
        if not scores.isfinite().all():
            raise DualPathError(
                "the model's scores are no numbers (NaN): its training has diverged, or its numbers are too large for "
                f"{self.backbone.dtype}; try --precision fp32, or train again with a lower learning rate"
            )
        return scores


def over_views(logits: Float[Tensor, "n k"], num_views: int) -> Float[Tensor, "b k"]:
    """Logits of views, those of a video together, to scores of videos: softmax of each, mean over a video's, on the CPU."""
    return logits.float().softmax(dim=-1).unflatten(0, (-1, num_views)).mean(dim=1).cpu()


def load(
    path: str | Path,
    *,
    weights: str | None = None,
    precision: Precision = "auto",
    protocol: str | None = None,
    backbone: VideoClassifier | Backbone | None = None,
) -> VideoClassifier:
    """Loads a checkpoint (or the best one of a run's folder) for use, onto the best device at hand.

    Args:
        path: folder that `dualpath train` wrote.
        weights: local file with the backbone's weights, if it has moved since the training.
        precision: "auto" keeps the frozen weights in bf16 where the chip is faster with it, else in fp32; "int8" those of
            blocks and adapters in int8: several times as fast on processors with VNNI, and only nearly the same scores.
        protocol: how clips are taken from videos, by name, such as "segment-8"; by default as in the training.
        backbone: a model in memory, or its backbone, whose frozen weights this one shares: they take memory once. Its device
            and, with precision "auto", its precision are this one's too.

    Raises:
        DualPathError: missing or damaged checkpoint, another backbone or one that cannot be shared, a protocol whose clips
            do not suit the method.
    """
    _Process.check()
    _Process.loaded = True
    shared = backbone.backbone if isinstance(backbone, VideoClassifier) else backbone
    if shared is not None and weights is not None:
        raise DualPathError(f"weights {weights} and a backbone are given; the backbone has its weights: leave one of them out")
    device = pick_device() if shared is None else next(shared.parameters()).device
    dtype = None if shared is not None and precision == "auto" else frozen_dtype(precision, device)
    if shared is not None and precision != "auto" and shared.in_int8 != (precision == "int8"):
        raise DualPathError(
            f"{path} cannot share a backbone: the given one is {'' if shared.in_int8 else 'not '}in int8, but precision "
            f"{precision} is asked for; load it without backbone=, with one of its own"
        )
    sampling = None if protocol is None else SamplingConfig.from_name(protocol)
    model, spec = load_checkpoint(path, weights=weights, dtype=dtype, backbone=shared)
    if sampling is not None:
        spec.options.check_clip(sampling.num_frames)
        spec = replace(spec, sampling=sampling)
    if precision == "int8" or (shared is not None and shared.in_int8):
        store_in_int8(model.to(device))
    else:
        settle(model)
    return VideoClassifier(model, spec, device=device)
