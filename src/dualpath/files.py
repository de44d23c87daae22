"""Files written whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from dualpath.errors import DualPathError


def write_whole(path: str | Path, content: bytes | str) -> None:
    """Writes `content` (text as UTF-8) under a temporary name beside `path`, then renames.

    Whoever reads `path` sees the old file or the new one, also after a crash or with a full disk.

    Raises:
        DualPathError: the file cannot be written (no space, no permission); an older one is left as it was.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    data = content.encode() if isinstance(content, str) else content
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


def make_folder(path: Path) -> None:
    """Makes a folder for results, so that one that cannot be is told before minutes are spent.

    Raises:
        DualPathError: it cannot be made, or is a file.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise DualPathError(f"the output {path} cannot be a folder ({problem.strerror}); give another one") from problem
