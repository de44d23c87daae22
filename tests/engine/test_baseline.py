from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dualpath.cli import main
from dualpath.data.manifest import Video
from dualpath.engine import baseline, prepare
from dualpath.engine.baseline import Features, describe_baseline, judge, read_in_order, start_classifier
from dualpath.engine.config import RunConfig, TrainConfig
from dualpath.engine.logistic import STRENGTHS, choose_strength, fit_regression
from dualpath.engine.loop import VALIDATION
from dualpath.engine.predict import load
from dualpath.engine.train import train
from dualpath.errors import DualPathError
from dualpath.methods import METHODS, build_model, find_method
from dualpath.methods.aim import AimConfig
from dualpath.methods.base import MethodConfig
from dualpath.methods.linear_probe import LinearProbeConfig
from dualpath.methods.options import DualPathConfig
from dualpath.nn.zoo import EMBEDDED
from dualpath.video.sampling import SamplingConfig
from runs import COUNTS, run_config, scan_here
from tiny import random_clips, tiny_backbone


@pytest.fixture(autouse=True)
def _quick_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "scan", scan_here)


def blobs(count: int, width: int, classes: int, *, spread: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Points around a centre for each class."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, width, generator=generator)
    labels = torch.arange(count) % classes
    return centres[labels] + spread * torch.randn(count, width, generator=generator), labels


def objective(inputs: Tensor, labels: Tensor, weight: Tensor, bias: Tensor, strength: float) -> Tensor:
    """The regression's, on standardised inputs, as scikit-learn states it."""
    return strength * F.cross_entropy(inputs @ weight.T + bias, labels, reduction="sum") + 0.5 * weight.square().sum()


@pytest.mark.parametrize(("count", "width"), [(40, 7), (12, 60)])  # more videos than inputs, and fewer
@pytest.mark.parametrize("strength", [0.003, 0.3])
def test_regression_is_at_the_minimum(count: int, width: int, strength: float) -> None:
    inputs, labels = blobs(count, width, 3, spread=2.0)
    weight, bias = fit_regression(inputs, labels, classes=3, strength=strength)
    inputs = inputs.double()
    mean, deviation = inputs.mean(dim=0), inputs.std(dim=0, correction=0)
    standard = (inputs - mean) / deviation
    # The same function of standardised inputs: x W' + b = ((x - m) / s) (W s)' + (b + W m).
    scaled = (weight * deviation).requires_grad_(True)
    shifted = (bias + weight @ mean).requires_grad_(True)
    objective(standard, labels, scaled, shifted, strength).backward()
    assert scaled.grad is not None
    assert shifted.grad is not None
    assert scaled.grad.abs().max() < 1e-4
    assert shifted.grad.abs().max() < 1e-4


def test_an_input_that_never_changes_plays_no_part() -> None:
    inputs, labels = blobs(20, 4, 2, spread=0.1)
    inputs = torch.cat([inputs, torch.full((20, 1), 3.0)], dim=1)
    weight, bias = fit_regression(inputs, labels, classes=2, strength=1.0)
    assert torch.isfinite(weight).all()
    assert torch.isfinite(bias).all()
    assert weight[:, 4].abs().max() < 1e-9
    assert torch.equal((inputs.double() @ weight.T + bias).argmax(dim=1), labels)


def videos_of(labels: Tensor, groups: list[str]) -> list[Video]:
    return [
        Video(path=Path(f"{i}.mp4"), name=f"{i}.mp4", label=int(label), split="train", group=group)
        for i, (label, group) in enumerate(zip(labels, groups, strict=True))
    ]


def test_strength_is_chosen_by_groups() -> None:
    """Each group has a mark of its own that tells its class: by group it is worth nothing, by video everything."""
    labels = torch.arange(24) % 2
    groups = [f"g{i // 2 % 12}-{i % 2}" for i in range(24)]
    names = sorted(set(groups))
    marks = F.one_hot(torch.tensor([names.index(g) for g in groups]), len(names)).float()
    strength, top1 = choose_strength(marks, labels, videos_of(labels, groups), classes=2, seed=0)
    assert strength in STRENGTHS
    assert top1 is not None
    assert top1 <= 0.6
    inputs, labels = blobs(30, 8, 2, spread=0.3)
    assert choose_strength(inputs, labels, videos_of(labels, [str(i) for i in range(30)]), classes=2, seed=0)[1] == 1.0


def test_one_group_has_no_folds() -> None:
    inputs, labels = blobs(6, 3, 2, spread=0.3)
    middle = STRENGTHS[len(STRENGTHS) // 2]
    assert choose_strength(inputs, labels, videos_of(labels, ["a"] * 6), classes=2, seed=0) == (middle, None)


def test_a_run_measures_it_first_and_leaves_a_checkpoint(tmp_path: Path, clips: Path, weights: Path) -> None:
    train(clips, tmp_path / "run", run_config(weights, epochs=1, baseline=True))
    record = json.loads((tmp_path / "run" / "run.json").read_text())["baseline"]
    assert list(record) == ["mean", "ordered"]
    for result in record.values():
        assert (result["train_videos"], result["val_videos"]) == (2 * COUNTS["train"], 2 * COUNTS["val"])
        assert result["top1"] == 1.0  # red and blue
        assert result["strength"] in STRENGTHS
    probe = load(tmp_path / "run" / "baseline")
    assert probe.spec.method == "linear_probe"
    for colour in ("blue", "red"):
        (guess,) = probe.predict(clips / "val" / colour / "0.mp4", top_k=1)
        assert guess["label"] == colour
    card = (tmp_path / "run" / "last" / "README.md").read_text()
    assert "frozen features alone: 100.0 % (mean), 100.0 % (in order) of 4 validation videos" in card


def test_a_dualpath_starts_from_it(tmp_path: Path, clips: Path, weights: Path) -> None:
    """Untrained (its rates are next to nothing) it is right where frozen features in order are."""
    config = run_config(weights, epochs=1, baseline=True, lr=1e-12)
    train(clips, tmp_path / "run", replace(config, options=replace(config.options, num_spatial_frames=4)))
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["settings"]["num_segments"] == baseline.SEGMENTS
    assert json.loads((tmp_path / "run" / VALIDATION / "evaluation.json").read_text())["top1"] == 1.0  # red and blue
    model = load(tmp_path / "run" / "last")
    features = model.encode(clips / "val" / "red" / "0.mp4")
    width = model.backbone.features
    assert {name: len(value) for name, value in features.items()} == {
        "features": (baseline.SEGMENTS + 1) * width, "spatial": baseline.SEGMENTS * width, "temporal": width
    }  # fmt: skip
    assert torch.equal(features["features"], torch.cat([features["spatial"], features["temporal"]]))


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("dualpath", DualPathConfig(num_spatial_frames=4, num_segments=4, grid=(2, 2), bottleneck=6)),
        ("aim", AimConfig(num_segments=4)),
        ("linear_probe", LinearProbeConfig(num_probe_frames=4, read_out="ordered")),
    ],
)
def test_the_regression_meets_the_frames_in_the_models_own_order(method: str, options: MethodConfig) -> None:
    model = build_model(method, tiny_backbone(), num_classes=3, config=options).eval()
    frames, labels = random_clips(9, 8), torch.arange(9) % 3
    with torch.no_grad():
        features = model.backbone(frames.flatten(0, 1)).unflatten(0, (9, 8))
        train = Features(features, labels, tuple(videos_of(labels, [str(i) for i in range(9)])), 0)
        assert start_classifier(model, train, num_frames=8, seed=0)
        assert torch.equal(model(frames).argmax(dim=1), labels)
        assert not torch.equal(model(frames.flip(1)).argmax(dim=1), labels)


