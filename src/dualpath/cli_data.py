"""The verbs `dualpath data ...`: flags to functions, as in `cli`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from dualpath.errors import DualPathError
from dualpath.terminal import in_line

HELP = """usage: dualpath data VERB ...

  check DATA --output DIR         look into every file: a table, a page with pictures, a quarantine list for --checked
  prepare DATA --output DIR       encode the videos once, small and quick to read, into files or shards; it can be stopped
  bench DATA                      how fast your files become clips, what holds them up, what a GPU would eat

dualpath data VERB --help lists the options of a verb.
"""


def data_verb(words: Sequence[str]) -> int:
    """Runs one of them."""
    if not words or words[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if words[0] not in VERBS:
        from dualpath.errors import nearest

        told = f"{words[0]!r}{nearest(words[0], VERBS)}; there are {', '.join(VERBS)}"
        raise DualPathError(f"unknown verb data {told}")
    return VERBS[words[0]](words[1:])


def _check(words: Sequence[str]) -> int:
    from dualpath.data.checking.check import CheckConfig
    from dualpath.engine.config import DataConfig
    from dualpath.engine.data_verbs import check_files
    from dualpath.flags import Parser, fill
    from dualpath.report.pages.check import check_table, verdict, write_check_page

    parser = Parser("data check", "Look into every file of a data set; run it again and it goes on. Exit code 1: not usable.")
    parser.add_argument("data", type=str, help="folder or list of videos, as for train")
    parser.add_argument("--output", type=str, required=True, help="folder for the results; --checked takes it")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_class_arguments(DataConfig)
    parser.add_class_arguments(CheckConfig)
    options = parser.read(words)
    output = Path(options.output)
    found = check_files(Path(options.data), output, fill(CheckConfig, options), annotations=fill(DataConfig, options))
    write_check_page(output / "report.html", found, data=options.data, output=options.output)
    print(json.dumps(found.as_json(), indent=2) if options.json else check_table(found))
    print(f"report.html, check.json, quarantine.csv and files.jsonl are in {output}", file=sys.stderr)
    print(verdict(found), file=sys.stderr)
    return 0 if found.usable else 1


def _prepare(words: Sequence[str]) -> int:
    from dualpath.data.preparing.prepare import ShardConfig
    from dualpath.engine.config import DataConfig
    from dualpath.engine.data_verbs import prepare_data
    from dualpath.flags import Parser, fill
    from dualpath.video.encode import EncodeConfig

    told = "Encode a data set once so that training reads it quickly; the same command goes on where it was stopped."
    parser = Parser("data prepare", told)
    parser.add_argument("data", type=str, help="folder or CSV file, as for train")
    parser.add_argument("--output", type=str, required=True, help="new folder; `dualpath train` takes it, or its URL if shards")
    parser.add_class_arguments(DataConfig)
    parser.add_class_arguments(EncodeConfig)
    parser.add_argument(
        "--shards", action="store_true", help="pack into WebDataset tars, with an index, instead of plain files"
    )
    parser.add_class_arguments(ShardConfig)
    parser.add_argument("--workers", type=int, default=-1, help="processes; -1 takes one a core")
    options = parser.read(words)
    summary = prepare_data(
        Path(options.data),
        Path(options.output),
        encode=fill(EncodeConfig, options),
        shards=fill(ShardConfig, options) if options.shards else None,
        workers=options.workers,
        annotations=fill(DataConfig, options),
    )
    print(summary)
    return 0


def _bench(words: Sequence[str]) -> int:
    from dualpath.engine.appetite import Demand, advise, estimate
    from dualpath.engine.bench import BenchConfig, bench_data
    from dualpath.engine.info import InfoConfig, find_costs
    from dualpath.flags import Parser, fill
    from dualpath.hardware import cores
    from dualpath.methods import METHODS
    from dualpath.nn.zoo import BackboneConfig
    from dualpath.report.bench import bench_table
    from dualpath.video.encode import EncodeConfig
    from dualpath.video.protocols import ViewsConfig
    from dualpath.video.sampling import SamplingConfig
    from dualpath.video.transforms import TransformConfig

    parser = Parser("data bench", "Measure how fast your videos become training clips, as they are and as prepared.")
    parser.add_argument("data", type=str, help="folder, CSV file or URL of shards, as for train")
    parser.add_class_arguments(BenchConfig)
    parser.add_argument("--clips_per_s", type=float, metavar="X", help="what your training takes, instead of the estimates")
    parser.add_argument("--method", metavar="NAME", default="dualpath", help=f"for the estimates: one of {', '.join(METHODS)}")
    for part in (BackboneConfig, SamplingConfig, TransformConfig, EncodeConfig):
        parser.add_class_arguments(part, skip={"weights", "damaged"})
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.read(words)
    if options.clips_per_s is not None and not 0 < options.clips_per_s < float("inf"):
        raise DualPathError(f"clips_per_s is {options.clips_per_s}, but it must be a number above 0")
    sampling = fill(SamplingConfig, options)
    info = find_costs(
        options.method,
        None,
        backbone=fill(BackboneConfig, options),
        config=InfoConfig(),
        sampling=sampling,
        views=ViewsConfig(),
    )
    (cost,) = info.costs
    assert cost.plan is not None, "one method that is asked for has figures or raises"
    measured = Demand("your training", options.clips_per_s or 0.0, False)
    demands = estimate(cost.plan.train_gmacs) if options.clips_per_s is None else (measured,)
    bench = bench_data(
        Path(options.data),
        config=fill(BenchConfig, options),
        sampling=sampling,
        transform=fill(TransformConfig, options),
        size=info.backbone["size"],
        encode=fill(EncodeConfig, options),
        cores=cores(),
    )
    sentences = advise(bench, demands)
    if options.json:
        told = {"demand": [vars(demand) for demand in demands], "gmacs_a_clip": cost.plan.train_gmacs, "advice": sentences}
        print(json.dumps(bench.as_json() | told, indent=2))
    else:
        print(bench_table(bench, sentences))
        if options.clips_per_s is None:
            name = f"{options.method} on {info.backbone['name']}, {cost.plan.train_gmacs:.1f} GMACs a clip"
            print(f"estimates for {name}: two forward passes a step, at 40 % of the card's peak; --clips_per_s takes yours")
    for name, reason in bench.left_out.items():
        print(f"left out: {in_line(name)} {reason}", file=sys.stderr)
    return 0


VERBS: dict[str, Callable[[Sequence[str]], int]] = {"check": _check, "prepare": _prepare, "bench": _bench}
