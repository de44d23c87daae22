"""Classes of unequal size: weights of the loss, equally many clips of each, and what is said of their accuracy."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch

from dualpath.cli import main
from dualpath.engine.config import TrainConfig
from dualpath.engine.learner import Learner, Micro, balanced_weights
from dualpath.engine.log import read_log
from dualpath.engine.train import train
from dualpath.errors import DualPathError, Interrupted
from dualpath.methods import build_model
from runs import assert_same_run, at_step, run_config
from small import SMALL
from tiny import random_clips, randomise_adapters, tiny_backbone


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory, clips: Path) -> Path:
    """Six videos of one class and two of the other; four and one to be judged on."""
    data = tmp_path_factory.mktemp("uneven") / "data"
    shutil.copytree(clips, data)
    for number in range(2, 6):
        (data / f"train/red/{number}.mp4").unlink()
    (data / "val/red/1.mp4").unlink()
    for number in (2, 3):
        shutil.copy(data / "train/blue/0.mp4", data / f"val/blue/{number}.mp4")
    return data


def test_weights_are_those_of_the_formula() -> None:
    assert balanced_weights([0] * 6 + [2] * 2, 3) == [8 / (2 * 6), 0.0, 8 / (2 * 2)]


def test_the_loss_of_a_step_is_weighted() -> None:
    frames, labels = random_clips(4, 8), torch.tensor([0, 0, 0, 1])
    losses: list[float] = []
    for weights in (None, [1.0, 1.0], [4 / 6, 2.0], [4 / 3, 0.0], [0.0, 4.0]):
        model = build_model("dualpath", tiny_backbone(), num_classes=2, config=SMALL["dualpath"])
        randomise_adapters(model)
        learner = Learner(model, TrainConfig(lr=1e-3), torch.device("cpu"), class_weights=weights)
        learner.begin()
        losses.append(learner.step([Micro(frames, labels, 0)], lr=lambda peak: 0.0))
    plain, ones, balanced, first, second = losses
    assert ones == plain
    assert balanced == pytest.approx((first + second) / 2, rel=1e-5)  # each class as much as the other
    assert first != pytest.approx(second, rel=1e-3)


@pytest.mark.parametrize("setting", ["class_weights", "class_sampling"])
def test_a_balanced_run_says_so_and_resumes(tmp_path: Path, uneven: Path, weights: Path, setting: str) -> None:
    config = run_config(weights, **{setting: "balanced"})
    train(uneven, tmp_path / "whole", config)
    with at_step(3, lambda: os.kill(os.getpid(), signal.SIGINT)), pytest.raises(Interrupted):
        train(uneven, tmp_path / "stopped", config)
    train(uneven, tmp_path / "stopped", config, resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")
    record = json.loads((tmp_path / "whole/run.json").read_text())
    assert record["settings"][setting] == "balanced"
    expected = {"blue": 8 / 12, "red": 8 / 4} if setting == "class_weights" else None
    assert record["class_weights"] == expected
    train(uneven, tmp_path / "plain", run_config(weights))
    steps, plain = (read_log(tmp_path / run)[0] for run in ("whole", "plain"))
    assert [line["loss"] for line in steps] != [line["loss"] for line in plain]
    with pytest.raises(DualPathError, match=f"{setting} was 'balanced', now None"):
        train(uneven, tmp_path / "whole", run_config(weights, epochs=3), resume=True)


def test_settings_that_cannot_be() -> None:
    with pytest.raises(DualPathError, match="class_weights and class_sampling both make rare classes count more; give one"):
        TrainConfig(class_weights="balanced", class_sampling="balanced")


@pytest.mark.parametrize("verb", ["evaluate", "worth"])
def test_what_is_said_of_an_accuracy_on_uneven_classes(
    verb: str, uneven: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [verb, str(trained), str(uneven), "--workers", "0", "--output", str(tmp_path / "out")]
    assert main([*words, "--split", "val"]) == 0
    said = capsys.readouterr().err
    assert "warning: the classes are out of balance, 4 videos of 'blue' and 1 of 'red'" in said
    assert "alone would be right in 80.0 %, so the mean per class, 100.0 %, says more than the top-1, 100.0 %" in said
