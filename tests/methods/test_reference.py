"""The `reference` variant against the authors' computation, and what is particular to it."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor

from dualpath.engine.convert import trained_names
from dualpath.errors import DualPathError
from dualpath.methods import build_model, count_parameters, trained_state
from dualpath.methods.dualpath import DualPath
from dualpath.methods.dualpath_reference import IMAGENET, DualPathReference
from dualpath.methods.options import DualPathConfig
from dualpath.nn.backbone import Backbone
from dualpath.nn.families import take_apart
from oracles import authors
from tiny import HALF, random_clips, randomise, tiny_backbone

CLIP = "vit_base_patch16_clip_quickgelu_224"


def authors_model(*, size: int = 56, patch: int = 8, seed: int = 0) -> authors.Visual:
    visual = authors.Visual(size=size, patch=patch, width=64, depth=2, features=32, classes=7)
    randomise(visual, seed)
    return visual.eval()


def ours(visual: authors.Visual) -> DualPath:
    """The same weights in our model, carried over one by one."""
    side = round((len(visual.positional_embedding) - 1) ** 0.5)
    patch = visual.conv1.kernel_size[0]
    changes = {"embed_dim": 64, "depth": 2, "num_heads": 1, "num_classes": 32, "img_size": side * patch, "patch_size": patch}
    vit = timm.create_model(CLIP, **changes)
    theirs = visual.state_dict()
    own: dict[str, Tensor] = {
        "cls_token": theirs["class_embedding"][None, None],
        "pos_embed": theirs["positional_embedding"][None],
        "patch_embed.proj.weight": theirs["conv1.weight"],
        "head.weight": theirs["proj"].T,
    }
    for mine, name in (("norm_pre", "ln_pre"), ("norm", "ln_post")):
        own |= {f"{mine}.{part}": theirs[f"{name}.{part}"] for part in ("weight", "bias")}
    places = {
        "norm1": "ln_1", "norm2": "ln_2", "attn.qkv": "attn.in_proj_", "attn.proj": "attn.out_proj",
        "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
    }  # fmt: skip
    for n in range(2):
        for mine, name in places.items():
            for part in ("weight", "bias"):
                key = f"transformer.resblocks.{n}.{name}" + (part if name.endswith("_") else f".{part}")
                own[f"blocks.{n}.{mine}.{part}"] = theirs[key]
    missing, left = vit.load_state_dict(own, strict=False)
    assert (missing, left) in ([], []) or (set(missing) <= {"head.bias"} and not left)
    if "head.bias" in missing:
        torch.nn.init.zeros_(vit.head.bias)
    backbone = take_apart(vit, name="tiny clip", mean=HALF, std=HALF)
    model = build_model("dualpath", backbone, num_classes=7, config=DualPathConfig(variant="reference"))
    names = trained_names(f"visual.{name}" for name in theirs)
    wanted = dict(model.named_parameters())
    assert set(names.values()) == trained_state(model).keys()
    with torch.no_grad():
        for name, mine in names.items():
            wanted[mine].copy_(theirs[name.removeprefix("visual.")])
    assert isinstance(model, DualPath)
    return model.eval()


@pytest.mark.parametrize(("size", "patch", "t"), [(56, 8, 16), (56, 8, 32), (56, 4, 48), (64, 16, 16), (32, 8, 32)])
def test_it_computes_what_the_authors_code_computes(size: int, patch: int, t: int) -> None:
    visual = authors_model(size=size, patch=patch)
    model, frames = ours(visual), random_clips(2, t, size=size)
    with torch.no_grad():
        expected = torch.cat([visual(clip[None]) for clip in frames])
        torch.testing.assert_close(model(frames), expected, atol=2e-5, rtol=1e-5)
    assert (expected[0] - expected[1]).abs().max() > 1e-3


def test_it_normalises_with_imagenets_colours() -> None:
    model = ours(authors_model())
    assert (model.backbone.mean, model.backbone.std) == IMAGENET == (authors.MEAN, authors.STD)


def test_its_size_on_vit_b16(monkeypatch: pytest.MonkeyPatch) -> None:
    from dualpath.nn import hashing

    monkeypatch.setattr(hashing, "_hash", lambda state: "none on the meta device")
    with torch.device("meta"):
        backbone = take_apart(timm.create_model(CLIP, num_classes=512), name="b16", mean=HALF, std=HALF)
        model = DualPathReference(backbone, num_classes=400, config=DualPathConfig(variant="reference"))
    sizes = {name: value.numel() for name, value in trained_state(model).items()}
    adapters = sum(n for name, n in sizes.items() if name.startswith(("spatial", "temporal")))
    assert adapters == 12 * 5 * (2 * 768 * 192 + 192 + 768) == 17_752_320
    tables = sum(n for name, n in sizes.items() if name.startswith("tables"))
    assert tables == 768 + 2 * 197 * 768
    head = sum(n for name, n in sizes.items() if name.startswith("head"))
    assert head == 1024 * 512 + 512 + 512 * 400 + 400 == 730_000
    assert count_parameters(model)[0] == adapters + tables + head


def test_the_adapters_drop_a_tenth_in_training_only() -> None:
    model, frames = ours(authors_model()), random_clips(1, 16, size=56)
    with torch.no_grad():
        same = [model(frames) for _ in range(2)]
        torch.manual_seed(0)
        different = [model.train()(frames) for _ in range(2)]
    assert torch.equal(*same)
    assert (different[0] - different[1]).abs().max() > 1e-4


def test_gradients_reach_the_fifth_adapter_last() -> None:
    config = DualPathConfig(variant="reference")
    model = build_model("dualpath", tiny_backbone(pre_norm=True, num_classes=16), num_classes=3, config=config).train()
    frames = random_clips(2, 16)
    optimizer = torch.optim.SGD([value for value in model.parameters() if value.requires_grad], lr=0.1)
    reached: list[set[str]] = []
    for _ in range(3):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(frames), torch.arange(2)).backward()
        reached.append({name for name, value in model.named_parameters() if value.grad is not None and value.grad.any()})
        optimizer.step()
    # It stands before an attention whose own adapter begins with zeros, and so does its own second half.
    fifth = {name for name in trained_state(model) if ".before." in name}
    assert not reached[0] & fifth
    assert reached[1] & fifth == {name for name in fifth if ".up." in name}
    assert reached[1] | fifth == reached[2] == trained_state(model).keys()


@pytest.mark.parametrize("changes", [{"class_token": False, "global_pool": "avg"}, {"reg_tokens": 2}, {"no_embed_class": True}])
def test_it_needs_one_class_token_with_a_row_in_the_table(changes: dict) -> None:
    with pytest.raises(DualPathError, match="need one \\[CLS\\] token and a learned table with a row for it"):
        build_model("dualpath", tiny_backbone(**changes), num_classes=2, config=DualPathConfig(variant="reference"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"variant": "reference", "bottleneck": 64}, "bottleneck 64 would have no effect with variant reference"),
        ({"variant": "reference", "grid": (2, 2), "cell": "aligned"}, "grid (2, 2), cell aligned would have no effect"),
        ({"variant": "reference", "paths": "spatial"}, "paths spatial would have no effect with variant reference"),
        ({"paths": "spatial", "positions": "time"}, "positions time would have no effect with paths spatial"),
        ({"paths": "spatial", "temporal_mlp": "parallel"}, "temporal_mlp parallel would have no effect with paths spatial"),
        ({"paths": "temporal", "num_spatial_frames": 4}, "num_spatial_frames 4 would have no effect with paths temporal"),
    ],
)
def test_options_without_effect_are_refused(options: dict, said: str) -> None:
    with pytest.raises(DualPathError) as refused:
        DualPathConfig(**options)
    assert str(refused.value).startswith(said)
    assert str(refused.value).endswith("leave one of them out")


def test_the_uploaded_positions_in_the_papers_variant_train_one_table() -> None:
    config = DualPathConfig(positions="reference", grid=(4, 4), num_spatial_frames=2)
    model = build_model("dualpath", tiny_backbone(), num_classes=3, config=config)
    assert {name for name in trained_state(model) if name.startswith("tables")} == {"tables.temporal"}
    nothing = build_model("dualpath", tiny_backbone(), num_classes=3, config=DualPathConfig(num_spatial_frames=2))
    frames = random_clips(1, 16)
    assert isinstance(model, DualPath)
    assert isinstance(nothing, DualPath)
    with torch.no_grad():
        assert torch.equal(model.encode_spatial(frames), nothing.encode_spatial(frames))
        assert not torch.equal(model.encode_temporal(frames), nothing.encode_temporal(frames))


def test_a_backbone_stays_as_it_was_given() -> None:
    """A second model on it, or the backbone itself, must not see the other's normalisation."""
    backbone, frames = tiny_backbone(pre_norm=True, num_classes=16), random_clips(1, 16)
    with torch.no_grad():
        before = backbone(frames[0])
        model = build_model("dualpath", backbone, num_classes=3, config=DualPathConfig(variant="reference"))
        assert (backbone.mean, backbone.std) == (HALF, HALF)
        assert torch.equal(backbone(frames[0]), before)
    own, shared = model.backbone, backbone.vit.patch_embed.proj.weight
    assert isinstance(own, Backbone)
    assert own.vit.patch_embed.proj.weight is shared  # no second copy in memory
    assert (own.mean, own.std) == IMAGENET
    model.double()
    assert (own.mean, own.std) == IMAGENET
    with torch.no_grad():
        torch.testing.assert_close(backbone(frames[0]), before)  # in fp64 now, with its own mean and deviation


def test_the_papers_class_makes_no_other_model() -> None:
    for options in ({"variant": "reference"}, {"positions": "reference"}):
        with pytest.raises(DualPathError, match="DualPath is the paper's: build_model"):
            DualPath(tiny_backbone(), num_classes=3, config=DualPathConfig(**options))
