"""What is checked before a training: the folder for its output, and every video that it will read."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from dualpath.data.checking.known import Known, read_checked
from dualpath.data.manifest import DataError, Manifest, Video, read_manifest
from dualpath.data.scan import ScanResult, Taken, count_frames, decode_all, scan, take, too_short
from dualpath.data.segments import in_frames
from dualpath.data.splits import check_folds, divided_videos
from dualpath.engine.checkpoint import ModelSpec
from dualpath.engine.config import RunConfig, TrainConfig
from dualpath.engine.progress import Bar, bar_if_long
from dualpath.engine.state import STATE, check_epochs, check_settings, read_position
from dualpath.engine.warm_start import WarmStart, warm_start_settings
from dualpath.errors import DualPathError, VideoError, number_of
from dualpath.files import names_in, remove_temporary
from dualpath.hardware import cores
from dualpath.terminal import in_line
from dualpath.video.decoding.places import Damaged


def check_run_folder(output: Path, config: RunConfig, *, resume: bool, start: WarmStart | None = None) -> None:
    """Refuses a folder that cannot be written, that holds something else, or whose run cannot be continued so."""
    held = names_in(output)
    if resume and STATE not in held and "fold1" in held:
        raise DualPathError(f"{output} holds a cross-validation, not a single run: give --folds N too, to resume it")
    if resume and STATE not in held:
        raise DualPathError(f"nothing to resume in {output}: it holds no {STATE}; start without --resume, in a new folder")
    if held and not resume:
        what = "another run" if "run.json" in held or STATE in held else f"other files ({held[0]} ...)"
        raise DualPathError(f"the output folder {output} holds {what}; give a new folder, or --resume to continue a run")
    if resume:
        position, settings = read_position(output)
        check_settings(output, settings, warm_start_settings(start) | config.settings())
        check_epochs(output, position, epochs=config.training.epochs or position.epochs)
        remove_temporary(output)


def read_data(
    data: Path,
    config: RunConfig,
    *,
    val_fraction: float | None = None,
    told: set[str] | None = None,
    open_files: bool = True,
    before: Known | None = None,
) -> Manifest:
    """Reads the labels of what a run learns from, and tells what the user should know of them.

    Args:
        data: folder or annotation file, see `read_manifest`.
        config: of the run.
        val_fraction: instead of the run's own.
        told: warnings that are not told again; those of these data are put into it.
        open_files: whether files may be looked into, for segments that are listed in seconds.
        before: what a run began with that is resumed: files that were deleted since are skipped, as in training, and no error.

    Raises:
        DataError: with all problems; or there is nothing to learn from.
    """
    training = config.training
    manifest = read_labels(
        data,
        val_fraction=training.val_fraction if val_fraction is None else val_fraction,
        seed=training.seed,
        format=config.data.format,
        fold=config.data.split,
        held_out=config.held_out,
        strict=before is None,
    )
    manifest = before.completed(manifest) if before is not None else manifest
    if not manifest.split("train"):
        raise DataError(data, [f"has no training videos ({manifest.census_words()})"])
    if config.held_out is not None:  # a cross-validation has no use for the test videos
        check_folds(manifest, config.held_out.num_folds, seed=training.seed)
        manifest = replace(manifest, videos=divided_videos(manifest))
    tell_warnings(manifest, told)
    return find_segments(manifest, workers=training.workers, damaged=config.views.damaged) if open_files else manifest


def read_labels(data: Path, **options: Any) -> Manifest:
    """`read_manifest`, with a bar where it takes long."""
    with bar_if_long("reading labels") as tell:
        return read_manifest(data, progress=tell, **options)


def read_for(
    spec: ModelSpec, data: Path, *, format: str = "auto", fold: int | None = None, damaged: Damaged = "refuse"
) -> Manifest:
    """Reads labels for a trained model: its classes, its validation share or held-out fold, its official split."""
    manifest = read_labels(
        data,
        val_fraction=spec.val_fraction,
        seed=spec.split_seed,
        classes=spec.classes,
        format=format,
        fold=fold,
        known=(spec.format, spec.fold) if spec.format else None,
        held_out=spec.held_out,
    )
    return find_segments(manifest, damaged=damaged)


def find_segments(manifest: Manifest, *, workers: int = -1, damaged: Damaged = "refuse") -> Manifest:
    """The same with the frames of segments that are listed in seconds, see `dualpath.data.segments`."""
    if all(video.seconds is None for video in manifest.videos):
        return manifest
    with Bar("finding segments", total=len({video.path for video in manifest.videos if video.seconds is not None})) as bar:
        return in_frames(manifest, workers=max(1, default_workers(workers)), damaged=damaged, progress=bar.tell)


def tell_warnings(manifest: Manifest, told: set[str] | None = None) -> None:
    """Prints what the user should know of a data set, and has not been `told`."""
    told = set() if told is None else told
    for kind, sentences in (("warning", manifest.warnings), ("note", manifest.notes)):
        for sentence in sentences:
            if sentence not in told:
                print(f"{kind}: {in_line(sentence)}", file=sys.stderr)
    told.update(manifest.warnings, manifest.notes)


@dataclass(frozen=True)
class Usable:
    """What a run can use.

    Attributes:
        manifest: with frame counts, without the bad videos.
        bad: reason by name of those that are left out.
        quarantined: how many of them were known before, from a data check.
        wrong: those of them that are of val: a validation counts them as wrong, as an evaluation does.
        damaged: by name, what could not be decoded of videos of which the rest is taken.
    """

    manifest: Manifest
    bad: dict[str, str]
    quarantined: int = 0
    wrong: tuple[Video, ...] = ()
    damaged: Mapping[str, str] = field(default_factory=dict)


def usable(
    manifest: Manifest,
    config: RunConfig,
    *,
    checked: Mapping[str, int | str | Taken] | Path | None = None,
    before: Known | None = None,
) -> Usable:
    """Reads every video that is not known; gives what can be used, or tells all that cannot.

    Args:
        manifest: from `read_manifest`.
        config: how thoroughly, and how many may be left out.
        checked: folder of a data check; or by name the number of frames, of a bad video why it is bad, where another has
            read them; `Taken` where it is damaged and the rest is taken.
        before: what the run began with, if it is resumed: it goes on with the same videos; one that has gone bad since is
            skipped whenever it is met.

    Raises:
        DataError: too many are bad, or a class has none to learn from.
    """
    if checked is None or isinstance(checked, Path):
        known = before or (read_checked(checked, damaged=config.views.damaged) if checked is not None else None)
        videos, bad, quarantined, damaged = _sort_out(manifest, config, known, resumed=before is not None)
    else:
        told = {video.name: checked.get(video.name, "was left out before") for video in manifest.videos}
        damaged = {name: one.damage for name, one in told.items() if isinstance(one, Taken) and one.damage is not None}
        frames = {name: one.num_frames if isinstance(one, Taken) else one for name, one in told.items()}
        videos = tuple(replace(v, num_frames=n) for v in manifest.videos if isinstance(n := frames[v.name], int))
        bad, quarantined = {name: reason for name, reason in told.items() if isinstance(reason, str)}, 0
    short = too_short(videos, config.sampling.num_frames)
    if short:
        print(
            f"of {number_of(len(videos), 'video')} {number_of(len(short), 'has|have')} fewer than "
            f"{config.sampling.num_frames} frames ({short[0].name} has {short[0].num_frames}): their last frame is repeated",
            file=sys.stderr,
        )
    kept = replace(manifest, videos=videos)
    learnt = {video.label for video in kept.split("train")}
    without = [name for label, name in enumerate(kept.classes) if label not in learnt]
    if without and (not kept.listed or not learnt):
        raise DataError(manifest.root, [f"class '{name}' has no readable training video" for name in without])
    if without:  # the list names them all, the disk holds a part: the indices stay those of the list
        told = f"{len(without)} of {len(kept.classes)} classes have no training video, {without[0]} among them"
        print(f"warning: {in_line(told)}", file=sys.stderr)
    wrong = tuple(video for video in manifest.split("val") if video.name in bad)
    return Usable(kept, bad, quarantined, wrong, damaged)


def _sort_out(
    manifest: Manifest, config: RunConfig, known: Known | None, *, resumed: bool
) -> tuple[tuple[Video, ...], dict[str, str], int, dict[str, str]]:
    """(videos with frame counts, reasons of the bad ones, how many of these were known to be bad, what is damaged)."""
    trusted = [video.num_frames is not None or (known is not None and known.fits(video)) for video in manifest.videos]
    rest = [video for video, trust in zip(manifest.videos, trusted, strict=True) if not trust]
    result = _read(rest, config) if rest else ScanResult((), ())
    refused = {id(found.video): found.reason for found in result.bad}
    counted, videos, bad, quarantined = iter(result.videos), [], {}, 0
    for video, trust in zip(manifest.videos, trusted, strict=True):
        if trust and known is not None and known.fits(video):
            quarantined += known.why_bad(video) is not None
            try:
                videos.append(known.counted(video))
            except VideoError as problem:
                bad[video.name] = problem.reason
        elif trust:  # read whole when it was prepared
            videos.append(video)
        elif resumed and known is not None and video.name in known.frames:  # broken, deleted or replaced: met in training
            _ = next(counted) if id(video) not in refused else None
            videos.append(known.counted(video))
        elif id(video) not in refused:
            videos.append(next(counted))
        else:
            bad[video.name] = refused[id(video)]
    if bad and not resumed:
        _tell_bad(manifest, bad, config.training)
    damaged = {v.name: told for v in videos if known is not None and (told := known.damaged.get(v.file)) is not None}
    scanned = zip(result.videos, result.answers, strict=False)
    damaged |= {v.name: told.damage for v, told in scanned if isinstance(told, Taken) and told.damage is not None}
    if damaged:
        named = [f"{in_line(name)} {told}" for name, told in damaged.items()]
        print(f"warning: {number_of(len(damaged), 'damaged video')}:", *named, sep="\n  ", file=sys.stderr)
    return tuple(videos), bad, quarantined, damaged


def _read(videos: Sequence[Video], config: RunConfig) -> ScanResult:
    training = config.training
    count = take if config.views.damaged == "take" else decode_all if training.check == "full" else count_frames
    workers = default_workers(training.workers)
    with Bar("checking videos", total=len(videos)) as bar:
        return scan(videos, workers=max(1, workers), progress=bar.tell, count=count, seconds=config.views.seconds)


def _tell_bad(manifest: Manifest, bad: Mapping[str, str], training: TrainConfig) -> None:
    """Names the bad videos; DataError if they are too many."""
    problems = [f"{name} {reason}" for name, reason in bad.items()]
    if len(bad) > training.max_bad_files * len(manifest.videos):
        raise DataError(
            manifest.root,
            [*problems, f"{len(bad)} of {number_of(len(manifest.videos), 'video')} cannot be used; remove or replace them, "
             f"or leave them out with --max_bad_files {enough(len(bad), len(manifest.videos))}"],
        )  # fmt: skip
    validated = {video.name for video in manifest.split("val")}
    told = [f"{in_line(name)} {reason}{', so it counts as wrong' if name in validated else ''}" for name, reason in bad.items()]
    print(f"left out {number_of(len(bad), 'unreadable video')}:", *told, sep="\n  ", file=sys.stderr)


def enough(bad: int, videos: int) -> float:
    """The smallest --max_bad_files of two digits that lets so many pass."""
    return math.ceil(100 * bad / videos) / 100


def default_workers(workers: int) -> int:
    """-1 becomes a number that suits the machine: the cores, less those that the model itself computes on."""
    if workers >= 0:
        return workers
    free = cores() - 1 if torch.cuda.is_available() else torch.get_num_threads() // 2
    return max(1, min(8, free))
