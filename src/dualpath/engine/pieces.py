"""How many clips go through a model together: no more than the memory likes; in a training on a GPU all that are given.

    clips --equal pieces, the tokens of each at most 10 MB (64 MB on a GPU)--> model, one after the other

A tensor of more than 32 MB glibc gives back to the system at once, which clears and maps its pages anew for the next one
(memory.py); larger batches are no faster and only need more memory. On ViT-B/16 with 32 frames pieces have two clips in fp32,
four in bf16: training with batches of 8 takes three quarters of the time and two thirds of the memory (EXPERIMENTS.md).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dualpath.methods.base import MethodConfig
from dualpath.nn.backbone import Backbone

MOST, MOST_ON_GPU = 10 << 20, 64 << 20
"""Bytes of a piece's tokens; a forward pass has some 13 times as much at once. A training's batch on a GPU is the user's."""


def clips_at_once(
    backbone: Backbone, options: MethodConfig, num_frames: int, device: torch.device, *, training: bool = True
) -> int:
    """The most clips of a piece, at least 1.

    Args:
        backbone: of the model.
        options: of its method.
        num_frames: of a clip.
        device: where it runs.
        training: what for.
    """
    if device.type != "cpu" and training:
        return sys.maxsize
    most = MOST if device.type == "cpu" else MOST_ON_GPU
    return max(1, most // (options.num_pictures(num_frames) * backbone.token_bytes))


def in_pieces(clips: Tensor, model: Any, device: torch.device, *, together: int = 1) -> Sequence[Tensor]:
    """Clips (B, T, C, H, W) in pieces of as equal a size as may be, for a model on a device.

    Args:
        clips: to be taken apart along B.
        model: what they go through.
        device: where it is.
        together: so many that follow each other stay so, such as the views of a video, whose equal pictures are encoded once.
    """
    most = clips_at_once(model.backbone, model.config, clips.shape[1], device, training=model.training) // together
    groups = len(clips) // together
    pieces = clips.unflatten(0, (groups, together)).tensor_split(max(1, math.ceil(groups / max(1, most))))
    return [piece.flatten(0, 1) for piece in pieces]


def biggest_piece(count: int, most: int) -> int:
    """Of so many clips, if a piece has at most `most`."""
    return math.ceil(count / math.ceil(count / most))
