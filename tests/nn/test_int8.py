"""Linear layers in int8 against whole numbers multiplied one by one, and backbones of every family in int8."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from dualpath.nn import native
from dualpath.nn.backbone import plain_step
from dualpath.nn.int8 import Int8Linear, make_whole
from dualpath.nn.onednn import ZERO, to_whole
from families import FAMILIES, family_backbone
from oracles.int8 import int8_linear, native_linear, whole
from tiny import random_clips


@pytest.fixture(params=["native", "onednn"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of computing layers, where this machine has both."""
    if request.param == "onednn":
        monkeypatch.setattr(native, "suits", lambda: False)
    elif not native.suits():
        pytest.skip(f"no own layers in int8: {native.why_not()}")
    return request.param


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layer(inputs: int = 40, outputs: int = 7) -> Int8Linear:
    return Int8Linear(drawn(outputs, inputs, seed=1), drawn(outputs, seed=2))


@pytest.mark.parametrize(("inputs", "outputs"), [(40, 7), (1, 1), (64, 96)])
def test_as_number_by_number(inputs: int, outputs: int, way: str) -> None:
    x = drawn(5, inputs) * torch.tensor([1.0, 100.0, 1e-3, 1.0, 0.0])[:, None]
    x[3] += 3
    weight, bias = drawn(outputs, inputs, seed=1), drawn(outputs, seed=2)
    oracle = native_linear if way == "native" else int8_linear
    expected = oracle(x.numpy(), weight.numpy(), bias.numpy())
    np.testing.assert_allclose(Int8Linear(weight, bias)(x).numpy(), expected, rtol=1e-5, atol=1e-5)
    without = Int8Linear(weight, None)(x[None])
    np.testing.assert_allclose(without[0].numpy(), expected - bias.numpy(), rtol=1e-5, atol=2e-5)


@given(
    st.lists(st.lists(st.floats(-1e4, 1e4, width=32), min_size=3, max_size=3), min_size=1, max_size=5),
    st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_whole_numbers_are_the_nearest(rows: list[list[float]], dtype: torch.dtype) -> None:
    x = torch.tensor(rows).to(dtype)
    whole, scale = to_whole(x)
    assert whole.min() >= ZERO - 127
    back = (whole.double() - ZERO) * scale.double()
    assert ((back - x.double()).abs() <= scale.double() * 0.50001).all()
    largest = x.double().abs().amax(dim=1)
    assert torch.allclose(back.abs().amax(dim=1), largest, rtol=1e-5)


def test_a_token_does_not_feel_the_others() -> None:
    one, x = layer(), drawn(6, 40)
    alone = one(x[2:3])
    x[4] *= 1e4
    assert torch.equal(one(x)[2:3], alone)
    assert torch.equal(one(torch.zeros(2, 40)), one.bias.expand(2, -1))


def test_error_is_that_of_seven_bits() -> None:
    x, weight, bias = drawn(200, 256), drawn(64, 256, seed=1), drawn(64, seed=2)
    exact = x @ weight.T
    error = float((Int8Linear(weight, bias)(x) - bias - exact).norm() / exact.norm())
    assert 0.005 < error < 0.015
    assert float((Int8Linear(weight, bias).weight - weight).abs().max() / weight.abs().max()) < 0.5 / 127 + 1e-6


def test_bf16_in_and_out() -> None:
    x = drawn(3, 5, 40).bfloat16()
    found = layer()(x)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, layer()(x.float()).bfloat16())


def test_multiples_and_parts_are_exact() -> None:
    one, x = layer(), drawn(4, 40)
    torch.testing.assert_close(one.times(2.0, bias=0.5)(x), 2 * (one(x) - one.bias) + one.bias / 2, rtol=1e-5, atol=1e-5)
    assert torch.equal(one.part(2, 5)(x), one(x)[:, 2:5])
    assert torch.equal(one.part(3)(x), one(x)[:, 3:])


def test_copies() -> None:
    one, x = layer(), drawn(4, 40)
    assert torch.equal(copy.deepcopy(one)(x), one(x))
    assert torch.equal(pickle.loads(pickle.dumps(one))(x), one(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gradient_goes_back_through_the_weights_that_whole_numbers_stand_for(dtype: torch.dtype) -> None:
    one, x, grad = layer(), drawn(2, 3, 40).to(dtype).requires_grad_(), drawn(2, 3, 7, seed=5).to(dtype)
    found = one(x)
    assert torch.equal(found, one(x.detach()))
    found.backward(grad)
    scales, wholes = zip(*(whole(row) for row in drawn(7, 40, seed=1).numpy()), strict=True)
    expected = grad.float().numpy() @ (np.array(scales)[:, None] * np.array(wholes))
    assert x.grad is not None
    assert x.grad.dtype == dtype
    np.testing.assert_allclose(x.grad.float().numpy(), expected, rtol=0, atol=1e-5 if dtype == torch.float32 else 0.1)
    assert torch.equal(pickle.loads(pickle.dumps(one))(x), found)


def test_only_plain_linear_layers_are_replaced() -> None:
    class Other(nn.Linear):
        pass

    module = nn.Sequential(nn.Linear(4, 5), nn.Sequential(nn.GELU(), nn.Linear(5, 6, bias=False)), Other(6, 7))
    with torch.no_grad():
        expected = module(drawn(3, 4))
    make_whole(module)
    assert [type(part) for part in module] == [Int8Linear, nn.Sequential, Other]
    with torch.no_grad():
        found = module(drawn(3, 4))
    assert 0 < float((found - expected).norm() / expected.norm()) < 0.03


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_sees_nearly_the_same(family: str) -> None:
    backbone = family_backbone(family)
    pictures = random_clips(6, size=backbone.size)

    def features() -> Tensor:
        with torch.inference_mode():
            tokens = backbone.embed(backbone.normalise(pictures))
            return backbone.read(backbone.walk(tokens, plain_step))

    plain, held = features(), sum(value.numel() for value in backbone.parameters())
    assert not backbone.in_int8
    backbone.store_in_int8()
    assert backbone.in_int8
    whole = features()
    assert 0 < float((whole - plain).norm() / plain.norm()) < 0.05
    assert sum(value.numel() for value in backbone.parameters()) < 0.6 * held  # and the plain weights are gone
    twin = copy.deepcopy(backbone)
    with torch.inference_mode():
        assert torch.equal(twin(pictures), backbone(pictures))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gives_nearly_the_same_gradient(family: str) -> None:
    backbone = family_backbone(family)
    backbone.fuse_attention(False)
    with torch.no_grad():
        tokens = backbone.embed(backbone.normalise(random_clips(3, size=backbone.size)))

    def gradient() -> Tensor:
        begin = tokens.clone().requires_grad_()
        found = backbone.read(backbone.walk(begin, plain_step))
        found.backward(drawn(*found.shape, seed=4).to(found.dtype))
        assert begin.grad is not None
        return begin.grad

    plain = gradient()
    backbone.store_in_int8()
    whole = gradient()
    assert 0 < float((whole - plain).norm() / plain.norm()) < 0.1
