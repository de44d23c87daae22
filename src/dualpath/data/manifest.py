"""Which videos there are, what they show and who learns from them: rows become one checked, split list.

Everything wrong with a data set is told at once, before anything is computed from it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

from dualpath.data.checks import class_notes, index_of, row_problems, sorted_labels, unknown_classes, without_twins
from dualpath.data.formats import FORMATS, read_format
from dualpath.data.formats.base import HOW_TO_LAY_OUT, UNUSABLE, Found, Row, Seconds, Split, Tally, Tell, segment_mark
from dualpath.errors import DualPathError, VideoError
from dualpath.memory import paused_collection

MOST_PROBLEMS = 20
LONGEST = 1000
UNTIMED = 10**9
"""The `end` of a segment in seconds that has no frames yet, so that it is never taken for its whole file."""
SLACK = 2
"""Frames that a segment may reach past the end of its file: copies lose the last one or two."""


class DataError(DualPathError):
    """A data set that cannot be used.

    Attributes:
        data: what was given.
        problems: one sentence each, all of them.
    """

    def __init__(self, data: str | Path, problems: Sequence[str]) -> None:
        problems = [p if len(p) <= LONGEST else f"{p[: LONGEST - 4]} ..." for p in problems]  # with a damaged file in them
        if len(problems) == 1:
            lines = [f"{data}: {problems[0]}"]
        else:
            lines = [f"{len(problems)} problems in {data}:", *(f"  {problem}" for problem in problems[:MOST_PROBLEMS])]
            if len(problems) > MOST_PROBLEMS:
                lines.append(f"  and {len(problems) - MOST_PROBLEMS} more")
        super().__init__(*lines)
        self.data = str(data)
        self.problems = tuple(problems)

    def __reduce__(self) -> tuple[type[DataError], tuple[str, tuple[str, ...]]]:
        return DataError, (self.data, self.problems)


@dataclass(frozen=True)
class Video:
    """One labelled video: a file (or a folder of frames), or a segment of one.

    Attributes:
        path: where to read it.
        name: its path relative to the data root: what is printed and written to predictions.csv.
        label: index into the manifest's classes; -1 if it cannot be used (`Manifest.problems` says why).
        split: who sees it.
        group: videos of one group (clips cut from one film, of one person) are never on two sides.
        num_frames: of the segment, counted by `scan`; None before.
        start: first frame of the segment, counted from 0.
        end: the frame behind its last one; None for the end of the file.
        seconds: the segment as it is listed, where that is in seconds; `start` and `end` are then found by
            `dualpath.data.segments`, and until then `end` lies past the end of any file.
    """

    path: Path
    name: str
    label: int
    split: Split
    group: str | None = None
    num_frames: int | None = None
    start: int = 0
    end: int | None = None
    seconds: Seconds | None = None

    @cached_property
    def file(self) -> str:
        """The name of its file: its own name, without what tells it from other segments of the file."""
        if not self.name.endswith("]"):
            return self.name
        mark = segment_mark(self.start, self.end, self.seconds)
        return self.name if str(self.path).endswith(mark) else self.name.removesuffix(mark)

    def counted(self, frames: int) -> Video:
        """The same with `num_frames` filled in, in a file of that many frames.

        Raises:
            VideoError: the segment lies past the end of the file, by more than SLACK frames.
        """
        end = frames if self.end is None else self.end
        if end > frames + SLACK or 0 < frames <= self.start:
            told = f"is listed with the frames {self.start} to {end - 1}"
            if self.seconds is not None:
                begin, stop = self.seconds
                told = f"is listed from {begin:g} s to {'its end' if stop is None else f'{stop:g} s'}"
                if end == UNTIMED:
                    told += f", but none of its frames ({frames}) has a time in it that could be read"
                    raise VideoError(self.path, f"{told}; start_frame and end_frame need no times")
                told += f", the frames {self.start} to {end - 1}"
            raise VideoError(self.path, f"{told}, but there are only {frames}")
        return replace(self, num_frames=min(end, frames) - self.start)


@dataclass(frozen=True)
class Manifest:
    """A checked data set.

    Attributes:
        root: the folder that the videos' names are relative to.
        classes: the name of each label.
        videos: sorted by name.
        source: where the labels come from: "class folders", "csv", or the name of a format.
        skipped: what was found beside the videos and left out, to be shown as a count or a list.
        val_split_off: True if `val` was chosen here, from the training videos; False if it was given.
        format: one of `dualpath.data.formats.FORMATS`.
        fold: which of the format's divisions into training and test; None if there is but one.
        listed: where videos are listed, how many of each split are there: papers' denominators differ.
        extra: videos on disk that no list names.
        warnings: what the user should be told, a sentence each.
        notes: how the data were understood, a sentence each.
        problems: what makes the labels unusable, a sentence each; there are none where they were read strictly.
    """

    root: Path
    classes: tuple[str, ...]
    videos: tuple[Video, ...]
    source: str
    skipped: tuple[str, ...] = ()
    val_split_off: bool = False
    format: str = "folders"
    fold: int | None = None
    listed: Mapping[Split, Tally] = field(default_factory=dict)
    extra: int = 0
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def split(self, name: Split) -> tuple[Video, ...]:
        """Gives the videos of one split."""
        return tuple(video for video in self.videos if video.split == name)

    def counts(self) -> dict[Split, dict[str, int]]:
        """Counts the videos of each class in each split, zeros included."""
        found = Counter((video.split, video.label) for video in self.videos)
        return {split: {name: found[split, label] for label, name in enumerate(self.classes)} for split in get_args(Split)}

    def census(self) -> dict[str, Any]:
        """The format and its counts as plain values, for every record of a result."""
        told: dict[str, Any] = {"format": self.format, "fold": self.fold}
        return told | {"listed": {split: asdict(tally) for split, tally in self.listed.items()}, "extra": self.extra}

    def census_words(self) -> str:
        """The counts in words; empty where nothing is listed: "train 9 of 9 listed, official 9; test ..."."""
        parts = [f"{split} {tally}" for split, tally in self.listed.items()]
        return "; ".join([*parts, f"{self.extra:,} extra"] if parts and self.extra else parts)


@dataclass(frozen=True)
class HeldOutFold:
    """The fold of a cross-validation that a run does not learn from.

    Attributes:
        num_folds: into how many folds the videos are divided.
        held_out_fold: which of them is held out, counted from 1.
    """

    num_folds: int
    held_out_fold: int

    def __post_init__(self) -> None:
        if self.num_folds < 2:
            raise DualPathError(f"folds is {self.num_folds}, but at least 2 are needed, as one is held out; give --folds 5")
        if not 1 <= self.held_out_fold <= self.num_folds:
            raise DualPathError(f"held_out_fold is {self.held_out_fold}, but there are the folds 1 to {self.num_folds}")

    def __str__(self) -> str:
        """Such as "fold 2 of 5"."""
        return f"fold {self.held_out_fold} of {self.num_folds}"


@paused_collection()
def read_manifest(
    data: Path | str,
    *,
    val_fraction: float = 0.2,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    format: str = "auto",
    fold: int | None = None,
    known: tuple[str, int | None] | None = None,
    held_out: HeldOutFold | None = None,
    strict: bool = True,
    progress: Tell = lambda done, total: None,
) -> Manifest:
    """Reads and checks a data set. Opens no video: `dualpath.data.scan` does.

    Args:
        data: a folder (`train/<class>/*` with `val/` and `test/` or without, or `<class>/*`), a CSV file
            (`path,label[,split][,group]`, see `formats.table`), a folder that holds one such CSV and no class folders, a
            folder with the annotation files of one of `dualpath.data.formats`, or such a file; what `dualpath data prepare`
            made: a folder, or the URL of a folder of shards.
        val_fraction: share of each class that becomes `val` where none is given; 0 leaves all in `train`.
        seed: chooses which ones, see `splits.choose_val`.
        classes: the classes of a trained model: labels map onto these names (or their numbers), training videos are
            not needed and one class is enough. None: in the order of the format, else the sorted labels found (by
            value where all are numbers).
        format: one of FORMATS; "auto" recognises it.
        fold: 1, 2 or 3 of HMDB51 and UCF101; 1 by default.
        known: the format and fold that a model was trained on: taken where they fit and nothing else is asked for.
        held_out: divides the training and validation videos into folds, one of which becomes `val`, instead of
            `val_fraction`; see `splits.hold_out`.
        strict: whether anything wrong is an error. If not, it stands in `Manifest.problems`, and a video whose label cannot
            be used has the label -1; an error is then only what leaves no video, or a file that is no list at all.
        progress: is told (rows done, rows in all) while a long table is read.

    Raises:
        DataError: with all problems found.
        DualPathError: `val_fraction` is out of range.
    """
    if not 0 <= val_fraction < 1:
        raise DualPathError(f"val_fraction is {val_fraction}; it must be at least 0 and less than 1")
    # Here, because they need what this module defines.
    from dualpath.data.preparing.prepared import read_prepared, with_lengths
    from dualpath.data.preparing.shards import find_shards
    from dualpath.data.splits import split_off

    shards = find_shards(data)
    if shards is not None:
        return split_off(_relabelled(shards, classes), val_fraction=val_fraction, seed=seed, held_out=held_out)
    data = Path(data)
    if not data.exists():
        raise DataError(data, ["no such file or folder"])
    if format != "auto" and format not in FORMATS:
        raise DualPathError(f"unknown format {format!r}; there are auto, {', '.join(FORMATS)}")
    prepared = read_prepared(data)
    if prepared is not None and classes is None:
        classes = prepared.classes
    found, rows = _read(data, classes, format=format, fold=fold, known=known, strict=strict, progress=progress)
    given = {row.label for row in rows} - {UNUSABLE} | set(found.empty)
    names = tuple(classes) if classes is not None else found.classes or sorted_labels(given)
    labels = {name: index for index, name in enumerate(names)}
    odd = {row.label for row in rows}.difference(labels)
    labels |= {label: index for label in odd if (index := index_of(label, names)) is not None}
    videos = [
        Video(
            row.path, row.name, labels.get(row.label, -1), row.split or "train", row.group, None, row.start,
            row.end if row.seconds is None else UNTIMED, row.seconds,
        )
        for row in sorted(rows, key=lambda row: row.name)
    ]  # fmt: skip
    manifest = Manifest(
        root=found.root,
        classes=names,
        videos=tuple(videos),
        source=found.source,
        skipped=tuple(found.skipped),
        format=found.format,
        fold=found.fold,
        listed=found.listed,
        extra=found.extra,
        warnings=tuple(found.warnings),
        notes=(*found.notes, *class_notes(names)),
        problems=tuple(found.problems),
    )
    if prepared is not None:
        manifest = with_lengths(manifest, prepared)
    return split_off(manifest, val_fraction=val_fraction, seed=seed, held_out=held_out)


def _read(
    data: Path,
    classes: Sequence[str] | None,
    *,
    format: str,
    fold: int | None,
    known: tuple[str, int | None] | None,
    strict: bool,
    progress: Tell,
) -> tuple[Found, list[Row]]:
    """The rows, checked; DataError with all that is wrong with them, unless that is to be told in `Found.problems`."""
    try:
        found = read_format(data, name=format, fold=fold, known=known, progress=progress)
    except OSError as problem:
        raise DataError(data, [f"{problem.filename} cannot be read ({problem.strerror})"]) from problem
    rows = without_twins(found)
    if not rows and not found.problems:
        found.problems.append(f"holds no videos; {HOW_TO_LAY_OUT}")
    else:
        found.problems += row_problems(found, rows, classes, strict=strict)
    if found.problems and (strict or found.refused or not rows):
        raise DataError(data, found.problems)
    return found, rows


def _relabelled(manifest: Manifest, classes: Sequence[str] | None) -> Manifest:
    """The same with the labels of a model's classes."""
    if classes is None:
        return manifest
    rows = [Row(video.path, video.name, manifest.classes[video.label], video.split) for video in manifest.videos]
    if problems := unknown_classes(rows, classes):
        raise DataError(manifest.root, problems)
    labels = {row.label: index_of(row.label, classes) or 0 for row in {row.label: row for row in rows}.values()}
    videos = tuple(replace(video, label=labels[row.label]) for video, row in zip(manifest.videos, rows, strict=True))
    return replace(manifest, classes=tuple(classes), videos=videos)
