"""The frozen backbone: it computes what timm computes, loads what it is given and says what does not fit."""

from __future__ import annotations

import copy
import pickle
import time
from importlib import resources
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from timm.layers.activations import QuickGELU
from timm.models.vision_transformer import ParallelScalingBlock, VisionTransformer
from torch import Tensor

from dualpath.errors import DualPathError
from dualpath.nn import hashing, zoo
from dualpath.nn.backbone import Backbone
from dualpath.nn.families import take_apart
from dualpath.nn.zoo import CLIP_VIT_B16, EMBEDDED, BackboneConfig, load_backbone, random_backbone
from tiny import HALF, random_clips, tiny_backbone, tiny_vit

TIMM = "test_vit"  # timm's own small VisionTransformer: 160 pixels, 6 blocks of width 64


@pytest.fixture(scope="module")
def weight_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the embedded architecture, in timm's names."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "embedded.safetensors"
    save_file(random_backbone(EMBEDDED).vit.state_dict(), path)
    return path


def changed(source: Path, path: Path, **tensors: Tensor | None) -> Path:
    """A copy of a weight file with tensors (dots as double underscores) put in, or left out where None."""
    state = load_file(source)
    for key, value in tensors.items():
        name = key.replace("__", ".")
        if value is None:
            del state[name]
        else:
            state[name] = value
    save_file(state, path)
    return path


# What it computes


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"pre_norm": True, "num_classes": 16, "act_layer": QuickGELU},
        {"init_values": 0.1, "reg_tokens": 2},
        {"no_embed_class": True, "reg_tokens": 1},
        {"qk_norm": True, "num_classes": 16},
        {"dynamic_img_size": True},
        {"fc_norm": True},
        {"final_norm": False},
    ],
    ids=str,
)
def test_forward_is_timms_own(changes: dict[str, Any]) -> None:
    backbone, pictures = tiny_backbone(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), **changes), random_clips(3)
    twin = tiny_vit(**changes)
    mean, std = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1), torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)
    with torch.no_grad():
        expected = twin((pictures / 255 - mean) / std)
        assert backbone.features == expected.shape[1] == changes.get("num_classes", 24)
        torch.testing.assert_close(backbone(pictures), expected, atol=2e-6, rtol=1e-5)
    assert (expected[0] - expected[1]).abs().max() > 0.01


def test_features_of_a_projection_without_bias() -> None:
    vit = tiny_vit(num_classes=16)
    vit.head.register_parameter("bias", None)
    backbone, pictures = take_apart(vit, name="tiny", mean=HALF, std=HALF), random_clips(2)
    with torch.no_grad():
        torch.testing.assert_close(backbone(pictures), vit(backbone.normalise(pictures)), atol=2e-6, rtol=1e-5)


def test_other_positions_replace_its_own_and_repeat_in_order() -> None:
    backbone = tiny_backbone(reg_tokens=1)
    pictures = backbone.normalise(random_clips(4))
    with torch.no_grad():
        own = backbone.vit.pos_embed[0]
        same = backbone.embed(pictures, positions=own[None, 2:])
        torch.testing.assert_close(same, backbone.embed(pictures))
        shifted = backbone.embed(pictures, positions=torch.stack([own[2:], own[2:] + 1]))
    moved = torch.tensor([0.0, 1.0, 0.0, 1.0]).view(4, 1, 1).expand(4, 16, 24)
    torch.testing.assert_close(shifted[:, 2:] - same[:, 2:], moved, atol=1e-5, rtol=0)
    assert torch.equal(shifted[:, :2], same[:, :2])  # [CLS] and the register enter as they always do


def test_it_stays_frozen_and_in_evaluation_mode() -> None:
    backbone = tiny_backbone(pos_drop_rate=0.5, proj_drop_rate=0.5, attn_drop_rate=0.5, drop_path_rate=0.5)
    outer = torch.nn.ModuleDict({"backbone": backbone}).train()
    assert outer.training
    assert not [name for name, module in backbone.named_modules() if module.training]
    assert not [name for name, value in backbone.named_parameters() if value.requires_grad]
    pictures = random_clips(2)
    assert torch.equal(backbone(pictures), backbone(pictures))


