"""The library's own methods as candidates: what `dualpath predict` and `dualpath train` compute, on random clips.

Weights are random: no weight's value changes how long a product takes. Clips lie on the device as the loader leaves them,
uint8; reading videos is `dualpath data bench`'s business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dualpath.engine.config import RunConfig
from dualpath.engine.entries import make_entries
from dualpath.engine.learner import Learner, Micro
from dualpath.engine.pieces import in_pieces
from dualpath.hardware import Precision, pick_device
from dualpath.memory import keep_memory
from dualpath.methods import build_model, count_parameters, settle, store_in_int8, train_in_int8
from dualpath.nn.zoo import frozen_dtype, random_backbone
from dualpath.speed.products import watch
from dualpath.speed.worker import Work
from dualpath.video.sampling import SamplingConfig


def inference(
    *,
    settings: Mapping[str, Any],
    num_classes: int,
    batch_size: int,
    precision: Precision,
    device: str = "",
    compiled: bool = False,
    views: int = 1,
) -> Work:
    """A candidate for `turns`: one forward pass.

    Args:
        settings: {"method": name, any setting that a run can be told}, as an entry of a comparison.
        num_classes: outputs.
        batch_size: clips a pass.
        precision: see `frozen_dtype`.
        device: torch's name; by default the best at hand.
        compiled: through torch.compile, on a GPU with CUDA graphs.
        views: so many clips that follow each other are of one video.
    """
    model, frames, _ = _model(settings, num_classes, batch_size, precision, device)
    counts = count_parameters(model.eval())
    if precision == "int8":
        store_in_int8(model)
    else:
        settle(model)
    model.backbone.fuse_attention(True)
    with torch.inference_mode():
        model(frames)  # what is made once and kept, such as codes of positions, is no part of a step
        products = watch(lambda: model(frames))
    # On a GPU its small operations are started together, as a CUDA graph.
    mode = "reduce-overhead" if frames.device.type == "cuda" else "default"
    run = torch.compile(model, mode=mode) if compiled else model
    clips = (frames,) if compiled else in_pieces(frames, model, frames.device, together=views)

    def step() -> None:
        with torch.inference_mode():
            for piece in clips:
                run(piece)

    return _work(step, model, frames, products, counts=counts, precision=precision, hidden=compiled)


def training(
    *,
    settings: Mapping[str, Any],
    num_classes: int,
    batch_size: int,
    precision: Precision,
    device: str = "",
) -> Work:
    """A candidate for `turns`: one optimizer step; the arguments as those of `inference`."""
    model, frames, config = _model(settings, num_classes, batch_size, precision, device)
    counts = count_parameters(model)
    if precision == "int8":
        train_in_int8(model)
    learner = Learner(model, config.training, frames.device)  # pyright: ignore[reportArgumentType]
    labels = torch.arange(batch_size, device=frames.device) % num_classes
    learner.begin()

    def step() -> None:
        learner.step([Micro(frames, labels, 0)], lr=lambda peak: peak)

    step()
    products = watch(step)
    return _work(step, model, frames, products, counts=counts, precision=precision)


def _model(
    settings: Mapping[str, Any], num_classes: int, batch_size: int, precision: Precision, device: str
) -> tuple[Any, Tensor, RunConfig]:
    keep_memory()  # as the command line does
    place = torch.device(device) if device else pick_device()
    (entry,) = make_entries({"one": settings}, base=RunConfig(sampling=SamplingConfig(num_frames=32)))
    config = entry.config
    torch.manual_seed(0)
    backbone = random_backbone(config.backbone, dtype=frozen_dtype(precision, place))
    backbone.gradient_checkpointing = config.training.gradient_checkpointing
    model = build_model(config.method, backbone, num_classes=num_classes, config=config.options).to(place)
    shape = (batch_size, config.sampling.num_frames, 3, backbone.size, backbone.size)
    return model, torch.randint(0, 256, shape, dtype=torch.uint8, device=place), config


def _work(
    step: Any,
    model: Any,
    frames: Tensor,
    products: Mapping[Any, int],
    *,
    counts: tuple[int, int],
    precision: Precision,
    hidden: bool = False,
) -> Work:
    return Work(
        step,
        clips=len(frames),
        products=products,
        dtype="int8" if precision == "int8" else str(model.backbone.dtype).removeprefix("torch."),
        device=str(frames.device),
        facts={"trainable": counts[0], "total": counts[1], "num_frames": frames.shape[1]},
        hidden=hidden,
    )