@pytest.mark.parametrize(
    ("options", "changes", "segments"),
    [
        (DualPathConfig(), {}, 4),
        (DualPathConfig(num_spatial_frames=2), {}, 2),
        (DualPathConfig(num_segments=1), {}, 1),
        (DualPathConfig(num_segments=8), {}, 8),
        (DualPathConfig(), {"training": TrainConfig(baseline=False)}, 1),
        (DualPathConfig(), {"init_from": "runs/first"}, 1),
        (DualPathConfig(paths="temporal"), {}, 1),
        (DualPathConfig(variant="reference"), {}, 1),
    ],
)
def test_when_frames_are_read_in_order(options: DualPathConfig, changes: dict[str, Any], segments: int) -> None:
    found = read_in_order(RunConfig(options=options, **changes)).options
    assert isinstance(found, DualPathConfig)
    assert found.segments == segments
    assert replace(found, num_segments=options.num_segments) == options


@pytest.mark.parametrize("method", METHODS)
def test_which_methods_read_in_order(method: str) -> None:
    config = RunConfig(method=method, options=find_method(method).config(), sampling=SamplingConfig(num_frames=3))
    found: Any = read_in_order(config).options
    if method in ("linear_probe", "attentive_probe"):
        assert found == config.options
    else:
        assert found.segments == (4 if method == "dualpath" else 3)


