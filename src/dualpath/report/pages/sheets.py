"""Contact sheets of evaluated videos: what the model saw of each, as long as checkpoint and videos are still there."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path

from jaxtyping import UInt8
from torch import Tensor

from dualpath.data.clips import TestClips
from dualpath.engine.evaluate import Evaluation
from dualpath.engine.explain import explain_clip
from dualpath.engine.predict import VideoClassifier, load
from dualpath.engine.prepare import read_for
from dualpath.errors import DualPathError
from dualpath.methods.dualpath import DualPath
from dualpath.report.maps.heat import heat_picture, soft_heat
from dualpath.report.pages.cards import FRAME_SIDE, ClipCard, Strip, best_guesses, with_pictures
from dualpath.report.pages.sources import Source
from dualpath.report.pictures import Looks, inline, looks_of, some_of


class Sheets:
    """Makes cards of the videos of one evaluation.

    Attributes:
        problem: why there are no pictures; empty if there are.
        shown: videos of which there are.
    """

    def __init__(self, source: Source, evaluation: Evaluation, *, weights: str | None = None, data: Path | None = None) -> None:
        """Loads nothing yet.

        Args:
            source: where the evaluation comes from.
            evaluation: whose videos are shown.
            weights: local file with the backbone's weights, if it has moved.
            data: the videos' folder or list, if it has moved.
        """
        self.source, self.evaluation, self.weights = source, evaluation, weights
        self.data = data if data is not None else Path(source.data) if source.data else None
        self.problem, self.shown = "", 0

    @cached_property
    def model(self) -> VideoClassifier | None:
        """The evaluated model; None, with a `problem`, if it cannot be had any more."""
        if self.source.checkpoint is None:
            self.problem = "There are no pictures, because the checkpoint is no longer where it was, or was not recorded."
            return None
        try:
            model = load(self.source.checkpoint, weights=self.weights)
            sampling = self.source.origin.sampling
            if sampling is not None and sampling != model.spec.sampling.name:
                model = load(self.source.checkpoint, weights=self.weights, protocol=sampling)
        except DualPathError as problem:
            self.problem = f"There are no pictures, because the model cannot be loaded: {problem}."
            return None
        return model

    @cached_property
    def clips(self) -> TestClips | None:
        """The videos as they were judged, but one view of each; None, with a `problem`, if they are not there."""
        model = self.model
        if model is None:
            return None
        if self.data is None:
            self.problem = "There are no pictures, because it was not recorded where the videos are."
            return None
        told = self.evaluation.data or {}
        damaged = "take" if self.evaluation.damaged else "refuse"
        try:
            manifest = read_for(model.spec, self.data, fold=told.get("fold"), damaged=damaged)
        except (DualPathError, OSError) as problem:
            self.problem = f"There are no pictures, because the videos are no longer there: {problem}."
            return None
        there = {video.name: video for video in manifest.videos}
        videos = [there.get(video.name, video) for video in self.evaluation.videos]
        shuffled = bool(self.source.origin.shuffled) or "shuffled" in self.evaluation.protocol
        return TestClips(
            videos,
            sampling=model.spec.sampling,
            size=model.size,
            shuffle_frames=shuffled,
            damaged=damaged,
        )

    def card(self, index: int) -> ClipCard:
        """One video; without pictures where they cannot be had."""
        video, guess = self.evaluation.videos[index], int(self.evaluation.predictions[index])
        right = guess == video.label
        plain = ClipCard(video.name, self.evaluation.classes[video.label], right, best_guesses(self.evaluation, index))
        if self.model is None or self.clips is None:
            return plain
        seen = self.clips[index]
        if seen.frames is None:
            return replace(plain, problem=f"It cannot be shown: {seen.reason}.")
        self.shown += 1
        looks = looks_of(self.model, seen.frames[0])
        return replace(with_pictures(plain, looks), maps=_maps(self.model, seen.frames[0], looks, guess))


def _maps(model: VideoClassifier, clip: UInt8[Tensor, "t c s s"], looks: Looks, label: int) -> tuple[Strip, ...]:
    """What speaks for a class, path by path, over the frames that the path looks at; nothing where there are no paths."""
    if not isinstance(model.model, DualPath):
        return ()
    _, _, paths = explain_clip(model.model, clip[None].to(model.device), label=label)
    told = f"what speaks for “{model.classes[label]}”"
    return tuple(
        Strip(
            title=f"{path.path.capitalize()} path: {told}",
            what=f"Map of the {path.path} path over frame",
            tail=f": {told}, bright where it lies",
            frames=[
                (path.frames[i] + 1, inline(heat_picture(looks.frames[path.frames[i]], heat[i]), side=FRAME_SIDE))
                for i in some_of(len(path.frames))
            ],
        )
        for path, heat in ((path, soft_heat(path)) for path in paths)
    )
