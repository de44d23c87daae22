"""What all formats share: a row as it was found, what a reader hands over, and what a format is.

    annotation files --Format.read(Given)--> Found(rows, classes, listed, problems) --> manifest.py checks and splits

A reader judges nothing but what cannot be a row, and raises nothing but OSError: whatever a file holds, what is wrong
with it becomes a sentence in `Found.problems`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
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
Seconds = tuple[float, float | None]
"""Where a part of a video begins, and where it ends (exclusive); None for the end of the video."""
Tell = Callable[[int, int], None]
"""Is told how far something is: done, in all."""
UNUSABLE = ""
"""The label of a row whose own cannot be used, as a problem says: its file can still be looked into."""
HOW_TO_LAY_OUT = "put each video into a folder named after its class, or give a CSV file with the columns path,label"


@dataclass(frozen=True)
class Row:
    """A video as it was found, before anything is checked: a file, or frames `start` to `end` (exclusive) of it.

    A part that is given in `seconds` has its frames only when its file is looked into, see `dualpath.data.segments`.
    Its label is UNUSABLE where a problem says so.
    """

    path: Path
    name: str
    label: str
    split: Split | None
    group: str | None = None
    line: int | None = None
    start: int = 0
    end: int | None = None
    seconds: Seconds | None = None

    @property
    def where(self) -> str:
        return self.name if self.line is None else f"{self.name} (line {self.line})"


@dataclass(frozen=True)
class Tally:
    """How much of one split of a list is there: listed = found + missing + unlabelled.

    Attributes:
        listed: lines of the list.
        found: with a label and a file.
        missing: with a label, without a file.
        unlabelled: without a label; left out.
        official: how many the data set has as published; None if that is not known.
    """

    listed: int
    found: int
    missing: int
    unlabelled: int = 0
    official: int | None = None

    def __str__(self) -> str:
        """Such as "19,881 of 19,907 listed, official 19,907"."""
        without = f", {self.unlabelled:,} without label" if self.unlabelled else ""
        official = "" if self.official is None else f", official {self.official:,}"
        return f"{self.found:,} of {self.listed:,} listed{without}{official}"


@dataclass
class Found:
    """What one reader saw.

    Attributes:
        root: the folder that names are relative to.
        source: where the labels come from, in words.
        rows: the videos.
        skipped: what was left out beside them.
        problems: what makes the data unusable, a sentence each.
        empty: class folders without a video.
        dropped: some rows could not be read, so counts of them say nothing.
        refused: an annotation file could not be read as a whole.
        classes: in the official order; None where the labels themselves are all that is known.
        listed: of formats that list their videos, how many are there.
        extra: videos on disk that no list names.
        warnings: what may be wrong, a sentence each.
        notes: how the files were understood, a sentence each.
        format: the name of the format that was read.
        fold: of a format with several, the one that was read.
    """

    root: Path
    source: str
    rows: list[Row] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    dropped: bool = False
    refused: bool = False
    classes: tuple[str, ...] | None = None
    listed: dict[Split, Tally] = field(default_factory=dict)
    extra: int = 0
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    format: str = "folders"
    fold: int | None = None

    def refuse(self, told: str) -> None:
        """Takes the sentence on a file that cannot be read as a whole."""
        self.problems.append(told)
        self.refused = True


@dataclass(frozen=True)
class Given:
    """What a reader is given.

    Attributes:
        path: as the user wrote it: a folder, or an annotation file.
        root: the folder below which videos are looked for.
        notes: the text files there that may be annotations; those beside `path` if that is a file.
        fold: of a data set with several divisions into training and test: 1, 2 or 3.
        progress: is told (rows done, rows in all) while a table is read.
    """

    path: Path
    root: Path
    notes: tuple[Path, ...] = ()
    fold: int = 1
    progress: Tell = lambda done, total: None


@dataclass(frozen=True)
class Format:
    """A way in which labelled videos come.

    Attributes:
        name: for --format.
        title: for people.
        owns: whether an annotation file by itself is one of it.
        fits: whether the files given look like it.
        read: the rows; raises OSError only.
        folds: how many divisions into training and test there are to choose from; 0 if there is but one.
    """

    name: str
    title: str
    owns: Callable[[Path], bool]
    fits: Callable[[Given], bool]
    read: Callable[[Given], Found]
    folds: int = 0


def segment_mark(start: int, end: int | None, seconds: Seconds | None) -> str:
    """What is put behind the name of a file for one of several segments of it: "[10:30]", "[1.5s:4s]"."""
    if seconds is not None:
        begin, stop = (str(time).removesuffix(".0") for time in seconds)
        return f"[{begin}s:{'' if seconds[1] is None else f'{stop}s'}]"
    return f"[{start}:{'' if end is None else end}]"


def visible(folder: Path) -> list[Path]:
    """Lists a folder by name, without .DS_Store, ._x.mp4 and their like."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one; a link that leads in a circle is none, and no error."""
    return Path(entry).is_dir() if entry.is_symlink() else entry.is_dir()


def exists(path: str | Path) -> bool:
    """Whether there is such a file or folder; no name from a list is too long or too strange to be asked for."""
    return os.path.exists(path)  # noqa: PTH110 (that is what Path.exists raises errors for; and text is looked for faster)


def suffix(name: str) -> str:
    """The ending of a file's name, in small letters: ".mp4"; empty if there is none."""
    head, dot, tail = name.rpartition(".")
    return f".{tail.lower()}" if dot and head else ""


def stem(name: str) -> str:
    """A path as text without the ending of a video file; other dots are part of the name."""
    return name[: name.rindex(".")] if suffix(name) in VIDEO_SUFFIXES else name
