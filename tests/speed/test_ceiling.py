"""Every way of doing a product gives the product."""

from __future__ import annotations

import pytest
import torch

from dualpath.speed import ceiling
from dualpath.speed.ceiling import best, describe_speed, packed_linear, products_alone
from dualpath.speed.products import Product, watch


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_weights_give_the_same(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(5, 48).to(dtype), torch.randn(32, 48).to(dtype)
    expected = x.double() @ weight.double().T
    assert packed_linear(x, weight)().double() == pytest.approx(expected, rel=2e-2, abs=0.2)


def test_in_int8_weights_are_multiplied_as_whole_numbers() -> None:
    weights, other = Product(1, 6, 48, 32, weights=True), Product(4, 6, 8, 10)
    for product in (weights, other):
        for way in ceiling._ways(product, torch.int8, torch.device("cpu")):  # any of them may be the fastest
            result = way()
            assert isinstance(result, torch.Tensor)
            assert result.numel() == product.b * product.m * product.n
    assert watch(ceiling.int8_linear(6, 48, 32)) == {weights: 1}
    products_alone(products=[[*weights[:4], 1, 1], [*other[:4], 0, 1]], dtype="int8", clips=1, device="cpu").step()


@pytest.mark.parametrize("product", [Product(1, 6, 48, 32, weights=True), Product(1, 6, 48, 32), Product(4, 6, 8, 10)])
def test_the_best_way_does_that_product(product: Product) -> None:
    found = best(product, torch.float32, torch.device("cpu"))
    result = found()
    assert isinstance(result, torch.Tensor)
    assert result.numel() == product.b * product.m * product.n


def test_products_alone_do_all_of_them() -> None:
    rows = [[3, 4, 5, 6, 0, 2]]
    work = products_alone(products=rows, dtype="float32", clips=7, device="cpu")
    assert work.clips == 7
    assert watch(work.step) == {Product(3, 4, 5, 6): 2} == dict(work.products)


def test_the_machine_is_told_with_its_best_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceiling, "_time", lambda way, device: (way(), 0.5)[1])
    monkeypatch.setattr(ceiling, "COPIED", 2_000_000_000 // 1000)
    monkeypatch.setattr(ceiling, "describe_machine", lambda device: "a box")
    assert describe_speed(torch.device("cpu")) == "a box; its best copy moves 0.008 GB/s"
