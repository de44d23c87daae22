"""Training clips a second: the common way against ours, from original and from prepared files, and 1 against 2 workers.

    python benchmarks/input.py [--files 12] [--seconds 8] [--rounds 3] [--folder FOLDER]

340x256 ten-second H.264 clips, T = 32, one process, one thread. Ways are measured in turn, round after round, so what
else the machine does meets them alike; the median round counts.

    common      every frame decoded to an RGB array, PIL resizes and augments each picture, float on the CPU
    ours        dualpath.data.loader.TrainClips
    prepared    the same from files that `dualpath data prepare` made
    2 s         clips of two seconds (32 frames, every second one) instead of the whole ten
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image, ImageEnhance
from sources import FRAMES, write_sources

from dualpath.data.batches import Course
from dualpath.data.clips import TrainClips, rng_for
from dualpath.data.loader import train_loader
from dualpath.data.manifest import Video
from dualpath.video.encode import EncodeConfig, reencode
from dualpath.video.sampling import SamplingConfig, train_indices
from dualpath.video.transforms import TransformConfig

SIZE, T, BATCH = 224, 32, 4
TRANSFORM = TransformConfig()
WHOLE, TWO_SECONDS = SamplingConfig(T, "segment"), SamplingConfig(T, "dense", 2)
MEAN, STD = (
    torch.tensor(v)[:, None, None] for v in ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
)


def clips(paths: list[Path], sampling: SamplingConfig) -> TrainClips:
    videos = [Video(path, path.name, 0, "train", num_frames=FRAMES) for path in paths]
    return TrainClips(videos, sampling=sampling, transform=TRANSFORM, size=SIZE, flip=True, seed=0)


def common(paths: list[Path], sampling: SamplingConfig, number: int) -> torch.Tensor:
    """As most training code does it; the same kinds of augmentation, one choice for the clip."""
    rng = rng_for(0, 0, number)
    with av.open(str(paths[number % len(paths)])) as container:
        container.streams.video[0].thread_type = "NONE"
        container.streams.video[0].codec_context.thread_count = 1
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    pictures = [Image.fromarray(frames[i]) for i in train_indices(len(frames), sampling, rng)]
    width, height = pictures[0].size
    side = np.sqrt(rng.uniform(TRANSFORM.min_scale, 1) * width * height)
    w, h = min(side * (shape := rng.uniform(0.87, 1.15)), width), min(side / shape, height)
    x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
    flip, brightness, contrast, colour = rng.random() < 0.5, *rng.uniform(0.7, 1.3, 3)
    done = []
    for picture in pictures:
        crop = picture.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=(x, y, x + w, y + h))
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else crop
        crop = ImageEnhance.Brightness(crop).enhance(brightness)
        crop = ImageEnhance.Contrast(crop).enhance(contrast)
        crop = ImageEnhance.Color(crop).enhance(colour)
        done.append((torch.from_numpy(np.array(crop)).permute(2, 0, 1).float() / 255 - MEAN) / STD)
    return torch.stack(done)


def rate(do: Callable[[int], object], seconds: float) -> float:
    """Calls a second of processor time's worth of wall time."""
    do(0)
    began, count = time.perf_counter(), 0
    while (gone := time.perf_counter() - began) < seconds:
        count += 1
        do(count)
    return count / gone


def loader_rate(dataset: TrainClips, workers: int, batches: int) -> float:
    """Clips a second once all workers are at work."""
    epochs = -(-(batches + 2 * workers + 1) * BATCH // len(dataset))
    began = count = 0
    for number, batch in enumerate(train_loader(dataset, Course(BATCH, epochs), workers=workers)):
        if number == 2 * workers:
            began, count = time.perf_counter(), 0
        else:
            count += len(batch.labels)
    return count / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "dualpath-benchmark")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.files % BATCH:
        # A smaller batch at the end of each epoch could always be the same worker's.
        parser.error(f"--files is {given.files}, but must be a multiple of {BATCH}")
    originals = write_sources(given.folder / "originals", given.files)
    prepared = [given.folder / "prepared" / path.name for path in originals]
    prepared[0].parent.mkdir(exist_ok=True)
    for source, target in zip(originals, prepared, strict=True):
        if not target.is_file():
            reencode(source, target, config=EncodeConfig())
    for name, paths in (("originals", originals), ("prepared", prepared)):
        print(f"{name}: {sum(path.stat().st_size for path in paths) / len(paths) / 1e6:.2f} MB a file")

    def one(dataset: TrainClips) -> Callable[[int], object]:
        return lambda number: dataset[number // len(dataset), number % len(dataset)]

    ways: dict[str, Callable[[], float]] = {}
    for name, sampling in (("10 s", WHOLE), ("2 s", TWO_SECONDS)):
        ways[f"{name} common"] = lambda s=sampling: rate(lambda n: common(originals, s, n), given.seconds)
        ways[f"{name} ours"] = lambda s=sampling: rate(one(clips(originals, s)), given.seconds)
        ways[f"{name} prepared"] = lambda s=sampling: rate(one(clips(prepared, s)), given.seconds)
    for workers in (1, 2):
        ways[f"{workers} workers"] = lambda w=workers: loader_rate(clips(originals, WHOLE), w, 12 * w)
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(given.rounds):
        for name, measure in ways.items():
            found[name].append(measure())
        print(f"round {number + 1}: " + ", ".join(f"{name} {rates[-1]:.1f}" for name, rates in found.items()), flush=True)
    middle = {name: statistics.median(rates) for name, rates in found.items()}
    for name, figure in middle.items():
        print(f"{name:<14} {figure:7.2f} clips/s")
    for above, below in (("10 s ours", "10 s common"), ("2 s ours", "2 s common"), ("2 s prepared", "2 s ours"),
                         ("2 s prepared", "2 s common"), ("2 workers", "1 workers")):  # fmt: skip
        print(f"{above} / {below}: {middle[above] / middle[below]:.2f}")


if __name__ == "__main__":
    main()
