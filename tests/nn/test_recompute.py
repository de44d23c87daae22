"""Norms are made again in the backward pass: the same gradients, and nothing else is taken for them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualpath.nn.layer import Layer
from dualpath.nn.recompute import Recompute
from tiny import tiny_backbone


class Counted(nn.LayerNorm):
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x)


def test_a_norm_is_made_again_and_its_gradients_are_the_same() -> None:
    norm, x = Counted(6), torch.randn(4, 5, 6, requires_grad=True)
    weight = torch.randn(3, 6, requires_grad=True)

    def gradients(*, again: bool) -> tuple[Tensor, ...]:
        recompute = Recompute()
        with recompute:
            normed = recompute.normed(norm, x) if again else norm(x)
            loss = F.linear(normed, weight).square().sum() + normed.sum()
        del normed
        return torch.autograd.grad(loss, (x, weight))

    plain = gradients(again=False)
    assert norm.calls == 1
    again = gradients(again=True)
    assert norm.calls == 3  # forwards, and once more backwards
    assert all(torch.equal(one, other) for one, other in zip(plain, again, strict=True))


def test_what_is_no_such_norm_is_kept_as_it_is() -> None:
    norm, x = Counted(6), torch.randn(4, 6, requires_grad=True)
    other = torch.randn(6, 4, requires_grad=True)
    with (recompute := Recompute()):
        normed = recompute.normed(norm, x)
        turned = (normed.t() * other).sum()  # the same memory in another order
        part = (normed[1:] * other.t()[1:]).sum()  # less of it
        changed = (normed * 2).square().sum()
    expected = torch.autograd.grad(((norm(x).t() + F.pad(norm(x)[1:], (0, 0, 1, 0)).t()) * other).sum(), other)[0]
    found = torch.autograd.grad(turned + part + changed, other)[0]
    torch.testing.assert_close(found, expected)


def test_memory_that_was_given_back_is_nobodys() -> None:
    norm = Counted(64)
    with (recompute := Recompute()):
        for _ in range(20):  # the allocator hands the same memory out again
            x = torch.randn(8, 64, requires_grad=True)
            recompute.normed(norm, x)
            other, weight = torch.randn(8, 64), torch.randn(3, 64, requires_grad=True)
            found = torch.autograd.grad(F.linear(other, weight).sum(), weight)[0]
            torch.testing.assert_close(found, other.sum(dim=0).expand(3, -1))


@pytest.mark.parametrize(
    ("checkpointing", "grad", "expected"), [(False, True, True), (True, True, False), (False, False, False)]
)
def test_the_backbone_does_so_when_it_learns(checkpointing: bool, grad: bool, expected: bool) -> None:
    backbone, seen = tiny_backbone(depth=2), []
    backbone.gradient_checkpointing = checkpointing

    def step(layer: Layer, part: None, tokens: Tensor) -> Tensor:
        del part
        seen.append(layer.recompute is not None)
        return tokens

    with torch.set_grad_enabled(grad):
        backbone.walk(torch.randn(1, 17, backbone.width), step)
    assert seen == [expected] * 2
