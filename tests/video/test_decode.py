"""Frame i is frame i, whatever the container does; and broken files say what is wrong with them."""

from __future__ import annotations

import io
import os
import pickle
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

import videos
from dualpath.data.checking.records import Record
from dualpath.data.scan import decode_all, take
from dualpath.errors import VideoError
from dualpath.video import decode
from dualpath.video import inspect as inspecting
from dualpath.video.decode import probe, read_frames
from dualpath.video.decoding import places, reading
from dualpath.video.decoding.places import check_time, within
from dualpath.video.encode import EncodeConfig, reencode
from dualpath.video.inspect import inspect
from videos import paint, read_number, read_numbers, write_video

B_FRAMES = {"bf": "3", "g": "12", "b_strategy": "0"}
FAST_VP9 = {"deadline": "realtime", "cpu-used": "8"}

KINDS = {
    "b-frames.mp4": {"options": B_FRAMES},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"bf": "2"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": FAST_VP9},
    "vp8.webm": {"codec": "libvpx", "options": FAST_VP9},
    "ten-bit.mp4": {"pix_fmt": "yuv420p10le"},
    "odd-444.mp4": {"pix_fmt": "yuv444p", "width": 65, "height": 49},
    "odd-420.webm": {"codec": "libvpx-vp9", "options": FAST_VP9, "width": 65, "height": 49},
    "gray.mp4": {"pix_fmt": "gray"},
    "alpha.webm": {"codec": "libvpx-vp9", "options": FAST_VP9, "pix_fmt": "yuva420p"},
    "tall.mkv": {"width": 48, "height": 96},
    "stream.ts": {"options": B_FRAMES},  # no index, and its clock starts at 1.4 s
    "raw.h264": {"options": B_FRAMES},  # neither times nor a count
    "hdr.mp4": {
        "pix_fmt": "yuv420p10le",
        "options": {"x264-params": "colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:log=-1"},
    },
    "odd-ten-bit-444.mkv": {"pix_fmt": "yuv444p10le", "width": 65, "height": 49},
    "alpha.mov": {"codec": "png", "pix_fmt": "rgba"},
    "animated.gif": {"codec": "gif", "pix_fmt": "rgb8"},
    "placeholder.avi": {"codec": "mpeg4", "options": {"flags": "+bitexact"}, "placeholder_after": 1},
}


@pytest.mark.parametrize("name", KINDS)
def test_frame_i_is_frame_i(name: str, tmp_path: Path) -> None:
    how = KINDS[name]
    path = write_video(tmp_path / name, 30, **how)  # pyright: ignore[reportArgumentType]
    info = probe(path)
    assert (info.num_frames, info.width, info.height) == (30, how.get("width", 64), how.get("height", 48))
    assert info.fps == pytest.approx(25, rel=1e-3)
    clip = read_frames(path, range(30))
    assert read_numbers(clip.frames) == list(range(30))
    assert clip.frames.is_contiguous(memory_format=torch.channels_last)
    if name != "placeholder.avi":  # its times have a hole where the placeholder stood
        assert info.duration == (None if name == "raw.h264" else pytest.approx(1.2, abs=0.002))
        np.testing.assert_allclose(clip.times, np.arange(30) / 25, atol=0.001)
    some = read_frames(path, [29, 3, 3, 17])
    assert read_numbers(some.frames) == [29, 3, 3, 17]
    np.testing.assert_array_equal(some.times, clip.times[[29, 3, 3, 17]])
    with pytest.raises(VideoError, match=r"only 30 frames could be decoded, but frame 30 \(counted from 0\)"):
        read_frames(path, [0, 30])


def test_the_files_above_are_as_awkward_as_they_claim(tmp_path: Path) -> None:
    path = write_video(tmp_path / "b.mp4", 30, options=B_FRAMES)
    with av.open(str(path)) as container:
        order = [packet.pts for packet in container.demux(video=0) if packet.pts is not None]
    assert order != sorted(order)
    path = write_video(tmp_path / "p.avi", 30, **KINDS["placeholder.avi"])  # pyright: ignore[reportArgumentType]
    with av.open(str(path)) as container:
        assert sum(packet.size > 0 for packet in container.demux(video=0)) == 31


