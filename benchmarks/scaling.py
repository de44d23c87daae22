"""How time and memory grow with frames, batch, image size, backbone, classes and views.

    python benchmarks/scaling.py --output benchmarks/results/cpu [--only batch_size ...] [--rounds 3] [--seconds 4] [--quick]

DualPath with random weights, in the type that `--precision auto` takes on this machine; the points of an axis take turns in one
run, and each is held against the first. Writes scaling.json, of which scripts/make_speed.py makes tables and a picture. --quick
tries everything on the embedded backbone, in a minute or two.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from growth import NAMES, grow, growth_markdown

from dualpath.engine.checkpoint import versions
from dualpath.files import write_whole
from dualpath.hardware import describe_machine, pick_device
from dualpath.nn.zoo import EMBEDDED, frozen_dtype
from dualpath.speed.turns import Candidate, measure

BACKBONES = {
    "ViT-Ti": "vit_tiny_patch16_224",
    "ViT-S": "vit_small_patch16_224",
    "ViT-B": "vit_base_patch16_clip_quickgelu_224.openai",
    "ViT-L/14": "vit_large_patch14_clip_quickgelu_224.openai",
}
VALUES: dict[str, Sequence[Any]] = {
    "num_frames": (16, 32, 64),
    "batch_size": (1, 2, 4, 8),
    "image_size": (224, 288, 336),
    "backbone": tuple(BACKBONES),
    "num_classes": (10, 400, 10_000),
    "views": (1, 3, 10),
}
TRAINED = ("num_frames", "batch_size", "backbone")
"""Axes along which training is measured too."""
FULL = {"method": "dualpath", "backbone": BACKBONES["ViT-B"], "num_frames": 32}
QUICK_VALUES: dict[str, Sequence[Any]] = {
    "num_frames": (4, 8),
    "batch_size": (1, 2),
    "image_size": (128, 160),
    "backbone": ("embedded", "ViT-Ti"),
    "num_classes": (10, 1000),
    "views": (1, 3),
}
QUICK = {"method": "dualpath", "backbone": EMBEDDED, "num_frames": 8, "grid": "2x2", "num_spatial_frames": 2}


def points(axis: str, mode: str, *, quick: bool) -> list[tuple[str, Candidate]]:
    """What varies along an axis, and its candidate."""
    found = []
    for value in (QUICK_VALUES if quick else VALUES)[axis]:
        settings = dict(QUICK if quick else FULL)
        given: dict[str, Any] = {"num_classes": 400, "batch_size": 1, "precision": "auto"}
        if axis in given:
            given[axis] = value
        elif axis == "views":  # of one video, which go through the model together
            given |= {"batch_size": value, "views": value}
        elif axis == "backbone":
            settings[axis] = BACKBONES.get(value, EMBEDDED)
        else:
            settings[axis] = value
        label = f"{axis} {value}, {mode}"
        found.append((f"{value}", Candidate(label, f"dualpath.speed.ours:{mode}", given | {"settings": settings}, group=mode)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=list(NAMES), default=list(NAMES), metavar="AXIS", help=", ".join(NAMES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--quick", action="store_true", help="a small backbone and few values, one short round")
    given = parser.parse_args()
    rounds, seconds = (1, 0.05) if given.quick else (given.rounds, given.seconds)
    told: dict[str, Any] = {
        "machine": describe_machine(pick_device()),
        "command": shlex.join(["python", *sys.argv]),
        "versions": versions(),
        "dtype": str(frozen_dtype("auto", pick_device())).removeprefix("torch."),
        "axes": [],
    }
    for axis in given.only:
        for mode in ("inference", "training") if axis in TRAINED else ("inference",):
            asked = points(axis, mode, quick=given.quick)
            found = measure(
                [candidate for _, candidate in asked],
                rounds=rounds,
                seconds=seconds,
                progress=lambda done, text: print(f"{done} {text}", file=sys.stderr, flush=True),
            )
            rows = grow([(value, one) for (value, _), one in zip(asked, found, strict=True)])
            told["axes"].append({"axis": axis, "mode": mode, "points": rows})
            # After each axis: what is measured is there even if the next one needs more memory than there is.
            write_whole(given.output / "scaling.json", json.dumps(told, indent=2) + "\n")
    print(growth_markdown(told["axes"]), end="")


if __name__ == "__main__":
    main()
