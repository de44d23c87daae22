"""Sources for the benchmarks of input: ten-second H.264 clips of 340x256 pixels, drawn here, like Kinetics' copies."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

FRAMES, WIDTH, HEIGHT, RATE = 300, 340, 256, 30


def write_sources(folder: Path, count: int) -> list[Path]:
    """Writes `count` clips that are not there yet: textures that move and change, key frames every 250 at most (x264's
    default), B-frames; about 1 MB each."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:03d}.mp4" for number in range(count)]
    for number, path in enumerate(paths):
        if not path.is_file():
            _write(path, np.random.default_rng(number))
    return paths


def _write(path: Path, rng: np.random.Generator) -> None:
    temporary = path.with_suffix(".tmp")
    ground = _texture(rng, HEIGHT + 64, WIDTH + 64)
    thing = _texture(rng, 96, 96)
    with av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "medium", "crf": "23"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.thread_count = 1
        for number in range(FRAMES):
            y, x = (int(32 + 30 * np.sin(number / speed)) for speed in (37, 23))
            picture = ground[y : y + HEIGHT, x : x + WIDTH].copy()
            top, left = int(80 + 78 * np.sin(number / 29)), int(120 + 118 * np.cos(number / 41))
            picture[top : top + 96, left : left + 96] = thing
            picture += rng.normal(0, 3, picture.shape[:2])[..., None]
            frame = av.VideoFrame.from_ndarray(np.clip(picture, 0, 255).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    temporary.replace(path)


def _texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Random colour at several scales, float (height, width, 3)."""
    total = np.zeros((height, width, 3))
    for cell in (4, 16, 64):
        coarse = rng.uniform(0, 255, (height // cell + 2, width // cell + 2, 3))
        total += np.kron(coarse, np.ones((cell, cell, 1)))[:height, :width] / 3
    return total
