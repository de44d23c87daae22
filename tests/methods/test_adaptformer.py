"""AdaptFormer against its equations, on every family, and its published size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from dualpath.errors import DualPathError
from dualpath.methods import build_model, count_parameters
from dualpath.methods.adaptformer import AdaptFormer, AdaptFormerConfig
from dualpath.nn import hashing
from dualpath.nn.backbone import Backbone
from dualpath.nn.zoo import CLIP_VIT_B16, random_backbone
from hooked import PATCHES_READ, check_training, kind, plain_logits, randomise_trained, timm_features
from oracles import adaptformer as oracle
from tiny import HALF, random_clips, tiny_backbone


def make(backbone: Backbone | None = None, *, fresh: bool = False, **options: Any) -> AdaptFormer:
    config = AdaptFormerConfig(**({"bottleneck": 5} | options))
    model = build_model("adaptformer", backbone or tiny_backbone(), num_classes=4, config=config)
    assert isinstance(model, AdaptFormer)
    if not fresh:
        randomise_trained(model)
    return model.eval()


@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize("changes", [{}, {"pre_norm": True, "num_classes": 16, "reg_tokens": 1, "init_values": 0.1}], ids=str)
def test_agrees_with_the_equations(changes: dict[str, Any], normed: bool) -> None:
    model = make(tiny_backbone(**changes), scale=0.7, adapter_input="normed" if normed else "residual")
    frames = random_clips(2, 3)
    shape = oracle.Shape(patch=8, heads=2, grid=(1, 1), num_spatial_frames=1, mean=HALF, std=HALF)
    expected = oracle.adaptformer(model.state_dict(), frames.numpy(), shape, scale=0.7, normed=normed)
    with torch.no_grad():
        actual = model(frames)
        torch.testing.assert_close(actual.double(), torch.from_numpy(expected), atol=1e-5, rtol=1e-5)
        assert (actual - plain_logits(model, frames)).abs().max() > 0.1


@pytest.mark.parametrize("family", PATCHES_READ)
def test_agrees_with_timm_on_every_family(family: str) -> None:
    model, frames = make(kind(family)), random_clips(2, 3)

    def adapted(number: int, x: Tensor) -> Tensor:
        part = model.adapters[number]
        inner = (x @ part.down.weight.T + part.down.bias).clamp(min=0)
        return 0.1 * (inner @ part.up.weight.T + part.up.bias)

    def of_block_input(number: int, x: Tensor) -> Tensor:  # `between` would change what the MLP sees too
        seen[number] = adapted(number, x)
        return torch.zeros_like(x)

    seen: dict[int, Tensor] = {}
    with torch.no_grad():
        features = timm_features(
            model.backbone, frames.flatten(0, 1), between=of_block_input, behind=lambda number, _: seen[number]
        )
        expected = model.head(features.unflatten(0, (2, 3)).mean(dim=1))
        torch.testing.assert_close(model(frames), expected, atol=1e-5, rtol=1e-5)
        assert (expected - plain_logits(model, frames)).abs().max() > 1e-2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", PATCHES_READ)
def test_a_fresh_model_is_the_frozen_backbone_bit_for_bit(family: str, dtype: torch.dtype) -> None:
    model, frames = make(kind(family), fresh=True), random_clips(2, 3)
    model.backbone.store_in(dtype)
    with torch.no_grad():
        assert torch.equal(model(frames), plain_logits(model, frames))


@pytest.mark.parametrize("family", PATCHES_READ)
def test_training_reaches_all_that_is_trained_and_nothing_else(family: str) -> None:
    check_training(make(kind(family), fresh=True), random_clips(3, 2))


def test_the_order_of_frames_does_not_matter() -> None:
    model, frames = make(), random_clips(2, 5)
    with torch.no_grad():
        torch.testing.assert_close(model(frames), model(frames[:, [3, 0, 4, 2, 1]]), atol=1e-5, rtol=1e-5)
        assert (model(frames) - model(frames[:, :4])).abs().max() > 1e-3


def test_the_published_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_hash", lambda state: "none on the meta device")
    with torch.device("meta"):
        model = build_model("adaptformer", random_backbone(CLIP_VIT_B16), num_classes=400)
    assert isinstance(model, AdaptFormer)
    assert count_parameters(model.adapters)[0] == 12 * (2 * 768 * 64 + 64 + 768) == 1_189_632  # the paper's 1.19 M
    assert count_parameters(model)[0] == 1_189_632 + 400 * (768 + 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bottleneck": 0}, "bottleneck 0 must be at least 1"),
        ({"scale": 0.0}, "scale 0.0 must be a number above 0"),
        ({"scale": float("nan")}, "scale is nan, but it must be a number"),
    ],
    ids=str,
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DualPathError, match=message):
        AdaptFormerConfig(**options)
    with pytest.raises(DualPathError, match="a clip has 0 frames, but this method needs at least 1"):
        make().check_clip(0)
