"""Training: one loop for all methods, on Lightning Fabric.

    prepare: data checked -> backbone, model -> plan told -> loop: step, log, state -> epoch: validate, last, best

A run's folder:
    run.json                     settings, data counts, versions
    log.jsonl, tensorboard/      one line a step, one an epoch
    training_state.safetensors   for --resume
    last/, best/                 checkpoints
"""

from __future__ import annotations

import json
import math
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from dualpath.data.loader import TrainBatch, TrainClips, train_loader
from dualpath.data.manifest import DataError, Manifest, Video, read_manifest
from dualpath.data.scan import count_frames, decode_all, scan, too_short
from dualpath.engine.checkpoint import ModelSpec, save_checkpoint, versions
from dualpath.engine.device import Precision, frozen_dtype, pick_device
from dualpath.engine.evaluate import describe_views, evaluate
from dualpath.engine.log import Log
from dualpath.engine.plan import describe, make_plan
from dualpath.engine.predict import VideoClassifier, ViewsConfig
from dualpath.engine.progress import Bar
from dualpath.engine.state import STATE, Position, load_state, save_state
from dualpath.errors import DualPathError
from dualpath.files import write_whole
from dualpath.methods import MethodConfig, build_model, find_method
from dualpath.nn.backbone import BackboneConfig, load_backbone
from dualpath.video.sampling import SamplingConfig
from dualpath.video.transforms import TransformConfig


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained.

    Attributes:
        epochs: passes over the training videos.
        batch_size: clips that go through the model at once.
        accumulate: batches whose gradients are added up for one step; the effective batch is their product.
        base_lr: learning rate for an effective batch of 256; the one used is scaled to the effective batch.
        lr: learning rate as it is, instead of base_lr.
        weight_decay: AdamW's, on matrices only.
        warmup_epochs: epochs over which the learning rate rises from 0; then a cosine takes it back to 0.
        clip_grad: largest norm of the gradient; 0 leaves it as it is.
        label_smoothing: share of the target spread over all classes.
        val_fraction: share of the training videos kept for validation where the data has no split of its own.
        eval_every: epochs between validations; the last epoch is always validated, 0 validates never.
        workers: decoding processes; -1 chooses by the number of cores.
        seed: decides every random choice of the run.
        precision: auto, bf16 or fp32: how frozen weights are stored and the model computes.
        check: full decodes every video before the training, quick opens it and decodes its first frame.
        max_bad_files: share of unreadable videos that is left out and named; above it, nothing is trained.
        save_every: seconds between two writings of the state that --resume continues from.
    """

    epochs: int = 30
    batch_size: int = 16
    accumulate: int = 1
    base_lr: float = 8e-3
    lr: float | None = None
    weight_decay: float = 0.05
    warmup_epochs: float = 1.0
    clip_grad: float = 1.0
    label_smoothing: float = 0.1
    val_fraction: float = 0.2
    eval_every: int = 1
    workers: int = -1
    seed: int = 0
    precision: Precision = "auto"
    check: Literal["full", "quick"] = "full"
    max_bad_files: float = 0.0
    save_every: float = 60.0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate"):
            if getattr(self, name) < 1:
                raise DualPathError(f"{name} is {getattr(self, name)}, but it must be at least 1")
        for name in ("base_lr", "weight_decay", "warmup_epochs", "clip_grad", "eval_every", "save_every", "seed"):
            if getattr(self, name) < 0:
                raise DualPathError(f"{name} is {getattr(self, name)}, but it must not be negative")
        for name in ("label_smoothing", "max_bad_files"):
            if not 0 <= getattr(self, name) <= 1:
                raise DualPathError(f"{name} is {getattr(self, name)}, but it must be within 0 and 1")
        if self.lr is not None and self.lr <= 0:
            raise DualPathError(f"lr is {self.lr}, but it must be above 0")

    @property
    def peak_lr(self) -> float:
        """The learning rate after warm-up."""
        return self.base_lr * self.batch_size * self.accumulate / 256 if self.lr is None else self.lr


@dataclass(frozen=True)
class RunConfig:
    """All settings of a run; recipes and the command line fill it in."""

    method: str = "dualpath"
    options: MethodConfig | None = None
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    transform: TransformConfig = field(default_factory=TransformConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    training: TrainConfig = field(default_factory=TrainConfig)

    def settings(self) -> dict[str, Any]:
        """Every setting that decides the result, as one flat table for a run's records and for --resume."""
        flat: dict[str, Any] = {"method": self.method}
        for part in (self.options, self.backbone, self.sampling, self.transform, self.views, self.training):
            if part is not None and is_dataclass(part):
                flat |= asdict(part)
        # These change how fast the same numbers come, not the numbers.
        return {key: value for key, value in flat.items() if key not in ("workers", "save_every", "check")}


