"""Folders of frames: in order of their numbers, scaled as videos are, and what can be wrong with them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dualpath.errors import VideoError
from dualpath.video.decode import probe, read_frames
from dualpath.video.frame_folder import list_pictures
from videos import paint, read_numbers


def frames(folder: Path, numbers: range, *, name: str = "img_{:05d}.png", width: int = 64, height: int = 48) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        Image.fromarray(paint(number, width=width, height=height)).save(folder / name.format(number))
    return folder


def test_frames_in_order(tmp_path):
    folder = frames(tmp_path / "v", range(1, 13), name="{}.png")  # 10 comes after 9, not after 1
    info = probe(folder)
    assert (info.num_frames, info.width, info.height, info.codec, info.fps) == (12, 64, 48, "png", None)
    clip = read_frames(folder, [11, 0, 4, 4], short_side=24)
    assert clip.frames.shape == (4, 3, 24, 32)
    assert read_numbers(clip.frames) == [12, 1, 5, 5]
    assert np.isnan(clip.times).all()


def test_flow_beside_them_is_left_out(tmp_path):
    folder = frames(tmp_path / "v", range(3))
    for kind in ("flow_x", "flow_y"):
        frames(folder, range(3), name=kind + "_{:05d}.png")
    assert [path.name for path in list_pictures(folder)] == [f"img_{i:05d}.png" for i in range(3)]


def test_sizes_that_change(tmp_path):
    folder = frames(tmp_path / "v", range(2))
    frames(folder, range(2, 3), width=128, height=96)
    assert read_numbers(read_frames(folder, [0, 1, 2]).frames) == [0, 1, 2]


def test_what_is_wrong(tmp_path):
    folder = frames(tmp_path / "v", range(3))
    with pytest.raises(VideoError, match=r"holds only 3 frames, but frame 3 \(counted from 0\) was asked for"):
        read_frames(folder, [3])
    (folder / "img_00001.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(VideoError, match=r"its frame img_00001\.png cannot be read as a picture"):
        read_frames(folder, [1])
    frames(folder, range(1), name="other_{:05d}.png")
    with pytest.raises(VideoError, match=r"holds several kinds of pictures \(img_\.\.\., other_\.\.\.\); leave one"):
        probe(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(VideoError, match="is a folder without numbered pictures, no video"):
        probe(tmp_path / "empty")
    Image.fromarray(paint(0)).save(frames(tmp_path / "w", range(1)) / "img_00000.jpg")
    with pytest.raises(VideoError, match=r"holds frame 0 twice: img_00000\.jpg and img_00000\.png"):
        probe(tmp_path / "w")
