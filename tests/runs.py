"""Tiny runs: two colours of clips, a random backbone, a narrow DualPath."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from dualpath.data.manifest import Video
from dualpath.data.scan import BadVideo, Refusal, ScanResult, count_frames
from dualpath.engine.config import RunConfig, TrainConfig
from dualpath.errors import VideoError
from dualpath.methods.options import DualPathConfig
from dualpath.nn.zoo import EMBEDDED, BackboneConfig, random_backbone
from dualpath.video.sampling import SamplingConfig
from videos import write_video

COLOURS = {"blue": (40, 60, 200), "red": (200, 60, 40)}
COUNTS = {"train": 6, "val": 2}
FRAMES, GRID = 4, (2, 2)


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
        *("--workers", "0", "--check", "quick", "--color-jitter", "0", "--min-scale", "0.7"),
    ]


def run_config(weights: Path, **training: Any) -> RunConfig:
    """The same in Python; 12 training clips make 3 batches an epoch."""
    settings: dict[str, Any] = {"epochs": 2, "batch_size": 4, "lr": 1e-3, "warmup_epochs": 1.0, "workers": 0}
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


def scan_here(videos: Sequence[Video], *, count: Callable[[Path], int] = count_frames, **_: object) -> ScanResult:
    """`scan` without its child processes, which take seconds to start."""
    good, bad = [], []
    for video in videos:
        try:
            good.append(video.counted(count(video.path)))
        except VideoError as problem:
            bad.append(BadVideo(video, problem.reason))
    return ScanResult(tuple(good), tuple(bad))
