"""Training: one loop for all methods, on Lightning Fabric.

    prepare: data checked -> backbone, model -> plan told -> loop: step, log, state -> epoch: validate, last, best

A run's folder:
    run.json                     settings, data counts, skipped videos, versions
    videos.json                  frames of every video, as --resume takes them
    log.jsonl, tensorboard/      one line a step, one an epoch
    training_state.safetensors   for --resume
    last/, best/                 checkpoints
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from dualpath.data.checking.known import read_known
from dualpath.data.manifest import Manifest
from dualpath.data.scan import Taken
from dualpath.engine.baseline import read_in_order
from dualpath.engine.config import RunConfig, TrainConfig
from dualpath.engine.loop import Run, split_counts
from dualpath.engine.plan import describe, draft, make_plan
from dualpath.engine.prepare import check_run_folder, default_workers, read_data, usable
from dualpath.engine.schedule import make_schedule
from dualpath.engine.state import read_position
from dualpath.engine.warm_start import WarmStart, read_warm_start
from dualpath.errors import DualPathError, Interrupted
from dualpath.files import owns_output
from dualpath.hardware import pick_device
from dualpath.methods import build_model, train_in_int8
from dualpath.nn.zoo import frozen_dtype, load_backbone
from dualpath.settings import MOST
from dualpath.terminal import in_line

__all__ = ["Interrupted", "RunConfig", "TrainConfig", "default_workers", "preview", "train"]


@owns_output
def train(
    data: Path,
    output: Path,
    config: RunConfig,
    *,
    resume: bool = False,
    checked: Mapping[str, int | str | Taken] | Path | None = None,
    kept: Path | None = None,
) -> dict[str, Any]:
    """Trains a model on a data set and leaves its checkpoints in `output`.

    Args:
        data: folder or CSV file, see `dualpath.data.manifest.read_manifest`.
        output: the run's folder; it must not hold another run, unless `resume`.
        config: all settings.
        resume: continue the run in `output`; its settings must be the same, but it may have more epochs than before: then
            the learning rate follows the longer schedule from there on.
        checked: folder of a `dualpath data check`, whose quarantine is honoured and whose counts are taken; or by name
            the number of frames, of a bad video why it is bad, where another has read them.
        kept: folder of decoded training clips to be shared with other runs of the same seed, see `dualpath.data.kept`.

    Returns:
        The last epoch's figures, as in log.jsonl.

    Raises:
        DualPathError: anything given cannot be used.
        Interrupted: a signal stopped it; --resume continues.
    """
    device = pick_device()
    # Torch's generators are seeded on the way: afterwards they are as the caller had left them.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        # From cheap to dear: settings, folders and labels, the backbone, and only then every video.
        start = None if config.init_from is None else read_warm_start(config.init_from)
        config, training = read_in_order((start.complete(config) if start else config).complete()), config.training
        check_run_folder(output, config, resume=resume, start=start)
        if resume and training.epochs is None:  # as many as it has, however they were asked for
            training = replace(training, epochs=read_position(output)[0].epochs)
            config = replace(config, training=training)
        before = read_known(output) if resume else None
        manifest = read_data(data, config, before=before)
        classes, dtype = len(manifest.classes), frozen_dtype(training.precision, device)
        sketch = draft(config, num_classes=classes, dtype=dtype)
        plan = make_plan(sketch, num_frames=config.sampling.num_frames, fused=device.type != "cpu")
        backbone = load_backbone(config.backbone, dtype=dtype)
        backbone.gradient_checkpointing = training.gradient_checkpointing
        if start:
            start.check_backbone(backbone)
            backbone.normalise_with(start.mean, start.std)
        model = build_model(config.method, backbone, num_classes=classes, config=config.options, seed=training.seed)
        if start and not resume:
            start.load_into(model, manifest.classes)
            print(in_line(start.describe(manifest.classes)), file=sys.stderr)
        model = model.to(device)
        if training.precision == "int8":
            train_in_int8(model)
        found = usable(manifest, config, checked=checked, before=before)
        run = Run(output, config, found, model, plan, device, resume=resume, kept=kept, start=start)
        return run.go()


def preview(config: RunConfig, *, data: Path | None, num_classes: int | None) -> str:
    """What `train` would tell before it starts, from random weights: nothing is fetched, decoded or written.

    Args:
        config: all settings.
        data: folder or CSV file, whose labels are read; None where there is none yet.
        num_classes: instead of data; 400 by default.

    Raises:
        DualPathError: anything given cannot be used.
    """
    if num_classes is not None and num_classes > MOST:
        raise DualPathError(f"num_classes is {num_classes}, but it must be at most {MOST}")
    if num_classes is not None and (data is not None or num_classes < 2):
        raise DualPathError(
            f"num_classes is {num_classes}, but "
            + ("it must be at least 2" if data is None else f"the classes are counted in {data}; give one of the two")
        )
    start = None if config.init_from is None else read_warm_start(config.init_from)
    config = (start.complete(config) if start else config).complete()
    manifest = read_data(data, config, open_files=False) if data is not None else None
    classes = len(manifest.classes) if manifest is not None else num_classes or 400
    return plan_text(config, manifest, num_classes=classes, start=start)


def plan_text(config: RunConfig, manifest: Manifest | None, *, num_classes: int, start: WarmStart | None = None) -> str:
    """The plan of a run on labelled videos, None for none yet; the settings must be complete."""
    config = read_in_order(config)
    training, device = config.training, pick_device()
    model = draft(config, num_classes=num_classes, dtype=frozen_dtype(training.precision, device))
    if start:
        start.check_backbone(model.backbone)  # pyright: ignore[reportArgumentType]
    plan = make_plan(model, num_frames=config.sampling.num_frames, fused=device.type != "cpu")
    return describe(
        plan,
        config,
        backbone=model.backbone,  # pyright: ignore[reportArgumentType]
        counts=split_counts(manifest) if manifest is not None else (),
        listed=manifest.census_words() if manifest is not None else "",
        classes=manifest.classes if manifest is not None else (),
        num_classes=num_classes,
        schedule=make_schedule(len(manifest.split("train")), training) if manifest is not None else None,
        device=device,
    )
