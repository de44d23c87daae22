"""Where the bytes of a video are: in a file of its own, or in a part of a larger one (a member of a tar, uncompressed).

    clips/a.mp4                   the whole file
    train-000003.tar#1536+52179   52179 bytes from byte 1536 on: what `Place.spelled` writes and `find_place` reads

Such a path is an ordinary `Path`, so whoever hands paths on needs not know of parts. FFmpeg reads a part with its own
protocol "subfile": nothing is copied and no Python is run between it and the disk.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dualpath.errors import VideoError
from dualpath.video.decoding.fetched import held

_KINDS = {stat.S_IFIFO: "named pipe", stat.S_IFSOCK: "socket"}
Damaged = Literal["refuse", "take"]
"""What becomes of a file of which some cannot be decoded: an error, or the rest of it counts as the video."""
SECONDS = 60.0
"""So long may the reading of a file take, and"""
SECONDS_A_MEGABYTE = 2.0
"""so much longer by its size: half an hour of a telephone's video is no decoder that hangs."""
_deadline: ContextVar[tuple[float, str | Path, float] | None] = ContextVar("deadline", default=None)
_PART = re.compile(r"(?P<file>.*\.tar)#(?P<offset>[0-9]{1,18})\+(?P<size>[0-9]{1,18})", re.DOTALL | re.ASCII)


@dataclass(frozen=True)
class Place:
    """A stretch of a file.

    Attributes:
        file: that holds it.
        offset: of its first byte.
        size: bytes; None for all of the file.
    """

    file: Path
    offset: int = 0
    size: int | None = None

    @property
    def spelled(self) -> Path:
        """The path that `find_place` reads as this place."""
        return self.file if self.size is None else Path(f"{self.file}#{self.offset}+{self.size}")

    @property
    def url(self) -> str:
        """What FFmpeg is told: "file:" keeps a colon in a name from being read as a protocol."""
        name = f"file:{os.fspath(self.file)}"
        return name if self.size is None else f"subfile,,start,{self.offset},end,{self.offset + self.size},,:{name}"

    @property
    def protocols(self) -> str:
        """The protocols that FFmpeg needs for it; with these alone, a playlist disguised as a video reaches nothing else."""
        return "file" if self.size is None else "subfile,file"

    @property
    def length(self) -> int:
        """Bytes."""
        return self.file.stat().st_size if self.size is None else self.size

    def read(self, count: int = -1) -> bytes:
        """Its first `count` bytes, or all of them."""
        with self.file.open("rb") as opened:
            opened.seek(self.offset)
            most = -1 if self.size is None else self.size
            return opened.read(most if count < 0 else min(count, most) if most >= 0 else count)


def find_place(path: str | Path) -> Place:
    """Reads a path. A file that is really called like a part is a file."""
    path = path if isinstance(path, Path) else Path(path)  # which makes no other one of a million paths
    part = _PART.fullmatch(str(path))
    if part is None or path.exists():
        return Place(path)
    return Place(Path(part["file"]), int(part["offset"]), int(part["size"]))


@contextmanager
def within(path: str | Path, seconds: float) -> Iterator[None]:
    """Gives reading a video so many seconds, and 2 s a megabyte; `check_time`, which reading calls, ends it then."""
    try:
        size = find_place(path).length
    except (OSError, ValueError):
        size = 0
    limit = seconds + SECONDS_A_MEGABYTE * (size // 10**6)
    before = _deadline.set((time.monotonic() + limit, path, limit))
    try:
        yield
    finally:
        _deadline.reset(before)


def time_left() -> float | None:
    """Seconds of those that `within` gives; None outside it. FFmpeg is told, as a demuxer may run for long in one call."""
    given = _deadline.get()
    return None if given is None else max(given[0] - time.monotonic(), 1e-3)


def check_time() -> None:
    """Raises VideoError when the time that `within` gives is over."""
    given = _deadline.get()
    if given is not None and time.monotonic() > given[0]:
        raise VideoError(given[1], f"took longer than {given[2]:g} s to read; --seconds gives it more")


@contextmanager
def opened_place(path: str | Path) -> Iterator[Place]:
    """Gives a place that is there to be read, and keeps it so meanwhile; a shard from a URL is fetched for it.

    Raises:
        FetchError: it cannot be fetched.
        VideoError: there is no such file, it is a folder, or it ends before the part that is wanted.
    """
    place = find_place(path)
    with nullcontext() if place.size is None else held(place.file):
        file = place.file
        if not file.exists():
            raise VideoError(path, "is a link to a file that is not there" if file.is_symlink() else "there is no such file")
        if file.is_dir():
            raise VideoError(path, "is a folder, not a video file")
        if not file.is_file():  # reading a pipe would wait for ever
            raise VideoError(path, f"is no file but a {_KINDS.get(stat.S_IFMT(file.stat().st_mode), 'device')}")
        if place.size is not None and (there := place.file.stat().st_size) < (end := place.offset + place.size):
            raise VideoError(path, f"{place.file.name} is cut off: it has {there} bytes, but this video ends at byte {end}")
        yield place
