"""The whole story in a few minutes: draw clips, train DualPath and a linear probe on them, compare, show.

The classes are pairs of opposites which single frames cannot tell apart (video/drawn/synthetic.py). The probe sees the same
backbone's features without their order; DualPath is evaluated once more with every test clip's frames shuffled.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dualpath.data.checking.known import read_known
from dualpath.data.manifest import read_manifest
from dualpath.engine.checkpoint import find_checkpoint
from dualpath.engine.evaluate import Evaluation, evaluate
from dualpath.engine.origin import describe_origin
from dualpath.engine.predict import VideoClassifier, load
from dualpath.engine.progress import Bar
from dualpath.engine.train import RunConfig, TrainConfig, default_workers, train
from dualpath.errors import DualPathError, number_of
from dualpath.files import check_new, owns_output, write_whole
from dualpath.methods import count_parameters
from dualpath.methods.linear_probe import LinearProbeConfig
from dualpath.methods.options import DualPathConfig
from dualpath.nn.zoo import EMBEDDED, BackboneConfig
from dualpath.report.pages.demo import write_report
from dualpath.settings import check_fields
from dualpath.video.drawn.label_sets import find_label_set
from dualpath.video.drawn.synthetic import CLASSES, render_clip, render_folder, write_video
from dualpath.video.protocols import ViewsConfig
from dualpath.video.sampling import SamplingConfig
from dualpath.video.transforms import TransformConfig


@dataclass(frozen=True)
class DrawConfig:
    """Drawn clips to try things on; a folder of them is made by its options alone.

    Attributes:
        label_set: what tells the classes apart: motion (opposites, the demo's), appearance (a single frame does) or both
            (shape, colour and direction).
        train_clips: clips a class to learn from.
        test_clips: clips a class that are held out.
        seed: of the clips.
    """

    label_set: str = "motion"
    train_clips: int = 320
    test_clips: int = 40
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        find_label_set(self.label_set)
        for name in ("train_clips", "test_clips"):
            if getattr(self, name) < 1:
                raise DualPathError(f"{name} is {getattr(self, name)}, but it must be at least 1")
        if self.seed < 0:
            raise DualPathError(f"seed is {self.seed}, but it must be 0 or more")


@owns_output
def draw(output: Path, config: DrawConfig | None = None) -> None:
    """Draws `train/<class>/*.mp4` and `test/<class>/*.mp4` into a new folder.

    Raises:
        DualPathError: the folder exists and is not empty.
    """
    config = config or DrawConfig()
    check_new(output)
    each = config.train_clips + config.test_clips
    _say(f"drawing {number_of(each, 'clip')} of each of {len(find_label_set(config.label_set).classes)} classes")
    counts = {"train": config.train_clips, "test": config.test_clips}
    with Bar("drawing", total=1) as bar:
        render_folder(output, counts, seed=config.seed, workers=2, label_set=config.label_set, progress=bar.tell)


@dataclass(frozen=True)
class DemoConfig:
    """Size of the demonstration; the defaults take a few minutes on two cores.

    Attributes:
        train_clips: clips a class to learn from.
        test_clips: clips a class that are held out.
        epochs: passes of DualPath over its clips.
        seed: of the clips and of the training.
    """

    train_clips: int = 320
    test_clips: int = 40
    epochs: int = 7
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("train_clips", "test_clips", "epochs"):
            if getattr(self, name) < 1:
                raise DualPathError(f"{name} is {getattr(self, name)}, but it must be at least 1")
        if self.seed < 0:
            raise DualPathError(f"seed is {self.seed}, but it must be 0 or more")


@owns_output
def run_demo(output: Path, config: DemoConfig | None = None) -> dict[str, Any]:
    """Makes the folder: clips/, dualpath/ and linear_probe/ (runs), results.json, report.html.

    Returns:
        What results.json holds.

    Raises:
        DualPathError: the output folder exists and is not empty.
    """
    config = config or DemoConfig()
    check_new(output)
    began = time.monotonic()
    clips = output / "clips"
    draw(clips, DrawConfig(train_clips=config.train_clips, test_clips=config.test_clips, seed=config.seed))
    runs = {"dualpath": _dualpath_run(config), "linear_probe": _probe_run(config)}
    found: dict[str, Evaluation] = {}
    models: dict[str, VideoClassifier] = {}
    checked: dict[str, int | str] | None = None  # the second training need not look into the same videos again
    for name, run in runs.items():
        _say(f"training {name}")
        train(clips, output / name, run, checked=checked)
        known = read_known(output / name)
        assert known is not None
        checked = {**known.frames, **known.bad}
        models[name] = load(output / name)
        found[name] = _evaluate(models[name], clips, output / name / "test")
    _say("evaluating dualpath with the frames of each clip shuffled")
    found["dualpath_shuffled"] = _evaluate(models["dualpath"], clips, output / "dualpath" / "test-shuffled", shuffled=True)
    new = output / "new.mp4"
    name = CLASSES[config.seed % len(CLASSES)]
    write_video(new, *render_clip(name, (config.seed, 99)))
    guesses = models["dualpath"].predict(new, top_k=3)
    results = _results(found, models, {"video": new.name, "shows": name, "predictions": guesses}, began)
    write_report(output / "report.html", results, found, models["dualpath"], output)
    results |= _cost(began)
    write_whole(output / "results.json", json.dumps(results, indent=2) + "\n")
    _say(_story(results, output))
    return results


def _dualpath_run(config: DemoConfig) -> RunConfig:
    # Four frames in a 2x2 frameset: at 128 pixels an object in a 4x4 frameset would have a patch or less to itself.
    return RunConfig(
        method="dualpath",
        options=DualPathConfig(num_spatial_frames=1, grid=(2, 2)),
        backbone=BackboneConfig(EMBEDDED),
        sampling=SamplingConfig(num_frames=4),
        transform=TransformConfig(min_scale=0.7, color_jitter=0.0),
        training=TrainConfig(
            epochs=config.epochs, batch_size=32, lr=1e-3, warmup_epochs=1.0, label_smoothing=0.0, val_fraction=0.0,
            check="quick", seed=config.seed, baseline=False,
        ),
    )  # fmt: skip


def _probe_run(config: DemoConfig) -> RunConfig:
    return RunConfig(
        method="linear_probe",
        options=LinearProbeConfig(num_probe_frames=0),
        backbone=BackboneConfig(EMBEDDED),
        sampling=SamplingConfig(num_frames=4),
        transform=TransformConfig(min_scale=0.7, color_jitter=0.0),
        training=TrainConfig(
            epochs=2,
            batch_size=32,
            lr=5e-3,
            warmup_epochs=1.0,
            label_smoothing=0.0,
            val_fraction=0.0,
            check="quick",
            seed=config.seed,
            baseline=False,
        ),
    )


def _evaluate(model: VideoClassifier, clips: Path, folder: Path, *, shuffled: bool = False) -> Evaluation:
    manifest = read_manifest(clips, val_fraction=0.0, classes=model.classes)
    videos = manifest.split("test")
    with Bar("evaluating", total=len(videos)) as bar:
        found = evaluate(model, videos, batch_size=32, workers=default_workers(-1), shuffle_frames=shuffled, progress=bar.tell)
    origin = describe_origin(
        model, checkpoint=find_checkpoint(folder.parent), data=clips, split="test", videos=videos, views=ViewsConfig(),
        seconds=found.seconds, shuffled=shuffled,
    )  # fmt: skip
    found = replace(found, data=manifest.census(), origin=origin)
    found.write(folder)
    return found


def _results(
    found: dict[str, Evaluation], models: dict[str, VideoClassifier], prediction: dict[str, Any], began: float
) -> dict[str, Any]:
    trained = {name: count_parameters(model.model)[0] for name, model in models.items()}
    results: dict[str, Any] = {
        "classes": list(found["dualpath"].classes),
        "test_videos": len(found["dualpath"].videos),
        "protocol": found["dualpath"].protocol,
    }
    for name, evaluation in found.items():
        results[name] = {"top1": evaluation.top(1), "per_class": evaluation.per_class()}
        if name in trained:
            results[name]["trainable_params"] = trained[name]
    return results | {"prediction": prediction} | _cost(began)


def _cost(began: float) -> dict[str, float]:
    """Seconds so far, and peak memory: this process, and its largest child as often as decoders run."""
    own, child = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "seconds": round(time.monotonic() - began, 1),
        "peak_rss_gb": round((own + default_workers(-1) * child) * unit / 1e9, 2),
    }


def _story(results: dict[str, Any], output: Path) -> str:
    guess = results["prediction"]["predictions"][0]
    return "\n".join(
        [
            f"{results['test_videos']} held-out clips of {len(results['classes'])} classes, {results['protocol']}",
            f"  DualPath                  {100 * results['dualpath']['top1']:5.1f} % top-1",
            f"  DualPath, frames shuffled {100 * results['dualpath_shuffled']['top1']:5.1f} %",
            f"  linear probe              {100 * results['linear_probe']['top1']:5.1f} %",
            f"{output / 'new.mp4'} shows '{results['prediction']['shows']}'; predicted '{guess['label']}' "
            f"({guess['score']:.2f})",
            f"{results['seconds']:.0f} s, {results['peak_rss_gb']:.2f} GB; look at {output / 'report.html'}",
        ]
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
