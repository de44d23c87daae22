"""`dualpath baseline` on the command line: flags to functions, no logic of its own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

IDLE: set[str | int] = {
    *("epochs", "min_steps", "batch_size", "accumulate", "lr", "base_lr", "relative_lr", "head_relative_lr", "weight_decay"),
    *("warmup_epochs", "clip_grad", "label_smoothing", "baseline", "eval_every", "gradient_checkpointing", "save_every"),
}
"""Settings of a training that play no part."""


def baseline_verb(words: Sequence[str]) -> int:
    """Measures what frozen features reach on a data set; gives the exit code."""
    from dualpath.engine.baseline import FOLDER, baseline_data, describe_baseline
    from dualpath.engine.config import DataConfig, RunConfig, TrainConfig
    from dualpath.flags import CHECKED, Parser, check_given, fill
    from dualpath.nn.zoo import BackboneConfig
    from dualpath.video.protocols import ViewsConfig
    from dualpath.video.sampling import SamplingConfig

    told = "What linear classifiers on frozen features reach: an accuracy and a usable model within minutes."
    parser = Parser("baseline", told, words="DATA --output DIR")
    parser.add_argument("data", type=str, nargs="?", help="folder or list of videos, as for train")
    parser.add_argument("--output", type=str, metavar="DIR", help="new folder for the checkpoint and the figures")
    parser.add_argument("--checked", type=str, metavar="DIR", help=CHECKED)
    parser.add_names("protocol")
    for part in (DataConfig, BackboneConfig, SamplingConfig):
        parser.add_class_arguments(part)
    parser.add_class_arguments(ViewsConfig, skip={"num_clips", "num_crops"})
    parser.add_class_arguments(TrainConfig, skip=IDLE)
    options = parser.read(words)
    check_given("baseline", options)
    config = RunConfig(
        "linear_probe",
        backbone=fill(BackboneConfig, options),
        sampling=fill(SamplingConfig, options),
        views=fill(ViewsConfig, options),
        training=fill(TrainConfig, options),
        data=fill(DataConfig, options),
    )
    output = Path(options.output)
    results = baseline_data(Path(options.data), output, config, checked=Path(options.checked) if options.checked else None)
    print(describe_baseline(results))
    print(f"the better one is in {output / FOLDER}: dualpath predict {output / FOLDER} VIDEO", file=sys.stderr)
    return 0
