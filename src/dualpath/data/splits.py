"""Which videos are learnt from and which are judged, where the data set does not say: a share, or the folds of a
cross-validation.

Videos of one group stay together, and everything is a pure function of the seed and of the videos' names, labels and groups.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

from dualpath.data.manifest import DataError, HeldOutFold, Manifest, Video
from dualpath.errors import number_of


def split_off(manifest: Manifest, *, val_fraction: float, seed: int, held_out: HeldOutFold | None = None) -> Manifest:
    """The same with a held-out fold as `val`; else with some training videos as `val`, if it has none."""
    if held_out is not None:
        return hold_out(manifest, held_out, seed=seed)
    if any(video.split == "val" for video in manifest.videos):
        return manifest
    chosen = choose_val(manifest.split("train"), val_fraction=val_fraction, seed=seed)
    split = tuple(replace(video, split="val") if video.name in chosen else video for video in manifest.videos)
    return replace(manifest, videos=split, val_split_off=bool(chosen))


def _ranked_groups(videos: Sequence[Video], *, seed: int) -> dict[str, list[Video]]:
    """The videos by group, in an order that the seed decides; one without a group is a group of its own."""
    groups: dict[str, list[Video]] = {}
    for video in videos:
        groups.setdefault(f"name {video.name}" if video.group is None else f"group {video.group}", []).append(video)
    ranked = sorted(groups, key=lambda group: hashlib.sha256(os.fsencode(f"{seed} {group}")).digest())
    return {group: groups[group] for group in ranked}


def choose_val(videos: Sequence[Video], *, val_fraction: float, seed: int) -> frozenset[str]:
    """Chooses the names of the videos that become `val`: about `val_fraction` of each class, at least one if it can.

    Groups go as a whole and every class keeps a video to learn from. A pure function of the seed and of the videos'
    names, labels and groups: they are ranked by a hash, so without groups a new file moves at most one old one.
    """
    if val_fraction == 0:
        return frozenset()
    units = _ranked_groups(videos, seed=seed)
    sizes: dict[str, dict[int, int]] = {unit: {} for unit in units}  # of a million mostly one each: no Counters
    for unit, members in units.items():
        for video in members:
            sizes[unit][video.label] = sizes[unit].get(video.label, 0) + 1
    left = Counter(video.label for video in videos)
    wanted = Counter({k: max(1, math.floor(val_fraction * n + 0.5)) for k, n in left.items()})
    missing, chosen = wanted.copy(), set()

    def take(unit: str) -> None:
        chosen.add(unit)
        missing.subtract(sizes[unit])
        left.subtract(sizes[unit])

    def spared(unit: str) -> bool:
        return unit in chosen or any(left[label] <= n for label, n in sizes[unit].items())

    for unit in units:
        nearer = sum(abs(missing[k] - n) - abs(missing[k]) for k, n in sizes[unit].items()) < 0
        if nearer and not spared(unit):
            take(unit)
    with_label: dict[int, list[str]] = {label: [] for label in wanted}
    for unit in units:
        for label in sizes[unit].keys() & wanted.keys():
            with_label[label].append(unit)
    for label in sorted(wanted):  # a class whose groups are all larger than its share still wants to be measured
        fitting = [unit for unit in with_label[label] if not spared(unit)] if missing[label] == wanted[label] else []
        if fitting:
            take(min(fitting, key=lambda unit: sum(sizes[unit].values())))
    return frozenset(video.name for unit in chosen for video in units[unit])


# --- cross-validation


def hold_out(manifest: Manifest, held_out: HeldOutFold, *, seed: int) -> Manifest:
    """The same with the held-out fold as `val` and all others as `train`; videos of `test` stay there."""
    folds = assign_folds(divided_videos(manifest), num_folds=held_out.num_folds, seed=seed)
    videos = tuple(
        video
        if video.name not in folds
        else replace(video, split="val" if folds[video.name] == held_out.held_out_fold else "train")
        for video in manifest.videos
    )
    return replace(manifest, videos=videos, val_split_off=bool(folds))


def divided_videos(manifest: Manifest) -> tuple[Video, ...]:
    """Those that a cross-validation divides into folds: all but the videos of `test`."""
    return tuple(video for video in manifest.videos if video.split != "test")


def count_groups(videos: Sequence[Video]) -> int:
    """How many groups there are; a video without a group is a group of its own."""
    return len(_ranked_groups(videos, seed=0))


def assign_folds(videos: Sequence[Video], *, num_folds: int, seed: int) -> dict[str, int]:
    """Divides videos into folds: no group is in two of them, and classes and sizes are balanced as well as groups allow.

    The largest group goes first, each to the fold that holds least of its classes, then to the one with the fewest videos.
    Where every video is a group of its own, the folds differ by at most one video, in all and in each class.

    Args:
        videos: each with a name of its own.
        num_folds: at least 1; no fold is empty if there are as many groups.
        seed: decides between equals.

    Returns:
        The fold of each video, counted from 1, by its name.
    """
    groups = _ranked_groups(videos, seed=seed)
    classes = {group: Counter(video.label for video in members) for group, members in groups.items()}
    folds = _Folds(videos, num_folds)
    chosen: dict[str, int] = {}
    # Class by class among equals: a rest of one class is then made up for by the next one.
    for group in sorted(groups, key=lambda group: (-len(groups[group]), min(classes[group]))):
        best = min(range(num_folds), key=partial(folds.cost, classes=classes[group]))
        folds.put(best, classes[group])
        chosen |= {video.name: best + 1 for video in groups[group]}
    return chosen


class _Folds:
    """Folds that are being filled: how many videos of each class they hold, and how many in all."""

    def __init__(self, videos: Sequence[Video], num_folds: int) -> None:
        self._sizes = [0] * num_folds
        self._in_all = Counter(video.label for video in videos)
        self._counts: list[Counter[int]] = [Counter() for _ in range(num_folds)]
        self._folds_with: Counter[int] = Counter()

    def cost(self, fold: int, classes: Counter[int]) -> tuple[int, float, int, int]:
        """What speaks against putting a group with so many videos of each class into a fold.

        First, how many of its classes would be in this fold alone, as a model that holds it out could not learn them; then
        how much of these classes the fold holds already; then its size.
        """
        counts = self._counts[fold]
        alone = sum(self._folds_with[label] == 1 and counts[label] > 0 for label in classes)
        share = sum(count * counts[label] / self._in_all[label] for label, count in sorted(classes.items()))
        return alone, share, self._sizes[fold], fold

    def put(self, fold: int, classes: Counter[int]) -> None:
        """Adds a group to a fold."""
        self._folds_with.update(label for label in classes if not self._counts[fold][label])
        self._counts[fold].update(classes)
        self._sizes[fold] += classes.total()


def check_folds(manifest: Manifest, num_folds: int, *, seed: int, unreadable: Collection[str] = ()) -> None:
    """Raises DataError if a fold would be empty, or lack videos of a class to learn from.

    Args:
        manifest: before or after a fold is held out.
        num_folds: wanted.
        seed: of the division.
        unreadable: names of videos that are in a fold but cannot be learnt from.
    """
    videos = divided_videos(manifest)
    count = count_groups(videos)
    if num_folds > count:
        what = "group" if any(video.group is not None for video in videos) else "video to divide|videos to divide"
        fewer = f"--folds {count} or less, or add videos" if count > 1 else "more videos"
        raise DataError(
            manifest.root,
            [f"{num_folds} folds, but the data has only {number_of(count, what)}: give {fewer}"],
        )
    folds = assign_folds(videos, num_folds=num_folds, seed=seed)
    readable = [video for video in videos if video.name not in unreadable]
    kind = "readable video" if unreadable else "video"
    if problems := _not_learnt(readable, folds, manifest.classes, kind=kind):
        raise DataError(manifest.root, problems)


def _not_learnt(videos: Sequence[Video], folds: Mapping[str, int], classes: Sequence[str], *, kind: str) -> list[str]:
    """A sentence for each class that one fold holds alone: the run that holds this fold out cannot learn it."""
    problems: list[str] = []
    of_class: dict[int, list[Video]] = {label: [] for label in range(len(classes))}
    for video in videos:
        of_class[video.label].append(video)
    for label, name in enumerate(classes):
        those = of_class[label]
        if len({folds[video.name] for video in those}) != 1:
            continue
        count, groups = len(those), count_groups(those)
        if count == 1:
            what, remedy = f"has only one {kind}", "add videos of it, or leave the class out"
        elif groups == 1:
            what, remedy = f"has {count} {kind}s that are all in one group", "add another group, or leave the class out"
        else:
            what, remedy = f"has {groups} groups that all fall into one fold", "give another --seed or more --folds"
        problems.append(f"class '{name}' {what}, so the model that holds it out cannot learn it: {remedy}")
    return problems
