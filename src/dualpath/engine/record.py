"""run.json: what a run is made of and what it has met, written anew whenever there is more to tell."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from dualpath.data.manifest import Manifest
from dualpath.engine.checkpoint import versions
from dualpath.engine.config import RunConfig
from dualpath.engine.plan import Plan
from dualpath.engine.prepare import Usable
from dualpath.engine.warm_start import WarmStart
from dualpath.files import read_table, write_whole
from dualpath.hardware import describe_machine, peak_memory
from dualpath.video.protocols import describe_protocol

RECORD = "run.json"


def _is_baseline(figures: Any) -> bool:
    keys = ("top1", "cv_top1", "train_videos", "val_videos")
    return isinstance(figures, dict) and all(isinstance(figures.get(key, ""), int | float | None) for key in keys)


class Record:
    """The file of one run, with what earlier sessions have told.

    Args:
        run: the run's folder.
        data: `fingerprint` of what it learns from.
        resume: earlier sessions count.
        start: the checkpoint that it begins with, if any.
        class_weights: of the loss, by class, if they are not all the same.

    Attributes:
        skipped: reason by name of the videos that gave no clip in this session: what was mended since the last one does not
            count.
        skipped_before: the same, of earlier sessions.
        validated: what the last validation met.
        baseline: what frozen features alone reach, by the probe's read-out; empty if that was not measured.
        extensions: when the run was made longer: `step` optimizer steps were done, of `epochs_before` epochs, now `epochs`.
    """

    def __init__(
        self,
        run: Path,
        *,
        data: str,
        resume: bool,
        start: WarmStart | None = None,
        class_weights: Mapping[str, float] | None = None,
    ) -> None:
        self._class_weights = class_weights
        self._path, self._data, self._start = run / RECORD, data, start
        self._earlier = self._read() if resume else {}
        self.skipped: dict[str, str] = {}
        self.skipped_before: dict[str, str] = self._earlier.get("skipped", {})
        self.validated: dict[str, Any] = self._earlier.get("validation", {})
        self.baseline: dict[str, dict[str, Any]] = self._earlier.get("baseline", {})
        self.extensions: list[dict[str, int]] = self._earlier.get("extensions", [])

    def _read(self) -> dict[str, Any]:
        try:
            told = read_table(self._path)
        except (OSError, ValueError) as problem:
            print(
                f"warning: {self._path} is {'missing' if isinstance(problem, FileNotFoundError) else 'damaged'}: which videos "
                "earlier sessions skipped is no longer known; it is written anew",
                file=sys.stderr,
            )
            return {}
        kinds = {"extensions": list} | dict.fromkeys(("skipped", "validation", "baseline", "data", "memory"), dict)
        usable = {key: told[key] for key, kind in kinds.items() if isinstance(told.get(key), kind)}
        if not all(map(_is_baseline, usable.get("baseline", {}).values())):
            del usable["baseline"]  # it is measured again
        return usable

    def write(self, config: RunConfig, found: Usable, *, plan: Plan, device: torch.device, shared_clips: bool) -> None:
        """Writes it, whole."""
        manifest = found.manifest
        record = {
            "command": sys.argv,
            "protocol": describe_protocol(config.sampling, config.views),
            "settings": config.settings(),
            "class_weights": self._class_weights,
            "extensions": self.extensions,
            "init_from": None if self._start is None else self._start.record(manifest.classes),
            "data": {
                "root": str(manifest.root),
                "counts": manifest.counts(),
                "sha256": self._data,
                "left_out": found.bad,
                "damaged": self._earlier.get("data", {}).get("damaged", dict(found.damaged)),
                "quarantined": self._earlier.get("data", {}).get("quarantined", found.quarantined),
            }
            | manifest.census(),
            "skipped": self.skipped_before | self.skipped,
            "validation": self.validated,
            "baseline": self.baseline,
            "plan": asdict(plan),
            "memory": self._memory(),
            "machine": describe_machine(device),
            "shared_clips": shared_clips,
            "versions": versions(),
        }
        write_whole(self._path, json.dumps(record, indent=2, default=str) + "\n")

    def _memory(self) -> dict[str, float | None]:
        """The most that the process and its GPU have held, in any session."""
        before = self._earlier.get("memory", {})
        return {
            name: max((value for value in (now, before.get(name)) if value is not None), default=None)
            for name, now in peak_memory().items()
        }


def fingerprint(manifest: Manifest) -> str:
    """A hash of what is learnt from: names, labels, splits and lengths; moving the folder does not change it."""
    # A segment is in the name wherever it is not the only one of its file; where it is, its start still counts.
    told = [(v.name, v.label, v.split, v.num_frames, *([v.start] if v.start else [])) for v in manifest.videos]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()
