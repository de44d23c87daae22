"""What this machine has for dualpath: versions, devices, decoders, and what is missing, each with its remedy."""

from __future__ import annotations

import io
import os
import platform
import shutil
import tempfile
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dualpath.errors import number_of

PACKAGES = ("torch", "torchvision", "timm", "av", "lightning-fabric", "safetensors", "jsonargparse", "tensorboard")
OPTIONAL = ("torchcodec",)


def examine() -> list[dict[str, Any]]:
    """One entry a finding: what, state ("ok", "missing" or "problem"), detail."""
    found = [_entry("python", "ok", f"{platform.python_version()} on {platform.platform()}")]
    for name in (*PACKAGES, *OPTIONAL):
        try:
            found.append(_entry(name, "ok", metadata.version(name)))
        except metadata.PackageNotFoundError:
            if name in OPTIONAL:
                found.append(_entry(name, "missing", "optional, a second decoder: pip install 'dualpath[torchcodec]'"))
            else:
                found.append(_entry(name, "problem", f"not installed; pip install {name}"))
    return [*found, *_devices(), _decoder(), *_second_decoder(), _backbone(), _hub(), _disk()]


def _entry(what: str, state: str, detail: str) -> dict[str, Any]:
    return {"what": what, "state": state, "detail": detail}


def _devices() -> list[dict[str, Any]]:
    import torch

    from dualpath.hardware import cores, has_bf16, matrix_units

    cpu = torch.device("cpu")
    taken = "bf16" if has_bf16(cpu) else "fp32"
    threads = number_of(torch.get_num_threads(), "thread")
    told = f"{number_of(cores(), 'core')}, {threads}, {matrix_units()}: precision auto takes {taken}"
    found = [_entry("cpu", "ok", told), _int8()]
    for index in range(torch.cuda.device_count()):
        name, memory = torch.cuda.get_device_name(index), torch.cuda.get_device_properties(index).total_memory
        kind = "bf16" if has_bf16(torch.device("cuda", index)) else "no bf16"
        found.append(_entry(f"cuda:{index}", "ok", f"{name}, {memory / 1e9:.0f} GB, {kind}"))
    if not torch.cuda.is_available():
        found.append(_entry("cuda", "missing", "no CUDA device: training runs on the CPU"))
    return found


def _int8() -> dict[str, Any]:
    from dualpath.nn import native

    why_not = native.why_not()
    if not why_not:
        return _entry("int8", "ok", f"own layers, {native.lanes()} numbers at once")
    return _entry("int8", "missing" if native.wanted() else "ok", f"by oneDNN, without own layers: {why_not}")


def _decoder() -> dict[str, Any]:
    """Writes and reads back a real clip: the wheel's FFmpeg is judged by what it does."""
    import numpy as np

    from dualpath.video.decode import probe, read_frames
    from dualpath.video.drawn.synthetic import write_video

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probe.mp4"
        shades = np.linspace(40, 200, 12).astype(np.uint8)
        try:
            write_video(path, np.broadcast_to(shades[:, None, None, None], (12, 64, 64, 3)), 12)
            info = probe(path)
            means = read_frames(path, range(12)).frames.float().mean(dim=(1, 2, 3)).numpy()
        except Exception as problem:  # whatever goes wrong is the finding
            return _entry("decoder", "problem", f"PyAV could not write and read a clip: {problem}; reinstall av")
    right = info.num_frames == 12 and bool(np.abs(means - shades).max() < 6)
    told = f"PyAV's {info.codec}: wrote and read back {info.num_frames} frames"
    return _entry("decoder", "ok" if right else "problem", told if right else f"{told}, but not the same pixels")


def _second_decoder() -> list[dict[str, Any]]:
    """Whether an installed torchcodec can be used: it looks for the system's FFmpeg."""
    from dualpath.video.decoding.torchcodec import what_is_missing

    try:
        metadata.version("torchcodec")
    except metadata.PackageNotFoundError:
        return []
    missing = what_is_missing()
    return [_entry("second decoder", "missing" if missing else "ok", missing or "torchcodec: --decoder torchcodec can be used")]


def _backbone() -> dict[str, Any]:
    path = Path(str(files("dualpath.nn") / "stills" / "model.safetensors"))
    if not path.is_file():
        return _entry("embedded backbone", "problem", f"{path} is missing; reinstall dualpath")
    return _entry("embedded backbone", "ok", f"stills_vit_tiny_patch16_128, {path.stat().st_size / 1e6:.1f} MB")


def _hub() -> dict[str, Any]:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return _entry("hub", "missing", "HF_HUB_OFFLINE is set: only cached weights can be used")
    from huggingface_hub import HfApi

    try:
        HfApi().model_info("timm/vit_base_patch16_clip_224.openai", timeout=5)
    except Exception as problem:  # the client's and the network's own errors: all mean that it is out of reach
        reason = type(problem).__name__
        return _entry("hub", "missing", f"not reached ({reason}): use --backbone stills_vit_tiny_patch16_128 or --weights FILE")
    return _entry("hub", "ok", "reached: pretrained weights can be fetched")


def _disk() -> dict[str, Any]:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    return _entry("disk", "ok" if free > 1 else "problem", f"{free:.0f} GB free in {Path.cwd()}")


def render(findings: list[dict[str, Any]]) -> str:
    """The findings as a table."""
    table = Table("what", "state", "detail")
    for finding in findings:
        table.add_row(finding["what"], finding["state"], finding["detail"])
    console = Console(file=io.StringIO(), width=140, markup=False, emoji=False)
    console.print(table)
    return console.file.getvalue().rstrip()  # pyright: ignore[reportAttributeAccessIssue]
