from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dualpath.engine.config import TrainConfig
from dualpath.engine.learner import Learner, Micro
from dualpath.engine.rates import measure_blocks, measure_rates
from dualpath.methods import METHODS, build_model
from dualpath.methods.adaptformer import AdaptFormerConfig
from dualpath.methods.linear_probe import LinearProbeConfig
from dualpath.nn.adapters import Adapter
from dualpath.nn.backbone import Backbone
from small import SMALL
from tiny import random_clips, tiny_backbone

CPU = torch.device("cpu")
each_method = pytest.mark.parametrize("name", METHODS)


def make(name: str, *, scale: float = 1.0) -> Any:
    return build_model(name, scaled(tiny_backbone(), scale), num_classes=3, config=SMALL.get(name))


def scaled(backbone: Backbone, scale: float) -> Backbone:
    """The same function of pictures: the stream is `scale` times as large, and a norm without weights does not see it."""
    vit = backbone.vit
    with torch.no_grad():
        for table in (vit.patch_embed.proj.weight, vit.patch_embed.proj.bias, vit.cls_token, vit.pos_embed):
            if table is not None:
                table *= scale
        for block in vit.blocks:
            for layer in (block.attn.proj, block.mlp.fc2):
                layer.weight *= scale
                layer.bias *= scale
    return backbone


def plain_mean(x: torch.Tensor) -> float:
    return float(x.abs().mean())


def rms(x: torch.Tensor) -> float:
    return float(x.detach().pow(2).mean().sqrt())


def test_sizes_of_blocks_by_hand() -> None:
    backbone, pictures = tiny_backbone(), random_clips(2, 1)[:, 0]
    vit, streams, expected = backbone.vit, [], []
    with torch.no_grad():
        tokens = backbone.embed(backbone.normalise(pictures))
        embedded = plain_mean(tokens)
        for block in vit.blocks:
            attended = block.attn(block.norm1(tokens))
            tokens = tokens + attended
            transformed = block.mlp(block.norm2(tokens))
            tokens = tokens + transformed
            streams.append(plain_mean(tokens))
            expected.append((plain_mean(attended) + plain_mean(transformed)) / 2)
        sizes = measure_blocks(backbone, pictures)
    assert sizes.embedded == pytest.approx(embedded, rel=1e-5)
    share = 1 / (2 * len(vit.blocks))
    assert sizes.blocks == pytest.approx([max(a, share * s) for a, s in zip(expected, streams, strict=True)], rel=1e-4)


def test_rates_of_an_adapter_and_of_the_classifier_by_hand() -> None:
    model, frames = make("dualpath"), random_clips(2, 8)
    rates = measure_rates(model, frames, step=0.02, head_step=0.5)
    backbone = model.backbone
    with torch.no_grad():
        sizes = measure_blocks(backbone, frames[:, 4])
        adapter: Adapter = model.spatial[0].attention
        pictures = frames[:, model.spatial_frames(8)].flatten(0, 1)
        normed = backbone.vit.blocks[0].norm1(backbone.embed(backbone.normalise(pictures)))
        inner = F.gelu(F.linear(normed, adapter.down.weight))
        features = torch.cat(list(model.encode(frames).values()), dim=-1)
        hidden = F.gelu(model.head.hidden(features))
    width, bottleneck = adapter.down.in_features, adapter.down.out_features
    down = 0.02 * rms(adapter.down.weight) / math.sqrt(width)
    up = 0.02 * sizes.blocks[0] / (bottleneck * plain_mean(inner))
    out = 0.5 / (hidden.shape[1] * plain_mean(hidden))
    expected = {
        "spatial.0.attention.down.weight": down,
        "spatial.0.attention.down.bias": down * plain_mean(normed),
        "spatial.0.attention.up.weight": up,
        "spatial.0.attention.up.bias": up * plain_mean(inner),
        "head.out.weight": out,
        "head.out.bias": out * plain_mean(hidden),
        "head.hidden.weight": 0.5 * rms(model.head.hidden.weight) / math.sqrt(features.shape[1]),
    }
    assert {name: rates[name] for name in expected} == pytest.approx(expected, rel=1e-4)


