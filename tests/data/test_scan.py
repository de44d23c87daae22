"""The scan: counts, reasons, and decoders that crash or hang without harm to the process that asked."""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from dualpath.data import scan as scan_module
from dualpath.data.manifest import Video
from dualpath.data.scan import BadVideo, Refusal, ask, scan, too_short
from dualpath.errors import VideoError
from runs import scan_here


def acted(path: Path) -> Any:
    """Stands in for a decoder, in the children: does what the file is called."""
    act, _, number = path.stem.partition("-")
    if act == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif act == "exit":
        os._exit(3)
    elif act == "hang":
        time.sleep(600)
    elif act == "bad":
        raise VideoError(path, "holds no video, only audio")
    elif act == "bug":
        raise ZeroDivisionError("by nothing")
    elif act == "large":
        return {"pixels": np.zeros(10**6, np.uint8), "name": path.name}
    elif act == "closed":
        return lambda: None
    return int(number)


def videos(*names: str) -> list[Video]:
    return [Video(Path("/data") / name, name, 0, "train") for name in names]


def test_many_files_with_every_misfortune():
    names = [f"ok-{i}.mp4" for i in range(6)]
    names[3:3] = ["crash.mp4", "bad.mp4", "hang.mp4", "exit.mp4", "bug.mp4"]
    given, seen = videos(*names), []
    result = scan(given, workers=2, seconds=1.5, count=acted, progress=lambda done, total: seen.append((done, total)))
    by_name = {video.name: video for video in given}
    assert result.videos == tuple(replace(by_name[f"ok-{i}.mp4"], num_frames=i) for i in range(6))
    assert result.bad == (
        BadVideo(by_name["crash.mp4"], "the decoder crashed on it (SIGSEGV)"),
        BadVideo(by_name["bad.mp4"], "holds no video, only audio"),
        BadVideo(by_name["hang.mp4"], "took longer than 1.5 s to read"),
        BadVideo(by_name["exit.mp4"], "the decoder crashed on it (exit code 3)"),
        BadVideo(by_name["bug.mp4"], "ZeroDivisionError: by nothing"),
    )
    assert seen == [(i + 1, 11) for i in range(11)]


def test_the_last_file_crashing():
    result = scan(videos("ok-7.mp4", "crash.mp4"), count=acted)
    assert [video.num_frames for video in result.videos] == [7]
    assert [bad.reason for bad in result.bad] == ["the decoder crashed on it (SIGSEGV)"]


def test_any_answer_comes_back():
    result = scan(videos("ok-1.mp4", "large.mp4", "closed.mp4", "bad.mp4"), count=acted)
    assert [video.num_frames for video in result.videos] == [1, None]
    assert result.answers[0] == 1
    assert (result.answers[1]["name"], result.answers[1]["pixels"].nbytes) == ("large.mp4", 10**6)
    assert [bad.video.name for bad in result.bad] == ["closed.mp4", "bad.mp4"]
    assert "pickle" in result.bad[0].reason
    answers = dict(ask([Path("bad.mp4"), Path("ok-3.mp4")], acted))
    assert answers == {0: Refusal("holds no video, only audio"), 1: 3}


def test_what_is_no_file_is_named_and_nobody_waits_for_it(tmp_path):
    write(tmp_path / "good.mp4", 3)
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "gone.mp4")
    (tmp_path / "endless.mp4").symlink_to("/dev/zero")
    (tmp_path / "folder.mp4").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.mp4"))
        names = ("pipe.mp4", "link.mp4", "endless.mp4", "folder.mp4", "socket.mp4", "good.mp4")
        result = scan_here([Video(tmp_path / name, name, 0, "train") for name in names])  # in this very process
    assert [video.num_frames for video in result.videos] == [3]
    assert {bad.video.name: bad.reason for bad in result.bad} == {
        "pipe.mp4": "is no file but a named pipe",
        "link.mp4": "is a link to a file that is not there",
        "endless.mp4": "is no file but a device",
        "folder.mp4": "is a folder, not a video file",
        "socket.mp4": "is no file but a socket",
    }


def test_large_files_are_given_more_time(tmp_path, monkeypatch):
    monkeypatch.setattr(scan_module, "SECONDS_A_MEGABYTE", 0.25)
    with (tmp_path / "hang-1.mp4").open("wb") as file:
        file.truncate(2 * 10**6)
    assert dict(ask([tmp_path / "hang-1.mp4"], acted, seconds=0.1)) == {0: Refusal("took longer than 0.6 s to read")}


def test_nothing_to_scan():
    assert scan([], count=acted).videos == ()
    with pytest.raises(ValueError, match="workers is 0"):
        scan(videos("ok-1.mp4"), workers=0, count=acted)


def test_too_short():
    lengths = [replace(video, num_frames=n) for video, n in zip(videos("a", "b", "c"), (15, 16, None), strict=True)]
    assert too_short(lengths, 16) == (lengths[0],)


def write(path: Path, count: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(10))
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for i in range(count):
            picture = np.full((32, 32, 3), 20 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def test_real_files_from_a_command(tmp_path):
    """From `python -c`, whose main module a spawned child cannot import again."""
    write(tmp_path / "a.mp4", 9)
    (tmp_path / "b.mp4").write_text("this is a text, not a video\n")
    code = (
        "from pathlib import Path; import sys\n"
        "from dualpath.data.manifest import Video; from dualpath.data.scan import scan\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "result = scan([Video(folder / name, name, 0, 'train') for name in ('a.mp4', 'b.mp4')])\n"
        "print([v.num_frames for v in result.videos], [(b.video.name, b.reason) for b in result.bad])\n"
        "print('torch' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100)
    assert answer.stdout.splitlines() == ["[9] [('b.mp4', 'is not a video but a text file')]", "False"]
    assert answer.stderr == ""


def test_a_script_without_a_guard_is_told_so(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from dualpath.data.manifest import Video\nfrom dualpath.data.scan import scan\n"
        "scan([Video(Path('x.mp4'), 'x.mp4', 0, 'train')])\n"
    )
    answer = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=100)
    assert answer.returncode == 1
    assert "must keep its own doings under: if __name__ == '__main__':" in answer.stderr.splitlines()[-1]
