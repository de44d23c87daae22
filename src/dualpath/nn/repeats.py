"""Equal pictures are encoded once: views of one video share frames, and a short video's last frame is repeated.

    rows 0 .. n-1 --find_repeats--> kept, the first of each kind --encode--> features --[where]--> features of all rows

    encode_once does all of that.

Only where nothing is random and no gradient is asked for, so that a picture's features depend on the picture alone; on a
CPU only, because a GPU would have to wait for the answer; and not while torch compiles, which cannot follow it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

_WORD = 8
"""Bytes of a checksum's words."""


@dataclass(frozen=True)
class Repeats:
    """Which rows are to be encoded.

    Attributes:
        kept: numbers of the rows that differ from all before them, ascending.
        where: of each row, the place of its equal among `kept`.
    """

    kept: list[int]
    where: list[int]


def encode_once(
    encode: Callable[[Tensor, Any], Tensor], rows: UInt8[Tensor, "n ..."], *, period: int = 1, share: bool = True
) -> Float[Tensor, "n f"]:
    """The features of all rows, of which equal ones are encoded once where that can be (see above).

    Args:
        encode: rows, and what picks those numbers among `period` that they are encoded as, to features.
        rows: see `find_repeats`.
        period: see `find_repeats`.
        share: false where something is random.
    """
    repeats = find_repeats(rows, period=period) if share else None
    if repeats is None:
        return encode(rows, slice(None))
    return encode(rows[repeats.kept], [row % period for row in repeats.kept])[repeats.where]


def find_repeats(rows: UInt8[Tensor, "n ..."], *, period: int = 1) -> Repeats | None:
    """Equal rows; None if there are none, or where they cannot be used (see above).

    A sum over each row's bytes finds the candidates, and only rows of equal sums are compared, value by value: no two rows
    are taken for equal that are not.

    Args:
        rows: pictures, or clips whose frames make one picture.
        period: row i is encoded as number i modulo this, so that only rows of the same number can share their features.
    """
    if torch.compiler.is_compiling() or rows.device.type != "cpu" or torch.is_grad_enabled() or len(rows) <= period:
        return None
    sums = _sums(rows)
    alike: dict[tuple[int, int], list[int]] = {}
    kept: list[int] = []
    where: list[int] = []
    for row, total in enumerate(sums):
        same = alike.setdefault((row % period, total), [])
        place = next((place for place in same if torch.equal(rows[kept[place]], rows[row])), None)
        if place is None:
            place = len(kept)
            kept.append(row)
            same.append(place)
        where.append(place)
    return Repeats(kept, where) if len(kept) < len(rows) else None


def _sums(rows: UInt8[Tensor, "n ..."]) -> list[int]:
    """Of each row's bytes, eight at once as one whole number; what runs over is lost, in equal rows alike."""
    flat = rows.flatten(1).contiguous()
    if flat.shape[1] % _WORD == 0 and flat.storage_offset() % _WORD == 0:
        flat = flat.view(torch.int64)
    return flat.sum(dim=1).tolist()
