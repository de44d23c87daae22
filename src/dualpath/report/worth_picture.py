"""What time is worth as a picture: a bar for each way of showing the videos, below it each class and its verdict.

Matplotlib only through `Figure`: no window, no global state.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from rich.cells import cell_len, set_cell_size

from dualpath.engine.paired import Interval
from dualpath.engine.verdicts import IN_ORDER, REVERSED, SHUFFLED, ClassWorth
from dualpath.engine.worth import ROWS, SILENCED, Worth
from dualpath.errors import number_of
from dualpath.report.canvas import all_letters
from dualpath.report.curves import wilson
from dualpath.report.scatter import OURS, QUIET, THEIRS
from dualpath.terminal import in_line

INK, LINE = "#1b1f24", "#dfe2e6"
BARS = {"in order": "#0072b2", "another order": "#6db3dd", "a path silenced": "#d55e00"}
VERDICT_COLOURS = {"motion": OURS, "appearance": THEIRS, "both": "#7b3f8c", "frames": "#006b4f"}
HEAT = LinearSegmentedColormap.from_list("share", ["#f6f8fa", "#b9dcf0", "#0072b2"])
MOST_CLASSES = 40
CLASS_INCHES, ROW_INCHES = 0.27, 0.38
LONGEST_NAME = 44
"""In letters; those of Chinese, Japanese and Korean are as wide as two."""
RIGHT = 156
"""Where the bars' panel ends, in per cent: beyond 100 there is room for words."""


def draw_worth(worth: Worth) -> bytes:
    """The picture as a PNG."""
    out = io.BytesIO()
    with all_letters():
        make_figure(worth).savefig(out, format="png")
    return out.getvalue()


def make_figure(worth: Worth) -> Figure:
    """Bars above, classes below."""
    classes = choose_classes(worth)
    heights = [ROW_INCHES * len(worth.rows) + 0.3, CLASS_INCHES * max(2, len(classes)) + 0.5]
    layout = ConstrainedLayoutEngine(h_pad=0.12, w_pad=0.1)
    figure = Figure(figsize=(11.0, sum(heights) + 1.5), dpi=110, facecolor="white", layout=layout)
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, height_ratios=heights)
    _draw_rows(above, worth)
    _draw_classes(below, worth, classes)
    return figure


def choose_classes(worth: Worth) -> list[ClassWorth]:
    """Those to draw, what order is worth falling: all that have videos, or as many of either end as there is room for."""
    present = [one for one in worth.by_class if one.videos]
    present.sort(key=order_worth, reverse=True)
    half = MOST_CLASSES // 2
    return present if len(present) <= MOST_CLASSES else present[:half] + present[-half:]


def order_worth(one: ClassWorth) -> float:
    """What a class loses in the worse of the two other orders, as a share of its videos."""
    return one.share(IN_ORDER) - min(one.share(REVERSED), one.share(SHUFFLED))


