"""Pro-tuning against its description, on every family."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dualpath.errors import DualPathError
from dualpath.methods import build_model, count_parameters
from dualpath.methods.pro_tuning import ProTuning, ProTuningConfig
from dualpath.nn import hashing
from dualpath.nn.backbone import Backbone
from dualpath.nn.zoo import CLIP_VIT_B16, random_backbone
from hooked import PATCHES_READ, check_training, kind, plain_logits, randomise_trained, timm_features
from oracles import pro_tuning as oracle
from tiny import HALF, random_clips, tiny_backbone


def make(backbone: Backbone | None = None, *, fresh: bool = False, **options: Any) -> ProTuning:
    config = ProTuningConfig(**({"bottleneck": 5} | options))
    model = build_model("pro_tuning", backbone or tiny_backbone(), num_classes=4, config=config)
    assert isinstance(model, ProTuning)
    if not fresh:
        randomise_trained(model)
    return model.eval()


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("changes", [{}, {"pre_norm": True, "num_classes": 16, "reg_tokens": 1, "depth": 3}], ids=str)
def test_agrees_with_the_description(changes: dict[str, Any], kernel_size: int) -> None:
    model, frames = make(tiny_backbone(**changes), kernel_size=kernel_size), random_clips(1, 2)
    shape = oracle.Shape(patch=8, heads=2, grid=(1, 1), num_spatial_frames=1, mean=HALF, std=HALF)
    expected = oracle.pro_tuning(model.state_dict(), frames.numpy(), shape)
    with torch.no_grad():
        actual = model(frames)
        torch.testing.assert_close(actual.double(), torch.from_numpy(expected), atol=1e-5, rtol=1e-5)
        assert (actual - plain_logits(model, frames)).abs().max() > 1e-3


@pytest.mark.parametrize("family", PATCHES_READ)
def test_agrees_with_timm_on_every_family(family: str) -> None:
    model, frames = make(kind(family), kernel_size=3), random_clips(2, 2)
    prefix = model.backbone.prefix

    def prompts(number: int, x: Tensor) -> Tensor:
        if number >= len(model.prompts):
            return torch.zeros_like(x)
        part, side = model.prompts[number], round((x.shape[1] - prefix) ** 0.5)
        maps = x[:, prefix:].mT.unflatten(2, (side, side))
        inner = F.gelu(F.conv2d(maps, part.down.weight[:, :, None, None], part.down.bias))
        inner = F.gelu(F.conv2d(inner, part.conv.weight, part.conv.bias, padding=1, groups=5))
        added = F.conv2d(inner, part.up.weight[:, :, None, None], part.up.bias)
        return torch.cat([torch.zeros_like(x[:, :prefix]), added.flatten(2).mT], dim=1)

    with torch.no_grad():
        features = timm_features(model.backbone, frames.flatten(0, 1), behind=prompts)
        expected = model.head(features.unflatten(0, (2, 2)).mean(dim=1))
        torch.testing.assert_close(model(frames), expected, atol=1e-5, rtol=1e-5)
        assert (expected - plain_logits(model, frames)).abs().max() > 1e-3


@pytest.mark.parametrize(("family", "read"), PATCHES_READ.items())
def test_there_is_no_prompt_that_nobody_would_see(family: str, read: bool) -> None:
    model = make(kind(family))
    assert len(model.prompts) == model.backbone.depth - (not read)


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


def test_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_hash", lambda state: "none on the meta device")
    with torch.device("meta"):
        model = build_model("pro_tuning", random_backbone(CLIP_VIT_B16), num_classes=400)
    assert isinstance(model, ProTuning)
    # 11: [CLS] is read, which a prompt behind the last block cannot reach
    assert count_parameters(model.prompts)[0] == 11 * (2 * 768 * 64 + (25 + 2) * 64 + 768) == 1_108_800
    assert count_parameters(model)[0] == 1_108_800 + 400 * (768 + 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bottleneck": 0}, "bottleneck 0 must be at least 1"),
        ({"kernel_size": 4}, "kernel_size 4 must be odd"),
        ({"kernel_size": -1}, "kernel_size -1 must be odd and at least 1"),
    ],
    ids=str,
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DualPathError, match=message):
        ProTuningConfig(**options)
