"""The command line: verbs to functions, flags from the dataclasses that they fill in. No logic of its own.

Nothing heavy is imported before a verb is chosen, so `dualpath --help` answers at once.
"""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dualpath.errors import DualPathError, Interrupted, number_of
from dualpath.imports import import_late
from dualpath.memory import keep_memory
from dualpath.terminal import plain_streams

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from dualpath.flags import Parser

T = TypeVar("T")

HELP = """usage: dualpath VERB ...

Turn any frozen image transformer into a video model by training a few per cent of its size.

  train DATA --output DIR         train on a folder of labelled videos (<class>/*.mp4) or a CSV file; --folds 5 cross-validates
  baseline DATA --output DIR      what the backbone's features reach as they are: an accuracy and a model within minutes
  evaluate CHECKPOINT DATA        accuracy, confusion matrix and predictions.csv on labelled videos
  predict CHECKPOINT VIDEO ...    what videos show: files, folders, lists; printed, or written with --output
  features CHECKPOINT VIDEO ...   the features that a model makes its scores of, as .npz or .parquet
  explain CHECKPOINT VIDEO        where each path looks: maps on the frames, as sheet, video and arrays
  worth CHECKPOINT DATA           what the order of frames and each path are worth to a model
  report FOLDER                   a page about a training run or an evaluation; --against OTHER compares two
  info                            what each method costs on a backbone: parameters, multiply-adds, memory
  compare DATA --output DIR       several methods and seeds on equal terms: accuracy over cost, table and picture
  bench                           how fast methods are on this machine, and how near to what its chip can do
  convert FILE --output DIR       a checkpoint of the authors' code to one of ours
  demo                            the whole story on clips that it draws itself, in a few minutes
  data check DATA --output DIR    every file: what it holds, what is broken, what is there twice; goes on when run again
  data prepare DATA --output DIR  encode the videos once, small and quick to read, into files or shards
  data bench DATA                 how fast your videos become clips, what holds them up, what a GPU would eat
  draw --output DIR               labelled clips to try things on, told apart by motion, appearance or both
  doctor                          what is installed, which devices and decoders work, what is missing

dualpath VERB --help lists the options of a verb; dualpath --version prints the version.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb.

    Returns:
        Exit code: 0 done, 1 checked data are not usable, or some videos could not be read or measured, 2 something given
        cannot be used (one sentence on stderr), 128 + n stopped by signal n.
    """
    with plain_streams():
        return _main(list(sys.argv[1:] if argv is None else argv))


