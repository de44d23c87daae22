"""Stand-ins on torch's meta device, against what torch does on a real one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from dualpath.nn.meta import Autocast, fused_attention, outlined
from tiny import tiny_backbone


@pytest.mark.parametrize(
    "do",
    [
        lambda x: F.linear(x, torch.ones(4, 4, device=x.device)),
        lambda x: x @ x.mT,
        lambda x: torch.matmul(x, x.mT),
        lambda x: torch.bmm(x, x),
        lambda x: F.conv2d(x[None], torch.ones(2, 3, 1, 1, device=x.device)),
        lambda x: F.scaled_dot_product_attention(x[None], x[None], x[None]),
        lambda x: F.gelu(x @ x.mT),
        lambda x: x + x,
        lambda x: (x @ x.mT) + x,
        lambda x: nn.LayerNorm(4, device=x.device)(x),
    ],
    ids=["linear", "@", "matmul", "bmm", "conv", "attention", "gelu", "+", "mixed +", "norm"],
)
def test_autocast_gives_the_types_that_torch_gives(do: Callable[[Tensor], Tensor]) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        wanted = do(torch.ones(3, 4, 4))
    with Autocast(torch.bfloat16):
        found = do(torch.ones(3, 4, 4, device="meta"))
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)


def test_a_softmax_is_in_fp32_as_on_a_gpu_alone() -> None:
    with Autocast(torch.bfloat16):
        x = torch.ones(3, 4, device="meta", dtype=torch.bfloat16)
        assert [y.dtype for y in (x.softmax(dim=-1), F.softmax(x, dim=-1))] == [torch.float32] * 2


def test_fused_attention_keeps_no_scores_and_is_gone_afterwards() -> None:
    tokens, kept = 50, []

    def attend() -> Tensor:
        x = torch.zeros(2, 3, tokens, 8, device="meta", requires_grad=True)
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(lambda saved: kept.append(saved) or saved, lambda saved: saved):
            return F.scaled_dot_product_attention(x, x, x)

    with fused_attention():
        assert attend().shape == (2, 3, tokens, 8)
        assert not [saved for saved in kept if saved.shape[-2:] == (tokens, tokens)]
        attend().sum().backward()
    attend()
    assert [saved for saved in kept if saved.shape[-2:] == (tokens, tokens)]


def test_a_bias_of_places_is_differentiated_too() -> None:
    q = torch.zeros(2, 3, 5, 8, device="meta", requires_grad=True)
    bias = torch.zeros(1, 3, 5, 5, device="meta", requires_grad=True)
    with fused_attention():
        F.scaled_dot_product_attention(q, q, q, attn_mask=bias).sum().backward()
    assert bias.grad is not None
    assert bias.grad.shape == bias.shape


def test_a_backbone_without_values_runs_and_has_no_hash() -> None:
    backbone = tiny_backbone(meta=True)
    assert backbone.hash == ""
    features = backbone(torch.zeros(2, 3, 32, 32, dtype=torch.uint8, device="meta"))
    assert (features.shape, features.device.type) == ((2, 24), "meta")


def test_what_is_outlined_is_the_same_without_values() -> None:
    with outlined():
        bare = VisionTransformer(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=2)
    filled = VisionTransformer(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=2)
    assert {name: (value.shape, value.dtype) for name, value in bare.state_dict().items()} == {
        name: (value.shape, value.dtype) for name, value in filled.state_dict().items()
    }
    assert all(value.is_meta for value in bare.parameters())
    with outlined():
        kept = torch.ones(2, device="cpu")
        assert torch.equal(kept.mul_(3), torch.full((2,), 3.0, device="cpu"))  # tensors that have values keep on changing
