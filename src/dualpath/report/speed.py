"""Measured speeds as a table, as Markdown, as JSON and back, and as a picture.

Memory a clip is counted, tensor by tensor; the peak beside it is the process's, program and weights included.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.table import Table

from dualpath.errors import DualPathError
from dualpath.markdown import table
from dualpath.report.scatter import OURS, QUIET, THEIRS
from dualpath.report.tables import as_text
from dualpath.speed.turns import Candidate, Measured, ceiling_label

HEAD = (
    "candidate",
    "in",
    "clips/s",
    "ms a clip",
    "+/-",
    "GMACs a clip",
    "of the ceiling",
    "memory a clip",
    "peak",
    "first steps",
)

WORD = 0.08
"""Room that a number takes beside its bar, of the longest one."""
SHORT = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


def speed_rows(measured: Sequence[Measured]) -> list[tuple[str, ...]]:
    """The cells below HEAD; ceilings are a column, not rows."""
    by_label = {one.candidate.label: one for one in measured}
    rows = []
    for one in measured:
        if is_ceiling(one):
            continue
        if one.problem:
            rows.append((one.candidate.label, *[""] * (len(HEAD) - 2), one.problem))
            continue
        share = share_of_ceiling(one, by_label)
        rows.append(
            (
                one.candidate.label,
                SHORT.get(one.dtype, one.dtype),
                f"{1 / one.clip_seconds:.3g}",
                four_digits(1e3 * one.clip_seconds),
                f"{100 * one.spread:.0f} %",
                "" if one.gmacs is None else f"{one.gmacs / one.clips:.3g}",
                "" if share is None else f"{100 * share:.0f} %",
                "" if one.clip_gb is None else f"{one.clip_gb:.3f} GB",
                f"{one.peak_gb:.2f} GB",
                f"{one.warm_seconds:.1f} s",
            )
        )
    return rows


def four_digits(value: float) -> str:
    """A number with four digits that count, and never as a power of ten."""
    return f"{value:.4g}" if value < 1e4 else f"{value:.0f}"


def share_of_ceiling(one: Measured, by_label: dict[str, Measured]) -> float | None:
    """Time of its matrix products alone over its own time; None where that was not measured."""
    ceiling = by_label.get(ceiling_label(one.candidate.label))
    if ceiling is None or ceiling.problem or one.problem:
        return None
    return ceiling.clip_seconds / one.clip_seconds


def speed_table(measured: Sequence[Measured], machine: str) -> str:
    """For the terminal."""
    shown = Table(*HEAD)
    for row in speed_rows(measured):
        shown.add_row(*row)
    return as_text(machine, shown)


def speed_markdown(measured: Sequence[Measured]) -> str:
    """For a page."""
    return table(HEAD, speed_rows(measured), words=1) + "\n"


def speed_json(measured: Sequence[Measured], *, machine: str, command: str, versions: dict[str, str]) -> dict[str, Any]:
    """Everything that was measured, single steps included."""
    by_label = {one.candidate.label: one for one in measured}
    told = []
    for one in measured:
        entry: dict[str, Any] = {
            "label": one.candidate.label,
            "group": one.candidate.group,
            "maker": one.candidate.maker,
            "settings": {} if is_ceiling(one) else dict(one.candidate.settings),
        }
        if one.problem:
            entry["problem"] = one.problem
        else:
            entry |= {
                "clips": one.clips,
                "seconds_a_clip": one.clip_seconds,
                "spread": one.spread,
                "rounds": one.rounds,
                "steps": [list(steps) for steps in one.seconds],
                "gmacs_a_clip": None if one.gmacs is None else one.gmacs / one.clips,
                "share_of_ceiling": share_of_ceiling(one, by_label),
                "gb_a_clip": one.clip_gb,
                "step_bytes": one.step_bytes,
                "peak_gb": one.peak_gb,
                "first_steps_seconds": one.warm_seconds,
                "device": one.device,
                "dtype": one.dtype,
                "facts": dict(one.facts),
            }
        told.append(entry)
    return {"machine": machine, "command": command, "versions": versions, "candidates": told}


def measured_from(told: Any) -> list[Measured]:
    """What `speed_json` made its words of; figures that follow from others are taken from those, not from the file.

    Raises:
        DualPathError: it is not of `speed_json`'s making.
    """
    try:
        entries = told["candidates"]
        labels = [entry["label"] for entry in entries]
        return [_measured(entry, ceiling=ceiling_label(entry["label"]) in labels) for entry in entries]
    except (AttributeError, KeyError, TypeError, ValueError) as problem:
        raise DualPathError(
            f"this is no result of a measurement of speed ({type(problem).__name__}: {problem}); make one with dualpath bench "
            "or benchmarks/models.py"
        ) from problem


def _measured(entry: Mapping[str, Any], *, ceiling: bool) -> Measured:
    candidate = Candidate(entry["label"], entry["maker"], dict(entry["settings"]), group=entry["group"], ceiling=ceiling)
    if "problem" in entry:
        return Measured(candidate, problem=entry["problem"])
    clips, counted = int(entry["clips"]), entry["gmacs_a_clip"]
    steps = tuple(tuple(float(step) for step in steps) for steps in entry["steps"])
    if clips < 1 or not steps or not all(steps):
        raise ValueError(f"{candidate.label} has no steps")
    return Measured(
        candidate,
        clips=clips,
        seconds=steps,
        gmacs=None if counted is None else counted * clips,
        step_bytes=entry["step_bytes"],
        peak_gb=float(entry["peak_gb"]),
        warm_seconds=float(entry["first_steps_seconds"]),
        device=entry["device"],
        dtype=entry["dtype"],
        facts=dict(entry["facts"]),
    )


def speed_picture(measured: Sequence[Measured], *, ours: Sequence[str]) -> bytes:
    """Bars of clips a second by group, with the ceiling as a line across the bar; a PNG, empty if nothing was measured."""
    shown = [one for one in measured if not one.problem and not is_ceiling(one)]
    if not shown:
        return b""
    by_label = {one.candidate.label: one for one in measured}
    groups = list(dict.fromkeys(one.candidate.group for one in shown))
    heights = [sum(one.candidate.group == group for one in shown) + 1 for group in groups]
    figure = Figure(figsize=(9.5, 0.42 * sum(heights) + 0.8), dpi=110, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(groups), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, group in zip(panels, groups, strict=True):
        those = [one for one in shown if one.candidate.group == group][::-1]
        ceilings = [by_label.get(ceiling_label(one.candidate.label)) for one in those]
        limits = [0.0 if one is None or one.problem else 1 / one.clip_seconds for one in ceilings]
        ends = [(1 + one.spread) / one.clip_seconds for one in those]
        word = WORD * max(*limits, *ends)
        for place, (one, limit, end) in enumerate(zip(those, limits, ends, strict=True)):
            speed = 1 / one.clip_seconds
            color = OURS if one.candidate.label in ours else THEIRS
            axes.barh(place, speed, color=color, height=0.62, xerr=speed * one.spread, ecolor=QUIET)
            if limit:
                axes.plot([limit] * 2, [place - 0.4, place + 0.4], color="#1b1f24", linewidth=1.5)
            beside = max(limit, end) if limit - end < word else end  # the line is not to strike the number out
            axes.annotate(f"{speed:.3g}", (beside, place), xytext=(6, 0), textcoords="offset points", va="center", fontsize=9)
        axes.set_yticks(range(len(those)), [one.candidate.label.removesuffix(f", {group}") for one in those])
        told = (
            "; black: what its matrix products alone would allow"
            if any(share_of_ceiling(one, by_label) for one in those)
            else ""
        )
        axes.set_title(f"{group}, clips a second".strip(", ") + told, loc="left", fontsize=10, color=QUIET)
        axes.margins(x=0.12)
        axes.grid(axis="x", color="#dfe2e6", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def is_ceiling(one: Measured) -> bool:
    """Whether it is no candidate of its own but the products of another."""
    return one.candidate.maker == "dualpath.speed.ceiling:products_alone"
