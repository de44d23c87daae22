"""Class folders: `<split>/<class>/**` or `<class>/**`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from dualpath.data.formats.base import HOW_TO_LAY_OUT, SPLIT_NAMES, VIDEO_SUFFIXES, Format, Found, Row, Split, visible


def read_folders(data: Path) -> Found:
    """Reads `<split>/<class>/**` if a folder named like a split holds folders, else `<class>/**`."""
    found = Found(data, "class folders")
    top = [path for path in visible(data) if path.is_dir()]
    given = [path for path in top if path.name.lower() in SPLIT_NAMES and any(p.is_dir() for p in visible(path))]
    places: list[tuple[Path, Split | None]] = [(path, SPLIT_NAMES[path.name.lower()]) for path in given]
    places = places or [(data, None)]
    found.skipped += [f"{path.name}/" for path in top if given and path not in given]
    for place, split in places:
        found.skipped += [path.relative_to(data).as_posix() for path in visible(place) if path.is_file()]
        for folder in (path for path in visible(place) if path.is_dir()):
            files = sorted(_files_below(folder))
            videos = [path for path in files if path.suffix.lower() in VIDEO_SUFFIXES]
            found.skipped += [p.relative_to(data).as_posix() for p in files if p.suffix.lower() not in VIDEO_SUFFIXES]
            # A folder of other things beside class folders (annotations, a run) is no class; an empty one was meant.
            label = os.fsencode(folder.name).decode("utf-8", "replace")  # a class is printed and written, so it is text
            if not videos and (not files or split == "train"):
                found.empty.append(label)
            found.rows += [Row(path, path.relative_to(data).as_posix(), label, split) for path in videos]
    if not given and top and all(path.name.lower() in SPLIT_NAMES for path in top) and len({r.label for r in found.rows}) > 1:
        names = " and ".join(f"{path.name}/" for path in top)
        found.problems.append(f"holds {names}, which are names of splits, but no class folders in them; {HOW_TO_LAY_OUT}")
    if not found.rows and any(path.suffix.lower() in VIDEO_SUFFIXES for path in visible(data)):
        found.problems.append(f"holds videos but no class folders; {HOW_TO_LAY_OUT}")
    return found


def _files_below(folder: Path) -> Iterator[Path]:
    """Walks all visible files below a class folder; links to folders inside it are not followed (they may be loops)."""

    def stop(problem: OSError) -> None:
        raise problem  # os.walk would pass an unreadable folder over in silence, and its videos with it

    for place, folders, files in os.walk(folder, onerror=stop):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place, name) for name in files if not name.startswith("."))


FORMAT = Format(
    "folders",
    "class folders",
    owns=lambda path: False,
    fits=lambda given: given.path.is_dir() and bool(read_folders(given.path).rows),
    read=lambda given: read_folders(given.path),
)
