"""HMDB51 (Kuehne et al., ICCV 2011): 153 files {action}_test_split{1,2,3}.txt, lines `name.avi tag`.

Tag 1 is training, 2 test, 0 unused in that split. Results are the mean over the three splits. Videos lie in a folder by
action or in one for all. The classes are the actions, sorted.
"""

from __future__ import annotations

import re
from pathlib import Path

from dualpath.data.formats.base import Format, Found, Given, Split, stem
from dualpath.data.formats.shelf import Listing, settle
from dualpath.data.formats.text import read_lines, short
from dualpath.errors import number_of

OFFICIAL: dict[Split, int] = {"train": 51 * 70, "test": 51 * 30}
"""70 training and 30 test videos a class in each split: section 3.1 of the paper; 6,766 in all, counted in the files."""
CLASSES = 51
FOLDS = 3
NAME = re.compile(r"(.+)_test_split([123])\.txt", re.IGNORECASE)
_TAGS: dict[str, Split | None] = {"0": None, "1": "train", "2": "test"}


def _files(given: Given) -> dict[str, dict[int, list[Path]]]:
    files: dict[str, dict[int, list[Path]]] = {}
    for path in given.notes:
        if match := NAME.fullmatch(path.name):
            files.setdefault(match[1], {}).setdefault(int(match[2]), []).append(path)
    return files


def _read(given: Given) -> Found:
    found = Found(given.root, "hmdb51")
    files = _files(given)
    if not files:
        found.problems.append("holds no files such as brush_hair_test_split1.txt, which HMDB51's test_train_splits.rar holds")
        return found
    found.classes = tuple(sorted(files))
    if len(files) != CLASSES:
        found.warnings.append(f"there are split files for {number_of(len(files), 'action')}; HMDB51 has {CLASSES}")
    listings: list[Listing] = []
    spare: list[str] = []
    lists: list[Path] = []
    for action in found.classes:
        paths = files[action].get(given.fold, [])
        if not paths:
            found.problems.append(f"{action}_test_split{given.fold}.txt is missing")
        elif len(paths) > 1:
            found.problems.append(f"{paths[0]} and {paths[1]} are the same list; leave one of them")
        lists += paths[:1]
        for path in paths[:1]:
            for line, text in read_lines(path, found.refuse) or ():
                name, _, tag = text.replace("\t", " ").rpartition(" ")
                if not name.strip() or tag not in _TAGS:
                    told = f"{path.name} line {line} is {short(text)}; it must be a file name and a tag 0, 1 or 2"
                    found.problems.append(told)
                    continue
                word, split = stem(name.strip()), _TAGS[tag]
                if split is None:
                    spare.append(word)
                    continue
                where = f"{path.name} line {line}"
                listings.append(Listing((word,), action, split, where, group=_film(word, action)))
    return settle(found, given, listings, lists=lists, official=OFFICIAL, spare=spare)


def _film(name: str, action: str) -> str:
    """What a clip was cut from: the name is {film}_{action}_{body}_{camera}_np{people}_{view}_{quality}_{number}."""
    film = re.split(rf"_{re.escape(action)}_[a-z]+_[a-z]+_np\d", name)[0]
    return f"{action}/{film}"


def _owns(path: Path) -> bool:
    return NAME.fullmatch(path.name) is not None


FORMAT = Format("hmdb51", "HMDB51", owns=_owns, fits=lambda given: bool(_files(given)), read=_read, folds=FOLDS)
