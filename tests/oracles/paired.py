"""Paired bootstrap by its definition: videos are drawn one by one, or all that can be drawn are counted."""

from __future__ import annotations

import random
from itertools import product


def resampled(right_a: list[bool], right_b: list[bool], *, resamples: int, seed: int) -> list[float]:
    """Sorted differences of the accuracies of both on videos drawn with replacement."""
    source, found = random.Random(seed), []
    for _ in range(resamples):
        sum_a = sum_b = 0
        for _ in right_a:
            video = source.randrange(len(right_a))
            sum_a += right_a[video]
            sum_b += right_b[video]
        found.append(sum_a / len(right_a) - sum_b / len(right_a))
    return sorted(found)


def every_resample(right_a: list[bool], right_b: list[bool]) -> list[float]:
    """The same of all n^n ways to draw, each once."""
    count = len(right_a)
    drawn = product(range(count), repeat=count)
    return sorted(sum(right_a[i] - right_b[i] for i in videos) / count for videos in drawn)
