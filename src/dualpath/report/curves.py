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


def ticks(top: float, most: int) -> list[float]:
    """Round numbers from 0 to `top`, at most `most` steps apart."""
    power = 10.0 ** math.floor(math.log10(top / most))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor * most >= top)
    return [i * step for i in range(int(top / step + 1e-9) + 1)]


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
    told: Callable[[float], str] = "{:g}".format,
) -> dict[str, Any]:
    """Curves in a square of 1000 x 1000 with its origin at the top left, and the ticks in per cent of its sides.

    Args:
        curves: all over the same axes; values from 0 on, those that are no finite number are left out.
        title: of the lower axis.
        mark: a value to be marked by a line, and what it is.
        top: of the upright axis; by default a little above all that is drawn.
        told: a value in words, for the ticks.
    """
    kept = [[point for point in curve.points if math.isfinite(point[1])] for curve in curves]
    values = [[value for _, value in points] for points in kept]
    bold = [smooth(mine) if curve.rough else mine for curve, mine in zip(curves, values, strict=True)]
    last = max([1, *(points[-1][0] for points in kept if points)])
    if top is None:
        marked = [mark[0]] if mark else []
        top = 1.12 * max([*marked, *(value for mine in bold for value in mine), 1e-12])

    def line(steps: Sequence[int], heights: Sequence[float]) -> str:
        stride = max(1, math.ceil(len(heights) / MOST_POINTS))
        chosen = [*range(0, len(heights) - 1, stride), len(heights) - 1] if heights else []
        return " ".join(f"{1000 * steps[i] / last:.1f},{1000 * (1 - min(heights[i] / top, 1)):.1f}" for i in chosen)

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
        "mark": {"at": 100 * (1 - mark[0] / top), "text": mark[1]} if mark else None,
        "across": [(f"{tick:,.0f}", 100 * tick / last) for tick in ticks(float(last), 5) if tick == int(tick)],
        "down": [(told(tick), 100 * (1 - tick / top)) for tick in ticks(top, 5)],
    }


def duration(seconds: float) -> str:
    """367.2 -> "6 min 7 s"."""
    hours, rest = divmod(round(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
