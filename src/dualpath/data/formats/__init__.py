"""The forms that labelled videos come in, a file each, all giving the same: rows, classes, counts.

    DIR or an annotation file --recognise--> one of FORMATS --read--> Found --> dualpath.data.manifest

A further format is a file with a `Format` and a line in FORMATS.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dualpath.data.formats import diving48, folders, hmdb51, kinetics, lists, ssv2, table, ucf101
from dualpath.data.formats.archives import how_to_unpack, is_archive
from dualpath.data.formats.base import (
    HOW_TO_LAY_OUT,
    VIDEO_SUFFIXES,
    Format,
    Found,
    Given,
    Tell,
    is_folder,
    suffix,
    visible,
)
from dualpath.video.decoding.frame_folder import PICTURES

FORMATS: dict[str, Format] = {
    "kinetics": kinetics.FORMAT,
    "ssv2": ssv2.FORMAT,
    "hmdb51": hmdb51.FORMAT,
    "ucf101": ucf101.FORMAT,
    "diving48": diving48.FORMAT,
    "diving48_v1": diving48.FORMAT_V1,
    "lists": lists.FORMAT,
    "table": table.FORMAT,
    "folders": folders.FORMAT,
}
_LISTED = tuple(name for name in FORMATS if name != "folders")
_ANNOTATIONS = ("annotations", "annotation", "labels", "label", "splits", "split", "lists", "list")
_SPLITS = ("testtrainmulti", "test_train_splits", "ucftraintestlist")
_DEEP = 3
_NOTES = frozenset((".csv", ".json", ".txt", ".tsv", ".list", ".lst"))


def look(data: Path) -> Given:
    """What a path stands for: the folder of its videos and the text files that may be annotations.

    A file stands for the set that it belongs to, and its folder for the one above if that is how it is named.
    """
    if data.is_dir():
        notes = tuple(_notes(data))
        alone = not any(suffix(path.name) in VIDEO_SUFFIXES for path in visible(data))
        return Given(data, _above(data) if alone and notes else data, notes)
    notes = tuple(path for path in visible(data.parent) if suffix(path.name) in _NOTES and path.is_file())
    return Given(data, _above(data.parent), notes)


def _above(folder: Path) -> Path:
    """The folder itself, or the nearest one above that is not named as one of annotations."""
    place = folder.absolute()
    while place.name.lower() in _ANNOTATIONS or place.name.lower().startswith(_SPLITS):
        place = place.parent
    return folder if place == folder.absolute() else place


def _notes(root: Path) -> list[Path]:
    """The text files in a folder and a few levels below; links to folders are followed, but each folder is looked into once."""
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    waiting = [(root, 0)]
    while waiting:
        folder, depth = waiting.pop()
        told = folder.stat()
        if (told.st_dev, told.st_ino) in seen:
            continue
        seen.add((told.st_dev, told.st_ino))
        with os.scandir(folder) as entries:
            for count, entry in enumerate(entries):
                ending = suffix(entry.name)
                if entry.name.startswith("."):
                    continue
                if count == 0 and depth and ending in PICTURES:  # a folder of frames, one of thousands
                    break
                if ending in _NOTES and Path(entry).is_file():
                    found.append(Path(entry))
                elif depth < _DEEP and ending not in VIDEO_SUFFIXES and is_folder(entry):
                    waiting.append((Path(entry), depth + 1))
    return sorted(found)


def recognise(given: Given) -> list[str]:
    """The formats that the files look like: none, one, or several among which the user must choose."""
    if given.path.is_file():
        return [name for name in _LISTED if FORMATS[name].owns(given.path) and FORMATS[name].fits(given)]
    fitting = [name for name in _LISTED if FORMATS[name].fits(given)]
    return [name for name in fitting if name != "lists" or "table" not in fitting]  # a labels.csv is meant to be read


def read_format(
    data: Path,
    *,
    name: str = "auto",
    fold: int | None = None,
    known: tuple[str, int | None] | None = None,
    progress: Tell = lambda done, total: None,
) -> Found:
    """Reads labelled videos in the format that is given or recognised.

    Args:
        data: a folder or an annotation file.
        name: of FORMATS, or "auto".
        fold: of formats with several; 1 by default.
        known: the format and fold to take if that format is one of those that fit and nothing else is asked for.
        progress: see `Given`.

    Returns:
        What was found, all problems included.

    Raises:
        OSError: something cannot be read.
    """
    if data.is_file() and (told := how_to_unpack(data)):
        return Found(data.parent, "archive", problems=[told])
    given = look(data)
    fitting = [name] if name != "auto" else recognise(given)
    if known is not None and name == "auto" and known[0] in fitting:
        fitting = [known[0]]
    if len(fitting) > 1:
        told = f"fits several formats ({', '.join(fitting)}); choose with --format, such as --format {fitting[0]}"
        return Found(data, "several", problems=[told])
    plain = None if fitting else _read_plain(data, progress)
    chosen = fitting[0] if fitting else "table" if plain and plain.source == "csv" else "folders"
    title, folds = FORMATS[chosen].title, FORMATS[chosen].folds
    if fold is not None and not 1 <= fold <= folds:
        told = f"has no split {fold}: {title} has " + (f"the splits 1 to {folds}" if folds else "only one")
        return Found(data, chosen, problems=[told])
    if fold is None:
        fold = known[1] if known is not None and known[0] == chosen and known[1] else 1
    given = replace(given, fold=fold, progress=progress)
    found = plain or FORMATS[chosen].read(given)
    found.format, found.fold = chosen, fold if folds else None
    _mention_archives(found, given)
    return found


def _read_plain(data: Path, progress: Tell) -> Found:
    """Where no list fits: class folders go before any CSV beside them."""
    if data.is_file():
        if data.suffix.lower() not in (".csv", ".tsv", ".txt", *table.LINES):
            return Found(data.parent, "csv", problems=[f"is neither a folder nor a CSV or JSON lines file; {HOW_TO_LAY_OUT}"])
        return table.read_table(data, progress=progress)
    found = folders.read_folders(data)
    tables = [path for path in visible(data) if path.suffix.lower() == ".csv" and path.is_file()]
    if len({row.label for row in found.rows}) > 1 or not tables:
        return found
    if len(tables) > 1 and not found.rows:
        names = ", ".join(path.name for path in tables)
        return Found(data, "csv", problems=[f"holds no class folders but several CSV files ({names}); give one of them"])
    listed = table.read_table(tables[0], progress=progress)
    return found if found.rows and (len(tables) > 1 or not listed.rows) else listed


def _mention_archives(found: Found, given: Given) -> None:
    """Where no video is, an archive may be why."""
    if found.rows or found.listed or not given.root.is_dir():
        return
    packed: Sequence[Path] = [path for path in visible(given.root) if is_archive(path.name) and path.is_file()]
    told = [sentence for path in packed[:3] if (sentence := how_to_unpack(path))]
    found.problems += [f"holds no videos: {sentence}" for sentence in told]
