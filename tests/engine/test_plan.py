from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dualpath.engine import plan as plan_module
from dualpath.engine.config import RunConfig, TrainConfig
from dualpath.engine.plan import Plan, _most_bytes, describe, draft, make_plan
from dualpath.engine.schedule import Schedule
from dualpath.errors import DualPathError
from dualpath.methods import METHODS, build_model
from dualpath.methods.base import FrameModel, FrameModelConfig
from dualpath.methods.linear_probe import LinearProbeConfig
from dualpath.methods.options import DualPathConfig
from dualpath.nn.backbone import plain_step
from tiny import tiny_backbone

FP32 = torch.float32


def test_parameters_in_pefts_wording() -> None:
    plan = Plan(trainable=9_480_192, total=95_000_000, gmacs=1.0, train_gmacs=1.0, clip_bytes=1, fixed_bytes=1)
    assert plan.parameters_line() == "trainable params: 9,480,192 || all params: 95,000,000 || trainable%: 9.9791"


def test_gmacs_of_a_probe_by_hand() -> None:
    backbone = tiny_backbone()  # 32 px, 8 px patches: 16 tokens and [CLS]; width 24, 2 blocks, MLP x 2
    probe = build_model("linear_probe", backbone, num_classes=3, config=LinearProbeConfig(num_probe_frames=2))
    embed = 16 * (3 * 8 * 8) * 24
    whole = 17 * 24 * 72 + 2 * 17 * 17 * 24 + 17 * 24 * 24 + 2 * 17 * 24 * 48  # q k v, scores and sum, projection, MLP
    last = 17 * 24 * 48 + 24 * 24 + 2 * 17 * 24 + 24 * 24 + 2 * 24 * 48  # all keys and values, and the rest for [CLS] alone
    plan = make_plan(probe, num_frames=4)
    assert round(plan.gmacs * 1e9) == 2 * (embed + whole + last) + 24 * 3
    assert (plan.trainable, plan.total) == (24 * 3 + 3, 24 * 3 + 3 + sum(p.numel() for p in backbone.parameters()))


def test_memory_counts_clips_and_moments() -> None:
    def plan(t: int) -> Plan:
        config = DualPathConfig(num_spatial_frames=t // 4, train_spatial_frames=0, grid=(2, 2), bottleneck=4)
        return make_plan(build_model("dualpath", tiny_backbone(), num_classes=3, config=config), num_frames=t)

    four, eight, twelve = plan(4), plan(8), plan(12)
    assert four.clip_bytes > 0
    # Each further frameset, and its frame for the spatial path, costs about the same; the head is there once.
    assert eight.clip_bytes - four.clip_bytes > 0.7 * four.clip_bytes
    assert twelve.clip_bytes - eight.clip_bytes == pytest.approx(eight.clip_bytes - four.clip_bytes, rel=0.15)
    assert eight.fixed_bytes == four.fixed_bytes == 4 * four.total + 12 * four.trainable
    assert four.memory_gb(8) == pytest.approx((four.fixed_bytes + 8 * four.clip_bytes) / 1e9)


def test_most_bytes_by_hand() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    # Ten rows: input, hidden and output of 160 bytes and the sum; then the output is gone, and there are the gradients of
    # the sum, of the hidden rows and of a weight.
    assert _most_bytes(model, torch.zeros(10, 4)) == max(3 * 160 + 4, 2 * 160 + 4 + 4 + 160 + 64)
    assert all(p.grad is None for p in model.parameters())
    model[0].requires_grad_(False)  # then nothing holds the input until the sum
    assert _most_bytes(model, torch.zeros(10, 4)) == 3 * 160


@pytest.mark.parametrize("method", METHODS)
def test_a_draft_costs_what_the_real_model_costs(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "random_backbone", lambda config, dtype: tiny_backbone(meta=True))
    model, sketch = build_model(method, tiny_backbone(), num_classes=3), draft(RunConfig(method), num_classes=3, dtype=FP32)
    assert {p.device.type for p in sketch.parameters()} == {"meta"}
    # The real one's matrix products are counted; a CPU's fused attention could not be.
    real, found = make_plan(model, num_frames=16), make_plan(sketch, num_frames=16)
    assert found.gmacs == real.gmacs > 0
    assert (found.trainable, found.total, found.fixed_bytes) == (real.trainable, real.total, real.fixed_bytes)
    assert found.clip_bytes == pytest.approx(real.clip_bytes, rel=0.03)
    fused, found = make_plan(model, num_frames=16, fused=True), make_plan(sketch, num_frames=16, fused=True)
    assert found.clip_bytes == pytest.approx(fused.clip_bytes, rel=0.05)
    assert found.gmacs == real.gmacs
    assert sketch.training
    assert sketch.backbone.hash == ""


def test_checkpointing_takes_less_memory_and_so_do_scores_that_are_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "random_backbone", lambda config, dtype: tiny_backbone(meta=True, depth=4))

    def clip_bytes(*, again: bool = False, fused: bool = True) -> int:
        options = DualPathConfig(bottleneck=8, num_spatial_frames=4, train_spatial_frames=0)
        config = RunConfig(options=options, training=TrainConfig(gradient_checkpointing=again))
        return make_plan(draft(config, num_classes=3, dtype=FP32), num_frames=16, fused=fused).clip_bytes

    kept = clip_bytes()
    assert clip_bytes(fused=False) < kept
    # One of four layers on two paths at a time, and what enters each; the clip itself stays.
    assert kept / 8 < clip_bytes(again=True) < kept / 1.5


