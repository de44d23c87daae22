"""Our candidates compute what prediction and training compute."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dualpath.engine.config import RunConfig
from dualpath.engine.entries import make_entries
from dualpath.engine.plan import draft, make_plan
from dualpath.errors import DualPathError
from dualpath.nn.zoo import EMBEDDED
from dualpath.speed.choices import SpeedConfig, candidates_of
from dualpath.speed.ours import inference, training
from dualpath.speed.products import gmacs

SETTINGS: dict[str, Any] = {"method": "dualpath", "backbone": EMBEDDED, "num_frames": 4, "num_spatial_frames": 1, "grid": "2x2"}


@pytest.mark.parametrize("method", ["dualpath", "linear_probe", "lora"])
def test_its_products_are_those_that_info_tells(method: str) -> None:
    others = {"method": method, "backbone": EMBEDDED, "num_frames": 4} | ({"num_probe_frames": 0} if "probe" in method else {})
    settings = SETTINGS if method == "dualpath" else others
    work = inference(settings=settings, num_classes=7, batch_size=2, precision="fp32", device="cpu")
    (entry,) = make_entries({"one": settings}, base=RunConfig())
    plan = make_plan(draft(entry.config, num_classes=7, dtype=torch.float32), num_frames=4)
    assert gmacs(work.products) / work.clips == pytest.approx(plan.gmacs, rel=1e-6)
    assert work.facts["trainable"] == plan.trainable
    assert (work.clips, work.dtype, work.device) == (2, "float32", "cpu")
    assert not work.hidden
    work.step()


def test_a_training_step_learns() -> None:
    work = training(settings=SETTINGS, num_classes=7, batch_size=2, precision="fp32", device="cpu")
    plain = inference(settings=SETTINGS, num_classes=7, batch_size=2, precision="fp32", device="cpu")
    # Forwards as at inference, and as many again for the gradients of tokens, few more for those of adapters.
    assert 1.8 * gmacs(plain.products) < gmacs(work.products) < 3 * gmacs(plain.products)
    work.step()


def test_each_way_is_a_candidate_of_its_own() -> None:
    entries = {"small": SETTINGS, "probe": {"method": "linear_probe"}}
    found = candidates_of(entries, SpeedConfig(compiled=True, batch_size=3, num_classes=5))
    assert [(one.label, one.group, one.ceiling) for one in found] == [
        ("small, inference", "inference", True),
        ("small, inference, compiled", "inference", False),
        ("probe, inference", "inference", True),
        ("probe, inference, compiled", "inference", False),
        ("small, training", "training", True),
        ("probe, training", "training", True),
    ]
    assert found[1].settings["compiled"] is True
    assert found[0].settings == {"num_classes": 5, "batch_size": 3, "precision": "auto", "settings": SETTINGS}
    assert [one.label for one in candidates_of(entries, SpeedConfig(mode="training"))] == ["small", "probe"]


def test_int8_does_the_same_products() -> None:
    whole, plain = (
        inference(settings=SETTINGS, num_classes=7, batch_size=2, precision=precision, device="cpu")
        for precision in ("int8", "fp32")
    )
    assert whole.dtype == "int8"
    assert whole.products == plain.products
    assert whole.facts == plain.facts
    whole.step()


def test_a_training_in_int8_does_the_same_products_too() -> None:
    whole, plain = (
        training(settings=SETTINGS, num_classes=7, batch_size=2, precision=precision, device="cpu")
        for precision in ("int8", "fp32")
    )
    assert (whole.dtype, plain.dtype) == ("int8", "float32")
    assert whole.facts == plain.facts
    assert gmacs(whole.products) == pytest.approx(gmacs(plain.products))
    whole.step()
    entries = {"ours": SETTINGS}
    assert [one.ceiling for one in candidates_of(entries, SpeedConfig(precision="int8"))] == [True, False]
    assert [one.ceiling for one in candidates_of(entries, SpeedConfig(precision="fp32"))] == [True, True]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"batch_size": 0}, "batch_size is 0, but it must be at least 1"),
        ({"seconds": 0.0}, "seconds is 0.0"),
        ({"mode": "training", "compiled": True}, "compiled has no effect on a training"),
    ],
)
def test_what_cannot_be_measured_is_told(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(DualPathError, match=told):
        SpeedConfig(**wrong)
