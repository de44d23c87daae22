"""Every family of image transformers: what is taken apart and put together again computes what timm computes."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn

from dualpath.errors import DualPathError
from dualpath.nn.backbone import Backbone, plain_step
from dualpath.nn.layer import Layer
from dualpath.nn.zoo import BackboneConfig, random_backbone
from families import FAMILIES, family_backbone, family_config
from tiny import random_clips

each_family = pytest.mark.parametrize("family", FAMILIES)


def timms(backbone: Backbone, pictures: Tensor) -> Tensor:
    with torch.no_grad():
        return backbone.vit(backbone.normalise(pictures))


@each_family
def test_walking_its_layers_is_timms_forward(family: str) -> None:
    backbone, pictures = family_backbone(family), random_clips(3)
    with torch.no_grad():
        ours = backbone(pictures)
    expected = timms(backbone, pictures)
    assert ours.shape == (3, backbone.features)
    torch.testing.assert_close(ours, expected, atol=3e-6, rtol=1e-5)
    assert (expected[0] - expected[1]).abs().max() > 1e-3


@each_family
def test_reading_before_the_projection_is_timms_pre_logits(family: str) -> None:
    backbone, pictures = family_backbone(family), random_clips(2)
    with torch.no_grad():
        expected = backbone.vit.forward_head(backbone.vit.forward_features(backbone.normalise(pictures)), pre_logits=True)
        ours = backbone(pictures, project=False)
    assert ours.shape == (2, backbone.pooled)
    torch.testing.assert_close(ours, expected, atol=3e-6, rtol=1e-5)


@each_family
def test_other_picture_sizes_than_the_pretrained_one(family: str) -> None:
    name, sizes = FAMILIES[family]
    changed = {key: value for key, value in sizes.items() if key != "img_size"}
    backbone = random_backbone(BackboneConfig(name, image_size=64, model_args=changed))
    pictures = random_clips(2, size=64)
    assert backbone.size == 64
    with torch.no_grad():
        torch.testing.assert_close(backbone(pictures), timms(backbone, pictures), atol=3e-6, rtol=1e-5)


@each_family
def test_pictures_of_another_size_with_positions_of_their_own(family: str) -> None:
    """Framesets of whole patches are larger than the backbone's pictures."""
    backbone = family_backbone(family)
    if family == "Swin":
        pytest.skip("its patches are so small that framesets of its own size are aligned")
    pictures = backbone.normalise(random_clips(4, size=48))
    positions = torch.randn(2, 36, backbone.width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        tokens = backbone.embed(pictures, positions=positions)
        assert tokens.shape == (4, backbone.prefix + 36, backbone.width)
        features = backbone.read(backbone.walk(tokens, plain_step, size=(48, 48)))
    assert features.shape == (4, backbone.features)
    assert features.isfinite().all()


@each_family
def test_own_positions_given_by_hand_change_nothing(family: str) -> None:
    backbone, pictures = family_backbone(family), random_clips(2)
    table = getattr(backbone.vit, "pos_embed", None)
    own = torch.zeros(1, 64, backbone.width) if table is None else table[:, -16:]
    own = torch.zeros(1, backbone.patch_grid[0] ** 2, backbone.width) if table is None else own
    with torch.no_grad():
        normalised = backbone.normalise(pictures)
        torch.testing.assert_close(backbone.embed(normalised, positions=own), backbone.embed(normalised), atol=1e-6, rtol=1e-6)


@each_family
def test_times_are_added_to_all_tokens_of_a_picture_as_positions_are(family: str) -> None:
    backbone = family_backbone(family)
    pictures = backbone.normalise(random_clips(4))
    times = torch.randn(2, backbone.width, generator=torch.Generator().manual_seed(0))
    seen: list[Tensor] = []
    norm = getattr(backbone.vit, "norm_pre", None)
    hook = None if norm is None else norm.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    with torch.no_grad():
        without, with_times = (backbone.embed(pictures, times=each) for each in (None, times))
    if hook is None:  # Swin has no norm between its positions, which are none, and its blocks
        seen = [without, with_times]
    else:
        hook.remove()
    torch.testing.assert_close(seen[1] - seen[0], times.repeat(2, 1)[:, None].expand_as(seen[0]), atol=1e-5, rtol=1e-5)
    assert with_times.shape == without.shape


@each_family
def test_reading_with_another_norm(family: str) -> None:
    backbone = family_backbone(family)
    tokens = backbone.walk(backbone.embed(backbone.normalise(random_clips(2))), plain_step)
    with torch.no_grad():
        own = backbone.read(tokens, norm=backbone.last_norm)
        assert torch.equal(own, backbone.read(tokens))
        assert not torch.equal(backbone.read(tokens, norm=lambda x: 2 * backbone.finish(x) + 1), own)


@each_family
def test_layers_say_where_the_patches_are(family: str) -> None:
    backbone = family_backbone(family)
    layers = list(backbone.layers())
    assert len(layers) == backbone.depth == len(backbone.widths)
    assert [layer.width for layer in layers] == list(backbone.widths)
    assert [layer.last for layer in layers] == [False] * (backbone.depth - 1) + [True]
    seen: list[tuple[int, ...]] = []

    def step(layer: Layer, part: None, tokens: Tensor) -> Tensor:
        assert tokens.shape[1:] == (layer.prefix + layer.grid[0] * layer.grid[1], layer.width)
        seen.append(layer.grid)
        return plain_step(layer, part, tokens)

    with torch.no_grad():
        backbone.walk(backbone.embed(backbone.normalise(random_clips(1))), step)
    assert seen == ([(8, 8), (4, 4), (4, 4)] if family == "Swin" else [(4, 4)] * backbone.depth)


@each_family
def test_mixing_along_a_sequence_treats_all_places_alike(family: str) -> None:
    """Attention without places: a permuted sequence gives the permuted result; and any length will do."""
    backbone = family_backbone(family)
    for layer in backbone.layers():
        x = torch.randn(3, 7, layer.width, generator=torch.Generator().manual_seed(1))
        order = torch.tensor([4, 0, 6, 2, 5, 1, 3])
        with torch.no_grad():
            torch.testing.assert_close(layer.mix(x)[:, order], layer.mix(x[:, order]), atol=2e-6, rtol=1e-5)
            assert (layer.mix(x)[:, 0] - layer.mix(x)[:, 1]).abs().max() > 1e-4


@each_family
def test_extra_tokens_are_left_unturned(family: str) -> None:
    """With tokens of a method's own between prefix and patches, rotary positions still meet the right patches."""
    backbone = family_backbone(family)
    if family == "Swin":
        pytest.skip("its windows have no place for tokens common to all")
    plain, more = next(backbone.layers()), next(backbone.layers(extra=2))
    assert more.prefix == plain.prefix + 2
    usual, longer = (getattr(layer, "rope", None) for layer in (plain, more))
    if usual is None or longer is None:
        assert usual is longer is None
        return
    half = longer.shape[-1] // 2
    assert torch.equal(longer[..., 2:, :], usual)
    assert not longer[..., :2, :half].any()
    assert (longer[..., :2, half:] == 1).all()
    tokens = torch.randn(2, more.prefix + 16, more.width, generator=torch.Generator().manual_seed(2))
    assert more.attend(tokens).shape == tokens.shape


@each_family
def test_stored_in_bf16_it_still_computes_the_same_roughly(family: str) -> None:
    backbone, pictures = family_backbone(family), random_clips(2)
    with torch.no_grad():
        exact = backbone(pictures)
        backbone.store_in(torch.bfloat16)
        rough = backbone(pictures)
    assert backbone.dtype == torch.bfloat16
    assert rough.dtype == torch.float32
    assert (rough - exact).norm() / exact.norm() < 0.05
    kept = [value.dtype for name, value in backbone.vit.named_buffers() if name.startswith("rope")]
    assert all(dtype == torch.float32 for dtype in kept)


@each_family
def test_gradient_checkpointing_changes_nothing(family: str) -> None:
    backbone, pictures = family_backbone(family), random_clips(2)
    scale = nn.ParameterList(nn.Parameter(torch.ones(width)) for width in backbone.widths)

    def step(layer: Layer, part: Tensor, tokens: Tensor) -> Tensor:
        return plain_step(layer, None, tokens * part)

    gradients = []
    for again in (False, True):
        backbone.gradient_checkpointing = again
        scale.zero_grad()
        backbone.read(backbone.walk(backbone.embed(backbone.normalise(pictures)), step, scale)).square().sum().backward()
        gradients.append([value.grad.clone() for value in scale if value.grad is not None])
    assert len(gradients[0]) == backbone.depth
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


REFUSED = {
    "resnet18": "is a ResNet; adapters are placed around the attention and the MLP of pre-norm transformer blocks",
    "swinv2_tiny_window8_256": "is a SwinTransformerV2; adapters are placed around",
    "beit_base_patch16_224": "is a Beit; adapters",
    "convnext_atto": "is a ConvNeXt; adapters",
    "eva02_enormous_patch14_clip_224": "has blocks of EvaBlockPostNorm, which do not norm, attend, norm and transform",
    "vit_base_patch16_xp_224": "has blocks of ParallelScalingBlock, which do not norm",
}


@pytest.mark.parametrize("name", [name for name in REFUSED if timm.is_model(name)])
def test_what_cannot_be_adapted_is_named_with_the_reason(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from dualpath.nn import hashing

    monkeypatch.setattr(hashing, "_hash", lambda state: "none on the meta device")
    with torch.device("meta"), pytest.raises(DualPathError) as refused:
        random_backbone(name)
    assert f"backbone {name} {REFUSED[name]}" in str(refused.value)


def test_changes_that_do_not_fit_are_told() -> None:
    with pytest.raises(DualPathError, match=r"image_size 30 is no whole number of .* patches of 8 pixels"):
        random_backbone(BackboneConfig("vit_tiny_patch16_224", image_size=30, model_args={"patch_size": 8}))
    with pytest.raises(DualPathError, match=r"vit_tiny_patch16_224 cannot be built with \{'bogus': 3"):
        random_backbone(BackboneConfig("vit_tiny_patch16_224", model_args={"bogus": 3}))
    with pytest.raises(DualPathError, match="image_size 0 must be at least 1"):
        family_config("CLIP") and BackboneConfig(image_size=0)
