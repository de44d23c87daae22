"""run.json: what earlier sessions told is kept, and it is said where it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from dualpath.engine.record import RECORD, Record


@pytest.mark.parametrize(("content", "state"), [(None, "missing"), ("{", "damaged"), ("[1]", "damaged"), ("\0", "damaged")])
def test_what_is_lost_on_resuming_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, state: str
) -> None:
    if content is not None:
        (tmp_path / RECORD).write_text(content)
    assert Record(tmp_path, data="", resume=False).skipped_before == {}
    assert capsys.readouterr().err == ""
    record = Record(tmp_path, data="", resume=True)
    assert (record.skipped_before, record.baseline, record.extensions) == ({}, {}, [])
    assert f"{tmp_path / RECORD} is {state}" in capsys.readouterr().err


def test_what_can_be_used_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / RECORD).write_text('{"skipped": {"a.mp4": "is empty"}, "extensions": 3, "baseline": {"mean": {"top1": "x"}}}')
    record = Record(tmp_path, data="", resume=True)
    assert (record.skipped_before, record.baseline, record.extensions) == ({"a.mp4": "is empty"}, {}, [])
    assert capsys.readouterr().err == ""
