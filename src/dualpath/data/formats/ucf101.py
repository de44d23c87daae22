"""UCF101 (arXiv:1212.0402): classInd.txt, trainlist0{1,2,3}.txt, testlist0{1,2,3}.txt.

    classInd     `1 ApplyEyeMakeup`, counted from 1          (Windows line ends in the published files)
    trainlist    `ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1`
    testlist     `ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi`

Videos lie in folders by class or in one for all. g08 is the group that a clip was cut from: never on two sides.
"""

from __future__ import annotations

import re
from pathlib import Path

from dualpath.data.formats.base import UNUSABLE, Format, Found, Given, Split, stem
from dualpath.data.formats.shelf import Listing, settle
from dualpath.data.formats.text import read_lines, short, whole
from dualpath.errors import number_of

OFFICIAL: dict[int, dict[Split, int]] = {
    1: {"train": 9537, "test": 3783},
    2: {"train": 9586, "test": 3734},
    3: {"train": 9624, "test": 3696},
}
"""Lines of the published lists; 13,320 each time."""
CLASSES = 101
FOLDS = 3
LIST = re.compile(r"(train|test)list0?([123])\.txt", re.IGNORECASE)
_VIDEO = re.compile(r"v_(.+?)_g\d+_c\d+")


def _files(given: Given) -> tuple[list[Path], dict[tuple[Split, int], list[Path]]]:
    classes = [path for path in given.notes if path.name.lower() == "classind.txt"]
    lists: dict[tuple[Split, int], list[Path]] = {}
    for path in given.notes:
        if match := LIST.fullmatch(path.name):
            split: Split = "train" if match[1].lower() == "train" else "test"
            lists.setdefault((split, int(match[2])), []).append(path)
    return classes, lists


def _read(given: Given) -> Found:
    found = Found(given.root, "ucf101")
    classes, lists = _files(given)
    paths: dict[Split, list[Path]] = {split: lists.get((split, given.fold), []) for split in ("train", "test")}
    for name, there in [("classInd.txt", classes)] + [(f"{s}list0{given.fold}.txt", files) for s, files in paths.items()]:
        if not there:
            found.problems.append(f"{name} is missing")
        elif len(there) > 1:
            found.problems.append(f"{there[0]} and {there[1]} are the same list; leave one of them")
    if not classes:
        return found
    indices = _read_classes(classes[0], found)
    if indices is None:
        return found
    found.classes = tuple(indices)
    if len(indices) != CLASSES:
        found.warnings.append(f"{classes[0].name} names {number_of(len(indices), 'class|classes')}; UCF101 has {CLASSES}")
    listings: list[Listing] = []
    for split, files in paths.items():
        for path in files[:1]:
            listings += _from_list(path, found, split, indices)
    used = [files[0] for files in paths.values() if files]
    return settle(found, given, listings, lists=used, official=OFFICIAL[given.fold])


def _read_classes(path: Path, found: Found) -> dict[str, int] | None:
    """Class name to its number, from 1 on, in order; None if the file does not say so."""
    lines = read_lines(path, found.refuse)
    if lines is None:
        return None
    numbers: dict[str, int] = {}
    for line, text in lines:
        first, _, name = (part.strip() for part in text.replace("\t", " ").partition(" "))
        number = whole(first)
        if number is None or not name or name in numbers or number in numbers.values():
            found.problems.append(f"{path.name} line {line} is {short(text)}; it must be a number and a name, each new")
            return None
        numbers[name] = number
    if sorted(numbers.values()) == list(range(len(numbers))):
        found.problems.append(f"{path.name} counts the classes from 0; UCF101's counts them from 1")
        return None
    if sorted(numbers.values()) != list(range(1, len(numbers) + 1)):
        found.problems.append(
            f"{path.name} does not number its {number_of(len(numbers), 'class|classes')} from 1 to {len(numbers)}, each once"
        )
        return None
    return dict(sorted(numbers.items(), key=lambda item: item[1]))


def _from_list(path: Path, found: Found, split: Split, indices: dict[str, int]) -> list[Listing]:
    listings: list[Listing] = []
    wrong: list[tuple[str, int, int]] = []
    for line, text in read_lines(path, found.refuse) or ():
        where = f"{path.name} line {line}"
        name, number = text, None
        if match := re.fullmatch(r"(.*\S)\s+(\d{1,9})", text):
            name, number = match[1], int(match[2])
        word = stem(name.replace("\\", "/").rpartition("/")[2])
        video = _VIDEO.fullmatch(word)
        label = name.rpartition("/")[0].rpartition("/")[2] or (video[1] if video else "")
        if not word or not label:
            found.problems.append(
                f"{where} is {short(text)}; it must be Class/v_Class_g01_c01.avi" + " and a number" * (split == "train")
            )
            continue
        if label not in indices:
            found.problems.append(f"{where} has the class {short(label)}, which classInd.txt does not have")
            label = UNUSABLE
        elif number is None and split == "train":
            found.problems.append(f"{where} has no label after {short(name)}")
        elif number is not None and number != indices[label]:
            wrong.append((where, number, indices[label]))
        group = word.rpartition("_c")[0] if video else None
        listings.append(Listing((word,), label, split, where, group=group))
    if len(wrong) > 1 and len(wrong) == len(listings) and all(number == right - 1 for _, number, right in wrong):
        found.problems.append(f"{path.name} counts its labels from 0, but classInd.txt from 1; add 1 to each")
    else:
        told = "{} has the label {}, but its class has the number {} in classInd.txt"
        found.problems += [told.format(*one) for one in wrong]
    return listings


def _owns(path: Path) -> bool:
    return path.name.lower() == "classind.txt" or LIST.fullmatch(path.name) is not None


def _fits(given: Given) -> bool:
    classes, lists = _files(given)
    return bool(classes and lists)


FORMAT = Format("ucf101", "UCF101", owns=_owns, fits=_fits, read=_read, folds=FOLDS)
