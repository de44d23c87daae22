"""Which devices, processors and memory there are, and what a process has used of them."""

from __future__ import annotations

import math
import os
import platform
import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dualpath.errors import DualPathError, number_of

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "bf16", "fp32", "int8"]
CGROUP = Path("/sys/fs/cgroup")


def cores() -> int:
    """Cores that this process may use: at most those that the system lets it run on, and its container's share of time."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(there, _container_share())))


def _container_share() -> float:
    """Cores' worth of time that a Linux container may use (cgroup 2, then 1); infinite where nothing is said."""
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (CGROUP / "cpu.max").read_text().split()
        return int(quota) / int(period)  # quota may be "max"
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (int((CGROUP / "cpu" / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        return quota / period if quota > 0 else math.inf
    return math.inf


def pick_device() -> torch.device:
    """The first CUDA device, else Apple's, else the CPU."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda", 0)
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def find_device(device: str | torch.device | None = None) -> torch.device:
    """The device that is meant; None for the best one at hand.

    Raises:
        DualPathError: there is no such device here.
    """
    import torch

    if device is None:
        return pick_device()
    here = ", ".join(["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))])
    here += ", mps" if torch.backends.mps.is_available() else ""
    try:
        found = torch.device(device)
        if found.type == "meta":
            raise RuntimeError("it holds no values")
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as problem:
        raise DualPathError(f"the device {device!r} cannot be used here; there are {here}") from problem
    return torch.device("cuda", torch.cuda.current_device()) if device in ("cuda", torch.device("cuda")) else found


def has_bf16(device: torch.device) -> bool:
    """Whether the chip multiplies bf16 matrices faster than fp32 ones.

    Of Intel's processors those with AMX do, several times. AVX512-BF16 without AMX takes twice as long as fp32 there, as
    where a virtual machine hides AMX (EXPERIMENTS.md); AMD's has twice the speed of fp32 by its makers' word.
    """
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        amx, avx512 = torch.cpu._is_amx_tile_supported(), torch.cpu._is_avx512_bf16_supported()
        return bool(amx or (avx512 and "Intel" not in processor_name()))
    return False


def peak_ram_gb() -> float:
    """The most memory that this process, not its children, has held so far, in 1e9 bytes."""
    # getrusage alone would not do: Linux hands a process's mark on to the children that it starts, through fork and exec.
    status = Path("/proc/self/status")
    marks = (
        [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:")] if status.is_file() else []
    )
    if marks:
        return int(marks[0]) * 1024 / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def peak_memory() -> dict[str, float | None]:
    """The most that this process and its GPU have held so far, in 1e9 bytes; decoding processes are not counted."""
    import torch

    gpu = torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else None
    return {"peak_ram_gb": peak_ram_gb(), "peak_gpu_gb": gpu}


def processor_name() -> str:
    """As the processor calls itself; all that is known of it elsewhere than on Linux."""
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text().splitlines() if listed.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def matrix_units() -> str:
    """What decides how fast a processor multiplies matrices; virtual machines hide some of it, so the name does not tell."""
    import torch

    has = {
        "AMX": torch.cpu._is_amx_tile_supported(),
        "AVX512-BF16": torch.cpu._is_avx512_bf16_supported(),
        "VNNI": torch.cpu._is_vnni_supported(),
    }
    return ", ".join(name if there else f"no {name}" for name, there in has.items())


def describe_machine(device: torch.device) -> str:
    """GPU, processor and cores in words."""
    import torch

    text = f"{processor_name()} ({matrix_units()}), {number_of(cores(), 'core')}, {torch.get_num_threads()} used by torch"
    return f"{torch.cuda.get_device_name(device)}; {text}" if device.type == "cuda" else text
