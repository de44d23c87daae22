"""The demonstration as one HTML page: no network, no script; page.html.j2 says how it looks, this file what it says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined

from dualpath.engine.checkpoint import versions
from dualpath.engine.evaluate import Evaluation
from dualpath.engine.log import read_log
from dualpath.engine.predict import VideoClassifier
from dualpath.files import write_whole
from dualpath.methods import count_parameters
from dualpath.report.pictures import Looks, choose_right, choose_wrong, in_pairs, inline, look

METHODS = {"dualpath": "DualPath", "dualpath_shuffled": "DualPath, frames shuffled", "linear_probe": "Linear probe"}
CLIPS_SHOWN, MISTAKES_SHOWN = 8, 4
MOST_POINTS = 500  # of a curve


@dataclass(frozen=True)
class Guess:
    """One class of a prediction: its name, its score and whether it is the true one."""

    label: str
    score: float
    true: bool


@dataclass(frozen=True)
class ClipCard:
    """A clip as the page shows it.

    Attributes:
        name: of the file.
        truth: name of the true class.
        right: whether the first guess is true.
        guesses: best first.
        frames: (number counted from 1, data URL) of some frames, in order.
        framesets: data URLs.
        grid: rows and columns of a frameset.
    """

    name: str
    truth: str
    right: bool
    guesses: list[Guess]
    frames: list[tuple[int, str]]
    framesets: list[str]
    grid: tuple[int, int]


def write_report(
    path: Path, results: dict[str, Any], found: dict[str, Evaluation], model: VideoClassifier, folder: Path
) -> None:
    """Writes the page.

    Args:
        path: the HTML file.
        results: what `dualpath.demo` has measured.
        found: the evaluations "dualpath", "linear_probe" and "dualpath_shuffled".
        model: the trained DualPath.
        folder: of the demonstration: holds the runs `dualpath` and `linear_probe`, and the newly predicted file.

    Raises:
        VideoError: a clip to be shown cannot be read any more.
        DualPathError: the page cannot be written.
    """
    evaluation = found["dualpath"]
    wrong = choose_wrong(evaluation, MISTAKES_SHOWN)
    right = choose_right(evaluation, CLIPS_SHOWN - len(wrong))
    prediction = results["prediction"]
    template = (resources.files("dualpath.report") / "page.html.j2").read_text(encoding="utf-8")
    page = (
        Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        .from_string(template)
        .render(
            results=results,
            methods=[describe(key, found[key], results) for key in METHODS],
            paired=in_pairs(evaluation.classes) != list(range(len(evaluation.classes))),
            chance=1 / len(evaluation.classes),
            total_params=count_parameters(model.model)[1],
            backbone=model.spec.backbone.backbone,
            num_frames=model.spec.sampling.num_frames,
            plot=plot_losses({key: losses(folder / key) for key in ("dualpath", "linear_probe")}, len(evaluation.classes)),
            by_class=class_rows(found),
            confusion=confusion_rows(evaluation),
            column_names=[evaluation.classes[label] for label in in_pairs(evaluation.classes)],
            undecodable={evaluation.videos[i].name: reason for i, reason in evaluation.failures.items()},
            right=[clip_card(model, evaluation, i) for i in right],
            wrong=[clip_card(model, evaluation, i) for i in wrong],
            mistakes=int((evaluation.predictions != evaluation.labels).sum()) - len(evaluation.failures),
            new=card(
                prediction["video"], prediction["shows"], prediction["predictions"], look(model, folder / prediction["video"])
            ),
            training=model.spec.training,
            command=command(results, model),
            versions=versions(),
            duration=duration(results["seconds"]),
        )
    )
    write_whole(path, page)


def describe(key: str, evaluation: Evaluation, results: dict[str, Any]) -> dict[str, Any]:
    """What stands beside a method's accuracy."""
    right = int((evaluation.predictions == evaluation.labels).sum())
    return {
        "key": key,
        "name": METHODS[key],
        "top1": evaluation.top(1),
        "interval": wilson(right, len(evaluation.videos)),
        "right": right,
        "videos": len(evaluation.videos),
        "protocol": evaluation.protocol,
        "pair": pair_accuracy(evaluation),
        "trainable": results[key].get("trainable_params"),
    }


def pair_accuracy(evaluation: Evaluation) -> float | None:
    """Share of the videos for which the class or its opposite is predicted; None where classes have no opposites."""
    order = in_pairs(evaluation.classes)
    if order == list(range(len(evaluation.classes))):
        return None
    pair_of = np.full(len(order) + 1, -1)  # the last one, -1, is for undecodable videos
    for place, label in enumerate(order):
        pair_of[label] = place // 2
    return float((pair_of[evaluation.predictions] == pair_of[evaluation.labels]).mean())


