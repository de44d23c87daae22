"""Attention that is watched is the attention that the model computes, and the model is the same afterwards."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dualpath.nn.backbone import Backbone, plain_step
from dualpath.nn.watch import read_tokens, unheard, watched
from families import FAMILIES, family_backbone
from tiny import random_clips, tiny_backbone

WHOLE = [name for name in FAMILIES if name != "Swin"]


def as_timm_computes(backbone: Backbone, pictures: Tensor) -> list[Tensor]:
    """What timm's own code for unfused attention hands to its dropout, in timm's own forward pass."""
    seen: list[Tensor] = []
    backbone.fuse_attention(False)
    drops = [module.attn_drop for module in backbone.vit.modules() if isinstance(getattr(module, "attn_drop", None), nn.Module)]
    handles = [drop.register_forward_hook(lambda _, given, __: seen.append(given[0])) for drop in drops]
    with torch.no_grad():
        backbone.vit.forward_features(backbone.normalise(pictures))
    for handle in handles:
        handle.remove()
    backbone.fuse_attention(True)
    return seen


@pytest.mark.parametrize("family", WHOLE)
def test_weights_are_those_of_timms_unfused_attention(family: str) -> None:
    backbone, pictures = family_backbone(family), random_clips(3)
    wanted = as_timm_computes(backbone, pictures)
    with torch.no_grad(), watched(backbone) as seen:
        backbone(pictures)
    pooled = backbone.read_weights(wanted[0].shape[-1]) is None
    assert len(wanted) == 2
    assert len(seen) == 2 + pooled
    for ours, theirs in zip(seen, wanted, strict=False):
        rows = ours.shape[2]
        assert rows == theirs.shape[2] or ours is seen[1]  # of the last one only what is read was asked
        torch.testing.assert_close(ours, theirs[:, :, :rows], atol=1e-5, rtol=0)
    if pooled:
        assert seen[-1].shape[:1] + seen[-1].shape[2:] == (3, 1, wanted[0].shape[-1])
        torch.testing.assert_close(seen[-1].sum(-1), torch.ones(3, seen[-1].shape[1], 1))


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_changes_for_a_prediction(family: str) -> None:
    backbone, pictures = family_backbone(family), random_clips(3)
    backbone.fuse_attention(False)
    backbone.gradient_checkpointing = True
    with torch.no_grad():
        before = backbone(pictures)
        with (watched if backbone.attends_wholly else read_tokens)(backbone) as seen:
            during = backbone(pictures)
        assert torch.equal(backbone(pictures), before)
    assert seen
    torch.testing.assert_close(during, before, atol=2e-5, rtol=1e-4)
    assert backbone.gradient_checkpointing
    assert not any(getattr(module, "fused_attn", False) for module in backbone.vit.modules())
    assert not backbone.last_norm._forward_hooks


def test_how_tokens_are_read_adds_up_to_one() -> None:
    assert tiny_backbone().read_weights(17).tolist() == [1.0] + [0.0] * 16  # pyright: ignore[reportOptionalMemberAccess]
    found = {name: family_backbone(name).read_weights(20) for name in ("DeiT distilled", "Swin", "EVA-02", "SigLIP")}
    assert found["DeiT distilled"].tolist() == [0.5, 0.5] + [0.0] * 18  # pyright: ignore[reportOptionalMemberAccess]
    assert found["Swin"].tolist() == pytest.approx([0.05] * 20)  # pyright: ignore[reportOptionalMemberAccess]
    assert found["EVA-02"].tolist() == pytest.approx([0.0] + [1 / 19] * 19)  # pyright: ignore[reportOptionalMemberAccess]
    assert found["SigLIP"] is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_unheard_tokens_are_as_good_as_gone(dtype: torch.dtype) -> None:
    backbone = tiny_backbone(reg_tokens=1)
    backbone.store_in(dtype)
    with torch.no_grad():
        tokens = backbone.embed(backbone.normalise(random_clips(2)))
        gone = torch.zeros(2, 18, dtype=torch.bool)
        gone[:, [2, 5, 9]] = True
        with unheard(backbone, [gone, gone]):
            silenced = backbone.read(backbone.walk(tokens, plain_step))
        kept = tokens[:, ~gone[0]]
        without = backbone.read(backbone.walk(kept, plain_step))
        tolerance = 1e-5 if dtype == torch.float32 else 4e-2
        torch.testing.assert_close(silenced, without, atol=tolerance, rtol=tolerance)
        assert (backbone.read(backbone.walk(tokens, plain_step)) - without).abs().max() > 0.02
