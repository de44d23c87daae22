"""The attentive probe against its equations, and what it can and cannot tell."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from dualpath.errors import DualPathError
from dualpath.methods import build_model, count_parameters, trained_state
from dualpath.methods.attentive_probe import (
    AttentivePooler,
    AttentiveProbe,
    AttentiveProbeConfig,
    CrossBlock,
    SelfBlock,
    encode_times,
)
from dualpath.nn import hashing
from dualpath.nn.zoo import CLIP_VIT_B16, random_backbone
from families import family_backbone
from oracles import attentive_probe as oracle
from oracles.dualpath import Shape
from tiny import random_clips, randomise, tiny_backbone


def make(num_blocks: int = 1, *, times: bool = False, **changes: Any) -> AttentiveProbe:
    config = AttentiveProbeConfig(num_blocks=num_blocks, time_encoding=times)  # pyright: ignore[reportArgumentType]
    model = build_model("attentive_probe", tiny_backbone(**changes), num_classes=5, config=config)
    assert isinstance(model, AttentiveProbe)
    randomise(model.pooler, 1)
    randomise(model.head, 2)
    return model.eval()


@pytest.mark.parametrize(
    ("num_blocks", "times", "changes"),
    [
        (1, False, {}),
        (4, False, {}),
        (1, True, {"pre_norm": True, "num_classes": 16}),
        (4, True, {"reg_tokens": 2, "no_embed_class": True}),
        (4, False, {"num_heads": 4, "init_values": 0.1, "depth": 1}),
    ],
    ids=str,
)
def test_agrees_with_the_equations(num_blocks: int, times: bool, changes: dict[str, Any]) -> None:
    model, frames = make(num_blocks, times=times, **changes), random_clips(2, 3)
    heads = changes.get("num_heads", 2)
    shape = Shape(patch=8, heads=heads, grid=(1, 1), num_spatial_frames=1)
    expected = oracle.attentive_probe(model.state_dict(), frames.numpy(), shape, heads=heads, times=times)
    with torch.no_grad():
        actual = model(frames)
    torch.testing.assert_close(actual.double(), torch.from_numpy(expected), atol=1e-5, rtol=1e-5)
    assert (actual[0] - actual[1]).abs().max() > 1e-3


@pytest.mark.parametrize("num_blocks", [1, 4])
def test_only_the_time_encoding_tells_the_order(num_blocks: int) -> None:
    frames = random_clips(2, 5)
    with torch.no_grad():
        blind = make(num_blocks)
        torch.testing.assert_close(blind(frames.flip(1)), blind(frames), atol=1e-5, rtol=1e-5)
        told = make(num_blocks, times=True)
        assert (told(frames.flip(1)) - told(frames)).abs().max() > 1e-3


@pytest.mark.parametrize("family", ["CLIP", "SigLIP", "DINOv3", "Swin"])
def test_it_looks_at_all_normed_tokens_of_all_frames(family: str) -> None:
    model = build_model("attentive_probe", family_backbone(family), num_classes=3)
    assert isinstance(model, AttentiveProbe)
    vit, frames = model.backbone.vit, random_clips(2, 3)
    with torch.no_grad():
        expected = [vit.forward_features(model.backbone.normalise(clip)).reshape(3, -1, 32) for clip in frames]
        seen = model.look(frames)
        torch.testing.assert_close(seen, torch.stack([clip.flatten(0, 1) for clip in expected]), atol=3e-6, rtol=1e-5)


def test_times_are_told_apart() -> None:
    codes = encode_times(16, 24)
    assert codes.shape == (16, 24)
    assert torch.equal(codes[0], torch.cat([torch.zeros(12), torch.ones(12)]))
    assert codes[3, 0].item() == pytest.approx(math.sin(3))
    assert codes[5, 13].item() == pytest.approx(math.cos(5 * 10000 ** (-2 / 24)))
    assert (codes[:, None] - codes[None]).norm(dim=-1)[~torch.eye(16, dtype=torch.bool)].min() > 0.1


@pytest.mark.parametrize(("num_blocks", "pooler"), [(1, 7_088_640), (4, 27_761_664)])
def test_trained_sizes_on_vit_b16(num_blocks: int, pooler: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_hash", lambda state: "none on the meta device")
    config = AttentiveProbeConfig(num_blocks=num_blocks)  # pyright: ignore[reportArgumentType]
    with torch.device("meta"):
        model = build_model("attentive_probe", random_backbone(CLIP_VIT_B16), num_classes=400, config=config)
    assert count_parameters(model)[0] == pooler + 400 * 768 + 400
    assert isinstance(model, AttentiveProbe)
    assert model.pooler.cross.heads == 12


def test_initial_weights_are_those_of_v_jepa() -> None:
    torch.manual_seed(0)
    pooler = AttentivePooler(64, 4, num_blocks=4)
    wanted = {"proj.weight": [2, 4, 6], "mlp.out.weight": [2, 4, 6, 6]}
    blocks = [*pooler.blocks, pooler.cross]
    for name, value in pooler.named_parameters():
        if value.ndim == 2:
            assert value.std().item() == pytest.approx(_deviation(name, wanted), rel=0.06), name
        elif "norm" in name and name.endswith("weight"):
            assert (value == 1).all()
        elif name != "query":
            assert (value == 0).all()
    assert pooler.query.std().item() == pytest.approx(0.02, rel=0.3)
    assert [type(block) for block in blocks] == [SelfBlock] * 3 + [CrossBlock]
    alone = AttentivePooler(64, 4, num_blocks=1).cross
    assert alone.proj is not None
    for matrix in (alone.proj, alone.mlp.out):
        assert matrix.weight.std().item() == pytest.approx(0.02 / 2**0.5, rel=0.06)


def _deviation(name: str, wanted: dict[str, list[int]]) -> float:
    for ending, divisors in wanted.items():
        if name.endswith(ending):
            number = int(name.split(".")[1]) if name.startswith("blocks.") else 3
            return 0.02 / divisors[number] ** 0.5
    return 0.02


def test_only_the_probe_is_trained_and_learns() -> None:
    model = build_model("attentive_probe", tiny_backbone(), num_classes=3)
    frames, labels = random_clips(3, 4), torch.arange(3)
    assert {name.split(".")[0] for name in trained_state(model)} == {"pooler", "head"}
    optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=2e-3)
    for _ in range(60):  # enough for any draw of the probe, which is another one in other versions of torch
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model.train()(frames), labels)
        loss.backward()
        optimizer.step()
    assert loss < 0.1
    assert all(value.grad is None for value in model.backbone.parameters())


@pytest.mark.parametrize("num_blocks", [1, 4])
def test_bf16_stays_near_fp32(num_blocks: int) -> None:
    model, frames = make(num_blocks, times=True), random_clips(3, 4)
    with torch.no_grad():
        exact = model(frames)
        model.backbone.store_in(torch.bfloat16)
        assert model.look(frames).dtype == torch.bfloat16
        rounded = model(frames)
    assert rounded.dtype == torch.float32
    assert 1e-5 < (rounded - exact).norm() / exact.norm() < 3e-2


def test_other_depths_are_refused() -> None:
    config = AttentiveProbeConfig()
    object.__setattr__(config, "num_blocks", 2)  # past the annotation, which these tests check at run time
    with pytest.raises(DualPathError, match="num_blocks is 2, but it must be one of 1, 4"):
        config.__post_init__()
