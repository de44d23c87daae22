"""Which videos there are, what they show and who learns from them: rows become one checked, split list.

Everything wrong with a data set is told at once, before anything is computed from it.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from dualpath.data.layouts import HOW_TO_LAY_OUT, Found, Row, Split, read_layout
from dualpath.errors import DualPathError

MOST_PROBLEMS = 20


class DataError(DualPathError):
    """A data set that cannot be used.

    Attributes:
        data: what was given.
        problems: one sentence each, all of them.
    """

    def __init__(self, data: str | Path, problems: Sequence[str]) -> None:
        if len(problems) == 1:
            message = f"{data}: {problems[0]}"
        else:
            lines = [f"  {problem}" for problem in problems[:MOST_PROBLEMS]]
            if len(problems) > MOST_PROBLEMS:
                lines.append(f"  and {len(problems) - MOST_PROBLEMS} more")
            message = "\n".join([f"{len(problems)} problems in {data}:", *lines])
        super().__init__(message)
        self.data = str(data)
        self.problems = tuple(problems)

    def __reduce__(self) -> tuple[type[DataError], tuple[str, tuple[str, ...]]]:
        return DataError, (self.data, self.problems)


@dataclass(frozen=True)
class Video:
    """One labelled video file.

    Attributes:
        path: where to read it.
        name: its path relative to the data root: what is printed and written to predictions.csv.
        label: index into the manifest's classes.
        split: who sees it.
        group: videos of one group (clips cut from one film, of one person) are never on two sides.
        num_frames: counted by `scan`; None before.
    """

    path: Path
    name: str
    label: int
    split: Split
    group: str | None = None
    num_frames: int | None = None


@dataclass(frozen=True)
class Manifest:
    """A checked data set.

    Attributes:
        root: the folder that the videos' names are relative to.
        classes: the name of each label.
        videos: sorted by name.
        source: where the labels come from: "class folders" or "csv".
        skipped: what was found beside the videos and left out, to be shown as a count or a list.
        val_split_off: True if `val` was chosen here, from the training videos; False if it was given.
    """

    root: Path
    classes: tuple[str, ...]
    videos: tuple[Video, ...]
    source: str
    skipped: tuple[str, ...] = ()
    val_split_off: bool = False

    def split(self, name: Split) -> tuple[Video, ...]:
        """Gives the videos of one split."""
        return tuple(video for video in self.videos if video.split == name)

    def counts(self) -> dict[Split, dict[str, int]]:
        """Counts the videos of each class in each split, zeros included."""
        found = Counter((video.split, video.label) for video in self.videos)
        return {split: {name: found[split, label] for label, name in enumerate(self.classes)} for split in get_args(Split)}


def read_manifest(
    data: Path | str, *, val_fraction: float = 0.2, seed: int = 0, classes: Sequence[str] | None = None
) -> Manifest:
    """Reads and checks a data set. Opens no video: `dualpath.data.scan` does.

    Args:
        data: a folder (`train/<class>/*` with `val/` and `test/` or without, or `<class>/*`), a CSV file
            (`path,label[,split][,group]`), or a folder that holds one such CSV and no class folders; what
            `dualpath data prepare` made: a folder, or the URL of a folder of shards.
        val_fraction: share of each class that becomes `val` where none is given; 0 leaves all in `train`.
        seed: chooses which ones, see `choose_val`.
        classes: the classes of a trained model: labels map onto these names (or their numbers), training videos are
            not needed and one class is enough. None: the sorted labels found (by value where all are numbers).

    Raises:
        DataError: with all problems found.
        DualPathError: `val_fraction` is out of range.
    """
    if not 0 <= val_fraction < 1:
        raise DualPathError(f"val_fraction is {val_fraction}; it must be at least 0 and less than 1")
    # Here, because they need what this module defines.
    from dualpath.data.prepared import read_prepared, with_lengths
    from dualpath.data.shards import find_shards

    shards = find_shards(data)
    if shards is not None:
        return _split_off(_relabelled(shards, classes), val_fraction=val_fraction, seed=seed)
    data = Path(data)
    if not data.exists():
        raise DataError(data, ["no such file or folder"])
    prepared = read_prepared(data)
    if prepared is not None and classes is None:
        classes = prepared.classes
    try:
        found = read_layout(data)
    except OSError as problem:
        raise DataError(data, [f"{problem.filename} cannot be read ({problem.strerror})"]) from problem
    rows = _without_twins(found)
    found.problems += _split_groups(rows)
    if not rows and not found.problems:
        found.problems.append(f"holds no videos; {HOW_TO_LAY_OUT}")
    elif not found.dropped:
        found.problems += _class_problems(rows, found.empty) if classes is None else _unknown_classes(rows, classes)
    if found.problems:
        raise DataError(data, found.problems)
    names = _sorted_labels(row.label for row in rows) if classes is None else tuple(classes)
    labels = {label: index for label in {row.label for row in rows} if (index := _index(label, names)) is not None}
    videos = [
        Video(row.path, row.name, labels[row.label], row.split or "train", row.group)
        for row in sorted(rows, key=lambda row: row.name)
    ]
    manifest = Manifest(found.root, names, tuple(videos), found.source, tuple(found.skipped))
    if prepared is not None:
        manifest = with_lengths(manifest, prepared)
    return _split_off(manifest, val_fraction=val_fraction, seed=seed)


def _split_off(manifest: Manifest, *, val_fraction: float, seed: int) -> Manifest:
    """The same with some training videos as `val`, if it has none."""
    if any(video.split == "val" for video in manifest.videos):
        return manifest
    chosen = choose_val(manifest.split("train"), val_fraction=val_fraction, seed=seed)
    split = tuple(replace(video, split="val") if video.name in chosen else video for video in manifest.videos)
    return replace(manifest, videos=split, val_split_off=bool(chosen))


def _relabelled(manifest: Manifest, classes: Sequence[str] | None) -> Manifest:
    """The same with the labels of a model's classes."""
    if classes is None:
        return manifest
    rows = [Row(video.path, video.name, manifest.classes[video.label], video.split) for video in manifest.videos]
    if problems := _unknown_classes(rows, classes):
        raise DataError(manifest.root, problems)
    labels = [_index(row.label, classes) or 0 for row in rows]
    videos = tuple(replace(video, label=label) for video, label in zip(manifest.videos, labels, strict=True))
    return replace(manifest, classes=tuple(classes), videos=videos)


