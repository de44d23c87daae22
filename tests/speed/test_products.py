"""Products are counted as the papers' arithmetic has it, whatever kernel does them."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dualpath.speed.products import Product, gmacs, watch


def macs(found: dict[Product, int]) -> list[int]:
    return sorted(product.macs for product, times in found.items() for _ in range(times))


def test_a_linear_layer_is_one_product() -> None:
    layer = nn.Linear(6, 10)
    assert watch(lambda: layer(torch.ones(2, 5, 6))) == {Product(1, 10, 6, 10, weights=True): 1}


def test_its_backward_pass_is_two_more_of_the_same_size() -> None:
    layer = nn.Linear(6, 10)
    x = torch.ones(7, 6, requires_grad=True)
    found = watch(lambda: layer(x).sum().backward())
    assert macs(found) == [7 * 6 * 10] * 3
    layer.requires_grad_(False)
    found = watch(lambda: layer(x).sum().backward())
    assert macs(found) == [7 * 6 * 10] * 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("fused", [True, False])
def test_attention_is_two_products_a_head_and_its_backward_pass_four_or_five(dtype: torch.dtype, fused: bool) -> None:
    q, k, v = (torch.randn(2, 3, length, 8, dtype=dtype, requires_grad=True) for length in (5, 7, 7))

    def attend() -> torch.Tensor:
        if fused:
            return F.scaled_dot_product_attention(q, k, v)
        return (q @ k.transpose(-1, -2)).softmax(dim=-1) @ v

    one = 6 * 5 * 7 * 8
    with torch.no_grad():
        assert sum(p.macs * times for p, times in watch(attend).items()) == 2 * one
    both = sum(p.macs * times for p, times in watch(lambda: attend().sum().backward()).items())
    assert both == (7 if fused else 6) * one


def test_a_patch_embedding_is_a_product_of_all_patches() -> None:
    embed = nn.Conv2d(3, 12, 4, stride=4)
    with torch.no_grad():
        assert watch(lambda: embed(torch.ones(2, 3, 8, 16))) == {Product(1, 16, 48, 12, weights=True): 1}
    depthwise = nn.Conv3d(5, 5, 3, padding=1, groups=5)
    with torch.no_grad():
        found = watch(lambda: depthwise(torch.ones(2, 5, 4, 6, 6)))
    assert found == {Product(5, 2 * 4 * 6 * 6, 27, 1): 1}


def test_gradients_of_a_convolution_cost_as_much_as_itself() -> None:
    embed = nn.Conv2d(3, 12, 4, stride=4)
    x = torch.ones(2, 3, 8, 16, requires_grad=True)
    found = watch(lambda: embed(x).sum().backward())
    assert sum(product.macs * times for product, times in found.items()) == 3 * 16 * 48 * 12


def test_gmacs_are_multiply_adds_counted_once() -> None:
    assert gmacs({Product(2, 10, 100, 1000): 3, Product(1, 1, 1, 1): 1}) == pytest.approx(6.000001e-3 * 1)
