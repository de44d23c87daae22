"""`dualpath convert`: a checkpoint of the authors' code becomes one of ours and computes the same."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dualpath.cli import main
from dualpath.engine.checkpoint import load_checkpoint
from dualpath.engine.convert import convert
from dualpath.errors import DualPathError
from dualpath.methods import trained_state
from oracles import authors
from tiny import random_clips, randomise

SIZE, CLASSES = 32, 5


@pytest.fixture(scope="module")
def visual() -> authors.Visual:
    visual = authors.Visual(size=SIZE, patch=8, width=64, depth=2, features=32, classes=CLASSES)
    randomise(visual)
    return visual.eval()


def saved(path: Path, visual: authors.Visual, change: Callable[[dict[str, Tensor]], object] | None = None) -> Path:
    """As their trainer saves it: the whole CLIP under "model", and the run's arguments pickled beside it."""
    state = {f"visual.{name}": value for name, value in visual.state_dict().items()}
    state |= {
        "positional_embedding": torch.zeros(77, 16),
        "text_projection": torch.zeros(16, 32),
        "logit_scale": torch.tensor(4.6),
        "token_embedding.weight": torch.zeros(10, 16),
        "ln_final.weight": torch.ones(16),
        "ln_final.bias": torch.zeros(16),
        "transformer.resblocks.0.ln_1.weight": torch.ones(16),
        "transformer.resblocks.0.attn.in_proj_weight": torch.zeros(48, 16),
    }
    if change is not None:
        change(state)
    torch.save({"model": state, "epoch": 49, "scaler": {}, "args": argparse.Namespace(lr=0.1, data_set="HMDB51")}, path)
    return path


@pytest.mark.parametrize(("flags", "antialias"), [([], False), (["--antialias"], True), (["--antialias", "false"], False)])
def test_the_converted_model_computes_what_theirs_computes(
    visual: authors.Visual, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], antialias: bool
) -> None:
    monkeypatch.setattr(visual, "antialias", antialias)  # their torchvision, of Python 3.7, did not
    folder = tmp_path / "ours"
    words = ["convert", str(saved(tmp_path / "theirs.pth", visual)), "--output", str(folder), "--num_frames", "32", *flags]
    assert main(words) == 0
    moved = folder.rename(tmp_path / "moved")  # the backbone's weights travel with it
    model, spec = load_checkpoint(moved)
    frames = random_clips(2, 32, size=SIZE)
    with torch.no_grad():
        expected = torch.cat([visual(clip[None]) for clip in frames])
        torch.testing.assert_close(model(frames), expected, atol=2e-5, rtol=1e-5)
        monkeypatch.setattr(visual, "antialias", not antialias)
        others = torch.cat([visual(clip[None]) for clip in frames])
        assert (others - expected).abs().max() > 1e-3
    assert (spec.method, spec.sampling.name, spec.classes) == ("dualpath", "dense-32x4", ("0", "1", "2", "3", "4"))
    config = json.loads((moved / "adapter_config.json").read_text())
    assert config["method_config"]["variant"] == "reference"
    assert config["preprocessing"] == {"size": SIZE, "mean": list(authors.MEAN), "std": list(authors.STD)}
    assert config["backbone"]["weights"] == "backbone.safetensors"
    assert "tables.class_token" in trained_state(model)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["moved", "theirs.pth"]


def test_the_verb_names_the_classes(visual: authors.Visual, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("brush hair\ncartwheel\ncatch\nchew\nclap\n")
    words = ["convert", str(saved(tmp_path / "theirs.pth", visual)), "--output", str(tmp_path / "ours")]
    assert main([*words, "--labels", str(labels)]) == 0
    assert str(tmp_path / "ours") in capsys.readouterr().out
    assert load_checkpoint(tmp_path / "ours")[1].classes == ("brush hair", "cartwheel", "catch", "chew", "clap")
    assert main(words) == 2
    assert f"the output {tmp_path / 'ours'} exists; give a new folder" in capsys.readouterr().err


BAD: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
    "no head": (lambda s: s.pop("visual.head.linear2.weight"), "is no checkpoint of the authors' DualPath"),
    "no table": (lambda s: s.pop("visual.spatial_positional_embedding"), "is no checkpoint of the authors' DualPath"),
    "an adapter is missing": (
        lambda s: s.pop("visual.transformer.resblocks.1.t_adapter_attn_b.up_proj.bias"),
        r"1 tensor missing.*temporal\.1\.before\.up\.bias",
    ),
    "frozen weights are missing": (
        lambda s: s.pop("visual.transformer.resblocks.0.mlp.c_fc.bias"),
        r"1 missing \(.*mlp\.",
    ),
    "no projection": (lambda s: s.pop("visual.proj"), "holds no whole CLIP image tower"),
}


@pytest.mark.parametrize(("change", "said"), BAD.values(), ids=BAD)
def test_what_is_no_checkpoint_of_theirs(
    visual: authors.Visual, tmp_path: Path, change: Callable[[dict[str, Tensor]], object], said: str
) -> None:
    with pytest.raises(DualPathError, match=said):
        convert(saved(tmp_path / "theirs.pth", visual, change), tmp_path / "ours")
    assert not (tmp_path / "ours").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["theirs.pth"]


def test_frames_and_labels_that_do_not_suit(visual: authors.Visual, tmp_path: Path) -> None:
    path = saved(tmp_path / "theirs.pth", visual)
    with pytest.raises(DualPathError, match="24 frames do not fill framesets of 4x4 = 16 frames"):
        convert(path, tmp_path / "ours", num_frames=24)
    with pytest.raises(DualPathError, match=r"2 labels given, but .* has 5 classes; give one name for each"):
        convert(path, tmp_path / "ours", labels=("a", "b"))
    with pytest.raises(DualPathError, match="no weight file"):
        convert(tmp_path / "nope.pth", tmp_path / "ours")
