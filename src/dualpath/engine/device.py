"""Which device and precision a model runs with."""

from __future__ import annotations

from typing import Literal

import torch

from dualpath.engine.machine import processor_name
from dualpath.errors import DualPathError
from dualpath.nn import native

Precision = Literal["auto", "bf16", "fp32", "int8"]


def pick_device() -> torch.device:
    """The first CUDA device, else Apple's, else the CPU."""
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
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        amx, avx512 = torch.cpu._is_amx_tile_supported(), torch.cpu._is_avx512_bf16_supported()
        return bool(amx or (avx512 and "Intel" not in processor_name()))
    return False


def frozen_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """What the frozen weights are stored in, by default bf16 where that is fast and else fp32; with int8, the other ones."""
    if precision == "fp32":
        return torch.float32
    if precision == "bf16":
        return torch.bfloat16
    if precision == "int8" and native.suits():
        return torch.float32  # what its layers take and give
    if precision in ("auto", "int8"):
        return torch.bfloat16 if has_bf16(device) else torch.float32
    raise DualPathError(f"unknown precision {precision!r}; there are auto, bf16, fp32 and int8")
