"""A learning rate for each trained tensor, measured on the first batch, so that one number suits any backbone.

    frames --frozen blocks--> how much each block adds to the stream     s
    frames --model----------> how large the inputs of trained layers are  E|x|
    both, weights ----------> rate = relative step x size / reach

**Why.** Adam moves every weight by about its learning rate, whatever the gradient is. The output of a layer with n inputs
then moves by up to rate x n E|x|, its reach. What that does depends on the size of what it is added to, and this differs a
hundredfold: a block of DINOv2-S adds 0.02 to 1.4 to its stream, first to last, one of CLIP or of our embedded backbone
about 0.5. A rate that suits the latter lets a fresh adapter drown the former within a few steps: the loss then never leaves
chance. So a step is measured as a share of what is there:

    a matrix that starts at zero     step x s / (n E|x|)       s: what the frozen block adds; 1 for the logits, always
    a matrix that does not           step x rms(W) / sqrt(n)   the same in the mean, W x being sqrt(n) rms(W) |x|
    a bias                           that of its matrix x E|x|, as it were a weight on an input of that size
    any other tensor                 step x rms, or x s where it starts at zero

These are rates, not factors in the model: what a checkpoint holds is the method as published.

    n inputs of a layer   b pictures   l tokens   d width
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from dualpath.methods import HEAD
from dualpath.methods.base import last_layer
from dualpath.nn.backbone import Backbone
from dualpath.nn.layer import Layer

MOST_CLIPS = 4
"""So many clips are measured on at most: sizes differ far less from clip to clip than from backbone to backbone."""
ALONE = 3.0
"""A classifier that nothing else has to keep pace with may go so many times faster (EXPERIMENTS.md)."""
TINY = 1e-12


def measure_rates(model: nn.Module, frames: UInt8[Tensor, "b t c h w"], *, step: float, head_step: float) -> dict[str, float]:
    """A learning rate for each trained tensor of a fresh model, by name.

    Args:
        model: whose weights are those that the training begins with; it is not changed.
        frames: of some training clips, on the model's device.
        step: how much one step may change what a trained part adds, as a share of what the frozen block there adds.
        head_step: the same for the classifier's logits and what leads to them.
    """
    backbone: Any = model.backbone
    assert isinstance(backbone, Backbone)
    was_training = model.training
    model.eval()
    with torch.no_grad(), backbone.computing():
        sizes = measure_blocks(backbone, frames[:, frames.shape[1] // 2])
        with _inputs_of(model) as inputs:
            model(frames)
    model.train(was_training)
    owners = _owners(model, sizes)
    trained = [name for name, value in model.named_parameters() if value.requires_grad]
    if all(name.startswith(f"{HEAD}.") for name in trained):
        head_step *= ALONE
    rates = {}
    for name, value in model.named_parameters():
        if value.requires_grad:
            layer, _, short = name.rpartition(".")
            owner = owners.get(layer, Owner(model, sizes.embedded))
            rates[name] = _rate(value, short, owner, inputs.get(layer, 1.0)) * (head_step if owner.head else step)
    return rates


@dataclass(frozen=True)
class Sizes:
    """Mean absolute values within the frozen backbone.

    Attributes:
        embedded: of the tokens that enter the first block.
        blocks: of what each block's attention and MLP add, in the mean; at least an equal share of what the whole stream
            ends with, for backbones whose blocks add next to nothing.
    """

    embedded: float
    blocks: tuple[float, ...]


def measure_blocks(backbone: Backbone, pictures: UInt8[Tensor, "b c h w"]) -> Sizes:
    """How large tokens are when they enter, and what each block adds to them."""
    added: list[float] = []
    streams: list[float] = []

    def step(layer: Layer, part: None, tokens: Float[Tensor, "b l d"]) -> Float[Tensor, "b l d"]:
        del part
        attended = layer.attend(layer.norm1(tokens))
        tokens = tokens + attended
        transformed = layer.transform(layer.norm2(tokens))
        tokens = tokens + transformed
        added.append((_mean_abs(attended) + _mean_abs(transformed)) / 2)
        streams.append(_mean_abs(tokens))
        return tokens

    tokens = backbone.embed(backbone.normalise(pictures))
    embedded = _mean_abs(tokens)
    backbone.walk(tokens, step)
    share = 1 / (2 * len(added))
    return Sizes(embedded, tuple(max(size, stream * share) for size, stream in zip(added, streams, strict=True)))


@dataclass(frozen=True)
class Owner:
    """The module that a trained tensor belongs to.

    Attributes:
        module: itself.
        size: of what its output is added to.
        head: it belongs to the classifier.
        last: its outputs are the logits.
    """

    module: nn.Module
    size: float
    head: bool = False
    last: bool = False


def _owners(model: nn.Module, sizes: Sizes) -> dict[str, Owner]:
    """The modules that may hold trained tensors, by name."""
    scale = getattr(model.config, "scale", 1.0)  # that a method multiplies its adapters' outputs with
    depth, last = len(sizes.blocks), last_layer(model)
    owners: dict[str, Owner] = {}
    for child_name, child in model.named_children():
        for name, module in child.named_modules(prefix=child_name):
            owners[name] = Owner(module, sizes.embedded, head=child_name == HEAD, last=module is last)
        if isinstance(child, nn.ModuleList) and depth - 1 <= len(child) <= depth:  # a part for each block
            for size, (number, part) in zip(sizes.blocks, child.named_children(), strict=False):
                for name, module in part.named_modules(prefix=f"{child_name}.{number}"):
                    owners[name] = Owner(module, size / scale)
    for name, module in model.named_modules():
        if hasattr(module, "lora_B"):  # PEFT's: it is added to W x, so the size of that counts
            lora: Any = module
            size = _rms(lora.base_layer.weight) * math.sqrt(lora.base_layer.in_features)
            owners[f"{name}.lora_B.default"] = Owner(lora.lora_B["default"], size / lora.scaling["default"])
    return owners


@contextmanager
def _inputs_of(model: nn.Module) -> Iterator[dict[str, float]]:
    """Mean absolute values of what goes into each trained layer, by the layer's name, in the last call inside."""
    inputs: dict[str, float] = {}
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | _ConvNd) and module.weight.requires_grad:
            handles.append(module.register_forward_pre_hook(partial(_note, inputs, name)))
    try:
        yield inputs
    finally:
        for handle in handles:
            handle.remove()


