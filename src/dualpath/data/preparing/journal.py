"""The book that a preparation keeps: which video became which file, so that whatever stops it costs nothing.

prepared.jsonl      {"settings": ..., "classes": ...}
                    {"name": "train/archery/a.mp4", "source": ..., "num_frames": ..., ...}     a line a finished file
                    {"left_out": {...}}                                before packing: everything is encoded
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualpath.data.manifest import Manifest, Video
from dualpath.data.preparing.prepared import JOURNAL
from dualpath.errors import DualPathError
from dualpath.files import remove_temporary
from dualpath.video.encode import Encoded


@dataclass(frozen=True)
class Job:
    """One video to encode; as a path, it is its source."""

    source: Path
    target: Path
    start: int = 0
    end: int | None = None

    def __fspath__(self) -> str:
        return os.fspath(self.source)


@dataclass(frozen=True)
class Finished:
    """A prepared video.

    Attributes:
        video: as it was.
        name: of the new file, relative to the output.
        encoded: what it holds.
        before: bytes of the source; 0 where it is a folder of frames.
    """

    video: Video
    name: str
    encoded: Encoded
    before: int


@dataclass(frozen=True)
class Preparation:
    """What came out.

    Attributes:
        output: the folder.
        finished: in the order of the manifest.
        left_out: reason by name of the videos that could not be read.
    """

    output: Path
    finished: tuple[Finished, ...]
    left_out: dict[str, str]

    @property
    def damaged(self) -> dict[str, str]:
        """By name, what of a video could not be decoded, where the rest was taken."""
        return {one.video.name: one.encoded.damage for one in self.finished if one.encoded.damage is not None}

    @property
    def bytes_before(self) -> int:
        return sum(one.before for one in self.finished)

    @property
    def bytes_after(self) -> int:
        return sum(one.encoded.size for one in self.finished)


class Journal:
    """The lines of prepared.jsonl: what is finished, and with which settings.

    Attributes:
        records: of the finished files, by name.
        left_out: reasons by name, once everything is encoded that is to be packed; None before.
    """

    def __init__(self, output: Path, wanted: dict[str, Any], manifest: Manifest) -> None:
        """Opens the folder's journal, or begins one.

        Raises:
            DualPathError: the folder holds something else, other settings or other classes, or cannot be written.
        """
        self.output, self.manifest = output, manifest
        self.left_out: dict[str, str] | None = None
        path = output / JOURNAL
        if manifest.source != "csv" and output.resolve().is_relative_to(manifest.root.resolve()):
            raise DualPathError(
                f"the output {output} lies in the data that is to be prepared; give a folder outside {manifest.root}"
            )
        head = json.loads(json.dumps({"settings": wanted, "classes": list(manifest.classes)}))
        try:
            held = sorted(p.name for p in output.iterdir()) if output.is_dir() else []
            if held and JOURNAL not in held:
                raise DualPathError(f"the output folder {output} holds other files ({held[0]} ...); give a new folder")
            lines = path.read_text(errors="replace").splitlines() if held else []
            self.records = _records(lines, head, output) if lines else {}
            self.left_out = self.records.pop("", {}).get("left_out")
            output.mkdir(parents=True, exist_ok=True)
            sweep(output)
            self._file = path.open("a")
            if not lines:
                self._write(head)
            elif not path.read_bytes().endswith(b"\n"):  # a line that a crash cut short
                self._file.write("\n")
        except OSError as problem:
            raise DualPathError(
                f"the output {output} cannot be written to ({problem.strerror}); give another folder"
            ) from problem

    def end(self, left_out: dict[str, str]) -> None:
        """Notes that everything is encoded: from now on the files themselves may go into shards."""
        self._write({"left_out": left_out})

    def recall(self, jobs: Sequence[Job]) -> Preparation:
        """What was encoded, whether its files still lie there or are packed.

        Raises:
            DualPathError: the data is not what it was then.
        """
        finished, left_out = [], self.left_out or {}
        for video, job in zip(self.manifest.videos, jobs, strict=True):
            told = self.records.get(job.target.relative_to(self.output).as_posix())
            if told is not None and told["source"] == video.name:
                finished.append(_finished(video, told))
            elif video.name not in left_out:
                raise DualPathError(f"{self.output} was packed before {video.name} was in the data; give a new folder")
        return Preparation(self.output, tuple(finished), left_out)

    def find(self, video: Video, job: Job) -> Finished | None:
        """The record of a video whose source and file are still the same."""
        told = self.records.get(job.target.relative_to(self.output).as_posix())
        if told is None or [told["source"], told["before"]] != [video.name, _bytes(job.source)]:
            return None
        if (told["start"], told["end"]) != (job.start, job.end) or _bytes(job.target) != told["bytes"]:
            return None
        return _finished(video, told)

    def add(self, video: Video, job: Job, encoded: Encoded) -> Finished:
        """Keeps one more."""
        found = Finished(video, job.target.relative_to(self.output).as_posix(), encoded, _bytes(job.source))
        self._write(
            {"name": found.name, "source": video.name, "before": found.before, "start": job.start, "end": job.end}
            | {"num_frames": encoded.num_frames, "width": encoded.width, "height": encoded.height, "bytes": encoded.size}
            | ({"damage": encoded.damage} if encoded.damage else {})
        )
        return found

    def close(self) -> None:
        self._file.close()

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


def _finished(video: Video, told: dict[str, Any]) -> Finished:
    encoded = Encoded(told["num_frames"], told["width"], told["height"], told["bytes"], told.get("damage"))
    return Finished(video, told["name"], encoded, told["before"])


def _records(lines: Sequence[str], head: dict[str, Any], output: Path) -> dict[str, dict[str, Any]]:
    """The finished files by name, and under "" what `Journal.end` wrote; a line that is not whole is as good as none."""
    wanted = {
        "name": str,
        "source": str,
        "before": int,
        "start": int,
        "num_frames": int,
        "width": int,
        "height": int,
        "bytes": int,
    }
    try:
        first = json.loads(lines[0])
        before = {"damaged": "refuse"} | first["settings"], first["classes"]  # which older versions did not know
    except (ValueError, KeyError, TypeError):
        raise DualPathError(f"{output / JOURNAL} is damaged; give a new folder") from None
    if before[0] != head["settings"]:
        changed = [f"{name} was {before[0].get(name)}, now {value}" for name, value in head["settings"].items()
                   if before[0].get(name) != value]  # fmt: skip
        raise DualPathError(f"{output} was begun with other settings ({', '.join(changed)}); give the same, or a new folder")
    if before[1] != head["classes"]:
        raise DualPathError(f"{output} was begun with other classes; give the same data, or a new folder")
    found: dict[str, dict[str, Any]] = {}
    for line in lines[1:]:
        try:
            told = json.loads(line)
        except ValueError:
            continue
        if isinstance(told, dict) and isinstance(told.get("left_out"), dict):
            found[""] = told
        elif isinstance(told, dict) and all(type(told.get(key)) is kind for key, kind in wanted.items()) and "end" in told:
            found[told["name"]] = told
    return found


def sweep(output: Path) -> None:
    """Removes what killed children have left under temporary names."""
    remove_temporary(output)


def _bytes(path: Path) -> int:
    """Of a file; 0 for a folder of frames, -1 where there is nothing."""
    try:
        return path.stat().st_size if path.is_file() else 0 if path.is_dir() else -1
    except OSError:
        return -1
