"""An explanation in words and numbers: what somebody hears who cannot see the maps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float

from dualpath.engine.explanation import Explanation, PathMap
from dualpath.terminal import in_line

MOST = 0.5
"""Share of a map that the frames named first hold at least."""
_SPREAD = 0.25  # standard deviation, in sides of a frame, from which a map is all over it; an even one has 0.29


def describe(explanation: Explanation) -> str:
    """The prediction, and for each path on which frames and where its map lies: a sentence each. Frames count from 1."""
    said = f"The video is taken for {_quoted(explanation.guess)} with a score of {float(explanation.scores.max()):.2f}"
    if explanation.kind == "relevance" and explanation.label != explanation.guess:
        said += f"; the maps are for {_quoted(explanation.label)}, which has {explanation.score:.2f}"
    harmed = [f"The file {explanation.damage}."] if explanation.damage else []
    return " ".join([f"{said}.", *describe_paths(explanation), *harmed])


def describe_paths(explanation: Explanation) -> list[str]:
    """For each path, on which frames and where in them its map lies: a sentence."""
    return [_describe_path(explanation, path) for path in explanation.paths]


def predicted_and_explained(explanation: Explanation) -> tuple[str, str]:
    """What is predicted and what the maps are of: the two lines of a heading."""
    predicted = f"predicted {_quoted(explanation.guess)}, score {float(explanation.scores.max()):.2f}"
    predicted += ", of a damaged file" if explanation.damage else ""
    block = "the last block" if explanation.block is None else f"block {explanation.block}"
    explained = {
        "relevance": f"explained {_quoted(explanation.label)}, score {explanation.score:.2f}: what speaks for it (relevance)",
        "rollout": "attention through all blocks (rollout), the same for every class",
        "attention": f"attention in {block}, the same for every class",
    }
    return predicted, explained[explanation.kind]


def percent(share: float) -> str:
    """A share as people read it."""
    return f"{100 * share:.0f} %" if share >= 0.095 or share == 0 else f"{100 * share:.1f} %"


def as_json(explanation: Explanation) -> dict[str, Any]:
    """Plain values: the prediction, each path's share by frame, and the words. Frames count from 0, None is no time."""
    times = [None if math.isnan(time) else round(float(time), 6) for time in explanation.times]
    frames = [
        {"frame": number, "index": int(index), "time": time}
        for number, (index, time) in enumerate(zip(explanation.indices, times, strict=True))
    ]
    return {
        "video": explanation.video,
        "predicted": {"label": explanation.guess, "score": float(explanation.scores.max())},
        "explained": {"label": explanation.label, "score": explanation.score},
        "kind": explanation.kind,
        "block": explanation.block,
        "description": describe(explanation),
        "frames": frames,
        "paths": {
            path.path: {
                "cells": list(path.shares.shape[1:]),
                "frames": [
                    frames[frame] | {"share": float(share)} for frame, share in zip(path.frames, path.by_frame, strict=True)
                ],
            }
            for path in explanation.paths
        },
        "scores": dict(zip(explanation.classes, explanation.scores.tolist(), strict=True)),
    } | ({"damaged": explanation.damage} if explanation.damage else {})


def _quoted(name: str) -> str:
    return f"“{in_line(name)}”"


def _describe_path(explanation: Explanation, path: PathMap) -> str:
    shares, name = path.by_frame.astype(np.float64), f"the {path.path} path's map"
    total = shares.sum()
    if not total > 0:
        return f"{name[0].upper()}{name[1:]} is empty."
    shares /= total
    first, last = fullest(shares)
    frames = path.frames[first : last + 1]
    share = shares[first : last + 1].sum()
    if len(path.frames) == 1:
        where = f"{name} lies on its one frame, {_told(explanation, *frames)}"
    elif 2 * len(frames) >= len(path.frames) and shares.max() < 1.5 / len(shares):
        top = int(shares.argmax())
        most = f"{percent(shares[top])} on frame {_told(explanation, path.frames[top])}"
        even = f"lies on all of its {len(shares)} frames about alike, at most {most}"
        return f"{name[0].upper()}{name[1:]} {even}; {_place(path.shares.sum(axis=0))}."
    elif len(frames) == 1:
        where = f"{percent(share)} of {name} lies on frame {_told(explanation, *frames)}"
    else:
        where = f"{percent(share)} of {name} lies on {_run(explanation, path, first, last)}"
    return f"{where[0].upper()}{where[1:]}; {_place(path.shares[first : last + 1].sum(axis=0))}."


def fullest(shares: Float[np.ndarray, " n"], *, most: float = MOST) -> tuple[int, int]:
    """The first and the last of the fewest neighbours that hold at least `most` of all; of several, those that hold most."""
    sums = np.concatenate([[0.0], np.cumsum(shares)])
    for count in range(1, len(shares) + 1):
        held = sums[count:] - sums[:-count]
        if held.max() >= most * sums[-1]:
            first = int(held.argmax())
            return first, first + count - 1
    return 0, len(shares) - 1


def _told(explanation: Explanation, frame: int) -> str:
    """A frame by its number and its time."""
    time = explanation.times[frame]
    return f"{frame + 1}" if math.isnan(time) else f"{frame + 1} (at {time:.2f} s)"


def _run(explanation: Explanation, path: PathMap, first: int, last: int) -> str:
    """Several frames by their numbers and times: all from one to another, or, if some between are not looked at, each."""
    frames = path.frames[first : last + 1]
    begin, end = explanation.times[[frames[0], frames[-1]]]
    times = "" if math.isnan(begin) else f" ({begin:.2f} to {end:.2f} s)"
    if frames == tuple(range(frames[0], frames[-1] + 1)) and len(frames) > 2:
        return f"frames {frames[0] + 1} to {frames[-1] + 1}{times}"
    numbers = [str(frame + 1) for frame in frames]
    return f"frames {', '.join(numbers[:-1])} and {numbers[-1]}{times}"


def _place(shares: Float[np.ndarray, "y x"]) -> str:
    """Where in the frame a map has its centre."""
    shares = shares.astype(np.float64) / shares.sum()
    centre, spread = [], []
    for axis in (0, 1):
        places = (np.arange(shares.shape[axis]) + 0.5) / shares.shape[axis]
        weights = shares.sum(axis=1 - axis)
        centre.append(float((weights * places).sum()))
        spread.append(float((weights * (places - centre[-1]) ** 2).sum()) ** 0.5)
    row, column = (_third(place, names) for place, names in zip(centre, (("upper", "lower"), ("left", "right")), strict=True))
    if min(spread) >= _SPREAD and not row and not column:
        return "it is spread over the whole picture"
    if not row and not column:
        return "its centre is in the middle"
    if row and column:
        return f"its centre is at the {row} {column}"
    return f"its centre is at the {({'upper': 'top', 'lower': 'bottom'}[row]) if row else column}"


def _third(place: float, names: tuple[str, str]) -> str:
    """Below 0.42 the first, above 0.58 the second: maps have tails that draw their centres to the middle."""
    return names[0] if place < 0.42 else names[1] if place > 0.58 else ""
