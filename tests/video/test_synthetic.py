"""Synthetic clips: what moves as the class says, pairs that only time tells apart, and files that read back."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from dualpath.errors import DualPathError
from dualpath.video.decode import probe, read_frames
from dualpath.video.drawn import shapes
from dualpath.video.drawn.synthetic import CLASSES, LABEL_SETS, PAIRS, render_clip, render_folder, render_scene, write_video

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


def coloured(frames: np.ndarray, colour: str) -> np.ndarray:
    """Where frames are plainly of that colour: bool (T, H, W)."""
    return np.asarray(shapes.is_colour(frames.astype(np.float32) / 255, colour, margin=25.0, chroma=0.3))


def middles(mask: np.ndarray) -> np.ndarray:
    """The middle (x, y) of what is set in each frame: (T, 2)."""
    return np.array([np.argwhere(picture).mean(axis=0)[::-1] for picture in mask])


def wholly_inside(mask: np.ndarray) -> np.ndarray:
    """Which frames' set pixels keep clear of the edges: bool (T,)."""
    edges = mask.copy()
    edges[:, 3:-3, 3:-3] = False
    return np.logical_not(edges.any(axis=(1, 2)))


def quarter(n: int) -> int:
    return max(1, n // 4)


def test_classes_are_pairs_of_opposites() -> None:
    assert len(CLASSES) >= 8
    assert list(CLASSES) == sorted(CLASSES)
    assert sorted(CLASSES) == sorted(name for pair in PAIRS for name in pair)
    assert len(set(CLASSES)) == 2 * len(PAIRS)


@pytest.mark.parametrize(
    ("name", "seed", "shape", "rate", "sha256"),
    [
        ("moves left", (0, 0, 4, 7), (16, 132, 120, 3), 24, "bb13a793c7043a63a3a22792aa239b95111ed4b5db04233b0fc2c7a2c6610008"),
        ("comes nearer", 3, (24, 138, 132, 3), 30, "81e346e56cf959fc147c90d1e826f9c1300e914d29a7604e81ca6df7db9ae5e6"),
        ("appears", (4, 1, 2), (16, 128, 168, 3), 24, "0a6ad8df9ffab1d3d2f30d407e06e8f16199d196f3a5558cb241a823281d42fc"),
    ],
)  # fmt: skip
def test_clips_are_those_that_the_reported_results_were_measured_on(
    name: str, seed: int | tuple[int, ...], shape: tuple[int, ...], rate: int, sha256: str
) -> None:
    # Taken before there were label sets. These clips are the same with and without AVX-512; a few others are not.
    frames, frame_rate = render_clip(name, seed)
    assert (frames.shape, frame_rate) == (shape, rate)
    assert hashlib.sha256(frames.tobytes()).hexdigest() == sha256
    assert np.array_equal(render_clip(name, seed, label_set="motion")[0], frames)


@pytest.mark.parametrize(
    ("label_set", "pair"),
    [(name, pair) for name, labels in LABEL_SETS.items() for pair in labels.opposites],
    ids=lambda value: value if isinstance(value, str) else " / ".join(value),
)
def test_opposites_are_the_same_frames_in_reverse(label_set: str, pair: tuple[str, str]) -> None:
    for seed in (0, (4, 1, 2)):
        (first, rate), (second, other_rate) = (render_clip(name, seed, label_set=label_set) for name in pair)
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


@pytest.mark.parametrize("label_set", ["appearance", "both"])
def test_every_frame_shows_the_labels_colour_on_the_object_and_nowhere_else(label_set: str) -> None:
    labels = LABEL_SETS[label_set]
    for seed in range(4):
        for name in labels.classes:
            look = labels.label(name).look
            assert look
            frames = render_clip(name, seed, label_set=label_set)[0][:: 1 if seed == 0 else 3]
            side = min(frames.shape[1:3])
            mask = coloured(frames, look[0])
            # Half of the smallest object may lie outside of the frame: a triangle of radius 0.11 of the side.
            assert mask.sum(axis=(1, 2)).min() > 0.4 * np.pi * (0.11 * side) ** 2 / 2, (seed, name)
            # All of it lies in one place, no farther from its middle than an object's radius.
            for picture, (x, y) in zip(mask, middles(mask), strict=True):
                rows, columns = np.nonzero(picture)
                assert np.hypot(rows - y, columns - x).max() < 0.3 * side, (seed, name)
            (other,) = set(labels.colours) - {look[0]}
            assert not coloured(frames, other).any(), (seed, name)


def test_clutter_has_none_of_the_labels_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []

    def record(canvas: np.ndarray, look: shapes.Look, **place: float) -> object:
        if "opacity" not in place:  # what moves is drawn with one
            drawn.append(look.shape)
        return draw(canvas, look, **place)

    draw = shapes.draw
    monkeypatch.setattr(shapes, "draw", record)
    for seed in range(30):
        render_clip("red square", seed, label_set="appearance")
    assert set(drawn) == set(shapes.SHAPES) - {"disc", "square", "triangle", "cross"}


@pytest.mark.parametrize("label_set", ["appearance", "both"])
def test_clips_of_one_seed_differ_in_the_object_only(label_set: str) -> None:
    """Ground, clutter, camera, grain, place and speed cannot tell the look: they are the same for all looks."""
    labels = LABEL_SETS[label_set]
    for seed in range(6):
        way = " moves right" if labels.motion_tells else ""
        clips = {look: render_clip(" ".join(look) + way, seed, label_set=label_set) for look in labels.looks}
        discs = {colour: clips[colour, "disc"][0] for colour in labels.colours}
        mask = coloured(discs["red"], "red")
        near = mask.copy()  # soft edges lie around what is plainly red; every outline lies within the disc's
        for _ in range(3):
            near[:, 1:-1, 1:-1] |= near[:, :-2, 1:-1] | near[:, 2:, 1:-1] | near[:, 1:-1, :-2] | near[:, 1:-1, 2:]
        inner = np.zeros_like(mask)
        inner[:, 4:-4, 4:-4] = True
        for frames, rate in clips.values():
            assert rate == clips["red", "disc"][1]
            assert np.array_equal(frames[inner & ~near], discs["red"][inner & ~near]), seed


def test_the_object_has_the_labels_shape_and_keeps_it_at_64_pixels() -> None:
    def area(shape: str) -> float:  # of an outline, as a share of the disc around it
        return float((shapes.OUTLINES[shape] ** 2).mean())

    seen = 0
    for seed in range(8):
        for colour in LABEL_SETS["appearance"].colours:
            names = {shape: f"{colour} {shape}" for shape in ("disc", "square", "triangle", "cross")}
            clips = {shape: render_clip(name, seed, label_set="appearance")[0][::2] for shape, name in names.items()}
            masks = {shape: coloured(frames, colour) for shape, frames in clips.items()}
            whole = wholly_inside(masks["disc"])
            for step in (1, 2):  # every second pixel: frames of 56 to 72 pixels, without smoothing
                disc = masks["disc"][whole, ::step, ::step]
                radius = np.sqrt(disc.sum(axis=(1, 2)) / np.pi)
                assert radius.min() > 12 / step
                for shape in ("square", "triangle", "cross"):
                    mask = masks[shape][whole, ::step, ::step]
                    assert mask.sum() / disc.sum() == pytest.approx(area(shape), abs=0.06), (seed, shape)
                # A cross and a square are alike in area, not in shape.
                apart = masks["cross"][whole, ::step, ::step] ^ masks["square"][whole, ::step, ::step]
                assert apart.sum() > 0.15 * disc.sum(), seed
            seen += int(whole.sum())
    assert seen > 50


def test_in_the_appearance_set_all_motions_occur_in_all_classes_alike() -> None:
    ways: dict[str, list[str]] = {"red disc": [], "blue triangle": []}
    for name, found in ways.items():
        for seed in range(48):
            frames, _ = render_clip(name, seed, label_set="appearance")
            places = middles(coloured(frames[::3], name.split()[0]))
            steps = np.abs(np.diff(places, axis=0)).sum(axis=0)
            way = places[-1] - places[0]
            if steps.min() > 0.5 * steps.max():  # it moves in both directions: it circles
                arm = places - (places.max(axis=0) + places.min(axis=0)) / 2
                angle = np.unwrap(np.arctan2(arm[:, 1], arm[:, 0]))
                found.append("clockwise" if angle[-1] > angle[0] else "counterclockwise")
            elif steps[0] > steps[1]:
                found.append("right" if way[0] > 0 else "left")
            else:
                found.append("down" if way[1] > 0 else "up")
    first, second = ways.values()
    assert first == second
    counts = Counter(first)
    assert len(counts) == 6
    assert min(counts.values()) >= 3  # 8 are expected of each
    assert max(counts.values()) <= 15


@pytest.mark.parametrize(("way", "sign"), [("right", 1), ("left", -1)])
def test_in_the_set_of_both_the_object_goes_where_the_class_says(way: str, sign: int) -> None:
    for look in (("red", "disc"), ("blue", "cross")):
        for seed in range(4):
            frames, _ = render_clip(f"{' '.join(look)} moves {way}", seed, label_set="both")
            places = middles(coloured(frames, look[0]))
            assert sign * (places[-1, 0] - places[0, 0]) > 15, (look, seed)


@pytest.mark.parametrize("name", ["moves left", "comes nearer", "circles clockwise", "appears", "disappears"])
def test_masks_are_where_frames_differ_from_the_same_scene_without_its_object(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hide(canvas: np.ndarray, look: shapes.Look, **place: float) -> object:
        return draw(canvas.copy() if "opacity" in place else canvas, look, **place)  # what moves is drawn with one

    draw = shapes.draw
    scenes = {seed: render_scene(name, seed) for seed in range(3)}
    monkeypatch.setattr(shapes, "draw", hide)
    for seed, scene in scenes.items():
        without = render_scene(name, seed)
        assert np.array_equal(without.masks, scene.masks)
        assert np.array_equal(render_clip(name, seed)[0], without.frames)  # a clip is its scene's frames
        difference = np.abs(scene.frames.astype(np.int16) - without.frames).max(axis=-1)
        # A twentieth of the object's colour over the ground's is 12 levels at most; 1 is for rounding.
        assert difference[~scene.masks].max() <= 0.05 * 255 + 1
        assert (difference[scene.masks] > 0).mean() > 0.97, seed  # a pattern's second colour may be the ground's somewhere
        shown = scene.masks.any(axis=(1, 2))
        assert shown.all() == (name not in ("appears", "disappears"))
        assert shown[0] == (name != "appears")
        assert shown[-1] == (name != "disappears")


def test_masks_are_the_labels_colour() -> None:
    for name in ("red disc moves left", "blue cross moves right"):
        for seed in range(3):
            scene = render_scene(name, seed, label_set="both")
            colour = coloured(scene.frames, name.split()[0])
            assert scene.masks.shape == scene.frames.shape[:3]
            assert scene.masks[colour].all()
            assert colour.sum() > 0.85 * scene.masks.sum()  # the rest are soft edges


def test_unknown_classes_and_sets_are_answered_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(DualPathError, match="label set motion has no class 'red disc'; its classes are appears, circles"):
        render_clip("red disc", 0)
    with pytest.raises(DualPathError, match="label set both has no class 'red disc'; its classes are blue cross moves left"):
        render_clip("red disc", 0, label_set="both")
    for use in (
        lambda: render_clip("moves up", 0, label_set="looks"),
        lambda: render_folder(tmp_path / "clips", {"train": 1}, label_set="looks"),
    ):
        with pytest.raises(DualPathError, match="no label set 'looks'; the label sets are motion, appearance, both"):
            use()
    assert not (tmp_path / "clips").exists()


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


def test_render_folder_draws_the_label_set_asked_for(tmp_path: Path) -> None:
    render_folder(tmp_path, {"train": 1}, seed=2, workers=1, label_set="both")
    classes = LABEL_SETS["both"].classes
    assert sorted(file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*.mp4")) == [
        f"train/{name}/00000.mp4" for name in classes
    ]
    for label, name in enumerate(classes):
        frames, _ = render_clip(name, (2, 0, label, 0), label_set="both")
        clip = read_frames(tmp_path / "train" / name / "00000.mp4", range(len(frames)))
        assert distances(clip.frames.permute(0, 2, 3, 1).numpy(), frames).diagonal().max() < 8, name