def test_fused_attention_can_be_turned_off_and_changes_nothing_else() -> None:
    backbone, pictures = tiny_backbone(), random_clips(2)
    results = []
    for fused in (True, False):
        backbone.fuse_attention(fused)
        assert all(block.attn.fused_attn is fused for block in backbone.vit.blocks)
        results.append(backbone(pictures))
    torch.testing.assert_close(*results)


def test_figures() -> None:
    backbone = tiny_backbone(img_size=48, reg_tokens=1)
    assert (backbone.width, backbone.features, backbone.size, backbone.depth) == (24, 24, 48, 2)
    assert backbone.patch_grid == (6, 6)
    assert backbone.dtype == torch.float32
    assert [layer.last for layer in backbone.layers()] == [False, True]


def test_other_mean_and_std_are_taken_over() -> None:
    backbone = tiny_backbone()
    backbone.normalise_with((0.0, 0.0, 0.5), (1.0, 0.5, 0.25))
    assert (backbone.mean, backbone.std) == ((0.0, 0.0, 0.5), (1.0, 0.5, 0.25))
    white = torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)
    torch.testing.assert_close(backbone.normalise(white).flatten(), torch.tensor([1.0, 2.0, 2.0]))
    assert "_shift" not in backbone.state_dict()


# The hash


def test_the_hash_is_of_every_weight_and_name() -> None:
    assert tiny_backbone().hash == tiny_backbone().hash
    hashes = {tiny_backbone().hash, tiny_backbone(seed=1).hash}
    for name, _ in tiny_vit().named_parameters():
        vit = tiny_vit()
        with torch.no_grad():
            value = vit.get_parameter(name).view(-1)
            value[-1] = torch.nextafter(value[-1], torch.tensor(9.0))  # the smallest change there is
        hashes.add(take_apart(vit, name="tiny", mean=HALF, std=HALF).hash)
    assert len(hashes) == 2 + len(dict(tiny_vit().named_parameters()))


def test_the_hash_is_that_of_the_fp32_weights_whatever_they_are_stored_in(weight_file: Path) -> None:
    config = BackboneConfig(EMBEDDED, str(weight_file))
    full, half = load_backbone(config), load_backbone(config, dtype=torch.bfloat16)
    assert full.hash == half.hash
    assert half.dtype == torch.bfloat16
    assert torch.equal(half.vit.cls_token, full.vit.cls_token.bfloat16())
    assert half(random_clips(1, size=128)).dtype == torch.float32


def test_the_hash_is_waited_for_by_copies_and_before_weights_are_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, hash_now = tiny_backbone().hash, hashing._hash
    monkeypatch.setattr(hashing, "_hash", lambda state: time.sleep(0.2) or hash_now(state))

    def slow() -> Backbone:
        return take_apart(tiny_vit(), name="tiny", mean=HALF, std=HALF)

    half = slow()
    half.store_in(torch.bfloat16)
    assert half.hash == expected
    assert pickle.loads(pickle.dumps(slow())).hash == copy.deepcopy(slow()).hash == expected
    trained = slow()
    trained.unfreeze(lambda name: True)
    with torch.no_grad():
        for value in trained.vit.parameters():
            value.zero_()
    assert trained.hash == expected
    loaded = slow()
    loaded.vit.load_state_dict({name: value / 2 for name, value in loaded.vit.state_dict().items()})
    assert loaded.hash == expected


# Loading


@pytest.mark.parametrize("name", [EMBEDDED, TIMM])
def test_a_local_file_round_trips_bit_for_bit(name: str, tmp_path: Path) -> None:
    torch.manual_seed(5)
    source = random_backbone(name)
    save_file(source.vit.state_dict(), tmp_path / "w.safetensors")
    loaded = load_backbone(BackboneConfig(name, str(tmp_path / "w.safetensors")))
    ours, theirs = loaded.vit.state_dict(), source.vit.state_dict()
    assert ours.keys() == theirs.keys()
    assert not [key for key, value in ours.items() if not torch.equal(value, theirs[key])]
    assert (loaded.hash, loaded.mean, loaded.std, loaded.name) == (source.hash, source.mean, source.std, name)
    assert not [key for key, value in loaded.named_parameters() if value.requires_grad]


