"""What `dualpath data prepare` leaves behind, as it is read again: nothing of it needs to be looked into once more.

FOLDER/labels.csv       path,label,split,group, for every tool that reads lists
FOLDER/prepared.json    classes in their order; frames and bytes of every video; settings, counts, what was left out
FOLDER/prepared.jsonl   one line a finished video: by it an interrupted preparation goes on
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dualpath.data.manifest import DataError, Manifest

LABELS, PREPARED, JOURNAL = "labels.csv", "prepared.json", "prepared.jsonl"
SOURCE = "prepared"
"""The manifest's `source` of such a folder."""


@dataclass(frozen=True)
class Prepared:
    """The part of prepared.json that reading needs.

    Attributes:
        classes: in the order of the labels.
        videos: (frames, bytes) by name.
    """

    classes: tuple[str, ...]
    videos: Mapping[str, tuple[int, int]]


def read_prepared(data: Path) -> Prepared | None:
    """Reads prepared.json in a folder (or beside its labels.csv), None if there is none.

    Raises:
        DataError: it is damaged.
    """
    path = (data if data.is_dir() else data.parent) / PREPARED
    if not path.is_file() or (not data.is_dir() and data.name != LABELS):
        return None
    try:
        told: Any = json.loads(path.read_bytes())
        classes, videos = tuple(told["classes"]), told["videos"]
        found = {name: (facts["num_frames"], facts["bytes"]) for name, facts in videos.items()}
        if not all(isinstance(name, str) for name in classes) or len(set(classes)) != len(classes):
            raise ValueError("classes")
        if not all(type(frames) is int and type(size) is int and frames > 0 for frames, size in found.values()):
            raise ValueError("videos")
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as problem:
        raise DataError(data, [f"{PREPARED} is damaged ({problem}); run `dualpath data prepare` into it again"]) from problem
    return Prepared(classes, found)


def with_lengths(manifest: Manifest, prepared: Prepared) -> Manifest:
    """The manifest with the number of frames of each video.

    Raises:
        DataError: a file is not the one that was prepared.
    """
    videos, problems = [], []
    for video in manifest.videos:
        if video.name not in prepared.videos:  # added to labels.csv by hand
            videos.append(video)
            continue
        frames, size = prepared.videos[video.name]
        if (held := video.path.stat().st_size) != size:
            problems.append(f"{video.name} has {held} bytes, but was prepared with {size}; run `dualpath data prepare` again")
        videos.append(replace(video, num_frames=frames))
    if problems:
        raise DataError(manifest.root, problems)
    return replace(manifest, videos=tuple(videos), source=SOURCE)
