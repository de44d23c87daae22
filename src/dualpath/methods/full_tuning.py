"""Full tuning: every weight of the backbone is trained with the classifier, on the mean over all frames.

What the other methods save is measured against it: 86 million trained parameters on ViT-B/16. The backbone stays in
evaluation mode, as in all methods: no dropout and no stochastic depth. It wants a learning rate of its own: some 1e-5
(--lr), where adapters take some 1e-3.

    n pictures   l tokens   d width
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from dualpath.methods.base import UNREAD, FrameModel, FrameModelConfig
from dualpath.nn.backbone import Backbone, plain_step


@dataclass(frozen=True)
class FullTuningConfig(FrameModelConfig):
    """There is nothing to choose."""


class FullTuning(FrameModel):
    """The backbone as it is, with all weights that are read trained."""

    def __init__(self, backbone: Backbone, *, num_classes: int, config: FullTuningConfig | None = None) -> None:
        super().__init__(backbone, num_classes=num_classes, config=config or FullTuningConfig())
        backbone.unfreeze(lambda name: not name.startswith(UNREAD))

    def encode(self, pictures: Float[Tensor, "n c h w"], num_frames: int) -> Float[Tensor, "n m d"]:
        """See FrameModel."""
        del num_frames
        return self.backbone.walk(self.backbone.embed(pictures), plain_step)
