"""The verbs predict and features as a user meets them."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import dualpath
from dualpath.cli import main


@pytest.fixture
def videos(clips: Path, tmp_path: Path) -> Path:
    """A folder of two good videos and a bad one."""
    folder = tmp_path / "videos"
    folder.mkdir()
    shutil.copy(clips / "val" / "red" / "0.mp4", folder / "1 red.mp4")
    (folder / "2 bad.mp4").write_text("hello")
    shutil.copy(clips / "val" / "blue" / "0.mp4", folder / "3 blue.mp4")
    return folder


def test_a_folder_with_a_bad_file_becomes_a_file_of_each_kind(
    trained: Path, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", str(trained), str(videos), "--precision", "fp32"]
    assert main([*words, "--json"]) == 1
    expected = json.loads(capsys.readouterr().out)
    assert [Path(row["video"]).name for row in expected] == ["1 red.mp4", "2 bad.mp4", "3 blue.mp4"]
    assert [[guess["label"] for guess in row["predictions"]] for row in expected] == [["red", "blue"], [], ["blue", "red"]]
    assert expected[1]["error"] == f"{videos / '2 bad.mp4'}: is not a video but a text file"
    for ending in ("jsonl", "json", "csv"):
        output = tmp_path / "new" / f"answers.{ending}"
        assert main([*words, "--output", str(output)]) == 1
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.splitlines()[-1] == f"{output} holds 2 videos, 1 could not be read"
        assert [path.name for path in output.parent.glob("*.tmp")] == []
    assert [json.loads(line) for line in (tmp_path / "new" / "answers.jsonl").read_text().splitlines()] == expected
    assert json.loads((tmp_path / "new" / "answers.json").read_text()) == expected
    rows = list(csv.DictReader(io.StringIO((tmp_path / "new" / "answers.csv").read_text())))
    assert list(rows[0]) == ["video", "error", "damaged", "label", "score", "label_2", "score_2"]
    assert [(row["video"], row["error"], row["label"], row["label_2"]) for row in rows] == [
        (expected[0]["video"], "", "red", "blue"),
        (expected[1]["video"], expected[1]["error"], "", ""),
        (expected[2]["video"], "", "blue", "red"),
    ]
    assert float(rows[0]["score"]) == pytest.approx(expected[0]["predictions"][0]["score"], abs=1e-6)


def test_lists_patterns_and_standard_input_say_the_same(
    trained: Path, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (videos / "list.txt").write_text("1 red.mp4\n2 bad.mp4\n3 blue.mp4\n")
    typed = "\n".join(str(path) for path in sorted(videos.glob("*.mp4"))).encode()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(typed)))
    answers = []
    for word in (str(videos), str(videos / "list.txt"), str(videos / "*.mp4"), "-"):
        assert main(["predict", str(trained), word, "--json"]) == 1
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[0] == answers[1] == answers[2] == answers[3]


def test_exit_codes(trained: Path, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = str(videos / "1 red.mp4"), str(videos / "2 bad.mp4")
    assert main(["predict", str(trained), good]) == 0
    assert main(["predict", str(trained), good, "/nope.mp4"]) == 1
    assert main(["predict", str(trained), bad, "/nope.mp4"]) == 2
    capsys.readouterr()
    output = tmp_path / "answers.csv"
    for wrong, said in (
        (tmp_path / "answers.txt", "must end in .jsonl or .csv or .json"),
        (tmp_path, "must end in"),
        (Path(good) / "a.csv", "is a file; give another one"),
    ):
        assert main(["predict", str(trained), good, "--output", str(wrong)]) == 2
        assert said in capsys.readouterr().err
    output.write_text(f"{good}\n")
    assert main(["predict", str(trained), str(output), "--output", str(output)]) == 2
    assert "is one of the files to be read" in capsys.readouterr().err
    assert output.read_text() == f"{good}\n"
    assert main(["predict", str(trained), good, "--device", "cuda:99"]) == 2
    assert "the device 'cuda:99' cannot be used here" in capsys.readouterr().err


def test_features_as_arrays(trained: Path, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "features.npz"
    words = ["features", str(trained), str(videos), "--precision", "fp32"]
    assert main([*words, "--output", str(output)]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"dualpath: {videos / '2 bad.mp4'}: is not a video but a text file",
        f"{output} holds 2 videos, 1 could not be read",
    ]
    with np.load(output) as found:
        assert set(found) == {"path", "features", "spatial", "temporal"}
        assert found["path"].tolist() == [str(videos / "1 red.mp4"), str(videos / "3 blue.mp4")]
        model = dualpath.load(trained, precision="fp32")
        for number, path in enumerate(found["path"].tolist()):
            for name, row in model.encode(path).items():
                np.testing.assert_allclose(found[name][number], row.numpy(), rtol=1e-4, atol=1e-5)
    assert main([*words[:2], str(videos / "2 bad.mp4"), "--output", str(tmp_path / "none.npz")]) == 2
    assert not (tmp_path / "none.npz").exists()
    assert main([*words, "--output", str(tmp_path / "features.npy")]) == 2
    assert "must end in .npz or .parquet" in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed")
def test_features_as_parquet(trained: Path, videos: Path, tmp_path: Path) -> None:
    from pyarrow import parquet

    words = ["features", str(trained), str(videos), "--precision", "fp32", "--output"]
    assert main([*words, str(tmp_path / "features.parquet")]) == main([*words, str(tmp_path / "features.npz")]) == 1
    table = parquet.read_table(tmp_path / "features.parquet").to_pydict()
    with np.load(tmp_path / "features.npz") as arrays:
        assert table["path"] == arrays["path"].tolist()
        for name in ("features", "spatial", "temporal"):
            np.testing.assert_array_equal(np.array(table[name], np.float32), arrays[name])


def test_parquet_needs_pyarrow(
    trained: Path, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "pyarrow" else real(name, *more))
    output = tmp_path / "features.parquet"
    assert main(["features", "/nope", str(videos), "--output", str(output)]) == 2
    said = capsys.readouterr().err
    assert said == f"dualpath: the output {output} needs pyarrow, which is not installed: pip install pyarrow, or write .npz\n"


def test_names_that_are_no_text(trained: Path, videos: Path, tmp_path: Path) -> None:
    """In a process of its own, whose output is strict."""
    odd = os.fsdecode(b"odd-\xff.mp4")
    (videos / "1 red.mp4").rename(videos / odd)
    for more in (["--output", str(tmp_path / "a.csv")], ["--json"], []):
        line = [sys.executable, "-m", "dualpath.cli", "predict", str(trained), str(videos), *more]
        told = subprocess.run(line, capture_output=True, check=False, env=os.environ | {"PYTHONIOENCODING": "utf-8:strict"})
        assert told.returncode == 1, told.stderr
    assert b"odd-\xff.mp4,,,red," in (tmp_path / "a.csv").read_bytes()
