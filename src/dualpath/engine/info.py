"""What a method costs on a backbone: sizes, multiply-adds and memory, told without data or weights.

The figures do not depend on the machine that tells them: they are those of a training on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from dualpath.engine.config import RunConfig, TrainConfig
from dualpath.engine.plan import Plan, draft, make_plan
from dualpath.errors import DualPathError
from dualpath.methods import METHODS, MethodConfig
from dualpath.nn.zoo import BackboneConfig, frozen_dtype, random_backbone
from dualpath.settings import check_fields
from dualpath.video.protocols import ViewsConfig, describe_protocol
from dualpath.video.sampling import SamplingConfig


@dataclass(frozen=True)
class InfoConfig:
    """How the cost is told.

    Attributes:
        num_classes: outputs of the classifier.
        precision: bf16 or fp32: how frozen weights are stored and the model computes.
        gradient_checkpointing: layers are computed again in the backward pass.
    """

    num_classes: int = 400
    precision: Literal["bf16", "fp32"] = "bf16"
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        if self.num_classes < 2:
            raise DualPathError(f"num_classes is {self.num_classes}, but it must be at least 2")


@dataclass(frozen=True)
class Cost:
    """One method's figures, or why it has none.

    Attributes:
        method: its name.
        plan: the figures; None if the method refuses the backbone or the clips.
        problem: why; None if it does not.
    """

    method: str
    plan: Plan | None
    problem: str | None = None


@dataclass(frozen=True)
class Info:
    """What `dualpath info` tells.

    Attributes:
        backbone: name, size and patch in pixels, depth, width of its first and of its last layer, parameters.
        config: how it is told.
        sampling: of a clip; the cost depends on the number of its frames alone.
        views: of a video, whose scores are averaged.
        costs: one for each method asked for.
    """

    backbone: dict[str, Any]
    config: InfoConfig = field(default_factory=InfoConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    costs: Sequence[Cost] = ()

    @property
    def protocol(self) -> str:
        """For what a video costs "in all": "dense-16x4, 3x1 views"."""
        return describe_protocol(self.sampling, self.views)

    def as_json(self) -> dict[str, Any]:
        """Plain values: bytes, 1e9 multiply-adds, shares within 0 .. 1."""
        views = self.views.num_clips * self.views.num_crops
        methods: list[dict[str, Any]] = []
        for cost in self.costs:
            told: dict[str, Any] = {"method": cost.method}
            if cost.plan is None:
                told["problem"] = cost.problem
            else:
                plan = cost.plan
                told |= {"trainable": plan.trainable, "total": plan.total, "share": plan.trainable / plan.total}
                told |= {"gmacs_a_view": plan.gmacs, "gmacs": plan.gmacs * views, "gmacs_in_training": plan.train_gmacs}
                told |= {"bytes_a_clip": plan.clip_bytes, "bytes_fixed": plan.fixed_bytes}
            methods.append(told)
        return {
            "backbone": self.backbone,
            "protocol": self.protocol,
            "num_classes": self.config.num_classes,
            "precision": self.config.precision,
            "gradient_checkpointing": self.config.gradient_checkpointing,
            "methods": methods,
        }


def find_costs(
    method: str | None,
    options: MethodConfig | None,
    *,
    backbone: BackboneConfig,
    config: InfoConfig,
    sampling: SamplingConfig,
    views: ViewsConfig,
) -> Info:
    """The cost of one method, or of all with their default options.

    Args:
        method: a method's name; None for all.
        options: of that method.
        backbone: whose architecture is looked at; its weights are not.
        config: how it is told.
        sampling: for which clips.
        views: of a video.

    Raises:
        DualPathError: an unknown backbone, or one method that was asked for and refuses it.
    """
    dtype = frozen_dtype(config.precision, torch.device("cpu"))
    with torch.device("meta"):
        frozen = random_backbone(backbone, dtype=dtype)
    costs = []
    for name in METHODS if method is None else [method]:
        run = RunConfig(
            name,
            options,
            backbone=backbone,
            sampling=sampling,
            training=TrainConfig(gradient_checkpointing=config.gradient_checkpointing),
        )
        try:
            model = draft(run, num_classes=config.num_classes, dtype=dtype)
            costs.append(Cost(name, make_plan(model, num_frames=sampling.num_frames, fused=True)))
        except DualPathError as problem:
            if method is not None:
                raise
            costs.append(Cost(name, None, str(problem)))
    told = {
        "name": frozen.name,
        "size": frozen.size,
        "patch": frozen.patch,
        "depth": frozen.depth,
        "width": frozen.width,
        "final_width": frozen.final_width,
        "parameters": sum(value.numel() for value in frozen.parameters()),
    }
    return Info(told, config, sampling, views, tuple(costs))
