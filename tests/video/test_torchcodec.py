"""The second decoder gives the same frames; where it is missing, one sentence says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dualpath.errors import DualPathError, VideoError
from dualpath.video.decode import check_decoder, probe, read_frames
from dualpath.video.decoding import torchcodec
from videos import read_numbers, write_video

CLOSED = {"g": "10", "x264-params": "bframes=3:b-adapt=0:scenecut=0"}
KINDS = {
    "plain.mp4": {"options": CLOSED},
    "edited.mov": {"options": CLOSED, "first_pts": -7},
    "uneven.mkv": {"options": CLOSED, "times_ms": [0, 10, 30, 31, 90, 400, 1000, 1010, *range(2000, 2022)]},
    "turned.mp4": {"options": CLOSED, "rotation": 90},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"bf": "2"}},
    "raw.h264": {"options": CLOSED},
}


@pytest.fixture
def usable() -> None:
    missing = torchcodec.what_is_missing()
    if missing:
        pytest.skip(missing)


@pytest.mark.usefixtures("usable")
@pytest.mark.parametrize("name", KINDS)
def test_both_decoders_give_the_same_frames(name: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / name, 30, **KINDS[name])  # pyright: ignore[reportArgumentType]
    count = probe(path).num_frames
    wanted = [count - 1, 3, 3, 17]
    one, other = read_frames(path, wanted), read_frames(path, wanted, decoder="torchcodec")
    assert read_numbers(other.frames) == read_numbers(one.frames)
    np.testing.assert_allclose(other.times, one.times, atol=1e-9)
    assert (one.frames.int() - other.frames.int()).abs().max() <= 2  # FFmpeg's versions may round otherwise
    assert read_numbers(read_frames(path, wanted, decoder="torchcodec", short_side=24).frames) == read_numbers(one.frames)
    with pytest.raises(VideoError, match=f"only {count} frames could be decoded, but frame {count} "):
        read_frames(path, [count], decoder="torchcodec")


def test_a_decoder_that_cannot_be_used_is_told_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", 3)
    failures = {"is not installed; pip install": ImportError(), "finds no FFmpeg": RuntimeError("Could not load libtorchcodec")}
    for said, failure in failures.items():
        torchcodec.what_is_missing.cache_clear()

        def fail(name: str, problem: Exception = failure) -> None:
            raise problem

        with monkeypatch.context() as patched:
            patched.setattr(torchcodec, "import_module", fail)
            with pytest.raises(DualPathError, match=said):
                check_decoder("torchcodec")
            with pytest.raises(DualPathError, match=r"^the decoder torchcodec .* or take --decoder pyav"):
                read_frames(path, [0], decoder="torchcodec")
    torchcodec.what_is_missing.cache_clear()
    with pytest.raises(DualPathError, match="decoder is 'decord', but it must be one of pyav, torchcodec"):
        check_decoder("decord")
    check_decoder("pyav")
