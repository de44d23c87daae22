"""How fast a user's own files become clips on this machine, which step holds them up, and what a GPU would eat.

    a handful of files --as they are, and as `data prepare` would make them, in turn--> Rates
    Rates, demand --advise--> plain sentences

Each step is measured alone (disk, decode, transform, transfer between processes), then the loader as a training has it.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dualpath.data.batches import Course
from dualpath.data.clips import TrainClips
from dualpath.data.loader import TrainBatch, train_loader
from dualpath.data.manifest import DataError, Video
from dualpath.data.preparing.journal import Job
from dualpath.data.preparing.prepare import encode_job
from dualpath.data.scan import Refusal, ask, scan
from dualpath.engine.prepare import find_segments, read_labels
from dualpath.engine.progress import Bar
from dualpath.errors import DualPathError, number_of
from dualpath.processes import child_context
from dualpath.settings import MOST_WORKERS, check_fields
from dualpath.video.decode import read_frames
from dualpath.video.decoding.places import find_place
from dualpath.video.encode import EncodeConfig, Encoded
from dualpath.video.sampling import SamplingConfig
from dualpath.video.transforms import TransformConfig, train_transform

AS_THEY_ARE, PREPARED = "as they are", "prepared"
_HANDED_OVER = 40  # batches, to see what handing them over costs


@dataclass(frozen=True)
class BenchConfig:
    """What is measured.

    Attributes:
        workers: numbers of decoding processes to try; 0 decodes in the training process.
        seconds: for each measurement, about.
        batch_size: clips a batch.
        files: so many of the videos, chosen at random; a handful is prepared for comparison.
    """

    workers: tuple[int, ...] = (0, 1, 2)
    seconds: float = 5.0
    batch_size: int = 8
    files: int = 16

    def __post_init__(self) -> None:
        check_fields(self, workers=MOST_WORKERS)
        if not self.workers or min(self.workers) < 0 or len(set(self.workers)) != len(self.workers):
            raise DualPathError(f"workers are {list(self.workers)}; give different whole numbers, such as --workers 0,1,2")
        if not 0 < self.seconds < 3600:
            raise DualPathError(f"seconds is {self.seconds}, but it must be above 0 and less than an hour")
        if self.batch_size < 1 or self.files < 1:
            raise DualPathError(f"batch_size {self.batch_size} and files {self.files} must be at least 1")


@dataclass(frozen=True)
class Rates:
    """Clips a second of one setting.

    Attributes:
        disk: reading the files from the disk and nothing else; None where the system's cache cannot be passed by.
        decode: one process, to frames.
        transform: one process, frames to the clip that is learnt from.
        transfer: ready clips from one process to another.
        loader: all together, by number of workers.
        megabytes: of a file, on average.
    """

    disk: float | None
    decode: float
    transform: float
    transfer: float
    loader: Mapping[int, float]
    megabytes: float


@dataclass(frozen=True)
class Bench:
    """What was measured.

    Attributes:
        data: as given.
        files: how many were read.
        clip: in words.
        cores: that this process may use.
        rates: by setting: "as they are", "prepared".
        left_out: reason by name of the videos that could not be read.
    """

    data: str
    files: int
    clip: str
    cores: int
    rates: Mapping[str, Rates]
    left_out: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        told = {
            name: vars(rates) | {"loader": {str(w): r for w, r in rates.loader.items()}} for name, rates in self.rates.items()
        }
        return {"data": self.data, "files": self.files, "clip": self.clip, "cores": self.cores, "clips_per_s": told,
                "left_out": dict(self.left_out)}  # fmt: skip


def bench_data(
    data: Path,
    *,
    config: BenchConfig,
    sampling: SamplingConfig,
    transform: TransformConfig,
    size: int,
    encode: EncodeConfig,
    cores: int,
) -> Bench:
    """Measures training clips of a user's own files; told on the way on stderr.

    Args:
        data: folder, CSV file or URL, see `read_manifest`.
        config: what is measured.
        sampling: which frames make a clip.
        transform: how clips are varied.
        size: S, pixels.
        encode: how the handful is prepared.
        cores: of this machine.

    Raises:
        DataError: the data cannot be used.
    """
    manifest = find_segments(read_labels(data, val_fraction=0.0))
    learnt = manifest.split("train") or manifest.videos
    chosen = np.random.default_rng(0).permutation(len(learnt))[: config.files]
    videos: Sequence[Video] = [learnt[place] for place in chosen]
    left_out: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="dualpath-bench-") as folder:
        known = all(video.num_frames is not None for video in manifest.videos)  # as prepared
        if not known:
            found = scan(videos, workers=min(2, cores))
            videos, left_out = found.videos, {bad.video.name: bad.reason for bad in found.bad}
        if not videos:
            raise DataError(manifest.root, [f"{name} {reason}" for name, reason in left_out.items()])
        sets = {AS_THEY_ARE: videos}
        if not known:
            videos, prepared = _prepare_some(videos, Path(folder), encode, workers=cores)
            sets = {AS_THEY_ARE: videos, PREPARED: prepared} if prepared else sets
        flip = transform.flips(manifest.classes)
        clips = {
            name: TrainClips(of, sampling=sampling, transform=transform, size=size, flip=flip, seed=0)
            for name, of in sets.items()
        }
        rates = _measure(clips, config)
    clip = f"{number_of(sampling.num_frames, 'frame')} ({sampling.sampling}" + (
        f", every {sampling.sampling_rate})" if sampling.sampling == "dense" else ")"
    )
    return Bench(str(data), len(videos), f"{clip}, {size}x{size} pixels", cores, rates, left_out)


def _prepare_some(
    videos: Sequence[Video], folder: Path, encode: EncodeConfig, *, workers: int
) -> tuple[list[Video], list[Video]]:
    """Those that can be prepared, and how they come out."""
    jobs = [Job(video.path, folder / f"{place}.mp4", video.start, video.end) for place, video in enumerate(videos)]
    before: list[Video] = []
    after: list[Video] = []
    with Bar("preparing a handful", total=len(jobs)) as bar, closing(
        ask(jobs, partial(encode_job, config=encode), workers=workers, seconds=120.0)
    ) as answers:  # fmt: skip
        done: dict[int, Encoded] = {}
        for number, (place, answer) in enumerate(answers):
            if isinstance(answer, Encoded):
                done[place] = answer
            elif not isinstance(answer, Refusal):
                raise answer
            bar.update(number + 1)
    for place in sorted(done):
        before.append(videos[place])
        frames = done[place].num_frames
        after.append(replace(videos[place], path=jobs[place].target, num_frames=frames, start=0, end=None))
    return before or list(videos), after


# --- measuring


def _measure(clips: Mapping[str, TrainClips], config: BenchConfig) -> dict[str, Rates]:
    """All settings in turn for each step, so that what else the machine does meets them alike."""
    alone: dict[str, dict[str, Any]] = {name: {} for name in clips}
    loaders: dict[str, dict[int, float]] = {name: {} for name in clips}
    with Bar("measuring", total=len(clips) * (3 + len(config.workers)) + 1) as bar:
        done = 0

        def step(text: str) -> None:
            nonlocal done
            done += 1
            bar.update(done, text)

        with _one_thread():
            for name, dataset in clips.items():
                alone[name]["disk"] = _disk_rate(dataset.videos)
                step(f"{name}, disk")
            for name, dataset in clips.items():
                frames = _some_frames(dataset)
                alone[name]["transform"] = _rate(partial(_vary, dataset, frames), config.seconds)
                step(f"{name}, transform")
            for name, dataset in clips.items():
                whole = _rate(partial(_read, dataset), config.seconds)
                # What is not the transform is decoding; where that is next to nothing, noise must not make it negative.
                alone[name]["decode"] = 1 / max(1 / whole - 1 / alone[name]["transform"], 0.02 / whole)
                step(f"{name}, decode")
        transfer = _transfer_rate(next(iter(clips.values())), config)
        step("transfer")
        for workers in config.workers:
            for name, dataset in clips.items():
                expected = 1 / (1 / alone[name]["decode"] + 1 / alone[name]["transform"])
                loaders[name][workers] = _loader_rate(dataset, workers, config, expected=expected)
                step(f"{name}, {number_of(workers, 'worker')}: {loaders[name][workers]:.1f} clips/s")
    return {
        name: Rates(**alone[name], transfer=transfer, loader=loaders[name], megabytes=_megabytes(dataset.videos))
        for name, dataset in clips.items()
    }


@contextmanager
def _one_thread() -> Iterator[None]:
    """As a worker computes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _rate(do: Callable[[int], object], seconds: float) -> float:
    """Calls a second, with 0, 1, 2 ...; the first one is not counted."""
    do(0)
    count, began = 0, time.perf_counter()
    while (gone := time.perf_counter() - began) < seconds or count < 2:
        count += 1
        do(count)
    return count / gone


