"""Writes tests/video/golden_sampling.json: the frames and crops that each protocol takes, so that no change goes unseen.

    python scripts/make_golden_sampling.py

The test compares the file with the library and with a literal oracle; write it anew only where a protocol is to change.
"""

from __future__ import annotations

import json
from pathlib import Path

from dualpath.video.sampling import SamplingConfig, crop_boxes, test_indices

GOLDEN = Path(__file__).parents[1] / "tests" / "video" / "golden_sampling.json"
PROTOCOLS = ("dense-8x8", "dense-16x4", "dense-32x2", "segment-8", "segment-16", "segment-32")
LENGTHS = (1, 2, 7, 16, 31, 64, 100, 300)
CLIPS = (1, 2, 3, 5, 10)
PICTURES = ((224, 224), (224, 398), (256, 340), (399, 224))
CROPS = (1, 2, 3, 5)
SIZE = 224


def golden() -> dict[str, list[list[int]]]:
    """Frames of each clip, and (top, left) of each crop, by what was asked for."""
    frames = {
        f"{name}, {total} frames, {clips} clips": test_indices(total, SamplingConfig.from_name(name), num_clips=clips).tolist()
        for name in PROTOCOLS
        for total in LENGTHS
        for clips in CLIPS
    }
    crops = {
        f"{SIZE} of {height}x{width}, {count} crops": [
            list(box) for box in crop_boxes(height, width, size=SIZE, num_crops=count)
        ]
        for height, width in PICTURES
        for count in CROPS
    }
    return frames | crops


def text() -> str:
    """The file: one line for each question, so that a difference is easy to read."""
    lines = (f"{json.dumps(asked)}: {json.dumps(found, separators=(',', ':'))}" for asked, found in golden().items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    GOLDEN.write_text(text(), encoding="utf-8")
    print(f"wrote {GOLDEN}")
