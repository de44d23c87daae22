"""What `benchmarks/models.py` measures beside our methods: the authors' way and full video models, with random weights.

Each function gives a `dualpath.speed.worker.Work`. Full video models come from transformers and torchvision as they are;
they are measured in the type that is asked for, with their own number of frames.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualpath.hardware import pick_device
from dualpath.speed.products import watch
from dualpath.speed.worker import Work

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from oracles.authors import MEAN, STD, Visual


class Authors(Visual):
    """The authors' model on a batch of clips, as their trainer calls it; the oracle takes one clip at a time."""

    def __init__(self, *, num_frames: int, classes: int, depth: int = 12) -> None:
        super().__init__(size=224, patch=16, width=768, depth=depth, features=512, classes=classes)
        self.num_frames = num_frames
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)
        # As they do, once and for all; on few channels the oracle's loops take minutes.
        self.register_buffer("codes", torch.randn(num_frames // 16, 197, 768), persistent=False)
        trained = ("adapter", "head", "class_embedding", "positional_embedding")
        for name, value in self.named_parameters():
            value.requires_grad_(any(word in name for word in trained))

    def forward(self, frames: Tensor) -> Tensor:
        """uint8 (B, T, 3, 224, 224) to logits (B, classes)."""
        clips, count = frames.shape[:2]
        pictures = (frames / 255 - self.mean) / self.std
        grids = pictures.reshape(clips * count // 16, 4, 4, 3, 224, 224).permute(0, 3, 1, 4, 2, 5).reshape(-1, 3, 896, 896)
        grids = F.interpolate(grids, size=(224, 224), mode="bilinear", antialias=True)
        sparse = pictures[:, :: count // 8].flatten(0, 1)
        temporal, spatial = (self.conv1(x).flatten(2).transpose(1, 2) for x in (grids, sparse))
        temporal, spatial = (torch.cat([self.class_embedding.expand(len(x), 1, -1), x], dim=1) for x in (temporal, spatial))
        temporal = temporal + self.codes.repeat(clips, 1, 1) + self.spatial_positional_embedding
        spatial = spatial + self.positional_embedding
        temporal, spatial = (self.ln_pre(x).transpose(0, 1) for x in (temporal, spatial))
        for block in self.transformer.resblocks:
            temporal, spatial = block(temporal, spatial)
        features = [(self.ln_post(x[0]) @ self.proj).unflatten(0, (clips, -1)).mean(dim=1) for x in (temporal, spatial)]
        return self.head(torch.cat(features, dim=1))


def authors(*, mode: str, autocast: bool, batch_size: int, num_frames: int = 32, classes: int = 400, device: str = "") -> Work:
    """The authors' way: fp32 weights, with or without autocast to bf16; AdamW, as their trainer has it."""
    place = torch.device(device) if device else pick_device()
    torch.manual_seed(0)
    model = Authors(num_frames=num_frames, classes=classes).to(place).train(mode == "training")
    frames = torch.randint(0, 256, (batch_size, num_frames, 3, 224, 224), dtype=torch.uint8, device=place)
    labels = torch.arange(batch_size, device=place) % classes
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, weight_decay=0.05)

    def infer() -> None:
        with torch.no_grad(), torch.autocast(place.type, dtype=torch.bfloat16, enabled=autocast):
            model(frames)

    def learn() -> None:
        with torch.autocast(place.type, dtype=torch.bfloat16, enabled=autocast):
            loss = F.cross_entropy(model(frames), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    step = learn if mode == "training" else infer
    step()
    dtype = "bfloat16" if autocast else "float32"
    return Work(step, clips=batch_size, products=watch(step), dtype=dtype, device=str(place), facts={"num_frames": num_frames})


def _videomae() -> tuple[nn.Module, tuple[int, ...]]:
    from transformers import VideoMAEConfig, VideoMAEForVideoClassification

    return VideoMAEForVideoClassification(VideoMAEConfig(num_labels=400)), (16, 3, 224, 224)


def _timesformer() -> tuple[nn.Module, tuple[int, ...]]:
    from transformers import TimesformerConfig, TimesformerForVideoClassification

    return TimesformerForVideoClassification(TimesformerConfig(num_labels=400)), (8, 3, 224, 224)


def _vivit() -> tuple[nn.Module, tuple[int, ...]]:
    from transformers import VivitConfig, VivitForVideoClassification

    return VivitForVideoClassification(VivitConfig(num_labels=400)), (32, 3, 224, 224)


def _vjepa2() -> tuple[nn.Module, tuple[int, ...]]:
    from transformers import VJEPA2Config, VJEPA2ForVideoClassification

    config = VJEPA2Config(num_labels=400, frames_per_clip=16)  # 16 frames: 64 would be four times as slow and more
    return VJEPA2ForVideoClassification(config), (16, 3, config.crop_size, config.crop_size)


def _swin3d() -> tuple[nn.Module, tuple[int, ...]]:
    from torchvision.models.video import swin3d_b

    return swin3d_b(), (3, 32, 224, 224)


def _mvit() -> tuple[nn.Module, tuple[int, ...]]:
    from torchvision.models.video import mvit_v2_s

    return mvit_v2_s(), (3, 16, 224, 224)


VIDEO_MODELS: dict[str, Callable[[], tuple[nn.Module, tuple[int, ...]]]] = {
    "VideoMAE-B, 16 frames": _videomae,
    "TimeSformer-B, 8 frames": _timesformer,
    "ViViT-B, 32 frames": _vivit,
    "V-JEPA 2 L, 16 frames": _vjepa2,
    "Swin3D-B, 32 frames": _swin3d,
    "MViTv2-S, 16 frames": _mvit,
}


def video_model(*, name: str, dtype: str, batch_size: int, device: str = "") -> Work:
    """A full video model at inference."""
    place = torch.device(device) if device else pick_device()
    torch.manual_seed(0)
    model, shape = VIDEO_MODELS[name]()
    model = model.eval().to(place, getattr(torch, dtype))
    clips: Any = torch.randn(batch_size, *shape, device=place).to(getattr(torch, dtype))

    def step() -> None:
        with torch.inference_mode():
            model(clips)

    total = sum(value.numel() for value in model.parameters())
    return Work(step, clips=batch_size, products=watch(step), dtype=dtype, device=str(place), facts={"total": total})
