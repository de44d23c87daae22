"""Videos that come as folders of numbered pictures, one a frame: img_00001.jpg, img_00002.jpg ...

Frame i is the i-th picture by number, wherever the numbers start. Nothing tells the rate, so there are no times.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dualpath.errors import VideoError
from dualpath.video.decoding.places import check_time

PICTURES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp"))
_NUMBERED = re.compile(r"(.*?)(\d+)\.\w+")
_FLOW = re.compile(r"(flow|x|y|u|v)([_-]|$)", re.IGNORECASE)


def list_pictures(folder: str | Path) -> list[Path]:
    """The pictures of a video in order; optical flow beside them (flow_x_00001.jpg, as TSN writes it) is left out.

    Raises:
        VideoError: there are none, or several kinds of them.
    """
    kinds: dict[str, dict[int, Path]] = {}
    try:
        for path in Path(folder).iterdir():
            match = _NUMBERED.fullmatch(path.name)
            if match and path.suffix.lower() in PICTURES and len(match[2]) < 19:
                number = int(match[2])
                if number in kinds.setdefault(match[1], {}):
                    other = kinds[match[1]][number].name
                    raise VideoError(folder, f"holds frame {number} twice: {min(other, path.name)} and {max(other, path.name)}")
                kinds[match[1]][number] = path
    except OSError as problem:
        raise VideoError(folder, f"cannot be read ({problem.strerror})") from problem
    rgb = {kind: pictures for kind, pictures in kinds.items() if not _FLOW.match(kind)} if len(kinds) > 1 else kinds
    if not rgb:
        raise VideoError(folder, "is a folder without numbered pictures, no video")
    if len(rgb) > 1:
        told = ", ".join(f"{kind}..." for kind in sorted(rgb)[:4])
        raise VideoError(folder, f"holds several kinds of pictures ({told}); leave one")
    (pictures,) = rgb.values()
    return [pictures[number] for number in sorted(pictures)]


def picture_size(path: Path) -> tuple[int, int]:
    """(width, height) of a picture; VideoError if it is none."""
    return _open(path, None)[1]


def read_pictures(paths: Sequence[Path], size: tuple[int, int]) -> np.ndarray:
    """uint8 (T, H, W, 3), RGB, each picture scaled to `size`, (width, height).

    Raises:
        VideoError: a picture cannot be read.
    """
    return np.stack([_open(path, size)[0] for path in paths])


def _open(path: Path, size: tuple[int, int] | None) -> tuple[np.ndarray, tuple[int, int]]:
    from PIL import Image

    check_time()
    try:
        with Image.open(path) as picture:
            if size is None:
                return np.empty(0, np.uint8), picture.size
            rgb = picture.convert("RGB")
            scaled = rgb if rgb.size == size else rgb.resize(size, Image.Resampling.BILINEAR)
            return np.asarray(scaled), picture.size
    except Exception as problem:  # of which PIL has many kinds
        raise VideoError(path.parent, f"its frame {path.name} cannot be read as a picture ({problem})") from problem
