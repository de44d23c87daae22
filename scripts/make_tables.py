"""Makes the tables of docs/: `make tables`. Sizes take seconds, the comparisons hours; what is there already is kept.

    dualpath info      the sizes in docs/methods.md, between its marks
    dualpath draw      clips of each label set
    dualpath compare   the learning rates that benchmarks/rates.yaml lists, on videos kept from the training
    dualpath compare   each list of benchmarks/*.yaml below, three seeds; results, pictures and docs/comparison.md

Run it again to go on after an interruption: every comparison continues where it was.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dualpath.files import write_whole

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
METHODS_PAGE = DOCS / "methods.md"
DUALPATH = [sys.executable, "-m", "dualpath.cli"]

COMMON = shlex.split(
    "--backbone stills_vit_tiny_patch16_128 --num_frames 4 --batch_size 32 --lr 3e-3 --warmup_epochs 1 --min_scale 0.7 "
    "--color_jitter 0 --label_smoothing 0 --check quick"
)
"""The demo's settings."""
WORK = ROOT / "tables-output"
"""Where clips and runs go by default."""
EPOCHS = 5
"""The demo takes 7."""
RATE_EPOCHS, RATE_SEED, KEPT_FROM = 2, 7, 280
"""Learning rates are chosen on short runs with a seed of their own, by the videos from this number on of each class."""


INTRODUCTION = """# Comparisons on drawn clips

Made by `make tables` (scripts/make_tables.py). The clips are drawn, and the backbone is the small one that comes with the
package, which has seen drawn stills only: this compares methods, and says nothing about accuracies on real videos. Learning
rates are the best of those tried (last table); all else is the same within a table. Other work ran on the machine meanwhile:
read the times roughly. What we make of the tables, also where DualPath is not the best, stands in EXPERIMENTS.md
("Comparisons").
"""


@dataclass(frozen=True)
class Section:
    """One comparison of the page.

    Attributes:
        name: of its folder and picture.
        title: its headline.
        entries: file in benchmarks/.
        label_set: of the clips.
        told: what it is meant to show.
    """

    name: str
    title: str
    entries: str
    label_set: str
    told: str


SECTIONS = (
    Section("rivals", "DualPath and its rivals", "rivals.yaml", "motion", "Ten classes; only the order of frames tells them."),
    Section(
        "paths-motion", "Each path alone: motion", "paths.yaml", "motion",
        "Without order 50 % is the most, but one frame off the middle of the clip betrays some directions.",
    ),
    Section(
        "paths-appearance", "Each path alone: appearance", "paths.yaml", "appearance", "A single frame tells all eight classes."
    ),
    Section(
        "paths-both", "Each path alone: appearance and motion", "paths.yaml", "both",
        "Shape, colour and direction. Without the look 25 % is the most, without order 50 %, which is where the spatial path "
        "stays with all four frames. Its one frame lies at 5/8 of the clip: where the thing is then betrays where it goes.",
    ),
    Section("ablations", "Positions, places of adapters, sizes", "ablations.yaml", "motion", "One choice changed at a time."),
    Section("cells", "Cells of 3.5 patches against whole patches", "cells.yaml", "motion", "At 112 pixels, framesets of 2x2."),
    Section("frames", "16, 32 and 48 frames", "frames.yaml", "motion", "Framesets of 4x4."),
)  # fmt: skip


def run(*words: str) -> None:
    """One dualpath command; its failure, which it has told itself, ends the script."""
    print("dualpath", *words, file=sys.stderr)
    if code := subprocess.run([*DUALPATH, *words], check=False, cwd=ROOT).returncode:
        sys.exit(code)


def with_sizes(page: str) -> str:
    """docs/methods.md with what `dualpath info` says between its marks."""
    words = [*DUALPATH, "info", "--method", "all", "--json"]
    told = json.loads(subprocess.run(words, check=True, cwd=ROOT, capture_output=True, text=True).stdout)
    rows = [
        f"| `{cost['method']}` | {cost['trainable']:,} | {100 * cost['share']:.2f} % | {cost['gmacs']:.1f} | "
        f"{cost['bytes_a_clip'] / 1e6:.0f} MB |"
        for cost in told["methods"]
    ]
    head = "| method | trained, classifier included | share of all | GMACs a clip | memory a clip in training, estimated |"
    table = "\n".join([head, "|---|---|---|---|---|", *rows])
    return re.sub(r"<!-- table: sizes -->.*?<!-- end -->", f"<!-- table: sizes -->\n{table}\n<!-- end -->", page, flags=re.S)


def draw_clips(work: Path, label_set: str) -> Path:
    """The clips of a label set, drawn where they are not there yet."""
    clips = work / "clips" / label_set
    if not clips.exists():
        run("draw", "--output", str(clips), "--label_set", label_set)
    return clips


