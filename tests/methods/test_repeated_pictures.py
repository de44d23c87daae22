"""DualPath encodes equal pictures once, and what comes out is what encoding each of them gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dualpath.methods import build_model
from dualpath.methods.dualpath import DualPath, DualPathConfig
from dualpath.nn import repeats
from dualpath.video.sampling import SamplingConfig, test_indices
from tiny import random_clips, randomise_adapters, tiny_backbone


def make(**options: Any) -> DualPath:
    chosen = {"grid": (2, 2), "bottleneck": 6} | ({} if "paths" in options else {"num_spatial_frames": 4}) | options
    reference = chosen.get("variant") == "reference"
    config = DualPathConfig(variant="reference") if reference else DualPathConfig(**chosen)
    backbone = tiny_backbone(pre_norm=True, num_classes=16)
    model = build_model("dualpath", backbone, num_classes=5, config=config)
    assert isinstance(model, DualPath)
    randomise_adapters(model)
    return model.eval()


@pytest.fixture(scope="module")
def model() -> DualPath:
    return make()


def encoded(model: DualPath, frames: Tensor) -> tuple[Tensor, list[int]]:
    """Logits, and how many pictures each path sent through the first block."""
    counts: list[int] = []
    hook = model.backbone.vit.blocks[0].norm1.register_forward_pre_hook(lambda _, args: counts.append(len(args[0])))
    try:
        with torch.no_grad():
            return model(frames), counts
    finally:
        hook.remove()


def without(model: DualPath, frames: Tensor) -> tuple[Tensor, list[int]]:
    """The same, every picture encoded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repeats, "find_repeats", lambda *_, **__: None)
        return encoded(model, frames)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), min_size=8, max_size=8), min_size=1, max_size=4))
def test_any_repeats_change_nothing(model: DualPath, numbers: list[list[int]]) -> None:
    frames = random_clips(6)[torch.tensor(numbers)]
    (found, counts), (wanted, every) = encoded(model, frames), without(model, frames)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    middles = {clip[2 * i + 1] for clip in numbers for i in range(4)}
    framesets = {(g, *clip[4 * g : 4 * g + 4]) for clip in numbers for g in range(2)}
    assert counts == [len(middles), len(framesets)]
    assert every == [4 * len(numbers), 2 * len(numbers)]


@pytest.mark.parametrize("options", [{"variant": "reference"}, {"positions": "time"}, {"paths": "temporal"}], ids=str)
def test_in_every_variant(options: dict[str, Any]) -> None:
    model = make(**options)
    clip = random_clips(1, 32)
    other = torch.cat([clip[:, 16:], clip[:, :16]], dim=1)  # the same framesets at other times: other positions
    frames = torch.cat([clip, other, clip])
    (found, counts), (wanted, every) = encoded(model, frames), without(model, frames)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    assert (found[0] - found[1]).abs().max() > 1e-4
    assert counts[-1] == every[-1] * 2 // 3


def test_overlapping_views_of_one_video_cost_less(model: DualPath) -> None:
    video = random_clips(24)  # views begin at frames 0, 4 and 9: every second frame of the first two is common to both
    views = [video[places] for places in test_indices(len(video), SamplingConfig(8, "dense", 2), num_clips=3)]
    (found, counts), (wanted, every) = encoded(model, torch.stack(views)), without(model, torch.stack(views))
    assert every == [12, 6]
    assert counts == [12 - 3, 6]
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_a_short_video_s_last_frame_is_encoded_once(model: DualPath) -> None:
    video = random_clips(2)
    indices = test_indices(2, SamplingConfig(8, "dense", 1), num_clips=2)
    _, counts = encoded(model, torch.stack([video[places] for places in indices]))
    assert counts[0] <= 2
    assert counts[1] < 4


def test_nothing_is_shared_in_training(model: DualPath) -> None:
    frames = random_clips(1, 8).repeat(2, 1, 1, 1, 1)
    model.train()
    try:
        assert encoded(model, frames)[1] == [4, 4]  # two of four frames of each clip; dropout is drawn for each
    finally:
        model.eval()
    counts: list[int] = []
    hook = model.backbone.vit.blocks[0].norm1.register_forward_pre_hook(lambda _, args: counts.append(len(args[0])))
    model(frames).sum().backward()
    hook.remove()
    assert counts == [8, 4]
