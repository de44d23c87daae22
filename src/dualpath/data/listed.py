"""Unlabelled videos as people name them on a command line: files, folders, patterns, lists, standard input, URLs.

words --find_videos--> Listed(name, path or problem), in order --fetched--> the same, URLs as files
"""

from __future__ import annotations

import glob
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dualpath.data.formats.base import VIDEO_SUFFIXES, Tell, exists, segment_mark, visible
from dualpath.data.formats.table import COLUMNS as TABLE_COLUMNS
from dualpath.data.formats.table import TOLD_ROWS, column_name, segment
from dualpath.data.formats.text import read_lines, read_records
from dualpath.data.manifest import UNTIMED
from dualpath.errors import FetchError, VideoError
from dualpath.memory import paused_collection
from dualpath.video.decoding.fetched import as_url, download
from dualpath.video.decoding.frame_folder import PICTURES, list_pictures

LISTS = frozenset((".txt", ".lst", ".list", ".csv", ".tsv"))
"""Endings of files that name videos."""
COLUMNS = ("path", "video", "file", "filename", "file_name", "video_path")
"""Headings of a table's column that names them; without one of these it is the first column."""
SEGMENT = ("start", "end", "start_frame", "end_frame")
"""What may be said of a part of a video, in a table with such a heading, see `formats.table`."""


@dataclass(frozen=True)
class Listed:
    """One video as it was named.

    Attributes:
        name: what people are told.
        path: where it is; None if it is known to be unusable, or is a URL that was not fetched yet.
        problem: why it is unusable, a whole sentence.
        url: where it is to be fetched from.
        part: which segment of the file is meant, as fields of `Video`; empty for all of it.
    """

    name: str
    path: Path | None = None
    problem: str | None = None
    url: str | None = None
    part: Mapping[str, Any] = field(default_factory=dict)

    def of_part(self, part: Mapping[str, Any]) -> Listed:
        """A segment of it."""
        if not part:
            return self
        mark = segment_mark(part.get("start", 0), part.get("end"), part.get("seconds"))
        return replace(self, name=f"{self.name}{mark}", part=part)


@paused_collection()
def find_videos(words: Sequence[str], *, allow_urls: bool = False, progress: Tell = lambda done, total: None) -> list[Listed]:
    """The videos that words name, in order; what names none has a problem and costs the others nothing.

    Args:
        words: each a video file, a folder of numbered pictures, a folder of videos (also below it), a pattern such as
            "clips/*.mp4", a list (see LISTS) with a path a line or a table with a column of paths, relative to the list's
            folder or the working one, and for segments of their starts and ends, "-" for a list on standard input, or an
            http(s) URL.
        allow_urls: whether URLs may be fetched.
        progress: is told (rows done, rows in all) while a long list is read.
    """
    found: list[Listed] = []
    for word in words:
        if word == "-":
            lines = [os.fsdecode(line).strip() for line in sys.stdin.buffer.read().splitlines()]
            entries = [line for line in lines if line]
            for entry in entries:
                found += _named(entry, allow_urls)
            found += [] if entries else [Listed("-", problem="standard input names no video; give a path a line")]
        elif _is_list(Path(word)):
            found += _of_list(Path(word), allow_urls, progress)
        else:
            found += _named(word, allow_urls)
    return found


@contextmanager
def fetched(videos: Sequence[Listed]) -> Iterator[list[Listed]]:
    """The same with URLs as files, which are there inside alone; what cannot be fetched has a problem."""
    with tempfile.TemporaryDirectory(prefix="dualpath-") as folder:
        yield [video if video.url is None else _fetch(video, Path(folder, str(i))) for i, video in enumerate(videos)]


def _fetch(video: Listed, path: Path) -> Listed:
    assert video.url is not None
    path = path.with_suffix(Path(urlsplit(video.url).path).suffix[:12])
    try:
        with path.open("wb+") as target:
            download(video.url, target)
    except FetchError as problem:
        return replace(video, problem=str(problem))
    except OSError as problem:
        return replace(video, problem=f"{video.url}: could not be kept in {path.parent} ({problem.strerror}); make room")
    return replace(video, path=path)


def _named(word: str, allow_urls: bool) -> list[Listed]:
    """The videos of one word that is no list."""
    if url := as_url(word) if "://" in word else None:
        told = f"{word}: is a URL; --allow_urls fetches it first"
        return [Listed(word, url=url) if allow_urls else Listed(word, problem=told)]
    if "://" in word and not exists(word):
        return [Listed(word, problem=f"{word}: is a URL of a kind that is not read; there are http and https")]
    if not word or "\0" in word:
        return [Listed(word, problem=f"{word!r} names no file; give a path")]
    path = Path(word)
    if exists(path):
        return _of_folder(path, word) if path.is_dir() else [Listed(word, path)]
    if glob.has_magic(word):
        matches = sorted(glob.glob(word, recursive=True))  # noqa: PTH207 (Path.glob takes no absolute pattern)
        if not matches:
            return [Listed(word, problem=f"{word}: there is no file of this pattern")]
        # "clips/**" matches a folder and all that is in it: what was found as a file is not found again in its folder.
        folders = [] if "**" in word else [name for name in matches if Path(name).is_dir()]
        files = [name for name in matches if not Path(name).is_dir()]
        return [item for name in sorted(folders + files) for item in _named(name, allow_urls)]
    return [Listed(word, path)]  # whoever reads it says what is wrong


