"""What a folder holds that a report can be made of: a training run, an evaluation, or an evaluation within a run."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from dualpath.engine.checkpoint import CONFIG, read_config
from dualpath.engine.evaluate import Evaluation
from dualpath.engine.log import LOG, read_log
from dualpath.engine.one_run import MEASURED
from dualpath.engine.origin import Origin
from dualpath.engine.record import RECORD
from dualpath.engine.recorded import SUMMARY, Recorded, find_evaluations, read_summary
from dualpath.errors import DualPathError
from dualpath.files import read_table


@dataclass(frozen=True)
class Source:
    """A folder, and all that is recorded in and around it.

    Attributes:
        folder: as it was given.
        evaluations: the one to report first; none for a run without any.
        run: the run's folder, if there is one.
        record: run.json; empty if there is no run.
        steps, epochs: lines of its log.
        measured: what a comparison has measured of it; empty if there is none.
    """

    folder: Path
    evaluations: Sequence[Recorded]
    run: Path | None
    record: Mapping[str, Any]
    steps: Sequence[Mapping[str, Any]]
    epochs: Sequence[Mapping[str, Any]]
    measured: Mapping[str, Any]

    @property
    def origin(self) -> Origin:
        """Of the evaluation that is reported."""
        return self.evaluations[0].origin if self.evaluations else Origin()

    @cached_property
    def evaluation(self) -> Evaluation | None:
        """The one that is reported, with its scores."""
        return self.evaluations[0].read() if self.evaluations else None

    def with_first(self, place: int) -> Source:
        """The same that reports another one of its evaluations."""
        chosen = self.evaluations[place]
        return replace(self, evaluations=[chosen, *(one for one in self.evaluations if one is not chosen)])

    @cached_property
    def checkpoint(self) -> Path | None:
        """The folder of the model, if it is still there."""
        near = [self.evaluations[0].folder.parent] if self.evaluations else []
        runs = [self.run / "best", self.run / "last"] if self.run else []
        told = [Path(self.origin.checkpoint)] if self.origin.checkpoint else []
        return next((place for place in [*told, *near, *runs] if (place / CONFIG).is_file()), None)

    @cached_property
    def model(self) -> Mapping[str, Any]:
        """adapter_config.json; empty if there is none."""
        return read_config(self.checkpoint) if self.checkpoint else {}

    @property
    def method(self) -> str | None:
        """Its name, if it is recorded."""
        return self.origin.method or _text(self.record.get("settings"), "method") or _text(self.model, "method")

    @property
    def data(self) -> str | None:
        """Where the videos are, or were."""
        return self.origin.data or _text(self.record.get("data"), "root")

    @property
    def name(self) -> str:
        """For people: the run's folder, and the evaluation's where that was given."""
        folder = self.folder.resolve()
        if self.run is None or self.run.resolve() == folder:
            return folder.name
        return f"{self.run.resolve().name}/{folder.name}"

    def step_seconds(self) -> tuple[float, float] | None:
        """Medians of what a step takes without waiting for clips, and of that waiting; None if it is not logged."""
        timed = [line for line in self.steps[2:] or self.steps if "seconds" in line and "waited" in line]
        if not timed:
            return None
        waited = statistics.median(line["waited"] for line in timed)
        return statistics.median(line["seconds"] - line["waited"] for line in timed), waited


def read_source(folder: Path) -> Source:
    """Looks into a folder.

    Raises:
        DualPathError: it is neither a run's nor an evaluation's, or what it holds is damaged.
    """
    if not folder.exists():
        raise DualPathError(f"there is no folder {folder}; give one that `dualpath train` or `dualpath evaluate` wrote")
    if (folder / SUMMARY).is_file():
        above = [folder.resolve().parent, folder.resolve().parent.parent]
        return _source(folder, [read_summary(folder)], next((place for place in above if (place / RECORD).is_file()), None))
    if (folder / RECORD).is_file():
        return _source(folder, find_evaluations(folder), folder)
    raise DualPathError(
        f"{folder} is neither a run nor an evaluation: it holds no {RECORD} and no {SUMMARY}; give a folder that "
        "`dualpath train` or `dualpath evaluate` wrote"
    )


def _source(folder: Path, evaluations: Sequence[Recorded], run: Path | None) -> Source:
    record = _read(run / RECORD) if run else {}
    measured = _read(run / MEASURED) if run and (run / MEASURED).is_file() else {}
    steps: Sequence[Mapping[str, Any]] = ()
    epochs: Sequence[Mapping[str, Any]] = ()
    if run and (run / LOG).is_file():
        try:
            steps, epochs = read_log(run)
        except (OSError, ValueError) as problem:
            raise DualPathError(f"{run / LOG} is damaged ({problem}); restore it or delete it") from problem
    return Source(folder, evaluations, run, record, steps, epochs, measured)


def _text(told: object, name: str) -> str | None:
    """An entry of a table, if it is a table and a text."""
    found = told.get(name) if isinstance(told, Mapping) else None
    return found if isinstance(found, str) else None


def _read(path: Path) -> Mapping[str, Any]:
    try:
        return read_table(path)
    except (OSError, ValueError) as problem:
        raise DualPathError(f"{path} is damaged ({problem}); restore it") from problem
