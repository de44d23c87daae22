"""How long `dualpath predict` takes from a cold process, beside the least that it could: one clip, ViT-B/16, T = 32.

    python benchmarks/start.py [--rounds 7] [--precision auto] [--folder DIR] [--out start.json]

Drawn here, with random values: the backbone's weights as timm's safetensors file in fp32, a DualPath checkpoint on them
(400 classes) and an H.264 clip. In turn, each in a process of its own, are then timed

    predict   python -m dualpath.cli predict CHECKPOINT CLIP
    least     a script that imports torch, reads the same file, keeps it in the same type and sends as many pictures as the
              clip has (8 frames and 2 framesets) through its 12 blocks by torch's own calls: no adapters, no video

The files are in the system's cache: read once before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LEAST = """
import sys
import torch
from safetensors.torch import load_file
from torch.nn.functional import conv2d, layer_norm, linear, scaled_dot_product_attention

path, kind = sys.argv[1:]
dtype = getattr(torch, kind)
w = {name: value.to(dtype) for name, value in load_file(path).items()}
with torch.inference_mode():
    pictures = torch.zeros(10, 3, 224, 224, dtype=dtype)
    x = conv2d(pictures, w["patch_embed.proj.weight"], stride=16).flatten(2).transpose(1, 2)
    x = torch.cat([w["cls_token"].expand(10, -1, -1), x], dim=1) + w["pos_embed"]
    x = layer_norm(x, (768,), w["norm_pre.weight"], w["norm_pre.bias"])
    for n in range(12):
        b = {name.split(".", 2)[2]: value for name, value in w.items() if name.startswith(f"blocks.{n}.")}
        y = layer_norm(x, (768,), b["norm1.weight"], b["norm1.bias"])
        y = linear(y, b["attn.qkv.weight"], b["attn.qkv.bias"])
        q, k, v = y.unflatten(-1, (3, 12, 64)).permute(2, 0, 3, 1, 4)
        y = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + linear(y, b["attn.proj.weight"], b["attn.proj.bias"])
        y = layer_norm(x, (768,), b["norm2.weight"], b["norm2.bias"])
        y = linear(y, b["mlp.fc1.weight"], b["mlp.fc1.bias"])
        x = x + linear(y * torch.sigmoid(1.702 * y), b["mlp.fc2.weight"], b["mlp.fc2.bias"])
    x = layer_norm(x[:, 0], (768,), w["norm.weight"], w["norm.bias"])
    print(linear(x, w["head.weight"], w.get("head.bias")).mean().item())
"""


def prepare(folder: Path) -> tuple[Path, Path, Path]:
    """Weights, checkpoint and clip, where they are not there yet."""
    weights, checkpoint, clip = folder / "vit_b16.safetensors", folder / "checkpoint", folder / "clips" / "000.mp4"
    if checkpoint.is_dir() and clip.is_file():
        return weights, checkpoint, clip
    import torch
    from safetensors.torch import save_file
    from sources import write_sources

    from dualpath.engine.checkpoint import ModelSpec, save_checkpoint
    from dualpath.methods import build_model
    from dualpath.methods.options import DualPathConfig
    from dualpath.nn.zoo import CLIP_VIT_B16, BackboneConfig, random_backbone
    from dualpath.video.sampling import SamplingConfig

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    backbone = random_backbone(CLIP_VIT_B16)
    save_file(backbone.vit.state_dict(), weights)
    spec = ModelSpec(
        method="dualpath",
        options=DualPathConfig(),
        backbone=BackboneConfig(CLIP_VIT_B16, str(weights.resolve())),
        classes=tuple(f"class {number}" for number in range(400)),
        sampling=SamplingConfig(num_frames=32),
        split_seed=0,
        val_fraction=0.1,
        training={},
    )
    model = build_model(spec.method, backbone, num_classes=len(spec.classes), config=spec.options)
    save_checkpoint(checkpoint, model, spec)
    return weights, checkpoint, write_sources(clip.parent, 1)[0]


def seconds(words: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Of a process from its start to its end, and of its cores."""
    began, before = time.perf_counter(), os.times()
    subprocess.run(words, check=True, env=environment, stdout=subprocess.DEVNULL)
    took, after = time.perf_counter() - began, os.times()
    return took, after.children_user + after.children_system - before.children_user - before.children_system


def median(values: list[tuple[float, float]], which: int) -> float:
    """Of wall time (0) or core seconds (1)."""
    return statistics.median(value[which] for value in values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto")
    parser.add_argument("--folder", type=Path, help="keep the files here; by default a temporary folder")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        weights, checkpoint, clip = prepare(asked.folder or Path(temporary))
        import torch

        from dualpath.nn.zoo import frozen_dtype

        dtype = str(frozen_dtype(asked.precision, torch.device("cpu"))).removeprefix("torch.")
        ours = ["-m", "dualpath.cli", "predict", str(checkpoint), str(clip), "--precision", asked.precision]
        ways = {"predict": [sys.executable, *ours], "least": [sys.executable, "-c", LEAST, str(weights), dtype]}
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
        took: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for turn in range(asked.rounds + 1):
            for name, words in ways.items():
                found = seconds(words, environment)
                if turn:  # the first round fills the caches
                    took[name].append(found)
        ratios = [ours[0] / least[0] for ours, least in zip(took["predict"], took["least"], strict=True)]
        for name, found in took.items():
            low, high = min(value for value, _ in found), max(value for value, _ in found)
            print(f"{name:8} {median(found, 0):6.2f} s ({low:.2f} to {high:.2f}), {median(found, 1):6.2f} core seconds")
        ratio = median(took["predict"], 0) / median(took["least"], 0)
        print(f"{ratio:.2f} times the least (median of the rounds' own ratios {statistics.median(ratios):.2f}), {dtype}")
        if asked.out:
            told: dict[str, Any] = {"torch": torch.__version__, "cores": os.cpu_count(), "dtype": dtype, "ratio": ratio}
            asked.out.write_text(json.dumps(told | {"seconds": took}, indent=2) + "\n")


if __name__ == "__main__":
    main()
