"""What an explanation shows: colours that mean the same everywhere, every map under its own time, arrays and words."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dualpath.engine.explanation import Explanation, PathMap
from dualpath.errors import DualPathError
from dualpath.report.canvas import Canvas
from dualpath.report.maps import explanation as files
from dualpath.report.maps.description import describe, fullest, predicted_and_explained
from dualpath.report.maps.explanation import FILES, as_arrays, write_explanation
from dualpath.report.maps.heat import TOP, heat_picture, place, scale_bar, smooth, soft_heat
from dualpath.report.maps.overlay import overlay_pictures, play_times, write_overlay
from dualpath.report.maps.sheet import EMPTY, NARROWEST, WIDEST, Layout, sheet_canvas
from dualpath.video.decode import probe, read_frames

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# Of frames: far from grey, and from the scale's colours.
COLOURS = [(0, 90 + 10 * n, 255 - 12 * n) for n in range(14)]


def flat(*heats: float, path: str = "temporal", cells: int = 2) -> PathMap:
    """A map that is the same everywhere in a frame; the heats' mean must be 1."""
    shares = np.array(heats, np.float32)[:, None, None] * np.ones((1, cells, cells), np.float32)
    return PathMap(path, tuple(range(len(heats))), shares / np.float32(shares.size))


def peak(count: int, frame: int, row: int, column: int, *, frames: tuple[int, ...] | None = None) -> PathMap:
    """All of a map in one of 4x4 cells of the frame at place `frame`."""
    shares = np.zeros((count, 4, 4), np.float32)
    shares[frame, row, column] = 1
    return PathMap("temporal" if frames is None else "spatial", frames or tuple(range(count)), shares)


def made(*paths: PathMap, count: int, times: Any = None, colour: Any = None, side: int = 32, **changes: Any) -> Explanation:
    told: dict[str, Any] = {
        "video": "somewhere/clip.mp4",
        "classes": ("moves left", "moves right", "appears"),
        "scores": np.array([0.7, 0.2, 0.1], np.float32),
        "label": "moves left",
        "kind": "relevance",
        "block": None,
        "clip": np.stack([np.full((side, side, 3), colour or COLOURS[n % len(COLOURS)], np.uint8) for n in range(count)]),
        "indices": np.arange(count, dtype=np.int64) * 3,
        "times": np.arange(count) / 8 if times is None else np.array(times, np.float64),
    }
    return Explanation(paths=paths, **(told | changes))


def hot(pixels: np.ndarray) -> np.ndarray:
    """Where the hottest colour is: bool (H, W)."""
    red, green, blue = pixels.astype(int).transpose(2, 0, 1)
    return (red > 200) & (green > 200) & (blue < 190)


# --- colours


def test_the_scale_is_logarithmic_and_ends() -> None:
    heat = np.array([0.0, 1.0, 2.0, 5.0, 10.0, 11.0, 1000.0])
    assert place(heat) == pytest.approx([0, 0.28906, 0.45816, 0.74722, 1, 1, 1], abs=1e-4)
    assert TOP == 10


def test_the_same_heat_has_the_same_colour_in_every_explanation() -> None:
    grey = (128, 128, 128)
    first = made(flat(0.5, 1.5), count=2, colour=grey)
    second = made(flat(1.5, 0.1, 0.4, 2.0, cells=4), count=4, colour=grey)
    third = made(
        flat(1.5, 0.5, path="spatial"), flat(0.5, 1.5, cells=8), count=2, colour=grey, scores=np.float32([0.1, 0.9, 0])
    )
    seen = []
    for one, frame, row in ((first, 1, 1), (second, 0, 1), (third, 0, 1), (third, 1, 2)):
        layout = Layout(len(one.clip), len(one.paths))
        side = layout.side
        left, top = layout.left(frame), layout.top(frame, row)
        region = sheet_canvas(one).pixels()[top : top + side, left : left + side]
        assert np.ptp(region.reshape(-1, 3), axis=0).max() == 0
        seen.append(region[0, 0].tolist())
    assert seen == [seen[0]] * 4
    # It is the colour that the legend has there.
    bar = scale_bar(1000, 2)
    assert bar[0, round(float(place(np.array([1.5]))[0]) * 999)] == pytest.approx(seen[0], abs=1)


