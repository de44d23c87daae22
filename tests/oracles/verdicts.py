"""Exact tests by counting all that could have been, one by one."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations, product


def told(hits: int, videos: int, alarms: int, others: int) -> Fraction:
    """Share of the ways to deal out what was taken for a class over all videos that make so many hits or more."""
    ways = list(combinations(range(videos + others), hits + alarms))
    return Fraction(sum(sum(video < videos for video in way) >= hits for way in ways), len(ways))


def better(first: list[bool], second: list[bool], inside: list[bool]) -> Fraction:
    """Share of the ways to swap the two answers on videos, that make as great a difference of J or a greater one."""

    def index(says: list[bool]) -> Fraction:
        hits = [s for s, i in zip(says, inside, strict=True) if i]
        alarms = [s for s, i in zip(says, inside, strict=True) if not i]
        return Fraction(sum(hits), len(hits)) - (Fraction(sum(alarms), len(alarms)) if alarms else 0)

    seen, extreme, ways = abs(index(first) - index(second)), 0, 0
    for swaps in product([False, True], repeat=len(first)):
        one = [b if swap else a for a, b, swap in zip(first, second, swaps, strict=True)]
        other = [a if swap else b for a, b, swap in zip(first, second, swaps, strict=True)]
        ways += 1
        extreme += abs(index(one) - index(other)) >= seen
    return Fraction(extreme, ways)


def holm(values: list[float]) -> list[float]:
    """Corrected p-values by their definition: the smallest level at which the step-down procedure rejects each."""
    count = len(values)
    ranked = sorted(values)
    return [max(min(1.0, (count - rank) * ranked[rank]) for rank in range(ranked.index(p) + 1)) for p in values]
