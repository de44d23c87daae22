"""A model as an ordinary module: exported with a batch of any size, converted to other types; against itself as it is.

In processes of their own: the checks of shapes that tests switch on cannot be exported.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

START = """
from dataclasses import replace
import torch
from dualpath.methods import METHODS, build_model, settle, store_in_int8
from families import FAMILIES, family_backbone
from small import SMALL
from tiny import randomise, tiny_backbone

def make(method="dualpath", backbone=None, config=None, seed=0):
    backbone = tiny_backbone() if backbone is None else backbone
    model = build_model(method, backbone, num_classes=3, config=config or SMALL.get(method))
    for name, part in model.named_children():
        if name != "backbone":
            randomise(part, seed)
    return model.eval()

def clips(batch, seed=0, size=32):
    return torch.randint(256, (batch, 8, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))

@torch.no_grad()
def check(program, model, size=32, **close):
    for batch in (1, 2, 5):
        given = clips(batch, batch, size)
        expected = model(given)
        assert type(expected) is torch.Tensor, type(expected)
        torch.testing.assert_close(program(given), expected, **close)

def export(model, size=32, **options):
    return torch.export.export(model, (clips(2, size=size),), dynamic_shapes=({0: torch.export.Dim("b")},), **options).module()
"""

EXPORTED = """
for method in METHODS:  # before any of them was called, with gradients as torch has them by default
    model = make(method)
    check(export(model), model)
with torch.no_grad():
    model = make()
    check(export(model), model)
model = make()
program = export(model, strict=True)
check(program, model)
model.train()
model(clips(2)).sum().backward()  # nothing of the export stayed behind
assert all(value.grad is not None for value in model.parameters() if value.requires_grad)
with torch.inference_mode():
    make()(clips(1))
model = make()
check(export(model), model)
model = make(backbone=tiny_backbone())
model.backbone.store_in(torch.bfloat16)
settle(model)
with torch.inference_mode():
    model(clips(1))
check(export(model), model, rtol=0.05, atol=0.05)
"""

FAMILY = """
for name in FAMILIES:
    backbone = family_backbone(name)
    model = make(backbone=backbone)
    check(export(model, backbone.size), model, backbone.size)
"""

CONVERTED = """
for method in METHODS:
    expected = make(method)(clips(2)).detach()
    scale = expected.abs().max().item()
    for dtype, most in ((torch.float16, 0.01), (torch.bfloat16, 0.06), (torch.float64, 1e-6)):
        model = make(method).to(dtype)
        found = model(clips(2))
        assert found.dtype == dtype, (method, dtype, found.dtype)
        assert (found.double() - expected.double()).abs().max() <= most * scale, (method, dtype, found, expected)
        model.train()
        model(clips(2)).sum().backward()
for name in FAMILIES:
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        backbone = family_backbone(name)
        model = make(backbone=backbone)
        given = clips(2, size=backbone.size)
        with torch.no_grad():
            expected, found = model(given), model.to(dtype)(given)
        assert (found.double() - expected.double()).abs().max() <= 0.08 * expected.abs().max(), (name, dtype)
        shift = 255 * torch.tensor(backbone.mean)
        torch.testing.assert_close(backbone._shift.flatten(), shift, rtol=0, atol=0)
"""

ONNX = """
import onnxruntime
in_one, in_four = [replace(SMALL["dualpath"], num_spatial_frames=4, num_segments=count) for count in (1, 4)]
for method, config, depth in (("dualpath", in_four, 2), ("dualpath", in_one, 1), ("aim", None, 1)):
    model = make(method, tiny_backbone(depth=depth), config)
    exec(LINE, {"torch": torch, "model": model, "clips": clips(2)})
    session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    check(lambda given: torch.from_numpy(session.run(None, {name: given.numpy()})[0]), model, rtol=1e-4, atol=1e-4)
"""


DOCS = Path(__file__).parents[2] / "docs" / "methods.md"


def run(code: str, *, folder: Path | None = None) -> None:
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    told = subprocess.run(
        [sys.executable, "-W", "error", "-c", START + code],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": paths},
        check=False,
    )
    assert told.returncode == 0, told.stderr[-3000:]


def test_every_method_can_be_exported_with_any_batch() -> None:
    run(EXPORTED)


def test_every_family_can_be_exported() -> None:
    run(FAMILY)


def test_every_method_and_family_can_be_converted() -> None:
    run(CONVERTED)


def test_onnx_runtime_gives_the_same_logits_by_the_line_of_the_docs(tmp_path: Path) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    (line,) = re.findall(r"^torch\.onnx\.export.*", DOCS.read_text(encoding="utf-8"), flags=re.M)
    run(f"LINE = {line!r}\n{ONNX}", folder=tmp_path)
