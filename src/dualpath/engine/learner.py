"""What a training step is: clips to a loss, gradients, one change of the trained weights. It knows no files.

    micro-batches --in pieces: forward, loss, backward each--> gradients, clipped --AdamW--> weights

`engine.loop` feeds it, `speed.ours` times it.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64, UInt8
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from dualpath.engine.config import TrainConfig
from dualpath.engine.pieces import in_pieces
from dualpath.engine.rates import MOST_CLIPS, measure_rates


class Micro(NamedTuple):
    """Clips of one forward pass: frames uint8 (B, T, C, H, W), labels int64 (B,), and what seeds its random numbers."""

    frames: UInt8[Tensor, "b t c h w"]
    labels: Int64[Tensor, " b"]
    seed: int


class NotFiniteError(Exception):
    """A loss or a gradient became infinite or no number.

    Attributes:
        what: "loss" or "gradient".
        clips: (micro-batch, place in it) of those clips whose losses did, or of all clips of the step.
    """

    def __init__(self, what: str, clips: Sequence[tuple[int, int]]) -> None:
        super().__init__(what)
        self.what, self.clips = what, tuple(clips)


class Learner:
    """A model and its optimizer on a device.

    Attributes:
        model: as given, on the device; only what requires a gradient is trained.
        optimizer: AdamW; its weight decay is on matrices only.
    """

    def __init__(
        self, model: nn.Module, training: TrainConfig, device: torch.device, *, class_weights: Sequence[float] | None = None
    ) -> None:
        """Makes the optimizer; where the settings name no learning rate, the first step measures one for each tensor.

        Args:
            model: to be trained.
            training: the settings.
            device: where it is.
            class_weights: what the loss of a clip of each class is multiplied by; all the same where there are none.
        """
        self._weights = None if class_weights is None else torch.tensor(class_weights, device=device)
        self.training, self.device, self.model = training, device, model
        self.rates: dict[str, float] | None = None
        self._fabric = Fabric(accelerator=device.type, devices=1, precision="32-true")
        self._fabric.launch()
        optimizer = torch.optim.AdamW(_groups(model, training), fused=True)
        self._wrapped, self._fabric_optimizer = self._fabric.setup(model, optimizer)
        self.optimizer: torch.optim.Optimizer = self._fabric_optimizer.optimizer

    def begin(self) -> None:
        """Makes the model ready to learn: whoever evaluated it in between may have changed how it computes."""
        backbone: Any = self.model.backbone
        # Fused attention is for inference where there is no GPU, see Backbone.fuse_attention.
        backbone.fuse_attention(self.device.type != "cpu")
        self._wrapped.train()

    def set_rates(self, rates: Mapping[str, float]) -> None:
        """Gives each trained tensor its peak learning rate, by its name."""
        self.rates = dict(rates)
        for group in self.optimizer.param_groups:
            group["peak"] = rates[group["name"]]

    def _measure(self, group: Sequence[Micro]) -> None:
        frames = next(micro.frames for micro in group if len(micro.labels))[:MOST_CLIPS].to(self.device)
        steps = {"step": self.training.relative_lr, "head_step": self.training.head_relative_lr}
        self.set_rates(measure_rates(self.model, frames, **steps))

    @property
    def lr(self) -> float:
        """The learning rate of the last step: the median of all trained tensors' where they have their own."""
        return statistics.median_high(group["lr"] for group in self.optimizer.param_groups)

    def step(self, group: Sequence[Micro], *, lr: Callable[[float], float]) -> float:
        """Learns from some micro-batches at once.

        Args:
            group: at least one clip in all.
            lr: what the schedule makes of a peak learning rate at this step.

        Returns:
            The mean loss of all clips.

        Raises:
            NotFiniteError: before any weight is changed.
        """
        if self.training.peak_lr is None and self.rates is None:
            self._measure(group)
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = lr(parameters["peak"])
        clips = sum(len(micro.labels) for micro in group)
        every: list[list[Tensor]] = [[] for _ in group]
        shares: list[Tensor] = []
        self._fabric_optimizer.zero_grad()
        for number, micro in enumerate(group):
            if len(micro.labels) == 0:
                continue
            torch.manual_seed(micro.seed)
            pieces = in_pieces(micro.frames, self.model, self.device)
            for frames, labels in zip(pieces, micro.labels.tensor_split(len(pieces)), strict=True):
                logits = self._wrapped(frames.to(self.device, non_blocking=True))
                losses = losses_of(logits, labels.to(self.device), smoothing=self.training.label_smoothing)
                if self._weights is not None:
                    losses = losses * self._weights[labels.to(self.device)]
                loss = losses.sum() / clips
                self._fabric.backward(loss)
                every[number].append(losses.detach())
                shares.append(loss.detach())
        total = sum(torch.stack(shares).tolist())  # a GPU is waited for here, once
        if not math.isfinite(total):
            finite = [torch.cat(losses).isfinite().tolist() if losses else [] for losses in every]
            raise NotFiniteError("loss", [(n, i) for n, row in enumerate(finite) for i, good in enumerate(row) if not good])
        largest = self.training.clip_grad or math.inf
        norm = nn.utils.clip_grad_norm_([p for p in self.model.parameters() if p.requires_grad], largest)
        if not torch.isfinite(norm):
            everything = [(number, place) for number, micro in enumerate(group) for place in range(len(micro.labels))]
            raise NotFiniteError("gradient", everything)
        self._fabric_optimizer.step()
        return total


def _groups(model: nn.Module, training: TrainConfig) -> list[dict[str, Any]]:
    """Trained tensors for the optimizer: matrices and others, each tensor by itself where it gets a rate of its own."""
    trained = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    decays = [training.weight_decay if value.ndim > 1 else 0.0 for _, value in trained]
    if training.peak_lr is None:
        return [
            {"params": [value], "lr": 0.0, "peak": 0.0, "weight_decay": decay, "name": name}
            for (name, value), decay in zip(trained, decays, strict=True)
        ]
    common = {"lr": training.peak_lr, "peak": training.peak_lr}
    return [
        {"params": [value for _, value in trained if (value.ndim > 1) == matrices], "weight_decay": decay, **common}
        for matrices, decay in ((True, training.weight_decay), (False, 0.0))
    ]


def losses_of(logits: Float[Tensor, "b k"], labels: Int64[Tensor, " b"], *, smoothing: float) -> Float[Tensor, " b"]:
    """Cross-entropy of each clip; `smoothing` is the share of the label that is spread over all classes."""
    return F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")


def balanced_weights(labels: Sequence[int], num_classes: int) -> list[float]:
    """For each class n / (k * count), so that all weigh the same in the loss, whose scale stays: n labels of k classes.

    A class without labels has the weight 0 and is not counted.
    """
    counts = Counter(labels)
    return [len(labels) / (len(counts) * counts[label]) if counts[label] else 0.0 for label in range(num_classes)]
