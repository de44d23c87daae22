"""Layers in int8 on CPUs, where whole numbers multiply several times as fast if the chip has VNNI or AMX.

    x --largest value of each token--> s, uint8 --product of whole numbers--> times s and the output's own scale, plus b

Each token has a scale of its own, found when it comes: nothing has to be calibrated on videos beforehand, a token far larger
than the rest (image transformers have such) spoils no other, and what a clip gets does not depend on what is in its batch.

A gradient goes back through the weights that the whole numbers stand for, as if tokens had not been rounded.

int8.c does it where it suits the chip (native.py), an MLP or an attention as a whole; elsewhere oneDNN multiplies (onednn.py).

    n pictures   l tokens   i inputs   o outputs   d width
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dualpath.nn import native, onednn
from dualpath.nn.opaque import Backed
from dualpath.nn.trained import Linear


class Int8Linear(nn.Module):
    """x W' + b with a W of whole numbers and a scale for each output.

    Args:
        weight: W, (outputs, inputs).
        bias: b; None for zero.

    Attributes:
        inputs, outputs: sizes.
        is_native: whether int8.c computes it.
        packed: as its product takes it.
    """

    scales: Tensor
    bias: Tensor

    def __init__(self, weight: Float[Tensor, "o i"], bias: Float[Tensor, " o"] | None) -> None:
        super().__init__()
        self.outputs, self.inputs = weight.shape
        self.is_native = native.suits()
        weight = weight.detach().float()
        scales = onednn.scales_of(weight)
        bias = weight.new_zeros(len(weight)) if bias is None else bias.detach().float()
        whole = (weight / scales[:, None]).round_().to(torch.int8)
        self._hold(self._layout.pack(whole, scales, bias), scales, bias)

    def _hold(self, packed: list[Tensor], scales: Float[Tensor, " o"], bias: Float[Tensor, " o"]) -> None:
        self.packed = packed
        self._backwards: Tensor | None = None
        self.register_buffer("scales", scales, persistent=False)
        self.register_buffer("bias", bias, persistent=False)

    @property
    def _layout(self) -> Any:
        return native if self.is_native else onednn

    @property
    def whole(self) -> Tensor:
        """The whole numbers, (outputs, inputs), int8; a copy, as they lie packed."""
        return self._layout.unpack(self.packed, self.outputs, self.inputs)

    @property
    def weight(self) -> Float[Tensor, "o i"]:
        """W in fp32, a copy: for whoever multiplies with it himself."""
        return self.whole * self.scales[:, None]

    def times(self, factor: float, *, bias: float = 1.0) -> Int8Linear:
        """One with W times `factor` and b times `bias`: exact, as only scales change."""
        scales, b = self.scales * factor, self.bias * bias
        return self._like(self._layout.repack(self.packed, scales, b), scales, b)

    def part(self, first: int, last: int | None = None) -> Int8Linear:
        """One that has some of the outputs."""
        whole, scales, bias = self.whole[first:last], self.scales[first:last], self.bias[first:last]
        return self._like(self._layout.pack(whole, scales, bias), scales, bias)

    def forward(self, x: Float[Tensor, "*n i"]) -> Float[Tensor, "*n o"]:
        """In the type of x."""
        if _wants_gradient(x):
            return Backed.apply(x, self)  # pyright: ignore[reportReturnType]
        if self.is_native:
            return native.native_linear(x.float(), self.packed, self.outputs).to(x.dtype)
        return onednn.linear(x, self.packed).to(x.dtype)

    def back(self, grad: Float[Tensor, "*n o"]) -> Float[Tensor, "*n i"]:
        """The gradient of what came out to that of what went in; the first one makes a copy of the weights to keep."""
        if self._backwards is None or self._backwards.dtype != grad.dtype:
            self._backwards = self.weight.to(grad.dtype)
        return grad @ self._backwards

    def _like(self, packed: list[Tensor], scales: Tensor, bias: Tensor) -> Int8Linear:
        other = Int8Linear.__new__(Int8Linear)
        nn.Module.__init__(other)
        other.outputs, other.inputs, other.is_native = len(scales), self.inputs, self.is_native
        other._hold(packed, scales, bias)
        return other

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"packed": self.whole, "_backwards": None}  # what is packed cannot always be copied or sent

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state | {"is_native": native.suits()})
        self.packed = self._layout.pack(state["packed"], self.scales, self.bias)


def make_whole(module: nn.Module) -> None:
    """Puts an Int8Linear in the place of each plain linear layer below a module."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear) and type(child) in (nn.Linear, Linear):
            setattr(module, name, Int8Linear(child.weight, child.bias))
        else:
            make_whole(child)


def mlp(x: Float[Tensor, "*n i"], enter: Any, leave: Any, activation: str) -> Float[Tensor, "*n o"] | None:
    """Two layers with an activation between them, in the type of x; None where the layers are to be called one by one.

    Args:
        x: tokens.
        enter: the first layer, of any kind.
        leave: the second one.
        activation: "silu", or GELU's kind: "none" or "tanh".
    """
    if not (_is_native(enter) and _is_native(leave)) or _wants_gradient(x):
        return None
    sizes = enter.outputs, leave.outputs
    return native.native_mlp(x.float(), enter.packed, leave.packed, *sizes, activation).to(x.dtype)


def attention(x: Float[Tensor, "n l d"], qkv: Any, heads: int, scale: float) -> Float[Tensor, "n l e"] | None:
    """What tokens find in each other; None where queries, keys and values are to be made and met one by one.

    That is also where somebody looks on at torch's functions (nn/watch.py), to whom int8.c would show nothing.

    Args:
        x: normed tokens.
        qkv: the layer of queries, keys and values, of any kind.
        heads: h.
        scale: of the scores.
    """
    looked_on = torch._C._is_torch_function_mode_enabled()
    if not _is_native(qkv) or qkv.outputs != 3 * heads * native.PANEL or looked_on or _wants_gradient(x):
        return None
    return native.native_attention(x.float(), qkv.packed, heads, scale).to(x.dtype)


def _wants_gradient(x: Tensor) -> bool:
    return torch.is_grad_enabled() and x.requires_grad


def _is_native(layer: Any) -> bool:
    return isinstance(layer, Int8Linear) and layer.is_native
