"""How long a training is, the learning rate of each step, the seed of each batch. Pure maths."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dualpath.engine.config import TrainConfig

EPOCHS = 30
"""Passes over the training videos where nothing else is asked for and they make enough steps."""
WARMUP = 0.1
"""Share of all steps in which the learning rate rises, where nothing else is asked for."""


@dataclass(frozen=True)
class Schedule:
    """The length of a training on a number of videos.

    Attributes:
        batches_an_epoch: the last may be smaller.
        steps_an_epoch: of the optimizer; the last may be of fewer batches.
        epochs: passes over the videos.
        warmup: steps in which the learning rate rises.
        eval_every: epochs from one validation to the next; 0: none.
    """

    batches_an_epoch: int
    steps_an_epoch: int
    epochs: int
    warmup: int
    eval_every: int

    @property
    def steps(self) -> int:
        """All of them."""
        return self.epochs * self.steps_an_epoch

    def learning_rate(self, step: int, *, peak: float) -> float:
        """Linear warm-up from peak / warmup, then a cosine to 0 behind the last step; `step` counts from 0."""
        if step < self.warmup:
            return peak * (step + 1) / self.warmup
        return peak * 0.5 * (1 + math.cos(math.pi * (step - self.warmup) / max(1, self.steps - self.warmup)))


def make_schedule(videos: int, training: TrainConfig) -> Schedule:
    """The schedule of a training on so many videos; without given epochs, EPOCHS or `min_steps` steps, whichever are more."""
    batches = math.ceil(videos / training.batch_size)
    steps = math.ceil(batches / training.accumulate)
    epochs = training.epochs or max(EPOCHS, math.ceil(training.min_steps / max(1, steps)))
    warmup = WARMUP * epochs if training.warmup_epochs is None else training.warmup_epochs
    every = math.ceil(epochs / EPOCHS) if training.eval_every is None else training.eval_every
    return Schedule(batches, steps, epochs, round(warmup * steps), every)


def draw_seed(seed: int, step: int, number: int) -> int:
    """Of all that a method draws on one batch (dropout): a step's `number`-th, so a resumed run draws the same.

    The CPU's generator looks at 32 bits of a seed only: these are all well mixed.
    """
    return int(np.random.SeedSequence((seed, step, number)).generate_state(1)[0])
