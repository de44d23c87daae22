"""What time is worth, for people and programs: a table on the terminal, worth.md, worth.json, worth.csv and worth.png."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from rich.table import Table

from dualpath.engine.checkpoint import versions
from dualpath.engine.verdicts import ALPHA, IN_ORDER, VERDICTS, ClassWorth
from dualpath.engine.worth import ROWS, Worth
from dualpath.errors import number_of
from dualpath.files import csv_cell, write_whole
from dualpath.markdown import escaped, fenced, table
from dualpath.report.curves import wilson
from dualpath.report.predictions import as_text
from dualpath.report.worth_picture import draw_worth, points
from dualpath.terminal import in_line

JSON, CSV, MARKDOWN, PICTURE = "worth.json", "worth.csv", "worth.md", "worth.png"
HEADS = ("row", "top-1", "mean per class", "right", "change from frames in order, points (95 %)")
RULE = f"""How a class gets its verdict: a row tells a class if the videos of the class are taken for it more often than those
of the others are (Fisher's exact test, one-sided); frames in order are better than another row if the difference of these two
shares differs, by McNemar's exact test on the videos that the two rows take for the class differently. All at
{100 * ALPHA:.0f} %, corrected over all classes and rows by Holm's method. The order of
frames tells a class if frames in order are better than reversed or than shuffled ones. One frame tells it if its difference
of the two shares is also at least half of that in order."""


def write_worth(worth: Worth, folder: Path, *, command: str) -> dict[str, Any]:
    """Writes worth.json, worth.csv, worth.md and worth.png, each whole or not at all, and gives what the first one holds.

    Args:
        worth: what was measured.
        folder: to write to.
        command: that made it, for who wants to make it again.
    """
    told = as_json(worth, command=command)
    write_whole(folder / JSON, json.dumps(told, indent=2) + "\n")
    write_whole(folder / CSV, as_csv(worth))
    write_whole(folder / MARKDOWN, markdown(worth, command=command))
    write_whole(folder / PICTURE, draw_worth(worth))
    return told


def as_json(worth: Worth, *, command: str) -> dict[str, Any]:
    """All figures as plain values."""
    plain = worth.in_order
    rows: dict[str, Any] = {}
    for row, found in worth.rows.items():
        right = int(worth.right(row).sum())
        rows[row] = {
            "shows": ROWS[row],
            "top1": right / len(plain.videos),
            "top1_interval95": list(wilson(right, len(plain.videos))),
            "right": right,
            "mean_class_accuracy": found.mean_class_accuracy(),
        }
        if row != IN_ORDER:
            loss = worth.losses[row]
            rows[row]["in_order_minus_this"] = {"difference": loss.difference, "interval95": [loss.low, loss.high]}
    return {
        "command": command,
        "protocol": plain.protocol,
        "videos": len(plain.videos),
        "undecodable": {plain.videos[i].name: reason for i, reason in plain.failures.items()},
        "quarantined": plain.quarantined,
        "data": plain.data,
        "rows": rows,
        "no_paths": worth.no_paths,
        "verdicts": count_verdicts(worth),
        "classes": {plain.classes[one.label]: _class_json(one) for one in worth.by_class},
        "meaning": VERDICTS,
        "rule": " ".join(RULE.split()),
        "versions": versions(),
    }


def _class_json(one: ClassWorth) -> dict[str, Any]:
    if not one.videos:
        return {"videos": 0, "verdict": None}
    return {
        "videos": one.videos,
        "verdict": one.verdict,
        "right": one.hits,
        "top1": {row: one.share(row) for row in one.hits},
        "others_taken_for_it": one.alarms,
        "p_told": one.told,
        "p_in_order_differs": one.better,
    }


def count_verdicts(worth: Worth) -> dict[str, int]:
    """How many classes have each verdict."""
    given = [one.verdict for one in worth.by_class]
    return {name: given.count(name) for name in VERDICTS}


def as_csv(worth: Worth) -> str:
    """video,label and the class predicted in each row; an undecodable video has empty cells."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["video", "label", *worth.rows])
    classes = worth.in_order.classes
    guesses = [found.predictions for found in worth.rows.values()]
    for i, video in enumerate(worth.in_order.videos):
        names = ["" if row[i] < 0 else classes[row[i]] for row in guesses]
        writer.writerow(map(csv_cell, (video.name, classes[video.label], *names)))
    return out.getvalue()


def row_cells(worth: Worth) -> list[list[str]]:
    """The cells below HEADS."""
    count = len(worth.in_order.videos)
    cells = []
    for row, found in worth.rows.items():
        right = int(worth.right(row).sum())
        change = "" if row == IN_ORDER else points(worth.losses[row])
        shares = (f"{100 * share:.1f} %" for share in (right / count, found.mean_class_accuracy()))
        cells.append([ROWS[row], *shares, f"{right} of {count}", change])
    return cells


def class_heads(worth: Worth) -> list[str]:
    """What `class_cells` stand under."""
    return ["class", "verdict", "videos", *(ROWS[row].replace(" path silenced", " silenced") for row in worth.rows)]


def class_cells(worth: Worth) -> list[list[str]]:
    """Name, verdict, videos and accuracy in each row of every class, in per cent."""
    cells = []
    for one in worth.by_class:
        shares = [f"{100 * one.share(row):.0f}" if one.videos else "-" for row in worth.rows]
        cells.append([in_line(worth.in_order.classes[one.label]), one.verdict or "-", str(one.videos), *shares])
    return cells


def verdict_words(worth: Worth) -> list[str]:
    """A line for each verdict that was given: "motion, 12 classes: told by the order of its frames ..."."""
    counts = count_verdicts(worth)
    return [
        f"{name}, {count} {'class' if count == 1 else 'classes'}: {VERDICTS[name]}" for name, count in counts.items() if count
    ]


def remarks(worth: Worth) -> list[str]:
    """Sentences on what is not in the tables."""
    plain = worth.in_order
    told = [worth.no_paths] if worth.no_paths else ["A silenced path's features are their mean over all videos."]
    if words := plain.listed_words():
        told.append(words)
    if plain.failures:
        count = len(plain.failures)
        told.append(f"{count} {'video' if count == 1 else 'videos'} could not be decoded and counted as wrong in each row:")
        told += [f"  {in_line(plain.videos[i].name)} {reason}" for i, reason in plain.failures.items()]
    return told


def worth_table(worth: Worth) -> str:
    """Overall figures, classes with their verdicts, and what they mean, for the terminal."""
    overall, by_class = Table(), Table()
    for place, head in enumerate(HEADS):
        overall.add_column(head, justify="right" if place else "left")
    for place, head in enumerate(class_heads(worth)):
        by_class.add_column(head, justify="right" if place > 1 else "left")
    for cells in row_cells(worth):
        overall.add_row(*cells)
    for cells in class_cells(worth):
        by_class.add_row(*cells)
    return as_text(
        f"{number_of(len(worth.in_order.videos), 'video')}, {worth.in_order.protocol}",
        overall,
        by_class,
        *verdict_words(worth),
        *remarks(worth),
    )


def markdown(worth: Worth, *, command: str) -> str:
    """The page: command, rows, picture, classes, what a verdict means."""
    plain = worth.in_order
    meaning = "\n".join(f"- {line}" for line in verdict_words(worth))
    told = "\n".join(f"- {escaped(line.strip())}" for line in remarks(worth))
    return f"""# What time is worth

{fenced(command)}

{number_of(len(plain.videos), "video")} of {len(plain.classes)} classes, {plain.protocol}.

{table(HEADS, row_cells(worth), words=1)}

![Accuracy with frames in several orders and with each path silenced, overall and by class]({PICTURE})

{told}

## Classes

Accuracy in per cent.

{table(class_heads(worth), class_cells(worth), words=2)}

{meaning}

{RULE}
"""
