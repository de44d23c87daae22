"""One method a file; this table is all that knows them by name."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Protocol

import torch
from torch import Tensor, nn

from dualpath.errors import DualPathError, check_type
from dualpath.methods.adaptformer import AdaptFormer, AdaptFormerConfig
from dualpath.methods.aim import Aim, AimConfig
from dualpath.methods.attentive_probe import AttentiveProbe, AttentiveProbeConfig
from dualpath.methods.base import MethodConfig, check_parts, last_layer
from dualpath.methods.bitfit import BitFit, BitFitConfig
from dualpath.methods.dualpath import DualPath
from dualpath.methods.dualpath_reference import DualPathReference, DualPathWithTable
from dualpath.methods.full_tuning import FullTuning, FullTuningConfig
from dualpath.methods.linear_probe import LinearProbe, LinearProbeConfig
from dualpath.methods.lora import LoRA, LoRAConfig
from dualpath.methods.options import DualPathConfig
from dualpath.methods.pro_tuning import PromptBlock, ProTuning, ProTuningConfig
from dualpath.methods.st_adapter import STAdapter, STAdapterConfig, STAdapterModel
from dualpath.methods.vpt import VPT, VPTConfig
from dualpath.nn.adapters import Adapter
from dualpath.nn.backbone import Backbone
from dualpath.nn.int8 import make_whole


class VideoModel(Protocol):
    """The one face of every method: a module whose `forward` takes uint8 (B,T,C,H,W) and gives logits (B,K).

    For type checkers alone: since Python 3.12 isinstance looks for a protocol's members where a module has no submodules.
    """

    backbone: Backbone
    config: MethodConfig

    def check_clip(self, num_frames: int) -> None:
        """Raises DualPathError if clips of so many frames do not suit."""
        ...

    def __call__(self, frames: Tensor) -> Tensor:
        """Clips to logits."""
        ...


@dataclass(frozen=True)
class Method:
    """What there is to know of a method.

    Attributes:
        model: its class.
        config: the dataclass of its options.
    """

    model: type[nn.Module]
    config: type[MethodConfig]


METHODS: dict[str, Method] = {
    "dualpath": Method(DualPath, DualPathConfig),
    "linear_probe": Method(LinearProbe, LinearProbeConfig),
    "attentive_probe": Method(AttentiveProbe, AttentiveProbeConfig),
    "full_tuning": Method(FullTuning, FullTuningConfig),
    "bitfit": Method(BitFit, BitFitConfig),
    "vpt": Method(VPT, VPTConfig),
    "lora": Method(LoRA, LoRAConfig),
    "adaptformer": Method(AdaptFormer, AdaptFormerConfig),
    "pro_tuning": Method(ProTuning, ProTuningConfig),
    "st_adapter": Method(STAdapterModel, STAdapterConfig),
    "aim": Method(Aim, AimConfig),
}
WITHIN_BLOCKS = (Adapter, STAdapter, PromptBlock)
"""What methods train within blocks: kept in fp32, computed in the type of the tokens."""


HEAD = "head"
"""Name of a model's part that makes logits of features; what else is trained makes the features."""


def find_method(name: str) -> Method:
    """The method of this name, or DualPathError naming those there are."""
    if not isinstance(name, str) or name not in METHODS:
        raise DualPathError(f"unknown method {name!r}; there are {', '.join(METHODS)}")
    return METHODS[name]


def build_model(
    method: str, backbone: Backbone, *, num_classes: int, config: MethodConfig | None = None, seed: int = 0
) -> nn.Module:
    """A fresh model of the named method; its trained weights are a pure function of `seed`."""
    found = find_method(method)
    check_parts(backbone, num_classes, config, found.config)
    check_type("seed", seed, Integral, "a whole number")
    if not -(2**63) <= seed < 2**64:
        raise DualPathError(f"seed is {seed}, but it must be within 64 bits; take a smaller one")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the CPU's alone: fork_rng puts no other one back
        config = config or found.config()
        return _class_for(found, config)(backbone, num_classes=num_classes, config=config)


def _class_for(method: Method, config: MethodConfig) -> type[nn.Module]:
    if not isinstance(config, DualPathConfig):
        return method.model
    if config.variant == "reference":
        return DualPathReference
    return DualPathWithTable if config.positions_used == "reference" else DualPath


def settle(model: nn.Module) -> None:
    """Stores the trained parts of blocks in the type in which they compute, for inference: the same numbers without casts.

    A training keeps them in fp32 and casts them at every step.
    """
    backbone = model.backbone
    assert isinstance(backbone, Backbone)
    for module in model.modules():
        if isinstance(module, WITHIN_BLOCKS):
            module.to(backbone.dtype)


def store_in_int8(model: nn.Module) -> None:
    """Turns the linear layers of the frozen blocks and of adapters to int8, for inference (nn/int8.py).

    Raises:
        DualPathError: the model is not on a CPU.
    """
    backbone = model.backbone
    assert isinstance(backbone, Backbone)
    backbone.store_in_int8()
    for module in model.modules():
        if isinstance(module, Adapter):
            make_whole(module)


def train_in_int8(model: nn.Module) -> None:
    """Turns the linear layers of the frozen blocks to int8, which then go forwards faster; what is trained stays as it is.

    Raises:
        DualPathError: the model is not on a CPU, or see `check_frozen`.
    """
    check_frozen(model)
    backbone = model.backbone
    assert isinstance(backbone, Backbone)
    backbone.store_in_int8()


def check_frozen(model: nn.Module) -> None:
    """Raises DualPathError if a model trains weights within its backbone's blocks, which int8 has none for."""
    backbone = model.backbone
    assert isinstance(backbone, Backbone)
    if any(value.requires_grad for value in backbone.parameters()):
        raise DualPathError(
            "precision int8 is for blocks that stay frozen, but this method trains weights within them; take bf16 or fp32"
        )


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """The trained tensors by name: what a checkpoint holds."""
    return {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}


def class_tensors(model: nn.Module) -> tuple[str, str]:
    """Names of those trained tensors that have a row for each class, in the order of the labels: (K, features) and (K,)."""
    last = last_layer(model)
    name = next(name for name, module in model.named_modules() if module is last)
    return f"{name}.weight", f"{name}.bias"


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """(trainable, all) parameters."""
    sizes = [(value.numel(), value.requires_grad) for value in model.parameters()]
    return sum(n for n, trained in sizes if trained), sum(n for n, _ in sizes)
