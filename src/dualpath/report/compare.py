"""A comparison for people and programs: a table on the terminal, compare.md, compare.json and compare.png."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dualpath.engine.compare import Comparison
from dualpath.engine.one_run import RunResult
from dualpath.errors import number_of
from dualpath.files import write_whole
from dualpath.markdown import escaped, fenced, table
from dualpath.report.curves import wilson
from dualpath.report.rows import FIGURES, Row, make_rows, name_rate, name_settings, over_seeds, protocol, remarks
from dualpath.report.scatter import Point, draw

JSON, MARKDOWN, PICTURE = "compare.json", "compare.md", "compare.png"
HEADS = (
    "entry",
    "own settings",
    "learning rate",
    "top-1",
    "mean per class",
    "trained",
    "GMACs",
    "s/step",
    "peak memory",
    "clips/s",
)


def write_comparison(comparison: Comparison, output: Path, *, command: str) -> dict[str, Any]:
    """Writes compare.json, compare.md and compare.png and gives what the first one holds.

    Args:
        comparison: what was compared.
        output: folder to write to.
        command: that made it, for who wants to make it again.
    """
    rows = make_rows(comparison)
    told = as_json(comparison, rows, command=command)
    points = [
        Point(
            label=row.entry.label,
            trainable=row.runs[0].trainable,
            gmacs=row.gmacs * row.views,
            top1=row.top1,
            spread=row.spread,
            ours=row.entry.config.method == "dualpath",
        )
        for row in rows
    ]
    write_whole(output / JSON, json.dumps(told, indent=2) + "\n")
    write_whole(output / MARKDOWN, markdown(comparison, rows, command=command))
    measured = dict(protocol(comparison, rows))["accuracy"]
    about = f"Accuracy over cost on {comparison.data.name}, {comparison.classes} classes: {measured}"
    write_whole(output / PICTURE, draw(points, title=about))
    return told


def as_json(comparison: Comparison, rows: Sequence[Row], *, command: str) -> dict[str, Any]:
    """All figures as plain values; what another try would measure otherwise stands under "measured"."""
    folds = comparison.folds
    counts: Any = {str(fold): comparison.counts[fold] for fold in folds} if folds else comparison.counts[None]
    return {
        "command": command,
        "data": {"path": str(comparison.data), "classes": comparison.classes, "videos": counts},
        "split": comparison.split,
        **({"folds": list(folds)} if folds else {}),
        "weights": "last epoch",
        "seeds": list(comparison.seeds),
        "settings": _common(comparison),
        "versions": rows[0].runs[0].versions,
        "unequal": remarks(comparison, rows),
        "entries": [_entry_json(row) for row in rows],
    }


def _entry_json(row: Row) -> dict[str, Any]:
    run = row.runs[0]
    return {
        "label": row.entry.label,
        "method": row.entry.config.method,
        "own_settings": row.own,
        "learning_rate": row.entry.config.training.peak_lr,
        "protocol": run.protocol,
        "top1": over_seeds(row.seeds),
        "mean_class_accuracy": over_seeds(row.mean_class) if row.mean_class else None,
        **(_folds_json(row) if row.folds else {}),
        "trainable_params": run.trainable,
        "all_params": run.total,
        "gmacs": {"view": row.gmacs, "views": row.views, "video": row.gmacs * row.views},
        "backbone_stored_in": run.stored,
        "measured": dict(row.measured),
        "runs": [_run_json(run) for run in row.runs],
    }


def _folds_json(row: Row) -> dict[str, Any]:
    """What the accuracies of the seeds are the means of."""
    top1, means = (
        {str(fold): over_seeds(shares) for fold, shares in folds.items()} for folds in (row.folds, row.mean_class_folds)
    )
    return {"top1_of_seeds": list(row.seeds), "top1_of_folds": top1, "mean_class_accuracy_of_folds": means or None}


def _run_json(run: RunResult) -> dict[str, Any]:
    return {
        "seed": run.seed,
        **({} if run.fold is None else {"fold": run.fold}),
        "top1": run.top1,
        "top1_interval95": list(wilson(run.right, run.videos)),
        "mean_class_accuracy": run.mean_class,
        "videos": run.videos,
        "right": run.right,
        "undecodable": run.undecodable,
        "measured": {name: getattr(run, name) for name in FIGURES} | {"machine": run.machine},
    }


def _common(comparison: Comparison) -> dict[str, Any]:
    """The common settings, without a method's."""
    base = comparison.base
    flat: dict[str, Any] = {}
    for part in (base.backbone, base.sampling, base.transform, base.views, base.training):
        flat |= asdict(part)
    return {name: value for name, value in flat.items() if name != "seed"}


