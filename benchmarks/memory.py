"""Does reading leak? Resident memory over thousands of training clips, from plain files, shards and broken files alike.

    python benchmarks/memory.py [--clips 5000] [--most 2.0]

After a warm-up of a tenth, memory is read every hundredth; exits with 1 if the last tenth lies more than `--most` per
cent above the first.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path

import torch
from sources import FRAMES, write_sources

from dualpath.data.clips import TrainClips
from dualpath.data.manifest import Video
from dualpath.errors import VideoError
from dualpath.video.decode import probe
from dualpath.video.decoding.places import Place
from dualpath.video.encode import EncodeConfig, reencode
from dualpath.video.sampling import SamplingConfig
from dualpath.video.transforms import TransformConfig


def resident() -> int:
    """Bytes that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def places(folder: Path) -> list[Path]:
    """Original, prepared, in a tar, and broken."""
    originals = write_sources(folder / "originals", 4)
    short = folder / "short.mp4"
    if not short.is_file():
        reencode(originals[0], short, config=EncodeConfig(), end=60)
    with tarfile.open(folder / "shard.tar", "w") as tar:
        tar.add(short, "short.mp4")
    with tarfile.open(folder / "shard.tar") as tar:
        member = tar.getmembers()[0]
    broken = folder / "broken.mp4"
    broken.write_bytes(originals[1].read_bytes()[:200_000])
    return [short, Place(folder / "shard.tar", member.offset_data, member.size).spelled, broken, originals[2]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=5000)
    parser.add_argument("--most", type=float, default=2.0, help="per cent")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "dualpath-benchmark")
    given = parser.parse_args()
    torch.set_num_threads(1)
    paths = places(given.folder)
    videos = [Video(path, path.name, 0, "train", num_frames=None if path.stem == "broken" else FRAMES) for path in paths[:3]]
    videos = [Video(v.path, v.name, 0, "train", num_frames=60 if v.num_frames else None) for v in videos]
    videos.append(Video(paths[3], paths[3].name, 0, "train", num_frames=20))
    clips = TrainClips(videos, sampling=SamplingConfig(8), transform=TransformConfig(), size=112, flip=True, seed=0)
    marks: list[int] = []
    for number in range(given.clips):
        with suppress(VideoError):
            clips[number // 4, number % 4]
        if number % 50 == 0:
            probe(paths[0])
        if number >= given.clips // 10 and number % (max(1, given.clips // 100)) == 0:
            marks.append(resident())
            print(f"{number} clips, {marks[-1] / 1e6:.1f} MB", flush=True)
    tenth = max(1, len(marks) // 10)
    first, last = statistics.median(marks[:tenth]), statistics.median(marks[-tenth:])
    growth = 100 * (last / first - 1)
    print(f"{given.clips} clips: {first / 1e6:.1f} MB to {last / 1e6:.1f} MB, {growth:+.2f} % (at most {given.most:+.2f} %)")
    return int(growth > given.most)


if __name__ == "__main__":
    sys.exit(main())
