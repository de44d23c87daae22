"""Makes docs/real.md: what the defaults reach on real clips, which are given by flags and stay where they are.

    python scripts/make_real.py --work DIR --data "UT-Interaction set 1=labels.csv" --data fights=fights.csv \
        --backbone vit_small_patch14_dinov2.lvd142m --weights FILE --image_size 224 --methods dualpath,aim --seeds 0,1,2
    python scripts/make_real.py --work DIR --page      the page of what is there, without a training

For each data set, method and seed it runs `dualpath train --folds 5` with no other flag, into DIR/<data>/<method>/seed<k>; what
is finished is kept, what was interrupted goes on. The page tells which runs are missing.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualpath.files import write_whole
from dualpath.markdown import table
from dualpath.report.curves import wilson

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "real.md"
PLAN = "real.json"
INTRODUCTION = """# Real clips, no knob turned

Made by `scripts/make_real.py` from runs of `dualpath train DATA --folds N` with no flag but the backbone, its weights and the
size of its pictures. Every video is judged once, by a model that has seen no video of its group; the weights are those of the
last epoch, so nothing was chosen by accuracy. "Frozen features" are linear classifiers on the backbone as it is, with a
strength chosen on the training videos: the number to beat, which `train` measures by itself before it begins.

Intervals are Wilson's, of 95 %, over all held-out videos of one run (the mean over the seeds); the spread is the sample
standard deviation over the seeds. Few videos make wide intervals: read differences of a few points as no difference.
"""


@dataclass(frozen=True)
class Job:
    """One cross-validation: `data` is (name, path)."""

    data: tuple[str, Path]
    method: str
    seed: int
    folder: Path

    def words(self, shared: Sequence[str], *, folds: int) -> list[str]:
        """The command line."""
        words = ["train", str(self.data[1]), "--output", str(self.folder), "--folds", str(folds), *shared]
        words += ["--method", self.method] if self.method != "dualpath" else []
        words += ["--seed", str(self.seed)] if self.seed else []
        return words + (["--resume"] if (self.folder / "settings.json").is_file() else [])


def main(words: Sequence[str] | None = None) -> int:
    """Trains what is missing and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--page", action="store_true", help="train nothing, write the page of what is there")
    parser.add_argument("--output", type=Path, default=PAGE, help="the page")
    parser.add_argument("--data", action="append", default=[], metavar="NAME=PATH", help="a data set; may be given again")
    parser.add_argument("--methods", default="dualpath", help="with commas between them")
    parser.add_argument("--seeds", default="0", help="with commas between them")
    parser.add_argument("--folds", type=int, default=5)
    for flag in ("--backbone", "--weights", "--image_size"):
        parser.add_argument(flag)
    given = parser.parse_args(words)
    plan_file = given.work / PLAN
    if not given.page:
        if not given.data:
            parser.error("give at least one --data NAME=PATH")
        plan = {
            name: getattr(given, name) for name in ("data", "methods", "seeds", "folds", "backbone", "weights", "image_size")
        }
        write_whole(plan_file, json.dumps(plan, indent=2) + "\n")
    plan = json.loads(plan_file.read_text())
    shared = [word for flag in ("backbone", "weights", "image_size") if plan[flag] for word in (f"--{flag}", str(plan[flag]))]
    jobs = make_jobs(plan, given.work)
    for job in jobs if not given.page else ():
        if not (job.folder / "folds.json").is_file():
            line = job.words(shared, folds=plan["folds"])
            print(shlex.join(["dualpath", *line]), flush=True)
            subprocess.run([sys.executable, "-m", "dualpath.cli", *line], check=True)
            write_whole(given.output, page(jobs, shared))
    write_whole(given.output, page(jobs, shared))
    print(f"written to {given.output}")
    return 0


def make_jobs(plan: dict[str, Any], work: Path) -> list[Job]:
    """All runs, seed by seed, so that a page of some seeds is complete early."""
    jobs = []
    for seed in map(int, plan["seeds"].split(",")):
        for entry in plan["data"]:
            name, _, path = entry.partition("=")
            for method in plan["methods"].split(","):
                folder = work / re.sub(r"\W+", "-", name).strip("-").lower() / method / f"seed{seed}"
                jobs.append(Job((name, Path(path)), method, seed, folder))
    return jobs


