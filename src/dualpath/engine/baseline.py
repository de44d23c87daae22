"""What frozen features alone reach: the number that a training has to beat, within minutes.

    videos --frozen backbone, one pass--> features of each frame --logistic regression--> linear probes, "mean" and "ordered"

The strength of the regression is chosen by cross-validation on the training videos, by group. The better probe is a
checkpoint like any other, in the run's folder `baseline`. A model that reads its frames in order (num_segments) starts
from such a regression: untrained, it is as good as that, and what it learns comes on top (EXPERIMENTS.md, 2026-11-30).

    n videos   s frames of each   f features   i inputs of a linear layer   k classes
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from dualpath.data.loader import ViewBatch
from dualpath.data.manifest import Video
from dualpath.engine.checkpoint import ModelSpec, save_checkpoint
from dualpath.engine.config import RunConfig
from dualpath.engine.evaluate import visit
from dualpath.engine.logistic import choose_strength, fit_regression
from dualpath.engine.predict import VideoClassifier
from dualpath.engine.prepare import check_run_folder, default_workers, read_data, usable
from dualpath.engine.progress import Bar
from dualpath.errors import DualPathError, number_of
from dualpath.files import owns_output, write_whole
from dualpath.hardware import pick_device
from dualpath.methods.base import FrameModel, FrameModelConfig, last_layer, segment_means, spread
from dualpath.methods.dualpath import DualPath
from dualpath.methods.linear_probe import LinearProbe, LinearProbeConfig, ReadOut
from dualpath.methods.options import DualPathConfig
from dualpath.nn.adapters import OrderedClassifier
from dualpath.nn.backbone import Backbone
from dualpath.nn.zoo import frozen_dtype, load_backbone
from dualpath.video.protocols import ViewsConfig

FOLDER = "baseline"
READ_OUTS: tuple[ReadOut, ...] = ("mean", "ordered")
MOST_FRAMES, MOST_VIDEOS = 16, 1000
"""So many frames a video, and so many training and so many validation videos, are looked at at most."""
BATCH = 4
SEGMENTS = 4
"""In so many parts of a clip features are read in order by default: with 4 frames in order the frozen features of
UT-Interaction reach 73 %, with 8 77, with 16 77, with their mean 65 (EXPERIMENTS.md); each costs a picture a training step."""


@dataclass(frozen=True)
class ProbeResult:
    """What one linear probe reaches.

    Attributes:
        top1: share of the validation videos that it classifies rightly; None without such videos.
        cv_top1: the same of the training videos, each judged by a regression without its fold; None if there are too few
            groups for folds.
        strength: C.
        train_videos, val_videos: how many were looked at; unreadable ones are wrong.
        mean_class: mean of the classes' accuracies on the validation videos; None if some of these could not be read.
    """

    top1: float | None
    cv_top1: float | None
    strength: float
    train_videos: int
    val_videos: int
    mean_class: float | None = None

    @property
    def rank(self) -> tuple[float, float]:
        """For choosing between probes: never by the videos that they are judged on, if there is another way."""
        return (-1.0 if self.cv_top1 is None else self.cv_top1, -1.0 if self.top1 is None else self.top1)


@dataclass(frozen=True)
class Features:
    """What the frozen backbone makes of the frames of some videos.

    Attributes:
        values: of the readable videos.
        labels: theirs.
        videos: themselves.
        unreadable: how many more there were.
    """

    values: Float[Tensor, "n s f"]
    labels: Int64[Tensor, " n"]
    videos: tuple[Video, ...]
    unreadable: int


def measure_baseline(
    backbone: Backbone,
    train: Sequence[Video],
    val: Sequence[Video],
    *,
    spec: ModelSpec,
    views: ViewsConfig,
    workers: int,
    device: torch.device,
    output: Path,
    stop: Callable[..., None] = lambda *_: None,
    bad: Mapping[int, str] | None = None,
) -> tuple[dict[str, ProbeResult], Features | None]:
    """Looks at the videos once, fits the linear probes, writes the better one to `output`/baseline.

    Args:
        backbone: of the run, before its training.
        train: what is learnt from.
        val: what the probes are judged on.
        spec: of the run: classes, sampling, backbone.
        views: the decoder; one view of each video is looked at.
        workers: decoding processes.
        device: of the backbone.
        output: the run's folder.
        stop: is called now and then, and may raise.
        bad: reason by index of those of `val` that are known to be bad.

    Returns:
        The probes' results by their read-out, and the features of the training videos; neither where none could be read.
    """
    frames = min(spec.sampling.num_frames, MOST_FRAMES)
    places = {"train": _some(train), "val": _some(val)}
    chosen = {"train": [train[i] for i in places["train"]], "val": [val[i] for i in places["val"]]}
    known = {"train": {}, "val": {new: bad[old] for new, old in enumerate(places["val"]) if bad and old in bad}}
    features: dict[str, Features] = {}
    done = 0
    probe = _probe(backbone, len(spec.classes), "mean", frames)
    classifier = VideoClassifier(probe, _spec(spec, probe, {}), device=device)
    with Bar("frozen features", total=sum(map(len, chosen.values()))) as bar:

        def progress(count: int, total: int) -> None:
            del total
            bar.update(done + count)
            stop()

        for name, videos in chosen.items():
            features[name] = encode(classifier, videos, views=views, workers=workers, progress=progress, bad=known[name])
            done += len(videos)
    if not len(features["train"].labels):
        return {}, None
    results, probes = {}, {}
    for read_out in READ_OUTS:
        probe = _probe(backbone, len(spec.classes), read_out, frames)
        results[read_out] = fit_probe(probe, features["train"], features["val"], seed=spec.split_seed)
        probes[read_out] = probe
    best = max(READ_OUTS, key=lambda name: results[name].rank)
    if not any(value.requires_grad for value in backbone.parameters()):  # else its weights would be taken for trained ones
        reached = {key: value for key, value in asdict(results[best]).items() if value is not None}
        try:
            save_checkpoint(output / FOLDER, probes[best], _spec(spec, probes[best], reached))
        except (DualPathError, OSError) as problem:
            print(f"the baseline's checkpoint could not be written ({problem}): going on without", file=sys.stderr)
    return results, features["train"]


def read_in_order(config: RunConfig) -> RunConfig:
    """The settings with num_segments as by default where a training can start from a baseline, if none is given."""
    options = config.options
    if not config.training.baseline or config.init_from is not None:
        return config
    if isinstance(options, DualPathConfig):
        most = options.num_spatial_frames if options.paths != "temporal" and options.variant != "reference" else 1
    elif isinstance(options, FrameModelConfig):
        most = config.sampling.num_frames
    else:
        return config
    if options.num_segments is not None or most == 1:
        return config
    return replace(config, options=replace(options, num_segments=min(SEGMENTS, most)))


def start_classifier(model: nn.Module, train: Features, *, num_frames: int, seed: int) -> bool:
    """Puts a regression on the frozen features of training clips into a model whose classifier can start from one.

    Args:
        model: untrained; any other than a linear probe and those that read their frames in order stays as it is.
        train: of `measure_baseline`; of the frames that were looked at, the nearest to those of the model are taken.
        num_frames: T, of a clip.
        seed: of the folds for the regression's strength.

    Returns:
        Whether the model has them.
    """
    if not len(train.labels):
        return False
    if isinstance(model, LinearProbe):
        frames = spread(num_frames, model.config.num_probe_frames or num_frames)
        inputs = model.read_out(_near(train.values, frames, num_frames))
    elif isinstance(model, DualPath | FrameModel) and isinstance(model.head, OrderedClassifier):
        frames = model.spatial_frames(num_frames) if isinstance(model, DualPath) else range(num_frames)
        inputs = model.head.norm(segment_means(_near(train.values, frames, num_frames), model.config.segments))
    else:
        return False
    last = last_layer(model)
    strength, _ = choose_strength(inputs, train.labels, train.videos, classes=last.out_features, seed=seed)
    weight, bias = fit_regression(inputs, train.labels, classes=last.out_features, strength=strength)
    with torch.no_grad():
        last.weight.zero_()  # for what else the model reads, which the regression has not
        last.weight[:, : weight.shape[1]] = weight.to(last.weight)
        last.bias.copy_(bias)
    return True


def _near(features: Float[Tensor, "n s f"], wanted: Sequence[int], num_frames: int) -> Float[Tensor, "n w f"]:
    """Of the features of s frames that are spread over a clip those nearest to the wanted frames."""
    there = spread(num_frames, features.shape[1])
    return features[:, [min(range(len(there)), key=lambda i: abs(there[i] - frame)) for frame in wanted]]


@owns_output
def baseline_data(data: Path, output: Path, config: RunConfig, *, checked: Path | None = None) -> dict[str, dict[str, Any]]:
    """Measures the baseline of a data set without a training; leaves baseline.json and the better probe's checkpoint.

    Args:
        data: folder or list of videos; judged on those of `val`, or on a share that is kept from the training videos.
        output: a new folder.
        config: data, backbone, sampling and decoder; of the training's settings the seed, val_fraction, workers, precision,
            check and max_bad_files.
        checked: folder of a data check of `data`.

    Raises:
        DualPathError: anything given cannot be used.
    """
    training, device = config.training, pick_device()
    options = LinearProbeConfig(num_probe_frames=min(config.sampling.num_frames, MOST_FRAMES))
    config = replace(config, options=options).complete()
    check_run_folder(output, config, resume=False)
    manifest = read_data(data, config)
    backbone = load_backbone(config.backbone, dtype=frozen_dtype(training.precision, device)).to(device)
    known = usable(manifest, config, checked=checked)
    readable = known.manifest.split("val")
    spec = ModelSpec(
        method=config.method,
        options=options,
        backbone=config.backbone,
        classes=manifest.classes,
        sampling=config.sampling,
        split_seed=training.seed,
        val_fraction=training.val_fraction,
        training={},
        format=manifest.format,
        fold=manifest.fold,
    )
    results, _ = measure_baseline(
        backbone,
        known.manifest.split("train"),
        (*readable, *known.wrong),
        spec=spec,
        views=config.views,
        workers=default_workers(training.workers),
        device=device,
        output=output,
        bad={len(readable) + i: known.bad[video.name] for i, video in enumerate(known.wrong)},
    )
    figures = {name: asdict(result) for name, result in results.items()}
    write_whole(output / "baseline.json", json.dumps(figures, indent=2) + "\n")
    return figures


def encode(
    classifier: VideoClassifier,
    videos: Sequence[Video],
    *,
    views: ViewsConfig,
    workers: int,
    progress: Callable[[int, int], None],
    bad: dict[int, str],
) -> Features:
    """The features of the middle view of each video."""
    rows: dict[int, Tensor] = {}
    model: Any = classifier.model

    def use(batch: ViewBatch) -> None:
        with torch.inference_mode():
            features = model.encode(batch.frames[:, 0].to(classifier.device)).float().cpu()
        rows.update(zip(batch.indices.tolist(), features, strict=True))

    one_view = replace(views, num_clips=1, num_crops=1)
    failures = visit(
        classifier, videos, use, views=one_view, batch_size=BATCH, workers=workers, progress=progress, bad=bad
    )  # fmt: skip
    readable = [index for index in range(len(videos)) if index in rows]
    width = classifier.backbone.features
    values = torch.stack([rows[index] for index in readable]) if readable else torch.empty(0, 1, width)
    labels = torch.tensor([videos[index].label for index in readable], dtype=torch.int64)
    return Features(values, labels, tuple(videos[index] for index in readable), len(failures))


def fit_probe(probe: LinearProbe, train: Features, val: Features, *, seed: int) -> ProbeResult:
    """Puts the weights of a regression with a cross-validated strength into a probe's linear layer."""
    classes, labels = probe.head.out_features, train.labels
    inputs = probe.read_out(train.values)
    strength, cv_top1 = choose_strength(inputs, labels, train.videos, classes=classes, seed=seed)
    weight, bias = fit_regression(inputs, labels, classes=classes, strength=strength)
    with torch.no_grad():
        probe.head.weight.copy_(weight)
        probe.head.bias.copy_(bias)
    count = len(val.labels) + val.unreadable
    right, mean_class = 0, None
    if len(val.labels):
        logits = probe.read_out(val.values).double() @ weight.T + bias
        right = int((logits.argmax(dim=1) == val.labels).sum())
        hits = (logits.argmax(dim=1) == val.labels).double()
        shares = [float(hits[val.labels == label].mean()) for label in val.labels.unique()]
        mean_class = None if val.unreadable else sum(shares) / len(shares)
    top1 = right / count if count else None
    return ProbeResult(top1, cv_top1, strength, len(labels), count, mean_class)