def test_hidden_vp8_frames_are_not_counted(tmp_path: Path) -> None:
    plain = write_video(tmp_path / "plain.webm", 20, codec="libvpx", options=FAST_VP9)
    path = tmp_path / "hidden.webm"
    with av.open(str(plain)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(p for p in source.demux(video=0) if p.size):
            content = bytearray(bytes(packet))
            content[0] &= 0xEF if number == 7 else 0xFF  # show_frame off: RFC 6386, 9.1
            copy = av.Packet(bytes(content))
            copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
            copy.is_keyframe, copy.stream = packet.is_keyframe, stream
            target.mux(copy)
    assert probe(path).num_frames == 19
    assert read_numbers(read_frames(path, range(19)).frames) == [n for n in range(20) if n != 7]


COMMENT = b"!\xfe\x07comment\0"
APPLICATION = b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0"


@pytest.mark.parametrize("behind", [COMMENT, APPLICATION, COMMENT + APPLICATION])
def test_packets_without_a_picture_are_not_counted_by_any_verb(behind: bytes, tmp_path: Path) -> None:
    path = write_video(tmp_path / "animated.gif", 5, codec="gif", pix_fmt="rgb8")
    content = path.read_bytes()
    assert content[-1:] == b";"
    path.write_bytes(content[:-1] + behind + b";")
    with av.open(str(path)) as container:
        assert sum(packet.size > 0 for packet in container.demux(video=0)) == 6
    assert probe(path).num_frames == inspect(path).num_frames == decode_all(path) == 5
    assert read_numbers(read_frames(path, range(5)).frames) == list(range(5))


def test_a_full_check_counts_and_refuses_as_a_data_check_does(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 30, options={"g": "10", "bf": "0"})
    assert decode_all(path) == 30
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        hit = [packet for packet in container.demux(video=0) if packet.size][20]
    assert hit.pos is not None
    content[hit.pos : hit.pos + hit.size] = b"\xff" * hit.size
    path.write_bytes(content)
    record = Record("a.mp4", (0, 0), None, inspect(path))
    with pytest.raises(VideoError, match="breaks off: only 20 of 30 frames could be decoded") as caught:
        decode_all(path)
    assert caught.value.reason == record.bad


def test_variable_frame_rate_keeps_every_frame_and_its_time(tmp_path: Path) -> None:
    times = [0, 10, 100, 130, 400, 1000, 1010, 2500]
    path = write_video(tmp_path / "vfr.mp4", 8, times_ms=times, options=B_FRAMES)
    clip = read_frames(path, range(8))
    assert read_numbers(clip.frames) == list(range(8))
    np.testing.assert_allclose(clip.times, np.array(times) / 1000, atol=1e-9)
    assert probe(path).num_frames == 8


def test_edit_list_hides_frames_from_count_and_clip(tmp_path: Path) -> None:
    path = write_video(tmp_path / "edit.mp4", 30, first_pts=-5, options={"bf": "0"})
    info = probe(path)
    assert (info.num_frames, info.duration) == (25, pytest.approx(1.0))
    clip = read_frames(path, range(25))
    assert read_numbers(clip.frames) == list(range(5, 30))
    assert clip.times[0] == 0


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_rotated_files_come_out_upright(rotation: int, tmp_path: Path) -> None:
    path = write_video(tmp_path / "turned.mp4", 5, rotation=rotation, width=128, height=72)
    info = probe(path)
    assert (info.rotation, info.width, info.height) == (rotation, 128, 72)
    clip = read_frames(path, range(5))
    assert clip.frames.shape == (5, 3, 72, 128)
    assert read_numbers(clip.frames) == [0, 1, 2, 3, 4]
    small = read_frames(path, [4], short_side=36).frames
    assert small.shape == (1, 3, 36, 64)
    assert read_number(small[0]) == 4


@pytest.mark.parametrize(("asked", "turned"), [(45, 0), (30, 0), (60, 90), (100, 90), (-170, 180), (-80, 270)])
def test_other_turns_become_the_nearest_quarter_turn(asked: int, turned: int, tmp_path: Path) -> None:
    plain, path = write_video(tmp_path / "plain.mp4", 3), tmp_path / "tilted.mp4"
    with av.open(str(plain)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        stream.set_display_rotation(-asked)
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = stream
                new.mux(packet)
    assert probe(path).rotation == turned
    wanted = torch.rot90(read_frames(plain, range(3)).frames, -turned // 90, (2, 3))
    assert torch.equal(read_frames(path, range(3)).frames, wanted)


def _mpeg2(path: Path, pictures: list[np.ndarray], *, interlaced: bool) -> Path:
    """Writes yuv420p pictures, (3 H / 2, W), nearly without loss."""
    options = {"flags": "+ildct+ilme" if interlaced else "+qscale", "qmin": "1", "qmax": "1", "b": "50M"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = pictures[0].shape[0] * 2 // 3, pictures[0].shape[1], "yuv420p"
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_the_fields_of_an_interlaced_picture_have_colours_of_their_own(tmp_path: Path) -> None:
    chroma = np.full((48, 64), 128, np.uint8)
    chroma[0::2] = 208  # of the lines of the upper field
    picture = np.concatenate([np.full(96 * 128, 110, np.uint8), np.full(48 * 64, 128, np.uint8), chroma.reshape(-1)])
    path = _mpeg2(tmp_path / "fields.mpg", [picture.reshape(144, 128)] * 3, interlaced=True)
    red = read_frames(path, [1]).frames[0, 0].float().mean(dim=1)
    grey = 1.164 * (110 - 16)
    assert (red[0::2] - (grey + 1.596 * 80)).abs().max() < 8
    assert (red[1::2] - grey).abs().max() < 8


def test_interlaced_pictures_are_scaled_as_whole_pictures(tmp_path: Path) -> None:
    rows, columns = np.mgrid[0:144, 0:192]
    luma = (128 + 90 * np.sin(columns / 9) * np.cos(rows / 5)).astype(np.uint8)
    picture = np.concatenate([luma.reshape(-1), np.full(72 * 96 * 2, 128, np.uint8)]).reshape(216, 192)
    plain = _mpeg2(tmp_path / "plain.mpg", [picture] * 3, interlaced=False)
    path = _mpeg2(tmp_path / "fields.mpg", [picture] * 3, interlaced=True)
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).interlaced_frame
    for read in (lambda of: read_frames(of, [1], short_side=80).frames, lambda of: prepared(of, tmp_path)):
        assert (read(path).float() - read(plain).float()).abs().mean() < 1.5


def prepared(path: Path, folder: Path) -> torch.Tensor:
    reencode(path, folder / "again.mp4", config=EncodeConfig(short_side=80, crf=1))
    return read_frames(folder / "again.mp4", [1]).frames


def test_mirrored_files_come_out_upright(tmp_path: Path) -> None:
    path = write_video(tmp_path / "mirrored.mp4", 5, mirrored=True)
    assert read_numbers(read_frames(path, range(5)).frames) == [0, 1, 2, 3, 4]


STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How an upright picture lies in a file by the orientation that its EXIF tells."""


@pytest.mark.parametrize("orientation", STORED)
def test_side_data_that_pyav_has_no_name_for_hides_no_orientation(orientation: int, tmp_path: Path) -> None:
    how, path = STORED[orientation], tmp_path / "camera.mov"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        for number in range(3):
            upright = Image.fromarray(paint(number))
            stored = upright if how is None else upright.transpose(how)
            if number == 0:
                stream.width, stream.height, stream.pix_fmt = *stored.size, "yuvj420p"
            exif, content = Image.Exif(), io.BytesIO()
            exif[0x0112] = orientation
            stored.save(content, "JPEG", exif=exif)  # FFmpeg makes an EXIF side data of it, beside the matrix
            packet = av.Packet(content.getvalue())
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 25)
            container.mux(packet)
    info = probe(path)
    assert (info.num_frames, info.width, info.height) == (3, 64, 48)
    assert read_numbers(read_frames(path, range(3)).frames) == [0, 1, 2]
    assert inspect(path).num_frames == 3


SPATIAL = Path(__file__).resolve().parents[3] / "shared/data/odd2/water_180_mvhevc_5frames.mov"


@pytest.mark.skipif(not SPATIAL.is_file(), reason="needs a spatial video of Apple's, which lies outside the repository")
def test_spatial_video_is_its_base_view() -> None:
    assert probe(SPATIAL).num_frames == inspect(SPATIAL).num_frames == 5
    assert read_frames(SPATIAL, range(5), short_side=64).frames.shape == (5, 3, 71, 64)


@pytest.mark.parametrize("kind", [KeyError, RuntimeError, MemoryError, AttributeError])
def test_whatever_a_library_raises_is_the_files_own_error(
    kind: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.mp4", 3)

    def fail(*_: object) -> None:
        raise kind("no such thing")

    for module in (decode, inspecting, reading):
        for name in ("orientation", "to_rgb"):
            monkeypatch.setattr(module, name, fail, raising=False)
    for attempt in (lambda: probe(path), lambda: read_frames(path, [0]), lambda: inspect(path)):
        with pytest.raises(VideoError, match=f"cannot be read as a video: .*{kind.__name__}.*no such thing"):
            attempt()


def test_short_side_only_shrinks_and_keeps_the_aspect(tmp_path: Path) -> None:
    path = write_video(tmp_path / "large.mp4", 3, width=322, height=180)
    assert read_frames(path, [2], short_side=64).frames.shape == (1, 3, 64, 114)  # 322 * 64 / 180 = 114.5, to even
    assert read_frames(path, [2], short_side=500).frames.shape == (1, 3, 180, 322)
    assert read_numbers(read_frames(path, [2, 0], short_side=24).frames) == [2, 0]


def test_scaling_down_averages_instead_of_picking_pixels(tmp_path: Path) -> None:
    checker = np.indices((96, 96)).sum(axis=0) % 2 * 255
    picture = np.repeat(checker.astype(np.uint8)[..., None], 3, axis=2)
    path = write_video(tmp_path / "fine.avi", [picture], codec="ffv1", pix_fmt="bgr0")
    exact = read_frames(path, [0]).frames[0]
    np.testing.assert_array_equal(exact.permute(1, 2, 0).numpy(), picture)
    small = read_frames(path, [0], short_side=24).frames.float()
    assert small.min() > 110
    assert small.max() < 145


def test_colours_are_rgb_in_this_order(tmp_path: Path) -> None:
    red = np.zeros((48, 64, 3), np.uint8)
    red[..., 0] = 220
    path = write_video(tmp_path / "red.mp4", [red] * 3)
    means = read_frames(path, [1]).frames.float().mean(dim=(0, 2, 3))
    np.testing.assert_allclose(means.numpy(), [220, 0, 0], atol=6)


def test_size_that_changes_midway_is_brought_to_the_first_one(tmp_path: Path) -> None:
    parts = io.BytesIO()
    for width, height in ((64, 48), (128, 96)):
        part = write_video(tmp_path / f"{width}.h264", 4, width=width, height=height)
        parts.write(part.read_bytes())
    path = tmp_path / "both.h264"
    path.write_bytes(parts.getvalue())
    assert probe(path).num_frames == 8
    clip = read_frames(path, range(8))
    assert clip.frames.shape == (8, 3, 48, 64)
    assert read_numbers(clip.frames) == [0, 1, 2, 3, 0, 1, 2, 3]


def test_alpha_is_dropped_as_ffmpeg_does(tmp_path: Path) -> None:
    path = tmp_path / "clear.mov"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgba"
        picture = np.full((48, 64, 4), (200, 30, 40, 0), np.uint8)  # red, and wholly transparent
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgba")))
        container.mux(stream.encode(None))
    np.testing.assert_array_equal(read_frames(path, [0]).frames[0, :, 0, 0].numpy(), [200, 30, 40])


def test_hdr_is_converted_by_its_own_matrix_without_tone_mapping(tmp_path: Path) -> None:
    tags = "colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:log=-1"
    grey = np.full((48, 64, 3), 120, np.uint8)
    path = write_video(tmp_path / "hdr.mp4", [grey] * 2, pix_fmt="yuv420p10le", options={"x264-params": tags})
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).color_trc == 16  # PQ: ITU-T H.273, table 3
    pixels = read_frames(path, [1]).frames.float()
    assert (pixels - 120).abs().max() <= 3  # a tone mapping would have changed the grey


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name", ["few.mp4", "few.webm", "few.avi", "few.h264"])
def test_one_and_two_frames(name: str, count: int, tmp_path: Path) -> None:
    codec = {"few.webm": "libvpx-vp9", "few.avi": "mpeg4"}.get(name, "libx264")
    path = write_video(tmp_path / name, count, codec=codec, options=FAST_VP9 if codec == "libvpx-vp9" else {})
    assert probe(path).num_frames == count
    clip = read_frames(path, range(count))
    assert read_numbers(clip.frames) == list(range(count))
    np.testing.assert_allclose(clip.times, np.arange(count) / 25, atol=0.001)


def test_one_frame_sound_and_lying_header(tmp_path: Path) -> None:
    info = probe(write_video(tmp_path / "one.mp4", 1, audio=True))
    assert (info.num_frames, info.duration, info.has_audio, info.codec) == (1, pytest.approx(0.04), True, "h264")
    assert not probe(write_video(tmp_path / "mute.mp4", 2)).has_audio
    path = write_video(tmp_path / "liar.avi", 30, codec="mpeg4")
    content = path.read_bytes()
    start = content.index(b"strh") + 8 + 32  # dwLength of the AVI stream header: frames
    assert int.from_bytes(content[start : start + 4], "little") == 30
    path.write_bytes(content[:start] + (60).to_bytes(4, "little") + content[start + 4 :])
    assert probe(path).num_frames == 30  # all bytes are there: the header is wrong, the file is not truncated


def test_truncated_file_is_named_as_such(tmp_path: Path) -> None:
    original = write_video(tmp_path / "whole.mp4", 200, container_options={"movflags": "faststart"})
    with av.open(str(original)) as container:
        ends = [(packet.pos or 0) + packet.size for packet in container.demux(video=0) if packet.size]
    whole, path = original.read_bytes(), tmp_path / "cut.mp4"
    path.write_bytes(whole[: ends[120] - 3])
    with pytest.raises(VideoError, match="is truncated: its index lists 200 frames but only 120 can be read"):
        probe(path)
    assert read_numbers(read_frames(path, [0, 99]).frames) == [0, 99]
    with pytest.raises(VideoError, match=r"only 1\d\d frames could be decoded, but frame 199"):
        read_frames(path, [199])
    path.write_bytes(whole[: ends[0] - 3])
    with pytest.raises(VideoError, match="its index lists 200 frames but none can be read"):
        probe(path)
    path.write_bytes(whole[:-40])  # only the last picture suffers: usable, and counted right
    count = probe(path).num_frames
    assert 197 <= count < 200
    assert read_numbers(read_frames(path, [count - 1]).frames) == [count - 1]


def _silence(path: Path) -> None:
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(16000))


BROKEN = {
    "missing.mp4": (lambda path: None, "there is no such file"),
    "folder.mp4": (Path.mkdir, "is a folder without numbered pictures, no video"),
    "pipe.mp4": (os.mkfifo, "is no file but a named pipe"),
    "nowhere.mp4": (lambda path: path.symlink_to("gone"), "is a link to a file that is not there"),
    "empty.mp4": (Path.touch, r"is empty \(0 bytes\)"),
    "text.mp4": (lambda path: path.write_text("Zürich " * 100), "is not a video but a text file"),
    "pointer.mp4": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:2a\nsize 3\n"),
        "Git LFS pointer",
    ),
    "sound.mp4": (_silence, "holds no video, only audio"),
    "noise.mp4": (
        lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)),
        "cannot be read as a video: damaged",
    ),
    "playlist.mp4": (lambda path: path.write_text("#EXTM3U\nhttp://localhost/a.ts\n"), "is not a video but a text"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_say_why(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make, sentence = BROKEN[name]
    path = tmp_path / name
    make(path)
    for attempt in (lambda: probe(path), lambda: read_frames(path, [0])):
        with pytest.raises(VideoError, match=sentence) as caught:
            attempt()
        assert caught.value.path == str(path)
        assert pickle.loads(pickle.dumps(caught.value)).reason == caught.value.reason
    assert capfd.readouterr().err == ""


LISTS = {
    "concat.mp4": b"ffconcat version 1.0\n#\x01\nfile clip.mp4\n",
    "relative.m3u8": b"#EXTM3U\n#\x01\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfolder/../clip.ts\n#EXT-X-ENDLIST\n",
    "endless.m3u8": b"#EXTM3U\n#\x01\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nclip.ts\n",
    "session.mp4": b"v=0\r\ns=\x01\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 5004 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n",
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_other_files_are_not_followed_whatever_they_call_themselves(name: str, tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", 3)
    write_video(tmp_path / "clip.ts", 3)
    (tmp_path / "folder").mkdir()
    path = tmp_path / name
    path.write_bytes(LISTS[name])
    for attempt in (lambda: probe(path), lambda: read_frames(path, [0]), lambda: inspect(path)):
        with pytest.raises(VideoError, match="is no video in a form that is read here: a list of other files, or damaged"):
            attempt()


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "pictures"])
def test_reading_ends_when_its_time_is_over(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "pictures":
        path.mkdir()
        for number in range(3):
            Image.fromarray(paint(number)).save(path / f"{number}.png")
    else:
        write_video(path, 3, codec="libx264" if name == "a.mp4" else "mpeg4")
    for attempt in (lambda: probe(path), lambda: read_frames(path, [0]), lambda: inspect(path)):
        attempt()
        with pytest.raises(VideoError, match="took longer than 0 s to read"), within(path, 0.0):
            attempt()


def test_large_files_are_given_more_time(tmp_path: Path) -> None:
    path = tmp_path / "large.mp4"
    with path.open("wb") as file:
        file.truncate(3_000_000)
    with within(path, 1.0), within(tmp_path / "gone.mp4", -9.0), pytest.raises(VideoError, match="took longer than -9 s"):
        check_time()
    with within(path, -6.5), pytest.raises(VideoError, match=r"took longer than -0\.5 s"):
        check_time()
    with within(path, -5.5):
        check_time()


def test_damage_midway_spoils_only_what_lies_behind_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write_video(tmp_path / "hit.mp4", 60, options={"g": "10", "bf": "0"})
    with av.open(str(path)) as container:
        hit = [packet for packet in container.demux(video=0) if packet.size][40]
        position, size = hit.pos, hit.size
    assert position is not None
    content = bytearray(path.read_bytes())
    content[position : position + size] = b"\xff" * size
    path.write_bytes(content)
    assert probe(path).num_frames == 60
    assert read_numbers(read_frames(path, range(40)).frames) == list(range(40))
    with pytest.raises(VideoError, match="only 40 frames could be decoded, but frame 59"):
        read_frames(path, [59])
    assert capfd.readouterr().err == ""


@pytest.fixture
def hit(tmp_path: Path) -> Path:
    """60 frames, a key frame every 10, of which packet 40 is spoilt."""
    return videos.hit(write_video(tmp_path / "hit.mp4", 60, options={"g": "10", "bf": "0"}), 40)


def test_what_can_be_decoded_of_a_damaged_file_is_taken_where_it_is_asked_for(hit: Path) -> None:
    info, seen, told = probe(hit, damaged="take"), inspect(hit, damaged="take"), take(hit)
    assert 50 <= info.num_frames < 60
    assert info.num_frames == seen.num_frames == told.num_frames
    assert info.damage == seen.damage == told.damage
    assert info.damage is not None
    assert info.damage.startswith("is damaged: decoding failed ")
    assert seen.broken is None
    frames = read_frames(hit, range(info.num_frames), damaged="take").frames
    assert read_numbers(frames[:40]) == list(range(40))
    assert read_numbers(frames[-10:]) == list(range(50, 60))
    with pytest.raises(VideoError, match=f"only {info.num_frames} frames could be decoded"):
        read_frames(hit, [info.num_frames], damaged="take")
    with pytest.raises(VideoError, match="only 40 frames could be decoded"):
        read_frames(hit, [45])


def test_a_whole_file_is_the_same_where_damaged_ones_are_taken(tmp_path: Path) -> None:
    path = write_video(tmp_path / "whole.mp4", 30, options=B_FRAMES)
    assert probe(path, damaged="take") == probe(path)
    assert inspect(path, damaged="take") == inspect(path)
    wanted, found = read_frames(path, [29, 3, 3]), read_frames(path, [29, 3, 3], damaged="take")
    assert torch.equal(found.frames, wanted.frames)
    np.testing.assert_array_equal(found.times, wanted.times)


def test_a_truncated_file_may_be_taken_too(tmp_path: Path) -> None:
    path = write_video(tmp_path / "cut.mp4", 200, container_options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(VideoError, match="is truncated"):
        probe(path)
    info = probe(path, damaged="take")
    assert 50 < info.num_frames < 190
    assert info.damage is not None
    assert "its index lists 200 frames but only" in info.damage
    assert inspect(path, damaged="take").num_frames == info.num_frames


def test_requests_that_make_no_sense(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 3)
    for indices in ([], [0, -1]):
        with pytest.raises(ValueError, match="at least one is needed and all must be 0 or more"):
            read_frames(path, indices)
    with pytest.raises(ValueError, match="short_side 0 given"):
        read_frames(path, [0], short_side=0)


def test_names_with_colons_dashes_and_percents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = write_video(tmp_path / "a.mp4", 3).read_bytes()
    for name in ("http:clip.mp4", "-i.mp4", "100%d.mp4", "déjà vu.mp4"):
        Path(name).write_bytes(content)
        assert read_numbers(read_frames(name, [2]).frames) == [2]
        assert probe(name).num_frames == 3


def test_metadata_that_is_not_utf8_does_no_harm(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.avi"), "w") as container:
        container.metadata["title"] = "TITLETITLE"
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(paint(7), format="rgb24")))
        container.mux(stream.encode(None))
    path = tmp_path / "latin.avi"
    path.write_bytes((tmp_path / "a.avi").read_bytes().replace(b"TITLETITLE", b"\xe9t\xe9\xff\xfe12345"))
    assert probe(path).num_frames == 1
    assert read_number(read_frames(path, [0]).frames[0]) == 7


def test_a_demuxer_that_runs_on_within_one_call_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "SECONDS_A_MEGABYTE", 0.0)
    path = write_video(tmp_path / "long.avi", 5, codec="mpeg4")
    os.truncate(path, 10**10)  # all zeros, without a place on the disk: two minutes to look through for the next packet
    for read in (probe, take, lambda path: read_frames(path, [9])):
        with pytest.raises(VideoError, match=r"took longer than 0\.2 s to read"), within(path, 0.2):
            read(path)


def test_no_file_stays_open(tmp_path: Path) -> None:
    good = write_video(tmp_path / "good.mp4", 5)
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(good.read_bytes()[:600])
    probe(good)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 (Path.iterdir opens one itself)
    for _ in range(50):
        read_frames(good, [1])
        for path, index in ((good, 99), (bad, 0)):
            with pytest.raises(VideoError):
                read_frames(path, [index])
        with pytest.raises(VideoError):
            probe(bad)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