def _read(dataset: TrainClips, number: int) -> Tensor:
    return dataset[number // len(dataset), number % len(dataset)][1]


def _some_frames(dataset: TrainClips) -> list[Tensor]:
    """Frames as they are decoded for a clip, of a few videos."""
    short = int(np.ceil(dataset.size / np.sqrt(dataset.transform.min_scale)))
    count = dataset.sampling.num_frames
    found = []
    for video in dataset.videos[:4]:
        first = video.start
        wanted = [first + min(i, (video.num_frames or 1) - 1) for i in range(count)]
        found.append(read_frames(video.path, wanted, short_side=short).frames)
    return found


def _vary(dataset: TrainClips, frames: Sequence[Tensor], number: int) -> Tensor:
    clip = frames[number % len(frames)]
    return train_transform(clip, size=dataset.size, config=dataset.transform, flip=dataset.flip, seed=number)


def _disk_rate(videos: Sequence[Video]) -> float | None:
    """Files a second from the disk itself: the system is asked to forget what it has kept of them."""
    if not hasattr(os, "posix_fadvise"):
        return None
    gone = 0.0
    for video in videos:
        place = find_place(video.path)
        if not place.file.is_file():
            return None
        with place.file.open("rb") as file:
            os.fsync(file.fileno())  # what is not written yet cannot be forgotten
            os.posix_fadvise(file.fileno(), place.offset, place.length, os.POSIX_FADV_DONTNEED)
        began = time.perf_counter()
        place.read()
        gone += time.perf_counter() - began
    return len(videos) / max(gone, 1e-9)


def _megabytes(videos: Sequence[Video]) -> float:
    sizes = [find_place(video.path) for video in videos]
    return sum(place.length for place in sizes if place.file.is_file()) / len(videos) / 1e6


class _Ready(Dataset[Tensor]):
    """Clips that cost nothing to make: what remains is handing them over."""

    def __init__(self, shape: tuple[int, ...], batches: int) -> None:
        self.shape, self.batches = shape, batches

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, index: int) -> Tensor:
        return torch.full(self.shape, index % 256, dtype=torch.uint8)


