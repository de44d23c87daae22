"""A table of one's own with a header: `path,label[,split][,group]` and, for parts of videos, `start,end`; paths relative to it.

    labels.csv                       or any other CSV file
    metadata.csv, metadata.jsonl     as Hugging Face has them: `file_name,label`, beside the videos or in train/, test/ ...

start and end are seconds (5, 7.25, 00:01:07.5), start_frame and end_frame frames, counted from 0. The end itself is not in it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dualpath.data.formats.base import HOW_TO_LAY_OUT, SPLIT_NAMES, UNUSABLE, Format, Found, Given, Row, Tell, visible
from dualpath.data.formats.text import MOST, Nested, read_head, read_json_lines, read_records, short, whole
from dualpath.errors import number_of

# fmt: off
COLUMNS = {  # what a column means: the names it may have, of which a table has one
    "path": ("path", "file", "video", "filename", "file_name", "file_path", "filepath", "video_path", "video_name",
             "video_file", "clip", "clip_path"),
    "label": ("label", "class", "labels", "label_name", "class_name", "class_label", "category", "action", "action_name",
              "action_label", "activity", "target"),
    "split": ("split", "subset", "partition", "set"),
    "group": ("group", "group_id", "source_group"),
    "start": ("start", "start_time", "time_start", "start_s", "start_sec", "start_seconds", "start_timestamp", "t_start",
              "begin"),
    "end": ("end", "end_time", "time_end", "end_s", "end_sec", "end_seconds", "end_timestamp", "stop_timestamp", "t_end",
            "stop"),
    "start_frame": ("start_frame", "frame_start", "first_frame", "begin_frame"),
    "end_frame": ("end_frame", "frame_end", "stop_frame"),
}
# fmt: on
OWN = "labels.csv"
"""A table of this name in the folder is meant to be read."""
TOLD_ROWS = 10_000
"""Rows from one telling to the next: shorter tables are read at once."""
HUGGING_FACE = ("metadata.csv", "metadata.jsonl")
LINES = (".jsonl", ".ndjson")
_CLOCK = re.compile(r"(?:(\d{1,4}):)?(\d{1,2}):(\d{1,2}(?:\.\d*)?)")
_WINDOWS = re.compile(r"[A-Za-z]:[\\/]")


def column_name(cell: str) -> str:
    """A cell of a header as COLUMNS spells it: "Video Path" is video_path."""
    return re.sub(r"[\s-]+", "_", cell.strip().lower())


def read_table(table: Path, found: Found | None = None, progress: Tell = lambda done, total: None) -> Found:
    """The rows of a table; a file that is listed and not there is a problem: nobody lists by hand what is not there.

    Args:
        table: the file.
        found: what the rows are added to, where the data has several tables.
        progress: is told (rows done, rows in all) now and then.
    """
    found = found or Found(table.parent, "csv")
    read = read_json_lines if table.suffix.lower() in LINES else read_records
    records = read(table, found.refuse, hint=HOW_TO_LAY_OUT)
    if records is None:
        return found
    header = [column_name(cell) for cell in records[0][1]]
    where = table.relative_to(found.root).as_posix()
    columns = _columns(where, records[0][1], header, found)
    if columns is None:
        return found
    reader = _Reader(table, found, has_split="split" in columns)
    for number, (line, cells) in enumerate(records[1:], 1):
        if number % TOLD_ROWS == 0 or number == len(records) - 1 > TOLD_ROWS:
            progress(number, len(records) - 1)
        if len(cells) > len(header):
            problem = (
                f"has {number_of(len(cells), 'field')}, the header has {len(header)}; put quotes around a label with a comma"
            )
            row = None
        else:
            values = {use: cells[at] if at < len(cells) else "" for use, at in columns.items()}
            row, problem = reader.row(line, values)
        if problem:
            found.problems.append(f"{where} line {line} {problem}")
        if row:
            found.rows.append(row)
        if row is None or row.label == UNUSABLE:
            found.dropped = True
    if reader.turned:
        found.notes.append(f"{where} has paths with the backslashes of Windows ({reader.turned}); they are read as slashes")
    return found


def _columns(where: str, written: Sequence[str], header: Sequence[str], found: Found) -> dict[str, int] | None:
    """The place of each column that is used; None, and problems, if it is not clear which those are."""
    columns: dict[str, int] = {}
    before = len(found.problems)
    for use, names in COLUMNS.items():
        places = [at for at, cell in enumerate(header) if cell in names]
        if len(places) > 1:
            given = " and ".join(written[at] for at in places)
            found.problems.append(f"{where} has the columns {given}, which both may be the {use}; rename or remove one of them")
        elif places:
            columns[use] = places[0]
        elif use in ("path", "label"):
            told = f"{where} has no column {names[0]} (or {', '.join(names[1:])}); it has {', '.join(written)}"
            found.problems.append(told)
    frames = [use for use in ("start_frame", "end_frame") if use in columns]
    seconds = [use for use in ("start", "end") if use in columns]
    if len(frames) == 1 and seconds and f"{seconds[0]}_frame" not in frames:
        given = " and ".join(written[columns[use]] for use in (*seconds, *frames))
        found.problems.append(f"{where} has the columns {given}: give both ends in seconds, or both in frames")
    if len(found.problems) > before:
        return None
    for use in seconds if frames else ():
        del columns[use]  # the same told less exactly
    used = {name: written[columns[name]] for name in columns if name in ("start", "end", "start_frame", "end_frame")}
    if used:
        unit = "frames, counted from 0" if frames else "seconds (frames would be start_frame and end_frame)"
        found.notes.append(f"{where} gives parts of videos: {' and '.join(used.values())} are read as {unit}")
    if unused := [cell for at, cell in enumerate(written) if cell and at not in columns.values()]:
        found.notes.append(f"{where} has columns that are not used: {', '.join(unused)}")
    return columns


class _Reader:
    """Turns the records of one table into rows.

    Attributes:
        turned: the first path whose backslashes had to be read as slashes.
    """

    def __init__(self, table: Path, found: Found, *, has_split: bool) -> None:
        self.turned = ""
        self._folder, self._has_split = table.parent, has_split
        self._root = str(found.root / "x")[:-1]  # as text, with its slash: a million rows are a million names
        self._split_by_folder = table.name in HUGGING_FACE and not has_split

    def row(self, line: int, values: dict[str, str]) -> tuple[Row | None, str | None]:
        """A row, and what is wrong with it; one whose file is missing still says what its class and split would be."""
        name, label = values["path"], values["label"]
        if not name:
            return None, "has no path"
        split = SPLIT_NAMES.get(values.get("split", "").lower())
        if self._has_split and split is None:
            allowed = ", ".join(SPLIT_NAMES)
            return None, f"has the split '{values['split']}' for {name}; allowed are {allowed}"
        path, missing = self._place(name)
        name = str(path).removeprefix(self._root)
        if self._split_by_folder:
            split = SPLIT_NAMES.get(name.partition("/")[0].lower())
        if isinstance(label, Nested):
            label, missing = UNUSABLE, missing or f"has the label {short(str(label))} for {name}; it must be one name or number"
        elif not label:
            missing = f"has no label for {name}"
        part, wrong = segment(values)
        if wrong:
            label, missing = UNUSABLE, f"{wrong} for {name}"
        return Row(path, name, label or UNUSABLE, split, values.get("group") or None, line, **part), missing

    def _place(self, name: str) -> tuple[Path, str | None]:
        """Where a listed file is, or would be, and what is wrong if it is not there."""
        path = self._folder / name  # an absolute name replaces the folder
        if os.path.isfile(path):  # noqa: PTH113 (no name from a list is too long or too strange for it)
            return path, None
        told = f"names a file that is not there: {path}"
        if "\\" not in name:
            return path, told
        if not _WINDOWS.match(name):
            slashed = self._folder / name.replace("\\", "/")
            if slashed.is_file():
                self.turned = self.turned or name
                return slashed, None
        return path, f"{told}; that is a path of Windows: write it with slashes, relative to the table, such as videos/1.mp4"


def segment(values: dict[str, str]) -> tuple[dict[str, Any], str | None]:
    """The part of its file that a row is, as fields of `Row`, none for all of it; and what is wrong with it."""
    in_frames = "start_frame" in values or "end_frame" in values
    names = ("start_frame", "end_frame") if in_frames else ("start", "end")
    ends: list[float | None] = []
    for use in names:
        text = values.get(use, "")
        number = None if text == "" else _frame(text) if in_frames else _seconds(text)
        if text and number is None:
            what = "a frame number from 0 on" if in_frames else "a time in seconds (7.25) or as 00:01:07.25, not negative"
            return {}, f"has the {use} {short(text)}; it must be {what}, or empty for the {use.partition('_')[0]} of the video,"
        ends.append(number)
    start, end = ends[0] or 0, ends[1]
    if end is not None and end <= start:
        unit = "frame " if in_frames else ""
        return {}, f"goes from {unit}{start:g} to {unit}{end:g}; the end must come after the start,"
    if start == 0 and end is None:
        return {}, None
    return {"start": start, "end": end} if in_frames else {"seconds": (float(start), end)}, None


def _frame(text: str) -> int | None:
    return whole(re.sub(r"\.0+$", "", text))  # a column with gaps comes out of pandas as 3.0


def _seconds(text: str) -> float | None:
    """To the millisecond; None for what is no time."""
    clock = _CLOCK.fullmatch(text)
    try:
        number = 3600 * int(clock[1] or 0) + 60 * int(clock[2]) + float(clock[3]) if clock else float(text)
    except ValueError:
        return None
    return round(number, 3) if 0 <= number <= MOST else None


def _tables(folder: Path) -> list[Path]:
    """The tables that a folder is described by: labels.csv, or Hugging Face's, in it or in its train/, val/ and test/."""
    if (folder / OWN).is_file():
        return [folder / OWN]
    places = [folder, *(path for path in visible(folder) if path.name.lower() in SPLIT_NAMES and path.is_dir())]
    return [place / name for place in places for name in HUGGING_FACE if _has_labels(place / name)]


def _has_labels(table: Path) -> bool:
    """Whether it names a label for each file, by its first line: captions and the like are not ours."""
    first = read_head(table).split("\n", 1)[0] if table.is_file() else ""
    cells = re.findall(r'"([^"]*)"\s*:', first) if table.suffix in LINES else re.split(r"[,;\t]", first)
    names = {column_name(cell.strip('"\r ')) for cell in cells}
    return not names.isdisjoint(COLUMNS["path"]) and not names.isdisjoint(COLUMNS["label"])


def _read(given: Given) -> Found:
    if not given.path.is_dir():
        return read_table(given.path, progress=given.progress)
    tables = _tables(given.path) or [given.path / OWN]
    found = Found(given.path, "csv")
    for table in tables:
        if len([other for other in tables if other.parent == table.parent]) > 1:
            found.problems.append(f"holds both {' and '.join(HUGGING_FACE)}; leave one of them")
            return found
    for table in tables:
        read_table(table, found, given.progress)
    return found


FORMAT = Format(
    "table",
    "a table path,label",
    owns=lambda path: path.name in (OWN, *HUGGING_FACE),
    fits=lambda given: given.path.is_file() or bool(_tables(given.path)),
    read=_read,
)
