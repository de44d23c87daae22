"""A comparison's rows, what stands above them and what must be said below."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from dualpath.engine.compare import Comparison
from dualpath.engine.entries import Entry
from dualpath.engine.one_run import CLIPS, RunResult
from dualpath.report.page import wilson

FIGURES = ("step_seconds", "waited_seconds", "train_seconds", "peak_ram_gb", "peak_gpu_gb", "clips_per_s")
"""What is measured of a run, and comes out a little differently each time."""
_RATES = ("lr", "base_lr")


@dataclass(frozen=True)
class Row:
    """An entry with its figures over the seeds.

    Attributes:
        entry: what was run.
        own: settings in which it differs, see `Entry.own`.
        runs: one a seed.
        views: of a video: clips x crops.
        top1, spread: mean and sample standard deviation (n - 1) of the accuracies; no spread with one seed.
        lowest, highest: of the accuracies.
        gmacs: of one view; those of a video are `views` times as many.
        measured: median over the runs of each measured figure, None where a run does not know it.
    """

    entry: Entry
    own: dict[str, Any]
    runs: tuple[RunResult, ...]
    views: int
    top1: float
    spread: float | None
    lowest: float
    highest: float
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
        shares = [run.top1 for run in runs]
        known = {name: [getattr(run, name) for run in runs] for name in FIGURES}
        rows.append(
            Row(
                entry=entry,
                own=entry.own(comparison.base),
                runs=runs,
                views=entry.config.views.num_clips * entry.config.views.num_crops,
                top1=statistics.fmean(shares),
                spread=statistics.stdev(shares) if len(shares) > 1 else None,
                lowest=min(shares),
                highest=max(shares),
                gmacs=runs[0].gmacs,
                measured={name: None if None in values else statistics.median(values) for name, values in known.items()},
            )
        )
    return rows


def protocol(comparison: Comparison, rows: Sequence[Row]) -> list[tuple[str, str]]:
    """What is common to all, as (name, words): it stands above the table."""
    base, counts = comparison.base, comparison.counts
    training = base.training
    views = " or ".join(dict.fromkeys(row.runs[0].protocol for row in rows))
    given = ", ".join(f"{count} {split}" for split, count in counts.items() if count)
    made = " and ".join(dict.fromkeys(run.machine for row in rows for run in row.runs))
    versions = rows[0].runs[0].versions
    loader = f"{base.sampling.sampling} sampling, crops from {base.transform.min_scale:g} of the area on, colour jitter "
    return [
        ("data", f"{comparison.data}: {given} videos of {comparison.classes} classes"),
        ("accuracy", f"on the {rows[0].runs[0].videos} {comparison.split} videos, {views}, weights of the last epoch"),
        ("backbone", f"{base.backbone.backbone}, precision {training.precision} ({_list(r.runs[0].stored for r in rows)})"),
        (
            "training",
            f"{_count(training.epochs, 'epoch')}, batches of {training.batch_size * training.accumulate} clips, AdamW with "
            f"weight decay {training.weight_decay:g}, {_count(training.warmup_epochs, 'epoch')} of warm-up, label smoothing "
            f"{training.label_smoothing:g}",
        ),
        ("clips", f"{loader}{base.transform.color_jitter:g}, mirrored: {base.transform.hflip}"),
        ("seeds", ", ".join(map(str, comparison.seeds))),
        ("machine", made),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]


def remarks(comparison: Comparison, rows: Sequence[Row]) -> list[str]:
    """What is not equal among the entries, and what the figures cannot say."""
    told = [
        "Equal for all entries, unless told below: the videos, the clips that a seed draws from them, their order, the epochs. "
        "Not the time: what a method costs is a result.",
        _on_spread(comparison, rows),
        _on_rates(rows),
    ]
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
        told.append(f"{_count(lost, 'video')} could not be decoded and counted as wrong, for every entry.")
    told.append(
        "Steps are timed without their waiting for clips, the first two left out; speed is that of the model alone on batches "
        f"of {CLIPS} clips. Medians, but machines are noisy: run it again before you build on a small difference."
    )
    if any(run.shared_clips for row in rows for run in row.runs):
        told.append(
            "The runs of a seed share decoded clips: the first to draw them decodes them for the others, waits longer for "
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
    videos = rows[0].runs[0].videos
    reach = max((high - low) / 2 for low, high in (wilson(run.right, run.videos) for row in rows for run in row.runs))
    single = f"the 95 % interval of a single accuracy on {videos} videos is up to {100 * reach:.1f} points to either side"
    if len(comparison.seeds) == 1:
        return f"One seed: there is no spread to judge differences by; {single}."
    return f"± is the sample standard deviation over {len(comparison.seeds)} seeds; {single} (compare.json has each)."


def _on_rates(rows: Sequence[Row]) -> str:
    rates = {row.entry.config.training.peak_lr for row in rows}
    if len(rates) == 1:
        return f"All share one learning rate, {rates.pop():.3g}: one that suits one method may not suit another."
    return "The learning rates are each entry's own, as listed; how they were found is for who chose them to say."


def name_settings(own: dict[str, Any]) -> str:
    """Settings in words: "paths spatial, grid 2x2"."""
    return ", ".join(f"{name} {'x'.join(map(str, value)) if isinstance(value, list) else value}" for name, value in own.items())


def _count(number: int | float, what: str) -> str:
    return f"{number:g} {what}{'' if number == 1 else 's'}"


def _list(words: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(words))
