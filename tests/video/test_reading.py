"""Decoding only what is needed gives the pictures and times of decoding everything, bit for bit, in every kind of file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpath.video import decode
from dualpath.video.decode import probe, read_frames
from dualpath.video.decoding import reading
from videos import paint, read_numbers, write_video

COUNT = 40
OPEN = {"g": "10", "x264-params": "open-gop=1:bframes=3:b-pyramid=normal:scenecut=0"}
CLOSED = {"g": "10", "x264-params": "bframes=3:b-pyramid=normal:b-adapt=0:scenecut=0"}
HEVC = {"x265-params": "keyint=10:min-keyint=10:bframes=3:open-gop={}:log-level=none:pools=none:frame-threads=1"}
VP9 = {"g": "10", "deadline": "realtime", "cpu-used": "8"}
TIMES = np.cumsum([0, *np.random.default_rng(0).integers(1, 300, COUNT - 1)]).tolist()

LEAPING: dict[str, dict[str, Any]] = {
    "open.mp4": {"options": OPEN},
    "open.mkv": {"options": OPEN},
    "closed.mp4": {"options": CLOSED},
    "edited.mov": {"options": CLOSED, "first_pts": -7},
    "open-edited.mp4": {"options": OPEN, "first_pts": -13},
    "late.mp4": {"options": CLOSED, "first_pts": 50},
    "fragments.mp4": {"options": CLOSED, "container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "uneven.mp4": {"options": OPEN, "times_ms": TIMES},
    "uneven.mkv": {"options": CLOSED, "times_ms": TIMES},
    "turned.mp4": {"options": CLOSED, "rotation": 90},
    "refreshed.mp4": {"options": {"g": "10", "x264-params": "intra-refresh=1:bframes=0"}},
    "interlaced.mp4": {"options": {"g": "10", "x264-params": "interlaced=1:bframes=2"}},
    "ten-bit.mp4": {"options": CLOSED, "pix_fmt": "yuv420p10le"},
    "open-hevc.mp4": {"codec": "libx265", "options": {"x265-params": HEVC["x265-params"].format(1)}},
    "closed-hevc.mkv": {"codec": "libx265", "options": {"x265-params": HEVC["x265-params"].format(0)}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": VP9},
    "vp9.mp4": {"codec": "libvpx-vp9", "options": VP9, "times_ms": TIMES},
    "vp9-alpha.webm": {"codec": "libvpx-vp9", "options": VP9, "pix_fmt": "yuva420p"},
    "av1.mp4": {"codec": "libsvtav1", "options": {"g": "10", "preset": "12"}},
    "av1.mkv": {"codec": "libsvtav1", "options": {"g": "10", "preset": "12"}},
}
OTHERS: dict[str, dict[str, Any]] = {
    "mpeg4.mp4": {"codec": "mpeg4", "options": {"g": "10", "bf": "2"}},
    "h264.avi": {"options": {"g": "10", "bf": "0"}},
    "vp8.webm": {"codec": "libvpx", "options": VP9},
    "stream.ts": {"options": CLOSED},
    "raw.h264": {"options": CLOSED},
}


def pictures(count: int = COUNT) -> list[np.ndarray]:
    """Numbered pictures over a texture that moves: predicted blocks and residuals, as in real videos."""
    noise = np.random.default_rng(1).integers(-40, 40, (48 + count, 64, 1))
    return [np.clip(paint(k).astype(int) + noise[k : k + 48], 0, 255).astype(np.uint8) for k in range(count)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


def _written(folder: Path, name: str) -> Path:
    path = folder / name
    return path if path.exists() else write_video(path, pictures(), **{**LEAPING, **OTHERS}[name])


@pytest.mark.parametrize("name", [*LEAPING, *OTHERS])
def test_leaps_give_what_decoding_from_the_start_gives(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _written(folder, name)
    count = probe(path).num_frames
    every = read_frames(path, range(count), from_the_start=True)
    results = []
    plain = reading.by_leaps
    monkeypatch.setattr(decode, "by_leaps", lambda *a, **k: results.append(plain(*a, **k)) or results[-1])

    @settings(max_examples=12, deadline=None, database=None, derandomize=True)
    @given(st.lists(st.integers(0, count - 1), min_size=1, max_size=6))
    def check(indices: list[int]) -> None:
        some = read_frames(path, indices)
        assert torch.equal(some.frames, every.frames[indices])
        np.testing.assert_array_equal(some.times, every.times[indices])

    check()
    assert read_numbers(read_frames(path, range(count), short_side=24).frames) == read_numbers(every.frames)
    if name in OTHERS:
        assert not results
    else:
        assert len(results) > 12
        assert None not in results


def _entries(path: Path) -> list[Any] | None:
    with decode.opened(path) as (container, stream):
        read = reading.survey(container, stream)
        return None if read is None else read[0]


@pytest.mark.parametrize(
    ("name", "starts", "needless"),
    [
        ("closed.mp4", 4, True),
        ("open.mp4", 4, True),
        ("open-hevc.mp4", 4, True),
        ("closed-hevc.mkv", 4, True),
        ("vp9.webm", 4, False),
        ("av1.mp4", 4, False),
    ],
)
def test_the_files_above_have_places_to_leap_to(name: str, starts: int, needless: bool, folder: Path) -> None:
    entries = _entries(_written(folder, name))
    assert entries is not None
    assert sum(entry.starts for entry in entries) == starts
    assert any(entry.needless for entry in entries) == needless
    keys = [k for k, entry in enumerate(entries) if entry.starts]
    leading = any(entry.pts < entries[k].pts for k in keys for entry in entries[k:])
    assert leading == name.startswith("open")


def _copy(source: Path, target: Path, *, change: Any) -> Path:
    """Remuxes: `change` sees (number, packet) and may change the packet's marks, or give other bytes for it."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(p for p in old.demux(video=0) if p.size):
            content = change(number, packet)
            copy = packet if content is None else av.Packet(content)
            copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
            copy.is_keyframe, copy.stream = packet.is_keyframe, stream
            new.mux(copy)
    return target