def test_hotter_is_brighter_and_more_opaque_and_nothing_stays_as_it_is() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    pictures = [heat_picture(noise, np.full((2, 2), heat, np.float32)).astype(float) for heat in (0, 1, 2, 5, 10)]
    brightness = [picture.mean() for picture in pictures[1:]]
    assert brightness == sorted(brightness)
    contrast = [picture.std(axis=(0, 1)).max() for picture in pictures]
    assert contrast == sorted(contrast, reverse=True)
    assert np.ptp(pictures[0], axis=-1).max() == 0  # no heat, no colour
    assert contrast[0] == pytest.approx(0.5 * (noise @ np.array([0.299, 0.587, 0.114])).std(), rel=0.02)


def test_no_heat_leaves_a_frame_when_its_map_is_drawn_larger() -> None:
    cells = np.random.default_rng(1).random((3, 4)).astype(np.float32) ** 4
    for heat in (cells, np.float32([[9, 0, 0], [0, 0, 0], [0, 0, 0]])):
        assert smooth(heat, 48).mean() == pytest.approx(heat.mean(), rel=1e-5)
    assert smooth(np.float32([[9, 0], [0, 0]]), 8)[:2, :2].tolist() == [[9, 9], [9, 9]]  # the edge's cell runs on to it


def test_maps_finer_than_tokens_become_slopes_between_the_tokens_middles() -> None:
    tokens = np.float32([[[1, 5, 2, 0], [0, 3, 1, 1]], [[0, 0, 2, 4], [7, 0, 0, 0]]])  # 2 frames, 2 rows, 4 columns
    fine = tokens.repeat(6, axis=1).repeat(4, axis=2)
    path = PathMap("temporal", (0, 1), fine / fine.sum(), token=(6, 4))
    found = soft_heat(path)
    middles, places = (np.arange(2) * 6 + 3, np.arange(4) * 4 + 2), (np.arange(12) + 0.5, np.arange(16) + 0.5)
    wanted = np.stack([
        [np.interp(places[0], middles[0], [np.interp(x, middles[1], row) for row in frame]) for x in places[1]]
        for frame in tokens
    ]).transpose(0, 2, 1)  # fmt: skip
    assert found == pytest.approx(wanted * fine.size / fine.sum(), abs=1e-4)
    assert found.mean(axis=(1, 2)) == pytest.approx(path.heat.mean(axis=(1, 2)), rel=1e-5)
    whole = PathMap("spatial", (0, 1), tokens / tokens.sum())
    assert soft_heat(whole) == pytest.approx(whole.heat, rel=1e-6)


# --- the sheet


@pytest.mark.parametrize("count", [1, 4, 8, 10, 11, 16, 24, 25, 32, 64])
def test_the_sheet_has_room_for_every_clip(count: int) -> None:
    layout = Layout(count, 2)
    assert NARROWEST <= layout.width <= WIDEST
    assert layout.side >= 60
    boxes = [(layout.left(n), layout.top(n, row)) for n in range(count) for row in range(3)]
    assert len(set(boxes)) == len(boxes)
    assert max(left for left, _ in boxes) + layout.side <= layout.width - 20
    assert max(top for _, top in boxes) + layout.side <= layout.height - 40
    for n in range(1, count):  # time runs like text
        assert layout.left(n) > layout.left(n - 1) or layout.top(n, 0) > layout.top(n - 1, 2) + layout.side


