"""Backbones by name: which architecture, and where its weights come from (the package, a local file, the hub)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from timm.models._factory import create_model
from timm.models._registry import get_pretrained_cfg, is_model
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from dualpath.errors import DualPathError, check_type
from dualpath.hardware import Precision, has_bf16
from dualpath.nn import native
from dualpath.nn.backbone import Backbone
from dualpath.nn.families import family_of, take_apart
from dualpath.nn.hub import hub_or_cache
from dualpath.nn.meta import outlined
from dualpath.nn.weights import load_weights
from dualpath.settings import MOST_LAYERS, MOST_PIXELS, WIDEST, check_fields

CLIP_VIT_B16 = "vit_base_patch16_clip_quickgelu_224.openai"
"""The paper's smaller backbone. OpenAI's weights were trained with QuickGELU, which timm's shorter name lacks."""

EMBEDDED = "stills_vit_tiny_patch16_128"
"""The small backbone that this package ships (nn/stills): needs no download."""

# The widths of CLIP's image projection. timm's CLIP towers carry it as their `head`, in the place where other
# models have an ImageNet classifier (1000, 11821, 21841 ... outputs), which is of no use here.
_PROJECTION_WIDTHS = (512, 640, 768, 896, 1024, 1280)


@dataclass(frozen=True)
class BackboneConfig:
    """Which frozen image transformer.

    Attributes:
        backbone: a timm model of the families VisionTransformer, Eva or SwinTransformer
            (vit_base_patch16_clip_quickgelu_224.openai, vit_base_patch16_dinov3.lvd1689m ...) or
            stills_vit_tiny_patch16_128, which the package ships.
        weights: a local file of weights of this architecture, in the format of timm, OpenCLIP, transformers or OpenAI's
            archive; by default the hub's (or the embedded) weights.
        image_size: side of the pictures in pixels, where it is not the pretrained one; positions are resampled.
        model_args: changes to the architecture, as timm.create_model takes them (depth, embed_dim ...); with weights of
            your own.
    """

    backbone: str = CLIP_VIT_B16
    weights: str | None = None
    image_size: int | None = None
    model_args: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self, image_size=MOST_PIXELS)
        for name, value in self.model_args.items():
            if isinstance(value, int) and not -WIDEST <= value <= (MOST_LAYERS if name == "depth" else WIDEST):
                raise DualPathError(f"model_args {name}={value} is beyond all use; give a number as models have it")
        if self.image_size is not None and self.image_size < 1:
            raise DualPathError(f"image_size {self.image_size} must be at least 1 pixel, in whole patches of the backbone")


def load_backbone(config: BackboneConfig | str, *, dtype: torch.dtype = torch.float32) -> Backbone:
    """Builds the backbone and loads its weights: embedded, from a local file or from the hub.

    Raises:
        DualPathError: unknown name, a family that cannot be adapted, a weight file that does not fit, no network.
    """
    check_type("config", config, (BackboneConfig, str), "a BackboneConfig, or the name of a backbone")
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise DualPathError(f"dtype is {dtype!r}, but it must be one of torch's for numbers, such as torch.bfloat16")
    config = BackboneConfig(config) if isinstance(config, str) else config
    if config.weights is None and config.backbone != EMBEDDED:
        if config.model_args:
            raise DualPathError(
                f"model_args {config.model_args} change the architecture of {config.backbone}, whose published weights do "
                "not fit then; give weights of your own with --weights FILE"
            )
        vit = _from_hub(config)
    else:
        vit = _empty(config)
        family_of(vit, name=config.backbone)
        path = config.weights or str(resources.files("dualpath.nn") / "stills" / "model.safetensors")
        load_weights(vit, Path(path), name=config.backbone)
    backbone = _named(vit, config)
    backbone.store_in(dtype)
    _own(vit)
    return backbone


def random_backbone(config: BackboneConfig | str, *, dtype: torch.dtype = torch.float32) -> Backbone:
    """The architecture with random weights from torch's generator: for plans, tests and speed."""
    config = BackboneConfig(config) if isinstance(config, str) else config
    backbone = _named(_create(config), config)
    _ = backbone.hash  # known before anybody changes these weights in place
    backbone.store_in(dtype)
    return backbone


def _named(vit: nn.Module, config: BackboneConfig) -> Backbone:
    """With the mean and the standard deviation that are kept beside the weights."""
    colours: Any = _embedded_card() if config.backbone == EMBEDDED else vit.pretrained_cfg
    backbone = take_apart(vit, name=config.backbone, mean=tuple(colours["mean"]), std=tuple(colours["std"]))
    backbone.model_args = dict(config.model_args)
    return backbone


