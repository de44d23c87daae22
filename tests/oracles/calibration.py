"""Expected calibration error, bin by bin and prediction by prediction (Guo et al. 2017, section 2 and equation 3)."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction


def bins_of(confidences: Sequence[float], count: int) -> list[list[int]]:
    """Which predictions fall into ((m - 1) / M, m / M] for m = 1 .. M; a confidence of 0 into the first."""
    found = []
    for m in range(1, count + 1):
        low, high = Fraction(m - 1, count), Fraction(m, count)
        found.append([i for i, one in enumerate(confidences) if low < Fraction(one) <= high or (m == 1 and one == 0)])
    return found


def expected_calibration_error(confidences: Sequence[float], right: Sequence[bool], count: int) -> float:
    """The sum over the bins of |B_m| / n times |acc(B_m) - conf(B_m)|."""
    total = Fraction(0)
    for inside in bins_of(confidences, count):
        if not inside:
            continue
        accuracy = Fraction(sum(right[i] for i in inside), len(inside))
        confidence = sum((Fraction(confidences[i]) for i in inside), Fraction(0)) / len(inside)
        total += Fraction(len(inside), len(confidences)) * abs(accuracy - confidence)
    return float(total)
