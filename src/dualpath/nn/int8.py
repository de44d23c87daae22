"""Linear layers in int8, for inference on CPUs: whole numbers multiply several times as fast where the chip has VNNI or AMX.

    x --largest value of each token--> s, uint8 --product of whole numbers--> times s and the output's own scale, plus b

Each token has a scale of its own, found when it comes: nothing has to be calibrated on videos beforehand, a token far larger
than the rest (image transformers have such) spoils no other, and what a clip gets does not depend on what is in its batch.

    n tokens   i inputs   o outputs
"""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from dualpath.errors import DualPathError
from dualpath.nn.opaque import opaque

LARGEST = 127
"""Values become whole numbers from -127 to 127; those of tokens are told around ZERO, as the chip's instruction wants them."""
ZERO = 128


class Int8Linear(nn.Module):
    """x W' + b with a W of whole numbers and a scale for each output.

    Args:
        weight: W, (outputs, inputs).
        bias: b; None for zero.
    """

    scales: Tensor
    bias: Tensor
    _zeros: Tensor

    def __init__(self, weight: Float[Tensor, "o i"], bias: Float[Tensor, " o"] | None) -> None:
        super().__init__()
        weight = weight.detach().float()
        scales = _scales(weight)
        bias = weight.new_zeros(len(weight)) if bias is None else bias.detach().float()
        self._hold(_pack((weight / scales[:, None]).round_().to(torch.int8)), scales, bias)

    def _hold(self, packed: Tensor, scales: Float[Tensor, " o"], bias: Float[Tensor, " o"]) -> None:
        self._packed = packed
        self.register_buffer("scales", scales, persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        self.register_buffer("_zeros", torch.zeros_like(scales, dtype=torch.int32), persistent=False)

    @property
    def whole(self) -> Tensor:
        """The whole numbers, (outputs, inputs), int8; a copy, as they lie packed."""
        return self._packed.to_dense().t()

    @property
    def weight(self) -> Float[Tensor, "o i"]:
        """W in fp32, a copy: for whoever multiplies with it himself."""
        return self.whole * self.scales[:, None]

    def times(self, factor: float, *, bias: float = 1.0) -> Int8Linear:
        """One with W times `factor` and b times `bias`: exact, as only scales change."""
        return self._like(self._packed, self.scales * factor, self.bias * bias)

    def part(self, first: int, last: int | None = None) -> Int8Linear:
        """One that has some of the outputs."""
        return self._like(_pack(self.whole[first:last]), self.scales[first:last], self.bias[first:last])

    def forward(self, x: Float[Tensor, "*n i"]) -> Float[Tensor, "*n o"]:
        """In the type of x.

        Raises:
            DualPathError: a gradient is wanted.
        """
        if torch.is_grad_enabled() and x.requires_grad:
            self.back(x)
        rows, scale = to_whole(x.reshape(-1, x.shape[-1]))
        product = whole_linear(rows, self._packed, self.scales, self._zeros)
        return torch.addcmul(self.bias, product, scale, out=product).to(x.dtype).unflatten(0, x.shape[:-1])

    def back(self, grad: Float[Tensor, "*n o"]) -> NoReturn:
        """There is no way back: raises DualPathError."""
        raise DualPathError("weights in int8 give no gradients; load the model with precision bf16 or fp32")

    def _like(self, packed: Tensor, scales: Tensor, bias: Tensor) -> Int8Linear:
        other = Int8Linear.__new__(Int8Linear)
        nn.Module.__init__(other)
        other._hold(packed, scales, bias)
        return other

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_packed": self.whole.contiguous()}  # what is packed cannot be copied or sent

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state | {"_packed": _pack(state["_packed"])})


def make_whole(module: nn.Module) -> None:
    """Puts an Int8Linear in the place of each plain linear layer below a module."""
    for name, child in module.named_children():
        if type(child) is nn.Linear:
            setattr(module, name, Int8Linear(child.weight, child.bias))
        else:
            make_whole(child)


def to_whole(x: Float[Tensor, "n i"]) -> tuple[UInt8[Tensor, "n i"], Float[Tensor, "n 1"]]:
    """Tokens as whole numbers around ZERO, and the scale of each: x is (whole - ZERO) times it, within half of it."""
    scale = _scales(x)[:, None]
    whole = torch.mul(x, scale.reciprocal()).round_().to(torch.int8)
    return whole.view(torch.uint8).add_(ZERO), scale  # beyond 255 it begins anew, so this adds; to uint8 torch converts slowly


def _scales(rows: Float[Tensor, "n i"]) -> Float[Tensor, " n"]:
    """What LARGEST stands for in each row, over LARGEST; never zero."""
    largest = torch.maximum(rows.amax(dim=1), rows.amin(dim=1).neg_()).float()
    return largest.div_(LARGEST).clamp_(min=torch.finfo(torch.float32).tiny)


@opaque("(Tensor rows, Tensor packed, Tensor scales, Tensor zeros) -> Tensor")
def whole_linear(rows: Tensor, packed: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
    """(rows - ZERO) W' times a scale for each output, in fp32, with what `_pack` made of W."""
    return torch.ops.onednn.qlinear_pointwise(
        rows, 1.0, ZERO, packed, scales, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )


def _pack(whole: Tensor) -> Tensor:
    """In oneDNN's own layout."""
    return torch.ops.onednn.qlinear_prepack(whole.contiguous(), None)