def choose_val(videos: Sequence[Video], *, val_fraction: float, seed: int) -> frozenset[str]:
    """Chooses the names of the videos that become `val`: about `val_fraction` of each class, at least one if it can.

    Groups go as a whole and every class keeps a video to learn from. A pure function of the seed and of the videos'
    names, labels and groups: they are ranked by a hash, so without groups a new file moves at most one old one.
    """
    units: dict[str, list[Video]] = {}
    for video in videos:
        units.setdefault(f"name {video.name}" if video.group is None else f"group {video.group}", []).append(video)
    ranked = sorted(units, key=lambda unit: hashlib.sha256(os.fsencode(f"{seed} {unit}")).digest())
    sizes = {unit: Counter(video.label for video in units[unit]) for unit in ranked}
    left = Counter(video.label for video in videos)
    wanted = Counter({k: max(1, math.floor(val_fraction * n + 0.5)) for k, n in left.items() if val_fraction > 0})
    missing, chosen = wanted.copy(), set()

    def take(unit: str) -> None:
        chosen.add(unit)
        missing.subtract(sizes[unit])
        left.subtract(sizes[unit])

    def spared(unit: str) -> bool:
        return unit in chosen or any(left[label] <= n for label, n in sizes[unit].items())

    for unit in ranked:
        nearer = sum(abs(missing[k] - n) - abs(missing[k]) for k, n in sizes[unit].items()) < 0
        if nearer and not spared(unit):
            take(unit)
    for label in sorted(wanted):  # a class whose groups are all larger than its share still wants to be measured
        fitting = [unit for unit in ranked if sizes[unit][label] and not spared(unit)]
        if missing[label] == wanted[label] and fitting:
            take(min(fitting, key=lambda unit: sizes[unit].total()))
    return frozenset(video.name for unit in chosen for video in units[unit])


def _without_twins(found: Found) -> list[Row]:
    """Keeps each file once, wherever its links or several spellings of its path lead, and tells contradictions."""
    first: dict[Path, Row] = {}
    folders: dict[Path, Path] = {}
    for row in found.rows:
        # Resolving every path would cost a system call for each folder above it: most files share their folder.
        if row.path.parent not in folders:
            folders[row.path.parent] = row.path.parent.resolve()
        real = row.path.resolve() if row.path.is_symlink() else folders[row.path.parent] / row.path.name
        other = first.setdefault(real, row)
        if other is row:
            continue
        if other.split != row.split:
            found.problems.append(
                f"the same video is in two splits: {other.where} in {other.split}, {row.where} in {row.split}"
            )
        if other.label != row.label:
            found.problems.append(f"the same video has two labels: {other.where} '{other.label}', {row.where} '{row.label}'")
        found.skipped.append(f"{row.where}, the same as {other.where}")
    return list(first.values())


def _split_groups(rows: Sequence[Row]) -> list[str]:
    first: dict[str, dict[Split, Row]] = {}
    for row in rows:
        if row.group is not None and row.split is not None:
            first.setdefault(row.group, {}).setdefault(row.split, row)
    return [
        f"group '{group}' is in several splits: {', '.join(f'{row.where} in {split}' for split, row in places.items())}"
        for group, places in first.items()
        if len(places) > 1
    ]


def _class_problems(rows: Sequence[Row], empty: Sequence[str]) -> list[str]:
    """Says why a classifier cannot learn these classes."""
    every = _sorted_labels({row.label for row in rows} | set(empty))
    if len(every) == 1:
        return [f"holds one class only ('{every[0]}'); a classifier needs at least two"]
    seen = Counter((row.label, row.split or "train") for row in rows)
    return [
        f"class '{label}' has no training videos ({seen[label, 'val']} in val, {seen[label, 'test']} in test)"
        for label in every
        if not seen[label, "train"]
    ]


def _unknown_classes(rows: Sequence[Row], classes: Sequence[str]) -> list[str]:
    counts = Counter(row.label for row in rows if _index(row.label, classes) is None)
    known = ", ".join(classes[:10]) + (f" and {len(classes) - 10} more" if len(classes) > 10 else "")
    return [
        f"class '{label}' ({count} videos, the first is {next(r for r in rows if r.label == label).where}) is not one "
        f"of the model's: {known}"
        for label, count in sorted(counts.items())
    ]


def _index(label: str, classes: Sequence[str]) -> int | None:
    """Gives the index of a class by its name, or by its number where the names themselves are no numbers."""
    if label in classes:
        return classes.index(label)
    by_number = label.isdecimal() and int(label) < len(classes) and not all(name.isdecimal() for name in classes)
    return int(label) if by_number else None


def _sorted_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Sorts by name, numbers by value: the labels 0 ... 10 keep their own numbers as indices."""
    unique = set(labels)
    numbers = all(label.isdecimal() for label in unique)
    return tuple(sorted(unique, key=lambda label: (int(label) if numbers else 0, label)))
