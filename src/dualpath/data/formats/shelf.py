"""The videos below a folder, found once by name, and lists put against them: what is there, missing, extra.

    root --Shelf--> stem to paths      listings --settle--> Found.rows, Found.listed, Found.extra

Mirrors of the large data sets lack thousands of files, so one that is not there is counted, not refused. A root without
any of them is refused.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dualpath.data.formats.archives import how_to_unpack, is_archive
from dualpath.data.formats.base import VIDEO_SUFFIXES, Found, Given, Row, Split, Tally, is_folder, stem, suffix
from dualpath.errors import number_of
from dualpath.video.decoding.frame_folder import PICTURES

_PEEK = 64
_WORDS: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "validation", "valid"),
    "test": ("test",),
}


@dataclass(frozen=True)
class Listing:
    """One line of a list.

    Attributes:
        stems: the names that its file may have, without ending; the first one is what it is called in sentences. One with
            slashes stands for the end of a path.
        label: name of its class; None if the list does not tell, UNUSABLE if what it tells cannot be used.
        split: who sees it.
        where: such as "train.csv line 5".
        group: see Row.
        start, end: see Row.
        path: where it lies, if the list names an existing file outside the root.
    """

    stems: tuple[str, ...]
    label: str | None
    split: Split
    where: str
    group: str | None = None
    start: int = 0
    end: int | None = None
    path: Path | None = None


class Shelf:
    """All videos below a folder: files, and folders of numbered pictures.

    Attributes:
        names: of all, relative to the root.
        archives: files that may hold more.
    """

    def __init__(self, root: Path) -> None:
        """Looks through the folder, links to folders included; OSError where one cannot be read."""
        self.root = root
        self.names: list[str] = []
        self.archives: list[Path] = []
        self._by_stem: dict[str, list[str]] = {}
        seen: set[tuple[int, int]] = set()  # links may lead in circles
        waiting = [""]
        while waiting:
            place = waiting.pop()
            told = (root / place).stat()
            if (told.st_dev, told.st_ino) in seen:
                continue
            seen.add((told.st_dev, told.st_ino))
            waiting += self._look(place)

    def _look(self, place: str) -> list[str]:
        """Takes the videos of one folder; gives the folders in it."""
        folders, pictures, before = [], 0, len(self.names)
        with os.scandir(self.root / place) as entries:
            for count, entry in enumerate(entries):
                # Folders of pictures hold millions of files: a few tell what the folder is.
                if pictures == count == _PEEK:
                    break
                name = f"{place}/{entry.name}" if place else entry.name
                ending = suffix(entry.name)
                if entry.name.startswith("."):
                    continue
                if is_folder(entry):
                    folders.append(name)
                elif ending in VIDEO_SUFFIXES and (not entry.is_symlink() or Path(entry).exists()):
                    self._take(name)
                elif ending in PICTURES and re.search(r"\d\.\w+$", entry.name):
                    pictures += 1
                elif is_archive(entry.name):
                    self.archives.append(Path(entry))
        if pictures and place and not folders and len(self.names) == before:
            self._take(place)
        return folders

    def _take(self, name: str) -> None:
        self.names.append(name)
        self._by_stem.setdefault(stem(name.rpartition("/")[2]), []).append(name)

    def find(self, wanted: str) -> list[str]:
        """The names of the videos with this stem; one with slashes must be the end of their paths."""
        names = self._by_stem.get(wanted.rpartition("/")[2], [])
        return [name for name in names if stem(name) == wanted or stem(name).endswith(f"/{wanted}")] if "/" in wanted else names


def settle(
    found: Found,
    given: Given,
    listings: Sequence[Listing],
    *,
    lists: Iterable[Path],
    official: Mapping[Split, int] | None = None,
    spare: Iterable[str] = (),
) -> Found:
    """Puts lists against the disk: fills rows, counts, warnings and problems in.

    Args:
        found: with the problems of reading the lists.
        given: where to look.
        listings: what the lists hold.
        lists: the files that they came from, for the sentences.
        official: how many videos each split has as published.
        spare: stems that a list names but does not use: not extra.
    """
    listings = _without_repeated(found, listings)
    shelf = Shelf(given.root)
    used = {name for word in spare for name in shelf.find(word)}
    counts: Counter[tuple[Split, str]] = Counter()
    for listing in listings:
        names = _candidates(shelf, listing)
        used.update(names)
        if len(names) > 1:
            found.problems.append(f"{listing.where}: two files for {listing.stems[0]}: {names[0]} and {names[1]}; keep one")
        there = bool(names) or listing.path is not None
        counts[listing.split, "unlabelled" if listing.label is None else "found" if there else "missing"] += 1
        if listing.label is not None and there:
            path = given.root / names[0] if names else listing.path
            assert path is not None
            name, segment = names[0] if names else str(path), {"start": listing.start, "end": listing.end}
            found.rows.append(Row(path, name, listing.label, listing.split, listing.group, **segment))
    found.extra = len(shelf.names) - len(used)
    for split in ("train", "val", "test"):
        there, missing, unlabelled = (counts[split, what] for what in ("found", "missing", "unlabelled"))
        if there + missing + unlabelled:
            known = (official or {}).get(split)
            found.listed[split] = Tally(there + missing + unlabelled, there, missing, unlabelled, known)
    _tell_missing(found, given, listings, shelf, sorted(path.name for path in lists))
    return found


def _candidates(shelf: Shelf, listing: Listing) -> list[str]:
    """The videos that a listing may mean; several only where nothing tells which."""
    names = list(dict.fromkeys(name for word in listing.stems for name in shelf.find(word)))
    if len(names) > 1 and "/" in listing.stems[0]:  # the end of a path may be there for each split, or below another
        names = [name for name in names if stem(name) in listing.stems] or names
        names = [name for name in names if _lies_in(name, _WORDS[listing.split])] or names
    kept: dict[str, str] = {}
    for name in names if len(names) > 1 else ():
        kept.setdefault(os.path.realpath(shelf.root / name), name)
    return list(kept.values()) or names


def _lies_in(name: str, words: Sequence[str]) -> bool:
    """Whether a folder above is named by one of these words: train, videos_train, train_256."""
    parts = name.lower().replace("-", "_").split("/")[:-1]
    return any(word in part.split("_") for word in words for part in parts)


def _without_repeated(found: Found, listings: Sequence[Listing]) -> list[Listing]:
    """Tells lines that say the same again, or something else of the same video; the first of them stays."""
    first: dict[tuple[str, int, int | None], Listing] = {}
    for listing in listings:
        key = (listing.stems[0], listing.start, listing.end)
        other = first.setdefault(key, listing)
        if other is listing:
            continue
        if other.split != listing.split:
            what = f"lists {key[0]} in {listing.split}, {other.where} in {other.split}"
        elif other.label != listing.label and other.label and listing.label:
            what = f"gives {key[0]} the class '{listing.label}', {other.where} '{other.label}'"
        else:
            what = f"repeats {key[0]} of {other.where}"
        found.problems.append(f"{listing.where} {what}; remove one of the two lines")
    return list(first.values())


def _tell_missing(found: Found, given: Given, listings: Sequence[Listing], shelf: Shelf, lists: Sequence[str]) -> None:
    labelled = [listing for listing in listings if listing.label is not None]
    names = f"{lists[0]} ... {lists[-1]}" if len(lists) > 4 else ", ".join(lists)
    packed = [told for path in shelf.archives[:1] if (told := how_to_unpack(path))]
    if listings and not labelled:
        found.problems.append(f"{names} give no labels, so there is nothing to learn or to measure; give the lists with labels")
    elif labelled and not found.rows:
        told = "; ".join(packed) or "put or link the videos there, or give the folder that holds both lists and videos"
        found.problems.append(
            f"none of the {number_of(len(labelled), 'video')} of {names} is there: looked for {labelled[0].stems[0]}.* and the "
            f"others in {given.root} and all folders below, which hold {number_of(len(shelf.names), 'other video')}; {told}"
        )
    else:
        for split, tally in found.listed.items():
            if tally.missing > tally.found:
                found.warnings.append(
                    f"only {tally.found:,} of the {tally.found + tally.missing:,} {split} videos of {names} are there; "
                    f"the first missing is {_first_missing(labelled, split, shelf)}" + (f"; {packed[0]}" if packed else "")
                )


def _first_missing(labelled: Sequence[Listing], split: Split, shelf: Shelf) -> str:
    return next(one.stems[0] for one in labelled if one.split == split and one.path is None and not _candidates(shelf, one))
