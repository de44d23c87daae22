"""Files and folders are there whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from dualpath.errors import DualPathError
from dualpath.files import check_new, whole_folder, write_whole


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