class Interrupted(Exception):
    """The run was asked to stop (Ctrl-C, SIGTERM) and has left its state behind."""

    def __init__(self, signum: int, folder: Path, step: int) -> None:
        name = signal.Signals(signum).name
        super().__init__(f"stopped by {name} after step {step}; its state is in {folder}, --resume continues it")
        self.signum = signum


def train(data: Path, output: Path, config: RunConfig, *, resume: bool = False) -> dict[str, Any]:
    """Trains a model on a data set and leaves its checkpoints in `output`.

    Args:
        data: folder or CSV file, see `dualpath.data.manifest.read_manifest`.
        output: the run's folder; it must not hold another run, unless `resume`.
        config: all settings.
        resume: continue the run in `output`; its settings must be the same.

    Returns:
        The last epoch's figures, as in log.jsonl.

    Raises:
        DualPathError: anything given cannot be used.
        Interrupted: a signal stopped it; --resume continues.
    """
    _check_output(output, resume=resume)
    config = replace(config, options=config.options or find_method(config.method).config())
    training = config.training
    manifest = _usable(read_manifest(data, val_fraction=training.val_fraction, seed=training.seed), config)
    device = pick_device()
    backbone = load_backbone(config.backbone, dtype=frozen_dtype(training.precision, device))
    model = build_model(config.method, backbone, num_classes=len(manifest.classes), config=config.options, seed=training.seed)
    model.check_clip(config.sampling.num_frames)  # pyright: ignore[reportCallIssue]
    run = _Run(output, config, manifest, model, device, resume=resume)
    return run.go()


def _check_output(output: Path, *, resume: bool) -> None:
    if output.exists() and not output.is_dir():
        raise DualPathError(f"the output {output} is a file; give a folder")
    held = sorted(p.name for p in output.iterdir()) if output.is_dir() else []
    if resume and STATE not in held:
        raise DualPathError(f"nothing to resume in {output}: it holds no {STATE}; start without --resume")
    if held and not resume:
        what = "another run" if "run.json" in held or STATE in held else f"other files ({held[0]} ...)"
        raise DualPathError(f"the output folder {output} holds {what}; give a new folder, or --resume to continue a run")


def _usable(manifest: Manifest, config: RunConfig) -> Manifest:
    """Reads every video; gives the manifest with frame counts and without the unreadable, or tells all of them."""
    training = config.training
    count = decode_all if training.check == "full" else count_frames
    workers = default_workers(training.workers)
    with Bar("checking videos", total=len(manifest.videos)) as bar:
        result = scan(manifest.videos, workers=max(1, workers), progress=bar.tell, count=count)
    if result.bad:
        problems = [f"{bad.video.name} {bad.reason}" for bad in result.bad]
        if len(result.bad) > training.max_bad_files * len(manifest.videos):
            raise DataError(
                manifest.root,
                [*problems, f"{len(result.bad)} of {len(manifest.videos)} videos cannot be used; remove or replace them, "
                 f"or leave them out with --max_bad_files {math.ceil(100 * len(result.bad) / len(manifest.videos)) / 100}"],
            )  # fmt: skip
        print(f"left out {len(result.bad)} unreadable videos:", *problems, sep="\n  ", file=sys.stderr)
    short = too_short(result.videos, config.sampling.num_frames)
    if short:
        print(
            f"{len(short)} videos have fewer than {config.sampling.num_frames} frames ({short[0].name}: "
            f"{short[0].num_frames}): their last frame is repeated",
            file=sys.stderr,
        )
    usable = replace(manifest, videos=result.videos)
    without = [name for label, name in enumerate(usable.classes) if not any(v.label == label for v in usable.split("train"))]
    if without:
        raise DataError(manifest.root, [f"class '{name}' has no readable training video" for name in without])
    return usable


