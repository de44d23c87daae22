"""Products of whole numbers by oneDNN, which torch carries: for processors that int8.c does not suit.

Scaling and rounding are torch's operations, each a pass over memory.

    n tokens   i inputs   o outputs
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int8, UInt8
from torch import Tensor

from dualpath.nn.opaque import opaque

LARGEST = 127
"""Values become whole numbers from -127 to 127; those of tokens are told around ZERO, as the chip's instruction wants them."""
ZERO = 128


def pack(whole: Int8[Tensor, "o i"], scales: Float[Tensor, " o"], bias: Float[Tensor, " o"]) -> list[Tensor]:
    """A layer with its whole numbers in oneDNN's own layout."""
    packed = torch.ops.onednn.qlinear_prepack(whole.contiguous(), None)
    return [packed, scales, bias, torch.zeros_like(scales, dtype=torch.int32)]


def repack(packed: list[Tensor], scales: Float[Tensor, " o"], bias: Float[Tensor, " o"]) -> list[Tensor]:
    """The same whole numbers, in the same memory, with other scales and another bias."""
    return [packed[0], scales, bias, packed[3]]


def unpack(packed: list[Tensor], outputs: int, inputs: int) -> Int8[Tensor, "o i"]:
    """The whole numbers; a copy."""
    del outputs, inputs
    return packed[0].to_dense().t()


def linear(x: Float[Tensor, "*n i"], packed: list[Tensor]) -> Float[Tensor, "*n o"]:
    """x W' + b, in fp32."""
    weight, scales, bias, zeros = packed
    rows, scale = to_whole(x.reshape(-1, x.shape[-1]))
    product = whole_linear(rows, weight, scales, zeros)
    return torch.addcmul(bias, product, scale, out=product).unflatten(0, x.shape[:-1])


def to_whole(x: Float[Tensor, "n i"]) -> tuple[UInt8[Tensor, "n i"], Float[Tensor, "n 1"]]:
    """Tokens as whole numbers around ZERO, and the scale of each: x is (whole - ZERO) times it, within half of it."""
    scale = scales_of(x)[:, None]
    whole = torch.mul(x, scale.reciprocal()).round_().to(torch.int8)
    return whole.view(torch.uint8).add_(ZERO), scale  # beyond 255 it begins anew, so this adds; to uint8 torch converts slowly


def scales_of(rows: Float[Tensor, "n i"]) -> Float[Tensor, " n"]:
    """What LARGEST stands for in each row, over LARGEST; never zero."""
    largest = torch.maximum(rows.amax(dim=1), rows.amin(dim=1).neg_()).float()
    return largest.div_(LARGEST).clamp_(min=torch.finfo(torch.float32).tiny)


@opaque("(Tensor rows, Tensor packed, Tensor scales, Tensor zeros) -> Tensor")
def whole_linear(rows: Tensor, packed: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
    """(rows - ZERO) W' times a scale for each output, in fp32, with what `pack` made of W."""
    return torch.ops.onednn.qlinear_pointwise(
        rows, 1.0, ZERO, packed, scales, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )
