"""What is kept of each file that `dualpath data check` has looked into: a line of JSON, written as soon as it is known.

files.jsonl: {"version": 1}, then one line a file; the last line for a name counts
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from dualpath.errors import DualPathError
from dualpath.video.decoding.places import find_place
from dualpath.video.inspect import Inspection

FILES = "files.jsonl"
VERSION = 1
NO_FILE = "there is no such file"
Stamp = tuple[int, int]
"""Size in bytes and time of the last change in nanoseconds: with the same ones a file is taken for the same."""
MISSING: Stamp = (-1, -1)


@dataclass(frozen=True)
class Record:
    """One file.

    Attributes:
        name: as in the manifest.
        stamp: of the file when it was read.
        problem: why it could not be read at all; None if it could.
        inspection: what it holds; None if it could not be read.
        pictures: JPEG as base64, of some files.
    """

    name: str
    stamp: Stamp
    problem: str | None
    inspection: Inspection | None = None
    pictures: tuple[str, ...] = ()

    @property
    def bad(self) -> str | None:
        """Why this file cannot be used; None if it can."""
        seen = self.inspection
        if self.problem is not None or seen is None:
            return self.problem or "was not read"
        return seen.broken

    def as_line(self) -> str:
        """One line of JSON."""
        told: dict[str, Any] = {"name": self.name, "size": self.stamp[0], "mtime_ns": self.stamp[1], "problem": self.problem}
        if self.inspection is not None:
            told |= self.inspection.as_json()
        if self.pictures:
            told["pictures"] = list(self.pictures)
        return json.dumps(told) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Record:
        """The same again; ValueError, KeyError or TypeError if it is not one."""
        told = json.loads(line)
        seen = Inspection.from_json(told) if told["problem"] is None else None
        stamp = (int(told["size"]), int(told["mtime_ns"]))
        return cls(told["name"], stamp, told["problem"], seen, tuple(told.get("pictures", ())))


def stamp_of(path: Path) -> Stamp:
    """Size and time of change; MISSING of what is not there."""
    place = find_place(path)
    try:
        told = place.file.stat()
    except (OSError, ValueError):  # a name from JSON may hold a zero byte
        return MISSING
    return told.st_size if place.size is None else place.size, told.st_mtime_ns


def is_missing(path: Path) -> bool:
    """Whether there is no such file at all; parts of shards that are fetched when they are wanted are there."""
    return find_place(path).size is None and not os.path.lexists(path)


def read_records(folder: Path) -> dict[str, Record]:
    """The records in a folder by name; none if there is no file yet. A line that a kill cut short is left out.

    Raises:
        DualPathError: files.jsonl cannot be read, or is of another version.
    """
    path = folder / FILES
    if not path.exists():
        return {}
    found: dict[str, Record] = {}
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            if file.readline().strip() not in ("", json.dumps({"version": VERSION})):
                raise DualPathError(f"{path} is not of this version of dualpath; check the data again, into a new folder")
            for line in file:
                try:
                    record = Record.from_line(line)
                except (ValueError, KeyError, TypeError):
                    continue
                found[record.name] = record
    except OSError as problem:
        raise DualPathError(f"{path} cannot be read ({problem.strerror}); check the data again, into a new folder") from problem
    return found


@contextmanager
def appending(folder: Path) -> Iterator[TextIO]:
    """files.jsonl, to be written to at its end.

    Raises:
        DualPathError: it cannot be written (no space, no permission).
    """
    path = folder / FILES
    try:
        folder.mkdir(parents=True, exist_ok=True)
        size = path.stat().st_size if path.exists() else 0
        with path.open("rb") if size else io.BytesIO() as file:
            file.seek(max(0, size - 1))
            cut = file.read() not in (b"", b"\n")  # by a kill
        with path.open("a", encoding="utf-8", errors="surrogateescape", buffering=1) as file:
            if size == 0 or cut:
                file.write("\n" if cut else json.dumps({"version": VERSION}) + "\n")
            yield file
    except OSError as problem:
        raise DualPathError(
            f"{path} could not be written ({problem.strerror or problem}); make room, and the same command goes on"
        ) from problem
