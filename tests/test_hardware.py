"""What there is of the machine, and that memory is a process's own."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dualpath import hardware
from dualpath.hardware import cores, describe_machine, peak_ram_gb
from dualpath.nn.zoo import frozen_dtype


def test_peak_is_kept_and_not_inherited() -> None:
    ballast = bytearray(b"x") * 300_000_000
    held = peak_ram_gb()
    assert held > 0.3
    script = "from dualpath.hardware import peak_ram_gb; print(peak_ram_gb())"
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    del ballast
    assert peak_ram_gb() >= 0.99 * held  # the kernel counts in batches
    assert 0.005 < float(child.stdout) < 0.1
    assert (
        held * 1e9 <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 * 1.01
    )  # which the child would have inherited


def test_machine_in_words() -> None:
    words = describe_machine(torch.device("cpu"))
    assert f", {torch.get_num_threads()} used by torch" in words
    assert " cores" in words
    assert "AMX" in words  # there or not: two processors of one name differ by a factor of five in bf16
    assert "VNNI" in words


@pytest.mark.parametrize(
    ("name", "amx", "avx512", "expected"),
    [
        ("Intel(R) Xeon(R) Processor", True, True, torch.bfloat16),
        ("Intel(R) Xeon(R) Processor", False, True, torch.float32),
        ("AMD EPYC 9754 128-Core Processor", False, True, torch.bfloat16),
        ("AMD EPYC 7763 64-Core Processor", False, False, torch.float32),
    ],
)
def test_bf16_is_taken_where_it_is_fast(
    monkeypatch: pytest.MonkeyPatch, name: str, amx: bool, avx512: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr(hardware, "processor_name", lambda: name)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    assert frozen_dtype("auto", torch.device("cpu")) == expected
    assert frozen_dtype("bf16", torch.device("cpu")) == torch.bfloat16


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 6),
        ({"cpu.max": "max 100000\n"}, 6),
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "1600000 100000\n"}, 6),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 6),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "0\n"}, 6),
        ({"cpu.max": "spoiled"}, 6),
    ],
    ids=str,
)
def test_a_containers_share_of_the_cores(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    monkeypatch.setattr(hardware, "CGROUP", tmp_path)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cores() == expected
