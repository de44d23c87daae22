"""The recipes that are shipped, and files of a user's own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dualpath.cli import main
from dualpath.errors import DualPathError
from dualpath.recipes import RECIPES, read_config, recipe_names
from dualpath.video.protocols import spell_out

DATA = ("kinetics400", "ssv2", "hmdb51", "diving48")
NAMES = sorted(
    [
        *(f"{data}_vit_{size}" for data in DATA for size in ("b16", "l14")),
        *(f"kinetics400_vit_{size}_{card}gb" for size in ("b16", "l14") for card in (8, 16, 24)),
    ]
)
# Effective batch, learning rate and epochs, from the commands of the authors' code where there is one.
EXPECTED = {
    "hmdb51": (96, 0.03 * 96 / 256, 50),
    "ssv2": (86, 3.5e-4 * 86 / 256, 60),
    "diving48": (129, 7e-4 * 129 / 256, 50),
    "kinetics400": (96, 3.5e-4 * 96 / 256, 30),
}


def text_of(name: str) -> str:
    return (RECIPES / f"{name}.yaml").read_text(encoding="utf-8")


def test_all_recipes_are_there() -> None:
    assert recipe_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_runs_dry_through_the_command_line(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """On two layers only: all else is as in the recipe."""
    words = ["train", "--config", name, "--dry-run", "--num-classes", "7", "--model-args", "depth=2"]
    assert main([*words, "--output", str(tmp_path / "run")]) == 0
    told = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    batch, lr, epochs = EXPECTED[name.split("_")[0]]
    patch = {"b16": "vit_base_patch16", "l14": "vit_large_patch14"}[name.split("_")[2]]
    assert told["method"] == f"dualpath on {patch}_clip_quickgelu_224.openai, 224x224 pixels"
    assert told["batch"].startswith(f"{batch} clips (")
    assert told["batch"].endswith(f"learning rate {lr:.3g}")
    assert told["length"] == f"{epochs} epochs"
    assert told["data"] == "7 classes, no videos given"
    assert list(tmp_path.iterdir()) == []


def test_what_the_authors_code_says() -> None:
    read = {name: spell_out(yaml.safe_load(text_of(name))) for name in NAMES}
    for name, settings in read.items():
        data = name.split("_")[0]
        assert settings["hflip"] == ("off" if data == "ssv2" else "on")
        assert settings["random_erasing"] == {"hmdb51": 0.5, "ssv2": 0.1, "diving48": 0.1, "kinetics400": 0.0}[data]
        assert [settings[key] for key in ("num_frames", "sampling", "sampling_rate")] == [16, "dense", 4]
        assert (settings["num_clips"], settings["num_crops"]) == ((1, 3) if data == "ssv2" else (3, 1))
        assert (settings["weight_decay"], settings["warmup_epochs"], settings["label_smoothing"]) == (0.05, 3, 0.0)


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_says_where_it_comes_from(name: str) -> None:
    text = text_of(name)
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len(lines) > 15
    assert [line for line in lines if not re.search(r" # (code|unknown: .|ours: .)", line)] == []
    assert ("unknown" in "".join(lines)) == name.startswith("kinetics400")
    assert f"--config {name}\n" in text


PLANS = """
import json, sys, torch
from dualpath.engine.config import RunConfig, TrainConfig
from dualpath.engine.plan import draft, make_plan
from dualpath.methods.options import DualPathConfig
from dualpath.nn.zoo import BackboneConfig

def plan_of(backbone, depth, again):
    architecture, training = BackboneConfig(backbone, model_args={"depth": depth}), TrainConfig(gradient_checkpointing=again)
    config = RunConfig(options=DualPathConfig(train_spatial_frames=0), backbone=architecture, training=training)
    plan = make_plan(draft(config, num_classes=400, dtype=torch.bfloat16), num_frames=16, fused=True)
    return plan.fixed_bytes, plan.clip_bytes

def of_all(backbone, depth, again):  # from two shallower ones: from the fourth on every layer adds the same
    four, five = plan_of(backbone, 4, again), plan_of(backbone, 5, again)
    return [a + (depth - 4) * (b - a) for a, b in zip(four, five)]

