"""How time and memory grow along an axis, beside how the multiply-adds grow: figures, tables and a picture.

    points of an axis, measured in turn --against the first--> time x, memory x, GMACs x --time x / GMACs x--> excess

An excess of 1 is growth as the mathematics has it; above MOST it is told.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from dualpath.report.scatter import OURS, QUIET, THEIRS
from dualpath.report.speed import four_digits
from dualpath.speed.turns import Measured, ratio

MOST = 1.25
"""An excess above it counts as growing faster than the mathematics."""
HEAD = ("", "ms a step", "+/-", "GMACs a step", "memory of a step", "peak", "time / GMACs", "memory / GMACs")
NAMES = {
    "num_frames": "frames a clip",
    "batch_size": "clips at a time",
    "image_size": "side of the pictures, pixels",
    "backbone": "backbone",
    "num_classes": "classes",
    "views": "views of a video, at once",
}


def grow(points: Sequence[tuple[str, Measured]]) -> list[dict[str, Any]]:
    """The figures of one axis.

    Args:
        points: what varies, and what came out; measured in turn.

    Returns:
        A dict for each point. Its growths and excesses, against the first point, are missing where either of the two was not
        measured.
    """
    first = points[0][1]
    told = []
    for value, one in points:
        if one.problem:
            told.append({"value": value, "problem": one.problem})
            continue
        row: dict[str, Any] = {
            "value": value,
            "seconds_a_step": one.clip_seconds * one.clips,
            "spread": one.spread,
            "gmacs_a_step": one.gmacs,
            "step_bytes": one.step_bytes,
            "peak_gb": one.peak_gb,
        }
        if not first.problem and first.gmacs and one.gmacs:
            # Seconds of a step, not of a clip: those of the same round are compared.
            row["time_growth"] = ratio(one, first) * one.clips / first.clips
            row["gmacs_growth"] = one.gmacs / first.gmacs
            row["time_excess"] = row["time_growth"] / row["gmacs_growth"]
            if first.step_bytes and one.step_bytes is not None:
                row["memory_growth"] = one.step_bytes / first.step_bytes
                row["memory_excess"] = row["memory_growth"] / row["gmacs_growth"]
        row["flagged"] = [what for what in ("time", "memory") if row.get(f"{what}_excess", 0) > MOST]
        told.append(row)
    return told


def title(axis: Mapping[str, Any]) -> str:
    """Of a table or a panel."""
    return f"{NAMES.get(axis['axis'], axis['axis'])}, {axis['mode']}"


def growth_markdown(axes: Sequence[Mapping[str, Any]]) -> str:
    """A table for each axis, and what grows faster than the mathematics."""
    parts = []
    for axis in axes:
        lines = [HEAD, ("---", *["---:"] * (len(HEAD) - 1)), *(_cells(row) for row in axis["points"])]
        parts.append(f"**{title(axis)}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join([*parts, verdict(axes)]) + "\n"


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    if "problem" in row:
        return (row["value"], *[""] * (len(HEAD) - 2), row["problem"])

    def excess(what: str) -> str:
        share = row.get(f"{what}_excess")
        told = "" if share is None else f"{share:.2f}"
        return f"**{told}**" if what in row["flagged"] else told

    return (
        row["value"],
        four_digits(1e3 * row["seconds_a_step"]),
        f"{100 * row['spread']:.0f} %",
        "" if row["gmacs_a_step"] is None else f"{row['gmacs_a_step']:.4g}",
        "" if row["step_bytes"] is None else f"{four_digits(row['step_bytes'] / 1e6)} MB",
        f"{row['peak_gb']:.2f} GB",
        excess("time"),
        excess("memory"),
    )


def verdict(axes: Sequence[Mapping[str, Any]]) -> str:
    """Sentences about the points that are flagged, or that there is none."""
    compared = [(axis, row) for axis in axes for row in axis["points"][1:] if "time_excess" in row]
    if not compared:
        return "No two points of an axis were measured: nothing can be said about growth."
    told = [
        f"- {title(axis)}, {row['value']}: {what} grew by {row[f'{what}_growth']:.2f}, the multiply-adds by "
        f"{row['gmacs_growth']:.2f}"
        for axis, row in compared
        for what in row["flagged"]
    ]
    most = max(row["time_excess"] for _, row in compared)
    if not told:
        return f"Nothing grows faster than {MOST} times the multiply-adds; time does at most by {most:.2f} times."
    return f"Faster than {MOST} times the multiply-adds grow:\n\n" + "\n".join(told)


def growth_picture(axes: Sequence[Mapping[str, Any]]) -> bytes:
    """A panel for each axis, all in multiples of the first point; a PNG, empty if nothing can be compared."""
    shown = [axis for axis in axes if len(_drawn(axis)) > 1]
    if not shown:
        return b""
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.1 * rows + 0.4), dpi=110, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes_, axis in zip(panels, shown, strict=False):
        _panel(axes_, axis)
    for left_over in panels[len(shown) :]:
        left_over.set_axis_off()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=3, frameon=False, fontsize=9)
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def _drawn(axis: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [row for row in axis["points"] if "time_growth" in row]


def _panel(axes: Any, axis: Mapping[str, Any]) -> None:
    drawn = _drawn(axis)
    places = range(len(drawn))
    axes.plot(
        places,
        [row["gmacs_growth"] for row in drawn],
        color=QUIET,
        linestyle="--",
        linewidth=1.2,
        zorder=5,
        label="multiply-adds",
    )
    axes.plot(places, [row["time_growth"] for row in drawn], color=OURS, marker="o", label="time, measured")
    held = [(place, row["memory_growth"]) for place, row in enumerate(drawn) if "memory_growth" in row]
    if held:
        axes.plot(*zip(*held, strict=True), color=THEIRS, marker="s", markersize=4, linewidth=1.2, label="memory of a step")
    first = drawn[0]
    begins = f"{four_digits(1e3 * first['seconds_a_step'])} ms" + (
        f", {four_digits(first['step_bytes'] / 1e6)} MB" if first["step_bytes"] else ""
    )
    axes.set_title(f"{title(axis)}\nfirst: {begins}", loc="left", fontsize=9, color=QUIET)
    axes.set_xticks(places, [row["value"] for row in drawn])
    # An axis of its own would make noise of a flat line look like growth.
    most = max(max(row["time_growth"], row["gmacs_growth"], row.get("memory_growth", 0)) for row in drawn)
    axes.set_yscale("log", base=2)
    axes.set_ylim(0.7, max(2.2, most * 1.2))
    axes.margins(x=0.1)
    axes.yaxis.set_major_locator(LogLocator(base=2, numticks=8))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} x"))
    axes.grid(color="#dfe2e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=QUIET)
