"""The verbs `compare`, `info` and `bench` on the command line: flags to functions, no logic of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any


def compare_verb(words: Sequence[str]) -> int:
    """Trains and evaluates methods on equal terms; gives the exit code."""
    from shlex import join

    from dualpath.engine.clip_store import CLIP_STORE_GB
    from dualpath.engine.compare import compare
    from dualpath.engine.config import DataConfig, RunConfig, TrainConfig
    from dualpath.engine.entries import ask_methods, make_entries, read_entries, read_numbers
    from dualpath.flags import CHECKED, Parser, check_given, fill
    from dualpath.methods import METHODS
    from dualpath.nn.zoo import BackboneConfig
    from dualpath.recipes import read_config
    from dualpath.report.compare import comparison_table, write_comparison
    from dualpath.video.protocols import ViewsConfig
    from dualpath.video.sampling import SamplingConfig
    from dualpath.video.transforms import TransformConfig

    rest, settings, source = read_config(words)
    told = "Train and evaluate methods on the same data, views and budget; --resume continues."
    parser = Parser("compare", told, words="DATA --output DIR")
    parser.add_argument("data", type=str, nargs="?", help="folder or CSV file, as for train, with test videos of its own")
    parser.add_argument("--output", type=str, metavar="DIR", help="new folder for all runs and the results")
    parser.add_argument("--resume", action="store_true", help="continue the comparison in --output")
    parser.add_argument("--checked", type=str, metavar="DIR", help=CHECKED)
    parser.add_argument("--config", metavar="FILE", help="YAML file with any of these flags")
    parser.add_argument("--methods", type=str, default="", help=f"with commas between them, of {', '.join(METHODS)}")
    parser.add_argument("--entries", type=str, default=None, help="YAML: a label to {method: ..., any setting of its own}")
    parser.add_argument("--seeds", type=str, default="0", help="with commas between them; a run for each")
    told = "1,2,3: official splits of HMDB51 or UCF101, a run for each; the result of a seed is their mean, as published"
    parser.add_argument("--folds", type=str, metavar="N,...", help=told)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--clip_store",
        type=float,
        default=CLIP_STORE_GB,
        help="most GB of disk for decoded training clips, which the runs of a seed share until they are done; 0 keeps none",
    )
    parser.add_names("protocol", "views")
    for part in (DataConfig, BackboneConfig, SamplingConfig, TransformConfig, ViewsConfig, TrainConfig):
        parser.add_class_arguments(part, skip={"seed"} if part is TrainConfig else None)
    # Nothing is chosen by validation, so all training videos are learnt from.
    parser.set_defaults(val_fraction=0.0, eval_every=0)
    # Of each method that has such an option: what it may be is the method's to say.
    of_methods = sorted({f.name for method in METHODS.values() for f in fields(method.config)})
    for name in of_methods:
        having = ", ".join(m for m, method in METHODS.items() if name in {f.name for f in fields(method.config)})
        parser.add_argument(f"--{name}", type=Any, default=None, help=f"an option of {having}, for those of --methods")
    options = parser.read(rest, settings, source=source)
    check_given("compare", options)
    options.seed = 0
    base = RunConfig(
        backbone=fill(BackboneConfig, options),
        sampling=fill(SamplingConfig, options),
        transform=fill(TransformConfig, options),
        views=fill(ViewsConfig, options),
        training=fill(TrainConfig, options),
        data=fill(DataConfig, options),
    )
    given = {name: getattr(options, name) for name in of_methods if getattr(options, name) is not None}
    asked = ask_methods([name.strip() for name in options.methods.split(",") if name.strip()], given)
    entries = make_entries(asked, read_entries(Path(options.entries)) if options.entries else {}, base=base)
    output = Path(options.output)
    found = compare(
        Path(options.data),
        output,
        entries,
        read_numbers(options.seeds, what="seeds", such_as="--seeds 0,1,2"),
        base=base,
        folds=() if options.folds is None else read_numbers(options.folds, what="folds", such_as="--folds 1,2,3"),
        resume=options.resume,
        checked=Path(options.checked) if options.checked else None,
        clip_store=options.clip_store,
    )
    told = write_comparison(found, output, command=join(["dualpath", "compare", *(w for w in words if w != "--resume")]))
    print(json.dumps(told, indent=2) if options.json else comparison_table(found))
    print(f"compare.md, compare.json and compare.png are in {output}", file=sys.stderr)
    return 0


def info_verb(words: Sequence[str]) -> int:
    """Tells what methods cost; gives the exit code."""
    from dualpath.engine.info import InfoConfig, find_costs
    from dualpath.flags import ALL, Parser, chosen_method, fill
    from dualpath.methods import METHODS, find_method
    from dualpath.nn.zoo import BackboneConfig
    from dualpath.report.tables import info_table
    from dualpath.video.protocols import ViewsConfig
    from dualpath.video.sampling import SamplingConfig

    method = chosen_method(words, {})
    parser = Parser("info", "What a method costs on a backbone: parameters, multiply-adds, memory; without data or weights.")
    names = ", ".join([*METHODS, ALL])
    parser.add_argument("--method", metavar="NAME", default="dualpath", help=f"one of {names}")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_method(method)
    parser.add_class_arguments(BackboneConfig, skip={"weights"})
    parser.add_names("protocol", "views")
    for part in (InfoConfig, SamplingConfig, ViewsConfig):
        parser.add_class_arguments(part)
    options = parser.read(words)
    info = find_costs(
        None if method == ALL else method,
        None if method == ALL else fill(find_method(method).config, options),
        backbone=fill(BackboneConfig, options),
        config=fill(InfoConfig, options),
        sampling=fill(SamplingConfig, options),
        views=fill(ViewsConfig, options),
    )
    print(json.dumps(info.as_json(), indent=2) if options.json else info_table(info))
    return 0


def bench_verb(words: Sequence[str]) -> int:
    """Measures methods on this machine.

    Returns:
        Exit code: 0, or 1 if a candidate could not be measured.
    """
    from shlex import join

    from dualpath.engine.checkpoint import versions
    from dualpath.engine.config import RunConfig
    from dualpath.engine.entries import ask_methods, make_entries, read_entries
    from dualpath.engine.progress import Bar
    from dualpath.errors import DualPathError
    from dualpath.files import make_folder, write_whole
    from dualpath.flags import Parser, fill
    from dualpath.hardware import pick_device
    from dualpath.methods import METHODS
    from dualpath.nn.zoo import BackboneConfig
    from dualpath.report.speed import speed_json, speed_markdown, speed_picture, speed_table
    from dualpath.speed.ceiling import describe_speed
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
    output = Path(options.output) if options.output else None
    if output is not None:
        make_folder(output)
    candidates = candidates_of(entries, config)
    with Bar("measuring", total=stages(candidates, config.rounds)) as bar:
        found = measure(candidates, rounds=config.rounds, seconds=config.seconds, threads=config.threads, progress=bar.update)
    machine = describe_speed(pick_device())
    told = speed_json(found, machine=machine, command=join(["dualpath", "bench", *words]), versions=versions())
    if output is not None:
        write_whole(output / "bench.json", json.dumps(told, indent=2) + "\n")
        write_whole(output / "bench.md", speed_markdown(found))
        if picture := speed_picture(found, ours=[one.label for one in candidates]):
            write_whole(output / "bench.png", picture)
    print(json.dumps(told, indent=2) if options.json else speed_table(found, machine))
    return 1 if any(one.problem for one in found) else 0
