"""What an explanation costs beside the prediction that it explains: one file, ViT-B/16, T = 32, in one process.

    python benchmarks/explain.py [--rounds 5] [--precision auto] [--folder DIR] [--output explain.json]

In turn, in a process that has done each before: `predict` and `explain` of each kind on the same H.264 clip, reading it
included. Random weights, as benchmarks/start.py makes them: what they are worth does not change the time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from start import prepare

import dualpath
from dualpath.engine.checkpoint import versions
from dualpath.engine.explanation import KINDS
from dualpath.hardware import describe_machine


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto")
    parser.add_argument("--folder", type=Path, help="keep the files here; by default a temporary folder")
    parser.add_argument("--output", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        _, checkpoint, clip = prepare(asked.folder or Path(temporary))
        model = dualpath.load(checkpoint, precision=asked.precision)
        ways: dict[str, Callable[[], Any]] = {"predict": lambda: model.predict(clip)}
        ways |= {kind: lambda kind=kind: model.explain(clip, kind=kind) for kind in KINDS}
        took: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(asked.rounds + 1):
            for name, do in ways.items():
                began = time.perf_counter()
                do()
                if turn:  # the first round packs weights
                    took[name].append(time.perf_counter() - began)
    ratios = {
        kind: statistics.median(mine / least for mine, least in zip(took[kind], took["predict"], strict=True)) for kind in KINDS
    }
    print(f"{'predict':10} {statistics.median(took['predict']):6.3f} s")
    for kind, ratio in ratios.items():
        print(f"{kind:10} {statistics.median(took[kind]):6.3f} s, {ratio:.2f} times a prediction")
    if asked.output:
        told = {"machine": describe_machine(model.device), "versions": versions(), "seconds": took, "ratios": ratios}
        asked.output.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