def test_an_imagenet_classifier_in_the_file_is_left_aside(weight_file: Path, tmp_path: Path) -> None:
    path = changed(weight_file, tmp_path / "w.safetensors", head__weight=torch.ones(1000, 192), head__bias=torch.ones(1000))
    loaded = load_backbone(BackboneConfig(EMBEDDED, str(path)))
    assert loaded.hash == load_backbone(BackboneConfig(EMBEDDED, str(weight_file))).hash
    assert loaded.features == 192


def test_what_does_not_fit_is_named(weight_file: Path, tmp_path: Path) -> None:
    path = changed(
        weight_file,
        tmp_path / "w.safetensors",
        norm__weight=None,
        norm__bias=None,
        blocks__9__mlp__fc1__bias=torch.ones(3),
        blocks__2__norm1__weight=torch.ones(7),
    )
    with pytest.raises(DualPathError) as caught:
        load_backbone(BackboneConfig(EMBEDDED, str(path)))
    message = str(caught.value)
    assert message == (
        f"{path} does not hold the weights of {EMBEDDED}: 2 missing (norm.bias, norm.weight); "
        "1 left over (blocks.9.mlp.fc1.bias); 1 of another shape (blocks.2.norm1.weight); give a file of this architecture"
    )


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"norm__weight": None}, r"1 missing \(norm.weight\);"),
        ({"surplus": torch.ones(1)}, r"1 left over \(surplus\);"),
        ({"norm__weight": torch.ones(3)}, r"1 of another shape \(norm.weight\);"),
        ({"patch_embed__proj__weight": torch.ones(192, 3, 32, 32)}, "it has patches of 32x32 pixels, not 16x16;"),
    ],
    ids=["missing", "left over", "another shape", "another patch size"],
)
def test_one_misfit_is_enough(change: dict[str, Tensor | None], found: str, weight_file: Path, tmp_path: Path) -> None:
    path = changed(weight_file, tmp_path / "w.safetensors", **change)
    with pytest.raises(DualPathError, match=f"does not hold the weights of {EMBEDDED}: {found}"):
        load_backbone(BackboneConfig(EMBEDDED, str(path)))


def test_long_lists_of_keys_are_cut(tmp_path: Path) -> None:
    save_file({"something.else": torch.ones(2)}, tmp_path / "w.safetensors")
    with pytest.raises(DualPathError, match=r"missing \(\S+, \S+, \S+ \.\.\.\); 1 left over \(something\.else\); give"):
        load_backbone(BackboneConfig(EMBEDDED, str(tmp_path / "w.safetensors")))


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("patch_embed__proj__weight", (192, 5)),
        ("patch_embed__proj__weight", (4,)),
        ("pos_embed", (1, 60, 192)),
        ("pos_embed", (3,)),
        ("visual__class_embedding", (3,)),
    ],
)
def test_what_timm_cannot_convert_is_refused_too(key: str, shape: tuple[int, ...], weight_file: Path, tmp_path: Path) -> None:
    path = changed(weight_file, tmp_path / "w.safetensors", **{key: torch.ones(shape)})
    with pytest.raises(DualPathError, match=rf"does not hold the weights of {EMBEDDED}"):
        load_backbone(BackboneConfig(EMBEDDED, str(path)))


