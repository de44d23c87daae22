"""A trained model as a classifier of videos.

file --decode--> frames --sample--> views --model--> logits --softmax, mean over views--> one score a class
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor, nn

from dualpath.data.manifest import Video
from dualpath.engine.checkpoint import ModelSpec, load_checkpoint
from dualpath.engine.pieces import in_pieces
from dualpath.errors import DualPathError, VideoError, blaming, check_count, check_type, number_of
from dualpath.hardware import Precision, find_device
from dualpath.methods import HEAD, VideoModel, settle, store_in_int8
from dualpath.methods.dualpath import DualPath
from dualpath.nn.backbone import Backbone
from dualpath.nn.zoo import frozen_dtype
from dualpath.processes import Forks
from dualpath.terminal import in_line
from dualpath.video.decode import probe, read_frames
from dualpath.video.decoding.places import within
from dualpath.video.in_memory import Frames, as_videos, pick_frames
from dualpath.video.protocols import ViewsConfig
from dualpath.video.sampling import SamplingConfig, test_indices
from dualpath.video.transforms import test_transform

if TYPE_CHECKING:
    from dualpath.engine.explanation import Explanation

Guess = dict[str, str | float]
"""A class and its score: {"label": class name, "score": probability}."""
T = TypeVar("T")
BATCH = 8
"""Videos that go through the model together."""


@dataclass(frozen=True)
class SeenClip:
    """One clip of a video, as the model sees it.

    Attributes:
        frames: one clip for each crop.
        indices: of the frames in the file, as the transform of a clip keeps their order.
        times: seconds; NaN where the file tells none.
        damage: what of the video could not be decoded, in a sentence, where the rest is taken.
    """

    frames: UInt8[Tensor, "v t c h w"]
    indices: Int64[np.ndarray, " t"]
    times: Float64[np.ndarray, " t"]
    damage: str | None = None


class VideoClassifier:
    """What `dualpath.load` returns.

    Attributes:
        model: the video model, in evaluation mode, on its device.
        classes: class names; the index is the label.
        spec: how the model was built and trained.
    """

    def __init__(self, model: nn.Module, spec: ModelSpec, *, device: torch.device) -> None:
        check_type("model", model, nn.Module, "a model of build_model; dualpath.load makes a classifier of a checkpoint")
        check_type("spec", spec, ModelSpec, "the ModelSpec of a checkpoint; dualpath.load makes a classifier of a checkpoint")
        device = find_device(device)
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

    def to(self, device: str | torch.device) -> VideoClassifier:
        """Moves the model, with the backbone that it may share, to a device; gives itself.

        Raises:
            DualPathError: there is no such device here, or the model is in int8, which is for processors.
        """
        self.device = _device_for(self.backbone.in_int8, find_device(device))
        self.model.to(self.device)
        return self

    @overload
    def predict(self, video: str | Path, *, top_k: int = 5, num_clips: int = 1, num_crops: int = 1) -> list[Guess]: ...
    @overload
    def predict(self, video: Any, *, top_k: int = 5, num_clips: int = 1, num_crops: int = 1) -> Any: ...
    def predict(self, video: Any, *, top_k: int = 5, num_clips: int = 1, num_crops: int = 1) -> Any:
        """The most likely classes of a video, best first; for several videos a list of them.

        Frames in memory that are larger than the model's pictures are scaled by torchvision, whose pixels differ slightly
        from FFmpeg's.

        Args:
            video: a path; uint8 frames in RGB as an array or a tensor (T, H, W, 3) or (T, 3, H, W), or one by one in a list or
                an iterator (arrays, pictures of PIL or PyAV); or several videos: a list of paths or arrays.
            top_k: classes, at most.
            num_clips: views of each video over time, whose scores are averaged.
            num_crops: crops of each of them, likewise.

        Returns:
            At most `top_k` entries {"label": class name, "score": probability}; all classes' scores sum to 1. Of several
            videos, one that cannot be read has no entries, and the reason is printed on stderr.

        Raises:
            VideoError: the one file that was given cannot be read.
            DualPathError: what was given is no video, or top_k or the views are not positive.
        """
        check_count("top_k", top_k)
        found = self._answers(video, ViewsConfig(num_clips, num_crops), self.score_views)
        guesses = [[] if scores is None else self.best(scores, top_k=top_k) for scores in found[0]]
        return guesses if found[1] else guesses[0]

    @overload
    def encode(self, video: str | Path, *, num_clips: int = 1, num_crops: int = 1) -> dict[str, Tensor]: ...
    @overload
    def encode(self, video: Any, *, num_clips: int = 1, num_crops: int = 1) -> Any: ...
    def encode(self, video: Any, *, num_clips: int = 1, num_crops: int = 1) -> Any:
        """The features of a video, from which the trained classifier makes its scores; for several videos a list of them.

        Args:
            video: as in `predict`, and so are bad files among several: nothing is in their dictionaries.
            num_clips: views of each video over time, whose features are averaged.
            num_crops: crops of each of them, likewise.

        Returns:
            "features", fp32 (f,), on the CPU; with DualPath also those of each path, "spatial" and "temporal", of which
            "features" consists.
        """
        found, several = self._answers(video, ViewsConfig(num_clips, num_crops), self.encode_views)
        rows = [row or {} for row in found]
        return rows if several else rows[0]

    def _answers(self, video: Any, views: ViewsConfig, compute: Callable[[Tensor], Iterable[T]]) -> tuple[list[T | None], bool]:
        """What is made of each video; and whether several were given, of which some may be unreadable: None."""
        videos, several = as_videos(video, short_side=self.size)
        found: list[T | None] = []
        for row in self.each(videos, views, compute):
            if isinstance(row, VideoError):
                if not several:
                    raise row
                print(row, file=sys.stderr)
            found.append(None if isinstance(row, VideoError) else row)
        return found, several

    def each(
        self,
        videos: Iterable[str | Path | Frames | Video],
        views: ViewsConfig,
        compute: Callable[[UInt8[Tensor, "b v t c h w"]], Iterable[T]],
        *,
        batch_size: int = BATCH,
        damaged: dict[int, str] | None = None,
    ) -> Iterator[T | VideoError]:
        """What is made of each video, in order, `batch_size` in a pass; where one cannot be read, the reason why.

        Args:
            videos: paths, files or segments of them, or frames as `as_videos` gives them.
            views: of each.
            compute: makes a row for each video of the views of some.
            batch_size: how many are computed together.
            damaged: takes, by place, what of a video could not be decoded, where the rest was taken.
        """
        waiting: list[Tensor | VideoError] = []
        readable = 0
        for place, video in enumerate(videos):
            try:
                clips = self.read_clips(video, views)
                waiting.append(torch.cat([clip.frames for clip in clips]))
                if damaged is not None and clips[0].damage is not None:
                    damaged[place] = clips[0].damage
                readable += 1
            except VideoError as problem:
                waiting.append(problem)
            if readable == batch_size:
                yield from _computed(waiting, compute)
                waiting, readable = [], 0
        yield from _computed(waiting, compute)

    def best(self, scores: Float[Tensor, " k"], *, top_k: int) -> list[Guess]:
        """The entries of `predict` for one video's scores."""
        found = scores.topk(min(top_k, len(self.classes)))
        return [
            {"label": self.classes[label], "score": score}
            for score, label in zip(found.values.tolist(), found.indices.tolist(), strict=True)
        ]

    def read_views(self, video: str | Path | Frames, views: ViewsConfig) -> UInt8[Tensor, "v t c h w"]:
        """The views of one video on which it is judged.

        Raises:
            VideoError: the file cannot be read.
        """
        return torch.cat([clip.frames for clip in self.read_clips(video, views)])

    def read_clips(self, video: str | Path | Frames | Video, views: ViewsConfig) -> list[SeenClip]:
        """The same clip by clip, with the place of each frame in the video."""
        Forks.check()
        if isinstance(video, Frames):
            return self._read_clips(video, views)
        path, segment = (video.path, video) if isinstance(video, Video) else (video, None)
        with blaming(path), within(path, views.seconds):
            return self._read_clips(path, views, segment)

    def _read_clips(self, video: str | Path | Frames, views: ViewsConfig, segment: Video | None = None) -> list[SeenClip]:
        start = 0
        if isinstance(video, Frames):
            count, damage = len(video), None
        else:
            info = probe(video, damaged=views.damaged)
            count, damage = info.num_frames, info.damage
            if segment is not None:
                start, count = segment.start, segment.counted(count).num_frames or 0
        wanted = self.spec.sampling.num_frames
        if count < wanted and not self._told_short:
            self._told_short = True
            name = "a video" if isinstance(video, Frames) else in_line(str(video))
            print(f"{name} has {number_of(count, 'frame')}, fewer than {wanted}: its last one is repeated", file=sys.stderr)
        indices = start + test_indices(count, self.spec.sampling, num_clips=views.num_clips)
        every = indices.ravel()
        if isinstance(video, Frames):
            frames, times = pick_frames(video, every), np.full(len(every), np.nan)
        else:  # all clips in one pass through the file
            clip = read_frames(video, every.tolist(), short_side=self.size, decoder=views.decoder, damaged=views.damaged)
            frames, times = clip.frames, clip.times
        crops = [test_transform(clip, size=self.size, num_crops=views.num_crops) for clip in frames.unflatten(0, indices.shape)]
        return [SeenClip(*clip, damage) for clip in zip(crops, indices, times.reshape(indices.shape), strict=True)]

    def explain(
        self, path: str | Path, *, label: str | None = None, kind: str = "relevance", block: int | None = None
    ) -> Explanation:
        """Where the prediction for one video file comes from: maps of each path, see `dualpath.engine.explain.explain`."""
        from dualpath.engine.explain import explain

        check_type("path", path, (str, PathLike), "the path of a video")
        check_type("label", label, (str, type(None)), "the name of a class, or None for the most likely one")
        check_type("kind", kind, str, "a name such as relevance")
        check_type("block", block, (int, type(None)), "a whole number, or None")
        return explain(self, path, label=label, kind=kind, block=block)

    @torch.inference_mode()
    def score_views(self, views: UInt8[Tensor, "b v t c h w"]) -> Float[Tensor, "b k"]:
        """Views of videos to scores: softmax of each view, mean over a video's views, on the CPU."""
        return over_views(self._logits(views), views.shape[1])

    @torch.no_grad()  # not in inference mode: what others learn from features needs tensors that autograd takes
    def encode_views(self, views: UInt8[Tensor, "b v t c h w"]) -> list[dict[str, Tensor]]:
        """Views of videos to the features of each, see `encode`."""
        seen: list[Tensor] = []
        watch = self.model.get_submodule(HEAD).register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        try:
            self._logits(views)
        finally:
            watch.remove()
        rows = torch.cat(seen).float().unflatten(0, (-1, views.shape[1])).mean(dim=1).cpu()
        sizes = self.model.path_sizes if isinstance(self.model, DualPath) else {}
        paths = dict(zip(sizes, rows.split(list(sizes.values()), dim=1), strict=True)) if sizes else {}
        found = {"features": rows} | paths
        return [{name: values[i].clone() for name, values in found.items()} for i in range(len(rows))]

    def _logits(self, views: UInt8[Tensor, "b v t c h w"]) -> Float[Tensor, "n k"]:
        Forks.check()
        clips = in_pieces(views.flatten(0, 1), self.model, self.device, together=views.shape[1])
        logits = torch.cat([self._video_model(piece.to(self.device)) for piece in clips])
        if not logits.isfinite().all():
            raise DualPathError(
                "the model's scores are no numbers (NaN): its training has diverged, or its numbers are too large for "
                f"{self.backbone.dtype}; try --precision fp32, or train again with a lower learning rate"
            )
        return logits


