"""The verbs that look at unlabelled videos: flags to functions, no logic of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dualpath.errors import number_of
from dualpath.memory import uncollected
from dualpath.terminal import in_line

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from dualpath.engine.answers import Asked
    from dualpath.flags import Parser

VIDEOS = """video files, folders of videos, patterns such as "clips/*.mp4", lists (.txt with a path a line, .csv with a column
of paths and, for parts of videos, start and end), - for a list on standard input, URLs with --allow_urls"""


def predict_verb(words: Sequence[str]) -> int:
    """The best classes of videos, printed or as a file; gives the exit code: 1 if some, 2 if all cannot be read."""
    with uncollected():
        from dualpath.engine.answers import check_output, predict_files, write_answers
        from dualpath.report.predictions import prediction_table

    parser = _parser("predict", "The most likely classes of videos.")
    parser.add_argument(
        "--output",
        type=str,
        metavar="FILE",
        help="new file of the answers: .jsonl (a line a video), .csv (a row a video) or .json",
    )
    parser.add_argument("--top_k", type=int, default=5, help="classes to print")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.read(words)
    output = None if options.output is None else Path(options.output)
    if output is not None:
        check_output(output, (".jsonl", ".csv", ".json"), options.videos)
    answers = predict_files(_asked(options), top_k=options.top_k)
    if output is not None:
        write_answers(output, answers)
    good = [answer for answer in answers if not answer.problem]
    if options.json:
        print(json.dumps([answer.as_json() for answer in answers], indent=2))
    elif good and output is None:
        print(prediction_table(good))
    _warn([(answer.video, answer.damage) for answer in answers if answer.damage])
    return _end([answer.problem for answer in answers if answer.problem], good=len(good), output=output)


def features_verb(words: Sequence[str]) -> int:
    """The features of videos as a file; gives the exit code, as `predict_verb` does."""
    from dualpath.engine.answers import check_output, check_parquet, look_at, write_features

    parser = _parser("features", "The features of videos, from which a trained model makes its scores, as arrays.")
    parser.add_argument(
        "--output",
        type=str,
        required=True,
        metavar="FILE",
        help=".npz file, or .parquet with pyarrow: path, features and, with DualPath, spatial and temporal, a row a video",
    )
    options = parser.read(words)
    output = Path(options.output)
    check_output(output, (".npz", ".parquet"), options.videos)
    check_parquet(output)
    asked = _asked(options)
    classifier = asked.load()
    damaged: dict[int, str] = {}
    found = look_at(classifier, asked, classifier.encode_views, damaged)
    _warn([(found[index][0], damage) for index, damage in sorted(damaged.items())])
    good = [(name, row) for name, row in found if not isinstance(row, str)]
    if good:
        write_features(output, [name for name, _ in good], [row for _, row in good])
    return _end([row for _, row in found if isinstance(row, str)], good=len(good), output=output if good else None)


def _parser(verb: str, description: str) -> Parser:
    from dualpath.flags import PROTOCOL, Parser
    from dualpath.video.protocols import ViewsConfig

    parser = Parser(verb, description)
    parser.add_argument("checkpoint", type=str, help="folder that `dualpath train` wrote")
    parser.add_argument("videos", type=str, nargs="+", help=" ".join(VIDEOS.split()))
    parser.add_argument("--batch_size", type=int, default=8, help="videos that are computed together")
    parser.add_argument(
        "--workers", type=int, default=-1, help="decoding processes; 0 decodes in this one, -1 chooses: 0 for a few videos"
    )
    parser.add_argument("--allow_urls", action="store_true", help="fetch http and https URLs into a temporary folder first")
    parser.add_argument("--protocol", type=str, metavar="NAME", help=PROTOCOL)
    parser.add_names("views")
    parser.add_class_arguments(ViewsConfig)
    parser.add_argument("--weights", type=str, default=None, help="local file with the backbone's weights")
    parser.add_argument("--precision", type=str, default="auto", help="auto, bf16, fp32 or int8 (fastest)")
    parser.add_argument("--device", type=str, metavar="NAME", help="cpu, cuda, cuda:1 ..; by default the best one")
    return parser


def _asked(options: Namespace) -> Asked:
    from dualpath.engine.answers import Asked
    from dualpath.flags import fill
    from dualpath.video.protocols import ViewsConfig

    return Asked(
        options.checkpoint,
        options.videos,
        fill(ViewsConfig, options),
        weights=options.weights,
        precision=options.precision,
        protocol=options.protocol,
        device=options.device,
        batch_size=options.batch_size,
        workers=options.workers,
        allow_urls=options.allow_urls,
    )


def _warn(damaged: Sequence[tuple[str, str]]) -> None:
    for video, damage in damaged:
        print(f"warning: {in_line(video)} {damage}", file=sys.stderr)


def _end(problems: Sequence[str], *, good: int, output: Path | None) -> int:
    """Says what cannot be read, and where the rest is; gives the exit code."""
    for problem in problems:
        print(f"dualpath: {problem}", file=sys.stderr)
    if output is not None:
        bad = f", {len(problems)} could not be read" if problems else ""
        print(f"{output} holds {number_of(good, 'video')}{bad}", file=sys.stderr)
    return 0 if not problems else 1 if good else 2
