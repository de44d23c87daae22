"""Damages small videos at random and reads them as a scan does: by hand, `python tests/fuzz_videos.py 20000 --seed 0`.

A damaged file may be refused, with a reason, or read. It must not crash or hang a child (the scan would survive both,
but they are told), nor be called readable and then give other than the claimed number of frames, nor give other
frames by leaps than from the start. Mutation k is a pure function of (seed, k).
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from dualpath.data.manifest import Video
from dualpath.data.scan import decode_all, scan
from dualpath.errors import VideoError

H264 = {"g": "8", "x264-params": "bframes=2:b-adapt=0:scenecut=0"}
FAST = {"g": "8", "deadline": "realtime", "cpu-used": "8"}
SOURCES = {
    "h264.mp4": {"options": H264},
    "first.mp4": {"options": H264, "container_options": {"movflags": "faststart"}},
    "fragments.mp4": {"options": H264, "container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "edited.mov": {"options": H264, "first_pts": -5},
    "h264.mkv": {"options": H264},
    "raw.h264": {"options": H264},
    "stream.ts": {"options": H264},
    "vp9.webm": {"codec": "libvpx-vp9", "options": FAST},
    "vp8.webm": {"codec": "libvpx", "options": FAST},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"g": "8", "bf": "2"}},
    "mpeg4.mp4": {"codec": "mpeg4", "options": {"g": "8", "bf": "2"}},
    "picture.gif": {"codec": "gif", "pix_fmt": "rgb8"},
}


class WrongFrames(Exception):
    """What must never happen."""


def mutate(content: bytes, rng: np.random.Generator) -> bytes:
    """One to three kinds of damage, one after another."""
    data = bytearray(content)
    for kind in rng.integers(0, 8, int(rng.integers(1, 4))):
        size = len(data)
        if size < 64:
            break
        at, length = int(rng.integers(size)), int(rng.integers(1, max(2, size // 8)))
        if kind == 0:
            for place in rng.integers(0, size, int(rng.integers(1, 30))):
                data[place] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            del data[at : at + length]
        elif kind == 3:
            other = int(rng.integers(size))
            one, two = data[at : at + length], data[other : other + length]
            data[at : at + len(two)], data[other : other + len(one)] = two, one
        elif kind == 4:
            for place in rng.integers(0, min(size, 400), 4):
                data[place] = int(rng.integers(256))
        elif kind == 5:
            data[at : at + length] = bytes(min(length, size - at))
        elif kind == 6:
            data[at:at] = rng.bytes(length)
        else:  # numbers in the index at the end of an mp4, sizes and lengths
            for place in rng.integers(max(0, size - 1500), size - 4, 2):
                data[place : place + 4] = rng.choice([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\1"])
    return bytes(data)


def examine(path: Path) -> int:
    """What a child does with a file: reads it as `decode_all` does; if that is content, its word is put to the test."""
    from dualpath.video.decode import read_frames

    count = decode_all(path)
    try:
        plain = read_frames(path, range(count), from_the_start=True)
        quick = read_frames(path, range(count))
        few = np.random.default_rng(count).integers(0, count, 4).tolist()
        some, again = read_frames(path, few), read_frames(path, few, from_the_start=True)
    except VideoError as problem:
        raise WrongFrames(f"claims {count} frames but {problem.reason}") from problem
    if len(plain.frames) != count or len(quick.frames) != count:
        raise WrongFrames(f"claims {count} frames but gives {len(plain.frames)} and {len(quick.frames)}")
    # Where a damaged slice is missing, FFmpeg may leave what was in the buffer: then no two readings need be the same.
    if not plain.frames[few].equal(again.frames):
        return count
    if not (plain.frames.equal(quick.frames) and np.array_equal(plain.times, quick.times)):
        if not _leaps(path, count):  # then both were read from the start
            raise VideoError(path, "read, but its damage shows otherwise each time")
        raise WrongFrames("gives other frames by leaps than from the start")
    if not plain.frames[few].equal(some.frames):
        if not _leaps(
            path, count
        ):  # the file's times contradict its pictures' own order: by leaps, a frame is found by its time
            raise VideoError(path, "read, but its damage shows otherwise by leaps")
        raise WrongFrames(f"gives other frames by leaps than from the start for {few} alone")
    return count


def _leaps(path: Path, count: int) -> bool:
    """Whether all frames of a file can be read by leaps."""
    from dualpath.video.decoding.container import opened
    from dualpath.video.decoding.reading import by_leaps, may_leap

    with opened(path) as (container, stream):
        return may_leap(container, stream) and by_leaps(path, container, stream, range(count), short_side=None) is not None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("number", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20.0, help="time limit for a file")
    parser.add_argument("--keep", type=Path, help="folder to which files that did what must not be are copied")
    asked = parser.parse_args()
    from videos import write_video

    began, reasons, failures = time.monotonic(), Counter[str](), []
    with tempfile.TemporaryDirectory() as folder:
        originals = {
            name: write_video(Path(folder) / name, 20, **how).read_bytes()  # pyright: ignore[reportArgumentType]
            for name, how in SOURCES.items()
        }
        names = list(originals)
        for start in range(0, asked.number, 500):  # a disk need not hold them all
            videos = []
            for k in range(start, min(start + 500, asked.number)):
                rng = np.random.default_rng((asked.seed, k))
                name = names[k % len(names)]
                path = Path(folder) / f"{k:06}_{name}"
                path.write_bytes(mutate(originals[name], rng))
                videos.append(Video(path, path.name, 0, "train"))
            result = scan(videos, workers=asked.workers, seconds=asked.seconds, count=examine)
            reasons["read"] += len(result.videos)
            for bad in result.bad:
                reasons[re.sub(r"\d+", "N", bad.reason)[:100]] += 1
                if re.match(r"took longer|the decoder crashed|\w+: ", bad.reason):
                    failures.append(f"{bad.video.name}: {bad.reason}")
                    print(failures[-1], flush=True)
                    if asked.keep:
                        asked.keep.mkdir(exist_ok=True, parents=True)
                        (asked.keep / bad.video.name).write_bytes(bad.video.path.read_bytes())
            for video in videos:
                video.path.unlink()
    for reason, count in reasons.most_common():
        print(f"{count:6}  {reason}")
    spent = time.monotonic() - began
    print(
        f"{asked.number} files, seed {asked.seed}, {spent:.0f} s, {asked.number / spent:.1f} files/s, {len(failures)} failures"
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
