"""A run that is made longer: `train --resume --epochs MORE`."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dualpath.cli import main
from dualpath.data.clips import TrainClips
from dualpath.engine import prepare
from dualpath.engine.log import read_log
from dualpath.engine.schedule import Schedule
from dualpath.engine.state import read_position
from dualpath.engine.train import train
from dualpath.errors import DualPathError, Interrupted
from runs import FINAL, assert_same_run, at_step, flags, run_config, scan_here, told


@pytest.fixture(autouse=True)
def _quick_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "scan", scan_here)


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory, clips: Path, weights: Path) -> Path:
    """A run of 2 epochs, finished, then made one of 4; nothing interrupts it."""
    folder = tmp_path_factory.mktemp("extended") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "scan", scan_here)
        for epochs in (2, 4):
            train(clips, folder, run_config(weights, epochs=epochs), resume=epochs == 4)
    return folder


def epochs_of(folder: Path) -> tuple[int, int]:
    """What the state and what the run record say."""
    return read_position(folder)[1]["epochs"], json.loads((folder / "run.json").read_text())["settings"]["epochs"]


def drawn_clips(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[int, int], Tensor]:
    """Every training clip that is drawn from now on, by (epoch, sample), in order."""
    drawn: dict[tuple[int, int], Tensor] = {}
    read = TrainClips.__getitem__

    def spy(self: TrainClips, key: tuple[int, int]) -> tuple[int, Tensor, int]:
        index, frames, label = read(self, key)
        drawn[key] = frames
        return index, frames, label

    monkeypatch.setattr(TrainClips, "__getitem__", spy)
    return drawn


def test_the_learning_rate_follows_the_longer_schedule_from_there_on(extended: Path) -> None:
    # 3 steps an epoch, 1 epoch of warm-up: a cosine over 3 steps, then the second half of one over 9 steps.
    by_hand = [1e-3 / 3, 2e-3 / 3, 1e-3, 1e-3, 0.75e-3, 0.25e-3]
    by_hand += [0.75e-3, 0.5868241e-3, 0.4131759e-3, 0.25e-3, 0.1169778e-3, 0.0301537e-3]
    assert [lr for *_, lr in told(extended)] == pytest.approx(by_hand, rel=1e-6)
    longer = [Schedule(3, 3, 4, warmup=3, eval_every=1).learning_rate(step, peak=1e-3) for step in range(6, 12)]
    assert [lr for *_, lr in told(extended)][6:] == pytest.approx(longer, rel=1e-12)
    assert [(step, epoch) for step, epoch, *_ in told(extended)] == [(i + 1, i // 3 + 1) for i in range(12)]
    assert [line["epoch"] for line in read_log(extended)[1]] == [1, 2, 3, 4]


def test_state_record_and_checkpoint_have_the_new_length(extended: Path) -> None:
    assert epochs_of(extended) == (4, 4)
    record = json.loads((extended / "run.json").read_text())
    assert record["extensions"] == [{"step": 6, "epochs_before": 2, "epochs": 4}]
    card = json.loads((extended / "last" / "adapter_config.json").read_text())["training"]
    assert (card["epochs"], card["epoch"]) == (4, 4)


def test_the_clips_are_those_of_a_run_of_that_length(
    tmp_path: Path, clips: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        straight = drawn_clips(patch)
        train(clips, tmp_path / "straight", run_config(weights, epochs=4, eval_every=0))
    with monkeypatch.context() as patch:
        extended = drawn_clips(patch)
        train(clips, tmp_path / "run", run_config(weights, eval_every=0))
        assert len(extended) == 24
        assert json.loads((tmp_path / "run" / "run.json").read_text())["extensions"] == []
        capsys.readouterr()
        train(clips, tmp_path / "run", run_config(weights, epochs=4, eval_every=0), resume=True)
    assert list(extended) == list(straight)
    assert len(straight) == 4 * 12
    assert all(torch.equal(extended[key], straight[key]) for key in straight)
    lines = capsys.readouterr().err.splitlines()
    line = "longer     was 2 epochs, now 4: the learning rate follows the longer schedule from step 7 on"
    assert lines.count(line) == 1
    assert "resuming   after step 6 of 12" in lines


@pytest.mark.parametrize("step", [7, 11], ids=["at once", "in the last epoch"])
def test_stop_and_resume_after_the_extension_give_the_same_bits(
    tmp_path: Path, clips: Path, weights: Path, extended: Path, capsys: pytest.CaptureFixture[str], step: int
) -> None:
    folder, longer = tmp_path / "run", run_config(weights, epochs=4)
    train(clips, folder, run_config(weights))
    with at_step(step, lambda: os.kill(os.getpid(), signal.SIGTERM)), pytest.raises(Interrupted):
        train(clips, folder, longer, resume=True)
    capsys.readouterr()
    train(clips, folder, longer, resume=True)
    assert "longer " not in capsys.readouterr().err
    assert_same_run(folder, extended)
    assert len(json.loads((folder / "run.json").read_text())["extensions"]) == 1


def test_killed_in_its_first_new_step(
    tmp_path: Path, clips: Path, weights: Path, extended: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def die() -> None:
        raise KeyboardInterrupt

    folder, longer = tmp_path / "run", run_config(weights, epochs=4)
    train(clips, folder, run_config(weights))
    with at_step(7, die), pytest.raises(KeyboardInterrupt):
        train(clips, folder, longer, resume=True)
    assert epochs_of(folder) == (4, 4)  # saved before any step
    assert read_position(folder)[0].step == 6
    capsys.readouterr()
    train(clips, folder, longer, resume=True)
    assert "longer " not in capsys.readouterr().err
    assert_same_run(folder, extended)


def test_an_unfinished_run_is_made_longer(tmp_path: Path, clips: Path, weights: Path) -> None:
    folder = tmp_path / "run"
    with at_step(4, lambda: os.kill(os.getpid(), signal.SIGTERM)), pytest.raises(Interrupted):
        train(clips, folder, run_config(weights))
    train(clips, folder, run_config(weights, epochs=3), resume=True)
    # A cosine over 3 steps up to the fourth step, then one over 6.
    by_hand = [1e-3 / 3, 2e-3 / 3, 1e-3, 1e-3, 0.9330127e-3, 0.75e-3, 0.5e-3, 0.25e-3, 0.0669873e-3]
    assert [lr for *_, lr in told(folder)] == pytest.approx(by_hand, rel=1e-6)
    assert json.loads((folder / "run.json").read_text())["extensions"] == [{"step": 4, "epochs_before": 2, "epochs": 3}]


def test_what_is_refused_changes_nothing(extended: Path, clips: Path, weights: Path) -> None:
    before = (extended / FINAL).read_bytes()
    config = run_config(weights, epochs=4)

    def change(**training: float) -> None:
        train(clips, extended, replace(config, training=replace(config.training, **training)), resume=True)

    with pytest.raises(DualPathError, match=r"is complete \(4 epochs\), nothing to resume; give more --epochs to make it"):
        change()
    with pytest.raises(DualPathError, match="has 4 epochs, 4 of them done, and cannot be shortened to 3; give --epochs 4"):
        change(epochs=3)
    with pytest.raises(DualPathError, match=r"other settings \(weight_decay was 0.05, now 0.1\)"):
        change(epochs=6, weight_decay=0.1)
    assert (extended / FINAL).read_bytes() == before


def test_the_command_line(extended: Path, clips: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", str(clips), "--output", str(extended), *flags(weights), "--color-jitter", "0.3", "--min-scale", "0.5"]
    assert main([*words, "--resume", "--epochs", "3"]) == 2
    assert capsys.readouterr().err == (
        f"dualpath: the run in {extended} has 4 epochs, 4 of them done, and cannot be shortened to 3; "
        "give --epochs 4 to continue it, or more to make it longer\n"
    )
