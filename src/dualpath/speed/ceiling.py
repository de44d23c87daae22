"""The chip's own best: the matrix products of a model and nothing else, each in the fastest way at hand.

A model that reaches 100 % of this does its norms, activations, softmaxes and additions for nothing. The factors lie
ready in memory, in the layout that each way likes best: weights packed where the chip's library has a packed form.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from dualpath.hardware import describe_machine
from dualpath.nn import native
from dualpath.nn.onednn import whole_linear
from dualpath.speed.products import Product
from dualpath.speed.worker import Work, settle

TRIES = 5
"""Runs of each way when the best one is chosen."""
COPIED = 1 << 29
"""Bytes."""


def products_alone(*, products: Sequence[Sequence[int]], dtype: str, clips: int, device: str) -> Work:
    """A candidate for `turns`: what it does in a step are the products.

    Args:
        products: rows of (b, m, k, n, weights, times).
        dtype: torch's name of a type; in int8 products of two computed factors are done in the fastest of int8 (where the
            library has layers of its own), fp32 and bf16.
        clips: as many as the step that they were counted in.
        device: torch's name of it.
    """
    place, kind = torch.device(device), getattr(torch, dtype)
    chosen = [(best(Product(*row[:4], weights=bool(row[4])), kind, place), row[5]) for row in products]

    def step() -> None:
        for work, times in chosen:
            for _ in range(times):
                work()

    counted = {Product(*row[:4], weights=bool(row[4])): int(row[5]) for row in products}
    return Work(step, clips=clips, products=counted)


def best(product: Product, dtype: torch.dtype, device: torch.device) -> Callable[[], object]:
    """The fastest of the ways of doing one product here."""
    ways = list(_ways(product, dtype, device))
    with torch.inference_mode():
        return min(ways, key=lambda way: _time(way, device))


def best_copy(device: torch.device) -> float:
    """How much a copy of a tensor too large for any cache moves, in 1e9 bytes a second: read once and written once."""
    source = torch.zeros(COPIED, dtype=torch.uint8, device=device)
    target = torch.ones_like(source)
    return 2 * COPIED / 1e9 / _time(lambda: target.copy_(source), device)


def describe_speed(device: torch.device) -> str:
    """The machine in words, with what memory gives."""
    return f"{describe_machine(device)}; its best copy moves {best_copy(device):.3g} GB/s"


def _time(way: Callable[[], object], device: torch.device) -> float:
    way()
    taken = []
    for _ in range(TRIES):
        settle(device)
        began = time.perf_counter()
        way()
        settle(device)
        taken.append(time.perf_counter() - began)
    return min(taken)


def _ways(product: Product, dtype: torch.dtype, device: torch.device) -> list[Callable[[], object]]:
    if dtype == torch.int8:
        own = [int8_product(*product[:4])] if native.suits() else []
        if product.weights:
            return [*own, int8_linear(*product[1:4])]
        return [*own, *_ways(product, torch.float32, device), *_ways(product, torch.bfloat16, device)]
    b, m, k, n = product[:4]
    left = torch.randn(b, m, k, device=device).to(dtype)
    right = torch.randn(b, k, n, device=device).to(dtype)
    out = torch.empty(b, m, n, device=device, dtype=dtype)
    turned = right.transpose(1, 2).contiguous().transpose(1, 2)
    if b > 1:
        return [lambda: torch.bmm(left, right, out=out), lambda: torch.bmm(left, turned, out=out)]
    one, flat = left[0], out[0]
    ways: list[Callable[[], object]] = [
        lambda: torch.mm(one, right[0], out=flat),
        lambda: torch.mm(one, turned[0], out=flat),
    ]
    if product.weights and device.type == "cpu":
        with suppress(RuntimeError, AttributeError):  # not every build has oneDNN
            ways.append(packed_linear(one, turned[0].t()))
    return ways


def packed_linear(x: Tensor, weight: Tensor) -> Callable[[], Tensor]:
    """x @ weight.T with the weights in oneDNN's own layout.

    Args:
        x: (m, k).
        weight: (n, k).
    """
    packed: Any = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), x.shape[0])
    return lambda: torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")


def int8_product(b: int, m: int, k: int, n: int) -> Callable[[], Tensor]:
    """b products of (m, k) by (k, n) in int8 by the library's own tiles, to whole numbers; filled up as they need."""
    inputs, outputs = k + -k % native.PANEL, n + -n % native.PANEL
    x = torch.randint(0, 256, (b, m, inputs), dtype=torch.uint8)
    packed = torch.randint(-127, 128, (b, inputs * outputs), dtype=torch.int8)
    out = torch.empty(b, m, outputs, dtype=torch.int32)

    def multiply() -> Tensor:
        native.whole_products(x, packed, outputs, out)
        return out[..., :n]

    return multiply


def int8_linear(m: int, k: int, n: int) -> Callable[[], Tensor]:
    """(m, k) by (k, n) in int8, to fp32."""
    packed: Any = torch.ops.onednn.qlinear_prepack(torch.randint(-127, 128, (n, k), dtype=torch.int8), None)
    x, scales, zeros = torch.randint(1, 256, (m, k), dtype=torch.uint8), torch.ones(n), torch.zeros(n, dtype=torch.int32)
    return lambda: whole_linear(x, packed, scales, zeros)
