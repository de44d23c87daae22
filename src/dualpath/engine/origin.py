"""Where an evaluation's numbers come from: all that it takes to make them again, and what they have cost."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from dualpath.data.manifest import Video
from dualpath.engine.checkpoint import read_config, versions
from dualpath.engine.predict import VideoClassifier
from dualpath.hardware import describe_machine, peak_memory
from dualpath.methods import count_parameters
from dualpath.video.protocols import ViewsConfig

_KINDS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "str": (str, str),
    "int": (int, int),
    "float": ((int, float), float),
    "bool": (bool, bool),
    "tuple": (list, lambda words: tuple(map(str, words))),
    "dict": (dict, lambda told: {str(name): str(text) for name, text in told.items()}),
}
"""By the type of a field: what its value is in JSON, and how it becomes one of that type."""


@dataclass(frozen=True)
class Origin:
    """What evaluation.json holds under "origin". None stands for what is not recorded, as in files of older versions.

    Attributes:
        command: the words of the command line.
        folder: where it was given; relative paths in it begin there.
        checkpoint: its folder.
        method, backbone: of the checkpoint.
        checkpoint_sha256: of its trained tensors.
        checkpoint_bytes: of all its files.
        backbone_sha256: of the backbone's weights.
        trainable, total: parameters.
        data: the folder or list of videos.
        split: of it.
        videos_sha256: of the names and labels of the videos, see `fingerprint`.
        sampling, num_clips, num_crops, shuffled: which views of a video were averaged.
        seconds: of the evaluation, reading included.
        videos_per_s, clips_per_s: that is; a clip is one view of a video.
        peak_ram_gb, peak_gpu_gb: most memory of the process and its GPU, in 1e9 bytes.
        machine: in words.
        versions: of what the numbers depend on.
    """

    command: tuple[str, ...] | None = None
    folder: str | None = None
    checkpoint: str | None = None
    method: str | None = None
    backbone: str | None = None
    checkpoint_sha256: str | None = None
    checkpoint_bytes: int | None = None
    backbone_sha256: str | None = None
    trainable: int | None = None
    total: int | None = None
    data: str | None = None
    split: str | None = None
    videos_sha256: str | None = None
    sampling: str | None = None
    num_clips: int | None = None
    num_crops: int | None = None
    shuffled: bool | None = None
    seconds: float | None = None
    videos_per_s: float | None = None
    clips_per_s: float | None = None
    peak_ram_gb: float | None = None
    peak_gpu_gb: float | None = None
    machine: str | None = None
    versions: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, told: object) -> Origin:
        """What is there and has the type it should have; the rest is not recorded."""
        if not isinstance(told, Mapping):
            return cls()
        kept: dict[str, Any] = {}
        for one in fields(cls):
            value, kind = told.get(one.name), str(one.type).split("[")[0].split(" ")[0]
            written, read = _KINDS[kind]
            if isinstance(value, written) and isinstance(value, bool) == (kind == "bool"):
                kept[one.name] = read(value)
        return cls(**kept)


def fingerprint(videos: Sequence[Video], classes: Sequence[str]) -> str:
    """A hash of what is judged: names and labels, in order; moving or checking the files does not change it."""
    told = [(video.name, classes[video.label]) for video in videos]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def describe_origin(
    classifier: VideoClassifier,
    *,
    checkpoint: Path,
    data: Path | str,
    split: str,
    videos: Sequence[Video],
    views: ViewsConfig,
    seconds: float,
    shuffled: bool = False,
) -> Origin:
    """What is known at the end of an evaluation.

    Args:
        classifier: which was evaluated.
        checkpoint: the folder that it is in.
        data: folder, list or URL of the videos.
        split: of them.
        videos: those that were judged.
        views: of each.
        seconds: it took.
        shuffled: whether the frames of each clip were.
    """
    config = read_config(checkpoint)
    trainable, total = count_parameters(classifier.model)
    speed = len(videos) / seconds if seconds > 0 else None
    return Origin(
        command=tuple(sys.argv),
        folder=str(Path.cwd()),
        checkpoint=str(checkpoint.resolve()),
        method=classifier.spec.method,
        backbone=classifier.spec.backbone.backbone,
        checkpoint_sha256=config.get("sha256"),
        checkpoint_bytes=sum(file.stat().st_size for file in checkpoint.iterdir() if file.is_file()),
        backbone_sha256=config["backbone"]["sha256"],
        trainable=trainable,
        total=total,
        data=str(data) if "://" in str(data) else str(Path(data).resolve()),
        split=split,
        videos_sha256=fingerprint(videos, classifier.classes),
        sampling=classifier.spec.sampling.name,
        num_clips=views.num_clips,
        num_crops=views.num_crops,
        shuffled=shuffled,
        seconds=round(seconds, 2),
        videos_per_s=None if speed is None else round(speed, 3),
        clips_per_s=None if speed is None else round(speed * views.num_clips * views.num_crops, 3),
        **peak_memory(),
        machine=describe_machine(classifier.device),
        versions=versions(),
    )
