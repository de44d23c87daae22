"""One frozen block as the methods see it: the five things every layer can do.

enter --> norm1 --> attend --> (+) --> norm2 --> transform --> (+) -->      mix: attention along any sequence

n pictures   l tokens (`prefix` others, [CLS] ..., then the patches)   m of them that are ever read   d width
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from dualpath.nn.recompute import Recompute

Size = tuple[int, int]


@dataclass(frozen=True)
class Layer(ABC):
    """One frozen block, for pictures of one size. All its results come without the skip, but with the block's own scale.

    Attributes:
        block: timm's block.
        width: d in this block.
        prefix: tokens in front of the patches.
        grid: rows and columns of the patch tokens.
        last: nothing but the read-out follows.
        recompute: what keeps no norms for the backward pass; None where there is none, or all is computed again.
    """

    block: Any
    width: int
    prefix: int
    grid: Size
    last: bool
    recompute: Recompute | None = field(default=None, kw_only=True)

    def enter(self, tokens: Float[Tensor, "n k c"]) -> Float[Tensor, "n l d"]:
        """What comes before the block: the merging of patches where a stage of Swin begins, else nothing."""
        return tokens

    def norm1(self, tokens: Float[Tensor, "n l d"]) -> Float[Tensor, "n l d"]:
        """The block's first norm."""
        return self._normed(self.block.norm1, tokens)

    @abstractmethod
    def attend(self, normed: Float[Tensor, "n l d"]) -> Float[Tensor, "n l d"]:
        """The block's attention, as the backbone does it."""

    def attend_read(self, normed: Float[Tensor, "n l d"]) -> Float[Tensor, "n m d"]:
        """Attention, of which only what `keep_read` keeps goes on; less work where that is [CLS] alone."""
        return self.keep_read(self.attend(normed))

    @abstractmethod
    def mix(self, normed: Float[Tensor, "n s d"]) -> Float[Tensor, "n s d"]:
        """The same weights as a plain attention along a sequence of any kind: no windows, no positions, no rotation."""

    def norm2(self, tokens: Float[Tensor, "n l d"]) -> Float[Tensor, "n l d"]:
        """The block's second norm."""
        return self._normed(self.block.norm2, tokens)

    def _normed(self, norm: nn.Module, tokens: Float[Tensor, "n l d"]) -> Float[Tensor, "n l d"]:
        return norm(tokens) if self.recompute is None else self.recompute.normed(norm, tokens)

    @abstractmethod
    def transform(self, normed: Float[Tensor, "n l d"]) -> Float[Tensor, "n l d"]:
        """The block's MLP."""

    def keep_read(self, tokens: Float[Tensor, "n l d"]) -> Float[Tensor, "n m d"]:
        """What goes on after this layer's attention: all tokens, or only those ever read, once attention is over."""
        return tokens
