"""The demonstration as one HTML page: no network, no script; demo.html.j2 says how it looks, this file what it says."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from dualpath.engine.checkpoint import versions
from dualpath.engine.evaluate import Evaluation
from dualpath.engine.log import read_log
from dualpath.engine.predict import VideoClassifier
from dualpath.methods import count_parameters
from dualpath.report.curves import Curve, duration, plot, wilson
from dualpath.report.pages.cards import ClipCard, card
from dualpath.report.pages.classes import class_rows, confusion_rows
from dualpath.report.pages.making import write_page
from dualpath.report.pictures import choose_right, choose_wrong, in_pairs, look

METHODS = {"dualpath": "DualPath", "dualpath_shuffled": "DualPath, frames shuffled", "linear_probe": "Linear probe"}
SERIES = {"dualpath": "s0", "dualpath_shuffled": "s2", "linear_probe": "s1"}
"""The colour of each, see templates/style.css.j2."""
CLIPS_SHOWN, MISTAKES_SHOWN = 8, 4


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
    order = in_pairs(evaluation.classes)
    paired = order != list(range(len(order)))
    guessing = math.log(len(order))
    curves = [Curve(METHODS[key], SERIES[key], losses(folder / key), rough=True) for key in ("dualpath", "linear_probe")]
    write_page(
        path,
        "demo.html.j2",
        results=results,
        methods=[describe(key, found[key], results) for key in METHODS],
        paired=paired,
        chance=1 / len(order),
        guessing=guessing,
        total_params=count_parameters(model.model)[1],
        backbone=model.spec.backbone.backbone,
        num_frames=model.spec.sampling.num_frames,
        plot=plot(curves, title="optimizer steps", mark=(guessing, "guessing"), fitted=True),
        heads=[(SERIES[key], METHODS[key]) for key in METHODS],
        by_class=class_rows([(SERIES[key], found[key]) for key in METHODS], order, paired=paired),
        confusion=confusion_rows(evaluation),
        column_names=[evaluation.classes[label] for label in order],
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


def describe(key: str, evaluation: Evaluation, results: dict[str, Any]) -> dict[str, Any]:
    """What stands beside a method's accuracy."""
    right = int((evaluation.predictions == evaluation.labels).sum())
    return {
        "series": SERIES[key],
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


def losses(run: Path) -> list[tuple[int, float]]:
    """(step, loss) of a run."""
    return [(line["step"], float(line["loss"])) for line in read_log(run)[0]]


def clip_card(model: VideoClassifier, evaluation: Evaluation, index: int) -> ClipCard:
    """A tested video as a card."""
    video, scores = evaluation.videos[index], evaluation.scores[index]
    best = np.argsort(-scores, kind="stable")[:3]
    guesses = [{"label": evaluation.classes[label], "score": float(scores[label])} for label in best]
    return card(video.name, evaluation.classes[video.label], guesses, look(model, video.path))


def command(results: dict[str, Any], model: VideoClassifier) -> str:
    """The command that makes this demonstration again."""
    training, classes = model.spec.training, len(results["classes"])
    words = ["dualpath demo --output NEW_FOLDER"]
    if "training videos" in training:
        words.append(f"--train-clips {training['training videos'] // classes}")
    words.append(f"--test-clips {results['test_videos'] // classes}")
    words += [f"--{name} {training[name]}" for name in ("epochs", "seed") if name in training]
    return " ".join(words)