def _probe(backbone: Backbone, classes: int, read_out: ReadOut, frames: int) -> LinearProbe:
    device = next(backbone.parameters()).device
    config = LinearProbeConfig(num_probe_frames=frames, read_out=read_out)
    return LinearProbe(backbone, num_classes=classes, config=config).to(device)


def _spec(spec: ModelSpec, probe: LinearProbe, results: dict[str, Any]) -> ModelSpec:
    return replace(spec, method="linear_probe", options=probe.config, training=results)


def _some(videos: Sequence[Video]) -> list[int]:
    """The indices of all videos, or of MOST_VIDEOS of them, of every class alike."""
    indices = sorted(range(len(videos)), key=lambda index: videos[index].label)
    if len(videos) > MOST_VIDEOS:
        step = len(videos) / MOST_VIDEOS
        indices = [indices[int(number * step)] for number in range(MOST_VIDEOS)]
    return sorted(indices)


def describe_baseline(results: Mapping[str, Mapping[str, Any]]) -> str:
    """A line for people, of the results as they stand in run.json.

    "frozen features alone: 62.1 % (mean), 76.7 % (in order) of 37 validation videos; 60.2 %, 75.9 % of 83 training videos,
    cross-validated"
    """
    words = {"mean": "mean", "ordered": "in order"}
    parts = []
    for key, count, what in (
        ("top1", "val_videos", "validation video"),
        ("cv_top1", "train_videos", "training video, cross-validated|training videos, cross-validated"),
    ):
        shares: list[str] = []
        for name, result in results.items():
            mean = result.get("mean_class") if key == "top1" else None
            uneven = mean is not None and round(100 * mean, 1) != round(100 * (result[key] or 0.0), 1)
            told = f"{words[name]}; mean per class {100 * mean:.1f} %" if mean is not None and uneven else words[name]
            shares += [f"{100 * result[key]:.1f} % ({told})"] if result[key] is not None else []
        if shares:
            parts.append(f"{', '.join(shares)} of {number_of(next(iter(results.values()))[count], what)}")
    return f"frozen features alone: {'; '.join(parts) or 'too few videos to tell'}"


def judge(top1: float, results: Mapping[str, Mapping[str, Any]], output: Path) -> str | None:
    """A sentence with the trained model's validation top-1 beside the baselines'; none where it is below 0, not measured."""
    reached = {name: result["top1"] for name, result in results.items() if result.get("top1") is not None}
    if top1 < 0 or not reached:
        return None
    name = max(reached, key=lambda name: reached[name])
    best, beside = reached[name], describe_baseline(results)
    if top1 > best:
        return f"the trained model, {100 * top1:.1f} %, is better than {beside}"
    return (
        f"the trained model, {100 * top1:.1f} %, is no better than {beside}; prefer the baseline ({output / FOLDER}), which is "
        "simpler, or train longer (--resume --epochs)"
    )
