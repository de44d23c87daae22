"""`dualpath data check` against mere decoding: both in two processes, over the same files, one after the other, in turns.

    python benchmarks/check.py --output benchmarks/check.json

Raw decoding opens each file with PyAV, demuxes its video and decodes every frame on one thread, and does nothing with
them. Each is timed from the moment when both processes are ready to the last answer; what it takes to start them is
told apart. On a machine that has other things to do the wall clock says little: so the processor time of both is
measured too, file by file in turns in this process, with what the parent of a check does. The files are drawn: 340 x 256
pixels, ten seconds of moving noise, H.264 as x264 makes it by default.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path

import av
import numpy as np

from dualpath.data.checking.check import CheckConfig, Progress, check_data
from dualpath.data.manifest import Manifest, Video
from dualpath.data.scan import ask
from dualpath.video.inspect import inspect

FPS, SECONDS = 30, 10


def draw(path: Path, seed: int) -> None:
    """One clip: a picture with detail that slides, and noise on it."""
    rng = np.random.default_rng(seed)
    large = np.kron(rng.integers(0, 256, (24, 32, 3)), np.ones((16, 16, 1))).astype(np.int16)
    noise = rng.integers(-12, 13, (8, 256, 340, 3), dtype=np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 340, 256, "yuv420p"
        stream.codec_context.thread_count = 1
        for number in range(FPS * SECONDS):
            x, y = (number * 3 + seed) % 170, (number + seed) % 120
            picture = np.clip(large[y : y + 256, x : x + 340] + noise[number % 8], 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def decode_raw(path: Path) -> int:
    """Demuxes and decodes every frame."""
    count = 0
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        stream.codec_context.thread_count = 1
        for packet in container.demux(stream):
            for _ in packet.decode():
                count += 1
    return count


def time_raw(paths: list[Path]) -> dict[str, float]:
    """Frames a second of raw decoding."""
    began, first, frames, done = time.perf_counter(), 0.0, 0, 0
    with closing(ask(paths, decode_raw, workers=2, seconds=600.0)) as answers:
        for _, answer in answers:
            done += 1
            if done == 2:  # both processes are at work
                first = time.perf_counter()
            frames += answer if done > 2 else 0
    ended = time.perf_counter()
    return {"frames_per_s": frames / (ended - first), "seconds": ended - began}


def time_check(paths: list[Path], folder: Path) -> dict[str, float]:
    """The same of a check, with all that it writes."""
    videos = tuple(Video(path, path.name, i % 2, "train") for i, path in enumerate(paths))
    told: list[tuple[float, Progress]] = []
    began = time.perf_counter()
    check_data(
        Manifest(paths[0].parent, ("a", "b"), videos, "csv"),
        folder,
        CheckConfig(workers=2, seconds=600.0),
        progress=lambda progress: told.append((time.perf_counter(), progress)),
    ).write(folder)
    ended = time.perf_counter()
    frames = told[-1][1].frames - told[1][1].frames
    return {"frames_per_s": frames / (ended - told[1][0]), "seconds": ended - began}


def time_processor(paths: list[Path], different: int, folder: Path) -> dict[str, float]:
    """Processor seconds of a file: raw, inspected, and what the parent adds; the best of two each."""
    raw, inspected = 0.0, 0.0
    for path in paths[:different]:
        seconds: dict[str, list[float]] = {"raw": [], "inspect": []}
        for _ in range(2):
            for name, do in (("raw", decode_raw), ("inspect", inspect)):
                began = time.process_time()
                do(path)
                seconds[name].append(time.process_time() - began)
        raw += min(seconds["raw"]) / different
        inspected += min(seconds["inspect"]) / different
    began = time.process_time()
    time_check(paths, folder)
    parent = (time.process_time() - began) / len(paths)
    return {
        "raw_s_a_file": raw,
        "inspect_s_a_file": inspected,
        "parent_s_a_file": parent,
        "ratio_of_children": raw / inspected,
        "ratio_with_parent": raw / (inspected + parent),
    }


def main() -> None:
    """Makes the files, runs both in turns, prints and writes the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--different", type=int, default=20, help="so many are drawn, the others are copies of these")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [folder / f"{i:03}.mp4" for i in range(options.files)]
        for i, path in enumerate(paths):
            if i < options.different:
                draw(path, i)
            else:
                path.write_bytes(paths[i % options.different].read_bytes())
        processor = time_processor(paths, options.different, folder / "processor")
        print(f"processor time of raw decoding to that of a check: {processor['ratio_with_parent']:.3f}")
        rounds = []
        for number in range(options.rounds):
            raw, check = time_raw(paths), time_check(paths, folder / f"check{number}")
            rounds.append({"raw": raw, "check": check, "ratio": check["frames_per_s"] / raw["frames_per_s"]})
            print(f"raw {raw['frames_per_s']:.0f} frames/s, check {check['frames_per_s']:.0f}: {rounds[-1]['ratio']:.3f}")
    ratio = statistics.median(one["ratio"] for one in rounds)
    told = {"files": options.files, "frames_a_file": FPS * SECONDS, "processes": 2, "ratio": ratio, "rounds": rounds}
    told |= {"processor": processor, "load": os.getloadavg()}
    print(json.dumps(told, indent=2))
    if options.output is not None:
        options.output.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
