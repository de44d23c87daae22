"""A new run that begins with a checkpoint: `train --init_from`."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from dualpath.cli import main
from dualpath.engine import prepare
from dualpath.engine.checkpoint import CONFIG, CONFIG_HASH, WEIGHTS, ModelSpec, save_checkpoint
from dualpath.engine.config import RunConfig
from dualpath.engine.state import read_position
from dualpath.engine.train import train
from dualpath.engine.warm_start import WarmStart, read_warm_start
from dualpath.errors import DualPathError, Interrupted
from dualpath.flags import Parser, fill
from dualpath.methods import METHODS, build_model, class_tensors, find_method, trained_state
from dualpath.methods.aim import AimConfig
from dualpath.methods.base import MethodConfig
from dualpath.methods.options import DualPathConfig
from dualpath.nn.zoo import EMBEDDED, BackboneConfig
from dualpath.video.sampling import SamplingConfig
from runs import at_step, run_config, scan_here, write_clip
from small import SMALL
from tiny import random_clips, tiny_backbone
from wrong_json import spoiled

OLD, NEW = ("a", "b", "c"), ("x", "c", "a", "y")
each_method = pytest.mark.parametrize("method", METHODS)


def make(method: str, *, classes: int, seed: int, options: MethodConfig | None = None) -> nn.Module:
    return build_model(method, tiny_backbone(), num_classes=classes, config=options or SMALL.get(method), seed=seed).eval()


def save_start(folder: Path, method: str, *, options: MethodConfig | None = None) -> tuple[WarmStart, nn.Module]:
    """A checkpoint of a model whose trained tensors are all random."""
    options = options or SMALL.get(method) or find_method(method).config()
    model = make(method, classes=len(OLD), seed=1, options=options)
    noise = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for value in trained_state(model).values():
            value.add_(0.1 * torch.randn(value.shape, generator=noise))
    spec = ModelSpec(
        method=method,
        options=options,
        backbone=BackboneConfig("tiny", model_args={"depth": 2}),
        classes=OLD,
        sampling=SamplingConfig(num_frames=8, sampling="dense", sampling_rate=2),
        split_seed=0,
        val_fraction=0.2,
        training={},
    )
    save_checkpoint(folder, model, spec)
    return read_warm_start(folder), model


@each_method
def test_the_tensors_with_a_row_for_each_class_are_known_by_name(method: str) -> None:
    models = [make(method, classes=count, seed=1) for count in (3, 5)]
    three, five = map(trained_state, models)
    assert three.keys() == five.keys()
    for model in models:
        assert {name for name in three if three[name].shape != five[name].shape} == set(class_tensors(model))
    assert [three[name].shape[0] for name in class_tensors(models[0])] == [3, 3]


@each_method
def test_other_classes_take_over_everything_but_unknown_rows(method: str, tmp_path: Path) -> None:
    start, old_model = save_start(tmp_path / "old", method)
    model = make(method, classes=len(NEW), seed=5)
    old, fresh = trained_state(old_model), {name: value.clone() for name, value in trained_state(model).items()}
    start.load_into(model, NEW)
    for name, value in trained_state(model).items():
        if name not in class_tensors(model):
            assert torch.equal(value, old[name])
            continue
        for label, source in enumerate((fresh[name][0], old[name][2], old[name][0], fresh[name][3])):
            assert torch.equal(value[label], source)
            assert not torch.equal(old[name][2], fresh[name][1])


@each_method
def test_the_same_classes_give_the_same_scores_in_any_order(method: str, tmp_path: Path) -> None:
    start, old_model = save_start(tmp_path / "old", method)
    frames = random_clips(2, 8)
    with torch.no_grad():
        expected = old_model(frames)
        for order in ((0, 1, 2), (2, 0, 1)):
            model = make(method, classes=3, seed=5)
            start.load_into(model, [OLD[label] for label in order])
            torch.testing.assert_close(model(frames), expected[:, order], rtol=1e-5, atol=1e-6)


@each_method
def test_flags_that_are_not_given_are_the_checkpoints(method: str, tmp_path: Path) -> None:
    start, _ = save_start(tmp_path / "old", method)
    parser = Parser("train", "")
    parser.add_method(method)
    parser.add_names("protocol")
    for part in (BackboneConfig, SamplingConfig):
        parser.add_class_arguments(part)
    parser.set_defaults(start.flag_defaults())
    options = parser.read([])
    config = find_method(method).config
    assert (fill(config, options), fill(BackboneConfig, options)) == (start.spec.options, start.spec.backbone)
    assert fill(SamplingConfig, options) == SamplingConfig(8, "dense", 2)
    # What is given wins, also where it is what a run without a checkpoint would have.
    assert fill(SamplingConfig, parser.read(["--num_frames", "16"])) == SamplingConfig(16, "dense", 2)
    assert fill(SamplingConfig, parser.read(["--protocol", "segment-16"])) == SamplingConfig(16, "segment", 2)


def test_what_is_recorded_and_said(tmp_path: Path) -> None:
    start, _ = save_start(tmp_path / "old", "linear_probe")
    assert start.record(NEW) == {
        "path": str(tmp_path / "old"),
        "sha256": json.loads((tmp_path / "old" / "adapter_config.json").read_text())["sha256"],
        "classes_copied": ["c", "a"],
        "classes_new": ["x", "y"],
    }
    begin = f"init_from  {tmp_path / 'old'}: all trained tensors are copied, of the last layer the rows of"
    assert start.describe(NEW) == f"{begin} 2 of 4 classes; new classes: x, y"
    assert start.describe(OLD) == f"{begin} 3 of 3 classes"
    many = [str(number) for number in range(10)]
    assert start.describe(many) == f"{begin} 0 of 10 classes; new classes: 0, 1, 2, 3, 4, 5, 6, 7 and 2 more"


def test_a_table_of_another_length_is_refused(tmp_path: Path) -> None:
    start, _ = save_start(tmp_path / "old", "aim", options=AimConfig(max_frames=8))
    model = make("aim", classes=len(NEW), seed=5, options=AimConfig(max_frames=16))
    before = {name: value.clone() for name, value in trained_state(model).items()}
    with pytest.raises(DualPathError, match=r"1 of another shape \(first: times\)"):
        start.load_into(model, NEW)
    assert all(torch.equal(value, before[name]) for name, value in trained_state(model).items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "vpt", "options": None}, "is a checkpoint of the method aim, but vpt is to be trained; leave out --method"),
        (
            {"options": AimConfig(ratio=0.5, max_frames=16)},
            r"with other options of aim \(ratio was 0.25, now 0.5, max_frames was 8, now 16\); leave them out, or train",
        ),
        ({"backbone": BackboneConfig("tiny")}, "on the backbone tiny with {'depth': 2}, now it is tiny; leave out --backbone"),
        ({"backbone": BackboneConfig(EMBEDDED)}, f"on the backbone tiny with {{'depth': 2}}, now it is {EMBEDDED}; leave out"),
    ],
    ids=["method", "options", "architecture", "backbone"],
)
def test_other_settings_are_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    start, _ = save_start(tmp_path / "old", "aim", options=AimConfig(max_frames=8))
    config = RunConfig("aim", backbone=start.spec.backbone, sampling=SamplingConfig(8))
    assert start.complete(config).options == AimConfig(max_frames=8)
    with pytest.raises(DualPathError, match=message) as caught:
        start.complete(replace(config, **change))
    assert "\n" not in str(caught.value)


def test_another_backbones_weights_or_pictures_are_refused(tmp_path: Path) -> None:
    start, _ = save_start(tmp_path / "old", "aim")
    start.check_backbone(tiny_backbone())
    with pytest.raises(DualPathError, match=r"weights [0-9a-f]{12}, now it has weights [0-9a-f]{12}; give the original file"):
        start.check_backbone(tiny_backbone(seed=4))
    with pytest.raises(DualPathError, match="pictures of 32 pixels, now they have 64; leave out --image_size"):
        start.check_backbone(tiny_backbone(img_size=64))


# On the command line


@pytest.fixture(autouse=True)
def _quick_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "scan", scan_here)


@pytest.fixture(scope="module")
def other_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Red clips, which the checkpoint knows, and green ones, which it does not."""
    folder = tmp_path_factory.mktemp("other")
    for split, count in (("train", 2), ("val", 1)):
        for number in range(count):
            write_clip(folder / split / "red" / f"{number}.mp4", "red", seed=number)
            write_clip(folder / split / "green" / f"{number}.mp4", "blue", seed=7 + number)
    return folder


