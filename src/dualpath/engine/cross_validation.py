"""Cross-validation: a data set is divided into folds, and each fold is judged by a model that learnt from all the others.

    videos divided by group --> checked once --> for each fold: one_run.py in a child --> CrossValidation

The folder of a cross-validation:
    settings.json, videos.json    see many_runs.py
    fold<k>/, fold<k>.txt         the run that holds fold k out, an ordinary one, and what it had to say
    fold<k>/validation-last/      the last epoch's weights on the videos of fold k
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dualpath.data.formats import FORMATS
from dualpath.data.manifest import HeldOutFold, Manifest
from dualpath.data.splits import check_folds, count_groups, divided_videos, hold_out
from dualpath.engine.child import run_in_child
from dualpath.engine.config import RunConfig
from dualpath.engine.evaluate import Evaluation
from dualpath.engine.folds import words_of
from dualpath.engine.many_runs import SETTINGS, VIDEOS, read_settings, read_videos, tell_progress, total_steps, write_videos
from dualpath.engine.one_run import Job
from dualpath.engine.prepare import read_data, usable
from dualpath.engine.progress import Bar
from dualpath.engine.record import RECORD, fingerprint
from dualpath.engine.recorded import SUMMARY, read_summary
from dualpath.engine.train import plan_text
from dualpath.errors import DualPathError, number_of
from dualpath.files import owns_output, read_table, write_whole
from dualpath.nn.zoo import load_backbone


@dataclass(frozen=True)
class FoldResult:
    """How the run that holds one fold out has done.

    Attributes:
        fold: counted from 1.
        train_videos: readable ones that it learnt from.
        evaluation: of the last epoch's weights, on the videos of the fold.
        baselines: top-1 of each baseline on the same videos, by name; empty if none was measured.
    """

    fold: int
    train_videos: int
    evaluation: Evaluation
    baselines: Mapping[str, float]

    @property
    def top1(self) -> float:
        """Share of the fold's videos classified rightly."""
        return self.evaluation.top(1)


@dataclass(frozen=True)
class CrossValidation:
    """What all folds came to.

    Attributes:
        data: as given.
        config: of every run, but for the fold that it holds out.
        groups: of the videos that were divided.
        test_videos: how many were left out of the folds.
        folds: their results, in order.
    """

    data: Path
    config: RunConfig
    groups: int
    test_videos: int
    folds: tuple[FoldResult, ...]

    @property
    def mean(self) -> float:
        """Of the folds' top-1, each fold counting the same."""
        return statistics.mean(result.top1 for result in self.folds)

    @property
    def spread(self) -> float:
        """Sample standard deviation (n - 1) of the folds' top-1."""
        return statistics.stdev(result.top1 for result in self.folds)

    @property
    def baselines(self) -> dict[str, float]:
        """The mean over the folds of each baseline that all of them have."""
        shared = [name for name in self.folds[0].baselines if all(name in result.baselines for result in self.folds)]
        return {name: statistics.mean(result.baselines[name] for result in self.folds) for name in shared}

    def pooled(self) -> tuple[Evaluation, tuple[int, ...]]:
        """Every video once, by name, with the scores of the model that did not learn from it; and the fold of each."""
        parts = [result.evaluation for result in self.folds]
        rows = [(result.fold, index) for result in self.folds for index in range(len(result.evaluation.videos))]
        part_of = {result.fold: result.evaluation for result in self.folds}
        rows.sort(key=lambda row: part_of[row[0]].videos[row[1]].name)

        def places(of: Callable[[Evaluation], Mapping[int, str]]) -> dict[int, str]:
            """By place among all videos what an evaluation has by its own."""
            return {place: of(part_of[fold])[index] for place, (fold, index) in enumerate(rows) if index in of(part_of[fold])}

        return Evaluation(
            parts[0].classes,
            tuple(part_of[fold].videos[index] for fold, index in rows),
            np.stack([part_of[fold].scores[index] for fold, index in rows]),
            places(lambda part: part.failures),
            parts[0].protocol,
            quarantined=sum(part.quarantined for part in parts),
            seconds=sum(part.seconds for part in parts),
            damaged=places(lambda part: part.damaged),
        ), tuple(fold for fold, _ in rows)


