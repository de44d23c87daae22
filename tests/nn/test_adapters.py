"""Adapters and the classifier: sizes, the fresh start, the literal formula, dtypes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dualpath.nn.adapters import Adapter, BlockAdapters, Classifier
from tiny import randomise


def gelu(x: Tensor) -> Tensor:
    return torch.tensor([v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x.flatten().tolist()]).reshape(x.shape)


def tokens(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("d", "b"), [(24, 6), (768, 128), (7, 1)])
def test_size(d: int, b: int) -> None:
    assert sum(value.numel() for value in Adapter(d, b).parameters()) == 2 * d * b + b + d
    assert sum(value.numel() for value in BlockAdapters(d, b).parameters()) == 2 * (2 * d * b + b + d)


def test_sizes_of_the_paper() -> None:
    for d, depth, total in ((768, 12, 9_480_192), (1024, 24, 25_276_416)):
        one = sum(value.numel() for value in BlockAdapters(d, 128).parameters())
        assert 2 * depth * one == total


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_fresh_adapter_adds_exactly_nothing(dtype: torch.dtype) -> None:
    adapter = Adapter(24, 6)
    assert torch.equal(adapter(100 * tokens(3, 5, 24).to(dtype)), torch.zeros(3, 5, 24, dtype=dtype))


def test_the_start_is_kaiming_uniform_and_zeros() -> None:
    torch.manual_seed(0)
    adapter = Adapter(256, 128)
    bound = math.sqrt(6 / ((1 + 5) * 256))  # gain sqrt(2 / (1 + a^2)), a = sqrt 5, fan_in 256
    assert adapter.down.weight.abs().max() <= bound
    assert adapter.down.weight.abs().max() > 0.99 * bound
    assert adapter.down.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    for value in (adapter.down.bias, adapter.up.weight, adapter.up.bias):
        assert not value.any()


def test_literal_formula() -> None:
    adapter, z = Adapter(24, 6), tokens(3, 5, 24)
    randomise(adapter)
    w = adapter.state_dict()
    expected = torch.zeros(3, 5, 24)
    for i in range(3):
        for j in range(5):
            inner = gelu(w["down.weight"] @ z[i, j] + w["down.bias"])
            expected[i, j] = w["up.weight"] @ inner + w["up.bias"]
    with torch.no_grad():
        torch.testing.assert_close(adapter(z), expected, atol=1e-6, rtol=1e-5)
    assert expected.abs().min() > 0


def test_bf16_tokens_are_computed_in_bf16_with_fp32_weights_and_gradients() -> None:
    adapter, z = Adapter(24, 6), tokens(3, 5, 24).bfloat16().requires_grad_()
    randomise(adapter)
    out = adapter(z)
    assert out.dtype == torch.bfloat16
    out.float().square().sum().backward()
    assert z.grad is not None
    assert z.grad.dtype == torch.bfloat16
    for value in adapter.parameters():
        assert value.dtype == torch.float32
        assert value.grad is not None
        assert value.grad.dtype == torch.float32
        assert value.grad.abs().max() > 0
    twin = Adapter(24, 6).bfloat16()
    twin.load_state_dict(adapter.state_dict())
    assert torch.equal(out, twin(z))  # all in bf16, not fp32 rounded at the end
    assert not torch.equal(out, adapter(z.float()).bfloat16())


def test_classifier_literally_and_in_fp32() -> None:
    head, features = Classifier(8, 5, 3), tokens(2, 8).bfloat16()
    w = head.state_dict()
    assert {name: tuple(value.shape) for name, value in w.items()} == {
        "hidden.weight": (5, 8), "hidden.bias": (5,), "out.weight": (3, 5), "out.bias": (3,),
    }  # fmt: skip
    expected = torch.stack(
        [w["out.weight"] @ gelu(w["hidden.weight"] @ row + w["hidden.bias"]) + w["out.bias"] for row in features.float()]
    )
    with torch.no_grad():
        logits = head(features)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected, atol=1e-6, rtol=1e-5)
