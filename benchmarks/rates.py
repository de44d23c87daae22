"""Do the default learning rates learn on tokens of any size? Every method on a backbone whose tokens are scaled on purpose.

    python benchmarks/rates.py my-videos --backbone vit_small_patch14_dinov2.lvd142m --weights FILE --image_size 112
    python benchmarks/rates.py my-videos --backbone vit_base_patch16_224 --random --image_size 64      another width

A fresh model learns the same few clips by heart, for the same number of steps each time, with the default settings. "Stream"
scales what enters the first block and what each block adds, which the norms take out again: the same function of pictures.
"Embedding" scales only what enters. The loss at the end is told as a share of guessing's, ln of the number of classes.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dualpath.data.clips import TestClips
from dualpath.data.manifest import read_manifest
from dualpath.engine.config import TrainConfig
from dualpath.engine.learner import Learner, Micro
from dualpath.files import write_whole
from dualpath.hardware import describe_machine, pick_device
from dualpath.methods import METHODS, MethodConfig, build_model
from dualpath.methods.linear_probe import LinearProbeConfig
from dualpath.methods.options import DualPathConfig
from dualpath.nn.backbone import Backbone
from dualpath.nn.zoo import BackboneConfig, frozen_dtype, load_backbone, random_backbone
from dualpath.video.sampling import SamplingConfig

FRAMES = 4
OPTIONS: dict[str, MethodConfig] = {
    "dualpath": DualPathConfig(num_spatial_frames=2, grid=(2, 2)),
    "linear_probe": LinearProbeConfig(num_probe_frames=0),
}
"""What four frames ask for; all else is the methods' own."""


def main(words: Sequence[str] | None = None) -> int:
    """Prints a table and writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone", default="stills_vit_tiny_patch16_128")
    parser.add_argument("--weights")
    parser.add_argument("--random", action="store_true", help="random weights instead")
    parser.add_argument("--image_size", type=int)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--scales", default="1,0.1,10")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--output", type=Path, help="JSON file")
    given = parser.parse_args(words)
    config = BackboneConfig(given.backbone, given.weights, image_size=given.image_size)
    dtype = frozen_dtype("auto", pick_device())
    size = random_backbone(config, dtype=dtype).size
    frames, labels, num_classes = some_clips(given.data, size, given.clips)
    rows: list[dict[str, Any]] = []
    for method in given.methods.split(","):
        for kind, scale in cases(given.scales):
            torch.manual_seed(0)
            frozen = random_backbone(config, dtype=dtype) if given.random else load_backbone(config, dtype=dtype)
            backbone = scaled(frozen, kind=kind, scale=scale)
            model = build_model(method, backbone, num_classes=num_classes, config=OPTIONS.get(method))
            losses = learn(model, frames, labels, steps=given.steps)
            share = sum(losses[-5:]) / 5 / math.log(num_classes)
            rows.append({"method": method, "kind": kind, "scale": scale, "share_of_chance": share, "losses": losses})
            print(f"{method:<16} {kind:<10} x {scale:<5g} loss {share:6.3f} of guessing's", flush=True)
    if given.output:
        told = {
            "backbone": given.backbone,
            "random": given.random,
            "clips": given.clips,
            "steps": given.steps,
            "classes": num_classes,
            "rows": rows,
        }
        write_whole(given.output, json.dumps(told | {"machine": describe_machine(pick_device())}, indent=1) + "\n")
    return 0 if all(row["share_of_chance"] < 0.5 for row in rows) else 1


def cases(scales: str) -> list[tuple[str, float]]:
    """(what is scaled, by how much); a scale of 1 once."""
    numbers = [float(word) for word in scales.split(",")]
    return [(kind, scale) for scale in numbers for kind in (("stream", "embedding") if scale != 1 else ("stream",))]


def some_clips(data: Path, size: int, count: int) -> tuple[Tensor, Tensor, int]:
    """The first clips of each class in turn: uint8 (B, T, C, S, S), their labels, the number of classes among them."""
    videos = read_manifest(data, val_fraction=0.0, seed=0).videos
    by_class: dict[int, list[Any]] = {}
    for video in videos:
        by_class.setdefault(video.label, []).append(video)
    turns = [video for row in zip(*by_class.values(), strict=False) for video in row][:count]
    names = sorted({video.label for video in turns})
    chosen = [replace(video, label=names.index(video.label)) for video in turns]
    clips = TestClips(chosen, sampling=SamplingConfig(FRAMES), size=size)
    frames = [clips[index].frames for index in range(len(chosen))]
    return torch.stack([one[0] for one in frames if one is not None]), torch.tensor([v.label for v in chosen]), len(names)


def scaled(backbone: Backbone, *, kind: str, scale: float) -> Backbone:
    """The same backbone with tokens of another size."""
    vit = backbone.vit
    tables = [vit.patch_embed.proj.weight, vit.patch_embed.proj.bias, vit.cls_token, vit.pos_embed]
    if kind == "stream":
        for block in vit.blocks:
            for name, layer in (("ls1", block.attn.proj), ("ls2", block.mlp.fc2)):
                gamma = getattr(getattr(block, name, None), "gamma", None)
                tables += [layer.weight, layer.bias] if gamma is None else [gamma]
    with torch.no_grad():
        for table in tables:
            if table is not None:
                table *= scale
    backbone.forget_frozen()
    return backbone


def learn(model: nn.Module, frames: Tensor, labels: Tensor, *, steps: int) -> list[float]:
    """Losses of the same clips, step by step, without label smoothing, which has a floor of its own."""
    training = TrainConfig(label_smoothing=0.0)
    learner = Learner(model, training, pick_device())
    warmup, losses = max(1, steps // 10), []
    for step in range(steps):
        learner.begin()
        part = min(1.0, (step + 1) / warmup)
        losses.append(learner.step([Micro(frames, labels, step)], lr=lambda peak, part=part: peak * part))
    return losses


if __name__ == "__main__":
    sys.exit(main())