def try_rates(work: Path) -> None:
    """Trains every rival with each of its learning rates, on a part of the training clips, judged by the rest of them."""
    rivals, rates = (yaml.safe_load((ROOT / "benchmarks" / name).read_text()) for name in ("rivals.yaml", "rates.yaml"))
    entries = {f"{name}_{rate:g}": rivals[name] | {"lr": rate} for name in rates for rate in rates[name]}
    clips, output = draw_clips(work, "motion") / "train", work / "rates"
    listed, tried = work / "rates.csv", work / "rates.yaml"
    with listed.open("w", newline="") as opened:
        table = csv.writer(opened)
        table.writerow(["path", "label", "split"])
        for folder in sorted(clips.iterdir()):
            for place, path in enumerate(sorted(folder.iterdir())):
                table.writerow([path, folder.name, "val" if place >= KEPT_FROM else "train"])
    tried.write_text(yaml.safe_dump(entries, sort_keys=False))
    run(
        "compare", str(listed), "--output", str(output), "--entries", str(tried), "--seeds", str(RATE_SEED),
        *COMMON, "--epochs", str(RATE_EPOCHS), "--resume",
    )  # fmt: skip


def rates_page(told: dict[str, Any]) -> str:
    """What each learning rate reached, as a part of the page."""
    found: dict[str, list[tuple[float, float]]] = {}
    for entry in told["entries"]:
        found.setdefault(entry["label"].rpartition("_")[0], []).append((entry["learning_rate"], entry["top1"]["mean"]))
    lines = [
        f"| {name} | {max(tried, key=lambda one: one[1])[0]:g} | "
        f"{', '.join(f'{rate:g}: {100 * top1:.1f} %' for rate, top1 in sorted(tried))} |"
        for name, tried in found.items()
    ]
    head = (
        f"## How the learning rates were chosen\n\nRuns of {RATE_EPOCHS} epochs with seed {RATE_SEED} on {KEPT_FROM} training "
        "clips a class, judged by the other training clips; the test clips play no part.\n"
    )
    return "\n".join([head, "| entry | best | tried: top-1 |", "|---|---:|---|", *lines, ""])


def main() -> None:
    """Makes what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=WORK, help="folder for clips and runs")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--only", nargs="*", choices=["sizes", "rates", *(section.name for section in SECTIONS)])
    options = parser.parse_args()
    wanted = options.only or ["sizes", "rates", *(section.name for section in SECTIONS)]
    if "sizes" in wanted:
        write_whole(METHODS_PAGE, with_sizes(METHODS_PAGE.read_text()))
    if "rates" in wanted:
        try_rates(options.work)
    for section in SECTIONS:
        if section.name not in wanted:
            continue
        clips, output = draw_clips(options.work, section.label_set), options.work / section.name
        entries = str(ROOT / "benchmarks" / section.entries)
        run(
            "compare", str(clips), "--output", str(output), "--entries", entries, "--seeds", options.seeds,
            *COMMON, "--epochs", str(EPOCHS), "--resume",
        )  # fmt: skip
    write_page(options.work)


def write_page(work: Path) -> None:
    """docs/comparison.md from the comparisons that are complete."""
    parts = [INTRODUCTION]
    for section in SECTIONS:
        made = work / section.name / "compare.md"
        if not made.is_file():
            continue
        picture = DOCS / "comparison" / f"{section.name}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(made.with_name("compare.png"), picture)
        parts.append(f"## {section.title}\n\n{section.told}\n\n{arranged(made.read_text(), work, section.name)}")
    tried = work / "rates" / "compare.json"
    if tried.is_file():
        parts.append(rates_page(json.loads(tried.read_text())))
    if len(parts) > 1:
        (DOCS / "comparison.md").write_text("\n".join(parts))


def arranged(made: str, work: Path, name: str) -> str:
    """What `dualpath compare` has written, results first, the rest folded; with the paths that `make tables` would use."""
    body, unequal = made.split("\n## ", 1)
    title, settings, results = re.split(r"\n\n(?=```|\| entry)", body, maxsplit=2)
    del title
    settings = re.sub(r"\S*/benchmarks/", "benchmarks/", settings.replace(str(work), WORK.name))
    heading, remarks = unequal.split("\n", 1)
    return (
        f"{results.replace('compare.png', f'comparison/{name}.png').strip()}\n\n<details><summary>How it was made</summary>\n\n"
        f"{settings}\n\n</details>\n\n<details><summary>{heading}</summary>\n{remarks}\n</details>\n"
    )


if __name__ == "__main__":
    main()
