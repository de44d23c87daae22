"""Layers of the trained parts: kept in fp32, computed in the type of what they are given.

Frozen weights and tokens may be in bf16; a step then casts a few small matrices and never a frozen one.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class Linear(nn.Linear):
    """x W' + b in the type of x."""

    def forward(self, input: Float[Tensor, "*n i"]) -> Float[Tensor, "*n o"]:
        """See torch."""
        return F.linear(input, self.weight.to(input.dtype), self.bias.to(input.dtype))


class Norm(nn.LayerNorm):
    """A layer norm in the type of x."""

    def forward(self, input: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        """See torch."""
        return F.layer_norm(input, self.normalized_shape, self.weight.to(input.dtype), self.bias.to(input.dtype), self.eps)


class Conv2d(nn.Conv2d):
    """A convolution in the type of x."""

    def forward(self, input: Float[Tensor, "n c h w"]) -> Float[Tensor, "n o y x"]:
        """See torch."""
        assert self.bias is not None
        return self._conv_forward(input, self.weight.to(input.dtype), self.bias.to(input.dtype))


class Conv3d(nn.Conv3d):
    """A convolution in the type of x."""

    def forward(self, input: Float[Tensor, "n c t h w"]) -> Float[Tensor, "n o u y x"]:
        """See torch."""
        assert self.bias is not None
        return self._conv_forward(input, self.weight.to(input.dtype), self.bias.to(input.dtype))
