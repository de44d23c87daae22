"""Models on one backbone: each gives what it gives alone, the weights are there once, and what cannot be shared is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import dualpath
from dualpath.engine import predict
from dualpath.engine.checkpoint import ModelSpec, save_checkpoint
from dualpath.errors import DualPathError
from dualpath.methods import MethodConfig, build_model
from dualpath.methods.bitfit import BitFitConfig
from dualpath.methods.linear_probe import LinearProbeConfig
from dualpath.methods.lora import LoRAConfig
from dualpath.methods.options import DualPathConfig
from dualpath.nn.zoo import EMBEDDED, BackboneConfig, load_backbone, random_backbone
from dualpath.video.sampling import SamplingConfig
from tiny import random_clips, randomise

SMALL = {"depth": 2, "embed_dim": 24, "num_heads": 2, "img_size": 32}
PLAIN = DualPathConfig(num_spatial_frames=1, grid=(2, 2), bottleneck=2)
UPLOADED = DualPathConfig(variant="reference")
METHODS: dict[str, tuple[str, MethodConfig]] = {
    "first": ("dualpath", PLAIN),
    "second": ("dualpath", PLAIN),
    "probe": ("linear_probe", LinearProbeConfig(num_probe_frames=2)),
    "uploaded": ("dualpath", UPLOADED),
    "bitfit": ("bitfit", BitFitConfig()),
    "lora": ("lora", LoRAConfig(rank=2)),
}


@pytest.fixture(scope="module")
def save(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    folder = tmp_path_factory.mktemp("shared")
    written: dict[tuple[str, int, str], Path] = {}

    def save_one(name: str, *, seed: int = 1, changes: str = "") -> Path:
        key = name, seed, changes
        if key in written:
            return written[key]
        model_args = SMALL | ({"num_heads": 3} if changes == "heads" else {})
        weights = folder / f"{seed}.safetensors"
        if not weights.is_file():
            vit = random_backbone(BackboneConfig(EMBEDDED, "x", model_args=model_args)).vit
            randomise(vit, seed=seed)
            save_file(vit.state_dict(), weights)
        config = BackboneConfig(EMBEDDED, str(weights), model_args=model_args)
        method, options = METHODS[name]
        model = build_model(method, load_backbone(config), num_classes=3, config=options)
        for part in model.children():
            if part is not model.backbone:
                randomise(part, seed=len(written) + 5)
        written[key] = folder / f"{name}-{seed}{changes}"
        spec = ModelSpec(
            method=method,
            options=options,
            backbone=config,
            classes=("a", "b", "c"),
            sampling=SamplingConfig(num_frames=16),
            split_seed=0,
            val_fraction=0.1,
            training={},
        )
        save_checkpoint(written[key], model, spec)
        return written[key]

    return save_one


def stored(*models: nn.Module) -> int:
    """Bytes that the models' weights take together."""
    values = [value for model in models for value in (*model.parameters(), *model.buffers())]
    return sum({value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in values}.values())


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_each_gives_what_it_gives_alone(precision: predict.Precision, save: Callable[..., Path]) -> None:
    names, views = ("first", "second", "probe"), random_clips(2, 1, 16)
    alone = [dualpath.load(save(name), precision=precision) for name in names]
    expected = [each.score_views(views) for each in alone]
    first = dualpath.load(save("first"), precision=precision)
    before = first.score_views(views)
    together = [first, *(dualpath.load(save(name), backbone=first) for name in names[1:])]
    for _ in range(2):  # in turn, and again
        for each, scores in zip(together, expected, strict=True):
            assert torch.equal(each.score_views(views), scores)
    assert torch.equal(before, expected[0])
    assert (expected[0] - expected[1]).abs().max() > 1e-3
    assert len({id(each.backbone) for each in together}) == 1
    frozen = stored(first.backbone)
    assert stored(*(each.model for each in together)) == sum(stored(each.model) for each in alone) - 2 * frozen
    assert frozen > 0.5 * stored(first.model) or precision in ("bf16", "int8")


def test_int8_is_not_put_under_a_model_that_computes_otherwise(save: Callable[..., Path]) -> None:
    plain, whole = (dualpath.load(save("first"), precision=precision) for precision in ("fp32", "int8"))
    with pytest.raises(DualPathError, match="given one is not in int8, but precision int8 is asked for; load it without"):
        dualpath.load(save("second"), backbone=plain, precision="int8")
    with pytest.raises(DualPathError, match="the given one is in int8, but precision fp32 is asked for"):
        dualpath.load(save("second"), backbone=whole, precision="fp32")
    views = random_clips(2, 1, 16)
    expected = dualpath.load(save("second"), precision="int8").score_views(views)
    assert torch.equal(dualpath.load(save("second"), backbone=whole).score_views(views), expected)


def test_a_backbone_itself_can_be_given(save: Callable[..., Path]) -> None:
    first = dualpath.load(save("first"), precision="fp32")
    second = dualpath.load(save("second"), backbone=first.backbone, precision="fp32")
    assert second.backbone is first.backbone
    assert second.device == first.device


def test_the_authors_models_share_with_each_other_alone(save: Callable[..., Path]) -> None:
    uploaded, views = dualpath.load(save("uploaded"), precision="fp32"), random_clips(1, 1, 16)
    expected = uploaded.score_views(views)
    again = dualpath.load(save("uploaded"), backbone=uploaded)
    assert torch.equal(again.score_views(views), expected)
    with pytest.raises(DualPathError, match="the given backbone normalises pictures with"):
        dualpath.load(save("first"), backbone=uploaded)
    first = dualpath.load(save("first"), precision="fp32")
    scores = first.score_views(views)
    with pytest.raises(DualPathError, match="normalises pictures with"):
        dualpath.load(save("uploaded"), backbone=first)
    assert torch.equal(first.score_views(views), scores)


@pytest.mark.parametrize("method", ["bitfit", "lora"])
def test_what_is_trained_within_the_backbone_is_not_shared(method: str, save: Callable[..., Path]) -> None:
    first, views = dualpath.load(save("first"), precision="fp32"), random_clips(1, 1, 16)
    scores = first.score_views(views)
    with pytest.raises(DualPathError, match="cannot share a backbone: the checkpoint has trained weights within its backbone"):
        dualpath.load(save(method), backbone=first)
    assert torch.equal(first.score_views(views), scores)
    tuned = dualpath.load(save(method), precision="fp32")
    with pytest.raises(DualPathError, match=f"some weights within the given {EMBEDDED} are trained; load it without"):
        dualpath.load(save("first"), backbone=tuned)


def test_another_backbone_is_refused(save: Callable[..., Path]) -> None:
    first = dualpath.load(save("first"), precision="fp32")
    with pytest.raises(DualPathError, match=r"has weights \w{12}, the checkpoint wants \w{12}; load it without backbone="):
        dualpath.load(save("first", seed=2), backbone=first)
    with pytest.raises(DualPathError, match=r"num_heads': 2.*, the checkpoint wants .*num_heads': 3"):
        dualpath.load(save("first", changes="heads"), backbone=first)  # the same weights, computed otherwise
    with pytest.raises(DualPathError, match="is stored in float32, but bfloat16 is asked for"):
        dualpath.load(save("second"), backbone=first, precision="bf16")
    with pytest.raises(DualPathError, match=r"weights w\.pt and a backbone are given"):
        dualpath.load(save("second"), backbone=first, weights="w.pt")
