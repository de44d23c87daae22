"""What the scripts that make pages of docs/ share: write what differs, or only tell."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from dualpath.errors import DualPathError
from dualpath.files import write_whole


def is_same(path: Path, content: str | bytes) -> bool:
    """Whether a file holds that; of a picture the pixels count, for packing them is up to the machine."""
    if not path.is_file():
        return False
    if isinstance(content, str):
        return path.read_text(encoding="utf-8") == content
    try:
        with Image.open(path) as there, Image.open(io.BytesIO(content)) as made:
            return there.size == made.size and there.convert("RGBA").tobytes() == made.convert("RGBA").tobytes()
    except OSError:
        return False


def write_or_check(
    make: Callable[[Path], dict[Path, str | bytes]], words: Sequence[str] | None, *, root: Path, told: str | None
) -> int:
    """Writes the files that differ from what `make` gives for the repository at `root`; with --check only names them.

    Returns:
        Exit code: 0; 1 if --check finds another content; 2 if there is nothing to write from.
    """
    parser = argparse.ArgumentParser(description=told, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file differs")
    given = parser.parse_args(words)
    try:
        changed = {path: content for path, content in make(root).items() if not is_same(path, content)}
        for path, content in changed.items():
            print(f"{path.relative_to(root)} {'differs' if given.check else 'written'}")
            if not given.check:
                write_whole(path, content)
    except DualPathError as problem:
        print(problem, file=sys.stderr)
        return 2
    return 1 if given.check and changed else 0
