"""Which matrix products a model does: counted while it runs, in whatever way it does them.

    x @ w, linear, attention, patch embedding --watch--> {Product(batch, m, k, n): how often}

A product is b independent ones of (m, k) by (k, n): b m k n multiply-adds, each counted once. Attention is two products
for each head, forwards; kernels that hide what they do are counted by what they must do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dualpath.nn import native

aten = torch.ops.aten


class Product(NamedTuple):
    """b products of (m, k) by (k, n); `weights`: the second factor is the same at every call, for b = 1."""

    b: int
    m: int
    k: int
    n: int
    weights: bool = False

    @property
    def macs(self) -> int:
        """Multiply-adds."""
        return self.b * self.m * self.k * self.n


Products = Mapping[Product, int]


def gmacs(products: Products) -> float:
    """All multiply-adds in 1e9."""
    return sum(product.macs * times for product, times in products.items()) / 1e9


def watch(work: Callable[[], object]) -> dict[Product, int]:
    """The products of one call of `work`, which must not be compiled."""
    with _Watch() as seen:
        work()
    return dict(seen.found)


class _Watch(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[Product] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        counted = _COUNTED.get(func.overloadpacket)
        if counted is None:
            with self:  # under inference_mode torch hands over what is made of other operations as it is
                parts = func.decompose(*args, **(kwargs or {}))
            if parts is not NotImplemented:
                return parts
        results = func(*args, **(kwargs or {}))
        if counted is not None:
            self.found.update(counted(args, results))
        return results


def _mm(args: Sequence[Any], out: Any) -> list[Product]:
    del out
    (m, k), n = args[0].shape, args[1].shape[-1]
    return [Product(1, m, k, n, weights=True)]


def _bmm(args: Sequence[Any], out: Any) -> list[Product]:
    del out
    (b, m, k), n = args[0].shape, args[1].shape[-1]
    return [Product(b, m, k, n)]


def _linear(args: Sequence[Any], out: Any) -> list[Product]:
    del out
    x, weight = args[0], args[1]
    return [Product(1, prod(x.shape[:-1]), x.shape[-1], weight.shape[0], weights=True)]


def _whole_linear(args: Sequence[Any], out: Any) -> list[Product]:
    """In int8; its weights lie turned."""
    del out
    x, (k, n) = args[0], args[3].shape
    return [Product(1, prod(x.shape[:-1]), k, n, weights=True)]


def _native_linear(args: Sequence[Any], out: Any) -> list[Product]:
    del out
    x, _, outputs = args
    return [Product(1, prod(x.shape[:-1]), x.shape[-1], outputs, weights=True)]


def _native_mlp(args: Sequence[Any], out: Any) -> list[Product]:
    del out
    x, _, _, inner, outputs, _ = args
    rows = prod(x.shape[:-1])
    return [Product(1, rows, x.shape[-1], inner, weights=True), Product(1, rows, inner, outputs, weights=True)]


def _native_attention(args: Sequence[Any], out: Any) -> list[Product]:
    x, _, heads, _ = args
    pictures, tokens, width = out.shape
    b, each = pictures * heads, width // heads
    qkv = Product(1, pictures * tokens, x.shape[-1], 3 * width, weights=True)
    return [qkv, Product(b, tokens, each, tokens), Product(b, tokens, tokens, each)]


def _convolution(args: Sequence[Any], out: Any) -> list[Product]:
    """As the product of all patches with the kernels; groups are products of their own."""
    weight, groups = args[1], args[8]
    places = out.shape[0] * prod(out.shape[2:])
    size = Product(groups, places, prod(weight.shape[1:]), weight.shape[0] // groups, weights=groups == 1)
    return [size]


def _convolution_backward(args: Sequence[Any], out: Any) -> list[Product]:
    grad, weight, groups = args[0], args[2], args[9]
    places, kernel = grad.shape[0] * prod(grad.shape[2:]), prod(weight.shape[1:])
    each = weight.shape[0] // groups
    found = [Product(groups, places, each, kernel, weights=groups == 1)] if out[0] is not None else []
    return found + ([Product(groups, kernel, places, each)] if out[1] is not None else [])


def _attention(args: Sequence[Any], out: Any) -> list[Product]:
    """softmax(q k') v of every head."""
    del out
    query, key, value = args[:3]
    heads, queries, width = prod(query.shape[:-2]), query.shape[-2], query.shape[-1]
    keys = key.shape[-2]
    return [Product(heads, queries, width, keys), Product(heads, queries, keys, value.shape[-1])]


def _attention_backward(args: Sequence[Any], out: Any) -> list[Product]:
    """Five products: the scores once more, and gradients of values, weights, queries and keys."""
    del out
    query, key, value = args[1:4]
    heads, queries, width, keys = prod(query.shape[:-2]), query.shape[-2], query.shape[-1], key.shape[-2]
    across = value.shape[-1]
    return [
        Product(heads, queries, width, keys),
        Product(heads, keys, queries, across),
        Product(heads, queries, across, keys),
        Product(heads, queries, keys, width),
        Product(heads, keys, queries, width),
    ]


_COUNTED: dict[Any, Callable[[Sequence[Any], Any], list[Product]]] = {
    aten.mm: _mm,
    aten.addmm: lambda args, out: _mm(args[1:], out),
    aten.bmm: _bmm,
    aten.baddbmm: lambda args, out: _bmm(args[1:], out),
    aten.linear: _linear,
    aten.convolution: _convolution,
    aten.convolution_backward: _convolution_backward,
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention: _attention,
    aten._scaled_dot_product_efficient_attention: _attention,
    aten._scaled_dot_product_cudnn_attention: _attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    aten._scaled_dot_product_flash_attention_backward: _attention_backward,
    aten._scaled_dot_product_efficient_attention_backward: _attention_backward,
    aten._scaled_dot_product_cudnn_attention_backward: _attention_backward,
    native.OPERATIONS.native_linear: _native_linear,
    native.OPERATIONS.native_mlp: _native_mlp,
    native.OPERATIONS.native_attention: _native_attention,
}
if torch.backends.mkldnn.is_available():
    _COUNTED[torch.ops.mkldnn._linear_pointwise] = _linear
    _COUNTED[torch.ops.onednn.qlinear_pointwise] = _whole_linear
