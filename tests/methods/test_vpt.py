"""VPT against its equations, and where its prompts stand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.layers.activations import QuickGELU

from dualpath.errors import DualPathError
from dualpath.methods import build_model, count_parameters, trained_state
from dualpath.methods.vpt import VPT, VPTConfig
from dualpath.nn import hashing
from dualpath.nn.backbone import plain_step
from dualpath.nn.zoo import CLIP_VIT_B16, random_backbone
from families import family_backbone
from oracles import vpt as oracle
from oracles.dualpath import Shape
from tiny import random_clips, randomise, tiny_backbone

SHALLOW, DEEP = VPTConfig(depth="shallow", num_prompts=3), VPTConfig(num_prompts=3)


def make(config: VPTConfig = DEEP, **changes: Any) -> VPT:
    model = build_model("vpt", tiny_backbone(**changes), num_classes=5, config=config)
    assert isinstance(model, VPT)
    torch.manual_seed(4)
    with torch.no_grad():
        model.prompts.normal_()
    randomise(model.head, 2)
    return model.eval()


@pytest.mark.parametrize("config", [SHALLOW, DEEP], ids=["shallow", "deep"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"pre_norm": True, "num_classes": 16, "act_layer": QuickGELU},
        {"reg_tokens": 2, "init_values": 0.1},
        {"global_pool": "avg", "reg_tokens": 1},
        {"depth": 1},
        {"depth": 3},
    ],
    ids=str,
)
def test_agrees_with_the_equations(config: VPTConfig, changes: dict[str, Any]) -> None:
    model, frames = make(config, **changes), random_clips(2, 3)
    shape = Shape(patch=8, heads=2, grid=(1, 1), num_spatial_frames=1, quick_gelu="act_layer" in changes)
    expected = oracle.vpt(
        model.state_dict(), frames.numpy(), shape, deep=config.depth == "deep", average="global_pool" in changes
    )
    with torch.no_grad():
        actual = model(frames)
    torch.testing.assert_close(actual.double(), torch.from_numpy(expected), atol=1e-5, rtol=1e-5)
    assert (actual[0] - actual[1]).abs().max() > 1e-3


@pytest.mark.parametrize("config", [SHALLOW, DEEP], ids=["shallow", "deep"])
@pytest.mark.parametrize("family", ["CLIP", "SigLIP", "DeiT distilled", "EVA-02 CLIP", "DINOv3"])
def test_prompts_are_seen_without_places_and_dropped_at_the_end(config: VPTConfig, family: str) -> None:
    model = build_model("vpt", family_backbone(family), num_classes=3, config=config).eval()
    assert isinstance(model, VPT)
    backbone, (frame,) = model.backbone, random_clips(1, 1)
    with torch.no_grad():
        pictures = backbone.normalise(frame)
        plain = backbone.walk(backbone.embed(pictures), plain_step)
        prompted = model.encode(pictures, 1)
        model.prompts.copy_(model.prompts[:, [2, 0, 1]])
        moved = model.encode(pictures, 1)
        model.prompts.mul_(torch.linspace(-1, 1, model.prompts.shape[-1]))
        other = model.encode(pictures, 1)
    assert prompted.shape == plain.shape
    assert (prompted - plain).abs().max() > 1e-3
    assert (prompted - other).abs().max() > 1e-3
    torch.testing.assert_close(moved, prompted, atol=1e-5, rtol=1e-5)  # they have no places, also where patches are turned


@pytest.mark.parametrize(("config", "prompts"), [(VPTConfig(), 12 * 8 * 768), (VPTConfig("shallow", 50), 50 * 768)], ids=str)
def test_trained_sizes_on_vit_b16(config: VPTConfig, prompts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_hash", lambda state: "none on the meta device")
    with torch.device("meta"):
        model = build_model("vpt", random_backbone(CLIP_VIT_B16), num_classes=400, config=config)
    assert count_parameters(model)[0] == prompts + 400 * 768 + 400


def test_prompts_begin_even_within_the_reach_of_the_authors() -> None:
    model = build_model("vpt", tiny_backbone(), num_classes=2, config=VPTConfig(num_prompts=100))
    prompts, reach = trained_state(model)["prompts"], (6 / (3 * 8 * 8 + 24)) ** 0.5
    assert prompts.shape == (2, 100, 24)
    assert 0.99 * reach < prompts.abs().max() <= reach
    assert prompts.std().item() == pytest.approx(reach / 3**0.5, rel=0.03)
    assert set(trained_state(model)) == {"prompts", "head.weight", "head.bias"}


def test_bf16_stays_near_fp32() -> None:
    model, frames = make(pre_norm=True), random_clips(3, 4)
    with torch.no_grad():
        exact = model(frames)
        model.backbone.store_in(torch.bfloat16)
        rounded = model(frames)
    assert rounded.dtype == torch.float32
    assert 1e-5 < (rounded - exact).norm() / exact.norm() < 3e-2


def test_refusals() -> None:
    with pytest.raises(DualPathError, match="attend within windows, which have no place for prompts common to all; choose"):
        build_model("vpt", family_backbone("Swin"), num_classes=2)
    with pytest.raises(DualPathError, match="num_prompts 0 must be at least 1"):
        VPTConfig(num_prompts=0)
    config = VPTConfig()
    object.__setattr__(config, "depth", "middle")  # past the annotation, which these tests check at run time
    with pytest.raises(DualPathError, match="depth is 'middle', but it must be one of shallow, deep"):
        config.__post_init__()
