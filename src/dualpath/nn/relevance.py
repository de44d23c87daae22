"""From what attention gave out to how much each patch of a picture counts.

    a walk's attentions, first block to last --> a row vector v, pulled back from the read-out to the first block's tokens

    attention   v = what is read of one block's rows
    rollout     v <- (v + v A) / 2                  Abnar and Zuidema, ACL 2020: A is the mean over the heads
    relevance   v <-  v + v max(0, G * A)           Chefer, Gur and Wolf, ICCV 2021 (equations 5, 6): G is the gradient of a
                                                    class's logit by A; the mean over the heads is taken last

Only one row of each product of matrices is ever read, so only that row is computed: the papers multiply the matrices.

    n pictures   h heads   r queries asked, the first ones   l tokens
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

Maps = Float[Tensor, "n l"]


def from_block(weights: Float[Tensor, "n h r l"], read: Float[Tensor, "n m"]) -> Maps:
    """What is read of one block's attention: the mean over its heads, in the rows that `read` weighs."""
    return _pull(read, weights.float().mean(dim=1))


def roll_out(weights: Sequence[Float[Tensor, "n h _ l"]], read: Float[Tensor, "n m"]) -> Maps:
    """Where what is read came from, if each block mixes its skip and its attention half and half.

    Args:
        weights: of each block, the first one first.
        read: how the read-out weighs the tokens behind the last block.
    """
    for block in reversed(weights):
        read = (read + from_block(block, read)) / 2
    return read


def relevance(
    weights: Sequence[Float[Tensor, "n h _ l"]], gradients: Sequence[Float[Tensor, "n h _ l"]], read: Float[Tensor, "n m"]
) -> Maps:
    """What speaks for the class whose gradients are given; at least 0 everywhere.

    Args:
        weights: of each block, the first one first.
        gradients: of the class's logit by them.
        read: how the read-out weighs the tokens behind the last block.
    """
    for block, gradient in zip(reversed(weights), reversed(gradients), strict=True):
        read = read + _pull(read, speaks_for(block, gradient))
    return read


def speaks_for(weights: Float[Tensor, "n h r l"], gradient: Float[Tensor, "n h r l"]) -> Float[Tensor, "n r l"]:
    """max(0, gradient * weights), the mean over the heads: equation 5 of Chefer et al."""
    return (weights.detach() * gradient).float().clamp_min(0).mean(dim=1)


def from_tokens(tokens: Float[Tensor, "n l d"], gradient: Float[Tensor, "n l d"]) -> Maps:
    """What speaks for the class in the tokens that are read: max(0, gradient . token), Grad-CAM (Selvaraju et al., ICCV 2017).

    For the backbones whose blocks do not attend to whole pictures. Where the read-out is the mean of the tokens, this is
    each one's part of the class's logit, to first order.
    """
    return (tokens.detach() * gradient).float().sum(dim=-1).clamp_min(0)


def _pull(read: Float[Tensor, "n m"], rows: Float[Tensor, "n r l"]) -> Maps:
    """v A: behind the last block only some rows were asked, and what is read there is no more than those."""
    return torch.einsum("nr,nrl->nl", read[:, : rows.shape[1]], rows)