def test_a_fixed_factor_behind_an_adapter_is_made_up_for() -> None:
    frames = random_clips(2, 4)
    whole, tenth = (
        measure_rates(
            build_model("adaptformer", tiny_backbone(), num_classes=3, config=AdaptFormerConfig(bottleneck=4, scale=scale)),
            frames, step=0.02, head_step=0.1,
        )
        for scale in (1.0, 0.1)
    )  # fmt: skip
    assert tenth["adapters.0.up.weight"] == pytest.approx(10 * whole["adapters.0.up.weight"], rel=1e-6)
    assert tenth["adapters.0.down.weight"] == whole["adapters.0.down.weight"]


def test_a_classifier_alone_goes_faster() -> None:
    frames = random_clips(2, 8)
    model = build_model("linear_probe", tiny_backbone(), num_classes=3, config=LinearProbeConfig(num_probe_frames=0))
    with torch.no_grad():
        inputs = model.read_out(model.encode(frames))  # pyright: ignore
    rates = measure_rates(model, frames, step=0.02, head_step=0.1)
    assert rates["head.weight"] == pytest.approx(3 * 0.1 / (inputs.shape[1] * plain_mean(inputs)), rel=1e-4)


@each_method
def test_every_trained_tensor_has_a_rate(name: str) -> None:
    model = make(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    rates = measure_rates(model, random_clips(2, 8), step=0.02, head_step=0.1)
    assert rates.keys() == {key for key, value in model.named_parameters() if value.requires_grad}
    assert all(0 < rate < 1 for rate in rates.values()), rates
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert model.training


@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_adapters_follow_the_size_of_the_stream(scale: float) -> None:
    frames = random_clips(2, 8)
    plain, other = (measure_rates(make("dualpath", scale=s), frames, step=0.02, head_step=0.1) for s in (1.0, scale))
    up, down = "spatial.1.mlp.up.weight", "spatial.1.mlp.down.weight"
    assert other[up] == pytest.approx(scale * plain[up], rel=1e-2)  # the norms' own epsilon
    assert other[down] == plain[down]
    assert other["head.out.weight"] == pytest.approx(plain["head.out.weight"], rel=1e-2)


def test_the_first_step_moves_an_adapter_by_its_share() -> None:
    model, frames = make("dualpath"), random_clips(4, 8)
    learner = Learner(model, TrainConfig(relative_lr=0.05), CPU)
    learner.begin()
    learner.step([Micro(frames, torch.arange(4) % 3, 0)], lr=lambda peak: peak)
    with torch.no_grad():
        sizes = measure_blocks(model.backbone, frames[:, 4])
        changes: list[float] = []
        hook = model.spatial[0].mlp.register_forward_hook(lambda module, args, out: changes.append(plain_mean(out)))
        model(frames)
        hook.remove()
    assert 0.01 * 0.05 * sizes.blocks[0] < changes[0] < 1.05 * 0.05 * sizes.blocks[0]


def learn(model: nn.Module, *, steps: int, training: TrainConfig) -> list[float]:
    """Losses on six clips that differ in brightness alone, two of each class."""
    frames = random_clips(6, 8)
    labels = torch.arange(6) % 3
    frames = (frames // 4 + (labels * 80).view(-1, 1, 1, 1, 1)).to(torch.uint8)
    learner = Learner(model, training, CPU)
    learner.begin()
    return [learner.step([Micro(frames, labels, 0)], lr=lambda peak: peak) for _ in range(steps)]


@each_method
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_each_method_learns_on_any_size_of_tokens(name: str, scale: float) -> None:
    losses = learn(make(name, scale=scale), steps=60, training=TrainConfig(label_smoothing=0.0))
    assert min(losses[-5:]) < 0.5 * math.log(3), losses
