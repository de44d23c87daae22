"""Parts of files: the same frames as from a file of its own, and nothing beyond the part."""

import tarfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dualpath.errors import VideoError
from dualpath.video.decode import probe, read_frames
from dualpath.video.decoding.places import Place, find_place
from videos import read_numbers, write_video


@pytest.fixture(scope="module")
def shard(tmp_path_factory) -> dict[str, Path]:
    """Videos in a tar whose name is of the kind that FFmpeg would misread, by name as paths into it."""
    folder = tmp_path_factory.mktemp("a b")
    write_video(folder / "one.mp4", 6)
    write_video(folder / "two.avi", 9, codec="mpeg4")
    (folder / "text.mp4").write_text("not a video\n" * 9)
    (folder / "none.mp4").write_bytes(b"")
    path = folder / "x:y,,:z.tar"
    with tarfile.open(path, "w") as tar:
        for name in ("text.mp4", "one.mp4", "none.mp4", "two.avi"):
            tar.add(folder / name, name)
    with tarfile.open(path) as tar:
        return {member.name: Place(path, member.offset_data, member.size).spelled for member in tar}


@pytest.mark.parametrize(("name", "count"), [("one.mp4", 6), ("two.avi", 9)])
def test_frames_of_a_member(shard, name, count):
    path = shard[name]
    info = probe(path)
    assert info == probe(find_place(path).file.parent / name)
    assert info.num_frames == count
    assert read_numbers(read_frames(path, [count - 1, 0, 3]).frames) == [count - 1, 0, 3]


def test_the_other_decoder_reads_members_too(shard):
    pytest.importorskip("torchcodec", exc_type=(ImportError, RuntimeError))
    clip = read_frames(shard["one.mp4"], [5, 0, 3], decoder="torchcodec")
    assert read_numbers(clip.frames) == [5, 0, 3]
    assert torch.equal(clip.frames, read_frames(shard["one.mp4"], [5, 0, 3]).frames)


@pytest.mark.parametrize(("name", "reason"), [("text.mp4", "is not a video but a text file"), ("none.mp4", "is empty")])
def test_members_that_are_no_videos(shard, name, reason):
    with pytest.raises(VideoError, match=reason):
        probe(shard[name])


def test_a_tar_that_is_cut_off_or_gone(shard, tmp_path):
    place = find_place(shard["two.avi"])
    short = tmp_path / "short.tar"
    short.write_bytes(place.file.read_bytes()[: place.offset + 100])
    with pytest.raises(VideoError, match=r"short.tar is cut off: it has \d+ bytes, but this video ends at byte \d+"):
        probe(Place(short, place.offset, place.size).spelled)
    with pytest.raises(VideoError, match="there is no such file"):
        probe(tmp_path / "gone.tar#512+1000")


def test_a_part_is_all_that_ffmpeg_sees(shard):
    """The first half of a member does not read on into the second."""
    place = find_place(shard["one.mp4"])
    with pytest.raises(VideoError):
        read_frames(Place(place.file, place.offset, place.size // 2).spelled, [5])


def test_a_file_that_is_called_like_a_part(tmp_path):
    path = tmp_path / "a.tar#1+2"
    write_video(tmp_path / "a.mp4", 3).rename(path)
    assert find_place(path) == Place(path)
    assert probe(path).num_frames == 3


@given(
    st.text(st.characters(blacklist_characters="\0/\ud800", blacklist_categories=("Cs",))),
    st.integers(0, 10**15),
    st.integers(0, 10**15),
)
def test_spelling_comes_back(name, offset, size):
    place = Place(Path("/nowhere") / f"{name}.tar", offset, size)
    assert find_place(place.spelled) == place


@pytest.mark.parametrize(
    "path",
    ["/d/a.tar", "/d/a.tar#", "/d/a.tar#1", "/d/a.tar#1+", "/d/a.tar#-1+2", "/d/a.mp4#1+2", "/d/a.tar#1+2x", "/d/a.tar#१+2"],
)
def test_what_is_no_part(path):
    assert find_place(path) == Place(Path(path))
