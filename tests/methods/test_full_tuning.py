"""Full tuning: one step of it is one step on timm's own model."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dualpath.methods import build_model, count_parameters, trained_state
from dualpath.methods.full_tuning import FullTuning
from dualpath.nn import hashing
from dualpath.nn.backbone import Backbone
from dualpath.nn.zoo import CLIP_VIT_B16, random_backbone
from families import family_backbone
from oracles import full_tuning as oracle
from tiny import random_clips, randomise, tiny_backbone

LR = 0.1


def make(backbone: Backbone) -> FullTuning:
    model = build_model("full_tuning", backbone, num_classes=5)
    assert isinstance(model, FullTuning)
    randomise(model.head, 2)
    return model.train()


def step(model: nn.Module, frames: Tensor, labels: Tensor) -> float:
    optimizer = torch.optim.SGD([value for value in model.parameters() if value.requires_grad], lr=LR)
    loss = nn.functional.cross_entropy(model(frames), labels)
    loss.backward()
    optimizer.step()
    return loss.item()


@pytest.mark.parametrize("family", ["CLIP", "SigLIP", "DINOv2 with registers", "EVA-02", "DINOv3", "Swin"])
def test_a_step_is_that_of_timms_own_model(family: str) -> None:
    model, frames, labels = make(family_backbone(family)), random_clips(2, 3), torch.tensor([1, 4])
    vit = model.backbone.vit
    names = {name for name, _ in vit.named_parameters()}
    expected, after = oracle.one_step(
        vit, model.head, frames, labels, mean=model.backbone.mean, std=model.backbone.std, lr=LR, trained=names
    )
    before = {name: value.clone() for name, value in model.named_parameters()}
    assert step(model, frames, labels) == pytest.approx(expected, rel=1e-5)
    for name, value in model.named_parameters():
        torch.testing.assert_close(value.data, after[name.removeprefix("backbone.")], atol=1e-5, rtol=1e-5, msg=name)
    still = {name for name, value in model.named_parameters() if torch.equal(value, before[name])}
    assert still == ({"backbone.vit.head.weight", "backbone.vit.head.bias"} & before.keys())


def test_what_is_never_read_is_not_trained() -> None:
    trained = trained_state(make(tiny_backbone(num_classes=16, depth=1)))
    own = {f"backbone.vit.{name}" for name, _ in tiny_backbone(num_classes=16, depth=1).vit.named_parameters()}
    assert trained.keys() == own - {"backbone.vit.head.weight", "backbone.vit.head.bias"} | {"head.weight", "head.bias"}


def test_trained_sizes_on_vit_b16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_hash", lambda state: "none on the meta device")
    with torch.device("meta"):
        model = build_model("full_tuning", random_backbone(CLIP_VIT_B16), num_classes=400)
    attention, mlp = 768 * 2304 + 2304 + 768 * 768 + 768, 768 * 3072 + 3072 + 3072 * 768 + 768
    tower = 768 * 3 * 16 * 16 + (1 + 197) * 768 + 12 * (attention + mlp + 4 * 768) + 4 * 768
    trained, total = count_parameters(model)
    assert tower == 85_799_424
    assert trained == tower + 400 * 768 + 400
    assert total - trained == 768 * 512 + 512  # CLIP's projection, which is not read; timm gives it a bias of zeros


def test_bf16_weights_are_kept_in_fp32_and_computed_in_bf16() -> None:
    frames, labels = random_clips(3, 2), torch.arange(3)
    exact, rounded = make(tiny_backbone(pre_norm=True)), tiny_backbone(pre_norm=True)
    rounded.store_in(torch.bfloat16)
    mixed = make(rounded)
    assert all(value.dtype == torch.float32 for value in mixed.parameters())
    with torch.no_grad():
        difference = (mixed(frames) - exact(frames)).norm() / exact(frames).norm()
    assert 1e-4 < difference < 3e-2
    before = mixed.backbone.vit.blocks[0].mlp.fc1.weight.clone()
    losses = [step(mixed, frames, labels) for _ in range(3)]
    moved = (mixed.backbone.vit.blocks[0].mlp.fc1.weight - before).abs()
    assert losses[-1] < losses[0]
    assert not torch.equal(moved.bfloat16().float(), moved)  # the updates are finer than bf16


def test_it_learns_two_clips() -> None:
    model, frames = make(tiny_backbone()), random_clips(2, 2)
    optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=3e-3)
    for _ in range(30):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(frames), torch.arange(2))
        loss.backward()
        optimizer.step()
    assert loss < 0.05