print(json.dumps([of_all(*asked) for asked in json.load(sys.stdin)]))
"""


@pytest.fixture(scope="module")
def plans() -> dict[tuple[str, int, bool], tuple[int, int]]:
    """(fixed, a clip's) bytes on a GPU by backbone, depth and whether layers are computed again.

    In a process of its own: the checks of shapes that tests switch on hold tensors longer than the program does.
    """
    asked = sorted({asked_of(spell_out(yaml.safe_load(text_of(name))), name) for name in NAMES})
    told = subprocess.run([sys.executable, "-c", PLANS], input=json.dumps(asked), capture_output=True, text=True, check=True)
    return {one: (found[0], found[1]) for one, found in zip(asked, json.loads(told.stdout), strict=True)}


def asked_of(read: dict[str, Any], name: str) -> tuple[str, int, bool]:
    return read["backbone"], {"b16": 12, "l14": 24}[name.split("_")[2]], read["gradient_checkpointing"]


@pytest.mark.parametrize("name", NAMES)
def test_the_memory_that_a_recipe_tells_is_the_plans(name: str, plans: dict[tuple[str, int, bool], tuple[int, int]]) -> None:
    read = spell_out(yaml.safe_load(text_of(name)))
    fixed, clip = plans[asked_of(read, name)]
    needed = (fixed + clip * read["batch_size"]) / 1e9
    assert read["num_frames"] == 16
    written = re.search(r"# Memory: about ([\d.]+) GB", text_of(name))
    assert written
    assert float(written[1]) == pytest.approx(needed, abs=0.1)
    card = re.search(r"_(\d+)gb$", name)
    assert needed <= 0.75 * int(card[1] if card else 80) * 2**30 / 1e9


# --- files


def test_settings_are_read_as_text(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("hflip: off\nbase-lr: 3e-4\nlr:\nmodel_args: {depth: 2}\ngrid: [2, 3]\n")
    rest, settings, source = read_config(["clips", f"--config={path}", "--seed", "3"])
    assert rest == ["clips", "--seed", "3"]
    assert settings == {"hflip": "off", "base_lr": "3e-4", "lr": "null", "model_args": "{depth: 2}", "grid": "[2, 3]"}
    assert source == str(path)
    (tmp_path / "more.yaml").write_text("hflip: on\n")
    _, both, _ = read_config(["--config", str(path), "--config", str(tmp_path / "more.yaml")])
    assert both == settings | {"hflip": "on"}
    assert read_config(["clips", "--config"]) == (["clips", "--config"], {}, "")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: [1", "is not a YAML file"),
        (b"a: 1\n  b: 2", "is not a YAML file"),
        (b"just words", "holds no settings; write one a line, such as batch_size: 16"),
        (b"", "holds no settings"),
        (b"- a\n- b", "holds no settings"),
        (b"config: other.yaml", "names another file with config"),
        (b"\xff\xfe\x00", "cannot be read (it is no text); --config takes a YAML file"),
        (b"a: !!python/object/apply:os.system ['touch bad']", ""),
    ],
)
def test_files_that_are_no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, said: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "my.yaml"
    path.write_bytes(content)
    if said:
        with pytest.raises(DualPathError, match=r"my\.yaml") as problem:
            read_config(["--config", str(path)])
        assert said in str(problem.value)
        assert "\n" not in str(problem.value)
    else:
        read_config(["--config", str(path)])
        assert not (tmp_path / "bad").exists()


def test_files_and_recipes_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DualPathError) as problem:
        read_config(["--config", "hmdb51_vit_b15"])
    assert str(problem.value) == (
        "there is no file and no recipe hmdb51_vit_b15 (did you mean hmdb51_vit_b16?); recipes are " + ", ".join(NAMES)
    )
    with pytest.raises(DualPathError, match=r"nope.yaml cannot be read \(No such file or directory\)"):
        read_config(["--config", str(tmp_path / "nope.yaml")])
    with pytest.raises(DualPathError, match=r"cannot be read \(Is a directory\)"):
        read_config(["--config", str(tmp_path)])
