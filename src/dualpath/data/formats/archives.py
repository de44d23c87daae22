"""Archives given where folders are wanted: which command unpacks them. Nothing is unpacked here: that is the user's disk."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

_KINDS = {
    ".zip": "zip", ".rar": "rar", ".7z": "7z", ".tar": "tar", ".tgz": "tar", ".tbz2": "tar", ".txz": "tar",
    ".gz": "tar", ".bz2": "tar", ".xz": "tar", ".zst": "tar",
}  # fmt: skip
_MAGIC = {b"PK\x03\x04": "zip", b"Rar!\x1a\x07": "rar", b"7z\xbc\xaf\x27\x1c": "7z", b"\x1f\x8b": "tar"}
_PART = re.compile(r"20bn-something-something-v2-(\d\d|\?\?)(\.zip)?")


def is_archive(name: str) -> bool:
    """Whether a file's name is that of an archive, or of a part of one."""
    lower = name.lower()
    kind = _KINDS.get(Path(lower).suffix)
    packed = Path(lower).suffix in (".gz", ".bz2", ".xz", ".zst")
    return bool(_PART.fullmatch(lower)) or (kind is not None and (not packed or Path(lower).stem.endswith(".tar")))


def how_to_unpack(path: Path) -> str | None:
    """What to do with an archive, known by its name or its first bytes; None for any other file."""
    name, kind = path.name, _KINDS.get(path.suffix.lower()) if is_archive(path.name) else None
    if part := _PART.fullmatch(name.lower()):
        first = "unzip each part, then " if part[2] else ""
        return (
            f"{name} is one part of an archive; unpack all parts together: {first}"
            "cat 20bn-something-something-v2-?? | tar -xzf -, and give the folder"
        )
    if kind is None and path.is_file():
        try:
            with path.open("rb") as file:
                head = file.read(262)
        except OSError:
            return None
        kind = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
        kind = "tar" if head[257:262] == b"ustar" else kind
    if kind is None:
        return None
    quoted, folder = shlex.quote(name), shlex.quote(name.split(".")[0] or "videos")
    commands = {
        "zip": f"unzip {quoted} -d {folder}",
        "tar": f"mkdir -p {folder} && tar -xf {quoted} -C {folder}",
        "rar": f"unrar x {quoted} or 7z x {quoted} (one of these tools must be installed)",
        "7z": f"7z x {quoted} (that tool must be installed)",
    }
    return f"{name} is an archive; unpack it, {commands[kind]}, and give the folder"
