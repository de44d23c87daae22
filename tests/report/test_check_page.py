"""The check's table and page tell what was found, load nothing, and stay whole whatever files are called."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from test_page import Tree

from dualpath.cli import main
from dualpath.data import manifest as manifest_module
from dualpath.data.checking import check as check_module
from dualpath.data.formats.base import segment_mark
from dualpath.data.scan import Refusal
from dualpath.errors import VideoError
from dualpath.report.pages.check import histogram
from videos import write_video


def here(paths: list[Path], do: Callable[[Path], Any], **_: object) -> Any:
    """`ask` without its child processes, which take seconds to start."""
    for index, path in enumerate(paths):
        try:
            yield index, do(path)
        except VideoError as problem:
            yield index, Refusal(problem.reason)


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_module, "ask", here)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for label, number in (("red <b>", 3), ("blue & [bold]", 2)):
        for split in ("train", "test"):
            (tmp_path / "data" / split / label).mkdir(parents=True)
        for i in range(number):
            write_video(tmp_path / "data/train" / label / f"{i}.mp4", 20 + i + 5 * number)
    shutil.copy(tmp_path / "data/train/red <b>/0.mp4", tmp_path / "data/test/red <b>/twin.mp4")
    write_video(tmp_path / "data/test/blue & [bold]/x.mp4", 50)
    (tmp_path / "data/test/red <b>/<img src=x>.mp4").write_text("no video")
    return tmp_path / "data"


def test_verb_writes_everything_and_says_whether_it_is_usable(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["data", "check", str(data), "--output", str(out)]) == 1
    said = capsys.readouterr()
    assert said.err.splitlines()[-1] == "not usable: 1 of 8 files (12.5 %) cannot be used; --max_bad_files allows 1.00 %"
    assert "test/red <b>/<img src=x>.mp4: is not a video but a text file" in said.out
    assert "test/red <b>/twin.mp4 = train/red <b>/0.mp4" in said.out
    assert "usable in train │ 5 of 2 classes, 2 to 3 a class" in said.out
    assert sorted(path.name for path in out.iterdir()) == ["check.json", "files.jsonl", "quarantine.csv", "report.html"]
    assert main(["data", "check", str(data), "--output", str(out), "--max-bad-files", "0.2", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == json.loads((out / "check.json").read_text())
    assert said.err.splitlines()[-1] == "usable: 7 files, 1 file left out"
    assert main(["data", "check", str(data / "nope"), "--output", str(out)]) == 2
    assert main(["data", "check", str(data), "--output", str(data)]) == 2


def test_the_work_for_a_row_does_not_grow_with_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    monkeypatch.setattr(manifest_module, "segment_mark", lambda *part: counted.append(1) or segment_mark(*part))
    write_video(tmp_path / "0.mp4", 60)
    for i in range(1, 20):
        shutil.copy(tmp_path / "0.mp4", tmp_path / f"{i}.mp4")
    rows = [f"{i}.mp4,{'ab'[i % 2]},{start},{start + 20}" for i in range(20) for start in range(30)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label,start_frame,end_frame", *rows]))
    assert main(["data", "check", str(tmp_path / "labels.csv"), "--output", str(tmp_path / "out")]) == 0
    assert len(counted) <= 2 * len(rows)
    assert (tmp_path / "out/report.html").read_text().count("<figure") > 20


def test_labels_that_cannot_be_used_are_findings_and_the_files_are_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    for i in range(5):
        (data / "videos").mkdir(parents=True, exist_ok=True)
        write_video(data / f"videos/{i}.mp4", 20 + i)
    (data / "videos/3.mp4").write_text("no video")
    (data / "classes.txt").write_text("run\nwalk\n")
    lines = [f"videos/{i}.mp4 {label}" for i, label in enumerate([0, 1, 7, 1])]
    (data / "train.txt").write_text("\n".join([*lines, "nothing[here]", "videos/4.mp4 0", "videos/5.mp4 1"]))
    words = ["data", "check", str(data), "--output", str(out), "--max-bad-files", "0.5"]
    assert main(words) == 1
    said = capsys.readouterr()
    bad_line = "train.txt line 5 is 'nothing[here]'; it must be a path and a label"
    beyond = "train.txt line 3 has the label 7; there are 2 classes, 0 to 1"
    assert said.err.splitlines()[-1].startswith(f"not usable: the labels cannot be used as they are: {bad_line} (and 1 more)")
    assert bad_line in said.out.replace("\n", " ")
    assert beyond in said.out
    told = json.loads((out / "check.json").read_text())
    kinds = {finding["kind"]: finding for finding in told["findings"]}
    assert list(kinds)[:2] == ["annotations", "label-range"]
    assert kinds["annotations"]["details"] == [bad_line, beyond]
    assert kinds["label-range"]["files"] == ["videos/2.mp4"]
    assert kinds["unreadable"]["files"] == ["videos/3.mp4"]
    assert (told["files"], told["bad_files"], told["frames"]) == (5, 1, 20 + 21 + 22 + 24)
    assert told["data"]["listed"]["train"]["missing"] == 1
    page = (out / "report.html").read_text()
    assert beyond in page.replace("<wbr>", "")
    assert "no label that can be used" in page
    assert main(["train", str(data), "--dry-run"]) == 2
    assert f"2 problems in {data}:\n  {bad_line}\n  {beyond}\n" in capsys.readouterr().err
    (data / "train.txt").write_bytes(b"videos/0.mp4 0\nvideos/1.mp4 1\n\xff\xfe")
    assert main(words) == 2
    assert "train.txt is not UTF-8 text" in capsys.readouterr().err


def test_the_group_of_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data"]) == 0
    assert "check DATA --output DIR" in capsys.readouterr().out
    assert main(["data", "chek"]) == 2
    assert (
        capsys.readouterr().err == "dualpath: unknown verb data 'chek' (did you mean check?); there are check, prepare, bench\n"
    )
    assert main(["data", "check"]) == 2
    assert "see dualpath data check --help" in capsys.readouterr().err


def test_the_page_is_whole_and_alone(data: Path, tmp_path: Path) -> None:
    main(["data", "check", str(data), "--output", str(tmp_path / "out")])
    page = (tmp_path / "out" / "report.html").read_text()
    root = Tree(page).root
    assert not root.all("script")
    assert not root.all("link")
    pictures = root.all("img")
    assert pictures
    for picture in pictures:
        kind, _, content = picture.attributes["src"].partition(",")
        assert kind == "data:image/jpeg;base64"
        assert Image.open(io.BytesIO(base64.b64decode(content))).size == (64, 48)
        assert picture.attributes["alt"].startswith("Picture ")
    assert all("aria-label" in plot.attributes for plot in root.all("svg"))
    assert "<img src=x>" in root.text
    headings = [heading.text for heading in root.all("h3")]
    assert headings[0].startswith("warning 1 set of files with the same pictures in more than one split")
    assert headings[-2:] == ["blue & [bold]", "red <b>"]
    twins = root.all("div", "set")[0]
    assert [place.text for place in twins.all("p", "where")] == ["test: red <b>", "train: red <b>"]
    rows = [[cell.text for cell in row.children] for row in root.all("tr")]
    assert ["red <b>", "", "3", "0", "1", "4"] in rows
    assert ["test/red <b>/<img src=x>.mp4", "is not a video but a text file"] in rows


def test_histogram() -> None:
    bars = histogram([0.0, 0.0, 1.0, 3.9, 4.0], bins=4)
    assert [(bar.low, bar.high, bar.count, bar.height) for bar in bars] == [
        (0, 1, 2, 100), (1, 2, 1, 50), (2, 3, 0, 0), (3, 4, 2, 100)
    ]  # fmt: skip
    assert [bar.count for bar in histogram([25.0, 25.0])] == [2]
    assert histogram([]) == []
