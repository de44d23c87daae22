"""Compares our frames with those of the ffmpeg command, file by file: by hand, `python tests/compare_with_ffmpeg.py FILE..`.

Prints a line for each file that differs, and how: number of frames, or the largest and mean difference of their pixels.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np

from dualpath.errors import VideoError
from dualpath.video.decode import probe, read_frames


def ffmpeg_frames(path: Path) -> bytes:
    """All pictures as ffmpeg decodes them, upright, RGB, one after another."""
    how = ("-map", "0:v:0", "-vsync", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    command = ["ffmpeg", "-v", "error", "-i", f"file:{path}", *how]
    return subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False).stdout


def compare(path: Path) -> str | None:
    """What differs; None if nothing does."""
    theirs = np.frombuffer(ffmpeg_frames(path), np.uint8)
    try:
        count = probe(path).num_frames
        ours = read_frames(path, range(count)).frames.permute(0, 2, 3, 1).contiguous().numpy()
    except VideoError as problem:
        return f"not read: {problem.reason}; ffmpeg gives {theirs.size} bytes"
    if theirs.size != ours.size:
        return f"{count} frames, ffmpeg gives {theirs.size / ours[0].size:g}"
    differences = np.abs(theirs.reshape(ours.shape).astype(np.int16) - ours)
    if not differences.any():
        return None
    frames = sum(bool(frame.any()) for frame in differences)
    return f"{frames} of {count} frames differ, by {differences.max()} at most and {differences.mean():.2g} in the mean"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=Path, nargs="+")
    files = parser.parse_args().files
    same = 0
    for path in files:
        told = compare(path)
        same += told is None
        if told:
            print(f"{path.name}: {told}", flush=True)
    print(f"{same} of {len(files)} files: the same frames, bit for bit")
    return 0


if __name__ == "__main__":
    sys.exit(main())
