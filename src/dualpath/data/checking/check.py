"""Looks into every file of a data set before anything is learnt from it.

    manifest --ask(inspect) in children--> files.jsonl --find--> Check(records, findings) --write--> check.json, quarantine.csv

A check's folder can be checked into again: files that have not changed since are not read again.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, get_args

from PIL import Image

from dualpath.data.checking.findings import Finding, bad_segments, find
from dualpath.data.checking.records import (
    FILES,
    MISSING,
    NO_FILE,
    VERSION,
    Record,
    appending,
    is_missing,
    read_records,
    stamp_of,
)
from dualpath.data.manifest import Manifest, Split
from dualpath.data.scan import Refusal, ask
from dualpath.errors import DualPathError
from dualpath.files import csv_cell, names_in, write_whole
from dualpath.hardware import cores
from dualpath.memory import paused_collection
from dualpath.settings import MOST_FRAMES, MOST_WORKERS, check_fields
from dualpath.video.decoding.places import Damaged
from dualpath.video.inspect import Inspection, inspect

CHECK, QUARANTINE = "check.json", "quarantine.csv"
MOST_SHOWN, MOST_A_CLASS = 120, 8  # files whose pictures are kept for the report
look_into: Callable[..., Inspection] = inspect
"""What runs on each file in the children."""


@dataclass(frozen=True)
class CheckConfig:
    """How a data set is checked.

    Attributes:
        num_frames: frames of a clip; shorter videos are told.
        max_bad_files: share of unusable files up to which the data count as usable.
        workers: processes that read; -1 takes all cores.
        seconds: time limit for one file, to which comes 2 s a megabyte.
        damaged: what is done with a file of which some cannot be decoded: refuse it, or take the rest as the video and say so.
    """

    num_frames: int = 16
    max_bad_files: float = 0.01
    workers: int = -1
    seconds: float = 60.0
    damaged: Damaged = "refuse"

    def __post_init__(self) -> None:
        check_fields(self, num_frames=MOST_FRAMES, workers=MOST_WORKERS)
        if self.num_frames < 1:
            raise DualPathError(f"num_frames is {self.num_frames}, but it must be at least 1")
        if not 0 <= self.max_bad_files <= 1:
            raise DualPathError(f"max_bad_files is {self.max_bad_files}, but it must be within 0 and 1")
        if self.workers < 1 and self.workers != -1:
            raise DualPathError(f"workers is {self.workers}, but it must be at least 1, or -1 for all cores")
        if self.seconds <= 0:
            raise DualPathError(f"seconds is {self.seconds}, but it must be a number above 0")


@dataclass(frozen=True)
class Progress:
    """How far a check is: files done, before and in this session; frames decoded in this session."""

    done: int
    total: int
    files: int
    frames: int


@dataclass(frozen=True)
class Check:
    """What was found.

    Attributes:
        manifest: what was checked.
        records: by name, one for each file, in the manifest's order: segments of a file have one in common.
        findings: the gravest first.
        config: how it was checked.
        seconds: what this session took.
        read: how many files this session read; the others were known.
    """

    manifest: Manifest
    records: dict[str, Record]
    findings: tuple[Finding, ...]
    config: CheckConfig
    seconds: float
    read: int

    @property
    def usable(self) -> bool:
        """Whether nothing found is an error."""
        return all(finding.severity != "error" for finding in self.findings)

    @cached_property
    def bad(self) -> dict[str, str]:
        """Reason by name of the files that cannot be used."""
        return {name: reason for name, record in self.records.items() if (reason := record.bad) is not None}

    @cached_property
    def bad_segments(self) -> dict[str, str]:
        """Reason by name of the segments that lie past the end of their files."""
        return bad_segments(self.manifest, self.records)

    @cached_property
    def good(self) -> dict[str, Inspection]:
        """What the usable files hold, by name."""
        return {n: r.inspection for n, r in self.records.items() if r.inspection is not None and r.bad is None}

    def as_json(self) -> dict[str, Any]:
        """Everything but the files one by one, as plain values."""
        seen = list(self.good.values())
        return {
            "version": VERSION,
            "root": str(self.manifest.root),
            "source": self.manifest.source,
            "data": self.manifest.census(),
            "usable": self.usable,
            "files": len(self.records),
            "bad_files": len(self.bad),
            "max_bad_files": self.config.max_bad_files,
            "num_frames": self.config.num_frames,
            "left_aside": len(self.manifest.skipped),
            "frames": sum(one.num_frames for one in seen),
            "classes": list(self.manifest.classes),
            "videos": self.manifest.counts(),
            "usable_videos": self.usable_counts(),
            "length_s": spread([one.duration for one in seen]),
            "frames_a_video": spread([one.num_frames for one in seen]),
            "fps": spread([one.fps for one in seen]),
            "short_side": spread([min(one.width, one.height) for one in seen]),
            **{key: tally([getattr(one, key) for one in seen]) for key in ("codec", "container", "pixel_format", "bit_depth")},
            "sizes": tally([f"{one.width}x{one.height}" for one in seen]),
            "with_sound": sum(one.has_audio for one in seen),
            "variable_frame_rate": sum(one.variable for one in seen),
            "findings": [finding.as_json() for finding in self.findings],
            "bad": self.bad,
            "damaged": {name: seen.damage for name, seen in self.good.items() if seen.damage is not None},
            "bad_segments": self.bad_segments,
        }

    def usable_counts(self) -> dict[str, dict[str, int]]:
        """Usable videos of each class in each split."""
        bad, beyond = self.bad, self.bad_segments
        usable = [video for video in self.manifest.videos if video.file not in bad and video.name not in beyond]
        found = Counter((video.split, video.label) for video in usable)
        return {split: {c: found[split, i] for i, c in enumerate(self.manifest.classes)} for split in get_args(Split)}

    def write(self, folder: Path) -> None:
        """check.json and quarantine.csv, each whole or not at all."""
        out = io.StringIO()
        rows = [("path", "reason"), *self.bad.items(), *self.bad_segments.items()]
        csv.writer(out).writerows(map(csv_cell, row) for row in rows)
        write_whole(folder / QUARANTINE, out.getvalue().encode("utf-8", "surrogateescape"))
        write_whole(folder / CHECK, json.dumps(self.as_json(), indent=2) + "\n")


def check_data(
    manifest: Manifest, folder: Path, config: CheckConfig | None = None, *, progress: Callable[[Progress], None] | None = None
) -> Check:
    """Reads what is not known yet of a data set, in child processes, and judges all of it.

    A script that calls this must keep its own doings under `if __name__ == "__main__":`, because children are spawned.

    Args:
        manifest: from `read_manifest`.
        folder: a new one, or one of an earlier check of the same data: it goes on.
        config: how.
        progress: is told after each file.

    Raises:
        DualPathError: the folder holds something else or cannot be written.
    """
    config = config or CheckConfig()
    check_folder(folder)
    began = time.monotonic()
    with paused_collection():
        paths = {video.file: video.path for video in manifest.videos}  # segments of one file are one file
        stamps = {name: stamp_of(path) for name, path in paths.items()}
        known = read_records(folder)
        records = {n: record for n, record in known.items() if stamps.get(n) == record.stamp and _holds(record, config)}
        todo = [name for name in paths if name not in records]
        # Not worth a child's time: a list of a million files may be of another disk.
        gone = (name for name in todo if stamps[name] == MISSING and is_missing(paths[name]))
        missing = {name: Record(name, MISSING, NO_FILE) for name in gone}
        records |= missing
        todo = [name for name in todo if name not in missing]
        shown, frames = shown_files(manifest), 0
    workers = config.workers if config.workers > 0 else cores()
    with (
        appending(folder) as file,
        closing(ask([paths[name] for name in todo], _look(config), workers=workers, seconds=config.seconds)) as answers,
    ):
        file.write("".join(record.as_line() for record in missing.values()))
        if progress is not None and missing:
            progress(Progress(len(records), len(paths), 0, 0))
        for number, (index, answer) in enumerate(answers):
            name = todo[index]
            if isinstance(answer, Refusal):
                record = Record(name, stamps[name], answer.reason)
            else:
                pictures = tuple(jpeg(picture) for picture in answer.thumbnails) if name in shown else ()
                record = Record(name, stamps[name], None, answer, pictures)
                frames += answer.num_frames
            records[name] = record
            file.write(record.as_line())
            if progress is not None:
                progress(Progress(len(records), len(paths), number + 1, frames))
    ordered = {name: records[name] for name in paths}
    findings = find(manifest, ordered, num_frames=config.num_frames, max_bad_files=config.max_bad_files)
    return Check(manifest, ordered, findings, config, time.monotonic() - began, len(todo))


def with_pictures(check: Check, folder: Path, names: Sequence[str]) -> Check:
    """The same with pictures of these files, which are read once more where theirs were not kept."""
    paths = {video.file: video.path for video in check.manifest.videos}
    good = check.good
    todo = [name for name in dict.fromkeys(names) if name in good and not check.records[name].pictures]
    records = dict(check.records)
    with (
        appending(folder) as file,
        closing(ask([paths[name] for name in todo], _look(check.config), seconds=check.config.seconds)) as answers,
    ):
        for index, answer in answers:
            name = todo[index]
            if not isinstance(answer, Refusal):
                records[name] = replace(records[name], pictures=tuple(jpeg(picture) for picture in answer.thumbnails))
                file.write(records[name].as_line())
    return replace(check, records=records)


def _holds(record: Record, config: CheckConfig) -> bool:
    """Whether this check would find the same: not of a file that was late, nor of damage that is now judged otherwise."""
    if record.problem is not None:
        again = ("took longer than", "is truncated") if config.damaged == "take" else ("took longer than",)
        return not record.problem.startswith(again)
    seen = record.inspection
    return seen is None or (seen.error if config.damaged == "take" else seen.damage) is None


def _look(config: CheckConfig) -> Callable[[Path], Inspection]:
    return partial(look_into, damaged="take") if config.damaged == "take" else look_into


def check_folder(folder: Path) -> None:
    """Refuses a folder that cannot be written or that holds something other than a check."""
    held = names_in(folder)
    if held and FILES not in held:
        raise DualPathError(f"the output folder {folder} holds other files ({held[0]} ...); give a new folder with --output")


def shown_files(manifest: Manifest) -> frozenset[str]:
    """Names of the files whose pictures are kept: all of a small set, else a few of each class, by a hash of their names."""
    if len(manifest.videos) <= MOST_SHOWN:
        return frozenset(video.file for video in manifest.videos)
    each = min(MOST_A_CLASS, max(1, MOST_SHOWN // max(1, len(manifest.classes))))
    by_label: dict[int, list[str]] = {}
    for video in manifest.videos:
        by_label.setdefault(video.label, []).append(video.file)

    def rank(name: str) -> bytes:
        return hashlib.sha256(os.fsencode(name)).digest()

    return frozenset(name for names in by_label.values() for name in sorted(set(names), key=rank)[:each])


def jpeg(picture: Any) -> str:
    """A picture, uint8 (h, w, 3), as a small JPEG in base64."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", quality=75)
    return base64.b64encode(buffer.getvalue()).decode()


def spread(values: Sequence[float | int | None]) -> dict[str, float] | None:
    """Smallest, middle and largest of those that are known; None if none is."""
    known = sorted(float(value) for value in values if value is not None)
    if not known:
        return None
    return {"smallest": known[0], "median": statistics.median(known), "largest": known[-1], "mean": statistics.fmean(known)}


def tally(values: Sequence[Any]) -> dict[str, int]:
    """How often each value is there, the most frequent first."""
    return {str(value): times for value, times in Counter(values).most_common()}
