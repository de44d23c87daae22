"""What rows of any format must pass: each video once, groups and classes where they belong. Problems are sentences."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from dualpath.data.formats.base import UNUSABLE, Found, Row, Seconds, Split, segment_mark
from dualpath.errors import number_of


def without_twins(found: Found) -> list[Row]:
    """Keeps each file once, wherever its links or several spellings of its path lead, and tells contradictions.

    Different segments of one file are different videos; where they begin and end becomes part of their names.
    """
    # All of it in text: a million rows make a million paths, and pathlib takes its time for each.
    first: dict[tuple[str, int, int | None, Seconds | None], Row] = {}
    segments: Counter[str] = Counter()
    folders: dict[str, str] = {}
    for row in found.rows:
        # Resolving every path would cost a system call for each folder above it: most files share their folder.
        folder, _, name = str(row.path).rpartition(os.sep)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder or os.sep)  # Path.resolve raises for links in a circle
        link = os.path.islink(row.path)  # noqa: PTH114 (no name from a list is too long or too strange for it)
        real = os.path.realpath(row.path) if link else f"{folders[folder]}{os.sep}{name}"
        other = first.setdefault((real, row.start, row.end, row.seconds), row)
        if other is row:
            segments[real] += 1
            continue
        if other.split != row.split:
            found.problems.append(
                f"the same video is in two splits: {other.where} in {other.split}, {row.where} in {row.split}"
            )
        if other.label != row.label and other.label and row.label:
            found.problems.append(f"the same video has two labels: {other.where} '{other.label}', {row.where} '{row.label}'")
        found.skipped.append(f"{row.where}, the same as {other.where}")
    return [
        row if segments[real] == 1 else replace(row, name=row.name + segment_mark(start, end, seconds))
        for (real, start, end, seconds), row in first.items()
    ]


def split_groups(rows: Sequence[Row]) -> list[str]:
    """Tells groups that are in several splits."""
    first: dict[str, dict[Split, Row]] = {}
    for row in rows:
        if row.group is not None and row.split is not None:
            first.setdefault(row.group, {}).setdefault(row.split, row)
    return [
        f"group '{group}' is in several splits: {', '.join(f'{row.where} in {split}' for split, row in places.items())}"
        for group, places in first.items()
        if len(places) > 1
    ]


def row_problems(found: Found, rows: Sequence[Row], classes: Sequence[str] | None, *, strict: bool) -> list[str]:
    """What else is wrong, beyond what reading has told.

    Args:
        found: by a reader.
        rows: its rows, each file once.
        classes: those of a trained model, which the labels must be among; None if they are to be learnt.
        strict: also what `dualpath data check` finds by itself: groups and classes without training videos.
    """
    rows = [row for row in rows if row.label != UNUSABLE]
    if classes is not None and (found.listed or not found.dropped):
        return ([] if found.listed else split_groups(rows)) + unknown_classes(rows, classes)
    if found.listed:  # as published: which groups and classes are where is not ours to judge
        return few_classes(found, rows)
    if found.dropped:
        return []
    return split_groups(rows) + class_problems(rows, found.empty) if strict else few_classes(found, rows)


def few_classes(found: Found, rows: Sequence[Row]) -> list[str]:
    """Classes may lack videos on this disk, but one class alone is nothing to learn."""
    every = found.classes or {row.label for row in rows} | set(found.empty)
    verb = "lists" if found.listed else "holds"
    return [f"{verb} one class only ('{next(iter(every))}'); a classifier needs at least two"] if len(every) == 1 else []


def class_problems(rows: Sequence[Row], empty: Sequence[str]) -> list[str]:
    """Says why a classifier cannot learn these classes."""
    every = sorted_labels({row.label for row in rows} | set(empty))
    if len(every) == 1:
        return [f"holds one class only ('{every[0]}'); a classifier needs at least two"]
    seen = Counter((row.label, row.split or "train") for row in rows)
    return [
        f"class '{label}' has no training videos ({seen[label, 'val']} in val, {seen[label, 'test']} in test)"
        for label in every
        if not seen[label, "train"]
    ]


def class_notes(classes: Sequence[str]) -> list[str]:
    """Tells classes whose names differ in capitals or spelling of the same letters only: one class written in two ways?"""
    alike: dict[str, list[str]] = {}
    for name in classes:
        alike.setdefault(" ".join(unicodedata.normalize("NFKC", name).casefold().split()), []).append(name)
    return [
        f"the classes {' and '.join(map(repr, names))} differ in capitals or spaces only; if they are one, write them alike"
        for names in alike.values()
        if len(names) > 1
    ]


def unknown_classes(rows: Sequence[Row], classes: Sequence[str]) -> list[str]:
    """Tells classes that a trained model does not have."""
    labels = Counter(row.label for row in rows)
    first = {row.label: row for row in reversed(rows)}
    counts = {label: count for label, count in labels.items() if index_of(label, classes) is None}
    known = ", ".join(classes[:10]) + (f" and {len(classes) - 10} more" if len(classes) > 10 else "")
    return [
        f"class '{label}' ({number_of(count, 'video')}, the first is {first[label].where}) is not one of the model's: {known}"
        for label, count in sorted(counts.items())
    ]


def index_of(label: str, classes: Sequence[str]) -> int | None:
    """Gives the index of a class by its name, or by its number where the names themselves are no numbers."""
    if label in classes:
        return classes.index(label)
    number = _number(label)
    by_number = number is not None and number < len(classes) and any(_number(name) is None for name in classes)
    return number if by_number else None


def _number(label: str) -> int | None:
    return int(label) if label.isdecimal() and len(label) <= 18 else None


def sorted_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Sorts by name, numbers by value: the labels 0 ... 10 keep their own numbers as indices."""
    unique = set(labels)
    numbers = {label: _number(label) for label in unique}
    by_value = None not in numbers.values()
    return tuple(sorted(unique, key=lambda label: (numbers[label] or 0 if by_value else 0, label)))