def wilson(right: int, count: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share (Wilson 1927)."""
    z, share = 1.959964, right / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    reach = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(middle - reach, 0.0), min(middle + reach, 1.0)


def losses(run: Path) -> list[tuple[int, float]]:
    """(step, loss) of a run."""
    return [(line["step"], float(line["loss"])) for line in read_log(run)[0]]


def smooth(values: list[float]) -> list[float]:
    """Mean over a window around each value, a 30th of all wide on either side: it does not lag behind."""
    reach = len(values) // 30
    sums = np.cumsum([0.0, *values])
    first = np.maximum(np.arange(len(values)) - reach, 0)
    after = np.minimum(np.arange(len(values)) + reach + 1, len(values))
    return ((sums[after] - sums[first]) / (after - first)).tolist()


def ticks(top: float, most: int) -> list[float]:
    """Round numbers from 0 to `top`, at most `most` steps apart."""
    power = 10.0 ** math.floor(math.log10(top / most))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor * most >= top)
    return [i * step for i in range(int(top / step + 1e-9) + 1)]


def plot_losses(runs: dict[str, list[tuple[int, float]]], num_classes: int) -> dict[str, Any]:
    """Curves in a square of 1000 x 1000 with its origin at the top left, and the ticks in per cent of its sides."""
    chance = math.log(num_classes)
    smoothed = {key: smooth([loss for _, loss in points]) for key, points in runs.items()}
    last = max((points[-1][0] for points in runs.values() if points), default=1)
    top = 1.12 * max([chance, *(value for values in smoothed.values() for value in values)])

    def line(steps: list[int], values: list[float]) -> str:
        stride = max(1, math.ceil(len(values) / MOST_POINTS))
        kept = [*range(0, len(values) - 1, stride), len(values) - 1] if values else []
        return " ".join(f"{1000 * steps[i] / last:.1f},{1000 * (1 - min(values[i] / top, 1)):.1f}" for i in kept)

    curves = []
    for key, points in runs.items():
        steps, raw = [step for step, _ in points], [loss for _, loss in points]
        curves.append(
            {
                "key": key,
                "name": METHODS[key],
                "steps": len(points),
                "raw": line(steps, raw),
                "smooth": line(steps, smoothed[key]),
                "first": raw[0] if raw else math.nan,
                "final": smoothed[key][-1] if raw else math.nan,
            }
        )
    return {
        "curves": curves,
        "chance": chance,
        "chance_at": 100 * (1 - chance / top),
        "across": [(f"{tick:,.0f}", 100 * tick / last) for tick in ticks(float(last), 5) if tick == int(tick)],
        "down": [(f"{tick:g}", 100 * (1 - tick / top)) for tick in ticks(top, 5)],
    }


def class_rows(found: dict[str, Evaluation]) -> list[dict[str, Any]]:
    """Accuracy of each class under each method, opposites side by side."""
    shares = {key: found[key].per_class() for key in METHODS}
    classes = found["dualpath"].classes
    names = [classes[label] for label in in_pairs(classes)]
    return [{"name": name, "shares": [(key, shares[key][name]) for key in METHODS]} for name in names]


def confusion_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Rows of the confusion matrix, opposites side by side; the undecodable ones of each row apart."""
    order = in_pairs(evaluation.classes)
    matrix = evaluation.confusion()
    return [
        {
            "name": evaluation.classes[label],
            "cells": [
                {
                    "count": int(matrix[label, other]),
                    "share": matrix[label, other] / max(matrix[label].sum(), 1),
                    "hit": other == label,
                }
                for other in order
            ],
            "undecodable": int(matrix[label, -1]),
        }
        for label in order
    ]


def clip_card(model: VideoClassifier, evaluation: Evaluation, index: int) -> ClipCard:
    """A tested video as a card."""
    video, scores = evaluation.videos[index], evaluation.scores[index]
    best = np.argsort(-scores, kind="stable")[:3]
    guesses = [{"label": evaluation.classes[label], "score": float(scores[label])} for label in best]
    return card(video.name, evaluation.classes[video.label], guesses, look(model, video.path))


def card(name: str, truth: str, guesses: list[dict[str, Any]], looks: Looks) -> ClipCard:
    """A clip and its prediction, with its pictures inlined."""
    told = [Guess(guess["label"], guess["score"], guess["label"] == truth) for guess in guesses]
    return ClipCard(
        name=name,
        truth=truth,
        right=told[0].true,
        guesses=told,
        frames=[(i + 1, inline(looks.frames[i])) for i in looks.shown],
        framesets=[inline(picture) for picture in looks.framesets],
        grid=looks.grid,
    )


def command(results: dict[str, Any], model: VideoClassifier) -> str:
    """The command that makes this demonstration again."""
    training, classes = model.spec.training, len(results["classes"])
    words = ["dualpath demo --output NEW_FOLDER"]
    if "training videos" in training:
        words.append(f"--train-clips {training['training videos'] // classes}")
    words.append(f"--test-clips {results['test_videos'] // classes}")
    words += [f"--{name} {training[name]}" for name in ("epochs", "seed") if name in training]
    return " ".join(words)


def duration(seconds: float) -> str:
    """367.2 -> "6 min 7 s"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
