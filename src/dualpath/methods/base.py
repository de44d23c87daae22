"""What all methods share: which frames are looked at, and the models that look at each frame and take a mean of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from dualpath.errors import DualPathError, check_count, check_type, number_of
from dualpath.nn.adapters import OrderedClassifier
from dualpath.nn.backbone import Backbone
from dualpath.settings import MOST_FRAMES, check_fields

UNREAD = ("head.", "head_dist.")
"""Names of weights that a FrameModel never reads: CLIP's projection, ImageNet's classifiers."""


def spread(num_frames: int, count: int, *, first: bool = False) -> list[int]:
    """The middle frame of each of `count` equal parts of a clip, or the first as in the authors' code; counted from 0.

    The earlier a frame, the more its place alone gives away what comes next (one frame from the start tells a
    movement's direction): the middle keeps time out of the spatial path.
    """
    return [(2 * i + (not first)) * num_frames // (2 * count) for i in range(count)]


def draw(places: Sequence[int], count: int) -> list[int]:
    """One of each of `count` equal parts of a list, by torch's generator for CPUs; all where there are no more than that."""
    if count >= len(places):
        return list(places)
    return [places[int(torch.randint(low, high, ()))] for low, high in parts(len(places), count)]


def parts(length: int, count: int) -> list[tuple[int, int]]:
    """Where each of `count` equal parts begins and where it ends."""
    return list(pairwise(number * length // count for number in range(count + 1)))


def segment_means(features: Float[Tensor, "b s f"], count: int) -> Float[Tensor, "b i"]:
    """The mean over the frames of each of `count` equal parts, side by side in order of time: i = count f."""
    means = [features[:, low:high].mean(dim=1) for low, high in parts(features.shape[1], count)]
    return torch.cat(means, dim=-1)


def take(frames: Shaped[Tensor, "b t c h w"], places: Sequence[int]) -> Shaped[Tensor, "b s c h w"]:
    """Some frames of each clip. One by one: for a list of places a GPU would have to wait until it has been copied to it."""
    return torch.stack([frames[:, place] for place in places], dim=1)


def last_layer(model: Any) -> nn.Linear:
    """The linear layer of a model whose outputs are the logits."""
    return model.head if isinstance(model.head, nn.Linear) else model.head.out


def check_clips(frames: Any, model: Any) -> None:
    """Raises DualPathError unless these are clips as a model takes them: uint8 (B, T, 3, S, S), on its device."""
    backbone: Backbone = model.backbone
    wanted = f"a model takes uint8 clips (B, T, 3, {backbone.size}, {backbone.size}), RGB, 0 to 255 as decoded"
    if not isinstance(frames, Tensor):
        raise DualPathError(
            f"a {type(frames).__name__} given, but {wanted}: give a tensor, or a video to dualpath.load(..).predict"
        )
    shape = tuple(frames.shape)
    if len(shape) != 5:
        todo = ": give one clip as clip[None]" if len(shape) == 4 else ""
        raise DualPathError(f"a tensor of shape {shape} given, but {wanted}{todo}")
    if frames.dtype != torch.uint8:
        todo = "multiply values of 0 to 1 by 255 and convert them" if frames.is_floating_point() else "convert them"
        raise DualPathError(f"clips of type {str(frames.dtype).removeprefix('torch.')} given, but {wanted}: {todo}")
    if shape[2] != 3:
        swap = "frames.transpose(1, 2)" if shape[1] == 3 else "frames.permute(0, 1, 4, 2, 3)" if shape[4] == 3 else ""
        todo = f": {swap} makes them" if swap else ""
        raise DualPathError(f"clips of shape {shape} given, but {wanted}{todo}")
    if not torch.compiler.is_compiling() and shape[0] == 0:
        raise DualPathError(f"clips of shape {shape} given, which are none; {wanted}")
    model.check_clip(shape[1])
    check_size(frames, backbone)
    if frames.device != backbone.device:
        raise DualPathError(
            f"the clips are on {frames.device}, but the model is on {backbone.device}; bring them there: clips.to(...)"
        )


def check_parts(backbone: Any, num_classes: Any, config: Any, kind: type[MethodConfig]) -> None:
    """Raises DualPathError unless a model can be made of these."""
    check_type("backbone", backbone, Backbone, "a backbone, as dualpath.load_backbone(BackboneConfig(NAME)) gives it")
    check_count("num_classes", num_classes)
    check_type("config", config, (kind, type(None)), f"a {kind.__name__}, or None for its defaults")


def check_size(frames: Tensor, backbone: Backbone) -> None:
    """Raises DualPathError unless the pictures have the backbone's size."""
    if frames.shape[-2:] != (backbone.size, backbone.size):
        raise DualPathError(
            f"frames of {frames.shape[-2]}x{frames.shape[-1]} pixels; {backbone.name} takes "
            f"{backbone.size}x{backbone.size}: resize or crop them first"
        )


def patches_are_read(backbone: Backbone) -> bool:
    """Whether the read-out takes in patch tokens; else nothing that only they carry behind the last attention is seen."""
    *_, last = backbone.layers()
    tokens = torch.empty(1, last.prefix + last.grid[0] * last.grid[1], 1)
    return last.keep_read(tokens).shape[1] > last.prefix


@dataclass(frozen=True)
class MethodConfig(ABC):
    """The choices of a method: a frozen dataclass that checks itself; the command line makes flags of its fields."""

    def __post_init__(self) -> None:
        check_fields(self)

    @abstractmethod
    def check_clip(self, num_frames: int) -> None:
        """Raises DualPathError if clips of this many frames do not suit."""

    @abstractmethod
    def num_pictures(self, num_frames: int) -> int:
        """How many pictures of a clip of this many frames go through the backbone together."""


@dataclass(frozen=True)
class FrameConfig(MethodConfig):
    """The choices of a method that looks at all frames of a clip; those of a method come as fields of a subclass."""

    def check_clip(self, num_frames: int) -> None:
        """Raises DualPathError if clips of this many frames do not suit."""
        if num_frames < 1:
            raise DualPathError(f"a clip has {num_frames} frames, but this method needs at least 1; raise num_frames")

    def num_pictures(self, num_frames: int) -> int:
        """All its frames."""
        return num_frames


@dataclass(frozen=True)
class FrameModelConfig(FrameConfig):
    """The choices of a FrameModel.

    Attributes:
        num_segments: in how many equal parts of the clip the frames' features are averaged, whose means the classifier then
            reads side by side, in order (not in the papers). 1 is the papers' mean over all frames; by default 1, and 4 in a
            training that begins with a baseline, from whose weights such a classifier starts.
    """

    num_segments: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_fields(self, num_segments=MOST_FRAMES)
        if self.num_segments is not None and self.num_segments < 1:
            raise DualPathError(f"num_segments {self.num_segments} must be at least 1: the parts that a clip is read in")

    @property
    def segments(self) -> int:
        """How many means of frames the classifier reads."""
        return self.num_segments or 1

    def check_clip(self, num_frames: int) -> None:
        """Raises DualPathError if clips of this many frames do not suit."""
        super().check_clip(num_frames)
        if num_frames < self.segments:
            raise DualPathError(
                f"a clip has {number_of(num_frames, 'frame')}, which cannot be read in {self.segments} parts; "
                "lower num_segments or raise num_frames"
            )


class FrameModel(nn.Module):
    """A method that looks at every frame of a clip and classifies the mean of their features with one linear layer.

    A method says in `encode` what it adds to the frozen backbone. It reads features before CLIP's projection, as the
    papers of these methods do; behind it with several segments, whose classifier starts from one of frozen features.
    """

    def __init__(self, backbone: Backbone, *, num_classes: int, config: FrameModelConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        if config.segments > 1:
            self.head = OrderedClassifier(config.segments * backbone.features, backbone.features, num_classes)
        else:
            self.head = nn.Linear(backbone.pooled, num_classes)

    def check_clip(self, num_frames: int) -> None:
        """Raises DualPathError if clips of this many frames do not suit."""
        self.config.check_clip(num_frames)

    def forward(self, frames: UInt8[Tensor, "b t c h w"]) -> Float[Tensor, "b k"]:
        """Clips, as decoded (RGB, 0..255, square, of the backbone's size), to logits.

        Raises:
            DualPathError: the number of frames or their size does not suit.
        """
        check_clips(frames, self)
        backbone = self.backbone
        with backbone.computing():
            tokens = self.encode(backbone.normalise(frames.flatten(0, 1)), frames.shape[1])
            features = self.read(tokens)
        return self.classify(features.unflatten(0, frames.shape[:2]))

    @abstractmethod
    def encode(self, pictures: Float[Tensor, "n c h w"], num_frames: int) -> Float[Tensor, "n m d"]:
        """Normalised frames, those of a clip in order, to the tokens behind the last layer."""

    def read(self, tokens: Float[Tensor, "n m d"]) -> Float[Tensor, "n f"]:
        """Tokens behind the last layer to features of each frame."""
        return self.backbone.read(tokens, project=self.config.segments > 1)

    def classify(self, features: Float[Tensor, "b t f"]) -> Float[Tensor, "b k"]:
        """Features of each frame to logits; the mean is taken in the type of the classifier."""
        means = segment_means(features.to(last_layer(self).weight.dtype), self.config.segments)
        return self.head(F.dropout(means, self.head_dropout, self.training))

    @property
    def head_dropout(self) -> float:
        """Share of the features that is dropped before the classifier in training."""
        return 0.0
