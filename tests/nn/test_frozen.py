"""Frozen attention and MLP against timm's own modules, forwards and backwards, in every form they take."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.layers.activations import QuickGELU
from timm.layers.attention import Attention
from timm.layers.mlp import Mlp
from timm.layers.patch_embed import PatchEmbed
from torch import Tensor, nn

from dualpath.nn.backbone import plain_step
from dualpath.nn.frozen import FrozenAttention, FrozenLinear, FrozenMlp, FrozenPatches
from dualpath.nn.zoo import random_backbone

WIDTH, HEADS = 48, 3
TYPES = {"fp32": (torch.float32, 2e-6), "bf16": (torch.bfloat16, 2e-2)}


def frozen(module: Any, dtype: torch.dtype) -> Any:
    torch.manual_seed(1)
    for value in module.parameters():
        nn.init.normal_(value, std=0.15)
    return module.eval().requires_grad_(False).to(dtype)


def tokens(dtype: torch.dtype, *, pictures: int = 3, length: int = 7) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(pictures, length, WIDTH, generator=generator).to(dtype).requires_grad_()


def both_ways(module: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """What comes out, and the gradient of a loss that weighs every value differently."""
    x = x.detach().requires_grad_()
    out = module(x)
    weights = torch.linspace(-1, 1, out.numel()).view(out.shape)
    (out.float() * weights).sum().backward()
    assert x.grad is not None
    return out.detach(), x.grad


def close(found: Tensor, expected: Tensor, tolerance: float) -> None:
    assert found.shape == expected.shape
    assert (found.float() - expected.float()).norm() <= tolerance * expected.float().norm()


@pytest.mark.parametrize(("dtype", "tolerance"), TYPES.values(), ids=TYPES)
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_attention_is_timms(dtype: torch.dtype, tolerance: float, fused: bool, bias: bool) -> None:
    theirs = frozen(Attention(WIDTH, num_heads=HEADS, qkv_bias=bias, proj_bias=bias), dtype)
    exact = copy.deepcopy(theirs).float()
    ours = FrozenAttention.of(theirs)
    assert ours is not None
    x = tokens(dtype)
    expected = both_ways(exact, x.float())
    for found, right in zip(both_ways(lambda x: ours(x, fused=fused), x), expected, strict=True):
        close(found, right, tolerance)
    with torch.inference_mode():
        close(ours(x, fused=fused), expected[0], tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), TYPES.values(), ids=TYPES)
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("asked", [1, 2])
def test_only_the_asked_tokens_are_found_and_the_gradient_is_the_same(
    dtype: torch.dtype, tolerance: float, fused: bool, asked: int
) -> None:
    theirs = frozen(Attention(WIDTH, num_heads=HEADS, qkv_bias=True), dtype)
    exact = copy.deepcopy(theirs).float()
    ours = FrozenAttention.of(theirs)
    assert ours is not None
    x = tokens(dtype)
    expected = both_ways(lambda x: exact(x)[:, :asked], x.float())
    for found, right in zip(both_ways(lambda x: ours(x, asked=asked, fused=fused), x), expected, strict=True):
        close(found, right, tolerance)


ACTIVATIONS = {"quick": QuickGELU, "gelu": nn.GELU, "tanh": lambda: nn.GELU(approximate="tanh")}


@pytest.mark.parametrize(("dtype", "tolerance"), TYPES.values(), ids=TYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_mlp_is_timms(dtype: torch.dtype, tolerance: float, activation: Any, bias: bool) -> None:
    theirs = frozen(Mlp(WIDTH, 4 * WIDTH, act_layer=activation, bias=bias), dtype)
    exact = copy.deepcopy(theirs).float()
    ours = FrozenMlp.of(theirs)
    assert ours is not None
    x = tokens(dtype)
    expected = both_ways(exact, x.float())
    for found, right in zip(both_ways(ours, x), expected, strict=True):
        close(found, right, tolerance)
    before = x.detach().clone()
    with torch.inference_mode():
        close(ours(x), expected[0], tolerance)
    assert torch.equal(x, before)


@pytest.mark.parametrize("bias", [True, False])
def test_patches_are_timms(bias: bool) -> None:
    theirs = frozen(PatchEmbed(32, 8, 3, WIDTH, bias=bias, strict_img_size=False), torch.bfloat16)
    ours = FrozenPatches.of(theirs, whole=False)
    assert ours is not None
    pictures = torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(3)).bfloat16()
    close(ours(pictures), copy.deepcopy(theirs).float()(pictures.float()), 2e-2)
    whole = FrozenPatches.of(theirs.float(), whole=True)
    assert whole is not None
    found, expected = whole(pictures.float()), theirs.float()(pictures.float())
    assert 1e-4 < float((found - expected).norm() / expected.norm()) < 2e-2
    assert FrozenPatches.of(theirs.float(), whole=False) is None
    assert FrozenPatches.of(theirs.bfloat16().requires_grad_(True), whole=False) is None


def test_quick_gelu_is_silu_and_plain_weights_are_not_copied() -> None:
    module = frozen(Mlp(WIDTH, WIDTH, act_layer=QuickGELU), torch.float32)
    mlp = FrozenMlp.of(module)
    assert mlp is not None
    assert mlp.activation == "silu"
    assert isinstance(mlp.enter, FrozenLinear)
    assert mlp.enter.weight.data_ptr() == module.fc1.weight.data_ptr()
    x = tokens(torch.float32).detach()
    close(mlp.enter(x), 1.702 * module.fc1(x), 1e-6)
    close(mlp.leave.back(x), module.fc2.weight.T.matmul(x.mT).mT / 1.702, 1e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), TYPES.values(), ids=TYPES)
def test_a_linear_layer_gives_its_weights_back(dtype: torch.dtype, tolerance: float) -> None:
    layer = frozen(nn.Linear(WIDTH, 5), dtype)
    ours = FrozenLinear(layer.weight, layer.bias)
    assert torch.equal(ours.weight, layer.weight)
    x = tokens(dtype).detach()
    close(ours(x), layer.float()(x.float()), tolerance)
    close(ours.back(x[..., :5]), x[..., :5].float() @ layer.weight, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), TYPES.values(), ids=TYPES)
@pytest.mark.parametrize("bias", [True, False])
def test_a_multiple_and_a_part_of_a_linear_layer(dtype: torch.dtype, tolerance: float, bias: bool) -> None:
    layer = frozen(nn.Linear(WIDTH, 5, bias=bias), dtype)
    ours = FrozenLinear(layer.weight, layer.bias).times(3.0, bias=2.0).part(1, 4)
    x, layer = tokens(dtype).detach(), layer.float()
    expected = 3 * (x.float() @ layer.weight[1:4].T) + (2 * layer.bias[1:4] if bias else 0)
    close(ours(x), expected, tolerance)
    close(ours.back(x[..., :3]), 3 * (x[..., :3].float() @ layer.weight[1:4]), tolerance)


class Other(Attention):
    pass


def others() -> dict[str, nn.Module]:
    trained = frozen(Attention(WIDTH, num_heads=HEADS), torch.float32)
    trained.qkv.weight.requires_grad_(True)
    wrapped = frozen(Attention(WIDTH, num_heads=HEADS), torch.float32)
    wrapped.qkv = nn.Sequential(wrapped.qkv)
    return {
        "a subclass": Other(WIDTH, num_heads=HEADS),
        "norms of queries": Attention(WIDTH, num_heads=HEADS, qk_norm=True, norm_layer=nn.LayerNorm),
        "a norm before the projection": Attention(WIDTH, num_heads=HEADS, scale_norm=True, norm_layer=nn.LayerNorm),
        "a gate": Attention(WIDTH, num_heads=HEADS, gated=True),
        "trained": trained,
        "wrapped": wrapped,
    }


@pytest.mark.parametrize("kind", others())
def test_attention_of_another_kind_is_left_to_itself(kind: str) -> None:
    module = others()[kind]
    if kind != "trained":
        module.requires_grad_(False)
    assert FrozenAttention.of(module) is None


def test_an_mlp_of_another_kind_is_left_to_itself() -> None:
    for module in (
        frozen(Mlp(WIDTH, act_layer=nn.ReLU), torch.float32),
        frozen(Mlp(WIDTH, norm_layer=nn.LayerNorm), torch.float32),
        Mlp(WIDTH),
    ):
        assert FrozenMlp.of(module) is None


def test_what_is_packed_follows_the_weights() -> None:
    """Copies are in use: after every way in which weights change, the next pass must see the new ones."""
    torch.manual_seed(0)
    backbone = random_backbone("vit_tiny_patch16_224", dtype=torch.bfloat16)

    def features() -> Tensor:
        with torch.inference_mode():
            x = backbone.embed(backbone.normalise(torch.full((1, 3, 224, 224), 99, dtype=torch.uint8)))
            return backbone.walk(x, plain_step).float()

    first = features()
    assert len(backbone.frozen) == 1 + 12
    backbone.vit.load_state_dict({name: value / 2 for name, value in backbone.vit.state_dict().items()})
    second = features()
    assert (first - second).abs().max() > 1e-3
    backbone.store_in(torch.float32)
    third = features()
    close(second, third, 2e-2)
    assert not torch.equal(second, third)
    backbone.unfreeze(lambda name: "fc1" in name)
    features()
    parts = [backbone.frozen[number] for number in range(12)]
    assert all(mlp is None and attention is not None for attention, mlp in parts)


def test_copies_and_pickles_hold_nothing_packed() -> None:
    backbone = random_backbone("vit_tiny_patch16_224", dtype=torch.bfloat16)
    x = torch.randn(1, 5, 192).bfloat16()
    with torch.inference_mode():
        expected = backbone.walk(x, plain_step)
        twin = copy.deepcopy(backbone)
        assert backbone.frozen
        assert not twin.frozen
        assert torch.equal(twin.walk(x, plain_step), expected)
