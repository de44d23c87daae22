"""Tiny runs: two colours of clips, a random backbone, a narrow DualPath."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dualpath.data.manifest import Video
from dualpath.data.scan import BadVideo, Refusal, ScanResult, Taken, count_frames
from dualpath.engine.config import RunConfig, TrainConfig
from dualpath.engine.log import Log, read_log
from dualpath.errors import VideoError
from dualpath.methods.options import DualPathConfig
from dualpath.nn.zoo import EMBEDDED, BackboneConfig, random_backbone
from dualpath.video.sampling import SamplingConfig
from videos import write_video

COLOURS = {"blue": (40, 60, 200), "red": (200, 60, 40)}
COUNTS = {"train": 6, "val": 2}
FRAMES, GRID = 4, (2, 2)
FINAL = "training_state.safetensors"


def write_weights(path: Path, *, seed: int) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        save_file(random_backbone(EMBEDDED).vit.state_dict(), path)
    return path


def write_clip(path: Path, colour: str, *, seed: int, frames: int = 8) -> Path:
    """A clip of one colour whose shade and brightness over time are its own."""
    rng = np.random.default_rng(seed)
    shade = np.clip(np.array(COLOURS[colour]) + rng.integers(-30, 30, 3), 0, 255)
    lights = rng.uniform(0.6, 1.0, frames)
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_video(path, [np.full((48, 64, 3), shade * light, np.uint8) for light in lights])


def write_clips(folder: Path) -> Path:
    for split, count in COUNTS.items():
        for label, colour in enumerate(COLOURS):
            for number in range(count):
                write_clip(folder / split / colour / f"{number}.mp4", colour, seed=100 * label + number + 50 * (split == "val"))
    return folder


def flags(weights: Path) -> list[str]:
    """The command line of a tiny run, without its length."""
    grid = f"[{GRID[0]},{GRID[1]}]"
    return [
        *("--backbone", EMBEDDED, "--weights", str(weights), "--precision", "fp32", "--num-frames", str(FRAMES)),
        *(
            "--grid",
            grid,
            "--num-spatial-frames",
            "1",
            "--bottleneck",
            "8",
            "--batch-size",
            "4",
            "--lr",
            "1e-3",
            "--warmup-epochs",
            "1",
        ),
        *("--workers", "0", "--check", "quick", "--baseline", "false", "--color-jitter", "0", "--min-scale", "0.7"),
    ]


def run_config(weights: Path, **training: Any) -> RunConfig:
    """The same in Python; 12 training clips make 3 batches an epoch."""
    settings: dict[str, Any] = {"epochs": 2, "batch_size": 4, "lr": 1e-3, "warmup_epochs": 1.0, "workers": 0, "baseline": False}
    settings |= {"check": "quick", "precision": "fp32"}
    return RunConfig(
        options=DualPathConfig(num_spatial_frames=1, grid=GRID, bottleneck=8),
        backbone=BackboneConfig(EMBEDDED, str(weights)),
        sampling=SamplingConfig(num_frames=FRAMES),
        training=TrainConfig(**(settings | training)),
    )


def ask_here(things: Sequence[Any], do: Callable[[Any], Any], **_: object) -> Generator[tuple[int, Any], None, None]:
    """`scan.ask` without its child processes, which take seconds to start."""
    for index, thing in enumerate(things):
        try:
            yield index, do(thing)
        except VideoError as problem:
            yield index, Refusal(problem.reason)


def scan_here(videos: Sequence[Video], *, count: Callable[[Path], Any] = count_frames, **_: object) -> ScanResult:
    """`scan` without its child processes, which take seconds to start."""
    good, bad, said = [], [], []
    for video in videos:
        try:
            answer = count(video.path)
            good.append(video.counted(answer.num_frames if isinstance(answer, Taken) else answer))
            said.append(answer)
        except VideoError as problem:
            bad.append(BadVideo(video, problem.reason))
    return ScanResult(tuple(good), tuple(bad), tuple(said))


@contextmanager
def at_step(step: int, do: Callable[[], object]) -> Iterator[None]:
    """Does something right after a step was logged, before anything is saved."""
    original = Log.step

    def spy(self: Log, position: Any, **figures: Any) -> float:
        told = original(self, position, **figures)
        if position.step == step:
            do()
        return told

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Log, "step", spy)
        yield


def told(folder: Path) -> list[tuple[int, int, float, float]]:
    steps, _ = read_log(folder)
    return [(line["step"], line["epoch"], line["loss"], line["lr"]) for line in steps]


def assert_same_run(folder: Path, wanted: Path) -> None:
    """The same losses to the last digit, the same validation, the same bits in weights and moments."""
    assert told(folder) == told(wanted)
    epochs, wanted_epochs = (
        [{k: v for k, v in line.items() if k != "seconds"} for line in read_log(f)[1]] for f in (folder, wanted)
    )
    assert epochs == wanted_epochs
    found, expected = load_file(folder / FINAL), load_file(wanted / FINAL)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    for name in ("last", "best"):
        ours, theirs = (f / name / "adapter_model.safetensors" for f in (folder, wanted))
        assert ours.read_bytes() == theirs.read_bytes()
