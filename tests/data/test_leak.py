"""Reading does not leak (benchmarks/memory.py is the long version): memory over some hundred clips, good and broken."""

import gc
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

import pytest

from dualpath.data.clips import TrainClips
from dualpath.data.manifest import Video
from dualpath.errors import VideoError
from dualpath.video.decode import probe, read_frames
from dualpath.video.sampling import SamplingConfig
from dualpath.video.transforms import TransformConfig
from videos import write_video

STATM = Path("/proc/self/statm")
READS, MOST = 300, 3_000_000  # bytes: 10 kB a read, of pictures that have 90 kB
pytestmark = pytest.mark.skipif(not STATM.is_file(), reason="this system does not tell a process's memory")


def growth(do: Callable[[int], object]) -> int:
    """Bytes that the process has come to hold over READS calls, after some to warm up."""

    def resident() -> int:
        gc.collect()
        return int(STATM.read_text().split()[1]) * 4096

    for number in range(60):
        do(number)
    before = resident()
    for number in range(READS):
        do(number)
    return resident() - before


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> TrainClips:
    folder = tmp_path_factory.mktemp("leak")
    whole = write_video(folder / "whole.mp4", 12, width=200, height=150, options={"g": "4"})
    broken = folder / "broken.mp4"
    broken.write_bytes(whole.read_bytes()[:-1500])
    videos = [Video(path, path.name, 0, "train", num_frames=12) for path in (whole, broken)]
    return TrainClips(videos, sampling=SamplingConfig(4), transform=TransformConfig(), size=64, flip=True, seed=0)


def read(clips: TrainClips, number: int) -> None:
    with suppress(VideoError):
        clips[number, number % 2]
    with suppress(VideoError):
        probe(clips.videos[number % 2].path)


def measure(clips: TrainClips) -> tuple[int, int]:
    """Growth by reading, and by reading with a leak."""
    held: list[object] = []
    flat = growth(lambda number: read(clips, number))
    return flat, growth(lambda number: held.append(read_frames(clips.videos[0].path, [number % 12]).frames))


def test_memory_stays_flat_and_a_leak_would_be_seen(clips):
    # In a process of its own: in this one, earlier tests have left room that a leak could fill unseen.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        flat, leaking = pool.submit(measure, clips).result(timeout=120)
    assert flat < MOST
    assert leaking > 5 * MOST
