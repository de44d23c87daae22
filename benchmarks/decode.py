"""How many training clips a second one process reads and augments, beside the common way; in one run, in turn.

    python benchmarks/decode.py [--rounds 5] [--clips 4] [--out decode.json]

The videos are drawn here: 340 x 256, ten seconds, 30 fps, H.264 with x264's usual key-frame distance (250) and with 30.
The common way decodes every frame to an RGB array, then crops, resizes, flips and colours each frame with PIL, and makes
floats of them on the CPU. Before anything is timed, both must give the same frames, bit for bit.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from PIL import Image
from torchvision.transforms import v2

from dualpath.video.decode import Decoder, read_frames
from dualpath.video.decoding.torchcodec import what_is_missing
from dualpath.video.sampling import SamplingConfig, train_indices
from dualpath.video.transforms import TransformConfig, train_transform

SIZE, FRAMES, WIDTH, HEIGHT = 224, 300, 340, 256
CONFIG = TransformConfig()
PROTOCOLS = {
    "segment, T = 32": SamplingConfig(32, "segment"),
    "dense 16x4": SamplingConfig(16, "dense", 4),
}


def draw(path: Path, *, key_distance: int) -> Path:
    """A textured ground that moves under a textured square that moves otherwise."""
    rng = np.random.default_rng(0)

    def texture(height: int, width: int) -> np.ndarray:
        layers = np.full((height, width, 3), 128.0)
        for cell, strength in ((64, 60), (16, 40), (4, 25)):
            coarse = rng.normal(size=(height // cell + 2, width // cell + 2, 3)) * strength
            layers += np.repeat(np.repeat(coarse, cell, 0), cell, 1)[:height, :width]
        return layers.clip(0, 255).astype(np.uint8)

    ground, square = texture(400, 520), texture(96, 96)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"g": str(key_distance)})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for k in range(FRAMES):
            picture = ground[k % 120 :, k * 2 % 170 :][:HEIGHT, :WIDTH].copy()
            x, y = int(100 + 80 * math.sin(k / 20)), int(80 + 60 * math.cos(k / 13))
            picture[y : y + 96, x : x + 96] = square
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def common_frames(path: Path, indices: list[int]) -> np.ndarray:
    with av.open(str(path)) as container:
        every = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack([every[index] for index in indices])


def common(path: Path, indices: list[int], seed: int) -> torch.Tensor:
    pictures = [Image.fromarray(frame) for frame in common_frames(path, indices)]
    torch.manual_seed(seed)
    crop = v2.RandomResizedCrop(SIZE, scale=(CONFIG.min_scale, 1.0)).make_params([pictures[0]])
    jitter = v2.ColorJitter(*[CONFIG.color_jitter] * 3)
    colours = jitter.make_params([pictures[0]])
    flip = bool(torch.rand(1) < 0.5)
    done = []
    crop_picture: Any = v2.functional.resized_crop  # takes PIL's pictures too, whatever its annotation says
    for picture in pictures:
        changed: Any = crop_picture(picture, **crop, size=[SIZE, SIZE])
        changed = v2.functional.horizontal_flip(changed) if flip else changed
        changed = jitter.transform(changed, colours)
        pixels = torch.from_numpy(np.asarray(changed).copy()).permute(2, 0, 1).float() / 255
        done.append((pixels - 0.5) / 0.5)
    return torch.stack(done)


def ours(path: Path, indices: list[int], seed: int, *, decoder: Decoder = "pyav", from_the_start: bool = False) -> torch.Tensor:
    short_side = math.ceil(SIZE / math.sqrt(CONFIG.min_scale))
    clip = read_frames(path, indices, short_side=short_side, decoder=decoder, from_the_start=from_the_start)
    return train_transform(clip.frames, size=SIZE, config=CONFIG, flip=True, seed=seed)


CANDIDATES: dict[str, Callable[[Path, list[int], int], torch.Tensor]] = {
    "the common way": common,
    "dualpath, from the start": lambda path, indices, seed: ours(path, indices, seed, from_the_start=True),
    "dualpath": ours,
    "dualpath, torchcodec": lambda path, indices, seed: ours(path, indices, seed, decoder="torchcodec"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", type=int, default=4, help="clips a candidate reads in a round")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    candidates = {name: run for name, run in CANDIDATES.items() if "torchcodec" not in name or not what_is_missing()}
    table = []
    with tempfile.TemporaryDirectory() as folder:
        for distance in (250, 30):
            path = draw(Path(folder) / f"{distance}.mp4", key_distance=distance)
            for protocol, sampling in PROTOCOLS.items():
                rng = np.random.default_rng(0)
                drawn = [train_indices(FRAMES, sampling, rng).tolist() for _ in range(asked.rounds * asked.clips)]
                raw = read_frames(path, drawn[0]).frames.permute(0, 2, 3, 1).numpy()
                assert np.array_equal(raw, common_frames(path, drawn[0])), "the two ways do not give the same frames"
                seconds: dict[str, list[float]] = {name: [] for name in candidates}
                work: dict[str, list[float]] = {name: [] for name in candidates}
                for turn in range(asked.rounds):
                    for name, run in candidates.items():
                        began, worked = time.perf_counter(), time.process_time()
                        for k in range(turn * asked.clips, (turn + 1) * asked.clips):
                            run(path, drawn[k], k)
                        seconds[name].append((time.perf_counter() - began) / asked.clips)
                        work[name].append((time.process_time() - worked) / asked.clips)
                for name, took in seconds.items():
                    ratio, busy = (
                        statistics.median(a / b for a, b in zip(clock["the common way"], clock[name], strict=True))
                        for clock in (seconds, work)
                    )
                    row = {"key_distance": distance, "protocol": protocol, "way": name, "core_seconds": work[name]}
                    row |= {"seconds": took, "times_the_common": ratio, "times_the_common_in_core_seconds": busy}
                    table.append(row)
                    speed = f"{1 / statistics.median(took):6.2f} clips/s {ratio:5.2f} x ({busy:5.2f} x in core seconds)"
                    print(f"keys every {distance:3}, {protocol:15} {name:25} {speed}", flush=True)
    if asked.out:
        asked.out.write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    main()
