"""The verbs on the command line that tell what a model looks at: flags to functions, no logic of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path


def worth_verb(words: Sequence[str]) -> int:
    """Measures what the order of frames and each path are worth; gives the exit code."""
    from shlex import join

    from dualpath.engine.verbs import worth_data
    from dualpath.flags import Parser, fill
    from dualpath.report.worth import worth_table, write_worth
    from dualpath.video.protocols import ViewsConfig

    told = "Accuracy with frames in order, reversed, shuffled, one frame repeated, and with each path silenced."
    parser = Parser("worth", told)
    parser.add_judged(output="folder for worth.json, worth.csv, worth.md and worth.png")
    options = parser.read(words)
    worth, folder = worth_data(
        options.checkpoint,
        Path(options.data),
        split=options.split,
        format=options.format,
        output=Path(options.output) if options.output else None,
        weights=options.weights,
        precision=options.precision,
        protocol=options.protocol,
        views=fill(ViewsConfig, options),
        batch_size=options.batch_size,
        workers=options.workers,
        checked=Path(options.checked) if options.checked else None,
    )
    figures = write_worth(worth, folder, command=join(["dualpath", "worth", *words]))
    print(json.dumps(figures, indent=2) if options.json else worth_table(worth))
    print(f"worth.json, worth.csv, worth.md and worth.png are in {folder}", file=sys.stderr)
    return 0