def _transfer_rate(dataset: TrainClips, config: BenchConfig) -> float:
    shape = (config.batch_size, dataset.sampling.num_frames, 3, dataset.size, dataset.size)
    ready = DataLoader(_Ready(shape, _HANDED_OVER), batch_size=None, num_workers=1, multiprocessing_context=child_context())
    return _clips_a_second(ready, 1)


def _loader_rate(dataset: TrainClips, workers: int, config: BenchConfig, *, expected: float) -> float:
    """Clips a second of a loader that ends by itself, after about the time that is wanted: workers that are stopped in the
    middle of a clip die noisily."""
    clips = config.seconds * expected * max(1, workers) + config.batch_size * (3 + 2 * workers)
    epochs = math.ceil(clips / len(dataset))
    with _one_thread():
        return _clips_a_second(train_loader(dataset, Course(config.batch_size, epochs), workers=workers), workers)


def _clips_a_second(loader: Iterable[Any], workers: int) -> float:
    """From when the workers are all at work and nothing lies ready."""
    clips, began = 0, 0.0
    for number, batch in enumerate(loader):
        if number == 2 * workers:
            clips, began = 0, time.perf_counter()
        else:
            clips += len(batch.labels if isinstance(batch, TrainBatch) else batch)
    return clips / (time.perf_counter() - began)
