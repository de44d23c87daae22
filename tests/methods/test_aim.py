"""AIM against its equations, on every family, and its published sizes and cost."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from dualpath.errors import DualPathError
from dualpath.methods import build_model, count_parameters
from dualpath.methods.aim import Aim, AimConfig
from dualpath.nn import hashing
from dualpath.nn.backbone import Backbone
from dualpath.nn.families import VitLayer
from dualpath.nn.zoo import CLIP_VIT_B16, random_backbone
from hooked import (
    PATCHES_READ,
    blocks_of,
    check_training,
    kind,
    plain_logits,
    randomise_trained,
    timm_features,
)
from oracles import aim as oracle
from tiny import HALF, random_clips, tiny_backbone


def make(backbone: Backbone | None = None, *, fresh: bool = False, **options: Any) -> Aim:
    model = build_model("aim", backbone or tiny_backbone(), num_classes=4, config=AimConfig(**({"max_frames": 5} | options)))
    assert isinstance(model, Aim)
    if not fresh:
        randomise_trained(model)
    return model.eval()


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("changes", [{}, {"pre_norm": True, "num_classes": 16, "reg_tokens": 1, "init_values": 0.1}], ids=str)
def test_agrees_with_the_equations(changes: dict[str, Any], before: bool) -> None:
    model, frames = make(tiny_backbone(**changes), before=before, scale=0.7), random_clips(2, 3)
    shape = oracle.Shape(patch=8, heads=2, grid=(1, 1), num_spatial_frames=1, mean=HALF, std=HALF)
    expected = oracle.aim(model.state_dict(), frames.numpy(), shape, scale=0.7)
    with torch.no_grad():
        actual = model(frames)
        torch.testing.assert_close(actual.double(), torch.from_numpy(expected), atol=1e-5, rtol=1e-5)
        assert (actual - plain_logits(model, frames)).abs().max() > 0.1


def bottleneck(part: Any, z: Tensor) -> Tensor:
    inner = F.gelu(z @ part.down.weight.T + part.down.bias)
    return inner @ part.up.weight.T + part.up.bias


def plain_attention(block: Any, x: Tensor) -> Tensor:
    """The block's projections along (s, d): no windows, positions or rotation; with the block's scale."""
    attention, (length, width) = block.attn, x.shape
    if getattr(attention, "qkv", None) is None:  # EVA-02 keeps the three apart
        q, k, v = attention.q_proj(x), attention.k_proj(x), attention.v_proj(x)
    else:
        q, k, v = attention.qkv(x).split(width, dim=1)
        if getattr(attention, "q_bias", None) is not None:
            q, v = q + attention.q_bias, v + attention.v_bias
    each, heads = width // attention.num_heads, []
    for start in range(0, width, each):
        part = slice(start, start + each)
        shares = torch.stack([(q[i, part] @ k[:, part].T * each**-0.5).softmax(dim=0) for i in range(length)])
        heads.append(shares @ v[:, part])
    joined = torch.cat(heads, dim=1)
    out = attention.proj(attention.norm(joined) if hasattr(attention, "norm") else joined)
    if hasattr(block, "ls1") and not isinstance(block.ls1, nn.Identity):
        return out * block.ls1.gamma
    gamma = getattr(block, "gamma_1", None)
    return out if gamma is None else out * gamma


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("family", PATCHES_READ)
def test_agrees_with_timm_on_every_family(family: str, before: bool) -> None:
    model, frames = make(kind(family), before=before, scale=0.7), random_clips(2, 3)
    blocks = blocks_of(model.backbone)

    def timed(number: int, x: Tensor) -> Tensor:
        block, part, out = blocks[number], model.adapters[number], torch.zeros_like(x)
        for clip in range(2):
            for place in range(x.shape[1]):
                sequence = block.norm1(x[3 * clip : 3 * clip + 3, place])
                if part.before is not None:
                    sequence = sequence + bottleneck(part.before, sequence)
                out[3 * clip : 3 * clip + 3, place] = bottleneck(part.time, plain_attention(block, sequence))
        return out

    with torch.no_grad():
        actual, plain = model(frames), plain_logits(model, frames)
        model.backbone.vit.norm.load_state_dict(model.norm.state_dict())
        features = timm_features(
            model.backbone,
            frames.flatten(0, 1),
            times=model.times[:3].repeat(2, 1),
            before=timed,
            attended=lambda number, z: bottleneck(model.adapters[number].space, z),
            beside=lambda number, x: 0.7 * bottleneck(model.adapters[number].mlp, x),
        )
        expected = model.head(features.unflatten(0, (2, 3)).mean(dim=1))
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
    assert (expected - plain).abs().max() > 1e-2


def test_it_sees_the_order_of_frames_and_no_other_clip() -> None:
    model, frames = make(), random_clips(3, 4)
    with torch.no_grad():
        together = model(frames)
        torch.testing.assert_close(together, torch.cat([model(clip[None]) for clip in frames]), atol=1e-5, rtol=1e-5)
        assert (together - model(frames.flip(1))).abs().max() > 1e-3
        model.times.zero_()  # attention alone knows no order
        torch.testing.assert_close(model(frames), model(frames.flip(1)), atol=1e-5, rtol=1e-5)


def test_a_larger_table_of_times_changes_nothing() -> None:
    small, large, frames = make(max_frames=3), make(max_frames=6), random_clips(2, 3)
    weights = {name: value for name, value in small.state_dict().items() if name != "times"}
    large.load_state_dict(weights | {"times": torch.cat([small.times, torch.full((3, 24), 9.0)])})
    with torch.no_grad():
        assert torch.equal(small(frames), large(frames))
    nn.functional.cross_entropy(large(frames), torch.arange(2)).backward()
    assert large.times.grad is not None
    assert (large.times.grad.abs().amax(dim=1) > 0).tolist() == [True] * 3 + [False] * 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", PATCHES_READ)
def test_a_fresh_model_is_the_frozen_backbone_bit_for_bit(family: str, dtype: torch.dtype) -> None:
    model, frames = make(kind(family), fresh=True, before=True), random_clips(2, 3)
    model.backbone.store_in(dtype)
    with torch.no_grad():
        assert torch.equal(model(frames), plain_logits(model, frames))


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("family", PATCHES_READ)
def test_training_reaches_all_that_is_trained_and_nothing_else(family: str, before: bool) -> None:
    model, frames = make(kind(family), fresh=True, before=before), random_clips(3, 5)
    last = {name for name, _ in model.backbone.last_norm.named_parameters()}
    assert {name for name, _ in model.norm.named_parameters()} == last
    check_training(model, frames, steps=3 if before else 2)  # `before` starts from zero behind `time`, which does so too


def test_gradient_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for again in (False, True):
        model = make(head_dropout=0.0).train()
        model.backbone.gradient_checkpointing = again
        nn.functional.cross_entropy(model(random_clips(2, 3)), torch.arange(2)).backward()
        gradients.append([value.grad for value in model.parameters() if value.requires_grad])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


# Published figures


def on_meta(**options: Any) -> Aim:
    with torch.device("meta"):
        model = build_model("aim", random_backbone(CLIP_VIT_B16), num_classes=400, config=AimConfig(**options))
    assert isinstance(model, Aim)
    return model.eval()


def gmacs(model: Aim, *, num_frames: int) -> float:
    model.backbone.fuse_attention(False)  # the counter knows matrix products, not torch's fused kernel on a CPU
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(torch.zeros(1, num_frames, 3, 224, 224, dtype=torch.uint8, device="meta"))
    return counter.get_total_flops() / 2e9


def test_published_sizes_and_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_hash", lambda state: "none on the meta device")
    adapter, head = 2 * 768 * 192 + 192 + 768, 400 * (768 + 1)
    model = on_meta(max_frames=8)
    assert count_parameters(model.adapters)[0] == 12 * 3 * adapter == 10_651_392
    assert count_parameters(model)[0] == 12 * 3 * adapter + 8 * 768 + 2 * 768 + head == 10_966_672  # the paper's 11 M
    assert count_parameters(on_meta(max_frames=8, before=True))[0] == 12 * 4 * adapter + 10 * 768 + head
    # Behind the last attention [CLS] alone goes on: 196 tokens of 8 frames are spared their query with its scores and sum,
    # the projection, the MLP and two adapters.
    apiece = 768 * 768 + 2 * 197 * 768 + 768 * 768 + 2 * 768 * 3072 + 2 * 2 * 768 * 192
    ours, spared = gmacs(model, num_frames=8), 8 * 196 * apiece / 1e9
    monkeypatch.setattr(VitLayer, "keep_read", lambda self, tokens: tokens)
    assert gmacs(model, num_frames=8) == pytest.approx(ours + spared, rel=1e-9)
    assert ours == pytest.approx(191.44, abs=0.01)
    assert 3 * (ours + spared) == pytest.approx(606, rel=1e-3)  # published for 8 frames and 3 views


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": 0.0}, "ratio 0.0 must be above 0 and at most 1"),
        ({"scale": 0.0}, "scale 0.0 must be a number above 0"),
        ({"max_frames": 0}, "max_frames 0 must be at least 1"),
        ({"head_dropout": 1.0}, "head_dropout 1.0 must be at least 0 and below 1"),
    ],
    ids=str,
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DualPathError, match=message):
        AimConfig(**options)


def test_clips_must_fit_the_table_of_times() -> None:
    model = make(max_frames=4)
    model.check_clip(4)
    for refuse in (lambda: model.check_clip(5), lambda: model(random_clips(1, 5))):
        with pytest.raises(DualPathError, match="a clip has 5 frames, but the table of times has 4 rows; raise max_frames"):
            refuse()
