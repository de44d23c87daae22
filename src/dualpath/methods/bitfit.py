"""BitFit: nothing but the biases of the backbone is trained, and the classifier (Ben Zaken et al., arXiv 2106.10199).

All bias terms: those of linear layers, of the norms and of the patch embedding, where the backbone has them; Eva keeps
some as q_bias and v_bias. Biases of keys have no effect, as a softmax does not see what is added to all its scores; timm
keeps them in one tensor with those of queries and values, so they are counted here and get no gradient. The paper is about
BERT (0.08 % of BERT-large); on CLIP's ViT-B/16, whose patch embedding has no bias, it makes 102,912 parameters (0.12 %).

    n pictures   l tokens   d width
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from dualpath.methods.base import UNREAD, FrameModel, FrameModelConfig
from dualpath.nn.backbone import Backbone, plain_step


@dataclass(frozen=True)
class BitFitConfig(FrameModelConfig):
    """There is nothing to choose."""


class BitFit(FrameModel):
    """The backbone as it is, with its biases trained."""

    def __init__(self, backbone: Backbone, *, num_classes: int, config: BitFitConfig | None = None) -> None:
        super().__init__(backbone, num_classes=num_classes, config=config or BitFitConfig())
        backbone.unfreeze(lambda name: name.endswith("bias") and not name.startswith(UNREAD))

    def encode(self, pictures: Float[Tensor, "n c h w"], num_frames: int) -> Float[Tensor, "n m d"]:
        """See FrameModel."""
        del num_frames
        return self.backbone.walk(self.backbone.embed(pictures), plain_step)
