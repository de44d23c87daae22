"""Candidates take turns in processes of their own; one that fails is told and disturbs no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from dualpath.errors import DualPathError
from dualpath.speed.turns import Candidate, Measured, _Failed, _started, ceiling_label, measure, ratio, stages
from dualpath.speed.worker import FEWEST, WARM_STEPS

HERE = str(Path(__file__).parent)


def writing(name: str, log: Path, **settings: int) -> Candidate:
    return Candidate(name, "makers:writes", {"name": name, "log": str(log)} | settings, folder=HERE)


def test_candidates_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # with it, what a candidate prints cannot come late
    log = tmp_path / "log"
    asked = [writing("a", log), Candidate("b", "makers:refuses", folder=HERE), writing("c", log, clips=4, fails_at=3)]
    told: list[tuple[int, str]] = []
    a, b, c = measure(asked, rounds=3, seconds=1e-9, progress=lambda done, text: told.append((done, text)))
    warm, turn = WARM_STEPS + 1, FEWEST  # one more, whose bytes are counted
    # c fails in its second turn, at its third step: it has no third one.
    assert log.read_text().split() == [*"a" * warm, *"c" * warm, *"a" * turn, *"c" * turn, *"a" * turn, "c", *"a" * turn]
    assert (a.clips, [len(steps) for steps in a.seconds], a.problem) == (1, [turn] * 3, "")
    assert a.gmacs == pytest.approx(2 * 3 * 4 * 5 / 1e9)
    assert b.problem == "RuntimeError: no such chip"
    assert c.problem == "ValueError: c has had enough"
    assert [done for done, _ in told] == list(range(len(told)))
    assert len(told) == stages(asked, 3) - 4  # b has no turns, c not its third


def test_one_that_is_killed_while_others_work_is_told_and_disturbs_no_other() -> None:
    with _started(Candidate("a", "makers:refuses", folder=HERE), 0) as child:
        child.process.kill()
        child.process.wait()
        with pytest.raises(_Failed, match="was killed, as systems do where memory runs out: measure fewer candidates"):
            child.begin()  # into a pipe that nobody reads; what is left in it must not fail again when it is closed
    assert child.process.stdin is not None
    assert child.process.stdin.closed


def test_a_ceiling_does_the_products_of_its_candidate(tmp_path: Path) -> None:
    asked = Candidate("a", "makers:writes", {"name": "a", "log": str(tmp_path / "log")}, ceiling=True, folder=HERE)
    a, ceiling = measure([asked], rounds=1, seconds=1e-9)
    assert ceiling.candidate.label == ceiling_label("a")
    assert not ceiling.problem
    assert (ceiling.gmacs, ceiling.clips) == (a.gmacs, a.clips)


def test_memory_is_that_of_the_steps() -> None:
    asked = [
        Candidate("200 MB", "makers:holds", {"megabytes": 200}, folder=HERE),
        Candidate("layers", "makers:multiplies", {"rows": 5}, folder=HERE),
    ]
    holds, layers = measure(asked, rounds=1, seconds=1e-9)
    assert holds.clip_gb == pytest.approx(0.1, rel=1e-6)
    assert layers.step_bytes == 5 * (6 + 2) * 4
    assert layers.clip_gb == pytest.approx(8 * 4 / 1e9)
    assert holds.peak_gb - layers.peak_gb == pytest.approx(0.2, rel=0.25)
    assert (layers.device, layers.dtype) == ("cpu", "float32")


def test_figures_are_medians_over_rounds() -> None:
    one = Measured(Candidate("one", ""), clips=2, seconds=((2.0, 4.0, 100.0), (6.0,), (5.0, 5.0)))
    two = Measured(Candidate("two", ""), clips=1, seconds=((1.0,), (1.0,), (5.0,)))
    assert one.rounds == [2.0, 3.0, 2.5]
    assert one.clip_seconds == 2.5
    assert one.spread == pytest.approx(0.2)
    assert ratio(one, two) == 2.0  # of 2, 3 and 0.5


def test_labels_name_one_candidate() -> None:
    with pytest.raises(DualPathError, match="the candidate a is there twice"):
        measure([Candidate("a", "x:y"), Candidate("a", "x:z")], rounds=1, seconds=1.0)
