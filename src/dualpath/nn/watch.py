"""Looks on while a model computes: what its attention gives out as weights, though a fused kernel never shows them.

    q, k, v --scaled_dot_product_attention--> found          in a prediction
    q, k, v --softmax(q k' / sqrt w)--> weights --v--> found   while somebody watches; the weights are kept

Every family's attention ends in torch's one function, whatever it does before (rotations, windows, norms of queries). So
here that function alone is taken to pieces, on the model's own queries and keys: the model is not changed, nothing of
it is written twice, and a prediction that nobody watches costs nothing more.

    n pictures   h heads   r queries   l keys   w width of a head
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from dualpath.nn.backbone import Backbone


class _Open(TorchFunctionMode):
    """Takes attention to pieces and hands its weights to `see`, which may change them."""

    def __init__(self, see: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._see = see

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        if func is F.scaled_dot_product_attention:
            return self._attend(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _attend(
        self,
        query: Float[Tensor, "n h r w"],
        key: Float[Tensor, "n h l w"],
        value: Float[Tensor, "n h l w"],
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
    ) -> Float[Tensor, "n h r w"]:
        assert dropout_p == 0.0, "no frozen backbone drops in evaluation"
        assert not is_causal, "no image transformer hides what comes later"
        scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
        if attn_mask is not None:
            scores = scores + attn_mask if attn_mask.is_floating_point() else scores.masked_fill(~attn_mask, -torch.inf)
        return self._see(scores.softmax(dim=-1)) @ value


@contextmanager
def watched(backbone: Backbone) -> Iterator[list[Float[Tensor, "_ h _ l"]]]:
    """Inside, the weights of every attention are appended to the list, in the order in which they are computed.

    With gradients on, each of them can be asked for its gradient.
    """
    seen: list[Tensor] = []

    def keep(weights: Tensor) -> Tensor:
        if torch.is_grad_enabled() and not weights.requires_grad:
            weights.requires_grad_()  # below the first trained part nothing asks for gradients, but a map does
        seen.append(weights)
        return weights

    with _as_predicting(backbone), _Open(keep):
        yield seen


@contextmanager
def unheard(backbone: Backbone, silent: Sequence[Bool[Tensor, "_ _"]]) -> Iterator[None]:
    """Inside, attention number i reads none of the tokens where `silent[i]` is true: deleted, for whoever reads them.

    A token that is silenced everywhere has no way left to the read-out.
    """
    turns = iter(silent)

    def mute(weights: Tensor) -> Tensor:
        kept = weights * ~next(turns)[:, None, None, :]
        return kept / kept.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(kept.dtype).tiny)

    with _as_predicting(backbone), _Open(mute):
        yield


@contextmanager
def _as_predicting(backbone: Backbone) -> Iterator[None]:
    """Every attention by torch's one function and computed once, as in a prediction."""
    before = [(module, module.fused_attn) for module in backbone.vit.modules() if hasattr(module, "fused_attn")]
    again, backbone.gradient_checkpointing = backbone.gradient_checkpointing, False
    backbone.fuse_attention(True)
    try:
        yield
    finally:
        backbone.gradient_checkpointing = again
        for module, fused in before:
            module.fused_attn = fused


@contextmanager
def read_tokens(backbone: Backbone) -> Iterator[list[Float[Tensor, "n l d"]]]:
    """Inside, the tokens behind the last norm are appended to the list: for backbones that do not attend wholly."""
    seen: list[Tensor] = []

    def keep(module: Any, given: Any, tokens: Tensor) -> None:
        del module, given
        if torch.is_grad_enabled() and not tokens.requires_grad:
            tokens.requires_grad_()
        seen.append(tokens)

    handle = backbone.last_norm.register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()
