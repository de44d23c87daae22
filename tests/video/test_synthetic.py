"""Synthetic clips: what moves as the class says, pairs that only time tells apart, and files that read back."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from dualpath.video.decode import probe, read_frames
from dualpath.video.synthetic import CLASSES, PAIRS, render_clip, render_folder, write_video

SEEDS = range(8)


def motion(frames: np.ndarray) -> np.ndarray:
    """Where something differs from the median frame, and by how much: float32 (T, H, W)."""
    frames = frames.astype(np.float32)
    difference = np.abs(frames - np.median(frames, axis=0)).max(axis=-1)
    return np.where(difference > 40, difference, 0)


def centroids(frames: np.ndarray) -> np.ndarray:
    """The mover's place (x, y) in those frames where it can be seen: (n, 2), in order of time."""
    places = []
    for picture in motion(frames):
        if picture.sum() > 2000:
            y, x = np.nonzero(picture)
            weight = picture[y, x] / picture.sum()
            places.append(((x * weight).sum(), (y * weight).sum()))
    return np.array(places)


def distances(read: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Mean difference of each read frame to each drawn one, 0..255: (T, T)."""
    coarse = [frames[:, ::4, ::4].astype(np.int16) for frames in (read, drawn)]
    return np.abs(coarse[0][:, None] - coarse[1][None]).mean(axis=(2, 3, 4))


def quarter(n: int) -> int:
    return max(1, n // 4)


def test_classes_are_pairs_of_opposites() -> None:
    assert len(CLASSES) >= 8
    assert list(CLASSES) == sorted(CLASSES)
    assert sorted(CLASSES) == sorted(name for pair in PAIRS for name in pair)
    assert len(set(CLASSES)) == 2 * len(PAIRS)


@pytest.mark.parametrize("pair", PAIRS, ids=" / ".join)
def test_opposites_are_the_same_frames_in_reverse(pair: tuple[str, str]) -> None:
    for seed in (0, (4, 1, 2)):
        (first, rate), (second, other_rate) = (render_clip(name, seed) for name in pair)
        assert np.array_equal(first, second[::-1])
        assert rate == other_rate
        assert not np.array_equal(first, second)


@pytest.mark.parametrize("name", CLASSES)
def test_a_clip_is_a_pure_function_of_class_and_seed(name: str) -> None:
    np.random.seed(1)  # noqa: NPY002
    first, rate = render_clip(name, (3, 5))
    np.random.seed(2)  # noqa: NPY002
    second, same_rate = render_clip(name, (3, 5))
    assert np.array_equal(first, second)
    assert rate == same_rate
    other, _ = render_clip(name, (3, 6))
    assert other.shape != first.shape or not np.array_equal(other, first)


def test_clips_keep_to_the_stated_ranges_and_fill_them() -> None:
    stated = re.search(r"\((\d+)-(\d+) frames, sides (\d+)-(\d+)\)", render_clip.__doc__ or "")
    assert stated
    least, most, short, long = map(int, stated.groups())
    clips = [render_clip(name, seed) for seed in range(3) for name in CLASSES]
    clips += [render_clip("moves right", seed) for seed in range(3, 30)]
    for frames, rate in clips:
        count, height, width, channels = frames.shape
        assert frames.dtype == np.uint8
        assert least <= count <= most
        assert short <= min(height, width)
        assert max(height, width) <= long
        assert height % 2 == width % 2 == 0
        assert channels == 3
        assert rate in (10, 12, 15, 24, 25, 30)
    counts = {len(frames) for frames, _ in clips}
    assert max(counts) - min(counts) > (most - least) / 2
    assert len({rate for _, rate in clips}) >= 4
    assert len({frames.shape[1:3] for frames, _ in clips}) >= 10


@pytest.mark.parametrize(
    ("name", "axis", "sign"), [("moves right", 0, 1), ("moves left", 0, -1), ("moves down", 1, 1), ("moves up", 1, -1)]
)
def test_what_moves_goes_where_the_class_says(name: str, axis: int, sign: int) -> None:
    for seed in SEEDS:
        places = centroids(render_clip(name, seed)[0])
        n = quarter(len(places))
        way = places[-n:].mean(axis=0) - places[:n].mean(axis=0)
        assert sign * way[axis] > 15, (seed, way)
        assert abs(way[1 - axis]) < abs(way[axis]) / 2, (seed, way)


@pytest.mark.parametrize(("name", "sign"), [("comes nearer", 1), ("goes farther", -1)])
def test_what_comes_nearer_grows(name: str, sign: int) -> None:
    for seed in SEEDS:
        areas = (motion(render_clip(name, seed)[0]) > 0).sum(axis=(1, 2))
        n = quarter(len(areas))
        early, late = areas[:n].mean(), areas[-n:].mean()
        small, large = (early, late) if sign > 0 else (late, early)
        assert large > 1.4 * small, (seed, early, late)


@pytest.mark.parametrize(("name", "sign"), [("circles clockwise", 1), ("circles counterclockwise", -1)])
def test_what_circles_turns_as_the_class_says(name: str, sign: int) -> None:
    for seed in SEEDS:
        places = centroids(render_clip(name, seed)[0])
        arm = places - (places.max(axis=0) + places.min(axis=0)) / 2
        angle = np.degrees(np.unwrap(np.arctan2(arm[:, 1], arm[:, 0])))  # y points downwards: growing is clockwise
        assert sign * (angle[-1] - angle[0]) > 180, seed


@pytest.mark.parametrize(("name", "late"), [("appears", True), ("disappears", False)])
def test_what_appears_is_there_late_and_what_disappears_early(name: str, late: bool) -> None:
    for seed in SEEDS:
        frames = render_clip(name, seed)[0].astype(np.float32)
        first, last = frames[:3].mean(axis=0), frames[-3:].mean(axis=0)
        inside = np.abs(first - last).max(axis=-1) > 45
        assert inside.sum() > 100, seed
        around = inside.copy()
        for _ in range(6):
            grown = around.copy()
            grown[1:] |= around[:-1]
            grown[:-1] |= around[1:]
            grown[:, 1:] |= around[:, :-1]
            grown[:, :-1] |= around[:, 1:]
            around = grown
        around &= ~inside
        # Where there is an object, the place differs from what surrounds it.
        early_contrast, late_contrast = (np.abs(f[inside].mean(axis=0) - f[around].mean(axis=0)).sum() for f in (first, last))
        there, gone = (late_contrast, early_contrast) if late else (early_contrast, late_contrast)
        assert there > 2 * gone, (seed, early_contrast, late_contrast)


def test_written_video_reads_back(tmp_path: Path) -> None:
    frames, rate = render_clip("circles clockwise", 5)
    path = tmp_path / "clip.mp4"
    write_video(path, frames, rate)
    info = probe(path)
    assert (info.codec, info.num_frames, info.height, info.width) == ("h264", *frames.shape[:3])
    assert info.fps == pytest.approx(rate)
    assert info.duration == pytest.approx(len(frames) / rate, rel=1e-3)
    assert not info.has_audio
    clip = read_frames(path, range(len(frames)))
    read = clip.frames.permute(0, 2, 3, 1).numpy()
    assert read.shape == frames.shape
    # Lossy, and colour has half the resolution: each frame is nearer to its own original than to any other.
    distance = distances(read, frames)
    assert distance.diagonal().max() < 8
    moving = range(len(frames) // 4, 3 * len(frames) // 4)
    assert [int(distance[i].argmin()) for i in moving] == list(moving)
    np.testing.assert_allclose(clip.times, np.arange(len(frames)) / rate, atol=1e-3)
    assert [file.name for file in tmp_path.iterdir()] == ["clip.mp4"]


def test_render_folder_writes_each_split_and_class(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    counts = {"train": 1, "test": 2}
    render_folder(tmp_path / "clips", counts, seed=4, workers=1, progress=lambda done, total: told.append((done, total)))
    expected = {
        f"{split}/{name}/{number:05d}.mp4" for split, count in counts.items() for name in CLASSES for number in range(count)
    }
    root = tmp_path / "clips"
    assert {str(file.relative_to(root)) for file in root.rglob("*") if file.is_file()} == expected
    assert told == [(done, len(expected)) for done in range(1, len(expected) + 1)]
    scenes = {file.read_bytes() for file in root.rglob("*.mp4")}
    assert len(scenes) == len(expected)
    # The file is the clip of its seeds: run's, split's, label, number.
    frames, rate = render_clip("moves left", (4, 1, CLASSES.index("moves left"), 1))
    path = root / "test" / "moves left" / "00001.mp4"
    assert probe(path).fps == pytest.approx(rate)
    read = read_frames(path, range(len(frames))).frames.permute(0, 2, 3, 1).numpy()
    assert distances(read, frames).diagonal().max() < 8
