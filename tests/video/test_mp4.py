"""Pictures to a video: each at its own time, in a file that a browser plays from its beginning."""

from pathlib import Path

import av
import numpy as np
import pytest

from dualpath.video.decode import probe, read_frames
from dualpath.video.mp4 import OutputError, Quality, write_pictures
from videos import paint, read_numbers


def test_every_picture_is_shown_at_its_time(tmp_path):
    times = np.array([3.0, 3.04, 3.5, 3.51, 7.25])  # a clip does not begin where its video does
    path = tmp_path / "out.mp4"
    write_pictures(path, (paint(number) for number in range(5)), times, last=0.75, quality=Quality(key_frame_distance=2))
    clip = read_frames(path, range(5))
    assert read_numbers(clip.frames) == [0, 1, 2, 3, 4]
    assert clip.times == pytest.approx(times - 3, abs=1e-4)
    info = probe(path)
    assert (info.num_frames, info.codec, info.width, info.height, info.has_audio) == (5, "h264", 64, 48, False)
    assert info.duration == pytest.approx(4.25 + 0.75, abs=1e-3)
    content = path.read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")
    with av.open(str(path)) as container:
        assert container.streams.video[0].pix_fmt == "yuv420p"
        found = [(packet.pts, packet.dts) for packet in container.demux(video=0) if packet.size]
    assert found == [(pts, pts) for pts, _ in found]  # shown in the order in which they are stored, from 0 on
    assert found[0][0] == 0
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


def test_colours_come_back(tmp_path):
    colours = [(252, 255, 164), (188, 55, 84), (40, 90, 200), (128, 128, 128)]
    pictures = [np.full((48, 64, 3), colour, np.uint8) for colour in colours]
    write_pictures(tmp_path / "out.mp4", pictures, np.arange(4.0), last=1.0, quality=Quality(crf=10))
    read = read_frames(tmp_path / "out.mp4", range(4)).frames.float().mean((2, 3)).numpy()
    assert np.abs(read - colours).max() < 4


def test_one_picture_is_a_video_too(tmp_path):
    write_pictures(tmp_path / "out.mp4", [paint(7)], np.array([np.pi]), last=0.25, quality=Quality())
    assert read_numbers(read_frames(tmp_path / "out.mp4", [0]).frames) == [7]
    assert probe(tmp_path / "out.mp4").duration == pytest.approx(0.25, abs=1e-3)


def test_a_picture_that_cannot_be_made_leaves_nothing(tmp_path):
    def pictures():
        yield paint(0)
        raise RuntimeError("no more paint")

    with pytest.raises(RuntimeError, match="no more paint"):
        write_pictures(tmp_path / "out.mp4", pictures(), np.arange(2.0), last=1.0, quality=Quality())
    assert not list(tmp_path.iterdir())
    with pytest.raises(OutputError, match="none cannot be written to"):
        write_pictures(Path(tmp_path / "none/out.mp4"), [paint(0)], np.zeros(1), last=1.0, quality=Quality())
