from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from dualpath.cli import main
from dualpath.data.clips import TrainClips
from dualpath.data.manifest import DataError
from dualpath.engine import loop, prepare
from dualpath.engine.config import TrainConfig
from dualpath.engine.evaluate import Evaluation
from dualpath.engine.learner import losses_of
from dualpath.engine.log import read_log
from dualpath.engine.many_runs import read_videos, write_videos
from dualpath.engine.prepare import read_data, usable
from dualpath.engine.recorded import read_summary
from dualpath.engine.schedule import Schedule, draw_seed, make_schedule
from dualpath.engine.state import read_position, read_state
from dualpath.engine.train import train
from dualpath.engine.verbs import Judged, evaluate_data
from dualpath.errors import DualPathError, Interrupted
from dualpath.methods.dualpath import DualPath
from dualpath.methods.options import DualPathConfig
from dualpath.nn.zoo import EMBEDDED, BackboneConfig, load_backbone
from dualpath.video.sampling import SamplingConfig
from runs import FINAL, assert_same_run, at_step, flags, run_config, scan_here, told, write_clip
from videos import hit


@pytest.fixture(autouse=True)
def _quick_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "scan", scan_here)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, clips: Path, weights: Path) -> Callable[[int], Path]:
    """Runs of 2 epochs that nothing interrupts, by `accumulate`."""
    done: dict[int, Path] = {}

    def run(accumulate: int) -> Path:
        if accumulate not in done:
            done[accumulate] = tmp_path_factory.mktemp("straight") / str(accumulate)
            train(clips, done[accumulate], run_config(weights, accumulate=accumulate))
        return done[accumulate]

    return run


@pytest.mark.parametrize(
    ("accumulate", "step", "number", "code"),
    [(1, 2, signal.SIGTERM, 143), (1, 3, signal.SIGINT, 130), (2, 3, signal.SIGHUP, 129), (1, 6, signal.SIGTERM, 143)],
    ids=["mid-epoch", "end of an epoch", "accumulating", "after the last step"],
)
def test_signal_and_resume_equal_an_uninterrupted_run(
    tmp_path: Path,
    clips: Path,
    weights: Path,
    straight: Callable[[int], Path],
    capsys: pytest.CaptureFixture[str],
    accumulate: int,
    step: int,
    number: signal.Signals,
    code: int,
) -> None:
    config = run_config(weights, accumulate=accumulate)
    if signal.getsignal(number) is signal.SIG_IGN:  # under nohup, where a training ignores it too
        pytest.skip(f"{number.name} is ignored here")
    handler = signal.getsignal(number)
    with at_step(step, lambda: os.kill(os.getpid(), number)), pytest.raises(Interrupted) as stop:
        train(clips, tmp_path / "run", config)
    assert 128 + stop.value.signum == code
    assert str(stop.value) == (
        f"stopped by {number.name} after step {step}; its state is in {tmp_path / 'run'}, --resume continues it"
    )
    assert signal.getsignal(number) is handler
    assert read_position(tmp_path / "run")[0].step == step
    assert (tmp_path / "run" / "last" / "adapter_model.safetensors").is_file()
    capsys.readouterr()
    results = train(clips, tmp_path / "run", config, resume=True)
    assert f"resuming   after step {step} of " in capsys.readouterr().err
    assert results["epoch"] == 2
    assert_same_run(tmp_path / "run", straight(accumulate))


