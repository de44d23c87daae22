"""Files, and folders of them, written whole or not at all."""

from __future__ import annotations

import fcntl
import functools
import inspect
import json
import os
import re
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedRandom
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from dualpath.errors import DualPathError

P = ParamSpec("P")
T = TypeVar("T")
LONGEST_NUMBER = 40
"""Digits; no count, time or seed of ours has as many."""


def write_whole(path: str | Path, content: bytes | str) -> None:
    """Writes `content` (text as UTF-8, names of files as they are) under a temporary name beside `path`, then renames.

    Whoever reads `path` sees the old file or the new one, also after a crash or with a full disk.

    Raises:
        DualPathError: the file cannot be written (no space, no permission); an older one is left as it was.
    """
    path = Path(path)
    temporary = temporary_beside(path)
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with create(temporary) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as problem:
        with suppress(OSError):
            temporary.unlink()
        raise DualPathError(
            f"{path} could not be written ({problem.strerror or problem}); make room or choose another folder, "
            "what was there before is unchanged"
        ) from problem


def temporary_beside(path: Path) -> Path:
    """A name that nobody can guess, and so nobody can have put a link there; `remove_temporary` finds it again."""
    name = os.fsencode(path.name)[:200].decode(errors="ignore")
    return path.with_name(f".{name}.{secrets.token_hex(8)}.tmp")


def create(path: Path) -> BufferedRandom:
    """Opens a file that is not there yet, to write and read it; never what a link leads to."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666), "w+b")


def remove_temporary(folder: Path) -> None:
    """Deletes what killed processes have left under temporary names, in a folder and those within it."""
    for leftover in list(folder.rglob(".*.tmp")):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def parse_json(text: str) -> Any:
    """As `json.loads`, for files that were ours once and may hold anything by now.

    Raises:
        ValueError: it is no JSON, nested too deeply, or has a whole number that no float can hold.
    """
    try:
        return json.loads(text, parse_int=_whole_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _whole_number(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise ValueError(f"it has a number of {len(digits)} digits")
    return int(digits)


def read_table(path: Path) -> dict[str, Any]:
    """The table that a file of JSON holds.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds something else.
    """
    told = parse_json(path.read_text(encoding="utf-8"))
    if not isinstance(told, dict):
        raise ValueError("it is no table")
    return told


def csv_cell(text: str) -> str:
    """A name for a CSV file, with an apostrophe before what a spreadsheet would take for a formula; see `cell_text`."""
    return f"'{text}" if re.match(r"'*[=+\-@\t\r]", text) else text


def cell_text(cell: str) -> str:
    """The name that `csv_cell` was given."""
    return cell[1:] if re.match(r"'+[=+\-@\t\r]", cell) else cell


def check_file(path: Path) -> None:
    """Raises DualPathError unless a file can be written there, in place of an older one: told before minutes are spent."""
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    if path.is_dir() or (there != path and not there.is_dir()):
        why = "is a folder" if path.is_dir() else f"cannot be made: {there} is a file"
        raise DualPathError(f"the output {path} {why}; give another one with --output")
    folder = there if there.is_dir() else path.absolute().parent
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DualPathError(f"the output {path} cannot be made: {folder} may not be written to; give another one with --output")


def names_in(output: Path) -> list[str]:
    """What a folder for results holds, sorted; nothing if it is yet to be made.

    Raises:
        DualPathError: there can be no such folder, or it may not be written to.
    """
    there = next(place for place in (output, *output.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        why = "is a file" if not there.is_dir() else "may not be written to"
        raise DualPathError(f"the output {output} cannot be a folder: {there} {why}; give another one with --output")
    return sorted(path.name for path in output.iterdir()) if output.is_dir() else []


def check_new(output: Path) -> None:
    """Raises DualPathError unless `output` can become a folder of ours: it does not exist, or is an empty folder."""
    if names_in(output):
        raise DualPathError(f"the output {output} exists and is not empty; give a new folder with --output")


@contextmanager
def whole_folder(output: Path) -> Iterator[Path]:
    """Gives a draft of a folder, which becomes `output` at the end: with all that was written into it, or not at all.

    Raises:
        DualPathError: `output` holds something, or cannot be written.
    """
    check_new(output)
    draft = temporary_beside(output.absolute())
    try:
        try:
            draft.mkdir(parents=True)
            yield draft
            draft.replace(output)
        except OSError as problem:
            raise DualPathError(
                f"the output {output} could not be written ({problem.strerror or problem}); make room or choose another folder"
            ) from problem
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def make_folder(path: Path) -> None:
    """Makes a folder for results, so that one that cannot be is told before minutes are spent.

    Raises:
        DualPathError: it cannot be made, or is a file.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise DualPathError(f"the output {path} cannot be a folder ({problem.strerror}); give another one") from problem


def owns_output(function: Callable[P, T]) -> Callable[P, T]:
    """While the function runs, no other process may run one of these with the same argument `output`, see `owned`."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def owning(*args: P.args, **kwargs: P.kwargs) -> T:
        with owned(Path(signature.bind(*args, **kwargs).arguments["output"])):
            return function(*args, **kwargs)

    return owning


@contextmanager
def owned(output: Path) -> Iterator[None]:
    """Keeps other processes out of a folder for results, by a lock beside it: it outlasts the deletion of the folder.

    The lock is the system's (flock), so it ends with its owner, however that ends. The file says who the owner is.

    Raises:
        DualPathError: the folder is in use, or there can be no such folder.
    """
    path = output.absolute().with_name(f".{output.absolute().name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _locked(path, output)
    except PermissionError:
        if not output.is_dir():
            raise DualPathError(
                f"the output {output} cannot be written: no permission in {path.parent}; give another one"
            ) from None
        lock = None  # a folder that was made for this user where he may make no other file
    except OSError as problem:
        file = next((place for place in output.absolute().parents if place.is_file()), None)
        why = f": {file} is a file" if file else f" ({problem.strerror})"
        raise DualPathError(f"the output {output} cannot be a folder{why}; give another one") from problem
    try:
        yield
    finally:
        if lock is not None:
            with suppress(OSError):
                path.unlink()  # while it is locked: whoever has opened it looks again
            os.close(lock)


def _locked(path: Path, output: Path) -> int:
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not path.exists() or not os.path.samestat(os.fstat(lock), path.stat()):  # its owner has just ended
                os.close(lock)
                continue
            host, command = socket.gethostname(), " ".join(sys.argv)
            owner = {"host": host, "pid": os.getpid(), "command": command, "since": time.strftime("%Y-%m-%d %H:%M:%S")}
            os.ftruncate(lock, 0)
            os.write(lock, json.dumps(owner).encode())
            return lock
        except BlockingIOError:
            told = os.read(lock, 10_000)
            os.close(lock)
            raise DualPathError(
                f"the output {output} is in use by {_owner(told)}; let it finish, end it, or give another folder"
            ) from None
        except OSError:
            os.close(lock)
            raise


def _owner(told: bytes) -> str:
    try:
        owner = json.loads(told)
        return f"process {owner['pid']} on {owner['host']}, since {owner['since']} ({owner['command']})"
    except (ValueError, KeyError, TypeError):  # it has only just begun
        return "another process"
