"""The verbs on the command line that tell what a model looks at: flags to functions, no logic of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from dualpath.terminal import in_line

KINDS_TOLD = """what a map tells, and on which backbones: relevance: what speaks for the class, gradient times attention through
all blocks; on all backbones (those that attend within windows, such as Swin: gradient times the last tokens); rollout: where
what is read came from, attention through all blocks, the same for every class; attention: what one block attends to, the same
for every class; these two on plain vision transformers only. Where a backbone reads no [CLS] token but pools all patches, the
mean over them, or the attention that pools them, stands in its place"""


def explain_verb(words: Sequence[str]) -> int:
    """Maps of where a prediction comes from, as files; gives the exit code."""
    from shlex import join

    from dualpath.engine.explain import check_kind, explain
    from dualpath.engine.predict import load
    from dualpath.files import check_new
    from dualpath.flags import Parser, fill
    from dualpath.report.maps.description import describe_paths, predicted_and_explained
    from dualpath.report.maps.explanation import FILES, write_explanation
    from dualpath.video.protocols import ViewsConfig

    parser = Parser(
        "explain",
        "Where each path looks: maps of a prediction on the frames of a video, as a contact sheet, a video and arrays.",
    )
    parser.add_argument("checkpoint", type=str, help="folder that `dualpath train` wrote, of a DualPath with any of its paths")
    parser.add_argument("video", type=str, help="video file, or folder of pictures")
    parser.add_argument("--output", type=str, required=True, metavar="DIR", help=f"new folder for {', '.join(FILES)}")
    parser.add_argument(
        "--class", type=str, metavar="NAME", help="the class to explain, for --kind relevance; by default the predicted one"
    )
    parser.add_argument("--kind", type=str, metavar="KIND", default="relevance", help=" ".join(KINDS_TOLD.split()))
    parser.add_argument(
        "--block", type=int, metavar="N", help="for --kind attention: which block, counted from 0; by default the last"
    )
    parser.add_argument(
        "--protocol",
        type=str,
        metavar="NAME",
        help="take the clip as dense-16x4, segment-8 .. do; by default as trained",
    )
    parser.add_class_arguments(ViewsConfig, skip={"num_clips", "num_crops"})
    parser.add_argument("--weights", type=str, default=None, help="local file with the backbone's weights")
    parser.add_argument("--precision", type=str, default="auto", help="auto, bf16, fp32 or int8")
    parser.add_argument("--json", action="store_true", help="print what is in explanation.json")
    options = parser.read(words)
    output = Path(options.output)
    check_new(output)  # told before anything is computed
    classifier = load(options.checkpoint, weights=options.weights, precision=options.precision, protocol=options.protocol)
    check_kind(classifier, kind=options.kind, block=options.block)
    found = explain(
        classifier,
        options.video,
        label=options["class"],
        kind=options.kind,
        block=options.block,
        views=fill(ViewsConfig, options),
    )
    if found.damage:
        print(f"warning: {in_line(options.video)} {found.damage}", file=sys.stderr)
    told = write_explanation(output, found, command=join(["dualpath", "explain", *words]))
    print(json.dumps(told, indent=2) if options.json else "\n".join([*predicted_and_explained(found), *describe_paths(found)]))
    print(f"{', '.join(FILES[:-1])} and {FILES[-1]} are in {output}", file=sys.stderr)
    return 0


def worth_verb(words: Sequence[str]) -> int:
    """Measures what the order of frames and each path are worth; gives the exit code."""
    from shlex import join

    from dualpath.engine.verbs import worth_data
    from dualpath.flags import Parser
    from dualpath.report.worth import worth_table, write_worth

    told = "Accuracy with frames in order, reversed, shuffled, one frame repeated, and with each path silenced."
    parser = Parser("worth", told)
    parser.add_judged(output="folder for worth.json, worth.csv, worth.md and worth.png")
    options = parser.read(words)
    worth, folder = worth_data(parser.judged(options))
    figures = write_worth(worth, folder, command=join(["dualpath", "worth", *words]))
    print(json.dumps(figures, indent=2) if options.json else worth_table(worth))
    print(f"worth.json, worth.csv, worth.md and worth.png are in {folder}", file=sys.stderr)
    return 0