def test_exit_code_and_sentence_of_the_command_line(
    tmp_path: Path, clips: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", str(clips), "--output", str(tmp_path / "run"), *flags(weights), "--epochs", "1"]
    with at_step(1, lambda: os.kill(os.getpid(), signal.SIGINT)):
        assert main(words) == 130
    assert capsys.readouterr().err.endswith(
        f"dualpath: stopped by SIGINT after step 1; its state is in {tmp_path / 'run'}, --resume continues it\n"
    )
    with at_step(2, lambda: os.kill(os.getpid(), signal.SIGTERM)):
        assert main([*words, "--resume"]) == 143
    assert main([*words, "--resume"]) == 0
    assert [step for step, *_ in told(tmp_path / "run")] == [1, 2, 3]
    assert main([*words, "--resume"]) == 2
    assert capsys.readouterr().err.endswith(
        f"the run in {tmp_path / 'run'} is complete (1 epoch), nothing to resume; give more --epochs to make it longer\n"
    )


def test_no_damaged_state_is_resumed(straight: Callable[[int], Path], tmp_path: Path) -> None:
    """Bits flipped all over the file, header and tensors, and parts of it overwritten."""
    data = (straight(1) / FINAL).read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    places = [*range(0, 8), *range(8, header, header // 97), *range(header, len(data), len(data) // 23), len(data) - 1]
    wanted = read_state(straight(1), tensors=True)
    for place in places:
        for damage in (bytes([data[place] ^ 4]), bytes(16)):
            damaged = data[:place] + damage + data[place + len(damage) :]
            (tmp_path / FINAL).write_bytes(damaged[: len(data)])
            try:
                found = read_state(tmp_path, tensors=True)
            except DualPathError:
                continue
            assert replace(found, tensors={}) == replace(wanted, tensors={}), place
            assert all(torch.equal(found.tensors[name], value) for name, value in wanted.tensors.items()), place
    (tmp_path / FINAL).write_bytes(data[:-1])
    with pytest.raises(DualPathError, match=r"is damaged .* train into another folder, with --init_from .*last if that"):
        read_position(tmp_path)


KILLED = """
import os, signal, sys
from dualpath.cli import main
from dualpath.engine.log import Log
original = Log.step
def step(self, position, **figures):
    told = original(self, position, **figures)
    if position.step == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    return told
Log.step = step
if __name__ == "__main__":
    main(sys.argv[2:])
"""


@pytest.mark.parametrize(("accumulate", "step"), [(1, 5), (2, 1)], ids=["second epoch", "before the first save"])
def test_kill_9_and_resume_with_other_workers(
    tmp_path: Path, clips: Path, weights: Path, straight: Callable[[int], Path], accumulate: int, step: int
) -> None:
    output = tmp_path / "run"
    (tmp_path / "killed.py").write_text(KILLED)
    words = ["train", str(clips), "--output", str(output), *flags(weights), "--epochs", "2", "--save-every", "0"]
    words += ["--accumulate", str(accumulate), "--color-jitter", "0.3", "--min-scale", "0.5"]
    killed = subprocess.run([sys.executable, tmp_path / "killed.py", str(step), *words], capture_output=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert read_position(output)[0].step == step - 1  # killed before its last step was saved
    assert len(told(output)) == step
    workers = 1 if accumulate == 1 else 0
    train(clips, output, run_config(weights, accumulate=accumulate, workers=workers, save_every=7.0), resume=True)
    assert_same_run(output, straight(accumulate))


def test_killed_during_the_validation(
    tmp_path: Path, clips: Path, weights: Path, straight: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "evaluate", die)
        with pytest.raises(KeyboardInterrupt):
            train(clips, tmp_path / "run", run_config(weights))
    position, _ = read_position(tmp_path / "run")
    assert (position.step, position.epoch, position.closed) == (3, 1, 0)
    train(clips, tmp_path / "run", run_config(weights), resume=True)
    assert_same_run(tmp_path / "run", straight(1))


def test_dropout_is_drawn_again_by_a_resumed_run_whatever_the_caller_drew(tmp_path: Path, clips: Path, weights: Path) -> None:
    config = replace(
        run_config(weights, epochs=1, accumulate=2, eval_every=0),
        options=DualPathConfig(variant="reference"),
        backbone=BackboneConfig(EMBEDDED, str(weights), image_size=64),
        sampling=SamplingConfig(num_frames=16),
    )
    torch.manual_seed(1)
    before = torch.get_rng_state()
    train(clips, tmp_path / "straight", config)
    assert torch.equal(torch.get_rng_state(), before)
    with at_step(1, lambda: os.kill(os.getpid(), signal.SIGTERM)), pytest.raises(Interrupted):
        train(clips, tmp_path / "stopped", config)
    torch.manual_seed(2)
    again = replace(config, training=replace(config.training, gradient_checkpointing=True))  # the same numbers: it may change
    train(clips, tmp_path / "stopped", again, resume=True)
    assert [step for step, *_ in told(tmp_path / "stopped")] == [1, 2]
    assert told(tmp_path / "stopped") == told(tmp_path / "straight")
    ours, theirs = (load_file(tmp_path / name / FINAL) for name in ("stopped", "straight"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_training_in_int8_can_be_resumed_and_learns_nearly_the_same(
    tmp_path: Path, clips: Path, weights: Path, straight: Callable[[int], Path]
) -> None:
    config = run_config(weights, precision="int8")
    train(clips, tmp_path / "straight", config)
    with at_step(2, lambda: os.kill(os.getpid(), signal.SIGTERM)), pytest.raises(Interrupted):
        train(clips, tmp_path / "stopped", config)
    train(clips, tmp_path / "stopped", config, resume=True)
    assert_same_run(tmp_path / "stopped", tmp_path / "straight")
    whole, plain = ([loss for _, _, loss, _ in told(folder)] for folder in (tmp_path / "straight", straight(1)))
    assert whole != plain
    assert whole == pytest.approx(plain, rel=0.1)
    hashes = {
        json.loads((folder / "last" / "adapter_config.json").read_text())["backbone"]["sha256"]
        for folder in (tmp_path / "straight", straight(1))
    }
    assert len(hashes) == 1


def test_each_micro_batch_draws_its_own(
    tmp_path: Path, clips: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, straight: Callable[[int], Path]
) -> None:
    drawn: list[float] = []
    forward = DualPath.forward

    def draw(self: DualPath, frames: Tensor) -> Tensor:
        drawn.extend(torch.rand(1).tolist() if self.training and len(frames) == 4 else [])  # not for the plan
        return forward(self, frames)

    monkeypatch.setattr(DualPath, "forward", draw)
    train(clips, tmp_path / "run", run_config(weights, accumulate=2))
    assert len(set(drawn)) == len(drawn) == 6
    assert told(tmp_path / "run") == told(straight(2))  # what it draws touches nothing else
    seeds = {draw_seed(seed, step, number) for seed in range(8) for step in range(50) for number in range(4)}
    assert len(seeds) == 8 * 50 * 4
    assert max(seeds) < 2**32


def test_learning_rate_by_hand(clips: Path, straight: Callable[[int], Path]) -> None:
    schedule = Schedule(batches_an_epoch=3, steps_an_epoch=3, epochs=2, warmup=2, eval_every=1)
    found = [schedule.learning_rate(step, peak=1e-3) for step in range(6)]
    assert found == pytest.approx([0.5e-3, 1e-3, 1e-3, 0.8535534e-3, 0.5e-3, 0.1464466e-3], rel=1e-6)
    # 3 steps an epoch, 1 epoch of warm-up, then a cosine over 3 steps.
    lrs = [lr for *_, lr in told(straight(1))]
    assert lrs == pytest.approx([1e-3 / 3, 2e-3 / 3, 1e-3, 1e-3, 0.75e-3, 0.25e-3], rel=1e-9)
    # Accumulating two batches: 2 steps an epoch, the second one of a single batch.
    assert [lr for *_, lr in told(straight(2))] == pytest.approx([0.5e-3, 1e-3, 1e-3, 0.5e-3], rel=1e-9)


@pytest.mark.parametrize(
    ("videos", "epochs", "steps", "warmup"),
    [(48, 50, 300, 30), (83, 30, 330, 33), (160, 30, 600, 60), (2000, 30, 7500, 750), (1, 300, 300, 30)],
)
def test_few_videos_are_learnt_from_for_a_least_number_of_steps(videos: int, epochs: int, steps: int, warmup: int) -> None:
    schedule = make_schedule(videos, TrainConfig())
    assert (schedule.epochs, schedule.steps, schedule.warmup) == (epochs, steps, warmup)


def test_given_epochs_and_warm_up_are_taken_as_they_are() -> None:
    schedule = make_schedule(48, TrainConfig(epochs=20, warmup_epochs=1.0))
    assert (schedule.batches_an_epoch, schedule.steps_an_epoch, schedule.steps, schedule.warmup) == (6, 6, 120, 6)
    assert make_schedule(48, TrainConfig(accumulate=2)).steps_an_epoch == 3


@pytest.mark.parametrize(("epochs", "asked", "every"), [(30, None, 1), (34, None, 2), (67, None, 3), (67, 1, 1), (67, 0, 0)])
def test_a_long_training_is_validated_thirty_times_at_most(epochs: int, asked: int | None, every: int) -> None:
    assert make_schedule(48, TrainConfig(epochs=epochs, eval_every=asked)).eval_every == every


def test_learning_rate_scales_with_the_effective_batch() -> None:
    assert TrainConfig(batch_size=4, accumulate=2, base_lr=8e-3).peak_lr == pytest.approx(2.5e-4)
    assert TrainConfig(batch_size=256, accumulate=1, base_lr=8e-3).peak_lr == pytest.approx(8e-3)
    assert TrainConfig(batch_size=4, lr=3e-5).peak_lr == 3e-5


def test_accumulation_equals_the_big_batch(tmp_path: Path, clips: Path, weights: Path, straight: Callable[[int], Path]) -> None:
    train(clips, tmp_path / "run", run_config(weights, batch_size=8, accumulate=1))
    big, small = told(tmp_path / "run"), told(straight(2))
    assert [loss for *_, loss, _ in big] == pytest.approx([loss for *_, loss, _ in small], rel=1e-5)
    ours, theirs = load_file(tmp_path / "run" / FINAL), load_file(straight(2) / FINAL)
    for name in ours:
        if name.startswith("model."):
            torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=2e-5)


def test_clip_grad_bounds_the_norm(tmp_path: Path, clips: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = torch.nn.utils.clip_grad_norm_
    norms: list[tuple[float, float]] = []

    def spy(parameters: list[torch.nn.Parameter], largest: float) -> Tensor:
        norm = original(parameters, largest)
        after = math.sqrt(sum(float(p.grad.double().square().sum()) for p in parameters if p.grad is not None))
        norms.append((float(norm), after))
        return norm

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", spy)
    train(clips, tmp_path / "clipped", run_config(weights, epochs=1, clip_grad=1e-2))
    assert all(before > 2e-2 for before, _ in norms)
    assert [after for _, after in norms] == pytest.approx([1e-2] * 3, rel=1e-3)
    norms.clear()
    train(clips, tmp_path / "free", run_config(weights, epochs=1, clip_grad=0.0))
    assert [after for _, after in norms] == pytest.approx([before for before, _ in norms], rel=1e-4)


def test_label_smoothing_by_hand() -> None:
    right = -math.log(math.exp(2) / (math.exp(2) + 2))
    wrong = -math.log(1 / (math.exp(2) + 2))
    logits, labels = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([0])
    assert losses_of(logits, labels, smoothing=0.0).tolist() == pytest.approx([right])
    # 0.9 of the target on the label, 0.1 spread over all three classes.
    expected = (0.9 + 0.1 / 3) * right + 2 * (0.1 / 3) * wrong
    assert losses_of(logits, labels, smoothing=0.1).tolist() == pytest.approx([expected])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_non_finite_loss_names_its_samples_and_can_be_resumed(
    tmp_path: Path,
    clips: Path,
    weights: Path,
    straight: Callable[[int], Path],
    monkeypatch: pytest.MonkeyPatch,
    accumulate: int,
) -> None:
    read, forward = TrainClips.__getitem__, DualPath.forward
    poisoned = {"train/red/3.mp4", "train/blue/1.mp4"}

    def marked(self: TrainClips, key: tuple[int, int]) -> tuple[int, Tensor, int]:
        index, frames, label = read(self, key)
        white = key[0] == 1 and self.videos[index].name in poisoned
        return index, torch.full_like(frames, 255) if white else frames, label

    def sick(self: DualPath, frames: Tensor) -> Tensor:
        logits = forward(self, frames)
        return torch.where((frames == 255).flatten(1).all(dim=1)[:, None], torch.nan, logits)

    with monkeypatch.context() as patch:
        patch.setattr(TrainClips, "__getitem__", marked)
        patch.setattr(DualPath, "forward", sick)
        with pytest.raises(DualPathError, match="is not finite for") as problem:
            train(clips, tmp_path / "run", run_config(weights, accumulate=accumulate))
    position, _ = read_position(tmp_path / "run")
    message = str(problem.value)
    assert message.startswith(f"the loss of step {position.step + 1} is not finite for train/")
    named = set(message.split("not finite for ")[1].split(";")[0].split(", "))
    assert named
    assert named <= poisoned
    assert message.endswith("the state before that step is kept")
    assert position.epoch == 1
    assert told(tmp_path / "run") == told(straight(accumulate))[: position.step]
    train(clips, tmp_path / "run", run_config(weights, accumulate=accumulate), resume=True)
    assert_same_run(tmp_path / "run", straight(accumulate))


def test_non_finite_gradient_stops_too(tmp_path: Path, clips: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = DualPath.forward
    monkeypatch.setattr(DualPath, "forward", lambda self, frames: (x := forward(self, frames)) + (0 * x).sqrt())
    with pytest.raises(DualPathError, match=r"the gradient of step 1 is not finite for train/\w+/\d.mp4, train/"):
        train(clips, tmp_path / "run", run_config(weights, clip_grad=0.0))
    state = load_file(tmp_path / "run" / FINAL)
    assert all(value.isfinite().all() for value in state.values())


def test_files_of_a_run(trained: Path) -> None:
    held = {"best", "last", "log.jsonl", "run.json", "tensorboard", "validation", "videos.json", FINAL}
    assert {path.name for path in trained.iterdir()} == held
    record = json.loads((trained / "run.json").read_text())
    assert record["settings"]["epochs"] == 4
    assert record["settings"]["grid"] == [2, 2]
    assert record["data"]["counts"] == {
        "train": {"blue": 6, "red": 6},
        "val": {"blue": 2, "red": 2},
        "test": {"blue": 0, "red": 0},
    }
    steps, epochs = read_log(trained)
    assert [(line["step"], line["epoch"]) for line in steps] == [(i + 1, i // 3 + 1) for i in range(12)]
    assert all(0 <= line["waited"] < line["seconds"] for line in steps)
    # What an epoch says is the sum of its steps, here without the time that validation took.
    assert epochs[-1]["seconds"] == pytest.approx(sum(line["seconds"] for line in steps), abs=0.02)
    assert [line["epoch"] for line in epochs] == [1, 2, 3, 4]
    assert [line["step"] for line in epochs] == [3, 6, 9, 12]
    assert all(line["val_protocol"] == "segment-4, 1x1 views" for line in epochs)
    # The best checkpoint's predictions are there, as `dualpath evaluate` writes them.
    validated = read_summary(trained / "validation")
    assert validated.top1 == validated.read().top(1) == max(line["val_top1"] for line in epochs)
    assert (validated.origin.split, validated.origin.checkpoint) == ("val", str(trained / "best"))
    assert validated.origin.checkpoint_sha256 == json.loads((trained / "best/adapter_config.json").read_text())["sha256"]
    assert record["data"]["sha256"] == read_position(trained)[1]["data"]
    assert record["memory"]["peak_ram_gb"] > 0.1


def test_tensorboard_says_what_the_log_says(trained: Path) -> None:
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    (file,) = (trained / "tensorboard").iterdir()
    events = list(LegacyEventFileLoader(str(file)).Load())
    assert events[0].file_version == "brain.Event:2"
    found: dict[str, list[tuple[int, float]]] = {}
    for event in events:
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
    steps, epochs = read_log(trained)
    assert found.keys() == {"train/loss", "train/lr", "train/clips_per_s", "val/top1", "val/mean_class_accuracy"}
    assert found["train/loss"] == [(line["step"], pytest.approx(line["loss"])) for line in steps]
    assert found["val/top1"] == [(line["step"], pytest.approx(line["val_top1"])) for line in epochs]


def test_it_learns_colours(trained: Path) -> None:
    steps, epochs = read_log(trained)
    assert sum(line["loss"] for line in steps[-3:]) < 0.8 * sum(line["loss"] for line in steps[:3])
    assert epochs[-1]["val_top1"] == 1.0
    best = json.loads((trained / "best" / "adapter_config.json").read_text())["training"]
    assert best["val_top1"] == max(line["val_top1"] for line in epochs)
    # The later of two equals has seen more.
    assert best["epoch"] == max(line["epoch"] for line in epochs if line["val_top1"] == best["val_top1"])


@pytest.mark.parametrize(
    ("reached", "best"),
    [([0.25, 1.0, 0.25], (2, 1.0)), ([0.25, 0.75, 0.5], (3, 0.5))],  # of four videos: a single one tells nothing
)
def test_best_is_kept_when_later_epochs_are_clearly_worse(
    tmp_path: Path,
    clips: Path,
    weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    reached: list[float],
    best: tuple[int, float],
) -> None:
    original = loop.evaluate
    shares = iter(reached)

    def pretend(*args: Any, **options: Any) -> Any:
        found = original(*args, **options)
        share = next(shares)
        return type("Pretended", (Evaluation,), {"top": lambda self, k: share})(**vars(found))

    monkeypatch.setattr(loop, "evaluate", pretend)
    train(clips, tmp_path / "run", run_config(weights, epochs=3))
    kept = {n: json.loads((tmp_path / "run" / n / "adapter_config.json").read_text())["training"] for n in ("best", "last")}
    assert (kept["best"]["epoch"], kept["best"]["val_top1"]) == best
    assert (kept["last"]["epoch"], kept["last"]["val_top1"]) == (3, reached[-1])
    assert kept["best"]["batch"] == 4


def test_frozen_tensors_do_not_change(tmp_path: Path, clips: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[loop.Run] = []
    go = loop.Run.go
    monkeypatch.setattr(loop.Run, "go", lambda self: (runs.append(self), go(self))[1])
    train(clips, tmp_path / "run", run_config(weights))
    fresh = load_backbone(BackboneConfig(EMBEDDED, str(weights))).state_dict()
    after = runs[0].inner.backbone.state_dict()  # pyright: ignore
    assert after.keys() == fresh.keys()
    assert all(torch.equal(after[name], fresh[name]) for name in fresh)
    names = set(load_file(tmp_path / "run" / "last" / "adapter_model.safetensors"))
    assert not any(name.startswith("backbone") for name in names)


def copy(clips: Path, folder: Path) -> Path:
    return Path(shutil.copytree(clips, folder))


def test_bad_files_are_told_all_at_once_or_left_out(
    tmp_path: Path, clips: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = copy(clips, tmp_path / "data")
    (data / "train/red/text.mp4").write_text("hello")
    (data / "val/blue/empty.webm").write_bytes(b"")
    with pytest.raises(DataError) as problem:
        train(data, tmp_path / "run", run_config(weights))
    assert str(problem.value).splitlines()[1:] == [
        "  train/red/text.mp4 is not a video but a text file",
        "  val/blue/empty.webm is empty (0 bytes)",
        "  2 of 18 videos cannot be used; remove or replace them, or leave them out with --max_bad_files 0.12",
    ]
    assert not (tmp_path / "run").exists()
    capsys.readouterr()
    train(data, tmp_path / "run", run_config(weights, epochs=1, max_bad_files=0.12))
    told_err = capsys.readouterr().err
    assert (
        "left out 2 unreadable videos:\n  train/red/text.mp4 is not a video but a text file\n"
        "  val/blue/empty.webm is empty (0 bytes), so it counts as wrong\n" in told_err
    )
    assert "12 train, 4 val videos of 2 classes" in told_err


def test_a_validation_counts_bad_files_as_an_evaluation_does(
    tmp_path: Path, clips: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = copy(clips, tmp_path / "data"), tmp_path / "run"
    (data / "val/blue/empty.webm").write_bytes(b"")  # found before the training; the other one breaks in its first epoch
    spoil, stop = lambda: (data / "val/red/1.mp4").write_text("hello"), lambda: os.kill(os.getpid(), signal.SIGINT)
    with at_step(2, spoil), at_step(4, stop), pytest.raises(Interrupted):
        train(data, run, run_config(weights, max_bad_files=0.12))
    said = capsys.readouterr().err
    train(data, run, run_config(weights, max_bad_files=0.12), resume=True)
    undecodable = {"val/blue/empty.webm": "is empty (0 bytes)", "val/red/1.mp4": "is not a video but a text file"}
    validation = record(run)["validation"]
    assert (validation["videos"], validation["undecodable"].keys()) == (5, undecodable.keys())
    assert "was replaced after the training began" in validation["undecodable"]["val/red/1.mp4"]
    assert list(record(run)["data"]["left_out"]) == ["val/blue/empty.webm"]
    assert list(record(run)["skipped"]) == ["val/red/1.mp4"]  # the other one would count twice for the limit
    assert said.count("counted as wrong: val/red/1.mp4") == 1
    assert "counted as wrong: val/blue/empty" not in said
    _, epochs = read_log(run)
    assert [(line["val_videos"], line["val_undecodable"]) for line in epochs] == [(5, 2)] * 2
    asked = Judged(str(run / "last"), data, split="val", output=tmp_path / "out", precision="fp32", batch_size=4, workers=0)
    evaluated, _ = evaluate_data(asked)
    summary = evaluated.summary()
    assert (summary["videos"], summary["undecodable"]) == (5, undecodable)
    assert (summary["top1"], summary["mean_class_accuracy"]) == (epochs[-1]["val_top1"], epochs[-1]["val_mean_class_accuracy"])
    assert summary["top1"] <= 3 / 5


def test_a_validation_of_bad_files_only(tmp_path: Path, clips: Path, weights: Path) -> None:
    data = copy(clips, tmp_path / "data")
    for path in data.glob("val/*/*.mp4"):
        path.write_text("hello")
    results = train(data, tmp_path / "run", run_config(weights, epochs=1, max_bad_files=0.25))
    assert (results["val_top1"], results["val_videos"], results["val_undecodable"]) == (0.0, 4, 4)


def test_short_videos_are_told_once(tmp_path: Path, clips: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = copy(clips, tmp_path / "data")
    write_clip(data / "train/red/short.mp4", "red", seed=1, frames=2)
    write_clip(data / "val/red/short.mp4", "red", seed=2, frames=3)
    train(data, tmp_path / "run", run_config(weights, epochs=1))
    told_err = capsys.readouterr().err
    assert "of 18 videos 2 have fewer than 4 frames (train/red/short.mp4 has 2): their last frame is repeated" in told_err
    assert told_err.count("repeated") == 1


def test_video_that_vanishes_during_the_training(
    tmp_path: Path, clips: Path, weights: Path, straight: Callable[[int], Path]
) -> None:
    data = copy(clips, tmp_path / "data")
    lost = data / "train/red/2.mp4"
    with at_step(3, lost.unlink), pytest.raises(DualPathError) as problem:
        train(data, tmp_path / "run", run_config(weights))
    position, _ = read_position(tmp_path / "run")
    assert str(problem.value) == (
        "1 of 16 videos cannot be used, the last ones found in training (train/red/2.mp4); mend them, or leave them out with "
        f"--max_bad_files 0.07; the state after step {position.step} is kept, --resume continues it"
    )
    assert position.step >= 3
    shutil.copy(clips / "train/red/2.mp4", lost)
    train(data, tmp_path / "run", run_config(weights), resume=True)
    assert_same_run(tmp_path / "run", straight(1))


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text())


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory, clips: Path, weights: Path) -> tuple[Path, Path]:
    """A data set of which two videos could be opened but cannot be read, and a run on it: one batch has nothing else."""
    folder = tmp_path_factory.mktemp("damaged")
    data = copy(clips, folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "scan", passing)
        for name in SPOILT:
            (data / name).write_text("no video")
        train(data, folder / "run", run_config(weights, batch_size=1, max_bad_files=0.2))
    return data, folder / "run"


SPOILT = ("train/red/2.mp4", "train/blue/4.mp4")


def passing(videos: Any, **_: object) -> Any:
    """A scan that finds nothing wrong: the files break later."""
    good = tuple(replace(video, num_frames=8) for video in videos)
    return type(scan_here([]))(good, ())


def test_bad_files_met_in_training_are_skipped_counted_and_named(
    damaged: tuple[Path, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path, weights: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    data, run = damaged
    assert record(run)["skipped"] == dict.fromkeys(SPOILT, "is not a video but a text file")
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert sorted(line["skipped"] for line in lines if "skipped" in line) == sorted(SPOILT)  # once, though met twice
    made = [line["step"] for line in lines if "loss" in line]
    assert len(made) == 2 * (12 - 2)  # a batch that lost all its clips makes no step
    assert read_position(run)[0].step == 24
    assert read_position(run)[0].idle == 4
    monkeypatch.setattr(prepare, "scan", passing)
    with pytest.raises(DualPathError, match=r"^1 of 16 videos cannot be used, the last ones found in training"):
        train(data, tmp_path / "strict", run_config(weights, batch_size=4))
    assert capsys.readouterr().err.count("skipped train/") == 1
    with pytest.raises(DualPathError, match="cannot be used"):  # nothing was mended
        train(data, tmp_path / "strict", run_config(weights, batch_size=4), resume=True)
    train(data, tmp_path / "strict", run_config(weights, batch_size=4, max_bad_files=0.2), resume=True)
    train(data, tmp_path / "loose", run_config(weights, batch_size=4, max_bad_files=0.2))
    assert_same_run(tmp_path / "strict", tmp_path / "loose")
    assert len(record(tmp_path / "strict")["skipped"]) == 2


def test_what_is_damaged_stands_in_the_record_whoever_has_read_it(
    tmp_path: Path, clips: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = copy(clips, tmp_path / "data")
    hit(write_clip(data / "train/red/1.mp4", "red", seed=3, frames=40), 20)
    config = run_config(weights, epochs=1)
    config = replace(config, views=replace(config.views, damaged="take"))
    write_videos(tmp_path, usable(read_data(data, config), config))
    train(data, tmp_path / "run", config)
    monkeypatch.setattr(prepare, "scan", passing)  # a comparison's runs and folds read the files no more
    train(data, tmp_path / "child", config, checked=read_videos(tmp_path / "videos.json"))
    told = record(tmp_path / "run")["data"]["damaged"]
    assert told.keys() == {"train/red/1.mp4"}
    assert record(tmp_path / "child")["data"] == record(tmp_path / "run")["data"]


def test_resume_is_exact_with_skipped_videos(
    damaged: tuple[Path, Path], tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, straight_run = damaged
    monkeypatch.setattr(prepare, "scan", passing)
    config = run_config(weights, batch_size=1, max_bad_files=0.2)
    made = [line["step"] for line in map(json.loads, (straight_run / "log.jsonl").read_text().splitlines()) if "loss" in line]
    first_idle = next(step for step in range(1, 25) if step not in made)
    stop = next(step for step in made if step > first_idle)  # AdamW has made one step less than the schedule
    with at_step(stop, lambda: os.kill(os.getpid(), signal.SIGTERM)), pytest.raises(Interrupted):
        train(data, tmp_path / "run", config)
    monkeypatch.setattr(prepare, "scan", scan_here)  # which would find them: but the run has begun with them
    train(data, tmp_path / "run", config, resume=True)
    assert_same_run(tmp_path / "run", straight_run)
    assert record(tmp_path / "run")["skipped"].keys() == record(straight_run)["skipped"].keys()


def test_resume_refuses_another_run(tmp_path: Path, clips: Path, weights: Path) -> None:
    data = copy(clips, tmp_path / "data")
    config = run_config(weights, epochs=1)
    with at_step(1, lambda: os.kill(os.getpid(), signal.SIGTERM)), pytest.raises(Interrupted):
        train(data, tmp_path / "run", config)
    before = hashlib.sha256((tmp_path / "run" / FINAL).read_bytes()).hexdigest()
    with pytest.raises(DualPathError, match=r"other settings \(seed was 0, now 1\); resume with the same ones"):
        train(data, tmp_path / "run", replace(config, training=replace(config.training, seed=1)), resume=True)
    shutil.move(data / "train/red/5.mp4", data / "train/blue/6.mp4")
    with pytest.raises(DualPathError, match="other videos, labels or splits"):
        train(data, tmp_path / "run", config, resume=True)
    assert hashlib.sha256((tmp_path / "run" / FINAL).read_bytes()).hexdigest() == before


def test_checkpoint_half_replaced_by_a_kill_is_brought_back(
    tmp_path: Path, clips: Path, weights: Path, straight: Callable[[int], Path]
) -> None:
    with at_step(4, lambda: os.kill(os.getpid(), signal.SIGTERM)), pytest.raises(Interrupted):
        train(clips, tmp_path / "run", run_config(weights))
    (tmp_path / "run" / "best").rename(tmp_path / "run" / ".best.old")
    (tmp_path / "run" / f".{FINAL}.123.tmp").write_bytes(b"half")
    with at_step(5, lambda: os.kill(os.getpid(), signal.SIGTERM)), pytest.raises(Interrupted):
        train(clips, tmp_path / "run", run_config(weights), resume=True)
    assert (tmp_path / "run" / "best" / "adapter_model.safetensors").is_file()
    assert not list((tmp_path / "run").glob(".*"))
    train(clips, tmp_path / "run", run_config(weights), resume=True)
    assert_same_run(tmp_path / "run", straight(1))