def default_workers(workers: int) -> int:
    """-1 becomes a number that suits the machine: the cores, less those that the model itself computes on."""
    if workers >= 0:
        return workers
    cores = torch.get_num_threads()
    return min(8, cores - 1 if torch.cuda.is_available() else max(1, cores // 2))


def learning_rate(step: int, *, peak: float, warmup: int, total: int) -> float:
    """Linear warm-up from peak / warmup, then a cosine to 0 at `total`; `step` counts from 0."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


class _Run:
    """One training run: what its steps share."""

    def __init__(
        self,
        output: Path,
        config: RunConfig,
        manifest: Manifest,
        model: nn.Module,
        device: torch.device,
        *,
        resume: bool,
    ) -> None:
        self.output, self.config, self.manifest = output, config, manifest
        self.training = config.training
        self.workers = default_workers(self.training.workers)
        self.videos: Sequence[Video] = manifest.split("train")
        self.batches_an_epoch = math.ceil(len(self.videos) / self.training.batch_size)
        self.steps_an_epoch = math.ceil(self.batches_an_epoch / self.training.accumulate)
        self.total_steps = self.steps_an_epoch * self.training.epochs
        self.fabric = Fabric(accelerator=device.type, devices=1, precision="32-true")
        self.fabric.launch()
        trained = [p for p in model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": self.training.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.training.peak_lr)
        self.plan = make_plan(model.to(device), num_frames=config.sampling.num_frames)
        self.inner, self.device = model, device
        self.model, self.optimizer = self.fabric.setup(model, optimizer)
        self.settings = json.dumps(config.settings() | {"videos": len(manifest.videos), "classes": list(manifest.classes)})
        self.position = load_state(output, model, self.optimizer.optimizer, self.settings) if resume else Position()
        self.last_saved = time.monotonic()
        self.stop_signal: int | None = None

    def spec(self, results: dict[str, Any]) -> ModelSpec:
        """The checkpoint's description."""
        told = {"epochs": self.training.epochs, "batch": self.training.batch_size * self.training.accumulate}
        told |= {
            "learning rate": self.training.peak_lr,
            "seed": self.training.seed,
            "training videos": len(self.videos),
        }
        return ModelSpec(
            method=self.config.method,
            options=self.config.options or find_method(self.config.method).config(),
            backbone=self.config.backbone,
            classes=self.manifest.classes,
            sampling=self.config.sampling,
            split_seed=self.training.seed,
            val_fraction=self.training.val_fraction,
            training=told | results,
        )

    def go(self) -> dict[str, Any]:
        """Tells the plan, runs the loop, returns the last epoch's figures."""
        if self.position.epoch >= self.training.epochs:
            raise DualPathError(f"the run in {self.output} is complete ({self.training.epochs} epochs); nothing to resume")
        self._tell_plan()
        log = Log(self.output, after_step=self.position.step)
        results: dict[str, Any] = {}
        try:
            with self._signals(), Bar("training", total=self.total_steps, done=self.position.step) as bar:
                for loss in self._steps():
                    self._after_step(loss, log, bar)
                    if self.position.batch == 0:
                        results = self._end_epoch(log)
                    self._save_if_due()
        finally:
            log.close()
        return results

    def _tell_plan(self) -> None:
        counts = [(split, len(self.manifest.split(split))) for split in ("train", "val", "test")]
        protocol = describe_views(self.config.sampling.num_frames, ViewsConfig())
        text = describe(
            self.plan,
            method=self.config.method,
            backbone=self.inner.backbone,  # pyright: ignore[reportArgumentType]
            counts=counts,
            num_classes=len(self.manifest.classes),
            protocol=protocol,
            batch_size=self.training.batch_size,
            accumulate=self.training.accumulate,
            lr=self.training.peak_lr,
            epochs=self.training.epochs,
            steps=self.total_steps,
            device=self.device,
        )
        print(text, file=sys.stderr)
        if self.position.step:
            print(f"resuming    after step {self.position.step} of {self.total_steps}", file=sys.stderr)
        record = {
            "command": sys.argv,
            "settings": self.config.settings(),
            "data": {"root": str(self.manifest.root), "counts": self.manifest.counts()},
            "plan": asdict(self.plan) | {"protocol": protocol},
            "versions": versions(),
        }
        write_whole(self.output / "run.json", json.dumps(record, indent=2, default=str) + "\n")

    def _steps(self) -> Iterator[float]:
        """Makes one optimizer step after another, advances `position` and yields each step's mean loss."""
        dataset = TrainClips(
            self.videos,
            sampling=self.config.sampling,
            transform=self.config.transform,
            size=self.inner.backbone.size,  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]
            flip=self.config.transform.flips(self.manifest.classes),
            seed=self.training.seed,
        )
        batches = iter(
            train_loader(
                dataset,
                batch_size=self.training.batch_size,
                num_epochs=self.training.epochs,
                first_epoch=self.position.epoch,
                first_batch=self.position.batch,
                workers=self.workers,
                pin_memory=self.device.type == "cuda",
            )
        )
        backbone = self.inner.backbone
        while self.position.epoch < self.training.epochs:
            left = self.batches_an_epoch - self.position.batch
            group = [next(batches) for _ in range(min(self.training.accumulate, left))]
            # Validation may have come between: fused attention is for inference (see Backbone.fuse_attention).
            backbone.fuse_attention(self.device.type != "cpu")  # pyright: ignore[reportCallIssue]
            self.model.train()
            began = time.monotonic()
            loss = self._step(group)
            used = self.position.batch + len(group)
            ended = used == self.batches_an_epoch
            self.position = replace(
                self.position,
                step=self.position.step + 1,
                epoch=self.position.epoch + ended,
                batch=0 if ended else used,
                seconds=self.position.seconds + time.monotonic() - began,
            )
            yield loss

    def _step(self, group: Sequence[TrainBatch]) -> float:
        warmup = round(self.training.warmup_epochs * self.steps_an_epoch)
        lr = learning_rate(self.position.step, peak=self.training.peak_lr, warmup=warmup, total=self.total_steps)
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = lr
        clips = sum(len(batch.labels) for batch in group)
        total = 0.0
        # What a method draws while it trains (dropout) depends on the step alone.
        torch.manual_seed(self.training.seed * 1_000_003 + self.position.step)
        self.optimizer.zero_grad()
        for batch in group:
            logits = self.model(batch.frames.to(self.device, non_blocking=True))
            losses = _losses(logits, batch.labels.to(self.device), smoothing=self.training.label_smoothing)
            self._check_finite(losses, batch)
            loss = losses.sum() / clips
            self.fabric.backward(loss)
            total += loss.item()
        if self.training.clip_grad:
            self.fabric.clip_gradients(self.model, self.optimizer, max_norm=self.training.clip_grad, error_if_nonfinite=False)
        self.optimizer.step()
        return total

    def _check_finite(self, losses: Tensor, batch: TrainBatch) -> None:
        finite = torch.isfinite(losses.detach()).cpu()
        if finite.all():
            return
        save_state(self.output, self.inner, self.optimizer.optimizer, self.position, self.settings)
        names = [self.videos[index].name for index in batch.indices[~finite].tolist()]
        raise DualPathError(
            f"the loss of step {self.position.step + 1} is not finite for {', '.join(names)}; look at these videos, lower "
            f"the learning rate ({self.training.peak_lr:.3g}) or use --precision fp32; the state before that step is kept"
        )

    def _after_step(self, loss: float, log: Log, bar: Bar) -> None:
        size = min(self.training.batch_size * self.training.accumulate, len(self.videos))
        speed = log.step(self.position, loss=loss, lr=self.optimizer.param_groups[0]["lr"], clips=size,
                         steps_an_epoch=self.steps_an_epoch)  # fmt: skip
        frames = speed * self.config.sampling.num_frames
        lr = self.optimizer.param_groups[0]["lr"]
        bar.update(
            self.position.step,
            f"epoch {1 + (self.position.step - 1) // self.steps_an_epoch}/{self.training.epochs} loss {loss:.3f} "
            f"lr {lr:.2e} {speed:.1f} clips/s {frames:.0f} decoded frames/s",
        )
        if self.stop_signal is not None:
            save_state(self.output, self.inner, self.optimizer.optimizer, self.position, self.settings)
            save_checkpoint(self.output / "last", self.inner, self.spec({"epoch": self.position.epoch}))
            raise Interrupted(self.stop_signal, self.output, self.position.step)

    def _end_epoch(self, log: Log) -> dict[str, Any]:
        """Validates, writes last and maybe best, logs the epoch."""
        done = self.position.epoch
        results: dict[str, Any] = {"epoch": done}
        val, every = self.manifest.split("val"), self.training.eval_every
        due = bool(val) and every > 0 and (done % every == 0 or done == self.training.epochs)
        if due:
            classifier = VideoClassifier(self.inner, self.spec({}), device=self.device)
            found = evaluate(
                classifier, val, views=self.config.views, batch_size=self.training.batch_size, workers=self.workers
            )
            results |= {"val_top1": found.top(1), "val_mean_class_accuracy": found.summary()["mean_class_accuracy"],
                        "val_protocol": found.protocol}  # fmt: skip
        save_checkpoint(self.output / "last", self.inner, self.spec(results))
        if due and results["val_top1"] >= self.position.best:  # the later of two equals has seen more
            self.position = replace(self.position, best=results["val_top1"])
            save_checkpoint(self.output / "best", self.inner, self.spec(results))
        log.epoch(self.position, results)
        save_state(self.output, self.inner, self.optimizer.optimizer, self.position, self.settings)
        self.last_saved = time.monotonic()
        return results

    def _save_if_due(self) -> None:
        if time.monotonic() - self.last_saved >= self.training.save_every:
            save_state(self.output, self.inner, self.optimizer.optimizer, self.position, self.settings)
            self.last_saved = time.monotonic()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """While training, Ctrl-C and SIGTERM only ask: the step in hand is finished and its state written."""

        def ask(signum: int, frame: FrameType | None) -> None:
            del frame
            if self.stop_signal is not None:  # asked twice: at once
                raise KeyboardInterrupt
            self.stop_signal = signum

        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _losses(logits: Tensor, labels: Tensor, *, smoothing: float) -> Tensor:
    return F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
