"""What methods cost on a backbone."""

from __future__ import annotations

import pytest
import torch

from dualpath.engine import info as info_module
from dualpath.engine import plan as plan_module
from dualpath.engine.info import InfoConfig, find_costs
from dualpath.engine.plan import make_plan
from dualpath.errors import DualPathError
from dualpath.methods import METHODS, build_model
from dualpath.methods.options import DualPathConfig
from dualpath.nn.backbone import Backbone
from dualpath.nn.zoo import BackboneConfig
from dualpath.report.tables import info_table
from dualpath.video.protocols import ViewsConfig
from dualpath.video.sampling import SamplingConfig
from tiny import tiny_backbone

BACKBONE = BackboneConfig("tiny")
CONFIG = InfoConfig(num_classes=5, precision="fp32")
DENSE = SamplingConfig.from_name("dense-16x4")


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    def tiny(config: BackboneConfig, *, dtype: torch.dtype) -> Backbone:
        backbone = tiny_backbone(meta=True)
        backbone.store_in(dtype)
        return backbone

    for module in (info_module, plan_module):
        monkeypatch.setattr(module, "random_backbone", tiny)


def test_one_method_with_its_options() -> None:
    options = DualPathConfig(bottleneck=3, num_spatial_frames=2)
    info = find_costs("dualpath", options, backbone=BACKBONE, config=CONFIG, sampling=DENSE, views=ViewsConfig(3, 2))
    real = make_plan(build_model("dualpath", tiny_backbone(), num_classes=5, config=options), num_frames=16, fused=True)
    (cost,) = info.costs
    assert cost.plan
    assert (cost.plan.trainable, cost.plan.total, cost.plan.gmacs) == (real.trainable, real.total, real.gmacs)
    assert info.backbone == {
        **{"name": "tiny", "size": 32, "patch": 8, "depth": 2, "width": 24, "final_width": 24},
        "parameters": sum(value.numel() for value in tiny_backbone().parameters()),
    }
    told = info.as_json()["methods"][0]
    assert told["share"] == real.trainable / real.total
    assert told["gmacs"] == pytest.approx(6 * real.gmacs)
    row = next(line for line in info_table(info).splitlines() if "dualpath" in line)
    shown = [cell.strip() for cell in row.split("│")[1:-1]]
    assert shown[:4] == [
        "dualpath",
        f"{real.trainable / 1e6:.2f} M",
        f"{real.total / 1e6:.2f} M",
        f"{100 * real.trainable / real.total:.2f} %",
    ]
    assert "dense-16x4, 3x2 views; 5 classes; memory on a GPU, frozen weights in fp32" in info_table(info)


def test_all_methods_and_the_reasons_of_those_that_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    few = {name: METHODS[name] for name in ("dualpath", "linear_probe")}  # each costs time: test_plan.py looks at all
    monkeypatch.setattr(info_module, "METHODS", few)
    info = find_costs(None, None, backbone=BACKBONE, config=CONFIG, sampling=DENSE, views=ViewsConfig())
    assert [cost.method for cost in info.costs] == list(few)
    assert all(cost.plan and cost.plan.trainable > 0 for cost in info.costs)
    assert "refused" not in info_table(info)
    short = SamplingConfig(num_frames=8)
    info = find_costs(None, None, backbone=BACKBONE, config=CONFIG, sampling=short, views=ViewsConfig())
    found = {cost.method: cost for cost in info.costs}
    assert found["linear_probe"].plan
    assert found["dualpath"].plan is None
    assert info.as_json()["methods"][0] == {"method": "dualpath", "problem": found["dualpath"].problem}
    told = info_table(info)
    assert "refused because" in told
    assert "8 frames do not fill framesets of 4x4 = 16 frames" in told
    with pytest.raises(DualPathError, match="8 frames do not fill framesets"):
        find_costs("dualpath", None, backbone=BACKBONE, config=CONFIG, sampling=short, views=ViewsConfig())


def test_it_does_not_depend_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    options = DualPathConfig(train_spatial_frames=0)

    def clip_bytes(config: InfoConfig) -> int:
        info = find_costs("dualpath", options, backbone=BACKBONE, config=config, sampling=DENSE, views=ViewsConfig())
        plan = info.costs[0].plan
        assert plan
        return plan.clip_bytes

    kept = clip_bytes(InfoConfig(precision="fp32"))
    assert clip_bytes(InfoConfig()) < 0.8 * kept
    assert clip_bytes(InfoConfig(precision="fp32", gradient_checkpointing=True)) < kept
