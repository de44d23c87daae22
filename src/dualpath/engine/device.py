"""Which device and precision a model runs with."""

from __future__ import annotations

from typing import Literal

import torch

from dualpath.errors import DualPathError

Precision = Literal["auto", "bf16", "fp32"]


def pick_device() -> torch.device:
    """The first CUDA device, else Apple's, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", 0)
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def has_bf16(device: torch.device) -> bool:
    """Whether the chip multiplies bf16 matrices itself; emulated bf16 is slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported())
    return False


def frozen_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """What the frozen weights are stored in: bf16 where the chip has it, fp32 elsewhere."""
    if precision == "fp32":
        return torch.float32
    if precision == "bf16":
        return torch.bfloat16
    if precision == "auto":
        return torch.bfloat16 if has_bf16(device) else torch.float32
    raise DualPathError(f"unknown precision {precision!r}; there are auto, bf16, fp32")
