"""LoRA against its equation, and where PEFT puts it."""

from __future__ import annotations

import sys
from typing import Any, Literal

import pytest
import torch
from timm.models.eva import Eva
from torch import nn

from dualpath.errors import DualPathError
from dualpath.methods import build_model, count_parameters, trained_state
from dualpath.methods.lora import LoRA, LoRAConfig
from dualpath.nn import hashing
from dualpath.nn.backbone import Backbone
from dualpath.nn.families import take_apart
from dualpath.nn.zoo import CLIP_VIT_B16, random_backbone
from families import FAMILIES, family_backbone
from oracles import lora as oracle
from oracles.dualpath import Shape
from tiny import HALF, random_clips, randomise, tiny_backbone

Targets = Literal["qkv", "attention", "all"]


def make(backbone: Backbone, *, fresh: bool = False, **options: Any) -> LoRA:
    model = build_model("lora", backbone, num_classes=5, config=LoRAConfig(**options))
    assert isinstance(model, LoRA)
    if not fresh:
        for number, (name, value) in enumerate(model.named_parameters()):
            if ".lora_" in name:
                value.data.normal_(0, 0.3, generator=torch.Generator().manual_seed(number))
        randomise(model.head, 2)
    return model.eval()


@pytest.mark.parametrize("targets", ["qkv", "attention", "all"])
@pytest.mark.parametrize("changes", [{"rank": 2, "alpha": 8}, {"rank": 5, "alpha": 3}], ids=str)
def test_agrees_with_the_equation(targets: Targets, changes: dict[str, int]) -> None:
    model, frames = make(tiny_backbone(pre_norm=True), targets=targets, **changes), random_clips(2, 3)
    shape = Shape(patch=8, heads=2, grid=(1, 1), num_spatial_frames=1)
    expected = oracle.lora(model.state_dict(), frames.numpy(), shape, alpha=changes["alpha"])
    with torch.no_grad():
        actual = model(frames)
    torch.testing.assert_close(actual.double(), torch.from_numpy(expected), atol=1e-5, rtol=1e-5)
    assert (actual[0] - actual[1]).abs().max() > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_fresh_model_is_the_backbone_itself_bit_for_bit(dtype: torch.dtype) -> None:
    backbone, frames = tiny_backbone(), random_clips(1, 2)
    backbone.store_in(dtype)
    with torch.no_grad():
        backbone.frozen = dict.fromkeys(range(backbone.depth), (None, None))  # timm's modules, as beside LoRA
        before = backbone(frames[0])
        model = make(backbone, fresh=True, targets="all")
        assert torch.equal(backbone(frames[0]), before)
        make_it_add = [value for name, value in model.named_parameters() if "lora_B" in name]
        make_it_add[0].add_(1)
        assert not torch.equal(backbone(frames[0]), before)