def page(jobs: Sequence[Job], shared: Sequence[str]) -> str:
    """The whole page."""
    parts = [INTRODUCTION, f"Backbone: `{shlex.join(hide_path(shared))}`.\n"]
    for data in dict.fromkeys(job.data for job in jobs):
        rows = [row(method, [job for job in jobs if job.data == data and job.method == method])
                for method in dict.fromkeys(job.method for job in jobs)]  # fmt: skip
        known = [cells for cells in rows if cells]
        if known:
            parts.append(f"## {data[0]}\n\n{headline(data, jobs)}\n\n{table(HEAD, known, words=1)}\n")
    missing = [job for job in jobs if read(job) is None]
    if missing:
        names = ", ".join(f"{job.data[0]} {job.method} seed {job.seed}" for job in missing)
        parts.append(f"Not run yet: {names}.\n")
    return "\n".join(parts)


HEAD = ("method", "trained", "top-1", "frozen, mean", "frozen, in order", "folds better than frozen", "minutes a fold")


def hide_path(words: Sequence[str]) -> list[str]:
    """A file's name without the folder that it lies in here."""
    return [Path(word).name if "/" in word else word for word in words]


def read(job: Job) -> dict[str, Any] | None:
    """What folds.json holds, and the runs' own records; None if the cross-validation is not finished."""
    if not (job.folder / "folds.json").is_file():
        return None
    figures = json.loads((job.folder / "folds.json").read_text())
    figures["runs"] = [json.loads((job.folder / f"fold{fold['fold']}" / "run.json").read_text()) for fold in figures["folds"]]
    ends = [last_epoch(job.folder / f"fold{fold['fold']}") for fold in figures["folds"]]
    return figures | {"seconds": [end["seconds"] for end in ends], "steps": [end["step"] for end in ends]}


def last_epoch(run: Path) -> dict[str, Any]:
    """The last line of a run's log that closes an epoch: steps made, seconds taken."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return max((line for line in lines if "epoch" in line and "loss" not in line), key=lambda line: line["step"])


def headline(data: tuple[str, Path], jobs: Sequence[Job]) -> str:
    """How many videos, classes and folds."""
    figures = next(found for job in jobs if job.data == data and (found := read(job)) is not None)
    told, runs = figures["data"], figures["runs"]
    batch = runs[0]["settings"]["batch_size"] * runs[0]["settings"]["accumulate"]
    return (
        f"{told['videos']} videos of {told['groups']} groups, {told['classes']} classes (guessing "
        f"{100 / told['classes']:.0f} %), {len(figures['folds'])} folds by group, {figures['protocol']}; "
        f"{figures['steps'][0]} steps of {batch} clips; {runs[0]['machine']}."
    )


def row(method: str, jobs: Sequence[Job]) -> Sequence[str]:
    """The cells of a line of the table; none if nothing is finished."""
    results = [found for job in jobs if (found := read(job)) is not None]
    if not results:
        return ()
    tops = [100 * figures["top1"]["pooled"] for figures in results]
    videos = results[0]["top1"]["videos"]
    low, high = wilson(round(statistics.mean(tops) * videos / 100), videos)
    spread = f" ± {statistics.stdev(tops):.1f}" if len(tops) > 1 else ""
    seeds = f"{len(tops)} seeds" if len(tops) > 1 else "1 seed"
    frozen = {name: pooled_baseline(results, name) for name in ("mean", "ordered")}
    better = [
        fold["top1"] > max(result["top1"] for result in run["baseline"].values())
        for figures in results
        for fold, run in zip(figures["folds"], figures["runs"], strict=True)
        if run.get("baseline")
    ]
    minutes = statistics.mean(seconds for figures in results for seconds in figures["seconds"]) / 60
    return [
        method,
        f"{results[0]['runs'][0]['plan']['trainable']:,}",
        f"{statistics.mean(tops):.1f}{spread} % ({seeds}; {100 * low:.0f} to {100 * high:.0f})",
        *(f"{100 * share:.1f} %" if share is not None else "-" for share in frozen.values()),
        f"{sum(better)} of {len(better)}" if better else "-",
        f"{minutes:.1f}",
    ]


def pooled_baseline(results: Sequence[dict[str, Any]], name: str) -> float | None:
    """Share of all held-out videos that a frozen baseline has right, over all folds and seeds."""
    right = videos = 0.0
    for figures in results:
        for run in figures["runs"]:
            result = run.get("baseline", {}).get(name)
            if not result or result["top1"] is None:
                return None
            right, videos = right + result["top1"] * result["val_videos"], videos + result["val_videos"]
    return right / videos if videos else None


if __name__ == "__main__":
    sys.exit(main())
