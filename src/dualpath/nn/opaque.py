"""Functions that torch's compiler calls as they are.

It knows oneDNN's products, and of those it demands that packed weights are constants of what it compiles, which a model's
weights are not. Under a name that it does not know the same product is just called.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Operation = TypeVar("Operation", bound=Callable[..., Tensor])

_LIBRARY = torch.library.Library("dualpath", "DEF")


def opaque(schema: str, *, like: Callable[..., Tensor] | None = None) -> Callable[[Operation], Operation]:
    """Makes a function one that compiled code calls; code that is not compiled calls it directly, at no cost.

    Args:
        schema: its arguments and its result in torch's words, "(Tensor x, Tensor? bias) -> Tensor".
        like: for a function that does not consist of torch's operations: gives an empty tensor like its result. Such a one
            always runs as an operation, so that whoever counts operations sees it (speed/products.py).
    """

    def wrap(function: Operation) -> Operation:
        name = function.__name__
        _LIBRARY.define(name + schema)
        _LIBRARY.impl(name, function, "CompositeExplicitAutograd" if like is None else "CPU")
        operation = getattr(torch.ops.dualpath, name)
        if like is not None:
            _LIBRARY.impl(name, like, "Meta")
            return wraps(function)(lambda *args: operation(*args))  # pyright: ignore[reportReturnType]

        @wraps(function)
        def run(*args: object) -> Tensor:
            return operation(*args) if torch.compiler.is_compiling() else function(*args)

        return run  # pyright: ignore[reportReturnType]

    return wrap


class Backed(torch.autograd.Function):
    """A layer of operations that have no way back of their own: its `back` gives the gradient of its input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Any) -> Tensor:
        ctx.layer = layer
        return layer(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return ctx.layer.back(grads[0]), None
