"""What a weight file cannot hold: how its tensors are computed with.

The activation, the number of heads and the LayerNorms' epsilon are no tensors. Where the format or the configuration
beside the file tells them, they are compared with the timm model's: wrong ones would give other features, silently.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from timm.layers.activations import GELUTanh, QuickGELU
from timm.models._registry import is_model
from torch import Tensor, nn

from dualpath.errors import DualPathError, number_of
from dualpath.nn.formats import CLIP, DINOV2, DINOV3, OPENCLIP, VIT, Format, is_openais

# What transformers computes with where its config.json says nothing: by model_type, activation and epsilon.
_DEFAULTS = {
    "clip": ("quick_gelu", 1e-5),
    "clip_vision_model": ("quick_gelu", 1e-5),
    "siglip": ("gelu_pytorch_tanh", 1e-6),
    "siglip_vision_model": ("gelu_pytorch_tanh", 1e-6),
    "siglip2": ("gelu_pytorch_tanh", 1e-6),
    "siglip2_vision_model": ("gelu_pytorch_tanh", 1e-6),
    "dinov2": ("gelu", 1e-6),
    "dinov2_with_registers": ("gelu", 1e-6),
    "dinov3_vit": ("gelu", 1e-5),
    "vit": ("gelu", 1e-12),
}
_GELUS = {"gelu": "gelu", "gelu_python": "gelu"} | dict.fromkeys(
    ("gelu_pytorch_tanh", "gelu_python_tanh", "gelu_new", "gelu_fast", "gelu_accurate"), "gelu_pytorch_tanh"
)
"""transformers' many names of GELU and of the tanh that approximates it."""


@dataclass(frozen=True)
class Sidecar:
    """What is known of a file's model beside its tensors; None where nothing is.

    Attributes:
        source: who says so: a file's name, or the format's owner.
        act: the MLPs' activation, in transformers' words: quick_gelu, gelu, gelu_pytorch_tanh ...
        eps: of the LayerNorms.
        heads: of each attention.
    """

    source: str
    act: str | None = None
    eps: float | None = None
    heads: int | None = None


def find_sidecar(path: Path, state: dict[str, Tensor], *, of: Format | None, width: int) -> Sidecar | None:
    """What the format, or the configuration that its owner puts beside a file, tells about the file's model.

    Args:
        path: the weight file or its folder.
        state: its tensors under their own names.
        of: its format; None for those that tell nothing.
        width: of the model; a configuration of another width belongs to another file.

    Raises:
        DualPathError: a configuration that is none.
    """
    if of is OPENCLIP and is_openais(state):
        return Sidecar("OpenAI's CLIP", act="quick_gelu", eps=1e-5, heads=width // 64)
    if of not in (OPENCLIP, CLIP, DINOV2, DINOV3, VIT):
        return None
    file = (path if path.is_dir() else path.parent) / ("open_clip_config.json" if of is OPENCLIP else "config.json")
    if not file.is_file():
        return None
    try:
        card = json.loads(file.read_text())
        return _of_openclip(card["model_cfg"], width) if of is OPENCLIP else _of_transformers(card, width)
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise DualPathError(f"{file} is not the configuration of a model; mend it or move it away") from problem


def _of_openclip(card: dict[str, Any], width: int) -> Sidecar | None:
    vision = card["vision_cfg"]
    if vision.get("width", 768) != width:
        return None
    act = "quick_gelu" if card.get("quick_gelu") else "gelu"
    return Sidecar("open_clip_config.json", act=act, heads=width // vision.get("head_width", 64))


def _of_transformers(card: dict[str, Any], width: int) -> Sidecar | None:
    vision = card.get("vision_config", card)
    if vision.get("hidden_size", width) != width:
        return None
    act, eps = _DEFAULTS.get(vision.get("model_type", card.get("model_type")), (None, None))
    return Sidecar(
        "config.json",
        act=vision.get("hidden_act", act),
        eps=vision.get("layer_norm_eps", eps),
        heads=vision.get("num_attention_heads"),
    )


def compare(sidecar: Sidecar, model: nn.Module, *, path: Path, name: str) -> list[str]:
    """Refuses a timm model that would compute otherwise than the file's; what changes next to nothing is only said.

    Returns:
        What is to be said.

    Raises:
        DualPathError: another number of heads, or another activation.
    """
    vit: Any = model
    block, notes = vit.blocks[0], []
    heads = getattr(getattr(block, "attn", None), "num_heads", None)
    if sidecar.heads is not None and heads is not None and sidecar.heads != heads:
        raise DualPathError(
            f"{path} is not for {name}: by {sidecar.source} its attention has {number_of(sidecar.heads, 'head')}, not "
            f"{heads}; give a file of this architecture"
        )
    theirs, ours = _GELUS.get(sidecar.act or "", sidecar.act), _activation(block)
    if None not in (theirs, ours) and theirs != ours:
        if theirs not in _GELUS or ours not in _GELUS:
            raise DualPathError(
                f"{path} is not for {name}: by {sidecar.source} it computes with {sidecar.act}, this backbone with {ours}; "
                f"{_advice(name, act=str(theirs))}"
            )
        notes.append(f"by {sidecar.source} it computes with {sidecar.act}, {name} with {ours}: nearly the same")
    eps = getattr(getattr(block, "norm1", None), "eps", None)
    if sidecar.eps is not None and eps is not None and not math.isclose(sidecar.eps, eps, rel_tol=0.01):
        notes.append(f"by {sidecar.source} its LayerNorms have an epsilon of {sidecar.eps:g}, those of {name} {eps:g}")
    return notes


def _activation(block: Any) -> str | None:
    """Of a timm block's MLP, in transformers' words; None for those that are compared by their tensors (SwiGLU)."""
    match getattr(getattr(block, "mlp", None), "act", None):
        case QuickGELU():
            return "quick_gelu"
        case nn.GELU(approximate="none"):
            return "gelu"
        case nn.GELU() | GELUTanh():
            return "gelu_pytorch_tanh"
    return None


def _advice(name: str, *, act: str) -> str:
    """timm names its CLIP towers with and without QuickGELU alike but for one word."""
    base = name.split(".")[0]
    twin = base.replace("_clip_quickgelu_", "_clip_")
    if act == "quick_gelu":
        twin = twin.replace("_clip_", "_clip_quickgelu_")
    if twin != base and is_model(twin):
        return f"use the backbone {twin}"
    return f"choose a backbone that computes with {act}"
