"""DualPath against its equations, and what must hold before, during and after training."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, Literal

import pytest
import torch
from timm.layers.activations import QuickGELU
from torch import Tensor, nn

from dualpath.errors import DualPathError
from dualpath.methods import build_model, count_parameters
from dualpath.methods.base import draw, spread
from dualpath.methods.dualpath import DualPath, DualPathConfig
from dualpath.nn import hashing
from dualpath.nn.adapters import OrderedClassifier
from dualpath.nn.zoo import CLIP_VIT_B16, random_backbone
from oracles import dualpath as oracle
from tiny import random_clips, randomise_adapters, tiny_backbone

CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def make(
    *,
    frames: int = 2,
    grid: tuple[int, int] = (2, 2),
    bottleneck: int = 6,
    fresh: bool = False,
    options: dict[str, Any] | None = None,
    **changes: Any,
) -> DualPath:
    chosen = {"num_spatial_frames": frames, "grid": grid, "bottleneck": bottleneck} | (options or {})
    config = DualPathConfig(**{name: value for name, value in chosen.items() if value is not None})
    model = build_model("dualpath", tiny_backbone(**changes), num_classes=5, config=config)
    assert isinstance(model, DualPath)
    if not fresh:
        randomise_adapters(model)
        if isinstance(model.head, OrderedClassifier):
            nn.init.normal_(model.head.out.weight, std=0.1)
    return model.eval()


CASES: dict[str, dict[str, Any]] = {
    "grid 4x4, one frameset": {"grid": (4, 4), "t": 16, "frames": 8},
    "grid 2x2, three framesets": {"grid": (2, 2), "t": 12, "frames": 5},
    "grid 2x4, two framesets": {"grid": (2, 4), "t": 16, "frames": 3},
    "grid 4x1": {"grid": (4, 1), "t": 8, "frames": 1},
    "grid 1x1": {"grid": (1, 1), "t": 2, "frames": 2},
    "clip": {"grid": (2, 2), "t": 4, "pre_norm": True, "num_classes": 16, "mean": CLIP[0], "std": CLIP[1]},
    "clip, quick gelu, eps 1e-5": {
        "grid": (2, 2), "t": 8, "pre_norm": True, "num_classes": 16, "act_layer": QuickGELU, "norm_layer": nn.LayerNorm,
    },
    "projection without bias": {"grid": (2, 2), "t": 4, "num_classes": 16, "no_bias": True},
    "four frames in two segments": {"grid": (2, 2), "t": 8, "frames": 4, "options": {"num_segments": 2}},
    "five frames in three segments": {"grid": (2, 2), "t": 8, "frames": 5, "options": {"num_segments": 3}},
    "segments of the spatial path alone": {
        "t": 4, "frames": 4, "grid": None, "options": {"paths": "spatial", "num_segments": 4},
    },
    "layer scale": {"grid": (2, 2), "t": 4, "init_values": 1e-5},
    "registers": {"grid": (2, 2), "t": 4, "reg_tokens": 3},
    "registers, positions for patches alone": {"grid": (2, 2), "t": 4, "reg_tokens": 2, "no_embed_class": True},
    "straddling rows and columns": {"grid": (2, 2), "t": 8, "img_size": 24},
    "straddling, 3.5 patches a cell": {"grid": (4, 4), "t": 16, "img_size": 56, "patch_size": 4, "depth": 1},
    "straddling rows only": {"grid": (2, 3), "t": 6, "img_size": 24},
    "tokens larger than cells": {"grid": (4, 4), "t": 16, "img_size": 16},
    "width not a multiple of six": {"grid": (2, 2), "t": 4, "embed_dim": 20},
    "dynamic picture size": {"grid": (2, 2), "t": 8, "dynamic_img_size": True},
    "spatial path alone": {"t": 4, "options": {"paths": "spatial", "grid": None}},
    "temporal path alone": {"t": 4, "options": {"paths": "temporal", "num_spatial_frames": None}},
    "the other way round": {
        "t": 4,
        "options": {
            "spatial_attention": "serial", "spatial_mlp": "serial",
            "temporal_attention": "parallel", "temporal_mlp": "parallel",
        },
    },
    "mixed": {"t": 4, "options": {"spatial_mlp": "serial", "temporal_attention": "parallel"}},
    "no positions": {"t": 8, "options": {"positions": "none"}},
    "time alone": {"t": 8, "options": {"positions": "time"}},
    "time alone, straddling": {"t": 8, "img_size": 24, "options": {"positions": "time"}},
    "aligned cells": {"t": 8, "img_size": 24, "options": {"cell": "aligned"}},
    "aligned cells, registers": {"grid": (4, 4), "t": 16, "img_size": 24, "reg_tokens": 2, "options": {"cell": "aligned"}},
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_agrees_with_the_equations(case: dict[str, Any]) -> None:
    options = dict(case)
    t, no_bias, quick = options.pop("t"), options.pop("no_bias", False), "act_layer" in options
    model = make(**options)
    config = model.config
    if no_bias:
        model.backbone.vit.head.register_parameter("bias", None)
    shape = oracle.Shape(
        patch=options.get("patch_size", 8),
        heads=2,
        grid=model.config.grid,
        num_spatial_frames=model.config.num_spatial_frames,
        mean=model.backbone.mean,
        std=model.backbone.std,
        eps=1e-5 if "norm_layer" in options else 1e-6,
        quick_gelu=quick,
        spatial=config.spatial_places,
        temporal=config.temporal_places,
        positions=config.positions_used,
        cell=model.cell[0] if config.cell == "aligned" else None,
        segments=config.segments,
    )
    frames = random_clips(2, t, size=model.backbone.size)
    expected = oracle.dualpath(model.state_dict(), frames.numpy(), shape)
    with torch.no_grad():
        actual = {"logits": model(frames)}
        if model.spatial is not None:
            actual["spatial"] = model.encode_spatial(frames)
        if model.temporal is not None:
            actual["temporal"] = model.encode_temporal(frames)
    for name, value in actual.items():
        assert value.dtype == torch.float32
        wanted = torch.from_numpy(expected[name])
        torch.testing.assert_close(value.double(), wanted, atol=1e-5, rtol=1e-5, msg=lambda m, name=name: f"{name}: {m}")
    if config.paths == "both":
        last = actual["spatial"][:, -model.backbone.features :]
        assert (last - actual["temporal"]).abs().max() > 0.1  # two different looks


def test_each_adapter_matters_to_its_own_path() -> None:
    model, frames = make(), random_clips(1, 8)
    with torch.no_grad():
        before = model.encode_spatial(frames), model.encode_temporal(frames)
        for path, other in ((0, 1), (1, 0)):
            for block in (model.spatial, model.temporal)[path]:
                for adapter in (block.attention, block.mlp):
                    kept = adapter.up.weight.clone()
                    adapter.up.weight.mul_(2)
                    after = model.encode_spatial(frames), model.encode_temporal(frames)
                    adapter.up.weight.copy_(kept)
                    assert (after[path] - before[path]).abs().max() > 1e-3
                    assert torch.equal(after[other], before[other])


# What a fresh model is


def block_inputs(model: DualPath, look: str, *arguments: Tensor) -> tuple[list[Tensor], Tensor]:
    """What enters each norm of the frozen transformer while `look` runs, and the result."""
    seen: list[Tensor] = []
    norms = [norm for block in model.backbone.vit.blocks for norm in (block.norm1, block.norm2)]
    hooks = [norm.register_forward_pre_hook(lambda _, args: seen.append(args[0])) for norm in norms]
    with torch.no_grad():
        result = getattr(model, look)(*arguments)
    for hook in hooks:
        hook.remove()
    return seen, result


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("changes", [{}, {"pre_norm": True, "num_classes": 16}, {"reg_tokens": 2, "init_values": 0.1}])
def test_a_fresh_spatial_path_is_the_frozen_backbone_bit_for_bit(changes: dict[str, Any], dtype: torch.dtype) -> None:
    model, frames = make(fresh=True, frames=4, **changes), random_clips(2, 8)
    model.backbone.vit.to(dtype)
    sparse = frames[:, spread(frames.shape[1], 4)]
    ours, spatial = block_inputs(model, "encode_spatial", frames)
    theirs, features = block_inputs(model, "backbone", sparse.flatten(0, 1))
    assert len(ours) == len(theirs) == 4
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert not torch.equal(ours[0], ours[-2])
    assert torch.equal(spatial, features.unflatten(0, (2, 4)).mean(dim=1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fresh_temporal_blocks_are_the_identity_bit_for_bit(dtype: torch.dtype) -> None:
    model, frames = make(fresh=True), random_clips(2, 8)
    model.backbone.vit.to(dtype)
    seen, temporal = block_inputs(model, "encode_temporal", frames)
    assert len(seen) == 4
    # The last MLP gets [CLS] alone: nothing else would be read.
    assert [tokens.shape[1] for tokens in seen] == [17, 17, 17, 1]
    assert all(torch.equal(tokens, seen[0][:, : tokens.shape[1]]) for tokens in seen)
    with torch.no_grad():
        assert torch.equal(temporal, model.backbone.read(seen[0]).unflatten(0, (2, 2)).mean(dim=1))


def test_spatial_frames_are_the_middles_of_equal_parts() -> None:
    assert spread(48, 8) == [3, 9, 15, 21, 27, 33, 39, 45]
    assert spread(16, 5) == [1, 4, 8, 11, 14]
    assert spread(7, 7) == [0, 1, 2, 3, 4, 5, 6]


def test_the_temporal_path_sees_order_and_the_spatial_path_only_its_frames() -> None:
    model, frames = make(frames=8), random_clips(1, 8)
    reverse = frames.flip(1)
    with torch.no_grad():
        torch.testing.assert_close(model.encode_spatial(frames), model.encode_spatial(reverse), atol=1e-5, rtol=0)
        assert (model.encode_temporal(frames) - model.encode_temporal(reverse)).abs().max() > 0.01


# Sizes


@pytest.mark.parametrize(
    ("name", "adapters"),
    [
        ("vit_base_patch16_clip_224", 9_480_192),
        ("vit_large_patch14_clip_224", 25_276_416),
        (CLIP_VIT_B16, 9_480_192),
    ],
)
def test_trained_sizes_of_the_paper(name: str, adapters: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_hash", lambda state: "none on the meta device")
    with torch.device("meta"):
        model = build_model("dualpath", random_backbone(name), num_classes=400)
    assert isinstance(model, DualPath)
    assert count_parameters(model.spatial)[0] + count_parameters(model.temporal)[0] == adapters
    head = sum(value.numel() for value in model.head.parameters())
    features = model.backbone.features
    assert head == 2 * features * features + features + 400 * features + 400
    assert count_parameters(model)[0] == adapters + head
    if name == CLIP_VIT_B16:
        assert features == 512
        assert head == 730_000


# Training


def train_steps(model: DualPath, frames: Tensor, *, steps: int) -> list[dict[str, Tensor]]:
    """Real optimizer steps, and the gradients of each."""
    trained = [value for value in model.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0.05)
    labels, gradients = torch.arange(len(frames)) % 5, []
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model.train()(frames), labels).backward()
        gradients.append({name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None})
        optimizer.step()
    return gradients


def test_only_adapters_and_head_are_trained() -> None:
    model = make(fresh=True)
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    assert trained == {name for name, _ in model.named_parameters() if name.split(".")[0] in ("spatial", "temporal", "head")}
    # 2 paths x 2 blocks x 2 adapters x (2 matrices, 2 biases), and the classifier's two layers
    assert len(trained) == 2 * 2 * 2 * 4 + 4
    assert not [name for name, value in model.backbone.named_parameters() if value.requires_grad]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_reach_every_trained_tensor_within_two_steps_and_no_frozen_one(dtype: torch.dtype) -> None:
    model = make(fresh=True)
    model.backbone.vit.to(dtype)
    first, second = train_steps(model, random_clips(3, 4), steps=2)
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    assert first.keys() == second.keys() == trained
    assert all(gradient.dtype == torch.float32 for gradient in second.values())
    assert not [name for name, gradient in second.items() if not gradient.abs().max() > 0]
    # In the first step only what stands behind a zero matrix is not reached.
    still = {name for name, gradient in first.items() if gradient.abs().max() == 0}
    assert still == {name for name in trained if ".down." in name}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_leaves_every_frozen_tensor_bit_identical(dtype: torch.dtype) -> None:
    model = make(fresh=True, pre_norm=True, num_classes=16, init_values=0.1, reg_tokens=1)
    model.backbone.vit.to(dtype)
    frozen = {name: value.clone() for name, value in (*model.backbone.named_parameters(), *model.backbone.named_buffers())}
    assert {"_shift", "_scale"} < frozen.keys()
    fresh = {name: value.clone() for name, value in model.named_parameters() if value.requires_grad}
    train_steps(model, random_clips(3, 4), steps=4)
    after = dict((*model.backbone.named_parameters(), *model.backbone.named_buffers()))
    assert after.keys() == frozen.keys()
    assert not [
        name for name, value in after.items() if value.dtype != frozen[name].dtype or not torch.equal(value, frozen[name])
    ]
    moved = dict(model.named_parameters())
    assert not [name for name, value in fresh.items() if torch.equal(moved[name], value)]
    assert all(moved[name].dtype == torch.float32 for name in fresh)


def test_a_few_steps_learn_two_clips() -> None:
    model, frames = make(fresh=True), random_clips(2, 4)
    train_steps(model, frames, steps=30)
    with torch.no_grad():
        assert nn.functional.cross_entropy(model(frames), torch.arange(2)) < 0.05


# Numbers


def test_a_clip_does_not_see_the_others_of_its_batch() -> None:
    model, frames = make(grid=(2, 4)), random_clips(5, 16)
    with torch.no_grad():
        together = model(frames)
        alone = torch.cat([model(clip[None]) for clip in frames])
        turned = model(frames.flip(0)).flip(0)
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(together, turned, atol=1e-6, rtol=1e-6)
    assert (together[0] - together[1]).abs().max() > 1e-3


def test_bf16_stays_near_fp32() -> None:
    model, frames = make(pre_norm=True, num_classes=16), random_clips(4, 8)
    with torch.no_grad():
        exact = model(frames)
        model.backbone.store_in(torch.bfloat16)
        rounded = model(frames)
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    assert (rounded - exact).norm() / exact.norm() < 2e-2


def test_pixels_are_normalised_by_the_backbones_own_mean_and_std() -> None:
    backbone = tiny_backbone(mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0))
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 3, 1, 1)
    expected = torch.tensor([[-1.0, -1.0, 0.0], [-0.6, -0.2, 0.2], [1.0, 3.0, 1.0]])
    torch.testing.assert_close(backbone.normalise(pixels).flatten(1), expected, atol=1e-6, rtol=0)


def test_frozen_blocks_without_their_skip() -> None:
    layer = next(tiny_backbone(init_values=0.1).layers())
    tokens = torch.randn(2, 5, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        middle = tokens + layer.attend(layer.norm1(tokens))
        torch.testing.assert_close(middle + layer.transform(layer.norm2(middle)), layer.block(tokens))


# What is refused


@pytest.mark.parametrize("t", [0, 3, 6, 9])
def test_frames_must_fill_framesets(t: int) -> None:
    with pytest.raises(DualPathError, match=rf"{t} frames do not fill framesets of 2x2 = 4 frames; take a multiple of 4 "):
        make()(torch.zeros(1, t, 3, 32, 32, dtype=torch.uint8))


def test_a_clip_must_have_the_spatial_frames() -> None:
    with pytest.raises(DualPathError, match=r"takes 5 frames but a clip has 4; lower num_spatial_frames or raise num_frames"):
        make(frames=5)(random_clips(1, 4))


@pytest.mark.parametrize("size", [(16, 16), (32, 40), (64, 32)])
def test_pictures_must_have_the_backbones_size(size: tuple[int, int]) -> None:
    with pytest.raises(DualPathError, match=rf"{size[0]}x{size[1]} pixels; tiny takes 32x32: resize or crop"):
        make()(torch.zeros(1, 4, 3, *size, dtype=torch.uint8))


def test_the_grid_must_divide_the_picture() -> None:
    with pytest.raises(DualPathError, match=r"32x32 pixels cannot be cut into a grid of 3x2; .*divide"):
        make(grid=(3, 2))(random_clips(1, 6))


@pytest.mark.parametrize(
    "options", [{"num_spatial_frames": 0}, {"grid": (0, 4)}, {"grid": (4, -1)}, {"bottleneck": 0}], ids=str
)
def test_a_config_of_nothing_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(DualPathError, match="each must be at least 1"):
        DualPathConfig(**options)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"num_segments": 0}, "num_segments 0 must be at least 1 and at most num_spatial_frames, 8"),
        ({"num_segments": 3, "num_spatial_frames": 2}, "num_segments 3 must be at least 1 and at most num_spatial_frames, 2"),
        ({"num_segments": 2, "paths": "temporal"}, "num_segments 2 would have no effect with paths temporal"),
        ({"num_segments": 2, "variant": "reference"}, "num_segments 2 would have no effect with variant reference"),
    ],
)
def test_segments_that_cannot_be_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(DualPathError, match=told):
        DualPathConfig(**options)


def test_a_classifier_of_segments_reads_the_frozen_features_at_first() -> None:
    model = make(frames=4, options={"num_segments": 2}, fresh=True)
    assert isinstance(model.head, OrderedClassifier)
    assert not model(random_clips(2, 8)).any()  # it begins at zero
    weight, bias = torch.randn(5, 2 * model.backbone.features, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    frames = random_clips(3, 8)
    with torch.no_grad():
        model.head.out.weight[:, : weight.shape[1]] = weight
        model.head.out.bias.copy_(bias)
        looks = model.backbone(frames[:, model.spatial_frames(8)].flatten(0, 1)).unflatten(0, (3, 4))
        means = [nn.functional.layer_norm(part.mean(dim=1), part.shape[-1:]) for part in looks.split(2, dim=1)]
        torch.testing.assert_close(
            model(frames), (torch.cat(means, dim=1).double() @ weight.T + bias).float(), atol=1e-5, rtol=1e-5
        )


def test_the_defaults_are_the_papers() -> None:
    config = DualPathConfig()
    assert config.segments == 1
    assert (config.num_spatial_frames, config.grid, config.bottleneck_for(768), config.positions_used) == (8, (4, 4), 128, "3d")
    assert (config.spatial_places, config.temporal_places) == (("parallel", "parallel"), ("serial", "serial"))


@pytest.mark.parametrize("variant", ["paper", "reference"])
def test_gradient_checkpointing_changes_no_digit_of_a_gradient(variant: Literal["paper", "reference"]) -> None:
    """In `reference` adapters drop out: the second computation has to drop the same."""
    narrow = {"bottleneck": 6, "num_spatial_frames": 2, "grid": (2, 2)}
    config = DualPathConfig(variant, **(narrow if variant == "paper" else {}))
    model = build_model("dualpath", tiny_backbone(), num_classes=5, config=config).train()
    randomise_adapters(model)
    attended: list[int] = []
    for block in model.backbone.vit.blocks:  # pyright: ignore
        block.ls1.register_forward_hook(lambda *_: attended.append(1))

    def gradients(*, again: bool, seed: int = 0) -> dict[str, Tensor]:
        model.zero_grad()
        attended.clear()
        model.backbone.gradient_checkpointing = again
        torch.manual_seed(seed)
        model(random_clips(2, 16)).square().sum().backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    kept = gradients(again=False)
    assert len(attended) == 2 * model.backbone.depth
    found = gradients(again=True)
    assert len(attended) == 4 * model.backbone.depth
    assert kept.keys() == found.keys() == {name for name, p in model.named_parameters() if p.requires_grad}
    assert all(torch.equal(kept[name], found[name]) for name in kept)
    assert all(value.abs().max() > 0 for value in kept.values())
    other = gradients(again=False, seed=1)
    assert all(torch.equal(kept[name], other[name]) for name in kept) == (variant == "paper")


COMPILED = """
import torch
from dualpath.methods import build_model
from dualpath.nn.zoo import random_backbone
for dtype in (torch.float32, torch.bfloat16):
    torch.manual_seed(0)
    backbone = random_backbone("stills_vit_tiny_patch16_128", dtype=dtype)
    model = build_model("dualpath", backbone, num_classes=3).eval()
    frames = torch.randint(0, 256, (1, 16, 3, 128, 128), dtype=torch.uint8)
    run = torch.compile(model, fullgraph=True, backend="eager")
    with torch.inference_mode():
        expected = model(frames)  # makes what is kept
        assert torch.equal(run(frames), expected)
