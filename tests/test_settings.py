"""Every field of every dataclass of settings is held to its annotation, wherever its value comes from."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from dualpath.data.checking.check import CheckConfig
from dualpath.data.preparing.prepare import ShardConfig
from dualpath.demo import DemoConfig, DrawConfig
from dualpath.engine.bench import BenchConfig
from dualpath.engine.config import DataConfig, TrainConfig
from dualpath.engine.info import InfoConfig
from dualpath.engine.verbs import Judged
from dualpath.errors import DualPathError
from dualpath.methods import METHODS
from dualpath.nn.zoo import BackboneConfig
from dualpath.report.pages.report import ReportConfig
from dualpath.settings import check_fields
from dualpath.speed.choices import SpeedConfig
from dualpath.video.encode import EncodeConfig
from dualpath.video.protocols import ViewsConfig
from dualpath.video.sampling import SamplingConfig
from dualpath.video.transforms import TransformConfig

CONFIGS: list[Any] = [
    *(method.config() for method in METHODS.values()),
    *(kind() for kind in (BackboneConfig, BenchConfig, CheckConfig, DataConfig, DemoConfig, DrawConfig, EncodeConfig)),
    *(kind() for kind in (InfoConfig, ReportConfig, SamplingConfig, ShardConfig, SpeedConfig, TrainConfig, TransformConfig)),
    ViewsConfig(),
    Judged("run", Path("data")),
]  # fmt: skip


def refusal(config: Any, **changes: Any) -> str:
    """What is said of a value that goes past the annotations, which the tests check at run time too."""
    changed = object.__new__(type(config))
    for name, value in (vars(config) | changes).items():
        object.__setattr__(changed, name, value)
    with pytest.raises(DualPathError) as caught:
        changed.__post_init__()
    return str(caught.value)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_every_field_is_checked(config: Any) -> None:
    check_fields(config)
    for field in fields(config):
        if field.name == "model_args":
            assert "names with whole numbers" in refusal(config, model_args=[1])
            continue
        is_text = "str" in str(field.type)
        for wrong in ([1],) if is_text else (float("nan"), float("inf"), 1e300, object(), [1], 10**400, "no such thing"):
            said = refusal(config, **{field.name: wrong})
            assert field.name in said or "no such thing" in said
            assert len(said) < 200


@pytest.mark.parametrize(
    ("config", "changes", "said"),
    [
        (METHODS["dualpath"].config(), {"grid": (4.0, 4)}, "grid is (4.0, 4), but it must be two whole numbers, such as 4x4"),
        (METHODS["dualpath"].config(), {"grid": (4, 4, 4)}, "grid is (4, 4, 4), but it must be two whole numbers"),
        (METHODS["dualpath"].config(), {"antialias": 1}, "antialias is 1, but it must be true or false"),
        (METHODS["dualpath"].config(), {"bottleneck": 10**12}, "bottleneck is 1000000000000, but it must be at most 65536"),
        (METHODS["attentive_probe"].config(), {"num_blocks": True}, "num_blocks is True, but it must be one of 1, 4"),
        (SamplingConfig(), {"num_frames": 10**15}, "num_frames is 1000000000000000, but it must be at most 10000"),
        (TrainConfig(), {"seed": 2**64}, "seed is 18446744073709551616, but it must be at most 9223372036854775807"),
        (TrainConfig(), {"seed": -1}, "seed is -1, but it must be a number that is not negative"),
        (TrainConfig(), {"label_smoothing": 1.0}, "label_smoothing is 1.0, but it must be at least 0 and below 1"),
        (TrainConfig(), {"epochs": 2.0}, "epochs is 2.0, but it must be a whole number"),
        (TrainConfig(), {"workers": -2}, "workers is -2, but it must be 0 or more, or -1"),
        (Judged("run", Path("data")), {"workers": -2}, "workers is -2, but it must be 0 or more, or -1"),
        (TrainConfig(), {"workers": 10**5}, "workers is 100000, but it must be at most 1024"),
        (ViewsConfig(), {"num_clips": 10**9}, "num_clips is 1000000000, but it must be at most 1000"),
        (DrawConfig(), {"seed": -1}, "seed is -1, but it must be 0 or more"),
        (DemoConfig(), {"seed": -1}, "seed is -1, but it must be 0 or more"),
    ],
)
def test_what_is_said(config: Any, changes: dict[str, Any], said: str) -> None:
    assert re.match(re.escape(said), refusal(config, **changes))


def test_whole_numbers_are_numbers() -> None:
    config = TrainConfig()
    object.__setattr__(config, "lr", 1)
    check_fields(config)
