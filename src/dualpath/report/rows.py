"""A comparison's rows, what stands above them and what must be said below."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypedDict

from dualpath.engine.compare import Comparison
from dualpath.engine.config import TrainConfig
from dualpath.engine.entries import Entry
from dualpath.engine.folds import words_of
from dualpath.engine.one_run import CLIPS, RunResult
from dualpath.engine.schedule import WARMUP, make_schedule
from dualpath.errors import number_of
from dualpath.report.curves import wilson

FIGURES = ("step_seconds", "waited_seconds", "train_seconds", "peak_ram_gb", "peak_gpu_gb", "clips_per_s")
"""What is measured of a run, and comes out a little differently each time."""
_RATES = ("lr", "base_lr")


@dataclass(frozen=True)
class Row:
    """An entry with its figures over the seeds.

    Attributes:
        entry: what was run.
        own: settings in which it differs, see `Entry.own`.
        runs: one a seed; with folds one a seed and fold.
        views: of a video: clips x crops.
        seeds: accuracy of each seed; with folds the mean over them, each fold counting the same however many videos it has.
        folds: accuracies of each fold, one a seed.
        top1, spread: mean and sample standard deviation (n - 1) of those of the seeds; no spread with one seed.
        lowest, highest: of those of the seeds.
        mean_class: of each seed, as `seeds`, the mean of the classes' accuracies; none where a run does not know it.
        mean_class_folds: of each fold, as `folds`; none where a run does not know it.
        gmacs: of one view; those of a video are `views` times as many.
        measured: median over the runs of each measured figure, None where a run does not know it.
    """

    entry: Entry
    own: dict[str, Any]
    runs: tuple[RunResult, ...]
    views: int
    seeds: tuple[float, ...]
    folds: dict[int, tuple[float, ...]]
    top1: float
    spread: float | None
    lowest: float
    highest: float
    mean_class: tuple[float, ...]
    mean_class_folds: dict[int, tuple[float, ...]]
    gmacs: float
    measured: dict[str, float | None]

    @property
    def memory(self) -> float | None:
        """Peak of the GPU's memory where there is one, else of the process's, in 1e9 bytes."""
        gpu = self.measured["peak_gpu_gb"]
        return self.measured["peak_ram_gb"] if gpu is None else gpu


def make_rows(comparison: Comparison) -> list[Row]:
    """One row for each entry, in their order."""
    rows = []
    for entry in comparison.entries:
        runs = comparison.results[entry.label]
        shares, means = (_by_seed(runs, key) for key in ("top1", "mean_class"))
        spread = over_seeds(shares)
        known = {name: [getattr(run, name) for run in runs] for name in FIGURES}
        rows.append(
            Row(
                entry=entry,
                own=entry.own(comparison.base),
                runs=runs,
                views=entry.config.views.num_clips * entry.config.views.num_crops,
                seeds=shares,
                folds=_by_fold(runs, "top1", comparison.folds),
                top1=spread["mean"],
                spread=spread["sd"],
                lowest=spread["min"],
                highest=spread["max"],
                mean_class=means,
                mean_class_folds=_by_fold(runs, "mean_class", comparison.folds) if means else {},
                gmacs=runs[0].gmacs,
                measured={name: None if None in values else statistics.median(values) for name, values in known.items()},
            )
        )
    return rows


def _by_seed(runs: Sequence[RunResult], key: str) -> tuple[float, ...]:
    """An accuracy of each seed, its folds counting alike; none where a run does not know it."""
    of_seeds: dict[int, list[float | None]] = {}
    for run in runs:
        of_seeds.setdefault(run.seed, []).append(getattr(run, key))
    known = [[share for share in shares if share is not None] for shares in of_seeds.values()]
    return tuple(map(statistics.fmean, known)) if sum(map(len, known)) == len(runs) else ()


def _by_fold(runs: Sequence[RunResult], key: str, folds: Sequence[int]) -> dict[int, tuple[float, ...]]:
    return {fold: tuple(getattr(run, key) for run in runs if run.fold == fold) for fold in folds}


class Spread(TypedDict):
    """Accuracies of several seeds in a few figures."""

    mean: float
    sd: float | None
    min: float
    max: float


def over_seeds(shares: Sequence[float]) -> Spread:
    """Mean, sample standard deviation (n - 1; None of a single one), lowest and highest."""
    sd = statistics.stdev(shares) if len(shares) > 1 else None
    return {"mean": statistics.fmean(shares), "sd": sd, "min": min(shares), "max": max(shares)}


def protocol(comparison: Comparison, rows: Sequence[Row]) -> list[tuple[str, str]]:
    """What is common to all, as (name, words): it stands above the table."""
    base, training = comparison.base, comparison.base.training
    views = " or ".join(dict.fromkeys(row.runs[0].protocol for row in rows))
    given = "; ".join(
        ("" if fold is None else f"split {fold} with ")
        + ", ".join(f"{count} {split}" for split, count in counts.items() if count)
        for fold, counts in comparison.counts.items()
    )
    made = " and ".join(dict.fromkeys(run.machine for row in rows for run in row.runs))
    versions = rows[0].runs[0].versions
    loader = f"{base.sampling.sampling} sampling, crops from {base.transform.min_scale:g} of the area on, colour jitter "
    return [
        ("data", f"{comparison.data}: {given} videos of {comparison.classes} classes"),
        ("accuracy", f"{_measured_on(comparison, rows)}, {views}, weights of the last epoch"),
        ("backbone", f"{base.backbone.backbone}, precision {training.precision} ({_list(r.runs[0].stored for r in rows)})"),
        (
            "training",
            f"{_epochs(comparison)}, batches of {number_of(training.batch_size * training.accumulate, 'clip')}, AdamW with "
            f"weight decay {training.weight_decay:g}, {_warmup(training)} of warm-up, label smoothing "
            f"{training.label_smoothing:g}",
        ),
        ("clips", f"{loader}{base.transform.color_jitter:g}, mirrored: {base.transform.hflip}"),
        ("seeds", ", ".join(map(str, comparison.seeds))),
        ("machine", made),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]


def _measured_on(comparison: Comparison, rows: Sequence[Row]) -> str:
    """The videos that accuracies are measured on, in words."""
    if not comparison.folds:
        return f"on the {number_of(rows[0].runs[0].videos, f'{comparison.split} video')}"
    videos = {run.fold: run.videos for run in rows[0].runs}
    of_each = ", ".join(str(videos[fold]) for fold in comparison.folds)
    what = "mean over the official splits" if len(videos) > 1 else "official split"
    return f"{what} {words_of(comparison.folds)} ({of_each} {comparison.split} videos)"


def remarks(comparison: Comparison, rows: Sequence[Row]) -> list[str]:
    """What is not equal among the entries, and what the figures cannot say."""
    told = [
        "Equal for all entries, unless told below: the videos, the clips that a seed draws from them, their order, the epochs. "
        "Not the time: what a method costs is a result.",
        _on_spread(comparison, rows),
        _on_rates(rows),
    ]
    if len(comparison.folds) > 1:
        told.append(
            f"The accuracy of a seed is the mean of {len(comparison.folds)} runs, one on each official split, as is usual for "
            "such data; the splits train on one another's test videos, so their accuracies are not independent."
        )
    of_methods = {row.entry.label: {f.name for f in fields(type(row.entry.config.options))} for row in rows}  # pyright: ignore[reportArgumentType]
    for row in rows:
        apart = {name: value for name, value in row.own.items() if name not in (*of_methods[row.entry.label], *_RATES)}
        apart.pop("method", None)
        if apart:
            told.append(f"{row.entry.label} differs in more than its method: {name_settings(apart)}.")
    stored = {row.entry.label: row.runs[0].stored for row in rows}
    if len(set(stored.values())) > 1:
        words = [f"{', '.join(n for n in stored if stored[n] == kind)} in {kind}" for kind in dict.fromkeys(stored.values())]
        told.append(
            f"The backbone's weights are kept in different types ({'; '.join(words)}), which takes memory and time of its own."
        )
    if comparison.split == "val":
        told.append(
            "The data has no test videos: the accuracies are those of its validation videos, by which nothing was chosen."
        )
    lost = max(run.undecodable for row in rows for run in row.runs)
    if lost:
        most, where = ("Up to ", " of a split") if len(comparison.folds) > 1 else ("", "")
        told.append(f"{most}{number_of(lost, 'video')}{where} could not be decoded and counted as wrong, for every entry.")
    told.append(
        "Steps are timed without their waiting for clips, the first two left out; speed is that of the model alone on batches "
        f"of {CLIPS} clips. Medians, but machines are noisy: run it again before you build on a small difference."
    )
    if any(run.shared_clips for row in rows for run in row.runs):
        whose = "seed and split" if comparison.folds else "seed"
        told.append(
            f"The runs of a {whose} share decoded clips: the first to draw them decodes them for the others, waits longer for "
            "them, and where the model and the decoders share a processor its steps are slower for it."
        )
    if len({run.machine for row in rows for run in row.runs}) > 1:
        told.append("The runs were made on different machines: their times and memory cannot be compared.")
    if any(row.measured["peak_gpu_gb"] is not None for row in rows):
        told.append("Memory is what PyTorch held on the GPU at most while training.")
    else:
        told.append("Memory is what the training process held at most, Python and PyTorch included, its decoders not.")
    if any(row.memory is None for row in rows):
        told.append("Memory is missing where a run was broken off between its last step and its record.")
    return told


def _on_spread(comparison: Comparison, rows: Sequence[Row]) -> str:
    fewest, most = (edge(run.videos for run in rows[0].runs) for edge in (min, max))
    videos = number_of(most, "video") if fewest == most else f"{fewest} to {most} videos"
    reach = max((high - low) / 2 for low, high in (wilson(run.right, run.videos) for row in rows for run in row.runs))
    single = f"the 95 % interval of a single accuracy on {videos} is up to {100 * reach:.1f} points to either side"
    if len(comparison.seeds) == 1:
        return f"One seed: there is no spread to judge differences by; {single}."
    return f"± is the sample standard deviation over {len(comparison.seeds)} seeds; {single} (compare.json has each)."


def _on_rates(rows: Sequence[Row]) -> str:
    rates = {row.entry.config.training.peak_lr for row in rows}
    if rates == {None}:
        return "Learning rates are measured on each run's first clips, by one rule for all."
    if len(rates) == 1:
        return f"All share one learning rate, {name_rate(rates.pop())}: one that suits one method may not suit another."
    return "The learning rates are each entry's own, as listed; how they were found is for who chose them to say."


def name_rate(rate: float | None) -> str:
    """A learning rate in three digits, or that each tensor has its own."""
    return "measured" if rate is None else f"{rate:.3g}"


def name_settings(own: dict[str, Any]) -> str:
    """Settings in words: "paths spatial, grid 2x2"."""
    return ", ".join(f"{name} {'x'.join(map(str, value)) if isinstance(value, list) else value}" for name, value in own.items())


def _epochs(comparison: Comparison) -> str:
    most = max(counts["train"] for counts in comparison.counts.values())
    return number_of(make_schedule(most, comparison.base.training).epochs, "epoch")


def _warmup(training: TrainConfig) -> str:
    return f"{100 * WARMUP:g} %" if training.warmup_epochs is None else number_of(training.warmup_epochs, "epoch")


def _list(words: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(words))
