"""The default rates on a real pretrained backbone, which lies outside of the project: skipped where it is not at hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from dualpath.engine.config import TrainConfig
from dualpath.engine.learner import Learner, Micro
from dualpath.engine.rates import measure_blocks
from dualpath.methods import build_model
from dualpath.methods.options import DualPathConfig
from dualpath.nn.backbone import Backbone
from dualpath.nn.zoo import BackboneConfig, load_backbone
from dualpath.video.drawn.synthetic import CLASSES, render_clip
from dualpath.video.transforms import TransformConfig, train_transform

WEIGHTS = Path(__file__).resolve().parents[3] / "shared" / "data" / "backbones" / "dinov2_small.safetensors"
SIZE = 56  # 4x4 patches: cells of a 2x2 grid are whole patches

pytestmark = pytest.mark.skipif(not WEIGHTS.is_file(), reason="no ../shared/data/backbones/dinov2_small.safetensors here")


@pytest.fixture(scope="module")
def dinov2() -> Backbone:
    return load_backbone(BackboneConfig("vit_small_patch14_dinov2.lvd142m", str(WEIGHTS), image_size=SIZE))


def drawn(classes: int, *, each: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first few classes of drawn motions: four frames of each clip, uint8 (B, 4, 3, S, S), and labels."""
    labels = torch.arange(classes).repeat(each)
    clips = []
    for seed, label in enumerate(labels.tolist()):
        frames = torch.tensor(render_clip(CLASSES[label], seed)[0].copy())
        chosen = frames[torch.linspace(0, len(frames) - 1, 4).long()].permute(0, 3, 1, 2)
        clips.append(train_transform(chosen, size=SIZE, config=TransformConfig(color_jitter=0.0), flip=False, seed=seed))
    return torch.stack(clips), labels


def test_what_its_blocks_add_differs_from_first_to_last(dinov2: Backbone) -> None:
    """Why one rate for all tensors learnt nothing: see `engine.rates`."""
    frames, _ = drawn(2, each=2)
    with torch.no_grad():
        blocks = measure_blocks(dinov2, frames[:, 0]).blocks
    assert min(blocks) < 0.06 < 0.5 < max(blocks) == blocks[-1]


def test_the_default_rates_learn(dinov2: Backbone) -> None:
    frames, labels = drawn(3, each=2)
    torch.manual_seed(0)
    options = DualPathConfig(num_spatial_frames=2, grid=(2, 2))
    model = build_model("dualpath", dinov2, num_classes=3, config=options)
    learner = Learner(model, TrainConfig(label_smoothing=0.0), torch.device("cpu"))
    learner.begin()
    losses = [learner.step([Micro(frames, labels, step)], lr=lambda peak: peak) for step in range(16)]
    assert sum(losses[-3:]) / 3 < 0.5 * math.log(3), losses
