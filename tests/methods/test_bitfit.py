"""BitFit: the biases move as in one step on timm's own model, and nothing else does."""

from __future__ import annotations

import pytest
import torch
from timm.models.eva import Eva
from torch import nn

from dualpath.methods import build_model, count_parameters, trained_state
from dualpath.methods.bitfit import BitFit
from dualpath.nn import hashing
from dualpath.nn.backbone import Backbone
from dualpath.nn.families import take_apart
from dualpath.nn.zoo import CLIP_VIT_B16, random_backbone
from families import FAMILIES, family_backbone
from oracles import bitfit as oracle
from oracles.full_tuning import one_step
from tiny import HALF, random_clips, randomise, tiny_backbone

LR = 0.1


def make(backbone: Backbone) -> BitFit:
    model = build_model("bitfit", backbone, num_classes=5)
    assert isinstance(model, BitFit)
    randomise(model.head, 2)
    return model.train()


@pytest.mark.parametrize("family", ["CLIP", "SigLIP 2", "DeiT", "EVA-02 CLIP", "DINOv3", "Swin"])
def test_a_step_moves_the_biases_alone(family: str) -> None:
    model, frames, labels = make(family_backbone(family)), random_clips(2, 3), torch.tensor([3, 0])
    vit = model.backbone.vit
    expected, after = one_step(
        vit, model.head, frames, labels,
        mean=model.backbone.mean, std=model.backbone.std, lr=LR, trained=oracle.bias_terms(vit),
    )  # fmt: skip
    frozen = {name: value.clone() for name, value in model.named_parameters() if not value.requires_grad}
    optimizer = torch.optim.SGD([value for value in model.parameters() if value.requires_grad], lr=LR)
    loss = nn.functional.cross_entropy(model(frames), labels)
    loss.backward()
    optimizer.step()
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    for name, value in model.named_parameters():
        torch.testing.assert_close(value.data, after[name.removeprefix("backbone.")], atol=1e-5, rtol=1e-5, msg=name)
        assert name not in frozen or torch.equal(value, frozen[name])


@pytest.mark.parametrize("family", FAMILIES)
def test_all_bias_terms_are_found(family: str) -> None:
    model = make(family_backbone(family))
    wanted = {f"backbone.vit.{name}" for name in oracle.bias_terms(model.backbone.vit)} | {"head.weight", "head.bias"}
    assert trained_state(model).keys() == wanted
    assert len(wanted) > 10


def test_evas_biases_that_stand_apart_are_among_them() -> None:
    eva = Eva(img_size=32, patch_size=8, embed_dim=24, depth=1, num_heads=2, num_classes=0, use_rot_pos_emb=True)
    randomise(eva)
    trained = trained_state(make(take_apart(eva, name="eva", mean=HALF, std=HALF)))
    assert {"backbone.vit.blocks.0.attn.q_bias", "backbone.vit.blocks.0.attn.v_bias"} < trained.keys()
    assert not [name for name in trained if "k_bias" in name]


def test_biases_of_keys_get_no_gradient() -> None:
    model = make(tiny_backbone())
    nn.functional.cross_entropy(model(random_clips(2, 2)), torch.arange(2)).backward()
    q, k, v = model.backbone.vit.blocks[0].attn.qkv.bias.grad.abs().view(3, -1).amax(dim=1)
    assert k < 1e-6 < 1e-5 < min(q, v)


def test_trained_sizes_on_vit_b16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_hash", lambda state: "none on the meta device")
    with torch.device("meta"):
        model = build_model("bitfit", random_backbone(CLIP_VIT_B16), num_classes=400)
    each_block = (2304 + 768) + (3072 + 768) + 2 * 768
    assert 12 * each_block + 2 * 768 == 102_912  # and the norms before and behind the blocks
    assert count_parameters(model)[0] == 102_912 + 400 * 768 + 400


def test_bf16_stays_near_fp32() -> None:
    exact, rounded, frames = make(tiny_backbone()), tiny_backbone(), random_clips(3, 2)
    rounded.store_in(torch.bfloat16)
    mixed = make(rounded)
    assert all(value.dtype == torch.float32 for value in trained_state(mixed).values())
    with torch.no_grad():
        difference = (mixed(frames) - exact(frames)).norm() / exact(frames).norm()
    assert 1e-4 < difference < 3e-2