def test_a_resumed_run_does_not_measure_it_again(
    tmp_path: Path, clips: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(clips, tmp_path / "run", run_config(weights, epochs=1, baseline=True))
    before = json.loads((tmp_path / "run" / "run.json").read_text())["baseline"]

    def never(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("dualpath.engine.loop.measure_baseline", never)
    train(clips, tmp_path / "run", run_config(weights, epochs=2, baseline=True), resume=True)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["baseline"] == before


def test_a_checkpoint_that_cannot_be_written_does_not_stop_the_run(
    tmp_path: Path, clips: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise DualPathError("no space left on device")

    monkeypatch.setattr(baseline, "save_checkpoint", full)
    assert train(clips, tmp_path / "run", run_config(weights, epochs=1, baseline=True))["epoch"] == 1
    said = capsys.readouterr().err
    assert "the baseline's checkpoint could not be written (no space left on device): going on without" in said
    assert not (tmp_path / "run" / "baseline").exists()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["baseline"]["mean"]["top1"] == 1.0


def test_the_verb_leaves_figures_and_a_model(
    tmp_path: Path, clips: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--backbone", EMBEDDED, "--weights", str(weights), "--precision", "fp32", "--num-frames", "4", "--workers", "0"]
    assert main(["baseline", str(clips), "--output", str(tmp_path / "out"), *words]) == 0
    figures = json.loads((tmp_path / "out" / "baseline.json").read_text())
    assert {name: result["top1"] for name, result in figures.items()} == {"mean": 1.0, "ordered": 1.0}
    assert "frozen features alone: 100.0 % (mean), 100.0 % (in order) of 4 validation videos" in capsys.readouterr().out
    assert main(["predict", str(tmp_path / "out" / "baseline"), str(clips / "val" / "red" / "0.mp4"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["predictions"][0]["label"] == "red"
    assert main(["baseline", str(clips), "--output", str(tmp_path / "out"), *words]) == 2
    assert "holds other files" in capsys.readouterr().err
    assert main(["baseline", str(clips), *words]) == 2
    assert "missing: --output" in capsys.readouterr().err


def test_no_more_videos_than_the_limit_and_every_class_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baseline, "MOST_VIDEOS", 6)
    videos = videos_of(torch.arange(30) % 3, [str(i) for i in range(30)])
    chosen = baseline._some(videos)
    assert sorted(videos[index].label for index in chosen) == [0, 0, 1, 1, 2, 2]
    assert len(set(chosen)) == 6
    assert baseline._some(videos[:6]) == list(range(6))


RESULTS = {
    "mean": {"top1": 0.5, "cv_top1": 0.625, "strength": 0.01, "train_videos": 40, "val_videos": 10},
    "ordered": {"top1": 0.7, "cv_top1": 0.775, "strength": 0.01, "train_videos": 40, "val_videos": 10},
}


def test_the_line_for_people() -> None:
    assert describe_baseline(RESULTS) == (
        "frozen features alone: 50.0 % (mean), 70.0 % (in order) of 10 validation videos; 62.5 % (mean), 77.5 % (in order) of "
        "40 training videos, cross-validated"
    )
    alone = {"mean": RESULTS["mean"] | {"train_videos": 2, "val_videos": 1}}
    assert describe_baseline(alone) == (
        "frozen features alone: 50.0 % (mean) of 1 validation video; 62.5 % (mean) of 2 training videos, cross-validated"
    )


def test_the_verdict_says_which_to_use(tmp_path: Path) -> None:
    assert "the trained model, 80.0 %, is better than frozen features" in str(judge(0.8, RESULTS, tmp_path))
    worse = str(judge(0.7, RESULTS, tmp_path))
    assert "is no better than" in worse
    assert f"prefer the baseline ({tmp_path / 'baseline'})" in worse
    assert judge(-1.0, RESULTS, tmp_path) is None  # validated never, as in a fold
    assert judge(0.8, {}, tmp_path) is None
