"""A folder of numbered pictures is a video."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dualpath.errors import VideoError
from dualpath.video.decode import probe, read_frames
from videos import paint, read_numbers


def _folder(path: Path, names: dict[str, int], **size: int) -> Path:
    path.mkdir()
    for name, number in names.items():
        Image.fromarray(paint(number, **size)).save(path / name)
    return path


def test_frames_are_the_pictures_by_number(tmp_path: Path) -> None:
    names = {f"img_{number}.jpg": number for number in (1, 2, 3, 7, 9, 10, 11, 100)}
    path = _folder(tmp_path / "v", names)
    (path / "Thumbs.db").write_bytes(b"x")
    (path / "notes 3.txt").write_text("x")
    _folder(path / "sub", {"img_00001.jpg": 0})
    for axis in "xy":
        Image.fromarray(paint(0)).save(path / f"flow_{axis}_00001.jpg")
    info = probe(path)
    assert (info.num_frames, info.width, info.height, info.fps, info.duration, info.codec) == (8, 64, 48, None, None, "jpg")
    clip = read_frames(path, range(8))
    assert read_numbers(clip.frames) == [1, 2, 3, 7, 9, 10, 11, 100]
    assert np.isnan(clip.times).all()
    assert read_numbers(read_frames(path, [7, 0, 0], short_side=24).frames) == [100, 1, 1]


@pytest.mark.parametrize("suffix", ["png", "webp", "JPG"])
def test_every_kind_of_picture_is_read_and_exactly(suffix: str, tmp_path: Path) -> None:
    path = _folder(tmp_path / "v", {f"{number:05}.{suffix}": number for number in range(5)}, width=65, height=49)
    clip = read_frames(path, range(5))
    assert clip.frames.shape == (5, 3, 49, 65)
    assert read_numbers(clip.frames) == list(range(5))
    if suffix == "png":
        np.testing.assert_array_equal(clip.frames[3].permute(1, 2, 0).numpy(), paint(3, width=65, height=49))


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = _folder(tmp_path / "v", {f"{number:05}.jpg": number for number in range(5)})
    (path / "00003.jpg").write_bytes((path / "00003.jpg").read_bytes()[:100])
    assert read_numbers(read_frames(path, [0, 4]).frames) == [0, 4]
    with pytest.raises(VideoError, match=r"its frame 00003\.jpg cannot be read as a picture"):
        read_frames(path, range(5))
    with pytest.raises(VideoError, match=r"holds only 5 frames, but frame 5 \(counted from 0\) was asked for"):
        read_frames(path, [5])
    with pytest.raises(VideoError, match="holds frame 1 twice"):
        probe(_folder(tmp_path / "twice", {"1.jpg": 1, "01.jpg": 1}))
    with pytest.raises(VideoError, match="holds several kinds of pictures"):
        probe(_folder(tmp_path / "kinds", {"a1.jpg": 1, "b1.jpg": 1}))
