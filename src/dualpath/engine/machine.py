"""What a process has used, and what machine it ran on: said beside every time and every memory."""

from __future__ import annotations

import os
import platform
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dualpath.errors import number_of

if TYPE_CHECKING:
    import torch


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

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    text = f"{processor_name()} ({matrix_units()}), {number_of(cores or 1, 'core')}, {torch.get_num_threads()} used by torch"
    return f"{torch.cuda.get_device_name(device)}; {text}" if device.type == "cuda" else text