def _of_folder(folder: Path, name: str) -> list[Listed]:
    """All videos below a folder, or else the folders of pictures there; itself, if it is one."""
    problems: list[Listed] = []

    def unreadable(problem: OSError) -> None:
        problems.append(Listed(str(problem.filename), problem=f"{problem.filename}: cannot be read ({problem.strerror})"))

    files: list[Path] = []
    pictures: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        shown = sorted(one for one in names if not one.startswith("."))
        files += [Path(place, one) for one in shown if Path(one).suffix.lower() in VIDEO_SUFFIXES]
        if any(Path(one).suffix.lower() in PICTURES for one in shown) and _has_pictures(Path(place)):
            pictures.append(Path(place))
    videos = [Listed(str(path), path) for path in sorted(files) or sorted(pictures)]
    if not videos and not problems:
        kinds = sorted({path.suffix.lower() or "no ending" for path in visible(folder) if path.is_file()})[:5]
        there = f"; its files have {', '.join(kinds)}" if kinds else ""
        return [Listed(name, problem=f"{name}: is a folder without videos{there}")]
    return videos + problems


def _has_pictures(folder: Path) -> bool:
    try:
        return bool(list_pictures(folder))
    except VideoError:
        return False


def _is_list(path: Path) -> bool:
    if path.suffix.lower() in LISTS:
        return exists(path) and path.is_file()
    if path.suffix or not exists(path) or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError:
        return False
    text = head.decode("utf-8", errors="ignore").encode()
    return bool(head) and b"\0" not in head and len(head) - len(text) < 4


def _of_list(path: Path, allow_urls: bool, progress: Tell) -> list[Listed]:
    """The videos that a list names."""
    told: list[str] = []
    try:
        if path.suffix.lower() in (".csv", ".tsv"):
            entries = _rows(read_records(path, told.append, hint="give a path a line") or [])
        else:
            entries = [(text, {}) for _, text in read_lines(path, told.append) or []]
    except OSError as problem:
        told.append(f"cannot be read ({problem.strerror})")
        entries = []
    if told or not entries:
        return [Listed(str(path), problem=f"{path.parent / (told[0] if told else f'{path.name} names no video')}")]
    found: list[tuple[str, dict[str, str]]] = []
    for number, (entry, part) in enumerate(entries, 1):
        found.append((_beside(path.parent, entry), part))
        if number % TOLD_ROWS == 0:
            progress(number, len(entries))
    if not any("://" in entry or glob.has_magic(entry) or exists(entry) for entry, _ in found):
        most = f"none of the {len(found)} paths that it names is there" if len(found) > 1 else f"there is no {found[0][0]}"
        return [Listed(str(path), problem=f"{path}: {most}; give a path a line, relative to the list or to the working folder")]
    videos: list[Listed] = []
    for entry, values in found:
        part, wrong = segment(values)
        part |= {"end": UNTIMED} if "seconds" in part else {}
        named = _named(entry, allow_urls)
        videos += [replace(one, problem=f"{path} {wrong} for {entry}") if wrong else one.of_part(part) for one in named]
    return videos


def _rows(records: list[tuple[int, list[str]]]) -> list[tuple[str, dict[str, str]]]:
    """The cells of a table that name videos, each with those that say which part of it is meant."""
    heads = [column_name(cell) for cell in records[0][1]] if records else []
    number = next((heads.index(name) for name in COLUMNS if name in heads), None)
    if number is None:
        return [(cells[0], {}) for _, cells in records if cells and cells[0]]
    uses = {use: at for use in SEGMENT for at, head in enumerate(heads) if head in TABLE_COLUMNS[use]}
    return [
        (cells[number], {use: cells[at] if at < len(cells) else "" for use, at in uses.items()})
        for _, cells in records[1:]
        if len(cells) > number and cells[number]
    ]


def _beside(folder: Path, entry: str) -> str:
    """A path of a list, as it is to be read; a label behind it, as lists for training have one, is left out."""
    if "://" in entry:
        return entry
    plain = entry.replace("\\", "/")
    labelled = [plain.rsplit(mark, 1)[0].strip() for mark in (None, ",") if len(plain.rsplit(mark, 1)) > 1]
    for name in dict.fromkeys((entry, plain, *labelled)):
        for path in (os.path.join(folder, name), name):  # noqa: PTH118 (as text: of a list of a million)
            if name and exists(path) and (name not in labelled or Path(path).is_file()):
                return str(Path(path))
    return str(Path(glob.escape(str(folder)) if glob.has_magic(entry) else folder, entry))
