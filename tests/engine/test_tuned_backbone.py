"""Methods that train tensors within the backbone go through the engine like all others: train, stop, resume, save, load."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dualpath.engine import prepare
from dualpath.engine.checkpoint import CARD, WEIGHTS, ModelSpec, load_checkpoint, save_checkpoint
from dualpath.engine.config import RunConfig
from dualpath.engine.log import Log, read_log
from dualpath.engine.plan import describe, make_plan
from dualpath.engine.predict import load
from dualpath.engine.train import train
from dualpath.errors import Interrupted
from dualpath.methods import build_model, find_method, trained_state
from dualpath.methods.attentive_probe import AttentiveProbeConfig
from dualpath.methods.lora import LoRAConfig
from dualpath.nn.zoo import EMBEDDED, BackboneConfig, load_backbone
from dualpath.video.sampling import SamplingConfig
from runs import run_config, scan_here
from tiny import random_clips, tiny_backbone

INSIDE = {"full_tuning": "bf16", "bitfit": "fp32", "lora": "bf16"}
STATE = "training_state.safetensors"

each_method = pytest.mark.parametrize("method", INSIDE)


@pytest.fixture(autouse=True)
def _quick_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "scan", scan_here)


def config_of(method: str, weights: Path) -> RunConfig:
    """One epoch of two steps on single frames."""
    options = LoRAConfig(rank=2) if method == "lora" else find_method(method).config()
    config = run_config(weights, epochs=1, accumulate=2, lr=1e-3, eval_every=0, precision=INSIDE[method])
    return replace(config, method=method, options=options, sampling=SamplingConfig(num_frames=1))


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, clips: Path, weights: Path) -> Callable[[str], Path]:
    """A run of each method that nothing interrupts."""
    done: dict[str, Path] = {}

    def run(method: str) -> Path:
        if method not in done:
            done[method] = tmp_path_factory.mktemp("straight") / method
            train(clips, done[method], config_of(method, weights))
        return done[method]

    return run


@each_method
def test_what_was_trained_is_what_is_loaded(method: str, straight: Callable[[str], Path]) -> None:
    run = straight(method)
    saved, state = load_file(run / "last" / WEIGHTS), load_file(run / STATE)
    assert all(value.dtype == torch.float32 and torch.equal(value, state[f"model.{name}"]) for name, value in saved.items())
    model, spec = load_checkpoint(run)
    held = trained_state(model)
    assert spec.method == method
    assert held.keys() == saved.keys()
    assert all(torch.equal(value, saved[name]) for name, value in held.items())
    # What is not among them is as it was before the training, and what is among them has moved.
    published = {f"backbone.vit.{name}": value for name, value in load_backbone(spec.backbone).vit.named_parameters()}
    now = {name.replace(".base_layer.", "."): value for name, value in model.named_parameters()}
    assert not [name for name in published.keys() - saved.keys() if not torch.equal(now[name], published[name])]
    began = {name: value.bfloat16().float() if method == "full_tuning" else value for name, value in published.items()}
    assert not [name for name in began.keys() & saved.keys() if torch.equal(now[name], began[name])]
    card = (run / "last" / CARD).read_text()
    assert f"Some are within the backbone, whose\nweights had sha256 {model.backbone.hash} before the training." in card


@each_method
def test_loaded_twice_it_scores_alike_and_not_as_a_fresh_one(method: str, straight: Callable[[str], Path]) -> None:
    model, spec = load_checkpoint(straight(method))
    fresh = build_model(method, load_backbone(spec.backbone), num_classes=2, config=spec.options).eval()
    frames = random_clips(2, 2, size=128)
    with torch.no_grad():
        scores = model(frames)
        assert torch.equal(load(straight(method), precision="fp32").score_views(frames[:, None]), scores.softmax(dim=-1))
        assert (fresh(frames) - scores).abs().max() > 1e-4


@each_method
def test_stopped_and_resumed_is_the_same_run(
    method: str, straight: Callable[[str], Path], tmp_path: Path, clips: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(method, weights)
    original = Log.step

    def stop(self: Log, position: Any, **figures: Any) -> float:
        if position.step == 1 and not (tmp_path / "run" / "last").exists():
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, position, **figures)

    monkeypatch.setattr(Log, "step", stop)
    with pytest.raises(Interrupted):
        train(clips, tmp_path / "run", config)
    train(clips, tmp_path / "run", config, resume=True)
    found, expected = load_file(tmp_path / "run" / STATE), load_file(straight(method) / STATE)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    told = [[line["loss"] for line in read_log(run)[0]] for run in (tmp_path / "run", straight(method))]
    assert told[0] == told[1]
    assert len(told[0]) == 2


@pytest.mark.parametrize(
    ("method", "dtype"), [("full_tuning", torch.bfloat16), ("bitfit", torch.bfloat16), ("lora", torch.float32)]
)
def test_the_plan_counts_all_weights_in_fp32_and_moments_of_trained_ones(method: str, dtype: torch.dtype) -> None:
    backbone = tiny_backbone(num_classes=16)
    backbone.store_in(dtype)
    model = build_model(method, backbone, num_classes=3)
    plan = make_plan(model, num_frames=2)
    trained = sum(value.numel() for value in trained_state(model).values())
    assert (plan.trainable, plan.total) == (trained, sum(value.numel() for value in model.parameters()))
    assert plan.fixed_bytes == 4 * plan.total + 12 * trained
    text = describe(
        plan, RunConfig(method), backbone=backbone, counts=[("train", 2)], num_classes=3, schedule=None,
        device=torch.device("cpu"),
    )  # fmt: skip
    assert text.endswith("cpu, weights in float32")


def test_frozen_weights_of_lora_stay_small_in_the_plan() -> None:
    backbone = tiny_backbone()
    backbone.store_in(torch.bfloat16)
    frozen = sum(value.numel() for value in backbone.parameters())
    model = build_model("lora", backbone, num_classes=3)
    plan = make_plan(model, num_frames=2)
    assert plan.fixed_bytes == 2 * frozen + 16 * plan.trainable


@pytest.mark.parametrize("method", [*INSIDE, "attentive_probe", "vpt"])
def test_bf16_backbones_load_in_fp32_and_back(method: str, tmp_path: Path, weights: Path) -> None:
    """A model trained with bf16 serves where there is none: the scores are close, the trained tensors equal."""
    options = AttentiveProbeConfig(time_encoding=True) if method == "attentive_probe" else find_method(method).config()
    backbone = BackboneConfig(EMBEDDED, str(weights))
    model = build_model(method, load_backbone(backbone, dtype=torch.bfloat16), num_classes=2, config=options, seed=3).eval()
    spec = ModelSpec(method, options, backbone, ("a", "b"), SamplingConfig(num_frames=2), 0, 0.2, {})
    save_checkpoint(tmp_path / "run", model, spec)
    frames = random_clips(2, 2, size=128)
    half, _ = load_checkpoint(tmp_path / "run", dtype=torch.bfloat16)
    full, _ = load_checkpoint(tmp_path / "run")
    with torch.no_grad():
        expected = model(frames)
        assert torch.equal(half(frames), expected)
        assert (full(frames) - expected).norm() / expected.norm() < 0.05
    assert all(torch.equal(value, trained_state(model)[name]) for name, value in trained_state(full).items())
