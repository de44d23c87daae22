"""The verb `worth` as a user meets it."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dualpath.cli import main

Refused = Callable[..., str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs words that must end with exit code 2 and nothing on stdout; gives the last thing said on stderr."""

    def run(*words: object) -> str:
        capsys.readouterr()
        assert main([str(word) for word in words]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert "Traceback" not in said.err
        return said.err.split("dualpath: ")[-1].rstrip("\n")

    return run


def test_worth_says_what_evaluate_says(trained: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    shutil.copytree(clips / "val", data / "test")
    (data / "test/red/broken.mp4").write_text("no video")
    ways = ["--workers", "0", "--views", "2x1", "--precision", "fp32", "--batch-size", "3"]

    def run(verb: str, *more: str) -> dict:
        assert main([verb, str(trained), str(data), *ways, *more, "--output", str(tmp_path / verb), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    worth, plain, shuffled = run("worth"), run("evaluate"), run("evaluate", "--shuffle-frames")
    assert worth == json.loads((tmp_path / "worth/worth.json").read_text())
    assert (worth["rows"]["in_order"]["top1"], worth["rows"]["shuffled"]["top1"]) == (plain["top1"], shuffled["top1"])
    for name in ("videos", "protocol", "undecodable", "quarantined", "data"):
        assert worth[name] == plain[name]
    assert worth["undecodable"] == {"test/red/broken.mp4": "is not a video but a text file"}
    assert worth["command"].startswith(f"dualpath worth {trained} {data} --workers 0 --views 2x1")
    assert worth["rows"].keys() == {"in_order", "reversed", "shuffled", "one_frame", "no_spatial", "no_temporal"}
    assert sorted(path.name for path in (tmp_path / "worth").iterdir()) == ["worth.csv", "worth.json", "worth.md", "worth.png"]
    lines = list(csv.DictReader(io.StringIO((tmp_path / "worth/worth.csv").read_text())))
    assert [line["in_order"] for line in lines] == ["blue", "blue", "red", "red", ""]


def test_worth_prints_a_table(trained: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained / "last", run)
    assert main(["worth", str(run), str(clips), "--workers", "0"]) == 0
    said = capsys.readouterr()
    assert "temporal path silenced" in said.out
    assert "too few, 2 classes: too few videos to say" in said.out
    assert said.err.endswith(f"worth.json, worth.csv, worth.md and worth.png are in {run / 'worth-val'}\n")
    assert (run / "worth-val/worth.png").is_file()


def test_worth_refuses_what_evaluate_refuses(trained: Path, clips: Path, tmp_path: Path, refused: Refused) -> None:
    words = ["worth", trained, clips, "--workers", "0", "--output", tmp_path / "out"]
    others = tmp_path / "others"
    shutil.copytree(clips / "val/red", others / "test/green")
    wrong = ("--split foo", "--batch-size 0", "--num-clips 0", "--protocol segment-5", "--wrokers 1", "--format foo")
    for more in map(str.split, wrong):
        said = refused(*words, *more)
        assert said == refused("evaluate", *words[1:], *more).replace("evaluate --help", "worth --help")
    assert refused(*words, "--split", "foo") == "unknown split 'foo'; there are auto, train, val, test, all, 1, 2, 3"
    assert refused("worth", trained, others, *words[3:]) == refused("evaluate", trained, others, *words[3:])
    assert "green" in refused("worth", trained, others, *words[3:])
    assert "there is no such folder" in refused("worth", tmp_path / "nope", clips)
    assert "missing: " in refused("worth", trained)
    (tmp_path / "file").write_text("")
    said = refused(*words[:-1], tmp_path / "file")
    assert said == f"the output {tmp_path / 'file'} cannot be a folder (File exists); give another one"
    assert not (tmp_path / "out").exists()
