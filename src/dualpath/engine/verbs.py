"""What the verb evaluate does with paths: find, check, run, write."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dualpath.data.checking.known import Known, read_checked
from dualpath.data.manifest import Manifest, Video
from dualpath.engine.checkpoint import find_checkpoint
from dualpath.engine.device import Precision
from dualpath.engine.evaluate import Evaluation, evaluate
from dualpath.engine.origin import describe_origin
from dualpath.engine.predict import load
from dualpath.engine.prepare import read_for, tell_warnings
from dualpath.engine.progress import Bar
from dualpath.engine.train import default_workers
from dualpath.errors import DualPathError, VideoError
from dualpath.video.protocols import ViewsConfig

SPLITS = ("auto", "train", "val", "test", "all")
FOLDS = ("1", "2", "3")
"""As a split: the test part of that one of a data set's official divisions."""


def evaluate_data(
    checkpoint: str,
    data: Path,
    *,
    split: str,
    format: str = "auto",
    output: Path | None,
    weights: str | None,
    precision: Precision,
    protocol: str | None,
    views: ViewsConfig,
    batch_size: int,
    workers: int,
    shuffle_frames: bool,
    checked: Path | None = None,
) -> tuple[Evaluation, Path]:
    """Evaluates a checkpoint on a split of a data set; gives the figures and the folder that they were written to.

    With `checked`, the folder of a data check, quarantined videos are wrong without being tried.
    """
    if batch_size < 1:
        raise DualPathError(f"batch_size is {batch_size}, but it must be at least 1")
    if split not in SPLITS + FOLDS:
        raise DualPathError(f"unknown split {split!r}; there are {', '.join(SPLITS + FOLDS)}")
    known = read_checked(checked) if checked else None
    folder = find_checkpoint(checkpoint)
    classifier = load(folder, weights=weights, precision=precision, protocol=protocol)
    spec = classifier.spec
    fold = int(split) if split in FOLDS else None
    manifest = read_for(spec, data, format=format, fold=fold)
    tell_warnings(manifest)
    if manifest.format == spec.format and manifest.fold != spec.fold:
        print(
            f"warning: the model was trained on split {spec.fold} of {data}, whose training videos are among the test videos "
            f"of split {manifest.fold}: the accuracy says nothing of new videos",
            file=sys.stderr,
        )
    asked, (videos, split) = split, choose_split(manifest, "test" if split in FOLDS else split)
    if asked == "auto" and manifest.val_split_off:
        print(
            f"{data} has no split of its own: evaluating the {len(videos)} of its {len(manifest.videos)} videos that training "
            "on it keeps for validation; if none of them was trained on, --split all takes every one",
            file=sys.stderr,
        )
    bad: dict[int, str] = {}
    if known is not None:
        videos, bad = _with_known(videos, known)
    with Bar(f"evaluating {split}", total=len(videos)) as bar:
        evaluation = evaluate(
            classifier,
            videos,
            views=views,
            batch_size=batch_size,
            workers=default_workers(workers),
            shuffle_frames=shuffle_frames,
            progress=bar.tell,
            bad=bad,
        )
    origin = describe_origin(
        classifier, checkpoint=folder, data=data, split=split if fold is None else str(fold), videos=videos, views=views,
        seconds=evaluation.seconds, shuffled=shuffle_frames,
    )  # fmt: skip
    evaluation = replace(evaluation, data=manifest.census(), origin=origin)
    name = split if fold is None else f"{split}-{fold}"
    target = output or folder / f"evaluation-{name}{'-shuffled' if shuffle_frames else ''}"
    evaluation.write(target)
    return evaluation, target


def _with_known(videos: Sequence[Video], known: Known) -> tuple[tuple[Video, ...], dict[int, str]]:
    """The same with frame counts where they are known, and reason by index of those that are known to be bad."""
    counted, bad = list(videos), {}
    for index, video in enumerate(videos):
        if known.fits(video):
            try:
                counted[index] = known.counted(video)
            except VideoError as problem:
                bad[index] = problem.reason
    return tuple(counted), bad


def choose_split(manifest: Manifest, split: str) -> tuple[tuple[Video, ...], str]:
    """The videos to evaluate: one of SPLITS, where "auto" is test, else val, else all."""
    match split:
        case "all":
            videos = manifest.videos
        case "train" | "val" | "test":
            videos = manifest.split(split)
        case _:
            split = next((name for name in ("test", "val") if manifest.split(name)), "all")
            return choose_split(manifest, split)
    if not videos:
        raise DualPathError(f"{manifest.root} has no videos in the split {split!r}; choose another with --split")
    return videos, split