@pytest.mark.parametrize(
    ("targets", "inside"),
    [
        ("qkv", 12 * 8 * (768 + 2304)),
        ("attention", 12 * 8 * (768 + 2304 + 768 + 768)),
        ("all", 12 * 8 * (768 + 2304 + 768 + 768 + 2 * (768 + 3072))),
    ],
)
def test_trained_sizes_on_vit_b16(targets: Targets, inside: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_hash", lambda state: "none on the meta device")
    with torch.device("meta"):
        model = build_model("lora", random_backbone(CLIP_VIT_B16), num_classes=400, config=LoRAConfig(targets=targets))
    assert count_parameters(model)[0] == inside + 400 * 768 + 400
    if targets == "qkv":
        assert inside == 294_912


def test_names_in_the_state_are_pefts() -> None:
    model = make(tiny_backbone(depth=1), rank=3)
    inside = "backbone.vit.blocks.0.attn.qkv"
    assert {name: tuple(value.shape) for name, value in trained_state(model).items()} == {
        f"{inside}.lora_A.default.weight": (3, 24),
        f"{inside}.lora_B.default.weight": (72, 3),
        "head.weight": (5, 24),
        "head.bias": (5,),
    }


def adapted(model: nn.Module) -> list[str]:
    names = [name for name in trained_state(model) if ".lora_A." in name]
    return [name.removeprefix("backbone.vit.").removesuffix(".lora_A.default.weight") for name in names]


def test_every_block_of_every_family_is_adapted_and_nothing_else() -> None:
    for family in FAMILIES:
        names = adapted(make(family_backbone(family), targets="qkv"))
        blocks = 3 if family == "Swin" else 2
        each = {name.split(".")[-1] for name in names}
        assert each in ({"qkv"}, {"q_proj", "k_proj", "v_proj"}), family
        assert len(names) == blocks * len(each)
    assert "blocks.0.attn.q_proj" in adapted(make(family_backbone("EVA-02 CLIP")))
    assert adapted(make(family_backbone("Swin"), targets="all"))[:4] == [
        *("layers.0.blocks.0.attn.qkv", "layers.0.blocks.0.attn.proj"),
        *("layers.0.blocks.0.mlp.fc1", "layers.0.blocks.0.mlp.fc2"),
    ]
    siglip = adapted(make(family_backbone("SigLIP"), targets="all"))  # its pooling has an attention of its own
    assert len(siglip) == 2 * 4
    assert all(name.startswith("blocks.") for name in siglip)


@pytest.mark.parametrize("fused", [True, False])
def test_evas_matrices_are_adapted_though_its_biases_stand_apart(fused: bool) -> None:
    """timm multiplies by the fused matrix itself, past the layer that PEFT puts in its place."""
    eva = Eva(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=0, use_rot_pos_emb=True,
              qkv_fused=fused, swiglu_mlp=True, global_pool="token")  # fmt: skip
    randomise(eva)
    backbone, frames = take_apart(eva, name="eva", mean=HALF, std=HALF), random_clips(3, 2)
    assert (getattr(eva.blocks[0].attn, "q_bias", None) is not None) == fused
    with torch.no_grad():
        before = backbone(frames[:, 0])
    model = make(backbone, fresh=True, rank=2)
    with torch.no_grad():
        torch.testing.assert_close(backbone(frames[:, 0]), before, atol=1e-6, rtol=1e-6)
    nn.functional.cross_entropy(model.train()(frames), torch.arange(3)).backward()
    reached = {name for name, value in model.named_parameters() if value.grad is not None and value.grad.any()}
    assert len([name for name in reached if "lora_B" in name]) == 2 * (1 if fused else 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_learns_two_clips(dtype: torch.dtype) -> None:
    backbone, frames = tiny_backbone(), random_clips(2, 2)
    backbone.store_in(dtype)
    frozen = {name: value.clone() for name, value in backbone.vit.named_parameters()}
    model = make(backbone, fresh=True, targets="all", rank=4).train()
    assert all(value.dtype == torch.float32 for value in trained_state(model).values())
    optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], lr=1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(frames), torch.arange(2))
        loss.backward()
        optimizer.step()
    assert loss < 0.05
    after = {name.replace(".base_layer.", "."): value for name, value in backbone.vit.named_parameters()}
    assert not [name for name, value in frozen.items() if not torch.equal(after[name], value)]


def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(DualPathError, match=r"^lora needs the package peft, which is missing; pip install 'dualpath\[lora\]'$"):
        build_model("lora", tiny_backbone(), num_classes=2)


def test_a_backbone_serves_one_model() -> None:
    backbone = tiny_backbone()
    make(backbone)
    with pytest.raises(DualPathError, match=r"this tiny holds the matrices of another lora model; load a backbone for each"):
        make(backbone)


@pytest.mark.parametrize("options", [{"rank": 0}, {"alpha": 0}], ids=str)
def test_options_of_nothing_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(DualPathError, match="must be at least 1"):
        LoRAConfig(**options)


def test_unknown_targets_are_refused() -> None:
    config = LoRAConfig()
    object.__setattr__(config, "targets", "mlp")  # past the annotation, which these tests check at run time
    with pytest.raises(DualPathError, match="targets is 'mlp', but it must be one of qkv, attention, all"):
        config.__post_init__()