def test_key_frame_marks_that_lie_are_not_believed(folder: Path) -> None:
    path = _written(folder, "refreshed.mp4")  # intra refresh: marked as key frames, but exact only a while later
    with av.open(str(path)) as container:
        marked = {k for k, packet in enumerate(p for p in container.demux(video=0) if p.size) if packet.is_keyframe}
    entries = _entries(path)
    assert entries is not None
    assert {10, 20, 30} <= marked - {k for k, entry in enumerate(entries) if entry.starts}


def test_packets_without_a_picture_and_new_parameters_are_not_leapt_over(folder: Path) -> None:
    original = _written(folder, "closed.mp4")
    assert _entries(original) is not None
    with av.open(str(original)) as container:
        extradata = container.streams.video[0].codec_context.extradata or b""
    length = int.from_bytes(extradata[6:8], "big")
    parameters = length.to_bytes(4, "big") + extradata[8 : 8 + length]
    again = _copy(original, folder / "again.mp4", change=lambda k, p: parameters + bytes(p) if k in (7, 20) else None)
    assert _entries(again) is None
    delimiter = b"\0\0\0\2\x09\xf0"
    hollow = _copy(original, folder / "hollow.mp4", change=lambda k, p: delimiter if k == 3 else None)
    assert _entries(hollow) is None
    broken = _copy(original, folder / "broken.mp4", change=lambda k, p: b"\xff" * len(bytes(p)) if k == 25 else None)
    assert _entries(broken) is None
    assert torch.equal(read_frames(again, [33]).frames, read_frames(original, [33], from_the_start=True).frames)


def test_a_picture_that_does_not_come_leads_back_to_the_start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _written(folder, "closed.mp4")
    right = read_frames(path, [5, 38], from_the_start=True)
    honest = reading.nature

    def lying(packet: memoryview, *, codec: str, nal_length: int) -> Any:
        found = honest(packet, codec=codec, nal_length=nal_length)
        assert found is not None
        return type(found)(1, starts=True, parameters=found.parameters)

    monkeypatch.setattr(reading, "nature", lying)
    assert torch.equal(read_frames(path, [5, 38]).frames, right.frames)


def test_packets_too_large_to_keep_are_read_twice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _written(folder, "open.mp4")
    right = read_frames(path, [38, 3, 21], from_the_start=True)
    monkeypatch.setattr(reading, "MOST_BYTES", 100)
    assert torch.equal(read_frames(path, [38, 3, 21]).frames, right.frames)


def test_damage_before_a_key_frame_is_met_only_from_the_start(folder: Path) -> None:
    original = _written(folder, "closed.mp4")
    right = read_frames(original, [35]).frames

    def spoil(number: int, packet: av.Packet) -> bytes | None:
        content = bytes(packet)
        return content[:5] + b"\xff" * (len(content) - 5) if number == 12 else None

    path = _copy(original, folder / "spoilt.mp4", change=spoil)
    assert torch.equal(read_frames(path, [35]).frames, right)
    with pytest.raises(decode.VideoError, match="could be decoded, but frame 35"):
        read_frames(path, [35], from_the_start=True)


def test_times_that_contradict_the_pictures_order_are_not_believed(folder: Path) -> None:
    original = _written(folder, "closed.mp4")
    path = folder / "shuffled.mkv"
    with av.open(str(original)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(p for p in old.demux(video=0) if p.size):
            if number in (12, 13) and packet.pts is not None:  # two b pictures change places
                packet.pts += 512 if number == 13 else -512
            packet.stream = stream
            new.mux(packet)
    every = read_frames(path, range(COUNT), from_the_start=True)
    assert torch.equal(read_frames(path, range(COUNT)).frames, every.frames)
    for index in [*range(10), *range(20, COUNT)]:  # where only times would tell, a leap believes them
        assert torch.equal(read_frames(path, [index]).frames[0], every.frames[index])
