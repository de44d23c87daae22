"""Large files from a URL, fetched whole, once for all processes of a machine, and thrown out when others need the room.

    CACHE/<hash>/source.json        where this folder's files come from: url, and bytes and sha256 of each
    CACHE/<hash>/train-000000.tar   fetched when it is first wanted; whole and checked before it has this name

A path into such a folder is all that a worker needs: `held` fetches the file if it is not there. One process fetches,
the others wait for it; one that died is noticed by its lock, which nobody touches any more. CACHE is what
DUALPATH_SHARD_CACHE says (~/.cache/dualpath/shards without it); beyond DUALPATH_SHARD_CACHE_GB (100) the files that
nobody has read for longest go. One that is being read stays.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from dualpath.errors import DualPathError, FetchError
from dualpath.files import create, temporary_beside, write_whole

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be deleted anyway
    fcntl = None

ORIGIN = "source.json"
TRIES = 6
PAUSE = 0.5  # seconds before the second try, doubled for each further one
SILENCE = 30.0  # seconds without a byte, after which a try is given up
DEAD = 90.0  # seconds without a sign of life, after which a lock is nobody's
CHUNK = 1 << 20
MOST_INDEX = 1 << 30
"""Bytes of an index: some hundred for each of millions of samples."""
INDEX_SECONDS = 600.0
"""For an index, all tries together: a server that sends a byte now and then is never silent."""
SLOWEST = 10_000
"""Bytes a second, on average, below which a file of known size is given up."""


def as_url(data: str | Path) -> str | None:
    """The URL that was meant; `Path` makes one slash of two. None for what is no URL."""
    found = re.fullmatch(r"(https?):/{1,2}([^/].*)", str(data).replace("\\", "/"))
    return f"{found[1]}://{found[2]}" if found else None


def cache_folder() -> Path:
    """Where fetched files lie."""
    told = os.environ.get("DUALPATH_SHARD_CACHE")
    return Path(told) if told else Path.home() / ".cache" / "dualpath" / "shards"


def cache_bytes() -> int:
    """How much may lie there."""
    told = os.environ.get("DUALPATH_SHARD_CACHE_GB", "100")
    try:
        return int(float(told) * 1e9)
    except (ValueError, OverflowError):
        raise DualPathError(f"DUALPATH_SHARD_CACHE_GB is {told!r}, but it must be a number of gigabytes") from None


def register(url: str, content: bytes, files: Mapping[str, tuple[int, str]]) -> Path:
    """Makes the folder in which the files beside `url` will lie once they are wanted.

    Args:
        url: of an index.
        content: of that index: another one, another folder.
        files: bytes and sha256 by name.
    """
    folder = cache_folder() / hashlib.sha256(f"{url}\n".encode() + content).hexdigest()[:24]
    write_whole(folder / ORIGIN, json.dumps({"url": url, "files": files}) + "\n")
    return folder


@contextmanager
def held(file: Path) -> Iterator[None]:
    """Sees to it that a file of the cache is there, and that it stays while it is read; other files are left alone.

    Raises:
        FetchError: it cannot be fetched.
    """
    if not (file.parent / ORIGIN).is_file():
        yield
        return
    while True:
        fetch(file)
        try:
            opened = file.open("rb")
        except FileNotFoundError:  # thrown out in this very moment
            continue
        with opened:
            if fcntl is not None:
                fcntl.flock(opened, fcntl.LOCK_SH)
            with suppress(OSError):
                if os.fstat(opened.fileno()).st_nlink == 0 and fcntl is not None:
                    continue
                os.utime(file)  # it was used last
            yield
            return


def fetch(file: Path) -> None:
    """Fetches a file of the cache, or waits for whoever does, if it is not there.

    Raises:
        FetchError: it cannot be fetched.
    """
    lock = file.with_name(f".{file.name}.lock")
    seen: tuple[float, float] | None = None  # the lock's last sign of life, and when it was seen first
    while not file.exists():
        if _take(lock):
            try:
                if not file.exists():
                    _bring(file, alive=lambda: os.utime(lock))
            finally:
                lock.unlink(missing_ok=True)
            return
        try:
            sign = lock.stat().st_mtime
        except FileNotFoundError:
            continue
        if seen is None or seen[0] != sign:  # told by change, not by clock: they may differ between machines
            seen = (sign, time.monotonic())
        elif time.monotonic() - seen[1] > DEAD:
            lock.unlink(missing_ok=True)  # should two do this at once, both fetch: that costs time, not correctness
            seen = None
        time.sleep(0.1)


def _take(lock: Path) -> bool:
    try:
        os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    except OSError as problem:
        raise FetchError(lock.parent, f"cannot be written to ({problem.strerror}); name another cache") from problem
    return True


def _bring(file: Path, *, alive: Callable[[], None]) -> None:
    """Fetches, checks and renames."""
    try:
        origin = json.loads((file.parent / ORIGIN).read_bytes())
        size, digest = origin["files"][file.name]
        url = urljoin(origin["url"], quote(file.name))
    except (ValueError, KeyError, TypeError) as problem:
        raise FetchError(file, f"is not one of those that {ORIGIN} beside it names") from problem
    temporary = temporary_beside(file)
    try:
        with create(temporary) as target:
            _download(url, target, expected=size, alive=alive)
            target.seek(0)
            if hashlib.file_digest(target, "sha256").hexdigest() != digest:
                raise FetchError(url, "is another file than its index says, though of the same size; prepare it again")
            target.flush()
            os.fsync(target.fileno())
        temporary.replace(file)
    except OSError as problem:
        raise FetchError(
            url, f"could not be kept in {file.parent} ({problem.strerror}); make room, or name another DUALPATH_SHARD_CACHE"
        ) from problem
    finally:
        temporary.unlink(missing_ok=True)
    make_room(keep=file)


def has_digest(file: Path, digest: str) -> bool:
    """Whether a file has this sha256. What was read once is not read again, until the file changes."""
    told = file.stat()
    state = f"{file.absolute()} {told.st_ino} {told.st_size} {told.st_mtime_ns} {told.st_ctime_ns} {digest}"
    mark = cache_folder() / "checked" / hashlib.sha256(os.fsencode(state)).hexdigest()
    if mark.exists():
        return True
    with file.open("rb") as opened:
        if hashlib.file_digest(opened, "sha256").hexdigest() != digest:
            return False
    with suppress(DualPathError, OSError):  # then it is read again next time
        write_whole(mark, "")
    return True


def get(url: str) -> bytes:
    """The content of a small file.

    Raises:
        FetchError: it cannot be fetched.
    """
    target, began = io.BytesIO(), time.monotonic()

    def limited() -> None:
        if target.tell() > MOST_INDEX:
            raise FetchError(url, f"is larger than {MOST_INDEX:,} bytes, which no index is; look at the address")
        if time.monotonic() - began > INDEX_SECONDS:
            raise FetchError(
                url, f"took longer than {INDEX_SECONDS:.0f} s to fetch; look at the server, or fetch the folder first"
            )

    _download(url, target, expected=None, alive=limited, opened=_open)
    return target.getvalue()


class _SameHost(urllib.request.HTTPRedirectHandler):
    """Follows an index's redirects within its host alone. Shards may come from another: the index knows their hashes."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        before, after = urlsplit(req.full_url), urlsplit(newurl)
        if after.hostname != before.hostname or (before.scheme, after.scheme) == ("https", "http"):
            raise FetchError(req.full_url, f"leads to {newurl}, another place; give that address itself if you trust it")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_open = urllib.request.build_opener(_SameHost).open


