"""Segments of files: sampled from within only, counted as such, told where they lie past the end."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpath.data import scan
from dualpath.data.clips import TestClips, TrainClips
from dualpath.data.manifest import SLACK, UNTIMED, Video, read_manifest
from dualpath.data.scan import _sorted_out
from dualpath.data.segments import frames_between, in_frames
from dualpath.errors import VideoError
from dualpath.video.sampling import SamplingConfig
from dualpath.video.transforms import TransformConfig
from videos import hit, read_numbers, write_video

PLAIN = TransformConfig(min_scale=1.0, color_jitter=0.0)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("segments") / "x.mp4", 40)


def segment(path: Path, start: int, end: int | None) -> Video:
    return Video(path, f"x.mp4[{start}:{end}]", 0, "train", None, None, start, end)


@pytest.mark.parametrize("sampling", [SamplingConfig(4, "segment"), SamplingConfig(4, "dense", 2)])
@pytest.mark.parametrize("counted", [True, False])
def test_clips_stay_within(path, sampling, counted):
    video = segment(path, 10, 20)
    video = video.counted(40) if counted else video
    train = TrainClips([video], sampling=sampling, transform=PLAIN, size=48, flip=False, seed=0)
    seen = {number for epoch in range(8) for number in read_numbers(train[epoch, 0][1])}
    assert seen <= set(range(10, 20))
    assert len(seen) > 4
    views = TestClips([video], sampling=sampling, size=48, num_clips=2)[0]
    assert views.frames is not None
    expected = {"segment": [[10, 13, 15, 18], [11, 14, 16, 19]], "dense": [[10, 12, 14, 16], [13, 15, 17, 19]]}
    assert [read_numbers(clip) for clip in views.frames] == expected[sampling.sampling]


def test_a_short_segment_repeats_its_own_last_frame(path):
    views = TestClips([segment(path, 5, 7)], sampling=SamplingConfig(4), size=48)[0]
    assert views.frames is not None
    assert read_numbers(views.frames[0]) == [5, 6, 6, 6]


def test_scan_counts_segments_and_tells_those_past_the_end(path):
    videos = [segment(path, *ends) for ends in ((10, 20), (30, 41), (30, None), (35, 60))]
    result = _sorted_out(videos, dict.fromkeys(range(4), 40))
    assert [video.num_frames for video in result.videos] == [10, 10, 10]
    (bad,) = result.bad
    assert bad.reason == "is listed with the frames 35 to 59, but there are only 40"


def test_scan_reads_a_file_once(path, monkeypatch):
    asked, told = [], []

    def here(paths, count, **_):
        asked.extend(paths)
        yield from ((index, 40) for index, _ in enumerate(paths))

    monkeypatch.setattr(scan, "ask", here)
    videos = [segment(path, 0, 10), segment(Path("other.mp4"), 0, None), segment(path, 35, 60), segment(path, 10, 25)]
    result = scan.scan(videos, progress=lambda *done: told.append(done))
    assert asked == [path, Path("other.mp4")]
    assert told == [(1, 2), (2, 2)]
    assert [video.num_frames for video in result.videos] == [10, 40, 15]
    assert [bad.video for bad in result.bad] == [videos[2]]


def test_names_of_files(path):
    assert segment(path, 10, 20).file == "x.mp4"
    assert segment(path, 10, None).file == "x.mp4[10:None]"  # no mark of ours: that is [10:]
    assert Video(path, "x.mp4[10:]", 0, "train", start=10).file == "x.mp4"
    assert Video(path, "x.mp4", 0, "train", start=10).file == "x.mp4"
    assert Video(Path("frames[0:]"), "frames[0:]", 0, "train").file == "frames[0:]"


def test_an_unscanned_segment_past_the_end_is_unreadable(path):
    views = TestClips([segment(path, 40, 50)], sampling=SamplingConfig(4), size=48)[0]
    assert views.frames is None
    assert views.reason == "is listed with the frames 40 to 49, but there are only 40"


@given(st.integers(0, 50), st.integers(1, 50), st.integers(1, 100))
def test_counted(start, length, frames):
    video = segment(Path("x.mp4"), start, start + length)
    if start >= frames or start + length > frames + SLACK:
        with pytest.raises(VideoError):
            video.counted(frames)
    else:
        counted = video.counted(frames)
        assert counted == replace(video, num_frames=min(length, frames - start))
        assert counted.num_frames is not None
        assert 1 <= counted.num_frames <= length


# --- segments that are listed in seconds


def listed(root: Path, *rows: str) -> Path:
    (root / "labels.csv").write_text("\n".join(["path,label,start,end", *rows]))
    return root


def read_in_frames(root: Path) -> dict[str, Video]:
    return {video.name: video for video in in_frames(read_manifest(root, val_fraction=0.0)).videos}


def test_seconds_become_the_frames_that_are_shown_then(tmp_path):
    write_video(tmp_path / "x.mp4", 100)  # 4 s at 25 fps
    write_video(tmp_path / "v.mkv", 6, times_ms=[0, 100, 150, 1000, 1040, 3000])
    rows = [("x.mp4", "0,2"), ("x.mp4", "1.5,2"), ("x.mp4", "3,"), ("x.mp4", "3.2,4.9"), ("x.mp4", "0.05,0.06"),
            ("v.mkv", "0.1,1"), ("v.mkv", "1,3"), ("v.mkv", "2,2.5")]  # fmt: skip
    videos = read_in_frames(listed(tmp_path, *(f"{name},{'ab'[i % 2]},{ends}" for i, (name, ends) in enumerate(rows))))
    assert {name: (video.start, video.end) for name, video in videos.items()} == {
        "x.mp4[0s:2s]": (0, 50),
        "x.mp4[1.5s:2s]": (38, 50),
        "x.mp4[3s:]": (75, None),
        "x.mp4[3.2s:4.9s]": (80, 100),  # lists give rounded seconds
        "x.mp4[0.05s:0.06s]": (1, 2),  # shorter than a frame: the one that is shown
        "v.mkv[0.1s:1s]": (1, 3),
        "v.mkv[1s:3s]": (3, 5),
        "v.mkv[2s:2.5s]": (4, 5),
    }
    assert {video.file for video in videos.values()} == {"x.mp4", "v.mkv"}
    clip = TestClips([videos["x.mp4[1.5s:2s]"]], sampling=SamplingConfig(4), size=48)[0]
    assert clip.frames is not None
    assert read_numbers(clip.frames[0]) == [39, 42, 45, 48]


@pytest.mark.parametrize("ends", ["5,6", "1,5.1", "4,"])
def test_seconds_past_the_end_are_told(tmp_path, ends):
    write_video(tmp_path / "x.mp4", 100)
    write_video(tmp_path / "y.mp4", 100)
    video = read_in_frames(listed(tmp_path, f"x.mp4,a,{ends}", "y.mp4,b,0,1"))["x.mp4"]
    begin, _, stop = ends.partition(",")
    with pytest.raises(VideoError, match=f"is listed from {begin} s to {f'{stop} s' if stop else 'its end'}, the frames "):
        video.counted(100)


def test_seconds_of_a_file_that_cannot_be_read_stay_past_its_end(tmp_path):
    (tmp_path / "x.mp4").write_bytes(b"nothing")
    write_video(tmp_path / "y.mp4", 10)
    video = read_in_frames(listed(tmp_path, "x.mp4,a,0,1", "y.mp4,b,0,0.2"))["x.mp4"]
    assert (video.start, video.end) == (0, UNTIMED)
    with pytest.raises(VideoError, match=r"is listed from 0 s to 1 s, but none of its frames \(10\)"):
        video.counted(10)


def test_of_a_damaged_file_the_frames_are_taken_that_there_are(tmp_path):
    write_video(tmp_path / "y.mp4", 10)
    hit(write_video(tmp_path / "x.mp4", 60, options={"g": "1"}), 25)  # the frame at 1 s
    rows = ["0.8,1.2", "0.98,1.03", "2,", "2,9", "2.5,3"]
    folder = listed(tmp_path, *(f"x.mp4,a,{ends}" for ends in rows), "y.mp4,b,0,0.2")
    videos = {video.name: video for video in in_frames(read_manifest(folder, val_fraction=0.0), damaged="take").videos}
    assert {name: (video.start, video.end) for name, video in videos.items()} == {
        "x.mp4[0.8s:1.2s]": (20, 29),
        "x.mp4[0.98s:1.03s]": (0, UNTIMED),
        "x.mp4[2s:]": (49, 59),
        "x.mp4[2s:9s]": (49, 59),
        "x.mp4[2.5s:3s]": (0, UNTIMED),
        "y.mp4": (0, 5),
    }
    judged = TestClips(list(videos.values()), sampling=SamplingConfig(9), size=48, damaged="take")
    first = judged[0]
    assert first.frames is not None
    assert first.damage is not None
    assert read_numbers(first.frames[0]) == [20, 21, 22, 23, 24, 26, 27, 28, 29]
    assert judged[1].reason is not None
    assert "from 0.98 s to 1.03 s, but none of its frames (59) has a time in it that could be read" in judged[1].reason


@given(st.integers(1, 300), st.sampled_from([24.0, 25.0, 30000 / 1001, 60.0]), st.data())
def test_times_of_frames_and_back(count, fps, data):
    times = np.arange(count + 1) / fps
    start = data.draw(st.integers(0, count - 1))
    end = data.draw(st.integers(start + 1, count))
    told = (round(start / fps, 3), round(end / fps, 3))
    assert frames_between(times, told) == (start, end)
