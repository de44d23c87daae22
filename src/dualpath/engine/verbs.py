"""What the verbs evaluate and worth do with paths: find, check, run, write."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dualpath.data.checking.known import Known, read_checked
from dualpath.data.manifest import Manifest, Video
from dualpath.engine.checkpoint import find_checkpoint
from dualpath.engine.evaluate import Evaluation, evaluate
from dualpath.engine.origin import describe_origin
from dualpath.engine.predict import VideoClassifier, load
from dualpath.engine.prepare import read_for, tell_warnings
from dualpath.engine.progress import Bar
from dualpath.engine.train import default_workers
from dualpath.engine.worth import Worth, measure_worth
from dualpath.errors import DualPathError, VideoError, number_of
from dualpath.files import make_folder
from dualpath.hardware import Precision
from dualpath.settings import check_fields, check_workers
from dualpath.terminal import in_line
from dualpath.video.protocols import ViewsConfig

SPLITS = ("auto", "train", "val", "test", "all")
FOLDS = ("1", "2", "3")
"""As a split: the test part of that one of a data set's official divisions."""


@dataclass(frozen=True)
class Judged:
    """A checkpoint and the labelled videos that a verb judges it on.

    Attributes:
        checkpoint: its folder, or the run's.
        data: folder, list or URL of the videos.
        split: one of SPLITS or FOLDS.
        format: of the annotations.
        output: folder for the results; by default one within the checkpoint's.
        weights, precision, protocol: see `dualpath.load`.
        views: clips x crops a video.
        batch_size: videos that are scored together.
        workers: decoding processes; -1 chooses.
        checked: folder of a data check, whose quarantined videos are wrong without being tried.
    """

    checkpoint: str
    data: Path
    split: str = "auto"
    format: str = "auto"
    output: Path | None = None
    weights: str | None = None
    precision: Precision = "auto"
    protocol: str | None = None
    views: ViewsConfig = field(default_factory=ViewsConfig)
    batch_size: int = 8
    workers: int = -1
    checked: Path | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        check_workers(self.workers)
        if self.batch_size < 1:
            raise DualPathError(f"batch_size is {self.batch_size}, but it must be at least 1")
        if self.split not in SPLITS + FOLDS:
            raise DualPathError(f"unknown split {self.split!r}; there are {', '.join(SPLITS + FOLDS)}")


@dataclass(frozen=True)
class Chosen:
    """A loaded checkpoint and the videos that it is to be judged on.

    Attributes:
        folder: of the checkpoint.
        classifier: from there.
        videos: labelled with the classifier's labels.
        bad: reason by index of those that are known to be bad.
        split: which those are, for names of folders: "test", or "test-1" of an official split.
        data: `Manifest.census()`.
    """

    folder: Path
    classifier: VideoClassifier
    videos: tuple[Video, ...]
    bad: dict[int, str]
    split: str
    data: dict[str, Any]


def choose_videos(asked: Judged) -> Chosen:
    """Loads a checkpoint and finds the videos of a data set that a verb judges it on; tells on stderr what is unusual."""
    split, data = asked.split, asked.data
    known = read_checked(asked.checked, damaged=asked.views.damaged) if asked.checked else None
    folder = find_checkpoint(asked.checkpoint)
    classifier = load(folder, weights=asked.weights, precision=asked.precision, protocol=asked.protocol)
    spec = classifier.spec
    fold = int(split) if split in FOLDS else None
    manifest = read_for(spec, data, format=asked.format, fold=fold, damaged=asked.views.damaged)
    tell_warnings(manifest)
    if manifest.format == spec.format and manifest.fold != spec.fold:
        print(
            f"warning: the model was trained on split {spec.fold} of {data}, whose training videos are among the test videos "
            f"of split {manifest.fold}: the accuracy says nothing of new videos",
            file=sys.stderr,
        )
    auto = asked.split == "auto"
    if auto and spec.held_out is not None and manifest.split("val"):
        split = "val"
        tests = len(manifest.split("test"))
        others = f"; --split test takes its {number_of(tests, 'test video')}" if tests else ""
        print(f"evaluating the videos of {spec.held_out}, which the model was not trained on{others}", file=sys.stderr)
    videos, split = choose_split(manifest, "test" if split in FOLDS else split)
    if auto and split == "val" and manifest.val_split_off and spec.held_out is None:  # with a test split, that is taken
        print(
            f"{data} has no split of its own: evaluating the {len(videos)} of its {len(manifest.videos)} videos that training "
            "on it keeps for validation; if none of them was trained on, --split all takes every one",
            file=sys.stderr,
        )
    bad: dict[int, str] = {}
    if known is not None:
        videos, bad = _with_known(videos, known)
    name = split if fold is None else f"{split}-{fold}"
    return Chosen(folder, classifier, videos, bad, name, manifest.census())


def evaluate_data(asked: Judged, *, shuffle_frames: bool = False) -> tuple[Evaluation, Path]:
    """Evaluates a checkpoint on a split of a data set; gives the figures and the folder that they were written to."""
    chosen = choose_videos(asked)
    with Bar(f"evaluating {chosen.split}", total=len(chosen.videos)) as bar:
        evaluation = evaluate(
            chosen.classifier,
            chosen.videos,
            views=asked.views,
            batch_size=asked.batch_size,
            workers=default_workers(asked.workers),
            shuffle_frames=shuffle_frames,
            progress=bar.tell,
            bad=chosen.bad,
        )
    origin = describe_origin(
        chosen.classifier, checkpoint=chosen.folder, data=asked.data, split=chosen.split, videos=chosen.videos,
        views=asked.views, seconds=evaluation.seconds, shuffled=shuffle_frames,
    )  # fmt: skip
    evaluation = replace(evaluation, data=chosen.data, origin=origin)
    target = asked.output or chosen.folder / f"evaluation-{chosen.split}{'-shuffled' if shuffle_frames else ''}"
    evaluation.write(target)
    _tell_balance(evaluation)
    return evaluation, target


def worth_data(asked: Judged) -> tuple[Worth, Path]:
    """Measures what time is worth to a checkpoint on a split of a data set; gives that and the folder for its results.

    The folder is made before anything is measured: one that cannot be is told before minutes are spent.
    """
    chosen = choose_videos(asked)
    target = asked.output or chosen.folder / f"worth-{chosen.split}"
    make_folder(target)
    with Bar(f"looking at {chosen.split} in several orders", total=len(chosen.videos)) as bar:
        worth = measure_worth(
            chosen.classifier,
            chosen.videos,
            views=asked.views,
            batch_size=asked.batch_size,
            workers=default_workers(asked.workers),
            progress=bar.tell,
            bad=chosen.bad,
        )
    _tell_balance(worth.in_order)
    return worth.with_data(chosen.data), target


def _tell_balance(evaluation: Evaluation) -> None:
    if sentence := evaluation.out_of_balance():
        print(f"warning: {in_line(sentence)}", file=sys.stderr)


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
