"""Files, and folders of them, written whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dualpath.errors import DualPathError


def write_whole(path: str | Path, content: bytes | str) -> None:
    """Writes `content` (text as UTF-8, names of files as they are) under a temporary name beside `path`, then renames.

    Whoever reads `path` sees the old file or the new one, also after a crash or with a full disk.

    Raises:
        DualPathError: the file cannot be written (no space, no permission); an older one is left as it was.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
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


def check_new(output: Path) -> None:
    """Raises DualPathError unless `output` can become a folder of ours: it does not exist, or is an empty folder."""
    there = next(place for place in (output, *output.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        why = "is a file" if not there.is_dir() else "may not be written to"
        raise DualPathError(f"the output {output} cannot be a folder: {there} {why}; give another one with --output")
    if output.exists() and any(output.iterdir()):
        raise DualPathError(f"the output {output} exists and is not empty; give a new folder with --output")


@contextmanager
def whole_folder(output: Path) -> Iterator[Path]:
    """Gives a draft of a folder, which becomes `output` at the end: with all that was written into it, or not at all.

    Raises:
        DualPathError: `output` holds something, or cannot be written.
    """
    check_new(output)
    draft = output.absolute().with_name(f".{output.absolute().name}.{os.getpid()}.tmp")
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
