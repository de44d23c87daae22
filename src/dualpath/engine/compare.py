"""A comparison: the same data, views, schedule and budget for several methods and seeds, one run after another.

    entries checked --> videos read once --> for each seed, fold and entry: one_run.py in a child --> Comparison

A comparison's folder:
    settings.json, videos.json      what is compared: --resume must ask for the same
    <label>/seed<k>/, seed<k>.txt   each run's folder, and what it had to say
    <label>/split<f>/seed<k>/       the same where there are folds, which are official splits: folds.py
    .clips/                         decoded clips that entries share, until they are finished: clip_store.py
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from dualpath.data.manifest import Split
from dualpath.engine.child import run_in_child
from dualpath.engine.clip_store import CLIP_STORE_GB, ClipStore, check_limit
from dualpath.engine.config import RunConfig
from dualpath.engine.entries import Entry, check_entries
from dualpath.engine.folds import Folds, all_videos, fingerprints, read_folds
from dualpath.engine.many_runs import SETTINGS, VIDEOS, read_settings, tell_progress, total_steps, write_videos
from dualpath.engine.one_run import Job, RunResult, read_result
from dualpath.engine.prepare import usable
from dualpath.engine.progress import Bar
from dualpath.errors import DualPathError, number_of
from dualpath.files import owns_output, write_whole


@dataclass(frozen=True)
class Comparison:
    """Everything that was compared and what came out.

    Attributes:
        data: as given.
        classes: how many.
        counts: videos of each split, as given, by fold; by None alone where there are no folds. A validation share is split
            off from train.
        split: what the accuracies are measured on.
        base: the common settings.
        entries: the rows.
        seeds: of each row's runs.
        results: of the runs by label, in the order of the seeds, and of the folds of each.
    """

    data: Path
    classes: int
    counts: dict[int | None, dict[Split, int]]
    split: Split
    base: RunConfig
    entries: tuple[Entry, ...]
    seeds: tuple[int, ...]
    results: dict[str, tuple[RunResult, ...]]

    @property
    def folds(self) -> tuple[int, ...]:
        """The official splits over which the result of a seed is the mean; empty if there is but one."""
        return tuple(fold for fold in self.counts if fold is not None)


@owns_output
def compare(
    data: Path,
    output: Path,
    entries: Sequence[Entry],
    seeds: Sequence[int],
    *,
    base: RunConfig,
    folds: Sequence[int] = (),
    resume: bool = False,
    checked: Path | None = None,
    clip_store: float = CLIP_STORE_GB,
) -> Comparison:
    """Trains and evaluates every entry with every seed (and on every fold), what is finished already excepted.

    The last epoch's weights count, for every entry: nothing is chosen by accuracy.

    Args:
        data: folder or CSV with test videos of its own, else validation videos of its own.
        output: folder of the comparison; it must not hold anything, unless `resume`.
        entries: from `make_entries`.
        seeds: each one a run of every entry.
        base: the settings that the entries were made from.
        folds: official splits, each one a run of every entry and seed, whose result is the mean over them, as published for
            HMDB51 and UCF101; empty for the one split that `base` says. To resume, the same must be asked for.
        resume: continue what is in `output`; further entries and seeds may be asked for.
        checked: folder of a data check of `data`.
        clip_store: GB of disk space in `output` for decoded training clips, which the entries of a seed (and fold) then
            share, at most; 0 has each run decode its own. The results do not depend on it.

    Raises:
        DualPathError: anything given cannot be used, or a run failed.
        Interrupted: a signal stopped it; resume continues.
    """
    # From cheap to dear: names and folders, labels, every model, and only then every video.
    seeds = tuple(seeds)
    _check_asked([entry.label for entry in entries], seeds, folds)
    check_limit(clip_store)
    before = read_settings(output, resume=resume, what="comparison", key="entries")
    manifests = read_folds(data, base, folds)
    together = all_videos(manifests)
    split = _test_split(manifests, data)
    settings = _settings(manifests, split, entries, before, output)
    sizes = check_entries(entries, num_classes=len(together.classes))
    if before is None or not (output / VIDEOS).is_file():
        write_videos(output, usable(together, base, checked=checked))
    write_whole(output / SETTINGS, json.dumps(settings, indent=2) + "\n")
    counts: dict[int | None, dict[Split, int]] = {
        fold: {name: len(manifest.split(name)) for name in ("train", "val", "test")} for fold, manifest in manifests.items()
    }
    jobs = [_job(data, output, split, entry, seed, fold) for seed in seeds for fold in manifests for entry in entries]
    steps = [total_steps(job.config, counts[job.fold]["train"]) for job in jobs]
    finished = {job.folder: result for job in jobs if (result := _result(job)) is not None}
    most = max(told["train"] for told in counts.values())
    sides = {job.folder: sizes[job.label] for job in jobs}
    store = ClipStore(output, jobs, finished=finished, sizes=sides, videos=most, limit=clip_store)
    done = _run_all(jobs, output, steps, finished=finished, store=store)
    results = {entry.label: tuple(done[job.folder] for job in jobs if job.label == entry.label) for entry in entries}
    return Comparison(data, len(together.classes), counts, split, base, tuple(entries), seeds, results)


def _job(data: Path, output: Path, split: Split, entry: Entry, seed: int, fold: int | None) -> Job:
    folder = output / entry.label / ("" if fold is None else f"split{fold}") / f"seed{seed}"
    return Job(data, output / VIDEOS, split, folder, entry.with_seed(seed, fold=fold), fold=fold)


def _result(job: Job) -> RunResult | None:
    found = read_result(job.folder, split=job.split, seed=job.config.training.seed)
    return None if found is None else replace(found, fold=job.fold)


def _check_asked(labels: Sequence[str], seeds: Sequence[int], folds: Sequence[int]) -> None:
    if not labels:
        raise DualPathError("nothing to compare: give methods with --methods or entries in a file with --entries")
    for what, given in (("entry", labels), ("seed", seeds), ("fold", folds)):
        twice = next((one for one in given if list(given).count(one) > 1), None)
        if twice is not None:
            raise DualPathError(f"the {what} {twice} is given twice")
    if not seeds or min(seeds) < 0:
        raise DualPathError(f"seeds are {list(seeds)}; give whole numbers from 0 on, such as --seeds 0,1,2")


def _test_split(manifests: Folds, data: Path) -> Split:
    """What the accuracies are measured on: the same in every fold."""
    for split in ("test", "val"):
        if all(manifest.split(split) for manifest in manifests.values()):
            return split
    lacking = next(fold for fold, manifest in manifests.items() if not manifest.split("test"))
    where = data if lacking is None else f"split {lacking} of {data}"
    raise DualPathError(
        f"{where} has neither test nor validation videos of its own, and a share split off by the seed would be another one "
        "for each; put some into test/<class>/, or add a column split to the CSV"
    )


def _settings(
    manifests: Folds, split: Split, entries: Sequence[Entry], before: dict[str, Any] | None, output: Path
) -> dict[str, Any]:
    """What must stay the same, to be written; DualPathError if it is not what was there before."""
    wanted: dict[str, Any] = {
        "data": fingerprints(manifests),
        "split": split,
        "entries": {entry.label: entry.settings() for entry in entries},
    }
    if before is None:
        return wanted
    if any(before.get(name) != wanted[name] for name in ("data", "split")):
        had = before.get("data")
        folds = f" (its own are --folds {','.join(had)})" if isinstance(had, dict) else ""
        raise DualPathError(
            f"{output} compares on other videos, labels or splits{folds}; resume with the same ones, or give a new folder"
        )
    # Where its folder was deleted, an entry may begin anew with other settings.
    known = {label: told for label, told in before.get("entries", {}).items() if (output / label).exists()}
    for label, settings in wanted["entries"].items():
        changed = [name for name, value in settings.items() if label in known and known[label].get(name) != value]
        if changed or (label in known and settings.keys() != known[label].keys()):
            detail = ", ".join(f"{name} was {known[label].get(name)!r}, now {settings[name]!r}" for name in changed[:3])
            raise DualPathError(
                f"{output} compares {label} with other settings ({detail or 'of another method'}); resume with the same "
                f"ones, or delete {output / label} to begin it anew"
            )
    return wanted | {"entries": known | wanted["entries"]}


def _run_all(
    jobs: Sequence[Job], output: Path, steps: Sequence[int], *, finished: Mapping[Path, RunResult], store: ClipStore
) -> dict[Path, RunResult]:
    """Runs what is not finished; one bar over all steps, one line for each run. Gives all results by folder."""
    found = dict(finished)
    with Bar("comparing", total=sum(steps)) as bar:
        for place, job in enumerate(jobs):
            began, name = time.monotonic(), job.name
            result, took = found.get(job.folder), "finished before"
            if result is None:
                text = f"run {place + 1} of {len(jobs)}: {name}"
                progress = partial(tell_progress, bar, text, sum(steps[:place]), steps[place])
                run_in_child(replace(job, kept=store.place(job)), output, progress=progress)
                result = _result(job)
                assert result is not None, f"{job.folder} has no result"
                store.done(job)
                took = f"{time.monotonic() - began:.0f} s"
                found[job.folder] = result
            mean = "" if result.mean_class is None else f", mean per class {100 * result.mean_class:5.1f} %"
            print(
                f"{name:<24} top-1 {100 * result.top1:5.1f} %{mean} of {number_of(result.videos, 'video')}, {took}",
                file=sys.stderr,
            )
            bar.update(sum(steps[: place + 1]))
    return found