def _embedded_card() -> dict[str, Any]:
    return json.loads((resources.files("dualpath.nn") / "stills" / "config.json").read_text())


def _create(config: BackboneConfig, *, pretrained: bool = False) -> nn.Module:
    """The architecture; a name or a change that does not fit is told in one sentence."""
    name = config.backbone
    changes: dict[str, Any] = dict(config.model_args)
    if config.image_size is not None:
        changes["img_size"] = config.image_size
    if name != EMBEDDED:
        changes.setdefault("num_classes", _outputs(name))
    try:
        if name == EMBEDDED:
            vit = VisionTransformer(**(_embedded_card()["architecture"] | changes))
        else:
            vit = create_model(name, pretrained=pretrained, **changes)
    except (TypeError, AssertionError, ValueError, ZeroDivisionError, RuntimeError) as problem:
        raise DualPathError(f"backbone {name} cannot be built with {changes} ({first_line(problem)}); change them") from problem
    patches = getattr(vit, "patch_embed", None)
    side, patch = getattr(patches, "img_size", None), getattr(patches, "patch_size", None)
    if config.image_size is not None and side and patch and side[0] % patch[0]:
        raise DualPathError(f"image_size {config.image_size} is no whole number of {name}'s patches of {patch[0]} pixels")
    return vit


def _empty(config: BackboneConfig) -> nn.Module:
    """The architecture for weights that are to come, without drawing some first: that takes longer than reading them."""
    with outlined():
        vit = _create(config)
    kept = vit.state_dict()
    # Tables that are computed and in no file: Swin's masks, Eva's rotations.
    computed = any(value.is_meta for name, value in vit.named_buffers() if name not in kept)
    return _create(config) if computed else vit


def _own(vit: nn.Module) -> None:
    """Copies weights that still lie in a mapped file, which may be written anew meanwhile, or in a larger tensor."""
    for value in (*vit.parameters(), *vit.buffers()):
        storage = value.untyped_storage()
        if not storage.resizable() or storage.nbytes() != value.numel() * value.element_size():
            value.data = value.data.clone()


def _outputs(name: str) -> int:
    if not is_model(name):
        import timm

        # With `imports.import_late` all architectures are there only now, and this may be one that is no family of ours.
        near = timm.list_models(f"*{name.split('.')[0]}*")[:3] or timm.list_models("vit_*clip*")[:3]
        if not is_model(name):
            raise DualPathError(
                f"unknown backbone {name!r}; there are {EMBEDDED}, and timm's image transformers such as "
                f"{CLIP_VIT_B16}, {', '.join(near)}"
            )
    try:
        cfg = get_pretrained_cfg(name)
    except RuntimeError as problem:
        raise DualPathError(f"unknown backbone {name!r}: {problem}; timm.list_pretrained() lists what there is") from problem
    return cfg.num_classes if cfg is not None and cfg.num_classes in _PROJECTION_WIDTHS else 0


def _from_hub(config: BackboneConfig) -> nn.Module:
    with outlined():  # a wrong name or family is told before anything is fetched
        family_of(_create(config), name=config.backbone)
    with hub_or_cache() as unreachable:
        try:
            return _create(config, pretrained=True)
        except Exception as problem:  # the hub client's own errors, httpx's, OSError, a missing url: one answer to all
            raise DualPathError(
                f"the weights of {config.backbone} could not be fetched ({unreachable or first_line(problem)}); "
                f"use --backbone {EMBEDDED}, which needs no download, or --weights FILE with a local file of the same "
                "architecture"
            ) from problem


def first_line(problem: BaseException) -> str:
    """The first line of an error of another library, cut to a sentence's length."""
    text = str(problem).strip().splitlines()
    return (text[0] if text else type(problem).__name__)[:160]


def frozen_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """What the frozen weights are stored in, by default bf16 where that is fast and else fp32; with int8, the other ones."""
    if precision == "fp32":
        return torch.float32
    if precision == "bf16":
        return torch.bfloat16
    if precision == "int8" and native.suits():
        return torch.float32  # what its layers take and give
    if precision in ("auto", "int8"):
        return torch.bfloat16 if has_bf16(device) else torch.float32
    raise DualPathError(f"unknown precision {precision!r}; there are auto, bf16, fp32 and int8")
