"""How much better one measurement is than another on the same videos, and how sure that is: pure maths."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from dualpath.errors import DualPathError, number_of

LEVEL = 0.95
"""Of the intervals."""


@dataclass(frozen=True)
class Interval:
    """A difference of two accuracies, as shares from -1 to 1, and the interval that holds it with 95 % confidence.

    Attributes:
        difference: accuracy of the first less that of the second.
        low, high: ends of the interval.
    """

    difference: float
    low: float
    high: float


def paired_bootstrap(
    right_a: Bool[np.ndarray, " n"], right_b: Bool[np.ndarray, " m"], *, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """The difference of two accuracies on the same videos with its percentile bootstrap interval.

    Each resample draws as many videos as there are, with replacement, and keeps what both say of each together (Efron and
    Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13). A video's difference is 1, 0 or -1, so it is enough to
    draw how often each of the three comes: a multinomial draw instead of one of all videos, with the same distribution.

    Args:
        right_a: whether the first is right, for each video.
        right_b: the same of the second, the videos in the same order.
        resamples: how many.
        seed: chooses them.

    Raises:
        DualPathError: no videos, another number of them on either side, or no resamples.
    """
    count = len(right_a)
    if count != len(right_b) or not count:
        raise DualPathError(
            f"{count} and {number_of(len(right_b), 'video')} cannot be compared in pairs; give the results of both on the "
            "same videos"
        )
    if resamples < 1:
        raise DualPathError(f"resamples is {resamples}, but it must be at least 1")
    gained, lost = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    shares = np.array([gained, lost, count - gained - lost]) / count
    drawn = np.random.default_rng(seed).multinomial(count, shares, size=resamples)
    found = (drawn[:, 0] - drawn[:, 1]) / count
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval((gained - lost) / count, float(low), float(high))


def mcnemar(gained: int, lost: int) -> float:
    """McNemar's exact test, two-sided: whether one of two is right more often than the other on the same videos.

    Args:
        gained: videos that only the first has right.
        lost: videos that only the second has right.

    Returns:
        How likely a difference this great or greater is if each of these videos might as well have been the other's: P <= 1.
    """
    return min(1.0, 2 * float(coins(gained + lost)[: min(gained, lost) + 1].sum()))


def coins(count: int) -> Float64[np.ndarray, " n"]:
    """How likely 0, 1 .. count heads of so many coins are."""
    steps = np.arange(1, count + 1)
    return np.exp(np.concatenate([[0.0], np.cumsum(np.log((count - steps + 1) / steps))]) - count * math.log(2))