def _draw_rows(axes: Any, worth: Worth) -> None:
    count = len(worth.in_order.videos)
    means = [100 * found.mean_class_accuracy() for found in worth.rows.values()]
    others = [f"{mean:.1f}" != f"{100 * found.top(1):.1f}" for mean, found in zip(means, worth.rows.values(), strict=True)]
    if any(others):
        axes.scatter(means, range(len(means)), marker="D", s=28, facecolor="white", edgecolor=INK, linewidth=1.2, zorder=3)
    for place, row in enumerate(worth.rows):
        right = int(worth.right(row).sum())
        low, high = wilson(right, count)
        share = 100 * right / count
        kind = "in order" if row == IN_ORDER else "a path silenced" if row in SILENCED else "another order"
        reach = [[max(0.0, share - 100 * low)], [max(0.0, 100 * high - share)]]
        axes.barh(place, share, height=0.62, color=BARS[kind])
        axes.errorbar(share, place, xerr=reach, fmt="none", ecolor=INK, elinewidth=1.2, capsize=3)
        told = axes.text(100 * high + 1.2, place, f"{share:.1f} %", va="center", color=INK, fontweight="bold")
        told.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1.0})
        axes.text(RIGHT - 1, place, "" if row == IN_ORDER else points(worth.losses[row]), va="center", ha="right", color=QUIET)
    axes.text(RIGHT - 1, 0, "change, points (95 %)", va="center", ha="right", color=QUIET)
    chance = 100 / len(worth.in_order.classes)
    axes.axvline(chance, color=QUIET, linewidth=1, linestyle=(0, (2, 2)))
    axes.text(chance, -0.62, f" 1 of {len(worth.in_order.classes)} classes", va="bottom", color=QUIET, fontsize=8.5)
    axes.set_yticks(range(len(worth.rows)), [ROWS[row] for row in worth.rows])
    axes.set_ylim(len(worth.rows) - 0.45, -0.9)
    axes.set_xlim(0, RIGHT)
    axes.set_xticks(range(0, 101, 20))
    diamonds = "; diamonds: mean per class" if any(others) else ""
    axes.set_xlabel(f"top-1, % of {number_of(count, 'video')}, with 95 % intervals{diamonds}", color=QUIET, loc="left")
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.spines["left"].set_color(LINE)
    axes.tick_params(axis="x", colors=QUIET, length=0)
    axes.tick_params(axis="y", labelcolor=INK, length=0)
    axes.set_title("What the order of frames and each path are worth", loc="left", color=INK, fontweight="bold", pad=10)


def _draw_classes(axes: Any, worth: Worth, classes: list[ClassWorth]) -> None:
    rows = list(worth.rows)
    shares = np.array([[one.share(row) for row in rows] for one in classes])
    axes.imshow(shares, cmap=HEAT, vmin=0, vmax=1, aspect="auto")
    for y, line in enumerate(shares):
        for x, share in enumerate(line):
            ink = "white" if share >= 0.9 else INK
            axes.text(x, y, f"{100 * share:.0f}", ha="center", va="center", fontsize=8.5, color=ink)
        name = classes[y].verdict or ""
        axes.text(
            len(rows) - 0.4, y, name, va="center", color=VERDICT_COLOURS.get(name, QUIET),
            fontweight="bold" if name in VERDICT_COLOURS else "normal", fontsize=9.5,
        )  # fmt: skip
    present = sum(one.videos > 0 for one in worth.by_class)
    if len(classes) < present:
        axes.axhline(len(classes) // 2 - 0.5, color=INK, linewidth=1.5)
    axes.set_xticks(range(len(rows)), [ROWS[row].replace(" path ", " path\n").replace(" frame ", " frame\n") for row in rows])
    axes.set_yticks(range(len(classes)), [short_name(worth.in_order.classes[one.label]) for one in classes])
    axes.set_xlim(-0.5, len(rows) + 0.45)
    axes.set_xticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(classes) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.spines[:].set_visible(False)
    axes.tick_params(which="both", length=0, labelcolor=INK)
    axes.tick_params(axis="x", labeltop=True, labelbottom=False, labelcolor=QUIET, labelsize=9)
    title = "Accuracy by class, %, and what decides"
    if len(classes) < present:
        title += f"\n{len(classes)} of {present}: order is worth most to those above the line, least to those below it"
    axes.set_title(title, loc="left", color=INK, fontweight="bold", pad=10)


def points(loss: Interval) -> str:
    """A loss as the change that it is: "-46.2 (-51.3 to -41.0)"."""
    change, low, high = (0.0 - 100 * value for value in (loss.difference, loss.high, loss.low))
    return f"{change:+.1f} ({low:+.1f} to {high:+.1f})"


def short_name(name: str) -> str:
    """A class's name as it fits beside the picture, both its ends in one line; nothing in it is mathematics to matplotlib."""
    name = in_line(name)
    if cell_len(name) > LONGEST_NAME:
        start, end = (set_cell_size(part, LONGEST_NAME // 2 - 1).strip() for part in (name, name[::-1]))
        name = f"{start}…{end[::-1]}"
    return name.replace("$", r"\$")
