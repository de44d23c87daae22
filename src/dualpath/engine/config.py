"""All settings of a run, as dataclasses that check themselves; the command line's flags are made from them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from typing import Any, Literal

from dualpath.data.formats import FORMATS
from dualpath.data.manifest import HeldOutFold
from dualpath.errors import DualPathError
from dualpath.hardware import Precision
from dualpath.methods import MethodConfig, find_method
from dualpath.nn.zoo import BackboneConfig
from dualpath.settings import check_fields, check_workers
from dualpath.video.protocols import ViewsConfig
from dualpath.video.sampling import SamplingConfig
from dualpath.video.transforms import TransformConfig


@dataclass(frozen=True)
class DataConfig:
    """How the labels of a data set are read.

    Attributes:
        format: of the annotations; auto recognises it from the files.
        split: which official division into training and test: 1, 2 or 3 of HMDB51 and UCF101, by default 1.
    """

    format: str = "auto"
    split: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.format != "auto" and self.format not in FORMATS:
            raise DualPathError(f"unknown format {self.format!r}; there are auto, {', '.join(FORMATS)}")


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained.

    Attributes:
        epochs: passes over the training videos; by default 30, or as many as make `min_steps` steps if those are more.
        min_steps: least number of optimizer steps where `epochs` is not given, so that few videos are learnt from long enough.
        batch_size: clips that go through the model at once; on a processor in pieces, for the sake of memory.
        accumulate: batches whose gradients are added up for one step; the effective batch is their product.
        lr: one learning rate for all that is trained; by default each tensor has its own, measured on the first clips.
        base_lr: the same for an effective batch of 256, scaled to the effective batch.
        relative_lr: where rates are measured: how much a step may change what a trained part adds, as a share of what the
            frozen block beside it adds.
        head_relative_lr: the same for the classifier, as a share of its logits.
        weight_decay: AdamW's, on matrices only.
        warmup_epochs: epochs over which the learning rate rises from 0, by default a tenth of all steps; then a cosine takes
            it back to 0.
        clip_grad: largest norm of the gradient; 0 leaves it as it is.
        label_smoothing: share of the target spread over all classes.
        class_weights: balanced multiplies the loss of a clip by n / (k * count), for n training videos of k classes and count
            of its own class, so that rare classes weigh as much as frequent ones.
        class_sampling: balanced shows equally many clips of each class in an epoch, which has as many as before.
        val_fraction: share of the training videos kept for validation where the data has no split of its own.
        baseline: measure first what linear classifiers on frozen features reach.
        eval_every: epochs between validations, by default such that there are at most 30; the last epoch is always validated,
            0 validates never.
        workers: decoding processes; -1 chooses by the number of cores.
        seed: decides every random choice of the run.
        precision: auto, bf16 or fp32: how frozen weights are stored and the model computes; int8: the frozen blocks go
            forwards in whole numbers, on processors alone, and gradients come back through the weights that these stand for.
        gradient_checkpointing: compute each layer again in the backward pass instead of keeping what it computed: the same
            numbers, far less memory, about a third more time.
        check: full decodes every video before the training, quick opens it and decodes its first frame.
        max_bad_files: share of unreadable videos of any split, found before or during the training, that is left out and
            named (those of val count as wrong); above it, the run stops.
        save_every: seconds between two writings of the state that --resume continues from.
    """

    epochs: int | None = None
    min_steps: int = 300
    batch_size: int = 8
    accumulate: int = 1
    lr: float | None = None
    base_lr: float | None = None
    relative_lr: float = 0.05
    head_relative_lr: float = 0.1
    weight_decay: float = 0.05
    warmup_epochs: float | None = None
    clip_grad: float = 1.0
    label_smoothing: float = 0.1
    class_weights: Literal["balanced"] | None = None
    class_sampling: Literal["balanced"] | None = None
    val_fraction: float = 0.2
    baseline: bool = True
    eval_every: int | None = None
    workers: int = -1
    seed: int = 0
    precision: Precision = "auto"
    gradient_checkpointing: bool = False
    check: Literal["full", "quick"] = "full"
    max_bad_files: float = 0.01
    save_every: float = 60.0

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("epochs", "min_steps", "batch_size", "accumulate"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise DualPathError(f"{name} is {value}, but it must be at least 1")
        for name in ("base_lr", "weight_decay", "warmup_epochs", "clip_grad", "eval_every", "save_every", "seed"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise DualPathError(f"{name} is {value}, but it must be a number that is not negative")
        if not 0 <= self.max_bad_files <= 1:
            raise DualPathError(f"max_bad_files is {self.max_bad_files}, but it must be within 0 and 1")
        for name in ("label_smoothing", "val_fraction"):
            if not 0 <= getattr(self, name) < 1:
                raise DualPathError(f"{name} is {getattr(self, name)}, but it must be at least 0 and below 1")
        for name in ("lr", "relative_lr", "head_relative_lr"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise DualPathError(f"{name} is {value}, but it must be a number above 0")
        check_workers(self.workers)
        if self.class_weights and self.class_sampling:
            raise DualPathError("class_weights and class_sampling both make rare classes count more; give one of them")

    @property
    def peak_lr(self) -> float | None:
        """The learning rate after warm-up, if there is one for all that is trained; None where rates are measured."""
        if self.lr is not None or self.base_lr is None:
            return self.lr
        return self.base_lr * self.batch_size * self.accumulate / 256


_SAME_NUMBERS = ("workers", "save_every", "check", "max_bad_files", "gradient_checkpointing", "format", "baseline", "seconds")


@dataclass(frozen=True)
class RunConfig:
    """All settings of a run; recipes and the command line fill it in.

    Attributes:
        init_from: folder of a run or checkpoint whose trained tensors the run begins with, see `engine.warm_start`. No part
            of `settings`: a path may change, what lies there is compared by its hash.
        held_out: the fold of a cross-validation that is not learnt from, and is then `val`; None in an ordinary run.
    """

    method: str = "dualpath"
    options: MethodConfig | None = None
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    transform: TransformConfig = field(default_factory=TransformConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    training: TrainConfig = field(default_factory=TrainConfig)
    data: DataConfig = field(default_factory=DataConfig)
    init_from: str | None = None
    held_out: HeldOutFold | None = None

    def complete(self) -> RunConfig:
        """The same with the method's own options filled in.

        Raises:
            DualPathError: an unknown method, or clips of a length that does not suit it.
        """
        options = self.options or find_method(self.method).config()
        options.check_clip(self.sampling.num_frames)
        return replace(self, options=options)

    def settings(self) -> dict[str, Any]:
        """Every setting that decides the result, as one flat table for a run's records and for --resume."""
        flat: dict[str, Any] = {"method": self.method}
        parts = (self.options, self.backbone, self.sampling, self.transform, self.views, self.training, self.data)
        for part in (*parts, self.held_out):
            if part is not None and is_dataclass(part):
                flat |= asdict(part)
        # These change how fast the same numbers come and in how much memory, not the numbers. The format's own
        # outcome, the videos with their labels and splits, is compared by itself.
        told = {key: value for key, value in flat.items() if key not in _SAME_NUMBERS}
        return json.loads(json.dumps(told))  # as it is read back: lists, no tuples
