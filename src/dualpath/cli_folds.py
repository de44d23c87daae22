"""`dualpath train --folds N` on the command line: flags to functions, no logic of its own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING

from dualpath.errors import DualPathError

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from dualpath.engine.config import RunConfig
    from dualpath.flags import Parser

FOLDS = (
    "cross-validation: divide the training videos into N folds by group, train N models, and judge each on the fold that it "
    "did not learn from"
)
"""Help of --folds."""


def with_folds(parser: Parser, options: Namespace, config: RunConfig) -> RunConfig:
    """The settings of the first fold of a cross-validation; the same settings where none is wanted."""
    from dualpath.data.manifest import HeldOutFold

    if options.folds is None:
        return config
    held_out = HeldOutFold(options.folds, 1)
    if parser.was_given("val_fraction"):
        raise DualPathError(
            f"--folds {options.folds} and --val_fraction {options.val_fraction} are both given, but each fold is the "
            "validation of the run that does not learn from it; leave one of the two out"
        )
    # Nothing is chosen by accuracy: a `best` checkpoint would have been chosen on the very videos that it is judged on.
    training = config.training if parser.was_given("eval_every") else replace(config.training, eval_every=0)
    return replace(config, training=training, held_out=held_out)


def folds_verb(options: Namespace, config: RunConfig, words: Sequence[str]) -> int:
    """Cross-validates; gives the exit code."""
    from dualpath.engine.cross_validation import cross_validate
    from dualpath.report.cross_validation import JSON, PREDICTIONS, cross_validation_table, write_cross_validation

    output = Path(options.output)
    result = cross_validate(
        Path(options.data),
        output,
        replace(config, held_out=None),
        options.folds,
        resume=options.resume,
        checked=Path(options.checked) if options.checked else None,
    )
    write_cross_validation(result, output, command=join(["dualpath", "train", *(w for w in words if w != "--resume")]))
    print(cross_validation_table(result))
    print(f"{JSON}, {PREDICTIONS} and a run for each fold are in {output}", file=sys.stderr)
    return 0