def over_views(logits: Float[Tensor, "n k"], num_views: int) -> Float[Tensor, "b k"]:
    """Logits of views, those of a video together, to scores of videos: softmax of each, mean over a video's, on the CPU."""
    return logits.float().softmax(dim=-1).unflatten(0, (-1, num_views)).mean(dim=1).cpu()


def _computed(waiting: list[Tensor | VideoError], compute: Callable[[Tensor], Iterable[T]]) -> Iterator[T | VideoError]:
    """A row for each video that could be read, in its place; all have the same number of views."""
    views = [item for item in waiting if isinstance(item, Tensor)]
    rows = iter(compute(torch.stack(views)) if views else ())
    return (next(rows) if isinstance(item, Tensor) else item for item in waiting)


def _device_for(in_int8: bool, device: torch.device) -> torch.device:
    if in_int8 and device.type != "cpu":
        raise DualPathError(f"int8 is for processors, but the device {device} is asked for; load it with precision bf16")
    return device


def load(
    path: str | Path,
    *,
    weights: str | None = None,
    precision: Precision = "auto",
    protocol: str | None = None,
    backbone: VideoClassifier | Backbone | None = None,
    device: str | torch.device | None = None,
) -> VideoClassifier:
    """Loads a checkpoint (or the best one of a run's folder) for use.

    Args:
        path: folder that `dualpath train` wrote.
        weights: local file with the backbone's weights, if it has moved since the training.
        precision: "auto" keeps the frozen weights in bf16 where the chip is faster with it, else in fp32; "int8" those of
            blocks and adapters in int8: several times as fast on processors with VNNI, and only nearly the same scores.
        protocol: how clips are taken from videos, by name, such as "segment-8"; by default as in the training.
        backbone: a model in memory, or its backbone, whose frozen weights this one shares: they take memory once. Its device
            and, with precision "auto", its precision are this one's too.
        device: where it runs, such as "cpu" or "cuda:1"; by default the best one at hand.

    Raises:
        DualPathError: missing or damaged checkpoint, another backbone or one that cannot be shared, a protocol whose clips
            do not suit the method, a device that is not there.
    """
    check_type("path", path, (str, PathLike), "the folder of a checkpoint or a run, as a path")
    check_type("weights", weights, (str, PathLike, type(None)), "a path or None")
    check_type("precision", precision, str, "one of auto, bf16, fp32, int8")
    what = "a model that dualpath.load gave, a backbone that load_backbone gave, or None"
    check_type("backbone", backbone, (VideoClassifier, Backbone, type(None)), what)
    Forks.check()
    Forks.threads_used = True
    shared = backbone.backbone if isinstance(backbone, VideoClassifier) else backbone
    if shared is not None and weights is not None:
        raise DualPathError(f"weights {weights} and a backbone are given; the backbone has its weights: leave one of them out")
    place = find_device(device) if shared is None or device is not None else next(shared.parameters()).device
    if shared is not None and place != (there := next(shared.parameters()).device):
        raise DualPathError(f"{path} cannot share a backbone on {there} and run on {place}; leave device= out")
    _device_for(precision == "int8", place)
    dtype = None if shared is not None and precision == "auto" else frozen_dtype(precision, place)
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
        store_in_int8(model.to(place))
    else:
        settle(model)
    return VideoClassifier(model, spec, device=place)