def cells(row: Row, *, long: bool = False) -> list[str]:
    """A row's figures as text, under HEADS."""
    run = row.runs[0]
    gmacs = three(row.gmacs) if row.views == 1 else f"{three(row.gmacs)} x {row.views} = {three(row.gmacs * row.views)}"
    share = f"{run.trainable:,} ({100 * run.trainable / run.total:.2f} %)" if long else f"{_short(run.trainable)}"
    step, speed = row.measured["step_seconds"], row.measured["clips_per_s"]
    return [
        row.entry.label,
        name_settings(row.own),
        name_rate(row.entry.config.training.peak_lr),
        _per_cent(row.seeds),
        _per_cent(row.mean_class) if row.mean_class else "-",
        share,
        gmacs,
        "-" if step is None else three(step),
        "-" if row.memory is None else f"{row.memory:.2f} GB",
        "-" if speed is None else three(speed),
    ]


def fold_tables(comparison: Comparison, rows: Sequence[Row]) -> list[tuple[list[str], list[list[str]]]]:
    """Heads and cells of the accuracies on each fold and their mean: top-1, and the mean per class where it is another."""
    if not comparison.folds:
        return []
    cells = [[*map(_per_cent, row.folds.values()), _per_cent(row.seeds)] for row in rows]
    means = [[*map(_per_cent, row.mean_class_folds.values()), _per_cent(row.mean_class or row.seeds)] for row in rows]
    if not all(row.mean_class for row in rows) or means == cells:
        means = []
    names = [row.entry.label for row in rows]
    return [
        ([f"{what} by split", *(f"split {fold}" for fold in comparison.folds), "mean"],
         [[name, *line] for name, line in zip(names, lines, strict=True)])
        for what, lines in (("top-1", cells), ("mean per class", means))
        if lines
    ]  # fmt: skip


def _per_cent(shares: Sequence[float]) -> str:
    mean, sd = over_seeds(shares)["mean"], over_seeds(shares)["sd"]
    return f"{100 * mean:.1f} %" if sd is None else f"{100 * mean:.1f} ± {100 * sd:.1f} %"


def comparison_table(comparison: Comparison) -> str:
    """Protocol, table and remarks for the terminal."""
    rows = make_rows(comparison)
    shown = Table(*HEADS)
    for row in rows:
        shown.add_row(*cells(row))
    console = Console(file=io.StringIO(), width=200, markup=False, emoji=False)
    console.print("\n".join(f"{name:<9} {words}" for name, words in protocol(comparison, rows)), highlight=False, markup=False)
    console.print(shown)
    for heads, lines in fold_tables(comparison, rows):
        by_fold = Table(*heads)
        for line in lines:
            by_fold.add_row(*line)
        console.print(by_fold)
    console.print("\n".join(remarks(comparison, rows)), highlight=False, markup=False, soft_wrap=True)
    return console.file.getvalue().rstrip()  # pyright: ignore[reportAttributeAccessIssue]


def markdown(comparison: Comparison, rows: Sequence[Row], *, command: str) -> str:
    """The page: command, protocol, table, picture, what is unequal."""
    facts = "\n".join(f"- **{name}**: {escaped(words)}" for name, words in protocol(comparison, rows))
    tables = [table(HEADS, [cells(row, long=True) for row in rows], words=2)]
    tables += [table(heads, lines, words=1) for heads, lines in fold_tables(comparison, rows)]
    unequal = "\n".join(f"- {escaped(remark)}" for remark in remarks(comparison, rows))
    joined = "\n\n".join(tables)
    return f"""# {number_of(len(rows), "entry|entries")} compared on {escaped(comparison.data.name)}

{fenced(command)}

{facts}

{joined}

GMACs are multiply-adds at inference, of one view and of all views of a video; s/step is a training step; clips/s is
inference.

![Accuracy over trained parameters and over GMACs]({PICTURE})

## What is unequal, and what the figures cannot say

{unequal}
"""


def three(value: float) -> str:
    """Three significant digits, or all before the point: 0.0123, 1.23, 12,346."""
    digits = 2 - math.floor(math.log10(value)) if value > 0 else 0
    return f"{value:,.{max(0, digits)}f}"


def _short(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count >= 1e6 else f"{count / 1e3:.1f} k" if count >= 1000 else str(count)
