"""A CSV file of one's own with a header: `path,label[,split][,group]`, paths relative to it."""

from __future__ import annotations

from pathlib import Path

from dualpath.data.formats.base import HOW_TO_LAY_OUT, SPLIT_NAMES, UNUSABLE, Format, Found, Given, Row, exists
from dualpath.data.formats.text import read_records

COLUMNS = {  # what a column means: the names it may have, the first one found counts
    "path": ("path", "file", "video", "filename"),
    "label": ("label", "class"),
    "split": ("split",),
    "group": ("group", "source_group"),
}
OWN = "labels.csv"
"""A table of this name in the folder is meant to be read."""


def read_table(table: Path) -> Found:
    """The rows of a table; a file that is listed and not there is a problem: nobody lists by hand what is not there."""
    found = Found(table.parent, "csv")
    records = read_records(table, found.refuse, hint=HOW_TO_LAY_OUT)
    if records is None:
        return found
    header = [cell.lower() for cell in records[0][1]]
    columns = {use: next((header.index(n) for n in names if n in header), None) for use, names in COLUMNS.items()}
    for use in ("path", "label"):
        if columns[use] is None:
            found.problems.append(f"{table.name} has no column {' or '.join(COLUMNS[use])}; it has {', '.join(header)}")
    if found.problems:
        return found
    for line, cells in records[1:]:
        if len(cells) > len(header):
            problem = f"has {len(cells)} fields, the header has {len(header)}; put quotes around a label with a comma"
            row = None
        else:
            values = {use: cells[at] if at is not None and at < len(cells) else "" for use, at in columns.items()}
            row, problem = _row(table.parent, line, values, has_split=columns["split"] is not None)
        if problem:
            found.problems.append(f"{table.name} line {line} {problem}")
        if row:
            found.rows.append(row)
        if row is None or row.label == UNUSABLE:
            found.dropped = True
    return found


def _row(root: Path, line: int, values: dict[str, str], *, has_split: bool) -> tuple[Row | None, str | None]:
    """Turns one record into a row; one whose file is missing still says what its class and split would be."""
    name, label, split = values["path"], values["label"], values["split"]
    if not name:
        return None, "has no path"
    if has_split and split.lower() not in SPLIT_NAMES:
        return None, f"has the split '{split}' for {name}; allowed are {', '.join(SPLIT_NAMES)}"
    path = root / name  # an absolute name replaces the root
    if path.is_relative_to(root):
        name = path.relative_to(root).as_posix()
    row = Row(path, name, label or UNUSABLE, SPLIT_NAMES[split.lower()] if has_split else None, values["group"] or None, line)
    if not label:
        return row, f"has no label for {name}"
    return row, None if exists(path) and path.is_file() else f"names a file that is not there: {path}"


def _read(given: Given) -> Found:
    return read_table(given.path / OWN if given.path.is_dir() else given.path)


FORMAT = Format(
    "table",
    "a table path,label",
    owns=lambda path: path.name == OWN,
    fits=lambda given: given.path.is_file() or (given.path / OWN).is_file(),
    read=_read,
)
