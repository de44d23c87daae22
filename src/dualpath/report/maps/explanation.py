"""An explanation as files in a folder of its own: a sheet, a video, arrays, and the words and numbers."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from dualpath.engine.explanation import Explanation
from dualpath.files import whole_folder, write_whole
from dualpath.report.maps.description import as_json
from dualpath.report.maps.overlay import write_overlay
from dualpath.report.maps.sheet import draw_sheet

SHEET, OVERLAY, MAPS, WORDS = "sheet.png", "overlay.mp4", "maps.npz", "explanation.json"
FILES = (SHEET, OVERLAY, MAPS, WORDS)


def write_explanation(folder: Path, explanation: Explanation, *, command: str = "") -> dict[str, Any]:
    """Writes FILES into a new folder, all of them or none.

    Args:
        folder: what does not exist, or is an empty folder.
        explanation: what they tell.
        command: that made it, for explanation.json.

    Returns:
        What explanation.json holds.

    Raises:
        DualPathError: the folder holds something, or cannot be written.
    """
    with whole_folder(folder) as draft:
        write_whole(draft / SHEET, draw_sheet(explanation))
        write_overlay(draft / OVERLAY, explanation)
        write_whole(draft / MAPS, as_arrays(explanation))
        told = as_json(explanation) | ({"command": command} if command else {})
        write_whole(draft / WORDS, json.dumps(told, indent=2) + "\n")
    return told


def as_arrays(explanation: Explanation) -> bytes:
    """An .npz file that loads without pickle.

    `indices` (in the file) and `times` (seconds, NaN if not known) of the clip's frames; `scores` of `classes`; `label`,
    `kind`, `block` (-1 where all count) and `video`. For each path, say temporal: `temporal_shares` (n, y, x),
    `temporal_frames` (in the clip, from 0), `temporal_indices` and `temporal_times`.
    """
    arrays: dict[str, np.ndarray] = {
        "indices": explanation.indices,
        "times": explanation.times,
        "scores": explanation.scores,
        "classes": np.array(explanation.classes, dtype=np.str_),
        "label": np.array(explanation.label, dtype=np.str_),
        "kind": np.array(explanation.kind, dtype=np.str_),
        "block": np.array(-1 if explanation.block is None else explanation.block, dtype=np.int64),
        "video": np.array(explanation.video, dtype=np.str_),
    }
    for path in explanation.paths:
        frames = np.array(path.frames, dtype=np.int64)
        arrays |= {
            f"{path.path}_shares": path.shares,
            f"{path.path}_frames": frames,
            f"{path.path}_indices": explanation.indices[frames],
            f"{path.path}_times": explanation.times[frames],
        }
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    return content.getvalue()
