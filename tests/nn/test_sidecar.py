"""What a weight file cannot hold is compared with what lies beside it: another computation is refused or said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from archives import openai_state, write_archive
from dualpath.errors import DualPathError
from dualpath.nn.weights import load_weights
from tiny import randomise

TINY = {"embed_dim": 64, "depth": 2, "num_heads": 1, "img_size": 32, "patch_size": 16, "mlp_ratio": 2, "num_classes": 0}
QUICK, PLAIN, VIT = "vit_base_patch16_clip_quickgelu_224", "vit_base_patch16_clip_224", "vit_base_patch16_224"


def tiny(name: str, **changes: Any) -> Any:
    model = timm.create_model(name, **(TINY | changes)).eval()
    randomise(model)
    return model


def transformers_vit(folder: Path, model: nn.Module, **config: Any) -> Path:
    """A timm ViT as transformers would publish it."""
    words = {"cls_token": "embeddings.cls_token", "pos_embed": "embeddings.position_embeddings", "norm1": "layernorm_before"}
    words |= {
        "patch_embed.proj": "embeddings.patch_embeddings.projection",
        "norm2": "layernorm_after",
        "blocks": "encoder.layer",
    }
    words |= {"mlp.fc1": "intermediate.dense", "mlp.fc2": "output.dense", "attn.proj": "attention.output.dense"}
    state = {}
    for name, value in model.state_dict().items():
        for ours, theirs in words.items():
            name = name.replace(ours, theirs)
        if name.startswith("norm."):
            name = name.replace("norm.", "layernorm.")
        if "attn.qkv" in name:
            for part, third in zip(("query", "key", "value"), value.chunk(3), strict=True):
                state[name.replace("attn.qkv", f"attention.attention.{part}")] = third.clone()
        else:
            state[name] = value
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps({"model_type": "vit", "hidden_size": 64} | config))
    return folder


def openclip(folder: Path, model: nn.Module, **config: Any) -> Path:
    """A timm CLIP tower as OpenCLIP would publish it."""
    numbers = ("input_resolution", "context_length", "vocab_size")
    state = {name: value for name, value in openai_state(model).items() if name not in numbers}
    torch.save(state, folder / "open_clip_pytorch_model.bin")
    tower = {"width": 64, "layers": 2} | config.pop("vision_cfg", {})
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"vision_cfg": tower} | config}))
    return folder


def same(ours: nn.Module, theirs: nn.Module) -> bool:
    found, wanted = ours.state_dict(), theirs.state_dict()
    return all(torch.equal(found[name], value) for name, value in wanted.items())


@pytest.mark.parametrize("archive", [True, False])
def test_openais_clip_wants_quickgelu(archive: bool, tmp_path: Path) -> None:
    state, path, target = openai_state(tiny(QUICK)), tmp_path / "w.pt", tiny(PLAIN, num_heads=1).requires_grad_(False)
    write_archive(state, path) if archive else torch.save(state, path)
    target.norm.weight.zero_()
    with pytest.raises(DualPathError) as caught:
        load_weights(target, path, name=f"{PLAIN}.openai")
    assert str(caught.value) == (
        f"{path} is not for {PLAIN}.openai: by OpenAI's CLIP it computes with quick_gelu, this backbone with gelu; "
        f"use the backbone {QUICK}"
    )
    assert not target.norm.weight.any()  # nothing was copied
    load_weights(tiny(QUICK), path, name=QUICK)


def test_openais_clip_has_heads_of_64(tmp_path: Path) -> None:
    torch.save(openai_state(tiny(QUICK)), tmp_path / "w.pt")
    with pytest.raises(DualPathError, match=r"by OpenAI's CLIP its attention has 1 head, not 2; give a file of this arch"):
        load_weights(tiny(QUICK, num_heads=2), tmp_path / "w.pt", name=QUICK)


@pytest.mark.parametrize(("name", "right", "quick"), [(QUICK, PLAIN, False), (PLAIN, QUICK, True)])
def test_openclips_activation(name: str, right: str, quick: bool, tmp_path: Path) -> None:
    openclip(tmp_path, tiny(right), **({"quick_gelu": True} if quick else {}))
    for path in (tmp_path, tmp_path / "open_clip_pytorch_model.bin"):
        with pytest.raises(DualPathError, match=rf"open_clip_config.json it computes with .*; use the backbone {right}$"):
            load_weights(tiny(name), path, name=name)
        target = tiny(right, num_classes=24)
        target.reset_classifier(0)
        load_weights(target, path, name=right)


def test_openclips_heads(tmp_path: Path) -> None:
    openclip(tmp_path, tiny(PLAIN), vision_cfg={"head_width": 16})
    load_weights(tiny(PLAIN, num_heads=4), tmp_path, name=PLAIN)
    with pytest.raises(DualPathError, match=r"by open_clip_config.json its attention has 4 heads, not 1"):
        load_weights(tiny(PLAIN), tmp_path, name=PLAIN)


def test_without_a_configuration_nothing_is_known(tmp_path: Path) -> None:
    source = tiny(QUICK)
    (openclip(tmp_path, source) / "open_clip_config.json").unlink()
    target = tiny(PLAIN, num_heads=2)
    load_weights(target, tmp_path, name=PLAIN)
    assert same(target, source)


@pytest.mark.parametrize("act", ["quick_gelu", "relu", "silu"])
def test_another_activation_is_refused(act: str, tmp_path: Path) -> None:
    transformers_vit(tmp_path, tiny(VIT), hidden_act=act)
    with pytest.raises(DualPathError) as caught:
        load_weights(tiny(VIT), tmp_path, name=VIT)
    assert str(caught.value) == (
        f"{tmp_path} is not for {VIT}: by config.json it computes with {act}, this backbone with gelu; "
        f"choose a backbone that computes with {act}"
    )


@pytest.mark.parametrize(
    ("config", "changes", "said"),
    [
        ({"layer_norm_eps": 1e-6}, {}, ""),
        ({"layer_norm_eps": 1e-6, "hidden_act": "gelu", "num_attention_heads": 1}, {}, ""),
        ({"layer_norm_eps": 1e-6, "hidden_act": "gelu_new"}, {"act_layer": "gelu_tanh"}, ""),
        ({"layer_norm_eps": 1e-6, "hidden_act": "gelu_pytorch_tanh"}, {"act_layer": nn.Identity}, ""),  # not to be compared
        ({}, {}, f"by config.json its LayerNorms have an epsilon of 1e-12, those of {VIT} 1e-06"),
        ({"layer_norm_eps": 1e-5}, {}, f"by config.json its LayerNorms have an epsilon of 1e-05, those of {VIT} 1e-06"),
        (
            {"layer_norm_eps": 1e-6, "hidden_act": "gelu_pytorch_tanh"},
            {},
            f"by config.json it computes with gelu_pytorch_tanh, {VIT} with gelu: nearly the same",
        ),
        ({"hidden_size": 768, "hidden_act": "relu"}, {}, ""),  # of another file
    ],
    ids=str,
)
def test_what_is_nearly_the_same_is_said(
    config: dict[str, Any], changes: dict[str, Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tiny(VIT)
    transformers_vit(tmp_path, source, **config)
    target = tiny(VIT, **changes)
    target.norm.weight.data.zero_()
    load_weights(target, tmp_path, name=VIT)
    assert same(target, source)
    assert capsys.readouterr().err == (f"{tmp_path}: {said}\n" if said else "")


def test_another_number_of_heads_is_refused(tmp_path: Path) -> None:
    transformers_vit(tmp_path, tiny(VIT), num_attention_heads=4)
    with pytest.raises(DualPathError, match=r"by config.json its attention has 4 heads, not 1; give a file of this"):
        load_weights(tiny(VIT), tmp_path, name=VIT)


@pytest.mark.parametrize("content", ["", "[1]", '{"vision_config": 3}', "\xff"])
def test_a_broken_configuration_is_told(content: str, tmp_path: Path) -> None:
    transformers_vit(tmp_path, tiny(VIT))
    (tmp_path / "config.json").write_text(content, encoding="latin-1")
    with pytest.raises(DualPathError, match=rf"{tmp_path}/config.json is not the configuration of a model; mend it or move it"):
        load_weights(tiny(VIT), tmp_path, name=VIT)


def test_gelu_and_the_tanh_that_approximates_it_are_nearly_the_same() -> None:
    pictures = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    features = []
    for act in ("gelu", "gelu_tanh", "quick_gelu"):
        with torch.no_grad():
            features.append(tiny(VIT, act_layer=act)(pictures))
    exact, tanh, quick = features
    assert (exact - tanh).abs().max() < 0.01 * exact.std()
    assert (exact - quick).abs().max() > 0.02 * exact.std()
