"""What a plot is made of: shares with their intervals, smoothed values, round ticks, lines in a square. Pure maths."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MOST_POINTS = 500  # of a curve


def wilson(right: int, count: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share (Wilson 1927)."""
    z, share = 1.959964, right / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    reach = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(middle - reach, 0.0), min(middle + reach, 1.0)


def smooth(values: Sequence[float]) -> list[float]:
    """Mean over a window around each value, a 30th of all wide on either side: it does not lag behind."""
    reach = len(values) // 30
    sums = np.cumsum([0.0, *values])
    first = np.maximum(np.arange(len(values)) - reach, 0)
    after = np.minimum(np.arange(len(values)) + reach + 1, len(values))
    return ((sums[after] - sums[first]) / (after - first)).tolist()


def ticks(top: float, most: int, *, low: float = 0.0) -> list[float]:
    """Round numbers from `low` to `top`, at most `most` steps apart."""
    span = top - low
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor * most >= span)
    return [i * step for i in range(math.ceil(low / step - 1e-9), int(top / step + 1e-9) + 1)]


def limits(values: Sequence[float]) -> tuple[float, float]:
    """Of an axis: a little beyond the values on either side; from 0 where they reach down to half of the highest."""
    low, high = min(values), max(values)
    if low < high / 2 or high <= 0:
        return 0.0, 1.12 * max(high, 1e-12)
    room = 0.12 * max(high - low, 0.1 * high)
    return low - room, high + room


@dataclass(frozen=True)
class Curve:
    """Values over steps.

    Attributes:
        name: for the legend.
        series: the colour: s0, s1 or s2.
        points: (step, value), ascending.
        rough: the values jump: they are drawn faintly, and boldly as their moving average.
    """

    name: str
    series: str
    points: Sequence[tuple[int, float]]
    rough: bool = False


def plot(
    curves: Sequence[Curve],
    *,
    title: str,
    mark: tuple[float, str] | None = None,
    top: float | None = None,
    fitted: bool = False,
    told: Callable[[float], str] = "{:g}".format,
) -> dict[str, Any]:
    """Curves in a square of 1000 x 1000 with its origin at the top left, and the ticks in per cent of its sides.

    Args:
        curves: all over the same axes; values from 0 on, those that are no finite number are left out.
        title: of the lower axis.
        mark: a value to be marked by a line, and what it is.
        top: of the upright axis; by default a little above all that is drawn boldly.
        fitted: the upright axis need not begin at 0, see `limits`.
        told: a value in words, for the ticks.
    """
    kept = [[point for point in curve.points if math.isfinite(point[1])] for curve in curves]
    values = [[value for _, value in points] for points in kept]
    bold = [smooth(mine) if curve.rough else mine for curve, mine in zip(curves, values, strict=True)]
    last = max([1, *(points[-1][0] for points in kept if points)])
    seen = [*([mark[0]] if mark else []), *(value for mine in bold for value in mine)]
    low, high = 0.0, top or 1.12 * max([*seen, 1e-12])
    if fitted and seen:  # with most of what is drawn faintly, but not a few leaps
        faint = [np.quantile(mine, (0.02, 0.98)).tolist() for mine in values if mine]
        low, high = limits([*seen, *(value for ends in faint for value in ends)])

    def height(value: float) -> float:
        return 1 - min(max((value - low) / (high - low), 0.0), 1.0)

    def line(steps: Sequence[int], heights: Sequence[float]) -> str:
        stride = max(1, math.ceil(len(heights) / MOST_POINTS))
        chosen = [*range(0, len(heights) - 1, stride), len(heights) - 1] if heights else []
        return " ".join(f"{1000 * steps[i] / last:.1f},{1000 * height(heights[i]):.1f}" for i in chosen)

    drawn = []
    for curve, points, rough, final in zip(curves, kept, values, bold, strict=True):
        steps = [step for step, _ in points]
        drawn.append(
            {
                "name": curve.name,
                "series": curve.series,
                "steps": len(points),
                "raw": line(steps, rough) if curve.rough else "",
                "line": line(steps, final),
                "first": rough[0] if rough else math.nan,
                "final": final[-1] if final else math.nan,
            }
        )
    return {
        "curves": drawn,
        "title": title,
        "mark": {"at": 100 * height(mark[0]), "text": mark[1]} if mark else None,
        "across": [(f"{tick:,.0f}", 100 * tick / last) for tick in ticks(float(last), 5) if tick == int(tick)],
        "down": [(told(tick), 100 * height(tick)) for tick in ticks(high, 5, low=low)],
    }


def duration(seconds: float) -> str:
    """367.2 -> "6 min 7 s"."""
    hours, rest = divmod(round(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
