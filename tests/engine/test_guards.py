from __future__ import annotations

import math
import re

import pytest

from dualpath.engine.guards import (
    PATIENCE,
    WINDOW,
    LossWatch,
    few_videos,
    is_as_good,
    one_class_for_all,
    uneven_classes,
    uneven_evaluation,
)

CHANCE = math.log(6)


def watch(losses: list[float], *, warmup: int = 5) -> list[tuple[int, str]]:
    looking = LossWatch(6, warmup=warmup)
    said = [(step, looking.add(loss, step)) for step, loss in enumerate(losses, start=1)]
    return [(step, sentence) for step, sentence in said if sentence is not None]


def test_a_loss_that_stays_at_chance_is_said_once_after_the_warm_up() -> None:
    ((step, sentence),) = watch([CHANCE] * 200)
    assert step == 5 + PATIENCE
    assert re.search(r"after 45 steps the loss is 1\.79, no better than guessing \(1\.79\); .*--relative_lr 0\.01", sentence)


def test_a_loss_that_falls_is_not_worth_a_word() -> None:
    assert watch([CHANCE * math.exp(-step / 50) for step in range(200)]) == []


def test_a_loss_that_rises_is_said_once() -> None:
    losses = [CHANCE * math.exp(-step / 50) for step in range(100)] + [0.8] * 60
    ((step, sentence),) = watch(losses)
    assert 100 < step <= 100 + WINDOW
    assert "the loss rises" in sentence


def test_one_class_for_all() -> None:
    classes = ["hug", "kick"]
    assert "all 8 validation videos are taken for 'kick'" in str(one_class_for_all([1] * 8, [0, 1] * 4, classes))
    assert one_class_for_all([1] * 7 + [0], [0, 1] * 4, classes) is None
    assert one_class_for_all([1] * 8, [1] * 8, classes) is None
    assert one_class_for_all([1] * 7, [0, 1, 0, 1, 0, 1, 0], classes) is None  # too few to tell
    assert one_class_for_all([], [], classes) is None


@pytest.mark.parametrize(
    ("count", "interval"), [(10, "55 to 100 %"), (12, "57 to 100 %"), (50, "69 to 91 %"), (99, "72 to 88 %")]
)
def test_few_validation_videos_are_told_with_their_interval(count: int, interval: str) -> None:
    assert f"{count} validation videos are few: 80 % right would mean {interval}" in str(few_videos(count))


def test_enough_or_no_validation_videos() -> None:
    assert few_videos(0) is None
    assert few_videos(100) is None


def test_uneven_classes() -> None:
    classes = ["calm", "fight", "rare"]
    assert uneven_classes([0] * 6 + [1] * 2, classes) is not None
    sentence = str(uneven_classes([0] * 6 + [1] * 3 + [2], classes))
    assert "'calm' has 6 training videos and 'rare' 1" in sentence
    assert "right in 60 %" in sentence
    assert uneven_classes([0] * 5 + [1] * 2, classes) is None
    assert uneven_classes([0] * 5, classes) is None


def test_the_later_of_two_epochs_that_cannot_be_told_apart_is_taken() -> None:
    assert is_as_good(0.0, -1.0, 10)  # the first
    assert is_as_good(0.9, 1.0, 10)  # one video of ten less
    assert not is_as_good(0.8, 1.0, 10)
    assert is_as_good(0.7, 0.8, 10)
    error = math.sqrt(0.8 * 0.2 / 10_000)  # 0.4 points
    assert is_as_good(0.8 - error, 0.8, 10_000)
    assert not is_as_good(0.8 - 1.1 * error, 0.8, 10_000)


def test_an_accuracy_on_uneven_classes_is_not_left_alone() -> None:
    sentence = uneven_evaluation([0] * 100 + [1] * 2, 0.95, 0.485, ["walk", "fall"])
    assert sentence is not None
    assert "100 videos of 'walk' and 2 of 'fall'" in sentence
    assert "alone would be right in 98.0 %, so the mean per class, 48.5 %, says more than the top-1, 95.0 %" in sentence
    assert uneven_evaluation([0] * 10 + [1] * 8, 0.9, 0.9, ["walk", "fall"]) is None
    assert uneven_evaluation([0] * 10, 0.9, 0.9, ["walk", "fall"]) is None
