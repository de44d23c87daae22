"""The names of protocols: how a clip is taken from a video, and which views of it are averaged.

    dense-16x4  16 frames with a step of 4            num_frames 16, sampling dense, sampling_rate 4
    segment-8   a frame from each of 8 equal parts    num_frames 8, sampling segment
    3x1         3 clips of a video, 1 crop of each    num_clips 3, num_crops 1

A name stands for numbers and holds none: `SamplingConfig` and `ViewsConfig` are their only home.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dualpath.errors import DualPathError, check_count
from dualpath.settings import MOST_VIEWS, check_fields
from dualpath.video.decode import Decoder, check_decoder
from dualpath.video.decoding.places import SECONDS, Damaged
from dualpath.video.sampling import SamplingConfig


@dataclass(frozen=True)
class ViewsConfig:
    """How videos are read, and the views of one whose scores are averaged.

    Attributes:
        num_clips: temporal views, spread from the first frame to the last.
        num_crops: spatial views, spread from edge to edge along the longer side.
        decoder: pyav, or torchcodec where it is installed, for mp4, mov, mkv and webm files: the same frames,
            whose pixels differ slightly where they are scaled down.
        seconds: time limit for reading one file, to which comes 2 s a megabyte.
        damaged: what is done with a file of which some cannot be decoded: refuse it, or take the rest as the video, and say
            so in every result; every file is then decoded whole.
    """

    num_clips: int = 1
    num_crops: int = 1
    decoder: Decoder = "pyav"
    seconds: float = SECONDS
    damaged: Damaged = "refuse"

    def __post_init__(self) -> None:
        check_fields(self, num_clips=MOST_VIEWS, num_crops=MOST_VIEWS)
        check_decoder(self.decoder)
        check_count("num_clips", self.num_clips)
        check_count("num_crops", self.num_crops)
        if self.seconds <= 0:
            raise DualPathError(f"seconds is {self.seconds}, but it must be a number above 0")

    @classmethod
    def from_name(cls, name: str) -> ViewsConfig:
        """What 3x1, 1x3, 10x3 .. stand for: clips x crops.

        Raises:
            DualPathError: another name.
        """
        if found := re.fullmatch(r"([0-9]{1,6})x([0-9]{1,6})", name):
            return cls(int(found[1]), int(found[2]))
        raise DualPathError(f"there are no views {name!r}; give the clips of a video x the crops of a clip, such as 3x1 or 1x3")

    @property
    def name(self) -> str:
        """Clips x crops: 3x1."""
        return f"{self.num_clips}x{self.num_crops}"


def describe_protocol(sampling: SamplingConfig, views: ViewsConfig) -> str:
    """The protocol as it stands beside every accuracy: "dense-16x4, 3x1 views"."""
    return f"{sampling.name}, {views.name} views"


def spell_out(given: Mapping[str, Any], names: Iterable[str] = ("protocol", "views")) -> dict[str, Any]:
    """Settings without the names "protocol" and "views", but with all that they stand for.

    Args:
        given: settings of one source, such as a file or a command line; their values may be text.
        names: which of the two to look for.

    Raises:
        DualPathError: an unknown name, or a setting beside it that says something else.
    """
    full = dict(given)
    for kind in names:
        if kind not in full:
            continue
        name = str(full.pop(kind))
        for setting, value in _SETTINGS_OF[kind](name).items():
            if setting in full and str(full[setting]) != str(value):
                means = f"has no {setting}" if value is None else f"means {setting} {value}"
                raise DualPathError(f"{kind} {name} {means}, but {setting} is given as {full[setting]}; leave one of them out")
            if value is not None:
                full[setting] = value
    return full


def _of_sampling(name: str) -> dict[str, Any]:
    config = SamplingConfig.from_name(name)
    # Segments have no rate: None is for what must not be given.
    return asdict(config) | ({} if config.sampling == "dense" else {"sampling_rate": None})


def _of_views(name: str) -> dict[str, Any]:
    views = ViewsConfig.from_name(name)
    return {"num_clips": views.num_clips, "num_crops": views.num_crops}


_SETTINGS_OF: dict[str, Callable[[str], dict[str, Any]]] = {"protocol": _of_sampling, "views": _of_views}
