"""ST-Adapter against its equation, on every family, and its published sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dualpath.errors import DualPathError
from dualpath.methods import build_model, count_parameters
from dualpath.methods.st_adapter import STAdapterConfig, STAdapterModel
from dualpath.nn import hashing
from dualpath.nn.backbone import Backbone
from dualpath.nn.zoo import CLIP_VIT_B16, random_backbone
from hooked import PATCHES_READ, check_training, kind, plain_logits, randomise_trained, timm_features
from oracles import st_adapter as oracle
from tiny import HALF, random_clips, tiny_backbone

PLACES = ("mlp", "attention", "both")


def make(backbone: Backbone | None = None, *, fresh: bool = False, **options: Any) -> STAdapterModel:
    config = STAdapterConfig(**({"bottleneck": 5} | options))
    model = build_model("st_adapter", backbone or tiny_backbone(), num_classes=4, config=config)
    assert isinstance(model, STAdapterModel)
    if not fresh:
        randomise_trained(model)
    return model.eval()


@pytest.mark.parametrize("kernel_size", [(3, 1, 1), (3, 3, 1), (1, 3, 5)], ids=str)
@pytest.mark.parametrize("places", PLACES)
def test_agrees_with_the_equation(places: str, kernel_size: tuple[int, int, int]) -> None:
    backbone = tiny_backbone(pre_norm=True, reg_tokens=1, num_classes=16)
    model, frames = make(backbone, places=places, kernel_size=kernel_size), random_clips(2, 3)
    shape = oracle.Shape(patch=8, heads=2, grid=(1, 1), num_spatial_frames=1, mean=HALF, std=HALF)
    expected = oracle.st_adapter(model.state_dict(), frames.numpy(), shape)
    with torch.no_grad():
        actual = model(frames)
        torch.testing.assert_close(actual.double(), torch.from_numpy(expected), atol=1e-5, rtol=1e-5)
        assert (actual - plain_logits(model, frames)).abs().max() > 1e-3


@pytest.mark.parametrize("family", PATCHES_READ)
def test_agrees_with_timm_on_every_family(family: str) -> None:
    model, frames = make(kind(family), places="both"), random_clips(2, 3)
    prefix = model.backbone.prefix

    def added(number: int, x: Tensor, place: str) -> Tensor:
        part = getattr(model.adapters[number], place)
        if part is None:
            return torch.zeros_like(x)
        inner = (x[:, prefix:] @ part.down.weight.T + part.down.bias).unflatten(0, (2, 3))
        kernel, convolved = part.conv.weight.flatten(1), torch.zeros_like(inner)
        for t in range(3):  # frames t - 1, t and t + 1 of the same clip and place
            for tap in range(3):
                if 0 <= t + tap - 1 < 3:
                    convolved[:, t] += kernel[:, tap] * inner[:, t + tap - 1]
        patches = (convolved + part.conv.bias).flatten(0, 1) @ part.up.weight.T + part.up.bias
        return torch.cat([torch.zeros_like(x[:, :prefix]), patches], dim=1)

    with torch.no_grad():
        features = timm_features(
            model.backbone,
            frames.flatten(0, 1),
            before=lambda number, x: added(number, x, "attention"),
            between=lambda number, x: added(number, x, "mlp"),
        )
        expected = model.head(features.unflatten(0, (2, 3)).mean(dim=1))
        torch.testing.assert_close(model(frames), expected, atol=1e-5, rtol=1e-5)
        assert (expected - plain_logits(model, frames)).abs().max() > 1e-3


def test_it_sees_the_order_of_frames_and_no_other_clip() -> None:
    model, frames = make(), random_clips(3, 4)
    with torch.no_grad():
        together = model(frames)
        torch.testing.assert_close(together, torch.cat([model(clip[None]) for clip in frames]), atol=1e-5, rtol=1e-5)
        assert (together - model(frames[:, [0, 2, 1, 3]])).abs().max() > 1e-4


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize(("family", "read"), PATCHES_READ.items())
def test_there_is_no_adapter_that_nobody_would_see(family: str, read: bool, places: str) -> None:
    model = make(kind(family), places=places)
    there = [(part.attention is not None, part.mlp is not None) for part in model.adapters]
    assert set(there[:-1]) == {(places != "mlp", places != "attention")}
    assert there[-1] == (places != "mlp", places != "attention" and read)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", PATCHES_READ)
def test_a_fresh_model_is_the_frozen_backbone_bit_for_bit(family: str, dtype: torch.dtype) -> None:
    model, frames = make(kind(family), fresh=True, places="both"), random_clips(2, 3)
    model.backbone.store_in(dtype)
    with torch.no_grad():
        assert torch.equal(model(frames), plain_logits(model, frames))


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize("family", PATCHES_READ)
def test_training_reaches_all_that_is_trained_and_nothing_else(family: str, places: str) -> None:
    check_training(make(kind(family), fresh=True, places=places), random_clips(3, 2))


def test_dropout_before_the_head_is_for_training_alone() -> None:
    model, features = make(head_dropout=0.25), torch.ones(1, 2, 24)
    torch.nn.init.eye_(model.head.weight)
    torch.nn.init.zeros_(model.head.bias)
    assert torch.equal(model.classify(features), torch.ones(1, 4))
    seen = {round(value, 4) for _ in range(30) for value in model.train().classify(features)[0].tolist()}
    assert seen == {0.0, round(1 / 0.75, 4)}


ONE = 2 * 768 * 384 + 384 + 3 * 384 + 384 + 768


@pytest.mark.parametrize(
    ("places", "adapters"),
    [
        ("attention", 12),
        ("mlp", 11),  # released as 12x384; the last one stands where only [CLS] is read and is never trained
        ("both", 23),  # released as 24x384, for the same reason
    ],
)
def test_published_sizes(places: str, adapters: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 12 * ONE == 7_110_144
    assert 12 * ONE == 12 * (768 * 384 + 384 + 384 * 3 + 384 + 384 * 768 + 768)
    monkeypatch.setattr(hashing, "_hash", lambda state: "none on the meta device")
    with torch.device("meta"):
        model = build_model("st_adapter", random_backbone(CLIP_VIT_B16), num_classes=400, config=STAdapterConfig(places=places))
    assert isinstance(model, STAdapterModel)
    assert count_parameters(model.adapters)[0] == adapters * ONE
    assert count_parameters(model)[0] == adapters * ONE + 400 * (768 + 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bottleneck": 0}, "bottleneck 0 must be at least 1"),
        ({"kernel_size": (3, 2, 1)}, r"kernel_size \[3, 2, 1\] must be of odd numbers"),
        ({"head_dropout": 1.0}, "head_dropout 1.0 must be at least 0 and below 1"),
    ],
    ids=str,
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DualPathError, match=message):
        STAdapterConfig(**options)


def test_a_single_frame_is_convolved_with_nothing() -> None:
    model, frames = make(places="attention"), random_clips(2, 1)
    with torch.no_grad():
        expected = model(frames)
        for part in model.adapters:
            part.attention.conv.weight[:, :, [0, 2]] = 7.0  # the taps before and behind
        assert torch.equal(model(frames), expected)
        assert F.pairwise_distance(expected, plain_logits(model, frames)).min() > 1e-3
