"""How many clips go through a model together: on a GPU all that are given, on a processor no more than its memory likes.

    clips --equal pieces, the tokens of each at most 10 MB--> model, one after the other

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

MOST = 10 << 20
"""Bytes of a piece's tokens; within an MLP there are four times as many."""


def clips_at_once(backbone: Backbone, options: MethodConfig, num_frames: int, device: torch.device) -> int:
    """The most clips of a piece, at least 1.

    Args:
        backbone: of the model.
        options: of its method.
        num_frames: of a clip.
        device: where it runs.
    """
    if device.type != "cpu":
        return sys.maxsize
    return max(1, MOST // (options.num_pictures(num_frames) * backbone.token_bytes))


def in_pieces(clips: Tensor, model: Any, device: torch.device, *, together: int = 1) -> Sequence[Tensor]:
    """Clips (B, T, C, H, W) in pieces of as equal a size as may be, for a model on a device.

    Args:
        clips: to be taken apart along B.
        model: what they go through.
        device: where it is.
        together: so many that follow each other stay so, such as the views of a video, whose equal pictures are encoded once.
    """
    groups, most = len(clips) // together, clips_at_once(model.backbone, model.config, clips.shape[1], device) // together
    pieces = clips.unflatten(0, (groups, together)).tensor_split(max(1, math.ceil(groups / max(1, most))))
    return [piece.flatten(0, 1) for piece in pieces]


def biggest_piece(count: int, most: int) -> int:
    """Of so many clips, if a piece has at most `most`."""
    return math.ceil(count / math.ceil(count / most))
