"""`dualpath bench` on the command line: flags to functions, no logic of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path


def bench_verb(words: Sequence[str]) -> int:
    """Measures methods on this machine.

    Returns:
        Exit code: 0, or 1 if a candidate could not be measured.
    """
    from shlex import join

    from dualpath.engine.checkpoint import versions
    from dualpath.engine.config import RunConfig
    from dualpath.engine.device import pick_device
    from dualpath.engine.entries import ask_methods, make_entries, read_entries
    from dualpath.engine.machine import describe_machine
    from dualpath.engine.progress import Bar
    from dualpath.errors import DualPathError
    from dualpath.files import write_whole
    from dualpath.flags import Parser, fill
    from dualpath.methods import METHODS
    from dualpath.nn.zoo import BackboneConfig
    from dualpath.report.speed import speed_json, speed_markdown, speed_picture, speed_table
    from dualpath.speed.choices import SpeedConfig, candidates_of
    from dualpath.speed.turns import measure, stages

    parser = Parser(
        "bench", "How fast methods are on this machine, beside what its matrix products alone would take.", words=""
    )
    parser.add_argument("--methods", type=str, default="dualpath", help=f"with commas between them, of {', '.join(METHODS)}")
    parser.add_argument("--entries", type=str, default=None, help="YAML: a label to {method: ..., any setting of its own}")
    parser.add_argument("--num_frames", type=int, default=32, help="T of a clip")
    parser.add_argument("--output", type=str, metavar="DIR", help="folder for bench.json, bench.md and bench.png")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_class_arguments(BackboneConfig, skip={"weights"})
    parser.add_class_arguments(SpeedConfig)
    options = parser.read(words)
    config, backbone = fill(SpeedConfig, options), fill(BackboneConfig, options)
    common = {"backbone": backbone.backbone, "image_size": backbone.image_size, "model_args": backbone.model_args}
    common |= {"num_frames": options.num_frames}
    asked = ask_methods([name.strip() for name in options.methods.split(",") if name.strip()], {})
    asked |= read_entries(Path(options.entries)) if options.entries else {}
    if not asked:
        raise DualPathError("nothing to measure: give methods with --methods or entries in a file with --entries")
    entries = {label: common | given for label, given in asked.items()}
    make_entries(entries, base=RunConfig())  # what cannot be is told before anything is measured
    candidates = candidates_of(entries, config)
    with Bar("measuring", total=stages(candidates, config.rounds)) as bar:
        found = measure(candidates, rounds=config.rounds, seconds=config.seconds, threads=config.threads, progress=bar.update)
    machine = describe_machine(pick_device())
    told = speed_json(found, machine=machine, command=join(["dualpath", "bench", *words]), versions=versions())
    if options.output:
        output = Path(options.output)
        output.mkdir(parents=True, exist_ok=True)
        write_whole(output / "bench.json", json.dumps(told, indent=2) + "\n")
        write_whole(output / "bench.md", speed_markdown(found))
        if picture := speed_picture(found, ours=[one.label for one in candidates]):
            write_whole(output / "bench.png", picture)
    print(json.dumps(told, indent=2) if options.json else speed_table(found, machine))
    return 1 if any(one.problem for one in found) else 0
