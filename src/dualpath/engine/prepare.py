"""What is checked before a training: the folder for its output, and every video that it will read."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from dualpath.data import prepared, shards
from dualpath.data.manifest import DataError, Manifest, Video
from dualpath.data.scan import count_frames, decode_all, scan, too_short
from dualpath.engine.config import RunConfig, TrainConfig
from dualpath.engine.progress import Bar
from dualpath.engine.state import STATE, check_settings, read_position
from dualpath.errors import DualPathError

READ_BEFORE = (prepared.SOURCE, shards.SOURCE)
"""Sources of data that was read whole when it was written, and whose files still have the same size."""


def check_output(output: Path, config: RunConfig, *, resume: bool) -> None:
    """Refuses a folder that cannot be written, that holds something else, or whose run cannot be continued so."""
    there = next(place for place in (output, *output.absolute().parents) if place.exists())
    if not there.is_dir():
        raise DualPathError(f"the output {output} cannot be a folder: {there} is a file; give another one")
    if not os.access(there, os.W_OK | os.X_OK):
        raise DualPathError(f"the output {output} cannot be written: no permission in {there}; give another folder")
    held = sorted(p.name for p in output.iterdir()) if output.is_dir() else []
    if resume and STATE not in held:
        raise DualPathError(f"nothing to resume in {output}: it holds no {STATE}; start without --resume, in a new folder")
    if held and not resume:
        what = "another run" if "run.json" in held or STATE in held else f"other files ({held[0]} ...)"
        raise DualPathError(f"the output folder {output} holds {what}; give a new folder, or --resume to continue a run")
    if resume:
        position, settings = read_position(output)
        check_settings(output, settings, config.settings())
        if position.closed >= config.training.epochs:
            raise DualPathError(f"the run in {output} is complete ({config.training.epochs} epochs); nothing to resume")
        for leftover in output.glob(".*.tmp"):  # of a write that a kill cut short
            leftover.unlink(missing_ok=True)


def usable(manifest: Manifest, config: RunConfig, *, checked: Mapping[str, int] | None = None) -> Manifest:
    """Reads every video; gives the manifest with frame counts and without the unreadable, or tells all of them.

    Args:
        manifest: from `read_manifest`.
        config: how thoroughly, and how many may be left out.
        checked: number of frames by name of the readable videos, where they have been read before.
    """
    if checked is None:
        videos = _read_all(manifest, config.training)
    else:
        videos = tuple(replace(v, num_frames=checked[v.name]) for v in manifest.videos if v.name in checked)
    short = too_short(videos, config.sampling.num_frames)
    if short:
        print(
            f"{len(short)} of {len(videos)} videos have fewer than {config.sampling.num_frames} frames "
            f"({short[0].name} has {short[0].num_frames}): their last frame is repeated",
            file=sys.stderr,
        )
    kept = replace(manifest, videos=videos)
    without = [name for label, name in enumerate(kept.classes) if not any(v.label == label for v in kept.split("train"))]
    if without:
        raise DataError(manifest.root, [f"class '{name}' has no readable training video" for name in without])
    return kept


def _read_all(manifest: Manifest, training: TrainConfig) -> tuple[Video, ...]:
    if manifest.source in READ_BEFORE:
        return manifest.videos
    count = decode_all if training.check == "full" else count_frames
    workers = default_workers(training.workers)
    with Bar("checking videos", total=len(manifest.videos)) as bar:
        result = scan(manifest.videos, workers=max(1, workers), progress=bar.tell, count=count)
    if result.bad:
        problems = [f"{bad.video.name} {bad.reason}" for bad in result.bad]
        if len(result.bad) > training.max_bad_files * len(manifest.videos):
            raise DataError(
                manifest.root,
                [*problems, f"{len(result.bad)} of {len(manifest.videos)} videos cannot be used; remove or replace them, "
                 f"or leave them out with --max_bad_files {math.ceil(100 * len(result.bad) / len(manifest.videos)) / 100}"],
            )  # fmt: skip
        print(f"left out {len(result.bad)} unreadable videos:", *problems, sep="\n  ", file=sys.stderr)
    return result.videos


def default_workers(workers: int) -> int:
    """-1 becomes a number that suits the machine: the cores, less those that the model itself computes on."""
    if workers >= 0:
        return workers
    cores = torch.get_num_threads()
    return min(8, cores - 1 if torch.cuda.is_available() else max(1, cores // 2))