def test_damaged_files_are_refused(weight_file: Path, tmp_path: Path) -> None:
    whole = weight_file.read_bytes()
    for number, content in enumerate((b"", b"not weights at all", whole[:-1], whole[: len(whole) // 2], whole[8:])):
        path = tmp_path / f"{number}.safetensors"
        path.write_bytes(content)
        with pytest.raises(DualPathError, match=r"is not a whole safetensors file .* give the weights of"):
            load_backbone(BackboneConfig(EMBEDDED, str(path)))


@pytest.mark.parametrize("name", [EMBEDDED, TIMM])
def test_a_missing_weight_file_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(DualPathError, match=rf"no weight file {tmp_path / 'none.safetensors'}; .*give the weights of {name}$"):
        load_backbone(BackboneConfig(name, str(tmp_path / "none.safetensors")))
    with pytest.raises(DualPathError, match=rf"folder {tmp_path} holds no weight file"):
        load_backbone(BackboneConfig(name, str(tmp_path)))


# Names


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(DualPathError, match=rf"unknown backbone 'vit_b16'; there are {EMBEDDED}, .*{CLIP_VIT_B16}, vit_\w+"):
        load_backbone(BackboneConfig("vit_b16"))
    with pytest.raises(DualPathError, match="vit_base_patch16_clip_224"):
        load_backbone(BackboneConfig("base_patch16_clip"))


def test_other_architectures_are_refused() -> None:
    with pytest.raises(
        DualPathError,
        match="resnet18 is a ResNet; adapters are placed around the attention and the MLP of pre-norm transformer blocks",
    ):
        random_backbone("resnet18")
    with pytest.raises(DualPathError, match="tiny reads no features out of its tokens; choose one with"):
        tiny_backbone(global_pool="")
    with pytest.raises(DualPathError, match="tiny has blocks of ParallelScalingBlock, which do not norm, attend, norm and"):
        tiny_backbone(block_fn=ParallelScalingBlock)


class Hub:
    """Stands in for the hub's session: answers, or raises."""

    def __init__(self, problem: Exception | None) -> None:
        self.problem = problem

    def head(self, url: str, *, timeout: float) -> None:
        assert url.startswith("https://")
        assert timeout < 10
        if self.problem is not None:
            raise self.problem


@pytest.mark.parametrize("problem", [OSError("no route to host\nand a long tale"), RuntimeError(""), KeyError("url")])
@pytest.mark.parametrize("answers", [True, False])
def test_a_hub_out_of_reach_is_one_sentence_that_names_a_way_on(
    problem: Exception, answers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, real = [], timm.create_model

    def create_model(name: str, *, pretrained: bool, **options: Any) -> VisionTransformer:
        if not pretrained:
            return real(name, pretrained=False, **options)
        asked.append((name, constants.HF_HUB_OFFLINE))
        raise problem

    monkeypatch.setattr(huggingface_hub.utils, "get_session", lambda: Hub(None if answers else problem))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(zoo, "create_model", create_model)
    with pytest.raises(DualPathError) as caught:
        load_backbone(BackboneConfig())
    assert asked == [(CLIP_VIT_B16, not answers)]  # one that does not answer is not asked again, only its cache
    assert constants.HF_HUB_OFFLINE is False
    message = str(caught.value)
    assert "\n" not in message
    assert "long tale" not in message
    assert message.startswith(f"the weights of {CLIP_VIT_B16} could not be fetched (")
    assert f"--backbone {EMBEDDED}" in message
    assert "--weights FILE" in message


# The embedded backbone


def test_the_embedded_backbone_needs_no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "create_model", lambda *_, **__: pytest.fail("asked timm"))
    backbone = load_backbone(BackboneConfig(EMBEDDED))
    assert backbone.name == EMBEDDED
    assert len(backbone.hash) == 64
    with torch.no_grad():
        pictures = random_clips(2, size=backbone.size)
        features = backbone(pictures)
    assert features.shape == (2, backbone.features)
    assert features.isfinite().all()
    assert (features[0] - features[1]).abs().max() > 1e-3
    state = load_file(str(resources.files("dualpath.nn") / "stills" / "model.safetensors"))
    held = backbone.vit.state_dict()
    assert not [name for name, value in held.items() if not torch.equal(value, state[name].float())]


def test_the_embedded_weights_are_small() -> None:
    size = (Path(str(resources.files("dualpath.nn"))) / "stills" / "model.safetensors").stat().st_size
    assert 100_000 < size <= 8e6


def test_weights_are_the_backbones_own_not_the_file_s(weight_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "moving.safetensors"
    path.write_bytes(weight_file.read_bytes())
    backbone = load_backbone(BackboneConfig(EMBEDDED, str(path)))
    before = {name: value.clone() for name, value in backbone.vit.state_dict().items()}
    with path.open("r+b") as file:  # in place: a mapped file would show it
        file.seek(-4096, 2)
        file.write(bytes(4096))
    for name, value in backbone.vit.state_dict().items():
        assert torch.equal(value, before[name])
        assert value.untyped_storage().resizable()
        assert value.untyped_storage().nbytes() == 4 * value.numel()
        assert value.is_contiguous()


def test_no_weights_are_drawn_that_a_file_replaces(weight_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(value: Tensor, *_: Any, **__: Any) -> Tensor:
        assert value.is_meta
        return value

    for name in ("uniform_", "normal_", "erfinv_"):
        monkeypatch.setattr(torch.Tensor, name, draw)
    load_backbone(BackboneConfig(EMBEDDED, str(weight_file)))
