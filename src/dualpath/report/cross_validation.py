"""A cross-validation for people and programs: a table on the terminal, folds.json and predictions.csv."""

from __future__ import annotations

import csv
import io
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from dualpath.engine.checkpoint import versions
from dualpath.engine.cross_validation import CrossValidation, FoldResult
from dualpath.files import write_whole
from dualpath.report.curves import wilson
from dualpath.report.predictions import as_text
from dualpath.terminal import in_line

JSON, PREDICTIONS = "folds.json", "predictions.csv"


def write_cross_validation(result: CrossValidation, output: Path, *, command: str) -> dict[str, Any]:
    """Writes folds.json and predictions.csv and gives what the first one holds.

    Args:
        result: the results of all folds.
        output: folder to write to.
        command: that made it, for who wants to make it again.
    """
    figures = as_json(result, command=command)
    write_whole(output / PREDICTIONS, predictions_csv(result))
    write_whole(output / JSON, json.dumps(figures, indent=2) + "\n")
    return figures


def as_json(result: CrossValidation, *, command: str) -> dict[str, Any]:
    """All figures as plain values; accuracies are shares of 1."""
    pooled, _ = result.pooled()
    summary = pooled.summary()
    right = int(np.trace(pooled.confusion()))
    return {
        "command": command,
        "data": {
            "path": str(result.data),
            "classes": len(pooled.classes),
            "videos": len(pooled.videos),
            "groups": result.groups,
            "test_videos_left_out": result.test_videos,
        },
        "weights": "last epoch",
        "protocol": pooled.protocol,
        "folds": [_fold_json(fold) for fold in result.folds],
        "top1": {
            "mean": result.mean,
            "sd": result.spread,
            "pooled": pooled.top(1),
            "pooled_interval95": list(wilson(right, len(pooled.videos))),
            "right": right,
            "videos": len(pooled.videos),
        },
        **({"baseline": {name: {"top1": share} for name, share in result.baselines.items()}} if result.baselines else {}),
        "mean_class_accuracy": summary["mean_class_accuracy"],
        "per_class": summary["per_class"],
        "confusion": summary["confusion"],
        "undecodable": summary["undecodable"],
        "damaged": summary["damaged"],
        "settings": result.config.settings(),
        "versions": versions(),
    }


def _fold_json(fold: FoldResult) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "fold": fold.fold,
        "train_videos": fold.train_videos,
        "held_out_videos": len(fold.evaluation.videos),
        "undecodable": len(fold.evaluation.failures),
        "top1": fold.top1,
        "mean_class_accuracy": fold.evaluation.mean_class_accuracy(),
    }
    if fold.baselines:
        figures["baseline"] = {name: {"top1": top1} for name, top1 in fold.baselines.items()}
    return figures


def predictions_csv(result: CrossValidation) -> str:
    """video,fold,label,prediction and one score a class, each video once; an undecodable video has empty cells."""
    pooled, numbers = result.pooled()
    head, *rows = csv.reader(io.StringIO(pooled.predictions_csv()))
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([head[0], "fold", *head[1:]])
    writer.writerows([row[0], number, *row[1:]] for row, number in zip(rows, numbers, strict=True))
    return out.getvalue()


def cross_validation_table(result: CrossValidation) -> str:
    """A line a fold, mean and standard deviation, the pooled accuracy with its interval, the videos that are unreadable."""
    names = list(result.baselines)
    table = Table("fold")
    for head in ("training videos", "held-out videos", "top-1", "mean per class", *(f"baseline {name}" for name in names)):
        table.add_column(head, justify="right")
    for fold in result.folds:
        shares = (fold.top1, fold.evaluation.mean_class_accuracy(), *(fold.baselines[name] for name in names))
        table.add_row(str(fold.fold), str(fold.train_videos), str(len(fold.evaluation.videos)), *map(_percent, shares))
    table.add_section()
    means = (result.mean, statistics.fmean(fold.evaluation.mean_class_accuracy() for fold in result.folds))
    table.add_row("mean", "", "", *map(_percent, means), *(_percent(result.baselines[name]) for name in names))
    pooled, _ = result.pooled()
    mean, spread = 100 * result.mean, 100 * result.spread
    right, count = int(np.trace(pooled.confusion())), len(pooled.videos)
    low, high = wilson(right, count)
    lines = [
        f"top-1 {mean:.1f} ± {spread:.1f} %: mean and standard deviation of {len(result.folds)} folds",
        f"top-1 {100 * right / count:.1f} % of all {count} videos ({right} right), 95 % interval {100 * low:.1f} to "
        f"{100 * high:.1f} %; {pooled.protocol}",
        f"mean per class {100 * pooled.mean_class_accuracy():.1f} % of all {count} videos",
    ]
    if sentence := pooled.out_of_balance():
        lines.append(f"warning: {sentence}")
    for found, told in (
        (pooled.failures, "could not be decoded and counted as wrong"),
        (pooled.damaged, "damaged, the rest was judged"),
    ):
        if found:
            lines.append(f"{len(found)} of them {told}:")
            lines += [f"  {in_line(pooled.videos[index].name)} {reason}" for index, reason in found.items()]
    return as_text(table, *lines)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
