"""Several models on one frozen backbone in one process: which backbone a checkpoint may take over instead of its own.

A model must not notice that another one uses its backbone. So the backbone has to be the very one that the checkpoint's
model would have built, nothing within it may be trained, and nothing within it may be what the checkpoint has trained.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from dualpath.errors import DualPathError
from dualpath.nn.backbone import Backbone
from dualpath.nn.zoo import BackboneConfig

_ADVICE = "load it without backbone=, with one of its own"


def check_shared(
    backbone: Backbone,
    *,
    folder: Path,
    wanted: BackboneConfig,
    stored: dict[str, Any],
    trained: Iterable[str],
    dtype: torch.dtype | None,
) -> None:
    """Raises DualPathError unless a checkpoint's model can be built on a backbone that another model uses.

    Args:
        backbone: in memory already.
        folder: the checkpoint's, for messages.
        wanted: its backbone.
        stored: what its adapter_config.json says.
        trained: names of its trained tensors.
        dtype: what its frozen weights are to be stored in; None for the backbone's own.
    """
    sha256, pictures = stored["backbone"]["sha256"], stored["preprocessing"]
    colours = [[float(value) for value in pictures[key]] for key in ("mean", "std")]
    own = [[float(value) for value in part] for part in (backbone.mean, backbone.std)]
    if any(value.requires_grad for value in backbone.parameters()):
        problem = f"some weights within the given {backbone.name} are trained"
    elif any(name.startswith("backbone.") for name in trained):
        problem = "the checkpoint has trained weights within its backbone"
    elif backbone.name != wanted.backbone or backbone.model_args != wanted.model_args:
        problem = (
            f"the given backbone is {_named(backbone.name, backbone.model_args)}, "
            f"the checkpoint wants {_named(wanted.backbone, wanted.model_args)}"
        )
    elif backbone.hash != sha256:
        problem = f"the given {backbone.name} has weights {backbone.hash[:12]}, the checkpoint wants {sha256[:12]}"
    elif backbone.size != pictures["size"]:
        problem = f"the given backbone takes {backbone.size} pixels, the checkpoint wants {pictures['size']}"
    elif own != colours:
        problem = f"the given backbone normalises pictures with {own}, the checkpoint with {colours}"
    elif dtype is not None and backbone.dtype != dtype:
        kinds = [str(kind).removeprefix("torch.") for kind in (backbone.dtype, dtype)]
        problem = f"the given backbone is stored in {kinds[0]}, but {kinds[1]} is asked for"
    else:
        return
    raise DualPathError(f"{folder} cannot share a backbone: {problem}; {_ADVICE}")


def _named(name: str, model_args: dict[str, Any]) -> str:
    return f"{name} with {model_args}" if model_args else name