"""


def test_compiles_as_one_graph() -> None:
    """A break in the graph, or codes of positions made anew in it, would cost on a GPU what compiling gains.

    In a process of its own: the checks of shapes that tests switch on cannot be compiled.
    """
    told = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", COMPILED], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr


def test_a_training_step_sees_a_frame_of_each_part_and_an_evaluation_all() -> None:
    backbone = tiny_backbone()
    model = DualPath(backbone, num_classes=3, config=DualPathConfig(num_spatial_frames=8, grid=(2, 2), train_spatial_frames=2))
    frames = random_clips(2, 16)
    seen: list[int] = []

    def note(pictures: torch.Tensor) -> torch.Tensor:
        seen.append(len(pictures))
        return normalise(pictures)

    normalise = backbone.normalise
    backbone.normalise = note  # pyright: ignore[reportAttributeAccessIssue]
    model.train().encode_spatial(frames)
    model.eval().encode_spatial(frames)
    assert seen == [4, 16]


def test_which_frames_a_step_sees_follows_the_seed() -> None:
    drawn = []
    for seed in (0, 0, *range(1, 30)):
        torch.manual_seed(seed)
        drawn.append(tuple(draw([1, 3, 5, 7, 9, 11, 13, 15], 2)))
    assert drawn[0] == drawn[1]
    assert {first for first, _ in drawn} == {1, 3, 5, 7}
    assert {second for _, second in drawn} == {9, 11, 13, 15}
    assert draw([1, 2, 3], 3) == draw([1, 2, 3], 5) == [1, 2, 3]
    assert DualPathConfig(train_spatial_frames=0).frames_in_training == 8
    assert DualPathConfig(variant="reference").frames_in_training == 8
    assert DualPathConfig().frames_in_training == 2
    assert [DualPathConfig(num_segments=n).frames_in_training for n in (1, 2, 3, 4, 8)] == [2, 2, 3, 4, 8]
    assert DualPathConfig(num_segments=2, train_spatial_frames=3).frames_in_training == 4  # as many of each
    with pytest.raises(DualPathError, match="train_spatial_frames -1 must be 0"):
        DualPathConfig(train_spatial_frames=-1)
