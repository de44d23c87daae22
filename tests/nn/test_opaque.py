"""Layers with packed weights through torch's default compiler, which has an idea of its own of oneDNN's products."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

COMPILED = """
import torch
from dualpath.nn import int8, native
from dualpath.nn.frozen import FrozenLinear
from dualpath.nn.int8 import Int8Linear
torch.manual_seed(0)
weight, bias, x = torch.randn(24, 48).bfloat16(), torch.randn(24).bfloat16(), torch.randn(2, 5, 48).bfloat16()
packed, whole = FrozenLinear(weight, bias), Int8Linear(weight, bias)
wide, back = Int8Linear(torch.randn(3 * 64, 48), None), Int8Linear(torch.randn(48, 3 * 64), None)
there = native.suits()
fused = lambda x: () if not there else (int8.mlp(x, wide, back, "silu"), int8.attention(x, wide, 1, 0.1))
both = lambda x: (packed(x), whole(x), *fused(x))
with torch.inference_mode():
    expected = both(x)  # packs
    found = torch.compile(both, fullgraph=True)(x)
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler of C++ for a CPU")
def test_packed_weights_can_be_compiled() -> None:
    """In a process of its own: the checks of shapes that tests switch on cannot be compiled."""
    told = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", COMPILED], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
