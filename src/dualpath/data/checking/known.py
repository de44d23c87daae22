"""What is known of videos before a run, so that they need not be read again: from `dualpath data check`, or a run's start.

A file that has changed since (its size or the time of its change) is not known any more.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dualpath.data.checking.check import CHECK, QUARANTINE
from dualpath.data.checking.records import FILES, MISSING, Stamp, read_records, stamp_of
from dualpath.data.manifest import Manifest, Split, Video
from dualpath.data.replaced import Seen
from dualpath.errors import DualPathError, VideoError
from dualpath.files import cell_text, read_table, write_whole
from dualpath.video.decoding.places import Damaged

VIDEOS = "videos.json"


@dataclass(frozen=True)
class Known:
    """Files by name.

    Attributes:
        frames: how many frames the usable ones have.
        bad: why the others are not to be used.
        stamps: size and time of change of those that were looked at.
        of_files: whether files are known, as a whole, rather than the videos that are segments of them.
        damaged: what of usable files could not be decoded.
        labels: (class, split, group, path) of the videos that a run began with.
        edges: of their files, see `dualpath.data.replaced`.
    """

    frames: Mapping[str, int]
    bad: Mapping[str, str]
    stamps: Mapping[str, Stamp]
    of_files: bool = False
    damaged: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, tuple[str, Split, str | None, str]] = field(default_factory=dict)
    edges: Mapping[str, str] = field(default_factory=dict)

    def seen(self, videos: Iterable[Video]) -> dict[Path, Seen]:
        """The files of a run's videos as they were when it began, wherever they are now."""
        those = ((video.path, self.stamps.get(video.name, MISSING), self.edges.get(video.name, "")) for video in videos)
        return {path: Seen(*stamp, edges) for path, stamp, edges in those if stamp != MISSING}

    def completed(self, manifest: Manifest) -> Manifest:
        """The data as the run began with them: a file that was deleted since is still one of its videos.

        Otherwise the validation share would be another one too. Where classes or files were added nothing is changed.
        """
        names = {video.name for video in manifest.videos}
        index = {name: label for label, name in enumerate(manifest.classes)}
        gone = [name for name in self.labels if name not in names]
        if not gone or not names <= self.labels.keys() | self.bad.keys():
            return manifest
        if any(label not in index for label, *_ in self.labels.values()):
            return manifest
        videos = [replace(v, split=self.labels[v.name][1]) if v.name in self.labels else v for v in manifest.videos]
        for name in gone:
            label, split, group, path = self.labels[name]
            videos.append(Video(Path(path), name, index[label], split, group))
        return replace(manifest, videos=tuple(sorted(videos, key=lambda video: video.name)))

    def fits(self, video: Video) -> bool:
        """Whether this file is known, and is still the same."""
        name = video.file if self.of_files else video.name
        if name not in self.frames and self.why_bad(video) is None:
            return False
        return name not in self.stamps or self.stamps[name] == stamp_of(video.path)

    def why_bad(self, video: Video) -> str | None:
        """Why it is not to be used: it itself, or its file; None if that is not known."""
        whole = self.bad.get(video.file) if self.of_files else None
        return self.bad.get(video.name, whole)

    def counted(self, video: Video) -> Video:
        """The same with `num_frames` filled in.

        Raises:
            VideoError: it is known to be bad, or a segment that its file is too short for.
        """
        if (reason := self.why_bad(video)) is not None:
            raise VideoError(video.path, reason)
        return video.counted(self.frames[video.file]) if self.of_files else replace(video, num_frames=self.frames[video.name])


def read_checked(folder: Path, *, damaged: Damaged = "refuse") -> Known:
    """What a finished `dualpath data check` has left behind; the quarantine list may have been edited since.

    Args:
        folder: of the check.
        damaged: with "refuse", files that the check has taken in spite of their damage are bad.

    Raises:
        DualPathError: there is none, or it cannot be read.
    """
    missing = [name for name in (CHECK, FILES, QUARANTINE) if not (folder / name).is_file()]
    if missing:
        raise DualPathError(
            f"{folder} holds no finished data check: {missing[0]} is missing; make one with "
            f"dualpath data check DATA --output {folder}"
        )
    records = read_records(folder)
    try:
        with (folder / QUARANTINE).open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            bad = {cell_text(row["path"]): row["reason"] or "stands in the quarantine list" for row in csv.DictReader(file)}
    except (OSError, KeyError, TypeError, csv.Error) as problem:
        raise DualPathError(
            f"{folder / QUARANTINE} cannot be read; it needs the columns path,reason (check the data again)"
        ) from problem
    good = {name: record.inspection for name, record in records.items() if record.bad is None}
    harmed = {name: seen.damage for name, seen in good.items() if seen is not None and seen.damage is not None}
    if damaged == "refuse":
        bad |= {name: f"{told}; --damaged take does so here, too" for name, told in harmed.items() if name not in bad}
    frames = {name: seen.num_frames for name, seen in good.items() if seen is not None and name not in bad}
    return Known(frames, bad, {name: record.stamp for name, record in records.items()}, of_files=True, damaged=harmed)


def write_known(folder: Path, manifest: Manifest, bad: Mapping[str, str], seen: Mapping[Path, Seen]) -> None:
    """Keeps in a run's folder what it starts with: it resumes with the same videos even if one has gone bad since."""
    told: dict[str, dict[str, Any]] = {
        video.name: {"frames": video.num_frames, "stamp": stamp_of(video.path)}
        | {"label": manifest.classes[video.label], "split": video.split, "group": video.group, "path": str(video.path)}
        | ({"edges": seen[video.path].edges} if video.path in seen else {})
        for video in manifest.videos
    }
    told |= {name: {"bad": reason} for name, reason in bad.items()}
    write_whole(folder / VIDEOS, json.dumps(told) + "\n")


def read_known(folder: Path) -> Known | None:
    """What `write_known` has kept; None if there is nothing.

    Raises:
        DualPathError: a damaged file.
    """
    path = folder / VIDEOS
    if not path.is_file():
        return None
    try:
        told = read_table(path)
        frames = {name: int(one["frames"]) for name, one in told.items() if one.get("frames") is not None}
        stamps = {name: (int(told[name]["stamp"][0]), int(told[name]["stamp"][1])) for name in frames}
        labels = {  # of segments not: their frames are not those of a file
            name: (one["label"], one["split"], one["group"], one["path"])
            for name, one in told.items()
            if "label" in one and not name.endswith("]")
        }
        bad = {name: str(one["bad"]) for name, one in told.items() if "bad" in one}
        edges = {name: str(one["edges"]) for name, one in told.items() if "edges" in one}
        return Known(frames, bad, stamps, labels=labels, edges=edges)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as problem:
        raise DualPathError(f"{path} is damaged ({problem!r}); delete it, and the videos are read again") from problem
