"""What is cheaper to make again in the backward pass than to keep: the norms of frozen blocks, whose inputs are kept anyway.

A trained adapter needs its input to learn. Where that is a norm of the tokens, one pass over these makes it again, against
an eighth of the memory of a training.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks


class Recompute(saved_tensors_hooks):
    """Inside, `normed` gives norms that are not kept for the backward pass but made again there."""

    def __init__(self) -> None:
        super().__init__(self._pack, self._unpack)
        self._known: list[tuple[weakref.ref[Tensor], Callable[[], Tensor]]] = []

    def normed(self, norm: nn.Module, tokens: Tensor) -> Tensor:
        """norm(tokens), which is to be in memory as it is numbered: contiguous."""
        value = norm(tokens)
        if value.requires_grad and value.is_contiguous():
            # No name of `value` in here: it would be kept.
            self._known.append((weakref.ref(value), lambda: norm(tokens)))
        return value

    def _pack(self, kept: Tensor) -> Tensor | tuple[Callable[[], Tensor], torch.Size]:
        if kept.is_contiguous():
            for known, make in self._known:
                value = known()
                if value is not None and _place(value) == _place(kept):
                    return make, kept.shape
        return kept

    @staticmethod
    def _unpack(kept: Tensor | tuple[Callable[[], Tensor], torch.Size]) -> Tensor:
        if isinstance(kept, Tensor):
            return kept
        make, shape = kept
        return make().view(shape)


def _place(tensor: Tensor) -> tuple[int, int, int]:
    """Where in memory a contiguous tensor lies, on torch's meta device too."""
    return tensor.untyped_storage()._cdata, int(tensor.storage_offset()), tensor.numel()
