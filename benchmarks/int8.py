"""What int8 weights could gain at inference on this CPU, before anybody builds it: products, and what surrounds them.

    python benchmarks/int8.py --output benchmarks/results/cpu [--threads 0] [--rounds 20]

ViT-B/16, T = 32: 10 pictures of 197 tokens, 12 layers. Each linear layer in turn as packed bf16, as int8 (oneDNN, one scale
for the input, one for each output), and the pass that makes int8 of its bf16 input. From these and from a whole forward pass
in bf16 follows the most that int8 can gain, if nothing else changes.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from dualpath.engine.machine import describe_machine
from dualpath.files import write_whole
from dualpath.memory import keep_memory
from dualpath.nn.frozen import FrozenLinear
from dualpath.speed.ours import inference

ROWS, LAYERS = 10 * 197, 12
SHAPES = {"qkv": (2304, 768), "proj": (768, 768), "fc1": (3072, 768), "fc2": (768, 3072)}
BACKBONE = "vit_base_patch16_clip_quickgelu_224.openai"


def int8_linear(weight: Tensor, bias: Tensor) -> tuple[Callable[[Tensor, float], Tensor], float]:
    """The product of int8 rows with these weights in int8, and its error beside fp32."""
    scales = weight.abs().amax(dim=1) / 127
    whole = (weight / scales[:, None]).round().to(torch.int8)
    packed = torch.ops.onednn.qlinear_prepack(whole, None)
    zeros = torch.zeros(len(weight), dtype=torch.int32)

    def run(x: Tensor, scale: float) -> Tensor:
        out, none = torch.bfloat16, "none"
        return torch.ops.onednn.qlinear_pointwise(x, scale, 128, packed, scales, zeros, bias, 1.0, 0, out, none, [], "")

    x = torch.randn(ROWS, weight.shape[1])
    scale = float(x.abs().max() / 127)
    exact = x @ weight.T + bias
    return run, float((run(quantized(x, scale), scale).float() - exact).norm() / exact.norm())


def quantized(x: Tensor, scale: float) -> Tensor:
    """Values to uint8 around 128; torch has no pass from bf16, so fp32 lies between."""
    return torch.quantize_per_tensor(x.float(), scale, 128, torch.quint8).int_repr()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=20)
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    keep_memory()
    warnings.filterwarnings("ignore", message=".*quantize_per_tensor.*")  # torch calls it deprecated and has no other pass
    torch.manual_seed(0)
    works: dict[str, Callable[[], object]] = {}
    for name, (outputs, inputs) in SHAPES.items():
        weight, bias, x = (
            torch.randn(outputs, inputs) * inputs**-0.5,
            torch.randn(outputs),
            torch.randn(ROWS, inputs).bfloat16(),
        )
        scale = float(x.abs().max() / 127)
        run, error = int8_linear(weight, bias)
        print(f"{name}: relative error of a product in int8 {100 * error:.2f} %")
        bf16, small = FrozenLinear(weight.bfloat16(), bias.bfloat16()), quantized(x, scale)
        works[f"{name} bf16"] = lambda bf16=bf16, x=x: bf16(x)
        works[f"{name} int8"] = lambda run=run, small=small, scale=scale: run(small, scale)
        works[f"{name} to int8"] = lambda x=x, scale=scale: quantized(x, scale)
    settings = {"method": "dualpath", "backbone": BACKBONE, "num_frames": 32}
    works["forward"] = inference(settings=settings, num_classes=400, batch_size=1, precision="bf16").step
    taken: dict[str, list[float]] = {name: [] for name in works}
    with torch.inference_mode():
        for _ in range(given.rounds):
            for name, work in works.items():
                began = time.perf_counter()
                work()
                taken[name].append(1e3 * (time.perf_counter() - began))
    ms = {name: median(values[2:]) for name, values in taken.items()}
    for name in SHAPES:
        print(f"{name}: bf16 {ms[f'{name} bf16']:.2f} ms, int8 {ms[f'{name} int8']:.2f}, to int8 {ms[f'{name} to int8']:.2f}")
    spared = LAYERS * sum(ms[f"{name} bf16"] - ms[f"{name} int8"] for name in SHAPES)
    added = LAYERS * sum(ms[f"{name} to int8"] for name in SHAPES)
    whole = ms["forward"]
    print(f"a forward pass in bf16: {whole:.0f} ms; int8 products spare {spared:.0f}, their inputs in int8 take {added:.0f}")
    gain = {"over_bf16": whole / (whole - spared + added), "at_most": whole / (whole - spared)}
    print(f"{gain['over_bf16']:.2f} x bf16, {gain['at_most']:.2f} x if int8 inputs were free")
    told = {"machine": describe_machine(torch.device("cpu")), "command": shlex.join(["python", *sys.argv]), "ms": ms} | gain
    write_whole(given.output / "int8.json", json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
