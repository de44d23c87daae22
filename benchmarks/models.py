"""Clips a second and memory of our methods, of the authors' way and of full video models, in turn, in one run.

    python benchmarks/models.py --output benchmarks/results/cpu_vnni [--only inference training] [--rounds 3] [--seconds 6]

ViT-B/16, T = 32, random weights. What each row is stands in `candidates`; all that names no type computes in the one that
`--precision auto` takes on this machine. Writes models.json, of which
scripts/make_speed.py makes docs/speed.md and its picture.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch
from peers import VIDEO_MODELS

from dualpath.engine.checkpoint import versions
from dualpath.files import write_whole
from dualpath.hardware import pick_device
from dualpath.nn.zoo import frozen_dtype
from dualpath.report.speed import speed_json, speed_table
from dualpath.speed.ceiling import describe_speed
from dualpath.speed.turns import Candidate, measure

HERE = str(Path(__file__).resolve().parent)
OURS = {"method": "dualpath", "backbone": "vit_base_patch16_clip_quickgelu_224.openai", "num_frames": 32}
UPLOADED = OURS | {"variant": "reference"}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
RIVALS = ("aim", "st_adapter", "lora", "full_tuning")


def candidates(batch: int) -> list[Candidate]:
    """All rows; `group` is what a row does."""
    common = {"num_classes": 400, "batch_size": batch, "precision": "auto"}
    chosen, found = frozen_dtype("auto", pick_device()), []
    for mode in ("inference", "training"):
        for label, settings in (("dualpath", OURS), ("dualpath reference", UPLOADED)):
            given = common | {"settings": settings}
            found.append(Candidate(f"{label}, {mode}", f"dualpath.speed.ours:{mode}", given, group=mode, ceiling=True))
        if mode == "inference":  # on a GPU with CUDA graphs
            given = common | {"settings": OURS, "compiled": True}
            found.append(Candidate(f"dualpath, compiled, {mode}", f"dualpath.speed.ours:{mode}", given, group=mode))
        for precision in ("fp32", "bf16", "int8"):
            if DTYPES.get(precision) == chosen or (precision == "int8" and pick_device().type != "cpu"):
                continue
            given = common | {"settings": OURS, "precision": precision}
            label = f"dualpath, {precision}, {mode}"
            wholly = precision == "int8" and mode == "inference"  # in a training some products are in fp32
            found.append(Candidate(label, f"dualpath.speed.ours:{mode}", given, group=mode, ceiling=wholly))
        for precision in ("auto", "bf16") if mode == "training" else ():
            if DTYPES.get(precision) == chosen:
                continue
            given = common | {"settings": OURS | {"gradient_checkpointing": True}, "precision": precision}
            label = f"dualpath, {'' if precision == 'auto' else 'bf16, '}checkpointing, training"
            found.append(Candidate(label, "dualpath.speed.ours:training", given, group=mode))
        for name in RIVALS:
            given = common | {"settings": {"method": name, "backbone": OURS["backbone"], "num_frames": 8}}
            found.append(Candidate(f"{name}, 8 frames, {mode}", f"dualpath.speed.ours:{mode}", given, group=mode))
        for autocast in (False, True):
            given = {"mode": mode, "autocast": autocast, "batch_size": batch}
            label = f"the authors' way, {'autocast' if autocast else 'fp32'}, {mode}"
            found.append(Candidate(label, "peers:authors", given, group=mode, folder=HERE))
    for name in VIDEO_MODELS:
        given = {"name": name, "dtype": str(chosen).removeprefix("torch."), "batch_size": batch}
        found.append(Candidate(f"{name}, inference", "peers:video_model", given, group="inference", folder=HERE))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--only", nargs="*", default=[""], help="rows whose labels hold one of these words")
    given = parser.parse_args()
    chosen = [one for one in candidates(given.batch_size) if any(word in one.label for word in given.only)]
    found, machine = [], describe_speed(pick_device())
    for mode in ("inference", "training"):  # one after the other: all processes of a call are there at once
        found += measure(
            [one for one in chosen if one.group == mode],
            rounds=given.rounds,
            seconds=given.seconds,
            progress=lambda done, text: print(f"{done} {text}", file=sys.stderr, flush=True),
        )
        # After each: what is measured is there, whatever happens to the next.
        told = speed_json(found, machine=machine, command=shlex.join(["python", *sys.argv]), versions=versions())
        write_whole(given.output / "models.json", json.dumps(told, indent=2) + "\n")
    print(speed_table(found, machine))


if __name__ == "__main__":
    main()