def _main(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if words[0] == "--version":
        from dualpath import __version__

        print(__version__)
        return 0
    # Decoding processes take the cores from torch's threads now and then: those that wait must sleep, not spin (read by
    # OpenMP when torch is imported; EXPERIMENTS.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_memory()
    import_late()
    if isinstance(sys.stdout, TextIOWrapper):  # names of files need not be text, nor fit what the terminal can show
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        if words[0] not in VERBS:
            from dualpath.errors import nearest

            raise DualPathError(f"unknown verb {words[0]!r}{nearest(words[0], VERBS)}; there are {', '.join(VERBS)}")
        return VERBS[words[0]](words[1:])
    except DualPathError as problem:
        print(f"dualpath: {problem}", file=sys.stderr)
        return 2
    except Interrupted as stop:
        print(f"dualpath: {stop}", file=sys.stderr)
        return 128 + stop.signum
    except KeyboardInterrupt:
        print("dualpath: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output went away: `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    except OSError as problem:
        if problem.errno not in _OUTSIDE:
            raise
        print(f"dualpath: {problem.filename or 'a file'} could not be read or written ({problem.strerror})", file=sys.stderr)
        return 2
    except RecursionError:
        print("dualpath: a file is nested too deeply to be read; mend it or leave it out", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as problem:
        short = re.search(r"can't allocate memory|not enough memory|out of memory", str(problem))
        if isinstance(problem, RuntimeError) and not short:
            raise
        print("dualpath: the memory does not suffice; ask for less: a smaller batch, fewer frames or views", file=sys.stderr)
        return 2


_OUTSIDE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP),
    *(errno.ENOTDIR, errno.EISDIR, errno.EIO, errno.ENOENT, errno.ENODEV, errno.EINVAL),
)
"""What a path or a disk can be to blame for."""


def _parser(verb: str, description: str, *, words: str = "") -> Parser:
    from dualpath.flags import Parser

    return Parser(verb, description, words=words)


def _parse(parser: Parser, words: Sequence[str]) -> Namespace:
    return parser.read(words)


def _fill(config: type[T], options: Namespace) -> T:
    from dualpath.flags import fill

    return fill(config, options)


def _train(words: Sequence[str]) -> int:
    from dualpath.cli_folds import FOLDS, folds_verb, with_folds
    from dualpath.engine.config import DataConfig
    from dualpath.engine.train import RunConfig, TrainConfig, preview, train
    from dualpath.engine.warm_start import read_warm_start
    from dualpath.flags import CHECKED, check_given, chosen, chosen_method
    from dualpath.methods import METHODS, find_method
    from dualpath.nn.zoo import BackboneConfig
    from dualpath.recipes import read_config, recipe_names
    from dualpath.video.protocols import ViewsConfig
    from dualpath.video.sampling import SamplingConfig
    from dualpath.video.transforms import TransformConfig

    rest, settings, source = read_config(words)
    init_from = chosen("init_from", rest, settings)
    start = None if init_from is None else read_warm_start(init_from)
    method = chosen_method(rest, settings, default=start.spec.method if start else "dualpath")
    if start:
        start.check_method(method)
    told = "Train a video model on labelled videos; interrupt it as you like, --resume continues."
    parser = _parser("train", told, words="DATA --output DIR")
    parser.add_argument(
        "data", type=str, nargs="?", help="folder (<class>/*, train/<class>/*, an official data set) or list of videos"
    )
    parser.add_argument("--output", type=str, metavar="DIR", help="new folder for the run and its checkpoints")
    parser.add_argument("--resume", action="store_true", help="continue the run in --output; more --epochs make it longer")
    parser.add_argument(
        "--init_from",
        type=str,
        metavar="CHECKPOINT",
        help="begin with what this checkpoint or run has learnt, on other data "
        "or other classes; its method, options, backbone and sampling are the defaults then",
    )
    parser.add_argument("--folds", type=int, metavar="N", help=FOLDS)
    parser.add_argument("--checked", type=str, metavar="DIR", help=CHECKED)
    parser.add_argument("--dry_run", action="store_true", help="tell the plan and stop; needs no videos and no weights")
    parser.add_argument("--num_classes", type=int, metavar="N", help="for --dry_run without DATA; by default 400")
    parser.add_argument("--config", metavar="FILE", help=f"YAML file of these flags, or one of {', '.join(recipe_names())}")
    parser.add_argument("--method", metavar="NAME", default="dualpath", help=f"one of {', '.join(METHODS)}")
    parser.add_method(method)
    parser.add_names("protocol", "views")
    for part in (DataConfig, BackboneConfig, SamplingConfig, TransformConfig, ViewsConfig, TrainConfig):
        parser.add_class_arguments(part)
    if start:
        parser.set_defaults(start.flag_defaults())
    options = parser.read(rest, settings, source=source)
    config = RunConfig(
        method,
        _fill(find_method(method).config, options),
        backbone=_fill(BackboneConfig, options),
        sampling=_fill(SamplingConfig, options),
        transform=_fill(TransformConfig, options),
        views=_fill(ViewsConfig, options),
        training=_fill(TrainConfig, options),
        data=_fill(DataConfig, options),
        init_from=init_from,
    )
    config = with_folds(parser, options, config)
    if options.dry_run:
        print(preview(config, data=Path(options.data) if options.data else None, num_classes=options.num_classes))
        return 0
    if options.num_classes is not None:
        raise DualPathError("the classes are counted in DATA; --num_classes is for --dry_run without it")
    check_given("train", options)
    if config.held_out is not None:
        return folds_verb(options, config, words)
    output = Path(options.output)
    checked = Path(options.checked) if options.checked else None
    results = train(Path(options.data), output, config, resume=options.resume, checked=checked)
    told = f"trained {number_of(results['epoch'], 'epoch')}"
    if "val_top1" in results:
        shares = f"top-1 {100 * results['val_top1']:.1f} %, mean per class {100 * results['val_mean_class_accuracy']:.1f} %"
        told += f", validation {shares} after the last ({results['val_protocol']})"
        told += (
            f", top-1 {100 * results['best_top1']:.1f} % at most; best/ was picked on these very videos, so judge it on others"
        )
    print(f"{told}; checkpoints in {output}")
    return 0


def _evaluate(words: Sequence[str]) -> int:
    from dualpath.engine.verbs import evaluate_data
    from dualpath.report.tables import accuracy_table

    parser = _parser("evaluate", "Accuracy of a checkpoint on labelled videos; undecodable ones count as wrong.")
    parser.add_judged(output="folder for predictions.csv and evaluation.json")
    parser.add_argument("--shuffle_frames", action="store_true", help="shuffle each clip's frames: what is time worth?")
    options = _parse(parser, words)
    evaluation, folder = evaluate_data(parser.judged(options), shuffle_frames=options.shuffle_frames)
    print(json.dumps(evaluation.summary(), indent=2) if options.json else accuracy_table(evaluation))
    print(f"predictions.csv and evaluation.json are in {folder}", file=sys.stderr)
    return 0


def _predict(words: Sequence[str]) -> int:
    from dualpath.cli_predict import predict_verb

    return predict_verb(words)


def _features(words: Sequence[str]) -> int:
    from dualpath.cli_predict import features_verb

    return features_verb(words)


def _explain(words: Sequence[str]) -> int:
    from dualpath.cli_explain import explain_verb

    return explain_verb(words)


def _convert(words: Sequence[str]) -> int:
    from dualpath.engine.convert import convert, read_labels

    parser = _parser("convert", "A checkpoint of the DualPath authors' code to a checkpoint folder of this library.")
    parser.add_argument("file", type=str, help="the .pth file that their main_clip.py saved")
    parser.add_argument("--output", type=str, required=True, help="new folder for the checkpoint")
    parser.add_argument("--num_frames", type=int, default=16, help="T, which their file does not tell; a multiple of 16")
    parser.add_argument("--labels", type=str, default=None, help="text file, one class name a line; by default 0, 1 ...")
    parser.add_argument(
        "--antialias",
        type=bool,
        default=False,
        help="antialias frames that are shrunk, as torchvision does from 0.17 on; theirs, of Python 3.7, did not",
    )
    options = _parse(parser, words)
    labels = read_labels(Path(options.labels)) if options.labels else None
    folder = convert(
        Path(options.file), Path(options.output), num_frames=options.num_frames, labels=labels, antialias=options.antialias
    )
    print(f"converted to {folder}: dualpath evaluate {folder} DATA, dualpath predict {folder} VIDEO")
    return 0


def _compare(words: Sequence[str]) -> int:
    from dualpath.cli_compare import compare_verb

    return compare_verb(words)


def _baseline(words: Sequence[str]) -> int:
    from dualpath.cli_baseline import baseline_verb

    return baseline_verb(words)


def _worth(words: Sequence[str]) -> int:
    from dualpath.cli_explain import worth_verb

    return worth_verb(words)


def _info(words: Sequence[str]) -> int:
    from dualpath.cli_compare import info_verb

    return info_verb(words)


def _bench(words: Sequence[str]) -> int:
    from dualpath.cli_compare import bench_verb

    return bench_verb(words)


def _report(words: Sequence[str]) -> int:
    from dualpath.cli_report import report_verb

    return report_verb(words)


def _data(words: Sequence[str]) -> int:
    from dualpath.cli_data import data_verb

    return data_verb(words)


def _demo(words: Sequence[str]) -> int:
    from dualpath.demo import DemoConfig, run_demo

    parser = _parser("demo", "Draw clips, train DualPath and a linear probe on them, evaluate both, write a report.")
    parser.add_argument("--output", type=str, default="demo-output", help="new folder for everything it makes")
    parser.add_class_arguments(DemoConfig)
    options = _parse(parser, words)
    run_demo(Path(options.output), _fill(DemoConfig, options))
    return 0


def _draw(words: Sequence[str]) -> int:
    from dualpath.demo import DrawConfig, draw

    parser = _parser("draw", "Draw labelled clips to try things on: H.264 files in train/<class> and test/<class>.")
    parser.add_argument("--output", type=str, required=True, help="new folder for the clips")
    parser.add_class_arguments(DrawConfig)
    options = _parse(parser, words)
    draw(Path(options.output), _fill(DrawConfig, options))
    return 0


def _doctor(words: Sequence[str]) -> int:
    from dualpath.doctor import examine, render

    parser = _parser("doctor", "What is installed, which devices and decoders work, what is missing.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = _parse(parser, words)
    findings = examine()
    print(json.dumps(findings, indent=2) if options.json else render(findings))
    return 0


VERBS: dict[str, Callable[[Sequence[str]], Any]] = {
    "train": _train,
    "baseline": _baseline,
    "evaluate": _evaluate,
    "predict": _predict,
    "features": _features,
    "explain": _explain,
    "worth": _worth,
    "report": _report,
    "info": _info,
    "compare": _compare,
    "bench": _bench,
    "convert": _convert,
    "data": _data,
    "demo": _demo,
    "draw": _draw,
    "doctor": _doctor,
}

if __name__ == "__main__":
    sys.exit(main())