def download(url: str, target: io.BufferedIOBase) -> None:
    """Writes what is at `url` into a file that can be read too.

    Raises:
        FetchError: it cannot be fetched.
    """
    _download(url, target, expected=None, alive=lambda: None, opened=urllib.request.urlopen)


def _download(
    url: str,
    target: io.BufferedIOBase,
    *,
    expected: int | None,
    alive: Callable[[], None],
    opened: Callable[..., Any] = urllib.request.urlopen,
) -> None:
    """Writes what is at `url`; goes on from where a connection broke, if the server can; several tries."""
    why = ""
    for number in range(TRIES):
        if number:
            alive()
            time.sleep(PAUSE * 2 ** (number - 1))
        try:
            why = _try(url, target, expected=expected, alive=alive, opened=opened)
        except urllib.error.HTTPError as problem:
            problem.close()
            if problem.code == 416:  # nothing is left to send: what came was not the beginning of it
                target.truncate(0)
            elif problem.code not in (408, 425, 429) and problem.code < 500:
                raise FetchError(url, f"cannot be fetched: the server says {problem.code} {problem.reason}") from problem
            why = f"cannot be fetched: the server says {problem.code} {problem.reason}"
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as problem:
            why = f"cannot be fetched ({getattr(problem, 'reason', None) or problem or type(problem).__name__})"
        except ValueError as problem:
            raise FetchError(url, f"is no URL ({problem})") from problem
        if not why:
            return
    raise FetchError(url, f"{why}; {TRIES} tries")


def _try(
    url: str, target: io.BufferedIOBase, *, expected: int | None, alive: Callable[[], None], opened: Callable[..., Any]
) -> str:
    """One try: what went wrong, nothing if all came."""
    have, began = target.seek(0, os.SEEK_END), time.monotonic()
    headers = {"User-Agent": "dualpath", "Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with opened(urllib.request.Request(url, headers=headers), timeout=SILENCE) as answer:
        if have and answer.status != 206:
            target.seek(0)
            target.truncate()
            have = 0
        before = have
        length = answer.headers.get("Content-Length")
        if expected is None and length is not None and length.isdecimal():
            expected = have + int(length)
        while chunk := answer.read1(CHUNK):
            target.write(chunk)
            have += len(chunk)
            alive()
            if expected is not None and have > expected:
                break
            if time.monotonic() - began > SILENCE + (have - before) / SLOWEST:
                return f"comes too slowly, {have - before} bytes in {time.monotonic() - began:.0f} s"
    if expected is None or have == expected:
        return ""
    if have > expected:
        target.seek(0)
        target.truncate()
        return f"is larger than the {expected} bytes that its index says"
    return f"is cut off: {have} of {expected} bytes came"


def make_room(*, keep: Path | None = None) -> None:
    """Deletes the files that were not used for longest, until the rest fits; none that is being read."""
    files = []
    for path in cache_folder().glob("*/*.tar"):
        with suppress(OSError):
            told = path.stat()
            files.append((told.st_mtime, told.st_size, path))
    total, most = sum(size for _, size, _ in files), cache_bytes()
    for _, size, path in sorted(files):
        if total <= most:
            return
        if path != keep and _discard(path):
            total -= size


def _discard(path: Path) -> bool:
    try:
        with path.open("rb") as opened:
            if fcntl is not None:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
                return True
        path.unlink()
    except OSError:  # being read, or gone already
        return False
    return True