@pytest.fixture
def dualpath_run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs `dualpath train`; gives its exit code and what it printed."""

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["train", *map(str, words)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


PLAIN = ["--precision", "fp32", "--batch-size", "2", "--workers", "0", "--check", "quick", "--epochs", "1", "--lr", "1e-12"]


def test_other_classes_from_the_command_line(
    trained: Path, weights: Path, other_clips: Path, tmp_path: Path, dualpath_run: Callable[..., tuple[int, str, str]]
) -> None:
    # So small a learning rate changes nothing that one could see: the end is the beginning.
    words = [other_clips, "--output", tmp_path / "run", "--init-from", trained, *PLAIN, "--seed", "1"]
    with at_step(1, lambda: os.kill(os.getpid(), signal.SIGTERM)):
        code, _, err = dualpath_run(*words)
    assert code == 143
    line = (
        f"init_from  {trained / 'best'}: all trained tensors are copied, of the last layer the rows of 1 of 2 classes; "
        "new classes: green"
    )
    assert err.splitlines().count(line) == 1

    moved = Path(shutil.copytree(trained / "best", tmp_path / "moved"))
    resumed = [word if word != trained else moved for word in words]
    code, _, err = dualpath_run(*(word for word in resumed if word not in ("--init-from", moved)), "--resume")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "holds a run with other settings (init_from was 'sha256 " in err
    assert dualpath_run(*resumed, "--resume")[0] == 0

    record = json.loads((tmp_path / "run" / "run.json").read_text())
    digest = json.loads((trained / "best" / "adapter_config.json").read_text())["sha256"]
    assert record["init_from"] == {
        "path": str(moved), "sha256": digest, "classes_copied": ["red"], "classes_new": ["green"],
    }  # fmt: skip
    expected = {"grid": [2, 2], "bottleneck": 8, "num_spatial_frames": 1, "num_frames": 4, "weights": str(weights)}
    assert {name: record["settings"][name] for name in expected} == expected
    assert read_position(tmp_path / "run")[1]["init_from"] == f"sha256 {digest[:16]}"
    old, new = load_file(trained / "best" / WEIGHTS), load_file(tmp_path / "run" / "last" / WEIGHTS)
    assert old.keys() == new.keys()
    for name in old.keys() - {"head.out.weight", "head.out.bias"}:
        torch.testing.assert_close(new[name], old[name], rtol=0, atol=1e-9)
    torch.testing.assert_close(new["head.out.weight"][1], old["head.out.weight"][1], rtol=0, atol=1e-9)  # red, in both
    assert (new["head.out.weight"][0] - old["head.out.weight"][0]).abs().max() > 1e-2


def test_the_plan_of_a_run_from_a_checkpoint(trained: Path, dualpath_run: Callable[..., tuple[int, str, str]]) -> None:
    words = ["--init_from", trained, "--dry_run", "--precision", "fp32"]
    _, expected, _ = dualpath_run(*words)
    assert f"method     dualpath on {EMBEDDED}, 128x128 pixels" in expected
    assert "a view     segment-4," in expected
    assert "a view     segment-8," in dualpath_run(*words, "--num-frames", "8")[1]
    assert "a view     dense-8x3," in dualpath_run(*words, "--protocol", "dense-8x3")[1]
    assert dualpath_run(*words, "--bottleneck", "8", "--backbone", EMBEDDED)[1] == expected  # the same ones are no others


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "aim"], "is a checkpoint of the method dualpath, but aim is to be trained; leave out --method"),
        (["--bottleneck", "16"], "was trained with other options of dualpath (bottleneck was 8, now 16); leave them out"),
        (["--backbone", "vit_tiny_patch16_224"], f"on the backbone {EMBEDDED}, now it is vit_tiny_patch16_224; leave out"),
        (["--image_size", "64"], "with pictures of 128 pixels, now they have 64; leave out --image_size"),
        (["--init_from", "nowhere"], "no checkpoint nowhere: there is no such folder; give the folder that"),
        (["--init_from"], "--init_from: expected is a text"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_sentence(
    words: list[str], message: str, trained: Path, dualpath_run: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, err = dualpath_run("--init_from", trained, "--dry_run", *words)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_other_weights_are_refused_before_anything_is_written(
    trained: Path, weights: Path, other_clips: Path, tmp_path: Path, dualpath_run: Callable[..., tuple[int, str, str]]
) -> None:
    state = load_file(weights)
    state["norm.bias"] += 1e-3
    save_file(state, tmp_path / "other.safetensors")
    words = ["--output", tmp_path / "run", "--init_from", trained, "--weights", tmp_path / "other.safetensors", *PLAIN]
    code, _, err = dualpath_run(other_clips, *words)
    assert code == 2
    assert "give the original file with --weights FILE, or train without --init_from" in err
    assert not (tmp_path / "run").exists()


def test_a_run_from_a_checkpoint_is_resumed_with_the_same_bits(
    trained: Path, weights: Path, other_clips: Path, tmp_path: Path
) -> None:
    config = replace(run_config(weights, batch_size=2), init_from=str(trained / "last"))
    train(other_clips, tmp_path / "straight", config)
    with at_step(2, lambda: os.kill(os.getpid(), signal.SIGTERM)), pytest.raises(Interrupted):
        train(other_clips, tmp_path / "stopped", config)
    train(other_clips, tmp_path / "stopped", config, resume=True)
    straight, stopped = (load_file(tmp_path / name / "last" / WEIGHTS) for name in ("straight", "stopped"))
    assert all(torch.equal(straight[name], stopped[name]) for name in straight)
    assert not torch.equal(straight["head.hidden.weight"], load_file(trained / "last" / WEIGHTS)["head.hidden.weight"])
    with pytest.raises(DualPathError, match="other options of dualpath"):
        train(other_clips, tmp_path / "other", replace(config, options=DualPathConfig()))


def test_whatever_a_checkpoint_says_is_taken_or_refused(trained: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained / "last", tmp_path / "last"))
    told = json.loads((folder / CONFIG).read_text())
    del told[CONFIG_HASH]  # as older versions wrote it, which no hash keeps from being changed
    for changed in spoiled(told, depth=3):
        (folder / CONFIG).write_text(json.dumps(changed))
        with suppress(DualPathError):
            read_warm_start(folder).flag_defaults()
