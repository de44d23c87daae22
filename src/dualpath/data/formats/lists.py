"""Lists of videos without a header, as TSN, MMAction2 and VideoMAE take them; one file a split, beside each other.

    path label            abseiling/x.mp4 0
    path,label            abseiling/x.mp4,abseiling
    dir nframes label     abseiling/x 250 0        a folder of frames, of which the first nframes are used

The last field is the class, by number or by name. Numbers are names of their own, unless a file beside the lists gives
a name a line (classes.txt, label_map.txt, classInd.txt ...). A path is relative to the list, to the folder given, or to
any folder below: it is enough that a video's path ends so. A file of another ending is the same video.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from dualpath.data.formats.base import SPLIT_NAMES, UNUSABLE, VIDEO_SUFFIXES, Format, Found, Given, Split, exists, stem
from dualpath.data.formats.hmdb51 import NAME as HMDB51
from dualpath.data.formats.shelf import Listing, settle
from dualpath.data.formats.table import COLUMNS, OWN, column_name
from dualpath.data.formats.text import read_head, read_lines, short, whole
from dualpath.data.formats.ucf101 import LIST as UCF101
from dualpath.errors import number_of

_WORD = re.compile(r"(?:^|(?<=[^a-z]))(training|train|validation|valid|val|test)(?=$|[^a-z]|list)")
_SUFFIXES = (".txt", ".csv", ".list", ".lst")
_FIRST = 20
_MOST = 0.75
_ENDINGS = "|".join(sorted(suffix[1:] for suffix in VIDEO_SUFFIXES))
_LINE = re.compile(rf"(.*/.*[,;\t ]\s*\S.*|.+\.({_ENDINGS})\"?[,;\t ]\s*\S.*|\S.*[,;\t ]\s*\d+[,;\t ]\s*\d+)", re.IGNORECASE)
_CLASSES = re.compile(r"(class|label|categor)\w*\.(txt|csv|lst)", re.IGNORECASE)


def _split_of(path: Path) -> Split | None:
    words = _WORD.findall(path.stem.lower())
    return SPLIT_NAMES[words[0]] if len(set(words)) == 1 else None


def _owns(path: Path) -> bool:
    """By its first lines: a path and a class, no header; a few may be damaged."""
    if path.suffix.lower() not in _SUFFIXES or path.name == OWN or HMDB51.fullmatch(path.name) or UCF101.fullmatch(path.name):
        return False
    lines = [line.strip() for line in read_head(path).replace("\r", "\n").split("\n")[:_FIRST] if line.strip()]
    header = {column_name(cell.strip('"')) for cell in re.split(r"[,;\t]+", lines[0])} if lines else set()
    header |= set(lines[0].lower().split()) if lines else set()
    if header & {*COLUMNS["path"], "label", "class", "youtube_id"}:
        return False
    lines = lines[:-1] or lines
    return bool(lines) and sum(_LINE.fullmatch(line) is not None for line in lines) >= _MOST * len(lines)


def _lists(given: Given) -> list[Path]:
    """The lists: all that are named like a split; a file that was given, and those named like it for other splits."""
    if given.path.is_file():
        if not _owns(given.path):
            return []
        beside = [path for path in given.notes if _split_of(given.path) and path != given.path]
        return [given.path, *(path for path in beside if _alike(path, given.path) and _owns(path))]
    named = [path for path in given.notes if path.suffix.lower() in _SUFFIXES and _split_of(path)]
    ours = [path for path in named if _owns(path)]
    # One that is damaged from its first lines on must not be passed over.
    return [path for path in named if path in ours or any(_alike(path, one) for one in ours)]


def _alike(path: Path, other: Path) -> bool:
    """Whether two files beside each other are named alike but for the split: train_list.txt and val_list.txt."""
    patterns = {_WORD.sub("*", one.stem.lower()) for one in (path, other)}
    return len(patterns) == 1 and path.parent == other.parent and path.suffix == other.suffix


def _read(given: Given) -> Found:
    found = Found(given.root, "lists")
    lists = _lists(given)
    if not lists and given.path.is_file():
        lists = [given.path]
    if not lists:
        found.problems.append("holds no list such as train.txt with lines of a path and a label, without a header")
    splits: list[Split] = [_split_of(path) or "train" for path in lists]
    for split in ("train", "val", "test"):
        paths = [path for path in lists if _split_of(path) == split]
        if len(paths) > 1:
            names = " and ".join(str(path.relative_to(given.root)) for path in paths[:2])
            found.problems.append(f"{names} both list {split}; give one of the files instead of the folder")
    if found.problems:
        return found
    entries = [entry for path, split in zip(lists, splits, strict=True) for entry in _entries(path, found, split)]
    listings = _name_classes(found, given, entries)
    return settle(found, given, list(_placed(listings, given)), lists=lists)


def _entries(path: Path, found: Found, split: Split) -> Iterator[tuple[Path, Listing]]:
    """The lines: where the path begins, and a listing whose stem is the path as written."""
    lines = read_lines(path, found.refuse) or []
    comma = max(",;\t", key=lambda mark: sum(mark in text for _, text in lines))
    comma = comma if sum(comma in text for _, text in lines) > len(lines) / 2 else None
    cut = [(line, [cell.strip() for cell in text.rsplit(comma, 2)]) for line, text in lines]
    framed = all(len(cells) == 3 and whole(cells[1]) is not None and whole(cells[2]) is not None for _, cells in cut)
    for (line, text), (_, cells) in zip(lines, cut, strict=True):
        where = f"{path.name} line {line}"
        name, *numbers = cells if framed else [cell.strip() for cell in text.rsplit(comma, 1)]
        name = name.strip('"').replace("\\", "/")
        if not numbers or not name or not numbers[-1]:
            found.problems.append(f"{where} is {short(text)}; it must be a path and a label")
            continue
        frames = whole(numbers[0]) if framed else None
        if frames == 0 and stem(name) == name:
            found.problems.append(f"{where} says that {short(name)} has 0 frames")
            continue
        # A file knows its own length; what lists say of it is often the header's guess.
        end = frames if stem(name) == name else None
        yield path.parent, Listing((name,), numbers[-1].strip('"'), split, where, end=end)


def _name_classes(found: Found, given: Given, entries: Sequence[tuple[Path, Listing]]) -> list[tuple[Path, Listing]]:
    """Checks the labels; puts names for numbers where a file has them."""
    labels = {one.label: one for _, one in reversed(entries) if one.label}
    odd = [one for label, one in labels.items() if whole(label) is None]
    if odd and len(odd) < len(labels):
        told = f"has the label {short(odd[-1].label)}, but others are numbers"
        found.problems.append(f"{odd[-1].where} {told}; give all labels as numbers, or all as names")
        numbered = [whole(one.label) is not None for _, one in entries]
        right = 2 * sum(numbered) >= len(numbered)  # as most of them
        entries = [
            (base, one if number is right else replace(one, label=UNUSABLE))
            for (base, one), number in zip(entries, numbered, strict=True)
        ]
        labels = {one.label: one for _, one in reversed(entries) if one.label}
        odd = [] if right else odd
    learnt = {one.label for _, one in entries if one.split == "train"}
    for label in sorted(labels.keys() - learnt) if learnt else ():
        found.problems.append(f"{labels[label].where} has the class {short(label)}, which the training list does not have")
    names = None if odd or not labels else _read_names(given, found)
    if names is None:
        return list(entries)
    numbers = sorted(number for label in labels if (number := whole(label)) is not None)
    shifted = numbers[0] == 1 and numbers[-1] == len(names)
    if shifted:
        found.problems.append(f"the labels count from 1 to {len(names)}; they must count from 0")
    elif numbers[-1] >= len(names):
        where = labels[next(label for label in labels if whole(label) == numbers[-1])].where
        found.problems.append(f"{where} has the label {numbers[-1]}; there are {len(names)} classes, 0 to {len(names) - 1}")
    found.classes = names
    renamed = {label: names[n] for label in labels if (n := whole(label)) is not None and n < len(names) and not shifted}
    told = [renamed.get(one.label or "", UNUSABLE) for _, one in entries]
    return [(base, replace(one, label=label)) for (base, one), label in zip(entries, told, strict=True)]


def _read_names(given: Given, found: Found) -> tuple[str, ...] | None:
    """The class names of a file beside the lists, if there is one: a name a line, with its number before it or not."""
    files = [path for path in given.notes if _CLASSES.fullmatch(path.name) and path.name != OWN and not _split_of(path)]
    if not files:
        return None
    if len(files) > 1:
        found.problems.append(f"{files[0].name} and {files[1].name} both may name the classes; leave one of them")
        return None
    lines = [text for _, text in read_lines(files[0], found.refuse) or ()]
    numbered = [re.fullmatch(r"(\d{1,9})[\s,;]+(\S.*)", text) for text in lines]
    if lines and all(numbered):
        pairs = [(int(match[1]), match[2].strip()) for match in numbered if match]
        if [number for number, _ in pairs] not in (list(range(len(pairs))), list(range(1, len(pairs) + 1))):
            found.problems.append(
                f"{files[0].name} does not number its {number_of(len(pairs), 'class|classes')} one after another"
            )
            return None
        lines = [name for _, name in pairs]
    if len(set(lines)) < len(lines):
        found.problems.append(f"{files[0].name} names a class twice")
    return tuple(lines) if lines and len(set(lines)) == len(lines) else None


def _placed(entries: Sequence[tuple[Path, Listing]], given: Given) -> Iterator[Listing]:
    """The listings with the ends of paths to look for, or with the file where it lies outside the root."""
    root = str(given.root.absolute())
    for base, one in entries:
        name, outside = one.stems[0], None
        if name.startswith(("/", "../")):
            full = os.path.normpath(base.absolute() / name)
            if full.startswith(root + os.sep):
                name = full[len(root) + 1 :]
            elif exists(Path(full)):
                outside = Path(full)
        name = os.path.normpath(name.lstrip("/")) if outside is None else name
        yield Listing((stem(name),), one.label, one.split, one.where, end=one.end, path=outside)


FORMAT = Format("lists", "lists of path and label", owns=_owns, fits=lambda given: bool(_lists(given)), read=_read)
