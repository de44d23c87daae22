"""Names of files and classes are shown as they are, and steer neither a terminal nor a spreadsheet."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from dualpath.cli import main
from dualpath.data.formats.text import read_records
from dualpath.data.manifest import DataError, Video
from dualpath.engine.answers import Answer, write_answers
from dualpath.engine.evaluate import Evaluation
from dualpath.engine.progress import Bar
from dualpath.engine.recorded import read_summary
from dualpath.errors import VideoError
from dualpath.files import cell_text, csv_cell
from dualpath.report.predictions import prediction_table
from dualpath.report.tables import accuracy_table
from dualpath.terminal import in_line, plain_streams, shown

NASTY = "a\x1b[2Jb\x07\u202egpj.\x9b31m\udcff"
SHOWN = r"a\x1b[2Jb\x07\u202egpj.\x9b31m\udcff"


def evaluation(names: list[str], classes: tuple[str, ...]) -> Evaluation:
    videos = tuple(Video(Path(name), name, i % len(classes), "test") for i, name in enumerate(names))
    scores = np.full((len(names), len(classes)), 1 / len(classes), dtype=np.float32)
    scores[-1] = np.nan
    return Evaluation(classes, videos, scores, {len(names) - 1: "is broken [/red]"}, "segment-4, 1x1 views")


def test_what_steers_a_terminal_is_spelled_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(NASTY) == SHOWN
    assert shown("left\tright\nää 日本 é") == "left\tright\nää 日本 é"
    assert in_line("a\nb\tc\x07") == r"a\nb\tc\x07"
    with plain_streams():
        print(NASTY)
        print(NASTY, file=sys.stderr)
    assert capsys.readouterr() == (f"{SHOWN}\n", f"{SHOWN}\n")


def test_a_complaint_shows_what_was_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "no\x1b[31mwhere", "x.mp4"]) == 2
    assert "no checkpoint no\\x1b[31mwhere" in capsys.readouterr().err


def test_a_complaint_spells_out_ends_of_lines_in_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert str(VideoError("a\nb.mp4", "is\tbroken\x07")) == r"a\nb.mp4: is\tbroken\x07"
    assert str(DataError("d", ["x\ny", "z"])) == "2 problems in d:\n  x\\ny\n  z"
    assert main(["predict", "no\nwhere", "x.mp4"]) == 2
    assert r"no checkpoint no\nwhere" in capsys.readouterr().err
    table = tmp_path / "labels.csv"
    table.write_text('path,label\n"a\nb.mp4",x\nc.mp4,y\n')
    assert main(["train", str(table), "--output", str(tmp_path / "run"), "--dry_run"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 3
    assert r"a\nb.mp4" in told[1]


def test_names_are_no_markup() -> None:
    told = prediction_table([Answer("clip[hd].mp4", ({"label": "[/x]", "score": 0.5}, {"label": ":smile:", "score": 0.5}))])
    assert "clip[hd].mp4" in told
    assert "[/x]" in told
    assert ":smile:" in told
    table = accuracy_table(evaluation(["[/a].mp4", "[red]b.mp4"], ("[/x]", "[bold]y")))
    assert "[/x]" in table
    assert "[bold]y" in table
    assert "[red]b.mp4 is broken [/red]" in table


@pytest.mark.parametrize("terminal", [False, True])
def test_a_bar_shows_names_as_they_are(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    monkeypatch.setenv("TERM", "xterm" if terminal else "dumb")
    monkeypatch.setattr(Console, "is_terminal", property(lambda _: terminal))
    with plain_streams():
        before = sys.stderr
        with Bar("[/x]", total=1) as bar:
            bar.update(1, "[/y] \x1b[2J\u202e")
            print("skipped [/z] \u202e\x1b[2J", file=sys.stderr)
        assert sys.stderr is before
    for name in ("[/x]", "[/y] \\x1b[2J\\u202e", "skipped [/z] \\u202e\\x1b[2J"):
        assert name in out.getvalue()
    assert "\u202e" not in out.getvalue()
    assert ("\x1b[" in out.getvalue()) == terminal  # the bar itself may steer


@pytest.mark.parametrize("name", ["=1+1", "+a", "-a", "@a", "\ta", "\ra", "'=a", "''@a", "'a", "a=b", "", "red"])
def test_no_name_is_a_formula(name: str) -> None:
    cell = csv_cell(name)
    assert cell[:1] not in tuple("=+-@\t\r")
    assert cell_text(cell) == name
    assert (cell == name) == (name in ("'a", "a=b", "", "red"))


def test_predictions_and_lists_hold_no_formula(tmp_path: Path) -> None:
    answers = [Answer("=1+1.mp4", ({"label": "@up", "score": 0.75}, {"label": "-", "score": 0.25})), Answer("-x", (), "+bad")]
    write_answers(tmp_path / "out.csv", answers)
    head, *rows = csv.reader(io.StringIO((tmp_path / "out.csv").read_text()))
    assert head == ["video", "error", "damaged", "label", "score", "label_2", "score_2"]
    assert rows[0] == ["'=1+1.mp4", "", "", "'@up", "0.750000", "'-", "0.250000"]
    assert rows[1] == ["'-x", "'+bad", *[""] * 5]
    (_, heads), (_, first), _ = read_records(tmp_path / "out.csv", pytest.fail) or []
    assert dict(zip(heads, first, strict=True))["video"] == "=1+1.mp4"  # `predict` reads it as a list again


def test_a_name_has_one_line() -> None:
    told = accuracy_table(evaluation(["a.mp4", "x\n  b.mp4 is fine"], ("red\nblue", "green")))
    assert r"x\n  b.mp4 is fine is broken" in told
    assert r"red\nblue" in told
    assert r"x\ny.mp4" in prediction_table([Answer("x\ny.mp4", ({"label": "a\tb", "score": 0.5},))])


def test_an_evaluation_with_such_names_is_read_again(tmp_path: Path) -> None:
    wrote = evaluation(["=cmd|'!A1.mp4", "@x.mp4", "-y.mp4"], ("+up", "'=quoted"))
    wrote.write(tmp_path)
    rows = list(csv.reader(io.StringIO((tmp_path / "predictions.csv").read_text())))
    assert rows[0] == ["video", "label", "prediction", "'+up", "''=quoted"]
    assert rows[1][:3] == ["'=cmd|'!A1.mp4", "'+up", "'+up"]
    again = read_summary(tmp_path).read()
    assert [video.name for video in again.videos] == [video.name for video in wrote.videos]
    assert again.classes == wrote.classes
    np.testing.assert_array_equal(again.predictions, wrote.predictions)
