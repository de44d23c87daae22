"""Predictions on the terminal; apart from the other tables, because a prediction has no time for what those import."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from dualpath.engine.answers import Answer
from dualpath.terminal import in_line


def as_text(*parts: Table | str) -> str:
    """What rich would print, as text."""
    # Not cut to 80 columns where the output is a pipe: names stay whole.
    console = Console(file=io.StringIO(), width=200, markup=False, emoji=False)
    for part in parts:
        console.print(part, highlight=False)
    return console.file.getvalue().rstrip()  # pyright: ignore[reportAttributeAccessIssue]


def prediction_table(answers: Sequence[Answer]) -> str:
    """The best classes of each file."""
    table = Table("video", "class", "score")
    for answer in answers:
        for rank, guess in enumerate(answer.classes):
            table.add_row(
                in_line(answer.video) if rank == 0 else "", in_line(str(guess["label"])), f"{float(guess['score']):.4f}"
            )
    return as_text(table)