@pytest.mark.parametrize("count", [1, 8, 10, 16, 64])
def test_no_words_of_the_sheet_run_together(count: int) -> None:
    long = "a class whose name goes on and on, as those of Something-Something do, " * 3
    paths = [flat(*[1.0] * count, path=name) for name in ("spatial", "temporal")]
    one = made(*paths, count=count, times=3725 + np.arange(count) / 8, classes=(long, "b", "c"), label=long)
    canvas = sheet_canvas(replace(one, video="x" * 300 + ".mp4"))
    boxes = [text.get_window_extent() for text in canvas.figure.texts]
    assert all(box.x0 >= 0 and box.x1 <= canvas.width for box in boxes)
    near = [box.padded(3) for box in boxes]
    words = [text.get_text() for text in canvas.figure.texts]
    rows = [(a.y0 + a.y1) / 2 for a in boxes]
    for i in range(len(near)):
        for j in range(i):
            beside = abs(rows[i] - rows[j]) < 6
            assert not (beside and near[i].overlaps(near[j])), (words[i], words[j])


@pytest.mark.parametrize(("frame", "row", "column"), [(0, 0, 0), (6, 1, 3), (10, 3, 2)])
def test_a_hot_cell_lies_below_its_own_frame_at_its_own_place(frame: int, row: int, column: int) -> None:
    looked = (1, 5, 9)
    explanation = made(flat(1, 1, 1, path="spatial"), peak(12, frame, row, column), count=12)
    explanation = made(PathMap("spatial", looked, explanation.paths[0].shares), explanation.paths[1], count=12)
    pixels = sheet_canvas(explanation).pixels()
    places = {n: np.argwhere((pixels == COLOURS[n]).all(axis=-1)) for n in range(12)}  # of the clip's own frames
    boxes = {n: (*found.min(axis=0), *(found.max(axis=0) + 1)) for n, found in places.items()}
    top, left, bottom, right = boxes[frame]
    side = bottom - top
    body = pixels[boxes[0][0] :]  # below the legend
    found = np.argwhere(hot(body)) + np.array([boxes[0][0], 0])
    y, x = found.mean(axis=0)
    assert left <= found[:, 1].min()
    assert found[:, 1].max() < right
    assert (x - left) / side == pytest.approx((column + 0.5) / 4, abs=0.06)
    # Two rows below: the spatial path's, then its own.
    place = (y - Layout(12, 2).top(frame, 2)) / side
    assert place == pytest.approx((row + 0.5) / 4, abs=0.06)
    assert Layout(12, 2).top(frame, 2) > bottom + side
    empty = tuple(int(EMPTY[i : i + 2], 16) for i in (1, 3, 5))
    for n in range(12):
        middle = pixels[Layout(12, 2).top(n, 1) + side // 2, boxes[n][1] + side // 2]
        assert (tuple(middle.tolist()) == empty) == (n not in looked)


def test_bars_are_as_long_as_the_frames_shares() -> None:
    pixels = sheet_canvas(made(flat(0.2, 0.8, 2.0), count=3)).pixels()
    layout = Layout(3, 1)
    lengths = []
    for n in range(3):
        left = layout.left(n)
        line = pixels[layout.top(n, 1) + layout.side + 3, left : left + layout.side]
        lengths.append(int((line == (0x00, 0x63, 0x9B)).all(axis=-1).sum()))
    assert lengths == [round(layout.side * part) for part in (0.1, 0.4, 1)]


@pytest.mark.parametrize("name", ["a $x_1$ b", "手を振る", "two\nlines", "bad \udcff name", "word " * 60, "<b>&amp;"])
def test_any_name_can_be_written(name: str) -> None:
    explanation = made(flat(1, path="spatial"), flat(1, 1), count=2, video=name, classes=(name, "b", "c"), label=name)
    plain = made(flat(1, path="spatial"), flat(1, 1), count=2, video="", classes=("", "b", "c"), label="")
    for draw in (lambda one: sheet_canvas(one).pixels(), lambda one: next(overlay_pictures(one))):
        pixels, without = draw(explanation), draw(plain)
        assert pixels.shape == without.shape
        assert (pixels != without).any()
    layout = Layout(2, 2)
    pixels = sheet_canvas(explanation).pixels()
    assert (pixels[20:100, layout.width - 28 :] > 200).all()  # nothing runs over the edge
    assert json.loads(json.dumps(files.as_json(explanation)))["video"] == name
    with np.load(io.BytesIO(as_arrays(explanation)), allow_pickle=False) as arrays:
        assert str(arrays["label"]) == name


def test_empty_maps_are_told_and_drawn() -> None:
    explanation = made(PathMap("temporal", (0, 1), np.zeros((2, 4, 4), np.float32)), count=2)
    assert describe(explanation).endswith("The temporal path's map is empty.")
    assert not hot(sheet_canvas(explanation).pixels()[110:]).any()
    assert len(list(overlay_pictures(explanation))) == 2


# --- the video


@pytest.mark.parametrize(
    ("times", "shown", "last"),
    [
        ([0.5, 0.6, 1.5, 1.6, 3.0], [0, 0.1, 1.0, 1.1, 2.5], 0.5),  # the median step
        ([math.nan] * 5, [0, 0.25, 0.5, 0.75, 1], 0.25),
        ([0.0, 0.2, 0.4, 0.4, 0.4], [0, 0.2, 0.4, 0.6, 0.8], 0.2),  # a short video's last frame is there again
        ([7.0] * 5, [0, 0.25, 0.5, 0.75, 1], 0.25),
    ],
)
def test_the_video_shows_every_frame_at_its_time(tmp_path: Path, times: list[float], shown: list[float], last: float) -> None:
    explanation = made(peak(2, 1, 0, 0, frames=(0, 4)), peak(5, 2, 3, 3), count=5, times=times)
    if times == [0.5, 0.6, 1.5, 1.6, 3.0]:
        assert play_times(explanation.times)[1] == pytest.approx(0.5)
    write_overlay(tmp_path / "overlay.mp4", explanation)
    info = probe(tmp_path / "overlay.mp4")
    assert (info.num_frames, info.codec, info.width % 2, info.height % 2) == (5, "h264", 0, 0)
    assert info.duration == pytest.approx(shown[-1] + last, abs=1e-3)
    clip = read_frames(tmp_path / "overlay.mp4", range(5))
    assert clip.times == pytest.approx(shown, abs=1e-4)
    pictures = clip.frames.permute(0, 2, 3, 1).numpy()
    for number, picture in enumerate(pictures):  # the frame itself stands at the left
        assert np.abs(picture[130, 130].astype(int) - COLOURS[number]).max() < 12
    assert [p.name for p in tmp_path.iterdir()] == ["overlay.mp4"]


def test_each_path_shows_its_nearest_frame_and_marks_its_own() -> None:
    times = [0.0, 0.7, 0.8, 0.9, 1.0]
    pictures = list(overlay_pictures(made(peak(2, 1, 0, 0, frames=(0, 4)), peak(5, 2, 3, 3), count=5, times=times)))
    side, gap, head = 224, 16, 34
    marked, spatial, temporal = [], [], []
    for picture in pictures:
        left = 16 + side + gap
        marked.append(picture[head + side // 2, left - 2].tolist() == [0x00, 0x63, 0x9B])
        spatial.append(bool(hot(picture[head : head + side, left : left + side]).any()))
        temporal.append(bool(hot(picture[head : head + side, left + side + gap : left + 2 * side + gap]).any()))
    assert marked == [True, False, False, False, True]
    assert spatial == [False, True, True, True, True]  # nearest in time, not in number
    assert temporal == [False, False, True, False, False]
    middle = pictures[2][head + side * 7 // 8, 16 + 2 * (side + gap) + side * 7 // 8]
    assert middle.tolist() == pytest.approx((224, 227, 152), abs=12)


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
def test_the_video_plays_in_a_browser(tmp_path: Path) -> None:
    write_overlay(tmp_path / "overlay.mp4", made(peak(4, 0, 0, 0), count=4))
    data = base64.b64encode((tmp_path / "overlay.mp4").read_bytes()).decode()
    # The page counts as loaded when the video's first picture is there.
    script = """window.onload = () => {
        const video = document.querySelector("video"), canvas = document.createElement("canvas");
        canvas.width = video.videoWidth; canvas.height = video.videoHeight;
        const context = canvas.getContext("2d"); context.drawImage(video, 0, 0);
        const colour = context.getImageData(100, 100, 1, 1).data;
        document.querySelector("pre").textContent = [video.readyState, video.videoWidth, video.videoHeight,
            video.duration.toFixed(2), ...colour].join(" ");
    };"""
    page = f'<video muted preload="auto" src="data:video/mp4;base64,{data}"></video><pre></pre><script>{script}</script>'
    (tmp_path / "page.html").write_text(page)
    line = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    line += ["--dump-dom", (tmp_path / "page.html").as_uri()]
    told = subprocess.run(line, capture_output=True, text=True, timeout=60, check=True).stdout
    said = re.search(r"<pre>(.*)</pre>", told)
    assert said
    state, width, height, duration, *colour = map(float, said[1].split())
    assert state >= 2  # HAVE_CURRENT_DATA: a picture is there
    assert (width, height, duration) == (2 * 16 + 2 * 224 + 16, 400, 0.5)
    assert colour[:3] == pytest.approx(COLOURS[0], abs=12)


# --- arrays, words, folder


def test_arrays_hold_the_maps_with_their_times() -> None:
    explanation = made(peak(2, 1, 0, 3, frames=(1, 4)), peak(6, 2, 3, 0), count=6, kind="attention", block=2)
    with np.load(io.BytesIO(as_arrays(explanation)), allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in arrays}
    assert all(value.dtype.hasobject is False for value in found.values())
    for path in explanation.paths:
        assert np.array_equal(found[f"{path.path}_shares"], path.shares)
    assert found["spatial_frames"].tolist() == [1, 4]
    assert found["spatial_indices"].tolist() == [3, 12]
    assert found["spatial_times"].tolist() == [0.125, 0.5]
    assert found["temporal_indices"].tolist() == found["indices"].tolist() == [0, 3, 6, 9, 12, 15]
    assert np.array_equal(found["times"], explanation.times)
    assert dict(zip(found["classes"].tolist(), found["scores"].tolist(), strict=True))["moves right"] == pytest.approx(0.2)
    assert (str(found["label"]), str(found["kind"]), int(found["block"])) == ("moves left", "attention", 2)
    with np.load(io.BytesIO(as_arrays(made(flat(1), count=1))), allow_pickle=False) as arrays:
        assert int(arrays["block"]) == -1


@pytest.mark.parametrize(
    ("shares", "wanted"),
    [
        ([0.1, 0.2, 0.4, 0.3], (2, 3)),
        ([0.6, 0.1, 0.1, 0.2], (0, 0)),
        ([0.3, 0.1, 0.1, 0.1, 0.4], (3, 4)),
        ([0.5, 0.0, 0.5], (0, 0)),
        ([1.0], (0, 0)),
    ],
)
def test_the_fewest_neighbours_that_hold_half(shares: list[float], wanted: tuple[int, int]) -> None:
    assert fullest(np.array(shares)) == wanted


def test_the_words_say_which_frames_and_where() -> None:
    shares = np.full((16, 4, 4), 0.28 / (11 * 16), np.float32)
    shares[4:9] = 0
    shares[4:9, 3, 0] = 0.72 / 5  # frames 5 to 9, lower left
    spatial = peak(4, 1, 1, 2, frames=(2, 6, 10, 14))
    words = describe(made(spatial, PathMap("temporal", tuple(range(16)), shares), count=16))
    said = (
        "The video is taken for “moves left” with a score of 0.70. "
        "100 % of the spatial path's map lies on frame 7 (at 0.75 s); its centre is at the upper right. "
        "58 % of the temporal path's map lies on frames 5 to 8 (0.50 to 0.88 s); its centre is at the lower left."
    )
    assert words == said
    told = made(flat(1, 1, 1, 1), count=4, label="appears", times=[math.nan] * 4)
    assert describe(told) == (
        "The video is taken for “moves left” with a score of 0.70; the maps are for “appears”, which has 0.10. The temporal "
        "path's map lies on all of its 4 frames about alike, at most 25 % on frame 1; it is spread over the whole picture."
    )
    two = np.zeros((4, 4, 4), np.float32)
    two[1:3, 0, 1:3] = 0.25
    assert describe(made(PathMap("spatial", (0, 3, 6, 9), two), count=10)).endswith(
        "50 % of the spatial path's map lies on frame 4 (at 0.38 s); its centre is at the top."
    )
    two[3, 0, 3] = 0.25
    assert describe(made(PathMap("spatial", (0, 3, 6, 9), two), count=10)).endswith(
        "80 % of the spatial path's map lies on frames 4 and 7 (0.38 to 0.75 s); its centre is at the top."
    )


def test_the_heading_says_what_the_maps_speak_of() -> None:
    assert predicted_and_explained(made(flat(1), count=1, label="appears")) == (
        "predicted “moves left”, score 0.70",
        "explained “appears”, score 0.10: what speaks for it (relevance)",
    )
    assert predicted_and_explained(made(flat(1), count=1, kind="attention", block=3))[1] == (
        "attention in block 3, the same for every class"
    )
    assert predicted_and_explained(made(flat(1), count=1, kind="attention"))[1].startswith("attention in the last block")
    assert "appears" not in describe(made(flat(1), count=1, kind="rollout", label="appears"))


@pytest.mark.parametrize("name", ["up", "x" * 80, "手を振る" * 20, "a “quoted” name " * 5])
def test_a_long_name_does_not_hide_what_stands_behind_it(name: str) -> None:
    canvas = Canvas(1000, 100)
    words = f"explained “{name}”, score 0.13: what speaks for it (relevance)"
    told = canvas.shortened_name(words, 560, size=14)
    assert told.startswith("explained “")
    assert told.endswith("”, score 0.13: what speaks for it (relevance)")
    assert canvas.shortened(told, 560, size=14) == told  # it fits
    assert (told == words) == (name == "up")
    assert canvas.shortened_name("no name " * 40, 200, size=14).startswith("no name")


def test_a_folder_with_everything(tmp_path: Path) -> None:
    explanation = made(peak(2, 1, 0, 0, frames=(0, 2)), flat(0.5, 1.5, 1), count=3, times=[math.nan] * 3)
    told = write_explanation(tmp_path / "new/out", explanation, command="dualpath explain a b")
    assert sorted(p.name for p in (tmp_path / "new/out").iterdir()) == sorted(FILES)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["out"]

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    words = json.loads((tmp_path / "new/out/explanation.json").read_text(), parse_constant=refuse)
    assert words == told
    assert words["paths"]["spatial"]["frames"] == [
        {"frame": 0, "index": 0, "time": None, "share": 0.0},
        {"frame": 2, "index": 6, "time": None, "share": 1.0},
    ]
    assert [frame["share"] for frame in words["paths"]["temporal"]["frames"]] == pytest.approx([1 / 6, 1 / 2, 1 / 3])
    assert words["paths"]["temporal"]["cells"] == [2, 2]
    assert words["scores"]["moves right"] == pytest.approx(0.2)
    assert words["explained"] == {"label": "moves left", "score": pytest.approx(0.7)}
    assert words["command"] == "dualpath explain a b"
    with Image.open(tmp_path / "new/out/sheet.png") as sheet:
        assert np.array_equal(np.asarray(sheet), sheet_canvas(explanation).pixels())
    assert probe(tmp_path / "new/out/overlay.mp4").fps == pytest.approx(4)


def test_nothing_is_left_where_a_part_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, explanation: Explanation) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_overlay", fail)
    with pytest.raises(DualPathError, match=r"out could not be written \(No space left on device\)"):
        write_explanation(tmp_path / "out", made(flat(1), count=1))
    assert not list(tmp_path.iterdir())
