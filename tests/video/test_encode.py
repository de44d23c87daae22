"""Encoding once more: frame i stays frame i, at its time, upright; whole and checked, or nothing."""

import resource
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from dualpath.errors import DualPathError, VideoError
from dualpath.video.decode import probe, read_frames
from dualpath.video.decoding.bitstream import nal_length_size, nature
from dualpath.video.encode import EncodeConfig, Encoded, reencode
from dualpath.video.mp4 import OutputError
from videos import paint, read_numbers, write_video

SMALL = EncodeConfig(short_side=24, key_frame_distance=4)


def numbers(path: Path) -> list[int]:
    return read_numbers(read_frames(path, range(probe(path).num_frames)).frames)


def key_frames(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        return [i for i, packet in enumerate(p for p in container.demux(video=0) if p.size) if packet.is_keyframe]


def test_every_frame_keeps_its_number_and_its_time(tmp_path):
    times = [0, 40, 90, 91, 200, 1200, 1233, 1300, 1301, 1302, 1400]
    source = write_video(tmp_path / "source.mkv", 11, times_ms=times, audio=False, options={"bf": "2"})
    encoded = reencode(source, tmp_path / "target.mp4", config=SMALL)
    assert encoded == Encoded(11, 32, 24, (tmp_path / "target.mp4").stat().st_size)
    assert numbers(tmp_path / "target.mp4") == list(range(11))
    assert read_frames(tmp_path / "target.mp4", range(11)).times * 1000 == pytest.approx(times, abs=1e-6)
    assert key_frames(tmp_path / "target.mp4") == [0, 4, 8]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source.mkv", "target.mp4"]


def test_the_result_is_plain(tmp_path):
    """H.264, 4:2:0, no sound, the index first; pictures that no other needs, and groups are closed."""
    source = write_video(tmp_path / "source.mp4", 20, audio=True, options={"g": "250", "bf": "3"})
    reencode(source, tmp_path / "target.mp4", config=SMALL)
    info = probe(tmp_path / "target.mp4")
    assert (info.num_frames, info.fps, info.width, info.height) == (20, 25.0, 32, 24)
    assert (info.rotation, info.codec, info.has_audio) == (0, "h264", False)
    content = (tmp_path / "target.mp4").read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")
    with av.open(str(tmp_path / "target.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.pix_fmt == "yuv420p"
        length = nal_length_size("h264", stream.codec_context.extradata) or 0
        found = [(packet, nature(memoryview(packet), codec="h264", nal_length=length)) for packet in container.demux(stream)]
        found = [(packet.pts, packet.dts, told) for packet, told in found if told is not None and packet.size]
    assert [pts // 3600 for pts, _, _ in found] == [0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15, 16, 18, 17, 19]
    assert [dts // 3600 for _, dts, _ in found] == list(range(-1, 19))
    assert [pts // 3600 for pts, _, told in found if told.starts] == [0, 4, 8, 12, 16]
    assert [pts // 3600 for pts, _, told in found if told.needless] == [1, 5, 9, 13, 17]


@pytest.mark.parametrize(
    ("suffix", "codec", "how"),
    [
        (".mp4", "libx264", {"rotation": 90}),
        (".mp4", "libx264", {"rotation": 180}),
        (".mp4", "libx264", {"rotation": 270}),
        (".mp4", "libx264", {"mirrored": True}),
        (".mp4", "libx264", {"pix_fmt": "yuv420p10le"}),
        (".mp4", "libx264", {"pix_fmt": "yuv444p", "width": 69, "height": 51}),
        (".mp4", "libx264", {"first_pts": -5, "options": {"g": "3", "bf": "0"}}),
        (".avi", "mpeg4", {}),
        (".webm", "libvpx-vp9", {"options": {"cpu-used": "8", "deadline": "realtime"}}),
        (".mkv", "ffv1", {"pix_fmt": "bgr0", "width": 96, "height": 54}),
        (".gif", "gif", {"pix_fmt": "rgb8"}),
    ],
)
def test_what_comes_out_is_what_reading_gave(tmp_path, suffix, codec, how):
    source = write_video(tmp_path / f"source{suffix}", 12, codec=codec, **how)
    count = probe(source).num_frames
    reencode(source, tmp_path / "target.mp4", config=SMALL)
    before = read_frames(source, range(count), short_side=24)
    after = read_frames(tmp_path / "target.mp4", range(count))
    assert read_numbers(after.frames) == read_numbers(before.frames)
    assert len(set(read_numbers(after.frames))) == count
    assert after.times == pytest.approx(before.times, abs=2e-5)
    assert min(after.frames.shape[2:]) == 24
    assert max(after.frames.shape[2:]) % 2 == 0


@pytest.mark.parametrize("matrix", [1, 5])
@pytest.mark.parametrize("colour_range", [1, 2])
def test_colours_stay(tmp_path, matrix, colour_range):
    """The space and the range that a file names (BT.709 or 601, video or full) decide what its numbers mean."""
    path = tmp_path / "source.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, colour_range
        for colour in ((200, 30, 40), (20, 180, 60), (30, 50, 220), (5, 5, 5)):
            picture = np.full((48, 64, 3), colour, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    reencode(path, tmp_path / "target.mp4", config=EncodeConfig(short_side=24, crf=4))
    before = read_frames(path, range(4)).frames.float().mean((2, 3))
    after = read_frames(tmp_path / "target.mp4", range(4)).frames.float().mean((2, 3))
    assert (before - after).abs().max() < 2.5


def test_small_and_odd_pictures_are_not_blown_up(tmp_path):
    source = write_video(tmp_path / "source.mkv", 5, codec="ffv1", pix_fmt="yuv444p", width=35, height=27)
    encoded = reencode(source, tmp_path / "target.mp4", config=EncodeConfig())
    assert (encoded.width, encoded.height) == (34, 26)
    assert numbers(tmp_path / "target.mp4") == [0, 1, 2, 3, 4]


def test_a_stretch_of_a_video(tmp_path):
    source = write_video(tmp_path / "source.mp4", 20)
    assert reencode(source, tmp_path / "target.mp4", config=SMALL, start=5, end=12).num_frames == 7
    assert numbers(tmp_path / "target.mp4") == [5, 6, 7, 8, 9, 10, 11]
    assert read_frames(tmp_path / "target.mp4", [0, 6]).times == pytest.approx([0, 0.24])
    assert reencode(source, tmp_path / "target.mp4", config=SMALL, start=17, end=22).num_frames == 3  # copies lack the last
    with pytest.raises(VideoError, match="frames 5 to 23 are wanted, but it has 20"):
        reencode(source, tmp_path / "other.mp4", config=SMALL, start=5, end=23)


def test_a_folder_of_pictures(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(6):
        Image.fromarray(paint(number + 3, width=64, height=48)).save(folder / f"{number + 1:05d}.png")
    assert reencode(folder, tmp_path / "target.mp4", config=SMALL, start=1).num_frames == 5
    assert numbers(tmp_path / "target.mp4") == [4, 5, 6, 7, 8]


def test_a_damaged_source_leaves_nothing(tmp_path):
    source = write_video(tmp_path / "source.mp4", 40, options={"g": "8"})
    content = bytearray(source.read_bytes())
    at = content.index(b"mdat") + 400
    content[at : at + 3000] = bytes(3000)
    source.write_bytes(bytes(content))
    with pytest.raises(VideoError):
        reencode(source, tmp_path / "target.mp4", config=SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ["source.mp4"]


def test_a_wrong_picture_is_noticed(tmp_path, monkeypatch):
    source = write_video(tmp_path / "source.mp4", 5)
    monkeypatch.setattr("dualpath.video.encode._upright", lambda picture, turn: av.VideoFrame.from_ndarray(
        np.full((36, 32), 128, np.uint8), format="yuv420p"))  # fmt: skip
    with pytest.raises(VideoError, match=r"its first picture came out \d+ levels off"):
        reencode(source, tmp_path / "target.mp4", config=SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ["source.mp4"]


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="this system limits no file sizes")
@pytest.mark.parametrize("room", [100, "half of it", "all but the end"])
def test_a_disk_that_is_full_is_no_fault_of_the_source(tmp_path, room):
    """A limit on the size of files ends writing as a full disk does: at once, midway, and in the second pass."""
    noise = np.random.default_rng(0).integers(0, 255, (20, 48, 64, 3)).astype(np.uint8)
    source, target = write_video(tmp_path / "source.mp4", list(noise)), tmp_path / "out/target.mp4"
    target.parent.mkdir()
    config = EncodeConfig(short_side=48)
    size = reencode(source, target, config=config).size
    target.unlink()
    most = {"half of it": size // 2, "all but the end": size - 100}.get(room, 100)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        with pytest.raises(OutputError, match=r"out cannot be written to \(File too large\)"):
            reencode(source, target, config=config)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(target.parent.iterdir())


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(OutputError, match="none cannot be written to"):
        reencode(write_video(tmp_path / "source.mp4", 3), tmp_path / "none/target.mp4", config=SMALL)


@pytest.mark.parametrize("wrong", [{"short_side": 0}, {"short_side": 255}, {"key_frame_distance": 0}, {"crf": 52}, {"crf": -1}])
def test_settings_that_cannot_be(wrong):
    with pytest.raises(DualPathError, match=next(iter(wrong))):
        EncodeConfig(**wrong)


def test_painted_numbers_survive_the_default_quality(tmp_path):
    """The default settings on a picture that is larger than their short side."""
    source = write_video(tmp_path / "source.mp4", [paint(n, width=400, height=300) for n in (3, 250, 77)])
    encoded = reencode(source, tmp_path / "target.mp4", config=EncodeConfig())
    assert (encoded.width, encoded.height) == (340, 256)
    assert numbers(tmp_path / "target.mp4") == [3, 250, 77]
