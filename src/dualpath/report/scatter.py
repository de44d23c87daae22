"""Accuracy over cost: a point for each entry, once over the trained parameters, once over the multiply-adds.

Matplotlib only through `Figure`: no window, no global state.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator
from matplotlib.transforms import Bbox

from dualpath.report.canvas import all_letters
from dualpath.terminal import in_line

OURS, THEIRS, QUIET = "#00639b", "#b34700", "#5b6470"
WIDE = 12.0  # a range with such a factor is drawn in powers of ten


@dataclass(frozen=True)
class Point:
    """An entry in the picture.

    Attributes:
        label: what is written beside it.
        trainable: parameters.
        gmacs: of a video, in 1e9.
        top1: a share.
        spread: of top1, as the length of the error bar to either side.
        ours: whether it is drawn in the colour of DualPath.
    """

    label: str
    trainable: int
    gmacs: float
    top1: float
    spread: float | None = None
    ours: bool = False


def draw(points: Sequence[Point], *, title: str) -> bytes:
    """The picture as a PNG."""
    out = io.BytesIO()
    with all_letters():
        make_figure(points, title=title).savefig(out, format="png")
    return out.getvalue()


def make_figure(points: Sequence[Point], *, title: str) -> Figure:
    """The two panels, every label in its place."""
    figure = Figure(figsize=(11.5, 5.2), dpi=110, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    above = textwrap.fill(in_line(title), 120)
    figure.suptitle(above, x=0.01, ha="left", fontsize=11, fontweight="bold", color="#1b1f24", parse_math=False)
    left, right = figure.subplots(1, 2, sharey=True)
    note = " (± one standard deviation over the seeds)" if any(point.spread is not None for point in points) else ""
    left.set_ylabel(f"top-1, %{note}", color=QUIET)
    for axes, name, title in ((left, "trainable", "trained parameters"), (right, "gmacs", "GMACs a video")):
        _plot(axes, points, [float(getattr(point, name)) for point in points])
        axes.set_xlabel(title, color=QUIET)
    figure.draw_without_rendering()  # the places of the labels depend on where everything else came to lie
    figure.set_layout_engine("none")
    for axes, name in ((left, "trainable"), (right, "gmacs")):
        _label(axes, points, [float(getattr(point, name)) for point in points])
    return figure


def _plot(axes: Any, points: Sequence[Point], costs: Sequence[float]) -> None:
    for point, cost in zip(points, costs, strict=True):
        axes.errorbar(
            cost,
            100 * point.top1,
            yerr=None if point.spread is None else 100 * point.spread,
            fmt="o",
            markersize=7,
            capsize=3,
            elinewidth=1.2,
            color=OURS if point.ours else THEIRS,
        )
    if min(costs) > 0 and max(costs) >= WIDE * min(costs):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if max(costs) > 100 * min(costs) else (1.0, 2.0, 5.0)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.margins(x=0.16, y=0.16)
    limits = axes.get_ylim()
    axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= 100], minor=False)
    axes.set_ylim(limits)
    axes.grid(color="#dfe2e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=QUIET)


def short(value: float) -> str:
    """A count on an axis: 200, 1.5k, 20k, 3M."""
    for unit, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:g}{sign}"
    return f"{value:g}"


def _label(axes: Any, points: Sequence[Point], costs: Sequence[float]) -> None:
    """Writes each label where it hides least: round its point first, then farther off with a thin line to it."""
    frame = Bbox.from_extents(*axes.get_window_extent().extents)
    centres = [tuple(axes.transData.transform((c, 100 * p.top1))) for p, c in zip(points, costs, strict=True)]
    taken = []
    for point, (x, y) in zip(points, centres, strict=True):
        taken.append(Bbox.from_extents(x - 7, y - 7, x + 7, y + 7))
        if point.spread:
            reach = abs(axes.transData.transform((1, 100 * point.spread))[1] - axes.transData.transform((1, 0))[1])
            taken.append(Bbox.from_extents(x - 7, y - reach - 4, x + 7, y + reach + 4))  # with its caps
    for point, (x, y) in zip(points, centres, strict=True):
        text = axes.annotate(
            point.label.replace("$", r"\$"),
            (x, y),
            xycoords="figure pixels",
            textcoords="figure pixels",
            xytext=(x, y),
            fontsize=9.5,
            ha="left",
            va="bottom",
            color=OURS if point.ours else "#1b1f24",
            fontweight="bold" if point.ours else "normal",
            arrowprops={"arrowstyle": "-", "color": QUIET, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 5, "alpha": 0.0},
        )
        size = Bbox.from_bounds(0, 0, *_size(text))
        box = min(_places(x, y, size), key=lambda place: _cost(place, taken, frame, x, y))
        taken.append(box)
        text.set_position((box.x0, box.y0))
        text.arrow_patch.set_alpha(0.8 if _away(box, x, y) > 16 else 0.0)


def _size(text: Any) -> tuple[float, float]:
    box = Text.get_window_extent(text)  # an annotation's own would have its line in it
    return box.width, box.height


def _places(x: float, y: float, size: Bbox) -> list[Bbox]:
    """Boxes of a text round a point, the usual places first: right, left, above, below, and between them."""
    places = []
    for gap in (9, 22, 38, 56):
        for across, up in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)):
            left = x + across * gap + (-size.width if across < 0 else -size.width / 2 if across == 0 else 0)
            bottom = y + up * gap + (-size.height if up < 0 else -size.height / 2 if up == 0 else 0)
            places.append(Bbox.from_bounds(left, bottom, size.width, size.height))
    return places


def _cost(place: Bbox, taken: Sequence[Bbox], frame: Bbox, x: float, y: float) -> float:
    """Pixels hidden and, far below that in weight, the way to the point."""
    hidden = sum(_overlap(place, other) for other in taken)
    outside = place.width * place.height - _overlap(place, frame)
    return 100 * (hidden + outside) + _away(place, x, y)


def _away(place: Bbox, x: float, y: float) -> float:
    """From a point to the nearest of a box, in pixels."""
    return math.hypot(max(place.x0 - x, x - place.x1, 0), max(place.y0 - y, y - place.y1, 0))


def _overlap(a: Bbox, b: Bbox) -> float:
    return max(0.0, min(a.x1, b.x1) - max(a.x0, b.x0)) * max(0.0, min(a.y1, b.y1) - max(a.y0, b.y0))
