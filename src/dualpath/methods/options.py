"""The choices of DualPath: the paper's, the authors' code's (dualpath_reference.py), and what the ablations vary."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from dualpath.errors import DualPathError
from dualpath.methods.base import MethodConfig
from dualpath.nn.framesets import check_frames
from dualpath.settings import MOST_FRAMES, WIDEST, check_fields

Place = Literal["parallel", "serial"]
Positions = Literal["none", "time", "3d", "reference"]


@dataclass(frozen=True)
class DualPathConfig(MethodConfig):
    """The choices of the method; the defaults are the paper's.

    Attributes:
        variant: paper, or reference: what the authors' code does, which fixes all choices below but antialias.
        paths: both, or one of them alone.
        num_spatial_frames: T_S, how many of the clip's frames the spatial path sees.
        train_spatial_frames: how many of them it sees in a training step, drawn anew each time, one from each of equal parts;
            0 is all of them, as published. A mean over fewer frames is the same in the mean, and most of the work is saved.
        num_segments: in how many equal parts of the clip the spatial path's frames are averaged, whose means the classifier
            then reads side by side, in order (not the paper's). 1 is the paper's mean over all of them; by default 1, and 4
            in a training that begins with a baseline, from whose weights such a classifier starts.
        grid: rows and columns of a frameset; rows x columns frames make one picture.
        cell: scaled cuts the backbone's picture into the grid; aligned gives each frame whole patches (not the paper's).
        bottleneck: width of the adapters; by default 128, and a quarter of the backbone's in reference.
        positions: of the temporal path's patches: none, time, 3d or reference (time as uploaded, with a trained table);
            by default the variant's own.
        spatial_attention: the spatial path's adapter stands parallel to attention or serial, on top of it.
        spatial_mlp: the same at the MLP.
        temporal_attention: the temporal path's adapter at attention.
        temporal_mlp: the same at the MLP.
        antialias: frames are antialiased when they are shrunk; the authors' code did as its torchvision did.
    """

    variant: Literal["paper", "reference"] = "paper"
    paths: Literal["both", "spatial", "temporal"] = "both"
    num_spatial_frames: int = 8
    train_spatial_frames: int = 2
    num_segments: int | None = None
    grid: tuple[int, int] = (4, 4)
    cell: Literal["scaled", "aligned"] = "scaled"
    bottleneck: int | None = None
    positions: Positions | None = None
    spatial_attention: Place = "parallel"
    spatial_mlp: Place = "parallel"
    temporal_attention: Place = "serial"
    temporal_mlp: Place = "serial"
    antialias: bool = True

    def __post_init__(self) -> None:
        check_fields(self, bottleneck=WIDEST, num_spatial_frames=MOST_FRAMES, num_segments=MOST_FRAMES, grid=64)
        if self.num_spatial_frames < 1 or min(self.grid) < 1 or (self.bottleneck is not None and self.bottleneck < 1):
            raise DualPathError(
                f"num_spatial_frames {self.num_spatial_frames}, grid {self.grid[0]}x{self.grid[1]}, bottleneck "
                f"{self.bottleneck}: each must be at least 1"
            )
        if self.train_spatial_frames < 0:
            raise DualPathError(f"train_spatial_frames {self.train_spatial_frames} must be 0 (all of them) or more")
        if self.num_segments is not None and not 1 <= self.num_segments <= self.num_spatial_frames:
            raise DualPathError(
                f"num_segments {self.num_segments} must be at least 1 and at most num_spatial_frames, {self.num_spatial_frames}"
            )
        for when, idle in _IDLE.items():
            name, value = when
            if getattr(self, name) == value:
                self._refuse(idle, f"{name} {value}")

    def _refuse(self, idle: tuple[str, ...], because: str) -> None:
        """An option without effect is a mistake of the user's, not a matter for silence."""
        defaults = {f.name: f.default for f in fields(self)}
        given = [f"{name} {getattr(self, name)}" for name in idle if getattr(self, name) != defaults[name]]
        if given:
            raise DualPathError(f"{', '.join(given)} would have no effect with {because}; leave one of them out")

    @property
    def has_framesets(self) -> bool:
        """Whether there is a temporal path."""
        return self.paths != "spatial"

    @property
    def positions_used(self) -> Positions:
        """The positions, with the variant's own filled in; none where there is no temporal path."""
        if not self.has_framesets:
            return "none"
        return self.positions or ("reference" if self.variant == "reference" else "3d")

    @property
    def spatial_places(self) -> tuple[Place, Place]:
        """Where the spatial path's adapters stand at attention and at the MLP."""
        return self.spatial_attention, self.spatial_mlp

    @property
    def temporal_places(self) -> tuple[Place, Place]:
        """Where the temporal path's adapters stand at attention and at the MLP."""
        return self.temporal_attention, self.temporal_mlp

    @property
    def dropout(self) -> float:
        """Share of the adapters' bottleneck that is dropped in training."""
        return 0.1 if self.variant == "reference" else 0.0

    def bottleneck_for(self, width: int) -> int:
        """The adapters' width in a block of this width."""
        return self.bottleneck or (width // 4 if self.variant == "reference" else 128)

    @property
    def segments(self) -> int:
        """How many means of frames the classifier reads of the spatial path."""
        return self.num_segments or 1

    @property
    def frames_in_training(self) -> int:
        """How many frames the spatial path sees in a training step: as many of each segment."""
        if self.variant == "reference" or self.train_spatial_frames == 0:
            return self.num_spatial_frames
        each = -(-self.train_spatial_frames // self.segments)
        return min(each * self.segments, self.num_spatial_frames)

    def check_clip(self, num_frames: int) -> None:
        """Raises DualPathError if clips of this many frames do not suit the grid and the spatial path."""
        if self.has_framesets:
            check_frames(num_frames, self.grid)
        if self.paths != "temporal" and num_frames < self.num_spatial_frames:
            raise DualPathError(
                f"the spatial path takes {self.num_spatial_frames} frames but a clip has {num_frames}; "
                "lower num_spatial_frames or raise num_frames"
            )

    def num_pictures(self, num_frames: int) -> int:
        """Those of the path that has more of them: one goes behind the other."""
        spatial = self.num_spatial_frames if self.paths != "temporal" else 0
        return max(spatial, num_frames // (self.grid[0] * self.grid[1]) if self.has_framesets else 0)


_SPATIAL = ("num_spatial_frames", "train_spatial_frames", "num_segments", "spatial_attention", "spatial_mlp")
_TEMPORAL = ("grid", "cell", "positions", "temporal_attention", "temporal_mlp", "antialias")
_IDLE = {
    ("paths", "spatial"): _TEMPORAL,
    ("paths", "temporal"): _SPATIAL,
    ("variant", "reference"): ("paths", "bottleneck", *_SPATIAL, *(name for name in _TEMPORAL if name != "antialias")),
}
