"""One pass sees all of a file, and what it shares with `probe` is the same."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from test_decode import B_FRAMES, FAST_VP9, KINDS

from dualpath.errors import VideoError
from dualpath.video.decode import probe
from dualpath.video.inspect import Inspection, inspect, look_hash
from videos import paint, read_number, write_video

VFR = [0, 10, 100, 130, 400, 1000, 1010, 2500]
MORE: dict[str, dict[str, Any]] = {
    "vfr.mp4": {"times_ms": VFR, "options": B_FRAMES},
    "edit.mp4": {"first_pts": -5, "options": {"bf": "0"}},
    "turned.mp4": {"rotation": 90, "width": 96, "height": 48},
    "upside-down.mp4": {"rotation": 180},
    "mirrored.mp4": {"mirrored": True},
    "sound.mp4": {"audio": True},
    "stream.ts": {"options": {"g": "5"}},
    "lossless.avi": {"codec": "ffv1", "pix_fmt": "bgr0"},
}


@pytest.mark.parametrize("name", [*KINDS, *MORE])
def test_it_agrees_with_probe(name: str, tmp_path: Path) -> None:
    how: dict[str, Any] = (KINDS | MORE)[name]
    path = write_video(tmp_path / name, len(VFR) if name == "vfr.mp4" else 30, **how)
    found, told = inspect(path), probe(path)
    assert {key: getattr(found, key) for key in asdict(told)} == asdict(told)
    assert (found.error, found.corrupt_frames, found.size_changes) == (None, 0, 0)
    asked = how.get("pix_fmt", "yuv420p")
    assert found.pixel_format == {"rgb8": "bgra", "yuva420p": "yuv420p", "gray": "yuv420p"}.get(asked, asked)
    assert found.bit_depth == (10 if asked.endswith("10le") else 8)
    assert found.alpha == (name in ("alpha.webm", "alpha.mov", "animated.gif"))
    assert found.variable == (name == "vfr.mp4")
    assert Inspection.from_json(json.loads(json.dumps(found.as_json()))) == found


@pytest.mark.parametrize("name", ["text.mp4", "gone.mp4", "short.mp4", "cut.mp4", "headless.mp4"])
def test_it_refuses_what_probe_refuses(name: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / "good.mp4", 60, options={"g": "10"}, container_options={"movflags": "faststart"})
    content = path.read_bytes()
    spoilt = {"text.mp4": b"hello", "short.mp4": content[:100], "cut.mp4": content[: len(content) * 6 // 10]}
    spoilt["headless.mp4"] = b"\0" * 300 + content[300:]
    if name in spoilt:
        (tmp_path / name).write_bytes(spoilt[name])
    with pytest.raises(VideoError) as ours:
        inspect(tmp_path / name)
    with pytest.raises(VideoError) as theirs:
        probe(tmp_path / name)
    assert ours.value.reason == theirs.value.reason


def test_steps_of_time(tmp_path: Path) -> None:
    varied = inspect(write_video(tmp_path / "v.mp4", 8, times_ms=VFR))
    assert (varied.smallest_step, varied.largest_step, varied.variable) == (pytest.approx(0.01), pytest.approx(1.49), True)
    even = inspect(write_video(tmp_path / "e.mkv", 9, fps=30))  # ticks of a millisecond: steps of 33 and 34
    assert (even.smallest_step, even.largest_step, even.variable) == (pytest.approx(0.033), pytest.approx(0.034), False)
    single = inspect(write_video(tmp_path / "s.mp4", 1))
    assert (single.num_frames, single.smallest_step, single.largest_step, single.variable) == (1, None, None, False)


def test_key_frames_and_what_the_header_claims(tmp_path: Path) -> None:
    found = inspect(write_video(tmp_path / "g.mp4", 30, options={"g": "12", "sc_threshold": "0"}))
    assert (found.keyframe_distance, found.listed_frames) == (12, 30)
    webm = inspect(write_video(tmp_path / "g.webm", 9, codec="libvpx-vp9", options=FAST_VP9))
    assert (webm.keyframe_distance, webm.listed_frames) == (9, 0)
    assert inspect(write_video(tmp_path / "e.mp4", 30, first_pts=-5, options={"bf": "0"})).listed_frames == 30


def test_damage_midway_is_told_with_its_place(tmp_path: Path) -> None:
    path = write_video(tmp_path / "d.mp4", 30, codec="mpeg4", options={"g": "1"})
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    at, size = places[20]
    content[at : at + size] = bytes(size)
    path.write_bytes(content)
    found = inspect(path)
    assert (found.num_frames, found.listed_frames, found.error) == (20, 30, "Invalid data found when processing input")
    assert found.content != inspect(write_video(tmp_path / "w.mp4", 30, codec="mpeg4", options={"g": "1"})).content


def test_a_size_that_changes_midway(tmp_path: Path) -> None:
    parts = [write_video(tmp_path / f"{n}.ts", 5, width=64 * n, height=48 * n, options={"bf": "0"}) for n in (1, 2)]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    found = inspect(joined)
    assert (found.num_frames, found.size_changes, found.width) == (10, 1, 64)


def test_hdr(tmp_path: Path) -> None:
    plain = write_video(tmp_path / "p.mp4", 3, pix_fmt="yuv420p10le")
    bright = write_video(tmp_path / "h.mp4", 3, pix_fmt="yuv420p10le", options={"x264-params": "transfer=smpte2084"})
    assert (inspect(plain).hdr, inspect(bright).hdr) == (False, True)


def test_the_content_is_what_counts_for_a_copy(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 12)
    with av.open(str(path)) as source, av.open(str(tmp_path / "renamed.mkv"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    sound = inspect(write_video(tmp_path / "sound.mp4", 12, audio=True))
    first, second = inspect(path), inspect(tmp_path / "renamed.mkv")
    assert first.content == second.content == sound.content
    assert len(first.content) == 32
    assert inspect(write_video(tmp_path / "other.mp4", 13)).content != first.content


def test_a_copy_that_was_encoded_again_looks_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def scene() -> list[np.ndarray]:
        base = np.kron(rng.integers(0, 256, (6, 8, 3)), np.ones((16, 16, 1))).astype(np.uint8)
        return [np.roll(base, 4 * step, axis=1) for step in range(20)]

    def bits(one: Inspection, other: Inspection) -> int:
        return (int(one.look, 16) ^ int(other.look, 16)).bit_count()

    pictures = scene()
    first = inspect(write_video(tmp_path / "a.mp4", pictures))
    again = inspect(write_video(tmp_path / "b.avi", pictures, codec="mpeg4", options={"qscale": "8", "flags": "+qscale"}))
    smaller = inspect(write_video(tmp_path / "c.mp4", [picture[::2, ::2].copy() for picture in pictures]))
    other = inspect(write_video(tmp_path / "d.mp4", scene()))
    assert first.content != again.content
    assert max(bits(first, again), bits(first, smaller)) <= 11
    assert bits(first, other) > 40
    flat = tuple(np.full((9, 9, 3), grey, np.uint8) for grey in (0, 128, 255))
    assert look_hash(flat) == ""


def test_thumbnails_are_upright_and_small(tmp_path: Path) -> None:
    found = inspect(write_video(tmp_path / "t.mp4", 30, rotation=90, width=256, height=192))
    assert [picture.shape for picture in found.thumbnails] == [(72, 96, 3)] * 3
    numbers = [read_number(torch.from_numpy(picture).permute(2, 0, 1)) for picture in found.thumbnails]
    assert numbers == sorted(numbers)
    assert all(abs(number - place) <= 2 for number, place in zip(numbers, (5, 15, 25), strict=True))
    assert replace(found, thumbnails=()) == found  # they are for people
    tiny = inspect(write_video(tmp_path / "w.avi", [np.zeros((2, 900, 3), np.uint8)], codec="ffv1", pix_fmt="bgr0"))
    assert tiny.thumbnails[0].shape == (1, 96, 3)


def test_a_folder_of_pictures_is_a_video_too(tmp_path: Path) -> None:
    def folder(name: str, numbers: range, size: int = 48) -> Path:
        (tmp_path / name).mkdir(exist_ok=True)
        for number in numbers:
            Image.fromarray(paint(number, width=64, height=size)).save(tmp_path / name / f"img_{number:05}.png")
        return tmp_path / name

    path = folder("v", range(6))
    found, told = inspect(path), probe(path)
    assert {key: getattr(found, key) for key in asdict(told)} == asdict(told)
    assert (found.num_frames, found.listed_frames, found.error, found.size_changes) == (6, 6, None, 0)
    assert [picture.shape for picture in found.thumbnails] == [(48, 64, 3)] * 3
    np.testing.assert_array_equal(found.thumbnails[1], paint(3, width=64, height=48))
    assert found.content == inspect(folder("copy", range(6))).content != inspect(folder("other", range(7))).content
    assert inspect(folder("v", range(6, 8), size=50)).size_changes == 1
    (path / "img_00004.png").write_bytes(b"no picture")
    spoilt = inspect(path)
    assert (spoilt.num_frames, spoilt.listed_frames) == (4, 8)
    assert spoilt.error is not None
    assert spoilt.error.startswith("its frame img_00004.png cannot be read as a picture")
