"""What a training will do, counted on the model itself and told before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dualpath.engine.alive import most_alive
from dualpath.engine.config import RunConfig, TrainConfig
from dualpath.engine.pieces import biggest_piece, clips_at_once
from dualpath.engine.schedule import EPOCHS, Schedule
from dualpath.errors import number_of
from dualpath.methods import VideoModel, build_model, check_frozen, count_parameters
from dualpath.nn.backbone import Backbone
from dualpath.nn.meta import fused_attention
from dualpath.nn.zoo import random_backbone


@dataclass(frozen=True)
class Plan:
    """Figures of one model on clips of one length.

    Attributes:
        trainable, total: parameters.
        gmacs: multiply-adds of one view at inference, in 1e9 (one multiply-add counted once).
        train_gmacs: the same of one clip forwards in training, where a method may look at fewer frames.
        clip_bytes: the most that one clip in training needs at once, forward or backward.
        fixed_bytes: weights, their gradients and AdamW's two moments.
    """

    trainable: int
    total: int
    gmacs: float
    train_gmacs: float
    clip_bytes: int
    fixed_bytes: int

    def memory_gb(self, batch_size: int) -> float:
        """Estimated need of the model in training, in 1e9 bytes, without the program itself and its decoders."""
        return (self.fixed_bytes + self.clip_bytes * batch_size) / 1e9

    def parameters_line(self) -> str:
        """Trainable and total parameters in PEFT's wording."""
        return (
            f"trainable params: {self.trainable:,} || all params: {self.total:,} || "
            f"trainable%: {100 * self.trainable / self.total:.4f}"
        )


def draft(config: RunConfig, *, num_classes: int, dtype: torch.dtype) -> nn.Module:
    """The run's model on torch's meta device: shapes and types without values, so that any size takes but a moment.

    Raises:
        DualPathError: the settings do not fit one another.
    """
    config = config.complete()
    with torch.device("meta"):
        backbone = random_backbone(config.backbone, dtype=dtype)
        backbone.gradient_checkpointing = config.training.gradient_checkpointing
        model = build_model(config.method, backbone, num_classes=num_classes, config=config.options)
    if config.training.precision == "int8":
        check_frozen(model)
    return model


def make_plan(model: nn.Module, *, num_frames: int, fused: bool = False) -> Plan:
    """Sends one blank clip through the model and back and counts multiply-adds and bytes.

    Args:
        model: from `draft`, or a real one, whose gradients are cleared.
        num_frames: of a clip.
        fused: attention is trained with torch's fused kernels, which keep no scores: on a GPU.
    """
    video_model: VideoModel = model  # pyright: ignore[reportAssignmentType]
    backbone = video_model.backbone
    shape = (1, num_frames, 3, backbone.size, backbone.size)
    frames = torch.zeros(shape, dtype=torch.uint8, device=next(model.parameters()).device)
    backbone.fuse_attention(fused)
    with fused_attention():
        clip_bytes = _most_bytes(model, frames)
    backbone.fuse_attention(False)
    trainable, total = count_parameters(model)
    return Plan(
        trainable=trainable,
        total=total,
        gmacs=_gmacs(model, frames, training=False),
        train_gmacs=_gmacs(model, frames, training=True),
        clip_bytes=clip_bytes,
        fixed_bytes=sum(p.numel() * p.element_size() for p in model.parameters()) + trainable * 4 * 3,
    )


def _gmacs(model: nn.Module, frames: Tensor, *, training: bool) -> float:
    was_training = model.training
    model.train(training)
    # The counter knows no fused kernel of a CPU; without gradients there would be more of these.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(frames)
    model.train(was_training)
    return counter.get_total_flops() / 2e9


def _most_bytes(model: nn.Module, frames: Tensor) -> int:
    """The most that is alive at once, from the clip to the last gradient, beyond weights and gradients."""
    training = model.training
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)  # room for them is counted elsewhere
    with torch.no_grad():
        model(frames)  # what is made once and kept, such as codes of positions, is no part of a step
    most = most_alive(lambda: model(frames.clone()).sum().backward(), device=frames.device)
    model.train(training).zero_grad()
    return most


def describe(
    plan: Plan,
    config: RunConfig,
    *,
    backbone: Backbone,
    counts: Sequence[tuple[str, int]],
    num_classes: int,
    schedule: Schedule | None,
    device: torch.device,
    listed: str = "",
    classes: Sequence[str] = (),
) -> str:
    """The plan as lines of text; without `counts` (videos by split), `classes` and `schedule` where there are no videos yet.

    `listed` says how much of an official list is there.
    """
    training = config.training
    videos = ", ".join(f"{count} {split}" for split, count in counts if count)
    stored = "int8" if training.precision == "int8" else str(backbone.dtype).removeprefix("torch.")
    frozen = not any(value.requires_grad for value in backbone.vit.parameters())
    batch, micro = training.batch_size * training.accumulate, training.batch_size
    computed = ", layers computed again" if backbone.gradient_checkpointing else ""
    options = config.complete().options
    assert options is not None
    at_once = biggest_piece(micro, clips_at_once(backbone, options, config.sampling.num_frames, device))
    computed += f", {at_once} at a time" if at_once < micro else ""
    fewer = f", {plan.train_gmacs:.2f} in a training step" if plan.train_gmacs != plan.gmacs else ""
    told = f"about {plan.memory_gb(at_once):.2f} GB for the model ({plan.clip_bytes / 1e6:.0f} MB a clip{computed})"
    lines = [
        ("method", f"{config.method} on {backbone.name}, {backbone.size}x{backbone.size} pixels"),
        ("parameters", plan.parameters_line()),
        ("a view", f"{config.sampling.name}, {plan.gmacs:.2f} GMACs{fewer}"),
        ("data", f"{videos} videos of {num_classes} classes" if videos else f"{num_classes} classes, no videos given"),
        *([("listed", listed)] if listed else []),
        *([("fold", f"{config.held_out} is held out as val, the others are trained likewise")] if config.held_out else []),
        *([("flips", config.transform.describe_flips(classes))] if classes else []),
        ("batch", f"{number_of(batch, 'clip')} ({micro} x {training.accumulate} accumulated), {_rates(training)}"),
        ("length", _length(training, schedule)),
        ("memory", told),
        ("device", f"{device}, {'frozen ' if frozen else ''}weights in {stored}"),
    ]
    return "\n".join(f"{name:<11}{text}" for name, text in lines)


def _rates(training: TrainConfig) -> str:
    if training.peak_lr is not None:
        return f"learning rate {training.peak_lr:.3g}"
    return "learning rates measured on the first"


def _length(training: TrainConfig, schedule: Schedule | None) -> str:
    epochs = schedule.epochs if schedule else training.epochs or EPOCHS
    told = number_of(epochs, "epoch")
    if schedule is not None:
        return f"{told}, {number_of(schedule.steps, 'step')}, {schedule.warmup} of them warm-up"
    return told if training.epochs else f"{told}, at least {number_of(training.min_steps, 'step')}"
