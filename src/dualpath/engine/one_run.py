"""One run of a comparison or a cross-validation in a process of its own: train, evaluate, measure. `engine.child` starts it.

Its peak memory is then its own, and nothing that ran before it plays a part. It reads a job (one line of JSON) from
stdin, which stays open as long as the parent lives: if that is killed, this ends too and cannot disturb the next try.

A run's folder holds, beside what `dualpath train` writes:
    test/ (or val/)   evaluation.json, predictions.csv; validation-last/ for a fold of a cross-validation
    measured.json     memory after the training; speed once all is done, if the run is one of a comparison
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from dualpath.data.formats.base import Split
from dualpath.data.manifest import HeldOutFold
from dualpath.engine.config import DataConfig, RunConfig, TrainConfig
from dualpath.engine.evaluate import evaluate
from dualpath.engine.log import read_log
from dualpath.engine.many_runs import read_videos
from dualpath.engine.origin import describe_origin
from dualpath.engine.predict import VideoClassifier, load
from dualpath.engine.prepare import read_for
from dualpath.engine.state import STATE, read_position
from dualpath.engine.train import default_workers, train
from dualpath.errors import DualPathError, Interrupted, check_count
from dualpath.files import read_table, write_whole
from dualpath.hardware import describe_machine, peak_memory
from dualpath.methods import find_method
from dualpath.nn.zoo import BackboneConfig
from dualpath.processes import end_with_parent
from dualpath.settings import check_kinds
from dualpath.terminal import plain_streams
from dualpath.video.protocols import ViewsConfig
from dualpath.video.sampling import SamplingConfig
from dualpath.video.transforms import TransformConfig

MEASURED, VALIDATION_LAST = "measured.json", "validation-last"
CLIPS = 8
"""Clips in a forward pass when speed is measured, and views (about) in one when accuracy is."""
SPEED_SECONDS, FEWEST, MOST = 5.0, 3, 20
"""Batches are timed for so long, but so many at least and at most."""


@dataclass(frozen=True)
class Job:
    """What a child is told.

    Attributes:
        data: as for `train`.
        videos: JSON file: by name the number of frames; of a bad video, why it is bad.
        split: what to evaluate on.
        folder: of the run.
        config: all settings.
        kept: folder of decoded clips that runs of the seed share; None if it decodes its own.
        fold: the official split that it takes, if the comparison has several: then its folder is one level deeper.
    """

    data: Path
    videos: Path
    split: Split
    folder: Path
    config: RunConfig
    kept: Path | None = None
    fold: int | None = None

    @property
    def label(self) -> str:
        """Of the entry."""
        return self.folder.parts[-2 if self.fold is None else -3]

    @property
    def name(self) -> str:
        """For people: "dualpath seed 0", "dualpath split 1 seed 0"; "fold 2 of 5" of a cross-validation."""
        if self.config.held_out is not None:
            return str(self.config.held_out)
        fold = "" if self.fold is None else f" split {self.fold}"
        return f"{self.label}{fold} seed {self.config.training.seed}"

    @property
    def results(self) -> Path:
        """Folder of the evaluation."""
        return self.folder / (self.split if self.config.held_out is None else VALIDATION_LAST)

    def to_json(self) -> str:
        """One line."""
        paths = {name: str(getattr(self, name)) for name in ("data", "videos", "folder")}
        kept = None if self.kept is None else str(self.kept)
        return json.dumps(paths | {"split": self.split, "config": asdict(self.config), "kept": kept, "fold": self.fold})

    @classmethod
    def from_json(cls, line: str) -> Job:
        """The job again."""
        told = json.loads(line)
        paths = {name: Path(told[name]) for name in ("data", "videos", "folder")}
        kept = None if told["kept"] is None else Path(told["kept"])
        return cls(**paths, split=told["split"], config=_config(told["config"]), kept=kept, fold=told["fold"])


def _config(told: dict[str, Any]) -> RunConfig:
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in told["options"].items()}
    return RunConfig(
        told["method"],
        find_method(told["method"]).config(**options),
        backbone=BackboneConfig(**told["backbone"]),
        sampling=SamplingConfig(**told["sampling"]),
        transform=TransformConfig(**told["transform"]),
        views=ViewsConfig(**told["views"]),
        training=TrainConfig(**told["training"]),
        data=DataConfig(**told["data"]),
        held_out=HeldOutFold(**told["held_out"]) if told["held_out"] else None,
    )


def run_job(job: Job) -> None:
    """Does what is not done yet of a run."""
    measured = _train(job)
    classifier = load(job.folder / "last", precision=job.config.training.precision)
    _evaluate(job, classifier)
    if job.config.held_out is not None:
        return
    measured |= {
        "clips_per_s": inference_speed(classifier),
        "stored": _stored(classifier),
        "machine": describe_machine(classifier.device),
    }
    write_whole(job.folder / MEASURED, json.dumps(measured, indent=2) + "\n")


def _train(job: Job) -> dict[str, Any]:
    """Trains, or goes on; gives the memory that it took at most, None if the training was over before."""
    resume = (job.folder / STATE).is_file()
    if not resume:  # killed before there was anything to go on from
        shutil.rmtree(job.folder, ignore_errors=True)
    path = job.folder / MEASURED
    if not resume or not read_position(job.folder)[0].complete:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        train(job.data, job.folder, _settings(job), resume=resume, checked=read_videos(job.videos), kept=job.kept)
        write_whole(path, json.dumps(peak_memory(), indent=2) + "\n")
    known = read_table(path) if path.is_file() else {}
    return {name: known.get(name) for name in ("peak_ram_gb", "peak_gpu_gb")}


def _settings(job: Job) -> RunConfig:
    """A comparison has baselines among its entries, if it wants any; a fold measures them on its own videos."""
    wanted = job.config.training.baseline and job.config.held_out is not None
    return replace(job.config, training=replace(job.config.training, baseline=wanted))


def _evaluate(job: Job, classifier: VideoClassifier) -> None:
    spec, views = classifier.spec, job.config.views
    manifest = read_for(spec, job.data, format=job.config.data.format, fold=job.config.data.split, damaged=views.damaged)
    videos, known = manifest.split(job.split), read_videos(job.videos)
    found = evaluate(
        classifier,
        videos,
        views=views,
        batch_size=max(1, CLIPS // (views.num_clips * views.num_crops)),
        workers=default_workers(job.config.training.workers),
        bad={i: reason for i, video in enumerate(videos) if isinstance(reason := known.get(video.name), str)},
    )
    origin = describe_origin(
        classifier, checkpoint=job.folder / "last", data=job.data, split=job.split, videos=videos, views=views,
        seconds=found.seconds,
    )  # fmt: skip
    replace(found, data=manifest.census(), origin=origin).write(job.results)


@torch.inference_mode()
def inference_speed(classifier: VideoClassifier) -> float:
    """Clips a second of the model alone, on batches of CLIPS clips that are on the device: the median of several."""
    shape = (CLIPS, classifier.spec.sampling.num_frames, 3, classifier.size, classifier.size)
    frames = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).to(classifier.device)
    seconds: list[float] = []
    for _ in range(2):
        classifier.model(frames)
    began = time.monotonic()
    while len(seconds) < FEWEST or (len(seconds) < MOST and time.monotonic() - began < SPEED_SECONDS):
        if classifier.device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        classifier.model(frames)
        if classifier.device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return CLIPS / statistics.median(seconds)


def _stored(classifier: VideoClassifier) -> str:
    backbone: Any = classifier.model.backbone
    return "int8" if backbone.in_int8 else str(backbone.dtype).removeprefix("torch.")


@dataclass(frozen=True)
class RunResult:
    """What a finished run has reached and what it has cost.

    Attributes:
        seed: of the run.
        videos: evaluated.
        right: classified rightly.
        undecodable: of the videos, how many; they count as wrong.
        protocol: how clips were taken and which views averaged, such as "dense-16x4, 3x1 views".
        trainable, total: parameters.
        gmacs: of one view.
        versions: of what the result depends on.
        step_seconds: of an optimizer step without its waiting for clips: median.
        waited_seconds: of that waiting: median.
        train_seconds: of all steps, waiting included.
        peak_ram_gb, peak_gpu_gb: of the training; None if not known.
        clips_per_s: at inference, see `inference_speed`.
        stored: type of the backbone's weights.
        machine: in words.
        shared_clips: the runs of the seed that came before have decoded clips for it, or it has for those that follow.
        fold: as of the job.
        mean_class: mean of the accuracies of the classes.
    """

    seed: int
    videos: int
    right: int
    undecodable: int
    protocol: str
    trainable: int
    total: int
    gmacs: float
    versions: dict[str, str]
    step_seconds: float
    waited_seconds: float
    train_seconds: float
    peak_ram_gb: float | None
    peak_gpu_gb: float | None
    clips_per_s: float
    stored: str
    machine: str
    shared_clips: bool = False
    fold: int | None = None
    mean_class: float | None = None

    def __post_init__(self) -> None:
        check_kinds(self)  # it may come from files
        check_count("videos", self.videos)
        check_count("total", self.total)

    @property
    def top1(self) -> float:
        """Share of the videos classified rightly."""
        return self.right / self.videos


def read_result(folder: Path, *, split: Split, seed: int) -> RunResult | None:
    """The result of the run in this folder, None if it is not finished.

    Raises:
        DualPathError: a damaged file.
    """
    places = [folder / MEASURED, folder / split / "evaluation.json", folder / "run.json"]
    if not all(place.is_file() for place in places):
        return None
    try:
        measured, evaluation, record = map(read_table, places)
        if "clips_per_s" not in measured:
            return None
        steps, epochs = read_log(folder)
        steps = steps[2:] or steps[-1:]  # the first ones warm caches up
        confusion = evaluation["confusion"]
        return RunResult(
            seed=seed,
            videos=evaluation["videos"],
            right=sum(row[label] for label, row in enumerate(confusion)),
            undecodable=len(evaluation["undecodable"]),
            protocol=evaluation["protocol"],
            mean_class=evaluation.get("mean_class_accuracy"),
            versions=record["versions"],
            step_seconds=statistics.median(line["seconds"] - line["waited"] for line in steps),
            waited_seconds=statistics.median(line["waited"] for line in steps),
            train_seconds=epochs[-1]["seconds"],
            shared_clips=record.get("shared_clips", False),
            **{name: record["plan"][name] for name in ("trainable", "total", "gmacs")},
            **{name: measured[name] for name in ("peak_ram_gb", "peak_gpu_gb", "clips_per_s", "stored", "machine")},
        )
    except (ValueError, KeyError, IndexError, TypeError, OSError) as problem:
        raise DualPathError(
            f"{folder} holds a damaged record ({problem!r}); delete it and --resume to run it again"
        ) from problem


def main() -> int:
    """The child: a job from stdin, exit codes as of the command line."""
    with plain_streams():
        return _main()


def _main() -> int:
    line = bytearray()
    while not line.endswith(b"\n"):
        if not (more := os.read(0, 65536)):
            return 2
        line += more
    end_with_parent(0)  # nothing more comes, so what can be read there is its end
    try:
        run_job(Job.from_json(line.decode()))
    except DualPathError as problem:
        print(f"\ndualpath: {problem}", file=sys.stderr)
        return 2
    except Interrupted as stop:
        print(f"\ndualpath: {stop}", file=sys.stderr)
        return 128 + stop.signum
    except KeyboardInterrupt:
        return 130
    return 0
