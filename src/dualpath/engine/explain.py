"""From a clip to maps of where its prediction comes from: one pass forwards, one backwards, on the model as it is.

    kind        what a map tells                                   backbones
    relevance   what speaks for one class: gradient x attention    all; Swin and its like: gradient x token (Grad-CAM)
    rollout     where what is read came from, through all blocks   plain vision transformers
    attention   what one block's [CLS] attends to                  plain vision transformers

Where a backbone has no [CLS], the mean over all patches stands in its place, or the attention that its read-out is.
The mathematics is in nn/relevance.py; nn/watch.py gets the weights out of the model's own attention.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from dualpath.engine.explanation import KINDS, Explanation, PathMap
from dualpath.engine.predict import VideoClassifier
from dualpath.errors import DualPathError, nearest
from dualpath.methods.dualpath import DualPath
from dualpath.nn.backbone import Backbone
from dualpath.nn.framesets import share_out
from dualpath.nn.relevance import from_block, from_tokens, relevance, roll_out, speaks_for
from dualpath.nn.watch import read_tokens, watched
from dualpath.video.protocols import ViewsConfig


def explain(
    classifier: VideoClassifier,
    path: str | Path,
    *,
    label: str | None = None,
    kind: str = "relevance",
    block: int | None = None,
    views: ViewsConfig | None = None,
) -> Explanation:
    """Maps of one video file, from the view on which `predict` judges it.

    Args:
        classifier: a trained DualPath.
        path: the file.
        label: class to explain, for "relevance" alone; by default the most likely one.
        kind: one of KINDS.
        block: whose attention, counted from 0; by default the last one, or that of the read-out where it is one.
        views: how the file is read; one clip and one crop.

    Raises:
        VideoError: the file cannot be read.
        DualPathError: a method without paths, an unknown class or kind, a block that does not exist or has no say.
    """
    model = check_kind(classifier, kind=kind, block=block)
    if label is not None and kind != "relevance":
        raise DualPathError(f"class {label!r} has no effect on kind {kind}, which is the same for all; take --kind relevance")
    if label is not None and label not in classifier.classes:
        listed = ", ".join(classifier.classes[:10]) + (" ..." if len(classifier.classes) > 10 else "")
        raise DualPathError(
            f"the model has no class {label!r}{nearest(label, classifier.classes)}; its {len(classifier.classes)} classes are "
            f"{listed}"
        )
    (clip,) = classifier.read_clips(path, views or ViewsConfig())
    number = None if label is None else classifier.classes.index(label)
    logits, number, paths = explain_clip(model, clip.frames.to(classifier.device), label=number, kind=kind, block=block)
    return Explanation(
        video=str(path),
        classes=classifier.classes,
        scores=logits.softmax(dim=-1).cpu().numpy(),
        label=classifier.classes[number],
        kind=kind,
        block=block,
        clip=clip.frames[0].permute(0, 2, 3, 1).numpy(),
        indices=np.asarray(clip.indices, dtype=np.int64),
        times=clip.times,
        paths=paths,
        damage=clip.damage,
    )


def check_kind(classifier: VideoClassifier, *, kind: str, block: int | None) -> DualPath:
    """The model, if it has paths of which maps of this kind can be made; else a DualPathError."""
    model = classifier.model
    if not isinstance(model, DualPath):
        raise DualPathError(
            f"the checkpoint's method {classifier.spec.method} has no paths to look at; explain knows dualpath alone, but "
            "`dualpath worth` (what the order of frames is worth to it) and `dualpath report` tell about every method"
        )
    backbone = model.backbone
    if kind not in KINDS:
        raise DualPathError(f"unknown kind {kind!r}{nearest(kind, KINDS)}; there are {', '.join(KINDS)}")
    if kind != "relevance" and not backbone.attends_wholly:
        raise DualPathError(
            f"kind {kind} follows attention over whole pictures, but {backbone.name} attends within windows; take --kind "
            "relevance"
        )
    if block is not None and kind != "attention":
        raise DualPathError(f"block {block} has no effect on kind {kind}, which takes all blocks; take --kind attention")
    if block is not None and not 0 <= block < backbone.depth:
        raise DualPathError(f"block {block} does not exist; {backbone.name} has the blocks 0 to {backbone.depth - 1}")
    return model


def explain_clip(
    model: DualPath,
    frames: UInt8[Tensor, "1 t c h w"],
    *,
    label: int | None = None,
    kind: str = "relevance",
    block: int | None = None,
) -> tuple[Float[Tensor, " k"], int, tuple[PathMap, ...]]:
    """Logits, the class explained and the maps of one clip, as decoded, for a model in evaluation mode."""
    logits, label, patches = explain_patches(model, frames, label=label, kind=kind, block=block)
    return logits, label, tuple(_path_map(model, name, found, frames.shape[1]) for name, found in patches.items())


def explain_patches(
    model: DualPath,
    frames: UInt8[Tensor, "1 t c h w"],
    *,
    label: int | None = None,
    kind: str = "relevance",
    block: int | None = None,
) -> tuple[Float[Tensor, " k"], int, dict[str, Float[Tensor, "n p q"]]]:
    """The same by the patches of the pictures that each path looks at, frames or framesets; those of a path are 1 in all."""
    backbone = model.backbone
    watch = watched if backbone.attends_wholly else read_tokens
    with torch.inference_mode(False), torch.enable_grad(), watch(backbone) as seen:
        features = model.encode(frames)
        logits = model.classify(features)[0]
        label = int(logits.argmax()) if label is None else label
        slopes = list(torch.autograd.grad(logits[label], seen)) if kind == "relevance" else []
    each = len(seen) // len(features)
    patches = {}
    for number, name in enumerate(features):
        mine = slice(number * each, (number + 1) * each)
        size = (backbone.size, backbone.size) if name == "spatial" else model.frameset_size
        tokens = _tokens(backbone, [one.detach() for one in seen[mine]], slopes[mine], block=block, kind=kind)
        patches[name] = _on_patches(backbone, tokens, size)
    return logits.detach().float(), label, patches


def _tokens(
    backbone: Backbone, seen: list[Tensor], slopes: list[Tensor], *, kind: str, block: int | None
) -> Float[Tensor, "n l"]:
    """What each token of a path's pictures counts; `slopes` are the gradients by what was seen, for "relevance" alone."""
    if not backbone.attends_wholly:
        return from_tokens(seen[0], slopes[0])
    count = seen[0].shape[-1]
    read = backbone.read_weights(count)
    if read is None:  # the last attention seen is the read-out's
        pool = speaks_for(seen[-1], slopes[-1]) if slopes else seen[-1].float().mean(dim=1)
        pooled = F.pad(pool.mean(dim=1), (count - pool.shape[-1], 0))
        if kind == "attention" and block is None:
            return pooled
        seen, slopes = seen[:-1], slopes[:-1]
        read = torch.full((count,), 1 / count) if kind == "attention" else pooled
    read = read.to(seen[0].device).expand(len(seen[0]), -1)
    match kind:
        case "attention":
            return from_block(seen[-1 if block is None else block], read)
        case "rollout":
            return roll_out(seen, read)
        case _:
            return relevance(seen, slopes, read)


def _on_patches(backbone: Backbone, tokens: Float[Tensor, "n l"], size: tuple[int, int]) -> Float[Tensor, "n p q"]:
    """Without the tokens that show no place, by row and column; all of them 1 together."""
    *_, last = backbone.layers(size)
    patches = tokens[:, last.prefix :].unflatten(1, last.grid)
    return patches / patches.sum().clamp_min(torch.finfo(patches.dtype).tiny)


def _path_map(model: DualPath, name: str, patches: Float[Tensor, "n p q"], num_frames: int) -> PathMap:
    """Maps of pictures to maps of frames."""
    if name == "spatial":
        return PathMap(name, tuple(model.spatial_frames(num_frames)), patches.cpu().numpy())
    shares = share_out(patches, model.config.grid, model.cell)
    rows, columns = (side // count for side, count in zip(model.frameset_size, patches.shape[1:], strict=True))
    return PathMap(name, tuple(range(num_frames)), shares.cpu().numpy(), token=(rows, columns))
