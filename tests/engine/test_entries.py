"""Entries of a comparison: what YAML and flags say becomes settings, or one sentence."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dualpath.engine.config import DataConfig, RunConfig, TrainConfig
from dualpath.engine.entries import ask_methods, make_entries, read_entries, read_numbers
from dualpath.errors import DualPathError
from dualpath.methods.linear_probe import LinearProbeConfig
from dualpath.methods.options import DualPathConfig
from dualpath.nn.zoo import EMBEDDED, BackboneConfig
from dualpath.video.sampling import SamplingConfig

BASE = RunConfig(backbone=BackboneConfig(EMBEDDED), training=TrainConfig(epochs=3, lr=1e-2))


def test_every_kind_of_setting_finds_its_place(tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_text(
        """
        base: &base {method: dualpath, grid: 2x2, num_spatial_frames: 4, lr: 1e-3, num_frames: 8}
        narrow: {<<: *base, bottleneck: 16, positions: none, hflip: off, num_crops: 3, image_size: 64}
        scaled: {<<: *base, lr: null, base_lr: 1, grid: [1, 4], model_args: {depth: 2}}
        probe: {method: linear_probe}
        """
    )
    base, narrow, scaled, probe = make_entries(read_entries(tmp_path / "e.yaml"), base=BASE)
    assert base.config.options == DualPathConfig(grid=(2, 2), num_spatial_frames=4)
    assert base.config.training == replace(BASE.training, lr=1e-3)
    assert base.config.sampling == SamplingConfig(num_frames=8)
    assert narrow.config.options == DualPathConfig(grid=(2, 2), num_spatial_frames=4, bottleneck=16, positions="none")
    assert (narrow.config.transform.hflip, narrow.config.views.num_crops, narrow.config.backbone.image_size) == ("off", 3, 64)
    assert (scaled.config.training.lr, scaled.config.training.peak_lr) == (None, 8 / 256)
    assert scaled.config.options == DualPathConfig(grid=(1, 4), num_spatial_frames=4)
    assert scaled.config.backbone.model_args == {"depth": 2}
    assert probe.config == replace(BASE, method="linear_probe", options=LinearProbeConfig())
    assert probe.own(BASE) == {}
    assert base.own(BASE) == {"grid": [2, 2], "num_spatial_frames": 4, "lr": 1e-3, "num_frames": 8}
    assert base.with_seed(7).training == replace(base.config.training, seed=7)
    assert "seed" not in base.settings()


def test_protocols_and_views_by_name() -> None:
    given = {"method": "linear_probe", "protocol": "dense-8x2", "views": "1x3"}
    (entry,) = make_entries({"probe": given}, base=BASE)
    assert entry.own(BASE) == {"num_frames": 8, "sampling": "dense", "sampling_rate": 2, "num_crops": 3}


def test_options_of_the_command_line_go_to_the_methods_that_have_them() -> None:
    asked = ask_methods(["linear_probe", "dualpath"], {"grid": [2, 2], "num_probe_frames": 0, "num_spatial_frames": "1"})
    assert asked == {
        "linear_probe": {"method": "linear_probe", "num_probe_frames": 0},
        "dualpath": {"method": "dualpath", "grid": [2, 2], "num_spatial_frames": "1"},
    }
    probe, dual = make_entries(asked, base=BASE)
    assert probe.config.options == LinearProbeConfig(num_probe_frames=0)
    assert dual.config.options == DualPathConfig(grid=(2, 2), num_spatial_frames=1)


def test_entries_read_the_data_that_is_asked_for() -> None:
    base = replace(BASE, data=DataConfig("hmdb51", split=2))
    (entry,) = make_entries({"dualpath": {"method": "dualpath"}}, base=base)
    assert (entry.with_seed(3).data, entry.settings()["split"]) == (base.data, 2)
    assert entry.own(base) == {}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"method": "dualpath", "gird": "2x2"}, "unknown setting gird (did you mean grid?)"),
        ({"method": "linear_probe", "paths": "spatial"}, "unknown setting paths; the method has num_probe_frames"),
        ({"method": "dualpath", "grid": 2}, "grid is 2, but it must be two whole numbers as 4x4"),
        ({"method": "dualpath", "paths": "left"}, "paths is 'left', but it must be one of both, spatial, temporal"),
        ({"method": "dualpath", "antialias": 3}, "antialias is 3, but it must be true or false"),
        ({"method": "dualpath", "min_steps": None}, "min_steps is None, but it must be a whole number"),
        ({"method": "dualpath", "epochs": 0}, "epochs is 0, but it must be at least 1"),
        ({"method": "dualpath", "lr": "fast"}, "lr is 'fast', but it must be a number or null"),
        ({"method": "dualpath", "backbone": 3}, "backbone is 3, but it must be a text"),
        ({"method": "dualpath", "model_args": [1]}, "model_args is [1], but it must be a table of names to whole numbers"),
        ({"method": "dualpath", "seed": 3}, "seed must be the same for all entries: give it on the command line"),
        ({"method": "dualpath", "val_fraction": 0.5}, "val_fraction must be the same for all entries"),
        ({"method": "dualpath", "split": 2}, "split must be the same for all entries: give it on the command line"),
        ({"method": "dualpath", "paths": "spatial", "grid": "2x2"}, "grid (2, 2) would have no effect with paths spatial"),
        ({"method": "dualpath", "protocol": "segment-4"}, "4 frames do not fill framesets of 4x4 = 16 frames"),
        ({"method": "dualpath", "protocol": "dense-16x4", "num_frames": 32}, "protocol dense-16x4 means num_frames 16, but"),
        ({"method": "dualpath", "protocols": "segment-4"}, "unknown setting protocols (did you mean protocol?)"),
        ({"method": "dualpath", "num_frames": 4}, "4 frames do not fill framesets of 4x4 = 16 frames"),
        ({"paths": "spatial"}, "it names no method; give one such as 'method: dualpath' ("),
        ({"method": "dual"}, "unknown method 'dual'; there are "),
    ],
    ids=lambda value: next(reversed(value)) if isinstance(value, dict) else "",
)
def test_what_does_not_fit(given: dict[str, Any], said: str) -> None:
    with pytest.raises(DualPathError, match=r"^x: " + re.escape(said)):
        make_entries({"x": given}, base=BASE)


def test_problems_are_told_together() -> None:
    asked = {"a": {"method": "dual"}, "b": {"method": "linear_probe"}, "../c": {"method": "dualpath"}}
    with pytest.raises(DualPathError) as problem:
        make_entries(asked, base=BASE)
    lines = str(problem.value).splitlines()
    assert lines[0] == "2 of the 3 entries cannot be trained:"
    assert lines[1].startswith("  a: unknown method 'dual'")
    assert lines[2] == "  ../c: the label '../c' is to name a folder: use letters, digits and . + = - _"


def test_labels_are_there_once() -> None:
    with pytest.raises(DualPathError, match="the entry dualpath is there twice, as a method and in the file; give it another"):
        make_entries({"dualpath": {"method": "dualpath"}}, {"dualpath": {"method": "dualpath"}}, base=BASE)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: {method: dualpath}\na: {method: dualpath, epochs: 2}\n", "cannot be read as YAML ('a' is there twice in "),
        ("a: {method: dualpath, lr: 1, lr: 2}\n", "cannot be read as YAML ('lr' is there twice in "),
        ("a: [unfinished\n", "cannot be read as YAML (while parsing"),
        ("", "must give settings to labels, such as 'small: {method: dualpath, bottleneck: 64}'"),
        ("- method: dualpath\n", "must give settings to labels"),
        ("a: dualpath\n", "must give settings to labels"),
        ("a: !!python/object/apply:os.system ['true']\n", "cannot be read as YAML (could not determine a constructor"),
        ("? {a: 1}\n: {method: dualpath}\n", "cannot be read as YAML ("),
    ],
    ids=["label twice", "setting twice", "unfinished", "empty", "list", "text", "code", "odd key"],
)
def test_files_that_are_no_entries(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "e.yaml"
    path.write_text(text)
    with pytest.raises(DualPathError) as problem:
        read_entries(path)
    assert str(problem.value).startswith(f"{path} {said}")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(DualPathError, match=r"nope.yaml cannot be read \(No such file or directory\)"):
        read_entries(tmp_path / "nope.yaml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DualPathError, match="binary cannot be read"):
        read_entries(tmp_path / "binary")


def test_seeds() -> None:
    words = {"what": "seeds", "such_as": "--seeds 0,1,2"}
    assert read_numbers("0, 1,2", **words) == (0, 1, 2)
    assert read_numbers("[3,4]", **words) == (3, 4)  # what the command line makes of 3,4
    with pytest.raises(
        DualPathError, match=r"seeds are '1;2'; give whole numbers with commas between them, such as --seeds 0,1,2"
    ):
        read_numbers("1;2", **words)