class Tuned(FrameModel):
    """All of the backbone is trained: stored in fp32, computed in what it was stored in before."""

    def __init__(self, dtype: torch.dtype, *, meta: bool) -> None:
        backbone = tiny_backbone(meta=meta, depth=4)
        backbone.store_in(dtype)
        super().__init__(backbone, num_classes=3, config=TunedConfig())
        backbone.unfreeze(lambda name: True)
        self.to(backbone.vit.cls_token.device)

    def encode(self, pictures: Tensor, num_frames: int) -> Tensor:
        return self.backbone.walk(self.backbone.embed(pictures), plain_step)


class TunedConfig(FrameModelConfig):
    """Has no choices."""


@pytest.mark.parametrize("again", [False, True])
def test_autocast_is_counted_where_there_is_none(again: bool) -> None:
    plans = []
    for meta in (False, True):
        model = Tuned(torch.bfloat16, meta=meta)
        model.backbone.gradient_checkpointing = again
        plans.append(make_plan(model, num_frames=16, fused=True))
    real, found = plans
    assert found.gmacs == real.gmacs
    assert found.fixed_bytes == real.fixed_bytes == 16 * found.total
    assert found.clip_bytes == pytest.approx(real.clip_bytes, rel=0.07)
    plain = Tuned(FP32, meta=True)
    plain.backbone.gradient_checkpointing = again
    assert found.clip_bytes < 0.9 * make_plan(plain, num_frames=16, fused=True).clip_bytes


def test_a_view_at_inference_is_counted_with_all_its_frames() -> None:
    def counted(**options: int) -> Plan:
        config = DualPathConfig(grid=(2, 2), **options)
        return make_plan(draft(RunConfig(options=config), num_classes=3, dtype=FP32).train(), num_frames=16)

    all_frames, two = counted(train_spatial_frames=0), counted(train_spatial_frames=2)
    one_frame = counted(num_spatial_frames=9, train_spatial_frames=0).gmacs - all_frames.gmacs
    assert two.gmacs == all_frames.gmacs == all_frames.train_gmacs
    assert two.gmacs - two.train_gmacs == pytest.approx(6 * one_frame, rel=1e-6)


def test_int8_is_for_methods_that_leave_the_blocks_alone() -> None:
    training = TrainConfig(precision="int8")
    with pytest.raises(DualPathError, match="int8 is for blocks that stay frozen, but this method trains weights within them"):
        draft(RunConfig("bitfit", training=training), num_classes=3, dtype=FP32)
    config = RunConfig(training=training)
    plan = Plan(trainable=1, total=2, gmacs=1.0, train_gmacs=1.0, clip_bytes=1, fixed_bytes=1)
    sketch = draft(config, num_classes=3, dtype=FP32)
    told = describe(plan, config, backbone=sketch.backbone, counts=(), num_classes=3, schedule=None, device=torch.device("cpu"))  # pyright: ignore[reportArgumentType]
    assert told.endswith("cpu, frozen weights in int8")


def test_description_says_all_of_it() -> None:
    plan = Plan(trainable=10, total=1000, gmacs=1.234, train_gmacs=0.5, clip_bytes=5_000_000, fixed_bytes=90_000_000)
    config = RunConfig(training=TrainConfig(batch_size=4, accumulate=2, lr=2.5e-4, epochs=3))
    backbone, cpu = tiny_backbone(), torch.device("cpu")
    counts = [("train", 10), ("val", 0), ("test", 3)]
    text = describe(plan, config, backbone=backbone, counts=counts, num_classes=2, schedule=Schedule(2, 2, 3, 1, 1), device=cpu)
    assert text.splitlines() == [
        "method     dualpath on tiny, 32x32 pixels",
        "parameters trainable params: 10 || all params: 1,000 || trainable%: 1.0000",
        "a view     segment-16, 1.23 GMACs, 0.50 in a training step",
        "data       10 train, 3 test videos of 2 classes",
        "batch      8 clips (4 x 2 accumulated), learning rate 0.00025",
        "length     3 epochs, 6 steps, 1 of them warm-up",
        "memory     about 0.11 GB for the model (5 MB a clip)",
        "device     cpu, frozen weights in float32",
    ]
    backbone.gradient_checkpointing = True
    text = describe(plan, config, backbone=backbone, counts=(), num_classes=400, schedule=None, device=cpu)
    assert text.splitlines()[3:7] == [
        "data       400 classes, no videos given",
        "batch      8 clips (4 x 2 accumulated), learning rate 0.00025",
        "length     3 epochs",
        "memory     about 0.11 GB for the model (5 MB a clip, layers computed again)",
    ]
