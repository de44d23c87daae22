"""What people name on a command line becomes videos, in order; what names none costs the others nothing."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dualpath.data.listed import Listed, fetched, find_videos
from dualpath.video.decoding import fetched as fetching


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """a.mp4, b.AVI, a text, a hidden file; sub/c.webm; frames/ of pictures; empty/."""
    for name in ("a.mp4", "b.AVI", "notes.md", ".hidden.mp4", "sub/c.webm", "sub/.d/e.mp4", "frames/1.jpg", "frames/2.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\0\1")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*words: str, **options: Any) -> list[str]:
    """Relative paths, and problems as they are."""
    return [item.problem or os.path.relpath(str(item.path)) for item in find_videos(words, **options)]


def test_files_folders_and_patterns(folder: Path) -> None:
    assert names("nope.mp4", "a.mp4") == ["nope.mp4", "a.mp4"]
    assert names(".") == ["a.mp4", "b.AVI", "sub/c.webm"]
    assert names(str(folder / "sub")) == ["sub/c.webm"]
    assert names("frames") == ["frames"]
    assert names("empty") == ["empty: is a folder without videos"]
    assert names("*.mp4", "a.mp4") == ["a.mp4", "a.mp4"]
    assert names("**/*.webm", str(folder / "?.AVI")) == ["sub/c.webm", "b.AVI"]
    assert names("*.mkv") == ["*.mkv: there is no file of this pattern"]
    (folder / "[x].mp4").write_bytes(b"\0")
    assert names("[x].mp4") == ["[x].mp4"]  # a file that is there is no pattern
    assert names("s*b") == ["sub/c.webm"]
    (folder / "empty" / "readme.md").write_text("hello")
    assert names("empty") == ["empty: is a folder without videos; its files have .md"]
    assert names("") == ["'' names no file; give a path"]


def test_folders_of_pictures_below_a_folder(folder: Path) -> None:
    for name in ("one", "two"):
        (folder / "films" / name).mkdir(parents=True)
        (folder / "films" / name / "img_1.png").write_bytes(b"\0")
    assert names("films") == ["films/one", "films/two"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.txt", "a.mp4\n\n sub/c.webm \n"),
        ("list.txt", "\ufeffa.mp4\r\nsub\\c.webm\r\n"),
        ("list.lst", "a.mp4 3\nsub/c.webm 0\n"),
        ("list", "a.mp4\nsub"),
        ("list.csv", "label,path\nred,a.mp4\nblue,sub/c.webm\n"),
        ("list.csv", "a.mp4,red\nsub/c.webm,blue\n"),
        ("list.tsv", "Video\tlabel\na.mp4\t1\nsub/c.webm\t2\n"),
    ],
)
@pytest.mark.parametrize("elsewhere", [False, True])
def test_lists(name: str, text: str, elsewhere: bool, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the list or in the working folder."""
    place = folder / "empty" if elsewhere else folder
    (place / name).write_bytes(text.encode())
    if not elsewhere:
        monkeypatch.chdir(folder / "empty")
    expected = ["a.mp4", "sub/c.webm"] if elsewhere else ["../a.mp4", "../sub/c.webm"]
    assert names(str(place / name)) == expected


def test_bad_lists_have_one_problem(folder: Path) -> None:
    for name, content, said in (
        ("empty.txt", b"\n \n", "empty.txt is empty"),
        ("wide.txt", "a.mp4\nb.mp4\n".encode("utf-16"), "wide.txt is UTF-16 text"),
        ("prose.txt", b"hello\nworld\n", "none of the 2 paths that it names is there"),
        ("heads.csv", b"path,label\n", "heads.csv names no video"),
    ):
        (folder / name).write_bytes(content)
        (problem, last) = names(name, "a.mp4")
        assert said in problem
        assert last == "a.mp4"
    (folder / "some.txt").write_text("a.mp4\nnope.mp4\n*.webm\nhttp://x/y.mp4\n")
    assert names("some.txt") == [
        "a.mp4",
        "nope.mp4",
        "*.webm: there is no file of this pattern",
        "http://x/y.mp4: is a URL; --allow_urls fetches it first",
    ]


def test_standard_input(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def typed(text: bytes) -> None:
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(text)))

    typed(b"a.mp4\r\n\n  sub\nodd-\xff.mp4")
    assert names("-", "b.AVI") == ["a.mp4", "sub/c.webm", "odd-\udcff.mp4", "b.AVI"]
    typed(b"\n")
    assert names("-") == ["standard input names no video; give a path a line"]


@pytest.fixture
def server(folder: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, directory=str(folder), **more)

        def log_message(self, *_: Any) -> None:
            pass

    web = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    thread = threading.Thread(target=web.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{web.server_port}"
    web.shutdown()
    web.server_close()
    thread.join()


def test_urls_are_fetched_where_they_are_allowed(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "PAUSE", 0.0)
    words = [f"{server}/a.mp4?x=1", f"{server}/nope.mp4", "http://127.0.0.1:9/x.mp4", "ftp://x/y.mp4", "a.mp4"]
    assert [item.problem for item in find_videos(words)] == [
        *(f"{word}: is a URL; --allow_urls fetches it first" for word in words[:3]),
        "ftp://x/y.mp4: is a URL of a kind that is not read; there are http and https",
        None,
    ]
    with fetched(find_videos(words, allow_urls=True)) as videos:
        first, missing, refused, _, last = videos
        assert first.path is not None
        assert first.path.suffix == ".mp4"
        assert first.path.read_bytes() == b"\0\1"
        assert (first.name, first.problem) == (words[0], None)
        assert missing.problem == f"{words[1]}: cannot be fetched: the server says 404 File not found"
        assert (refused.problem or "").startswith("http://127.0.0.1:9/x.mp4: cannot be fetched (")
        assert last == Listed("a.mp4", Path("a.mp4"))
    assert not first.path.exists()
