"""The layouts that labelled videos come in, read into plain rows. Nothing is judged here but what cannot be a row.

data/train/<class>/*.mp4 (+ val/, test/)  --+
data/<class>/*.mp4                          +--> Found(rows, problems) --> manifest.py checks and splits
labels.csv: path,label[,split][,group]    --+
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Split = Literal["train", "val", "test"]
SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
# fmt: off
VIDEO_SUFFIXES = frozenset((
    ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".h264", ".hevc", ".m1v",
    ".m2ts", ".m2v", ".m4v", ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".ogg",
    ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv", ".y4m",
))
# fmt: on
COLUMNS = {  # what a column means: the names it may have, the first one found counts
    "path": ("path", "file", "video", "filename"),
    "label": ("label", "class"),
    "split": ("split",),
    "group": ("group", "source_group"),
}
HOW_TO_LAY_OUT = "put each video into a folder named after its class, or give a CSV file with the columns path,label"


@dataclass(frozen=True)
class Row:
    """A video as it was found, before anything is checked."""

    path: Path
    name: str
    label: str
    split: Split | None
    group: str | None = None
    line: int | None = None

    @property
    def where(self) -> str:
        return self.name if self.line is None else f"{self.name} (line {self.line})"


@dataclass
class Found:
    """What one reader saw: `empty` are class folders without a video, `dropped` says that rows could not be read."""

    root: Path
    source: str
    rows: list[Row] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    dropped: bool = False


def read_layout(data: Path) -> Found:
    """Decides on the layout: a labels.csv is meant to be read; else class folders go before any CSV beside them."""
    if (data / "labels.csv").is_file():
        return _read_csv(data / "labels.csv")
    if data.is_file():
        if data.suffix.lower() not in (".csv", ".tsv", ".txt"):
            return Found(data.parent, "csv", problems=[f"is neither a folder nor a CSV file; {HOW_TO_LAY_OUT}"])
        return _read_csv(data)
    folders = _read_folders(data)
    tables = [path for path in _visible(data) if path.suffix.lower() == ".csv" and path.is_file()]
    if len({row.label for row in folders.rows}) > 1 or not tables:
        return folders
    if len(tables) > 1 and not folders.rows:
        names = ", ".join(table.name for table in tables)
        return Found(data, "csv", problems=[f"holds no class folders but several CSV files ({names}); give one of them"])
    listed = _read_csv(tables[0])
    return folders if folders.rows and (len(tables) > 1 or not listed.rows) else listed


def _read_folders(data: Path) -> Found:
    """Reads `<split>/<class>/**` if a folder named like a split holds folders, else `<class>/**`."""
    found = Found(data, "class folders")
    top = [path for path in _visible(data) if path.is_dir()]
    given = [path for path in top if path.name.lower() in SPLIT_NAMES and any(p.is_dir() for p in _visible(path))]
    places: list[tuple[Path, Split | None]] = [(path, SPLIT_NAMES[path.name.lower()]) for path in given]
    places = places or [(data, None)]
    found.skipped += [f"{path.name}/" for path in top if given and path not in given]
    for place, split in places:
        found.skipped += [path.relative_to(data).as_posix() for path in _visible(place) if path.is_file()]
        for folder in (path for path in _visible(place) if path.is_dir()):
            files = sorted(_files_below(folder))
            videos = [path for path in files if path.suffix.lower() in VIDEO_SUFFIXES]
            found.skipped += [p.relative_to(data).as_posix() for p in files if p.suffix.lower() not in VIDEO_SUFFIXES]
            # A folder of other things beside class folders (annotations, a run) is no class; an empty one was meant.
            if not videos and (not files or split == "train"):
                found.empty.append(folder.name)
            found.rows += [Row(path, path.relative_to(data).as_posix(), folder.name, split) for path in videos]
    if not found.rows and any(path.suffix.lower() in VIDEO_SUFFIXES for path in _visible(data)):
        found.problems.append(f"holds videos but no class folders; {HOW_TO_LAY_OUT}")
    return found


def _visible(folder: Path) -> list[Path]:
    """Lists a folder by name, without .DS_Store, ._x.mp4 and their like."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _files_below(folder: Path) -> Iterator[Path]:
    """Walks all visible files below a class folder; links to folders inside it are not followed (they may be loops)."""

    def stop(problem: OSError) -> None:
        raise problem  # os.walk would pass an unreadable folder over in silence, and its videos with it

    for place, folders, files in os.walk(folder, onerror=stop):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place, name) for name in files if not name.startswith("."))


def _read_csv(table: Path) -> Found:
    found = Found(table.parent, "csv")
    try:
        text = table.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        found.problems.append(f"{table.name} is not UTF-8 text (byte {problem.start}); save it as UTF-8")
        return found
    first = text.split("\n", 1)[0]
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True)
    try:
        records = [(lines.line_num, [cell.strip() for cell in cells]) for cells in lines if "".join(cells).strip()]
    except csv.Error as problem:
        found.problems.append(f"{table.name} line {lines.line_num} is not CSV ({problem})")
        return found
    if not records:
        found.problems.append(f"{table.name} is empty; {HOW_TO_LAY_OUT}")
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
        else:
            found.dropped = True
    return found


def _row(root: Path, line: int, values: dict[str, str], *, has_split: bool) -> tuple[Row | None, str | None]:
    """Turns one record into a row; one whose file is missing still says what its class and split would be."""
    name, label, split = values["path"], values["label"], values["split"]
    if not name:
        return None, "has no path"
    if not label:
        return None, f"has no label for {name}"
    if has_split and split.lower() not in SPLIT_NAMES:
        return None, f"has the split '{split}' for {name}; allowed are {', '.join(SPLIT_NAMES)}"
    path = root / name  # an absolute name replaces the root
    if path.is_relative_to(root):
        name = path.relative_to(root).as_posix()
    row = Row(path, name, label, SPLIT_NAMES[split.lower()] if has_split else None, values["group"] or None, line)
    return row, None if path.is_file() else f"names a file that is not there: {path}"
