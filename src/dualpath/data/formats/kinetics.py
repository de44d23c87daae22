"""Kinetics-400 (arXiv:1705.06950), and 600 and 700, which come in the same form.

    train.csv, validate.csv (or val.csv), test.csv    label,youtube_id,time_start,time_end,split[,is_cc]
    train.json, validate.json, test.json              {id: {"annotations": {"label", "segment": [s, e]}, "subset"}}

A video is {youtube_id}_{time_start:06d}_{time_end:06d}.mp4, or {youtube_id}.mp4 in mirrors that keep the trimmed part
only; in folders by class (with spaces or underscores) or not. A class's index is the rank of its name. The old test.csv
has no labels. Where a split has both forms, the CSV is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from dualpath.data.formats.base import SPLIT_NAMES, UNUSABLE, Format, Found, Given, Split
from dualpath.data.formats.shelf import Listing, settle
from dualpath.data.formats.text import read_head, read_json, read_records, seconds, short
from dualpath.errors import number_of

SPLITS: dict[str, Split] = {**SPLIT_NAMES, "validate": "val"}
OFFICIAL: dict[Split, int] = {"train": 246_535, "val": 19_907, "test": 38_686}
"""Of Kinetics-400, by the files that cvdfoundation/kinetics-dataset publishes."""
CLASSES = (400, 600, 700)
_WORD = re.compile(r"(?:^|[^a-z])(train|validate|validation|val|test)(?:[^a-z]|$)")
_NEEDED = ("youtube_id", "time_start", "time_end")


def _split_of(path: Path) -> Split | None:
    match = _WORD.search(path.stem.lower())
    return SPLITS[match[1]] if match else None


def _is_ours(path: Path) -> bool:
    head = read_head(path)
    if path.suffix.lower() == ".csv":
        return all(word in head.split("\n", 1)[0].lower() for word in _NEEDED)
    return '"subset"' in head and '"segment"' in head


def _lists(given: Given) -> list[Path]:
    """The lists, each split once if it can be."""
    named = [path for path in given.notes if path.suffix.lower() in (".csv", ".json") and _split_of(path)]
    if given.path.is_file() and given.path not in named:
        named.append(given.path)
    ours = [path for path in named if _is_ours(path)]
    # One that is damaged from its first line on must not be passed over.
    ours += [p for p in named if p not in ours and p.stem.lower() in SPLITS and any(p.parent == o.parent for o in ours)]
    tables = {_split_of(path) for path in ours if path.suffix.lower() == ".csv"}
    return [path for path in ours if path.suffix.lower() == ".csv" or _split_of(path) not in tables]


def _read(given: Given) -> Found:
    found = Found(given.root, "kinetics")
    lists = _lists(given) or ([given.path] if given.path.is_file() else [])
    if not lists:
        found.problems.append(
            "holds no Kinetics list: train.csv, validate.csv or test.csv, with columns label,youtube_id,time_start,time_end"
        )
        return found
    listings: list[Listing] = []
    for path in lists:
        same = [other.name for other in lists if other != path and _split_of(other) == _split_of(path) is not None]
        if same and path == min(other for other in lists if _split_of(other) == _split_of(path)):
            found.problems.append(f"{path.name} and {same[0]} both list {_split_of(path)}; leave one of them")
        listings += _from_csv(path, found) if path.suffix.lower() == ".csv" else _from_json(path, found)
    learnt = {one.label for one in listings if one.split == "train" and one.label}
    classes = sorted(learnt or {one.label for one in listings if one.label})
    for label in sorted({one.label for one in listings if one.label} - set(classes)):
        where = next(one.where for one in listings if one.label == label)
        found.problems.append(f"{where} has the class '{label}', which the training list does not have")
    found.classes = tuple(classes) or None
    if classes and len(classes) not in CLASSES:
        found.warnings.append(f"the lists name {number_of(len(classes), 'class|classes')}; Kinetics has 400, 600 or 700")
    official = OFFICIAL if len(classes) == 400 else None
    return settle(found, given, listings, lists=lists, official=official)


def _from_csv(path: Path, found: Found) -> Iterator[Listing]:
    records = read_records(path, found.refuse)
    if records is None:
        return
    header = [cell.lower() for cell in records[0][1]]
    missing = [name for name in _NEEDED if name not in header]
    if missing:
        found.problems.append(f"{path.name} has no column {' and no '.join(missing)}; it has {short(', '.join(header))}")
        return
    for line, cells in records[1:]:
        where = f"{path.name} line {line}"
        if len(cells) != len(header):
            found.problems.append(f"{where} has {number_of(len(cells), 'field')}, the header has {len(header)}")
            continue
        values = dict(zip(header, cells, strict=True))
        label = values.get("label") or None
        if "label" in header and label is None and SPLITS.get(values.get("split", "").lower()) != "test":
            found.problems.append(f"{where} has no label")
            label = UNUSABLE
        subset = values.get("split") or None
        times = (values["time_start"], values["time_end"])
        yield from _listing(path, found, where, values["youtube_id"], label, times, subset)


def _from_json(path: Path, found: Found) -> Iterator[Listing]:
    table = read_json(path, found.refuse)
    if table is None:
        return
    if not isinstance(table, dict):
        found.problems.append(f"{path.name} is no table of video ids but a {type(table).__name__}; it is no Kinetics list")
        return
    for key, entry in table.items():
        where = f"{path.name} entry {short(key)}"
        about = entry.get("annotations") if isinstance(entry, dict) else None
        segment = about.get("segment") if isinstance(about, dict) else None
        if not isinstance(about, dict) or not isinstance(segment, list) or len(segment) != 2:
            found.problems.append(f'{where} has no "annotations" with a "segment" of two times')
            continue
        label, subset = about.get("label"), entry.get("subset")
        if not isinstance(label, str | None) or not isinstance(subset, str | None) or label == "":
            found.problems.append(f'{where} has a "label" or "subset" that is no name')
            label, subset = UNUSABLE, subset if isinstance(subset, str) else None
        yield from _listing(path, found, where, key, label, (segment[0], segment[1]), subset)


def _listing(
    path: Path, found: Found, where: str, key: str, label: str | None, times: tuple[object, object], subset: str | None
) -> Iterator[Listing]:
    split = SPLITS.get(subset.lower()) if subset else _split_of(path)
    start, end = seconds(times[0]), seconds(times[1])
    if not key or "/" in key or "\\" in key:
        found.problems.append(f"{where} has no YouTube id but {short(key)}")
    elif split is None:
        found.problems.append(f"{where} has the split {short(subset or '')}; allowed are {', '.join(SPLITS)}")
    elif start is None or end is None or end <= start:
        found.problems.append(f"{where} goes from {short(times[0])} to {short(times[1])} s; the end must come after the start")
    else:
        if label is None and split != "test":
            found.problems.append(f"{where} has no label; only test lists come without")
            label = UNUSABLE
        yield Listing((f"{key}_{start:06d}_{end:06d}", key), label, split, where, group=key)


FORMAT = Format("kinetics", "Kinetics", owns=_is_ours, fits=lambda given: bool(_lists(given)), read=_read)