def _note(inputs: dict[str, float], name: str, module: nn.Module, args: tuple[Tensor, ...]) -> None:
    del module
    inputs[name] = _mean_abs(args[0])


def _rate(value: Tensor, short: str, owner: Owner, entering: float) -> float:
    """The learning rate of a tensor for a relative step of 1; `entering` is the mean absolute value of its layer's input."""
    weight = getattr(owner.module, "weight", None)
    if not isinstance(owner.module, nn.Linear | _ConvNd) or weight is None:
        if short == "bias" and weight is not None:  # of a norm, whose outputs are as large as its weights
            return _rms(weight)
        return _rms(value) or owner.size
    fan_in, own = weight[0].numel(), _rms(weight)
    if short == "bias" and not weight.requires_grad:  # all that is trained of its layer
        return own * math.sqrt(fan_in)
    if owner.last or own == 0:
        matrix = (1.0 if owner.last else owner.size) / (fan_in * max(entering, TINY))
    else:
        matrix = own / math.sqrt(fan_in)
    if short == "weight":
        return matrix
    return matrix * entering if entering else owner.size / fan_in  # zero behind a layer that starts at zero itself


def _mean_abs(tensor: Tensor) -> float:
    return float(tensor.float().abs().mean())


def _rms(tensor: Tensor) -> float:
    return float(tensor.detach().float().pow(2).mean().sqrt())
