"""Bytes alive are those that a sum by hand gives, however the work is done."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from dualpath.engine.alive import Alive, most_alive

CPU = torch.device("cpu")
ROWS, WIDE, OUT = 10, 6 * 4 * 10, 2 * 4 * 10
"""Of a hidden layer of 6 and an output of 2 in fp32."""


def small() -> tuple[nn.Sequential, torch.Tensor]:
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)), torch.ones(ROWS, 4)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_forward_pass_holds_two_hidden_layers_at_once(mode: Callable[[], torch.no_grad]) -> None:
    model, x = small()
    with mode():
        assert most_alive(lambda: model(x), device=CPU) == max(WIDE + WIDE, WIDE + OUT)
        assert most_alive(lambda: model(x.clone()), device=CPU) == max(x.nbytes + WIDE + WIDE, x.nbytes + WIDE + OUT)
        packed = torch.ops.mkldnn._reorder_linear_weight(torch.ones(6, 4))
        linear = torch.ops.mkldnn._linear_pointwise
        assert most_alive(lambda: linear(x, packed, None, "none", [], ""), device=CPU) == WIDE


def test_a_training_step_by_hand() -> None:
    model, x = small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step() -> None:
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()

    step()  # the first one's gradients are there before the second one begins, and are dropped by it
    found = most_alive(step, device=CPU)
    forward = WIDE + WIDE  # ReLU's input, which nothing keeps, and what it gives
    # Largest is the gradient through ReLU: what ReLU gave, the gradients behind and before it, those of the second layer's
    # weight and bias; and the sum and its gradient, which whoever called backward holds.
    backward = 3 * WIDE + (2 * 6 + 2) * 4 + 4 + 4
    assert found == max(forward, backward)
    assert most_alive(step, device=CPU) == found


def test_views_changes_in_place_and_what_was_there_count_for_nothing() -> None:
    there = torch.zeros(100)
    with Alive(CPU) as alive:
        kept = there.view(10, 10).add_(1).t()
        assert (alive.bytes, alive.most) == (0, 0)
        made = kept * 2
        assert (alive.bytes, alive.most) == (400, 400)
        del made
        assert (alive.bytes, alive.most) == (0, 400)
        kept = torch.ones(50)
        kept = kept + kept
        assert (alive.bytes, alive.most) == (200, 400)
        assert kept.sum() == 100
    assert most_alive(lambda: torch.ones(50), device=torch.device("meta")) == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_it_is_what_the_allocator_hands_out() -> None:
    cuda = torch.device("cuda")
    model = nn.Sequential(nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 1024)).to(cuda)
    x = torch.ones(16384, 1024, device=cuda)

    def step() -> None:
        model.zero_grad()
        model(x).square().sum().backward()

    step()  # the libraries' own work space is there from now on
    model.zero_grad()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    assert most_alive(step, device=cuda) == pytest.approx(torch.cuda.max_memory_allocated() - before, rel=0.05)
