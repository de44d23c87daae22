"""Evaluations read back from their folders, as `Evaluation.write` left them; those of older versions too."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dualpath.data.formats.base import SPLIT_NAMES
from dualpath.data.manifest import Video
from dualpath.engine.evaluate import Evaluation
from dualpath.engine.origin import Origin
from dualpath.errors import DualPathError, number_of
from dualpath.files import cell_text, read_table

SUMMARY, PREDICTIONS = "evaluation.json", "predictions.csv"
NO_REASON = "not recorded"


@dataclass(frozen=True)
class Recorded:
    """An evaluation's figures, and where they come from.

    Attributes:
        folder: that holds it.
        told: evaluation.json.
    """

    folder: Path
    told: Mapping[str, Any]

    @property
    def origin(self) -> Origin:
        """Without a single value where an older version wrote it."""
        return Origin.from_json(self.told.get("origin"))

    @property
    def top1(self) -> float:
        return float(self.told["top1"])

    @property
    def videos(self) -> int:
        return int(self.told["videos"])

    @property
    def shuffled(self) -> bool:
        return "shuffled" in str(self.told["protocol"])

    def read(self) -> Evaluation:
        """All scores again, to the six digits that are written.

        Raises:
            DualPathError: predictions.csv is missing, damaged, or not of the same evaluation.
        """
        path = self.folder / PREDICTIONS
        try:
            with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
                return self._parse(csv.reader(file))
        except FileNotFoundError as problem:
            raise DualPathError(f"{path} is missing; it belongs beside {SUMMARY}: evaluate again") from problem
        except (OSError, ValueError, IndexError, KeyError, csv.Error) as problem:
            raise DualPathError(f"{path} is damaged ({problem}); evaluate again") from problem

    def _parse(self, rows: Any) -> Evaluation:
        rows = ([*map(cell_text, row)] for row in rows)
        head, classes = next(rows, []), tuple(self.told["classes"])
        if tuple(head) != ("video", "label", "prediction", *classes):
            raise ValueError(f"its first line does not name the {len(classes)} classes of {SUMMARY}")
        label_of = {name: label for label, name in enumerate(classes)}
        undecodable: Mapping[str, Any] = self.told["undecodable"]
        root, split = Path(self.origin.data or ""), SPLIT_NAMES.get(self.origin.split or "", "test")
        videos: list[Video] = []
        failures: dict[int, str] = {}
        scores = np.full((self.videos, len(classes)), np.nan, dtype=np.float32)
        for index, row in enumerate(rows):
            if index >= self.videos or len(row) != len(head) or row[1] not in label_of:
                raise ValueError(f"line {index + 2} is not one of the {number_of(self.videos, 'video')} of {SUMMARY}")
            videos.append(Video(root / row[0], row[0], label_of[row[1]], split))
            if row[2]:
                scores[index] = _scores(row[3:], label_of[row[2]], line=index + 2)
            else:
                failures[index] = str(undecodable.get(row[0], NO_REASON))
        if len(videos) != self.videos:
            raise ValueError(f"it holds {len(videos)} of the {number_of(self.videos, 'video')} of {SUMMARY}")
        harmed = self.told.get("damaged") or {}
        found = Evaluation(
            classes,
            tuple(videos),
            scores,
            failures,
            str(self.told["protocol"]),
            data=self.told.get("data"),
            quarantined=int(self.told.get("quarantined", 0)),
            seconds=self.origin.seconds or 0.0,
            origin=self.origin,
            damaged={i: str(harmed[video.name]) for i, video in enumerate(videos) if video.name in harmed},
        )
        if abs(found.top(1) - self.top1) > 1e-9:
            raise ValueError(f"its top-1 is {found.top(1):.6f}, that of {SUMMARY} is {self.top1:.6f}")
        return found


def _scores(words: list[str], guess: int, *, line: int) -> np.ndarray:
    """A row of scores, in which the predicted class is the best even if six digits do not tell it from another."""
    scores = np.array(words, dtype=np.float32)
    if not np.isfinite(scores).all() or scores[guess] < scores.max():
        raise ValueError(f"line {line} has scores that do not fit its prediction")
    if int(scores.argmax()) != guess:
        scores[guess] = np.nextafter(scores[guess], np.float32(2))
    return scores


def read_summary(folder: Path) -> Recorded:
    """The figures of an evaluation's folder, without its scores.

    Raises:
        DualPathError: there is no evaluation.json, or a damaged one.
    """
    path = folder / SUMMARY
    try:
        told = read_table(path)
        fits = (
            isinstance(told["protocol"], str)
            and isinstance(told["videos"], int)
            and told["videos"] > 0
            and isinstance(told["top1"], int | float)
            and isinstance(told["undecodable"], dict)
            and isinstance(told["classes"], list)
            and len(told["classes"]) == len(set(map(str, told["classes"]))) > 0
            and all(isinstance(name, str) for name in told["classes"])
            and isinstance(told.get("data"), dict | None)
            and isinstance(told.get("quarantined", 0), int)
            and isinstance(told.get("damaged"), dict | None)
        )
        if not fits:
            raise ValueError("a value is of another kind than it should be")
    except FileNotFoundError as problem:
        raise DualPathError(f"{folder} holds no evaluation: {SUMMARY} is missing") from problem
    except (OSError, ValueError, KeyError, TypeError) as problem:
        told = f"{problem.args[0]} is missing" if isinstance(problem, KeyError) else problem
        raise DualPathError(f"{path} is damaged ({told}); evaluate again") from problem
    return Recorded(folder, told)


def find_evaluations(folder: Path) -> list[Recorded]:
    """All evaluations in a run's folder, those of its checkpoints among them; the one to look at first comes first.

    That is one of the best checkpoint rather than of the last, of test rather than of val, not shuffled, and the newest.

    Raises:
        DualPathError: one of them is damaged.
    """
    places = [path.parent for pattern in ("*", "best/*", "last/*") for path in folder.glob(f"{pattern}/{SUMMARY}")]
    found = [read_summary(place) for place in dict.fromkeys(places)]

    def rank(one: Recorded) -> tuple[bool, int, bool, float]:
        split = one.origin.split or one.folder.name.removeprefix("evaluation-")
        order = [split.startswith(name) for name in ("test", "1", "2", "3", "val", "all")]
        return (
            one.shuffled,
            order.index(True) if True in order else len(order),
            one.folder.parent.name == "last",
            -(one.folder / SUMMARY).stat().st_mtime,
        )

    return sorted(found, key=rank)