@owns_output
def cross_validate(
    data: Path, output: Path, config: RunConfig, num_folds: int, *, resume: bool = False, checked: Path | None = None
) -> CrossValidation:
    """Trains a model for each fold on all other folds and evaluates it on that fold; finished folds are not run again.

    The last epoch's weights count: nothing is chosen by accuracy.

    Args:
        data: folder or list of videos; those of `test` are left out, those of `train` and `val` are divided.
        output: folder for all runs; it must not hold anything, unless `resume`.
        config: of every run; its seed decides the folds too.
        num_folds: at least 2, at most as many as there are groups.
        resume: continue what is in `output`, with the same settings.
        checked: folder of a data check of `data`.

    Raises:
        DualPathError: anything given cannot be used, or a run failed.
        Interrupted: a signal stopped it; resume continues.
    """
    # From cheap to dear: settings and folders, labels, the backbone, and only then every video.
    config = config.complete()
    first = HeldOutFold(num_folds, 1)
    before = read_settings(output, resume=resume, what="cross-validation", key="num_folds")
    manifest = read_data(data, config, val_fraction=0.0)
    seed = config.training.seed
    check_folds(manifest, num_folds, seed=seed)
    _tell_division(manifest, data, num_folds)
    held_out = [replace(first, held_out_fold=fold) for fold in range(1, num_folds + 1)]
    manifests = [hold_out(manifest, fold, seed=seed) for fold in held_out]
    settings = _settings(manifests, config, before, output)
    divided = replace(manifest, videos=tuple(replace(video, split="train") for video in divided_videos(manifest)))
    plan = plan_text(replace(config, held_out=first), manifests[0], num_classes=len(manifest.classes))
    print(plan, file=sys.stderr)
    if before is None or not (output / VIDEOS).is_file():
        load_backbone(config.backbone)  # a file that is missing is told before hours of decoding
        write_videos(output, usable(divided, config, checked=checked))
    write_whole(output / SETTINGS, json.dumps(settings, indent=2) + "\n")
    unreadable = {name for name, value in read_videos(output / VIDEOS).items() if isinstance(value, str)}
    check_folds(manifest, num_folds, seed=seed, unreadable=unreadable)
    jobs = [
        Job(data, output / VIDEOS, "val", output / f"fold{fold.held_out_fold}", replace(config, held_out=fold))
        for fold in held_out
    ]
    counts = [sum(video.name not in unreadable for video in fold.split("train")) for fold in manifests]
    results = _run_all(jobs, output, [total_steps(config, count) for count in counts])
    tests = len(manifest.split("test"))
    return CrossValidation(data, config, count_groups(divided.videos), tests, tuple(results))


def _tell_division(manifest: Manifest, data: Path, num_folds: int) -> None:
    """Says what is divided, and what is not."""
    form, tests = FORMATS[manifest.format], len(manifest.split("test"))
    if form.folds:
        official = words_of(range(1, form.folds + 1), ",")
        print(
            f"{form.title} has official splits, and papers report their mean: dualpath compare {data} --folds {official}; "
            f"here the training videos of split {manifest.fold} are divided",
            file=sys.stderr,
        )
    if tests:
        print(f"the {number_of(tests, 'test video is|test videos are')} left out of the folds", file=sys.stderr)
    if given := len(manifest.split("val")):
        print(
            f"the {number_of(given, 'validation video is|validation videos are')} divided into folds together "
            "with the training videos",
            file=sys.stderr,
        )
    videos = divided_videos(manifest)
    groups = count_groups(videos)
    of_groups = f" of {groups} groups" if groups < len(videos) else ""
    print(f"{len(videos)} videos{of_groups} in {num_folds} folds", file=sys.stderr)


def _settings(manifests: Sequence[Manifest], config: RunConfig, before: dict[str, Any] | None, output: Path) -> dict[str, Any]:
    """What must stay the same, to be written; DualPathError if it is not what was there before."""
    wanted = {"num_folds": len(manifests), "data": [fingerprint(fold) for fold in manifests], "settings": config.settings()}
    if before is None or before == wanted:
        return wanted
    if before["num_folds"] != wanted["num_folds"]:
        raise DualPathError(
            f"{output} holds a cross-validation of {before['num_folds']} folds, not of {wanted['num_folds']}; resume with "
            f"--folds {before['num_folds']}, or give a new folder"
        )
    old, new = before.get("settings", {}), config.settings()
    changed = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    detail = ", ".join(f"{name} was {old.get(name)!r}, now {new.get(name)!r}" for name in changed[:3])
    raise DualPathError(
        f"{output} holds a cross-validation with other settings ({detail or 'other videos, labels, splits or groups'}); resume "
        "with the same ones, or give a new folder"
    )


def _run_all(jobs: Sequence[Job], output: Path, steps: Sequence[int]) -> list[FoldResult]:
    """Runs what is not finished; one bar over all steps, one line for each fold."""
    results: list[FoldResult] = []
    with Bar("cross-validation", total=sum(steps)) as bar:
        for index, job in enumerate(jobs):
            began, result, took = time.monotonic(), _read_result(job), "finished before"
            if result is None:
                progress = partial(tell_progress, bar, job.name, sum(steps[:index]), steps[index])
                run_in_child(job, output, progress=progress)
                result = _read_result(job)
                assert result is not None, f"{job.folder} has no result"
                took = f"{time.monotonic() - began:.0f} s"
            videos = len(result.evaluation.videos)
            mean = f"mean per class {100 * result.evaluation.mean_class_accuracy():5.1f} %"
            print(
                f"{job.name}: top-1 {100 * result.top1:5.1f} %, {mean} of {number_of(videos, 'video')}, {took}", file=sys.stderr
            )
            bar.update(sum(steps[: index + 1]))
            results.append(result)
    return results


def _read_result(job: Job) -> FoldResult | None:
    """The result of a fold, None if it is not finished.

    Raises:
        DualPathError: a damaged file.
    """
    if not (job.results / SUMMARY).is_file():
        return None
    assert job.config.held_out is not None
    evaluation = read_summary(job.results).read()
    try:
        record = read_table(job.folder / RECORD)
        train_videos = sum(record["data"]["counts"]["train"].values())
        baselines = {str(name): float(figures["top1"]) for name, figures in record.get("baseline", {}).items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise DualPathError(
            f"{job.folder / RECORD} is damaged ({problem!r}); delete {job.folder} and --resume to run the fold again"
        ) from problem
    return FoldResult(job.config.held_out.held_out_fold, train_videos, evaluation, baselines)
