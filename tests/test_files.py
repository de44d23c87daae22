"""Files and folders are there whole, or not at all."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dualpath.data.checking.check import CheckConfig
from dualpath.demo import draw
from dualpath.engine.config import RunConfig
from dualpath.engine.cross_validation import cross_validate
from dualpath.engine.data_verbs import check_files
from dualpath.engine.train import train
from dualpath.errors import DualPathError
from dualpath.files import check_new, create, owned, remove_temporary, temporary_beside, whole_folder, write_whole


def test_a_folder_appears_with_all_that_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for output in (tmp_path / "a/b", tmp_path / "empty"):
        with whole_folder(output) as draft:
            write_whole(draft / "one", "1")
            assert not (output / "one").exists()
            (draft / "two").mkdir()
        assert sorted(path.name for path in output.iterdir()) == ["one", "two"]
        assert [path.name for path in output.parent.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (ZeroDivisionError("no part"), "no part"),
        (DualPathError("no room"), "no room"),
        (OSError(28, "No space left on device"), r"out could not be written \(No space left on device\)"),
    ],
)
def test_a_folder_that_fails_leaves_nothing(tmp_path: Path, problem: Exception, said: str) -> None:
    def fill() -> None:
        with whole_folder(tmp_path / "out") as draft:
            write_whole(draft / "one", "1")
            raise problem

    with pytest.raises(DualPathError if isinstance(problem, OSError) else type(problem), match=said):
        fill()
    assert not list(tmp_path.iterdir())


def test_what_is_there_already_is_refused_and_stays(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").write_text("mine")
    for output, said in (
        (tmp_path / "full", "full exists and is not empty; give a new folder"),
        (tmp_path / "full/mine", "cannot be a folder: .*mine is a file; give another one"),
        (tmp_path / "full/mine/more", "cannot be a folder: .*mine is a file; give another one"),
    ):
        with pytest.raises(DualPathError, match=said):
            check_new(output)
        with pytest.raises(DualPathError, match=said), whole_folder(output):
            raise AssertionError("it must not come so far")
    assert (tmp_path / "full/mine").read_text() == "mine"
    check_new(tmp_path / "new/folder")


OWNER = """
import sys, time
from pathlib import Path
from dualpath.files import owned
with owned(Path(sys.argv[1])):
    print("owned", flush=True)
    sys.stdin.read()
"""


def test_two_processes_never_share_a_folder(tmp_path: Path) -> None:
    """Not even where the first one's files are deleted under it; and a killed owner owns nothing."""
    output = tmp_path / "new" / "run"
    line = [sys.executable, "-c", OWNER, str(output)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "owned\n"
        output.mkdir()
        (output / "run.json").touch()
        for _ in range(2):
            with pytest.raises(DualPathError) as caught, owned(output):
                raise AssertionError
            told = str(caught.value)
            assert f"{output} is in use by process {owner.pid} on {socket.gethostname()}, since 20" in told
            assert told.endswith(f"(-c {output}); let it finish, end it, or give another folder")
            shutil.rmtree(output, ignore_errors=True)
        owner.kill()
        owner.wait()
    with owned(output):
        assert (output.parent / ".run.lock").is_file()
    with owned(output):  # and again by the same process
        pass
    assert list(output.parent.iterdir()) == []


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / ".run.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(DualPathError, match="cannot be a folder"), owned(tmp_path / "run"):
        raise AssertionError
    assert (tmp_path / "victim").read_text() == "precious"


@pytest.mark.parametrize("name", ["x" * 300, "file/run"])
def test_a_folder_that_cannot_be_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(DualPathError, match=r"cannot be a folder(: .* is a file| \(.*\)); give another one"),
        owned(tmp_path / name),
    ):
        raise AssertionError


@pytest.mark.parametrize(
    "make",
    [
        lambda output: train(Path("data"), output, RunConfig()),
        lambda output: cross_validate(Path("data"), output, RunConfig(), 3),
        lambda output: check_files(Path("data"), output, CheckConfig()),
        lambda output: draw(output=output),
    ],
    ids=["train", "folds", "check", "draw"],
)
def test_what_makes_a_folder_owns_it(tmp_path: Path, make: Callable[[Path], object]) -> None:
    with owned(tmp_path / "run"), pytest.raises(DualPathError, match="is in use by process"):
        make(tmp_path / "run")


def test_links_in_the_place_of_temporary_files_are_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for name in (f".out.{os.getpid()}.tmp", ".out.tmp"):
        (tmp_path / name).symlink_to(victim)
    write_whole(tmp_path / "out", "new")
    assert (tmp_path / "out").read_text() == "new"
    with pytest.raises(FileExistsError):
        create(tmp_path / f".out.{os.getpid()}.tmp")
    names = {temporary_beside(tmp_path / "out").name for _ in range(100)}
    assert len(names) == 100
    assert victim.read_text() == "precious"
    (temporary_beside(tmp_path / "out") / "within").mkdir(parents=True)
    temporary_beside(tmp_path / "dir").symlink_to(tmp_path)
    remove_temporary(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "victim"]
    assert len(os.fsencode(temporary_beside(tmp_path / ("\u00e4" * 127)).name)) <= 255
