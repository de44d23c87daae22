"""Diving48 (Li et al., ECCV 2018), and its second version with corrected labels: the two differ, results do not compare.

    Diving48_V2_{train,test}.json, or Diving48_{train,test}.json of version 1
        [{"vid_name": "_8Vy3dlHg2w_00000", "label": 0, "start_frame": 0, "end_frame": 48}, ...]
    Diving48_vocab.json
        [["Back", "15som", "05Twis", "FREE"], ...]: the classes in order, for both versions

A video is rgb/{vid_name}.mp4. Its frames are start_frame to end_frame - 1: the published files start at 0 and give as
end_frame how many frames a clip has, and the lists that others made of them take it so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from dualpath.data.formats.base import UNUSABLE, Format, Found, Given, Split
from dualpath.data.formats.shelf import Listing, settle
from dualpath.data.formats.text import read_json, short, whole
from dualpath.errors import number_of

OFFICIAL: dict[int, dict[Split, int]] = {1: {"train": 15_943, "test": 2_096}, 2: {"train": 15_027, "test": 1_970}}
"""Entries of the files at svcl.ucsd.edu/projects/resound, by version."""
CLASSES = 48
VOCAB = "Diving48_vocab.json"
_NAMES = {
    1: re.compile(r"diving48_(train|test)\.json", re.IGNORECASE),
    2: re.compile(r"diving48_v2_(train|test)\.json", re.IGNORECASE),
}


def _lists(given: Given, version: int) -> dict[Split, list[Path]]:
    lists: dict[Split, list[Path]] = {}
    for path in given.notes:
        if match := _NAMES[version].fullmatch(path.name):
            lists.setdefault("train" if match[1].lower() == "train" else "test", []).append(path)
    return lists


def _fits(given: Given, *, version: int) -> bool:
    return bool(_lists(given, version))


def _owns(path: Path, *, version: int) -> bool:
    return bool(_NAMES[version].fullmatch(path.name)) or path.name.lower() == VOCAB.lower()


def _read(given: Given, *, version: int) -> Found:
    found = Found(given.root, "diving48" if version == 2 else "diving48_v1")
    lists = _lists(given, version)
    vocabularies = [path for path in given.notes if path.name.lower() == VOCAB.lower()]
    if not lists:
        wanted = (
            "Diving48_V2_train.json or Diving48_V2_test.json" if version == 2 else "Diving48_train.json or Diving48_test.json"
        )
        found.problems.append(f"holds no {wanted}")
    if not vocabularies:
        found.problems.append(f"{VOCAB}, which names the classes, is missing; put it beside the lists")
    for paths in (*lists.values(), vocabularies):
        if len(paths) > 1:
            found.problems.append(f"{paths[0]} and {paths[1]} are the same list; leave one of them")
    if not lists or not vocabularies:
        return found
    found.classes = _read_vocabulary(vocabularies[0], found)
    if found.classes is None:
        return found
    if len(found.classes) != CLASSES:
        found.warnings.append(f"{VOCAB} names {number_of(len(found.classes), 'class|classes')}; Diving48 has {CLASSES}")
    listings: list[Listing] = []
    for split, paths in lists.items():
        listings += _from_list(paths[0], found, split, found.classes)
    return settle(found, given, listings, lists=[paths[0] for paths in lists.values()], official=OFFICIAL[version])


def _read_vocabulary(path: Path, found: Found) -> tuple[str, ...] | None:
    entries = read_json(path, found.refuse)
    if entries is None:
        return None
    if not isinstance(entries, list) or not entries:
        found.problems.append(f"{path.name} is no list of classes; fetch it again")
        return None
    names: list[str] = []
    for number, entry in enumerate(entries):
        parts = entry if isinstance(entry, list) else []
        name = " ".join(part for part in parts if isinstance(part, str))
        if len(parts) != 4 or not all(isinstance(part, str) and part for part in parts) or name in names:
            found.problems.append(f"{path.name} entry {number} is {short(entry)}; it must be four words, other than the rest")
            return None
        names.append(name)
    return tuple(names)


def _from_list(path: Path, found: Found, split: Split, classes: tuple[str, ...]) -> Iterator[Listing]:
    entries = read_json(path, found.refuse)
    if entries is None:
        return
    if not isinstance(entries, list):
        found.problems.append(f"{path.name} is no list of videos but a {type(entries).__name__}; fetch it again")
        return
    labels = [whole(entry.get("label")) for entry in entries if isinstance(entry, dict)]
    shifted = len(classes) in labels and 0 not in labels
    if shifted:
        found.problems.append(f"{path.name} counts its labels from 1 to {len(classes)}; they must count from 0")
    for number, entry in enumerate(entries, 1):
        where = f"{path.name} entry {number}"
        values = entry if isinstance(entry, dict) else {}
        name, label = values.get("vid_name"), whole(values.get("label"))
        start, end = whole(values.get("start_frame", 0)), whole(values.get("end_frame"))
        if not isinstance(name, str) or not name or "/" in name:
            found.problems.append(f'{where} has no "vid_name"')
        elif start is None or end is None or end <= start:
            told = f"goes from frame {short(values.get('start_frame', 0))} to {short(values.get('end_frame'))}"
            found.problems.append(f"{where} ({short(name)}) {told}; the end must come after the start")
        else:
            right = label is not None and label < len(classes) and not shifted
            if not right and not shifted:
                told = f"has the label {short(values.get('label'))}; it must be within 0 and {len(classes) - 1}"
                found.problems.append(f"{where} ({short(name)}) {told}")
            group = re.sub(r"_\d+$", "", name)  # the competition that it was cut from
            told = classes[label] if label is not None and right else UNUSABLE
            yield Listing((name,), told, split, where, group=group, start=start, end=end)


def _format(name: str, title: str, version: int) -> Format:
    return Format(
        name,
        title,
        owns=partial(_owns, version=version),
        fits=partial(_fits, version=version),
        read=partial(_read, version=version),
    )


FORMAT = _format("diving48", "Diving48 V2", 2)
FORMAT_V1 = _format("diving48_v1", "Diving48 V1", 1)
