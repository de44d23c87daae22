"""What stands in for torch's kernels where tensors have a shape and a type but no values (torch's meta device).

On that device a model of any size is built and run in a moment: its cost can be told before there are weights, videos or
a GPU. Two things are missing there which decide how much memory a training takes, and one takes long:

    fused_attention   scaled_dot_product_attention as one kernel, which keeps no scores
    Autocast          torch.autocast, which refuses this device
    outlined          models built without drawing values that are none
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

# Of the functions that torch lists for autocast on CUDA, those that image transformers use.
_LOW = {
    *(F.linear, F.conv1d, F.conv2d, F.conv3d, F.scaled_dot_product_attention),
    *(torch.matmul, torch.mm, torch.bmm, torch.addmm, torch.baddbmm, torch.einsum),
    *(Tensor.matmul, Tensor.__matmul__, Tensor.mm, Tensor.bmm),
}
_HIGH = {F.layer_norm, F.group_norm, F.softmax, F.log_softmax, F.cross_entropy, torch.softmax, Tensor.softmax, torch.norm}


_FILLING = ("uniform_", "normal_", "trunc_normal_", "erfinv_", "mul_", "div_", "add_", "clamp_", "zero_", "fill_")


@contextmanager
def outlined() -> Iterator[None]:
    """What is built meanwhile has shapes and no values; nothing is computed, and none of the compiler is imported for it."""
    with torch.device("meta"), _Unfilled():
        yield


class _Unfilled(TorchFunctionMode):
    """Leaves out what only changes a tensor's values, which torch traces in Python where there are none: erfinv_ takes 3 s."""

    def __torch_function__(self, func: Any, types: Sequence[type], args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        given = args[0] if args else kwargs.get("tensor")  # as torch.nn.init names it
        name = getattr(func, "__name__", "")
        fills = name in _FILLING or (getattr(func, "__module__", "") == "torch.nn.init" and name.endswith("_"))
        return given if fills and isinstance(given, Tensor) and given.is_meta else func(*args, **kwargs)


@contextmanager
def fused_attention() -> Iterator[None]:
    """Attention that is differentiated keeps what the fused kernels keep: queries, keys, values, result and a sum a row.

    Left to itself the device takes the plain products apart, scores and all, as no GPU does.
    """
    with torch.library._scoped_library("aten", "IMPL") as library:
        library.impl("scaled_dot_product_attention", _fused, "AutogradMeta")
        yield


def _fused(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    assert not enable_gqa  # no image transformer shares keys between heads
    if attn_mask is not None:  # as a GPU does: the kernel below does not differentiate it (Swin's trained biases)
        efficient = torch.ops.aten._scaled_dot_product_efficient_attention
        mask = attn_mask.expand(*query.shape[:-1], key.shape[-2])
        return efficient(query, key, value, mask, True, dropout_p, is_causal, scale=scale)[0]
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return flash(query, key, value, dropout_p, is_causal, scale=scale)[0]


class Autocast(TorchFunctionMode):
    """Casts what goes into matrix products to `dtype` and what goes into norms to fp32, as torch.autocast does on CUDA."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        kwargs = kwargs or {}
        if func in _LOW or func in _HIGH:
            dtype = self.dtype if func in _LOW else torch.float32
            args = tuple(_cast(value, dtype) for value in args)
            kwargs = {name: _cast(value, dtype) for name, value in kwargs.items()}
        return func(*args, **kwargs)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
