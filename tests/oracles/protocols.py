"""Which frames and crops the protocols of docs/protocols.md take, ours and those of others: literally, with loops.

Written from the formulas that the table gives; the files that they come from are named there. Frames are numbered from 0.
A function for testing gives a list of clips; one for training gives, for each frame of a clip or for its start, the
choices that a draw is made from.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import torch

# --- ours


def dense(total: int, frames: int, rate: int, clips: int) -> list[list[int]]:
    """Starts spread evenly from the first to the last possible one, the middle for one alone; then the last frame again."""
    room = max(0, total - 1 - (frames - 1) * rate)
    found = []
    for clip in range(clips):
        start = math.floor(Fraction(room, 2) if clips == 1 else Fraction(clip * room, clips - 1))
        found.append([min(start + rate * step, total - 1) for step in range(frames)])
    return found


def segment(total: int, frames: int, clips: int) -> list[list[int]]:
    """Clip k of V takes the frame at (k + 1/2) / V of each of the equal parts; too short: each frame, the last again."""
    if total < frames:
        return [[min(step, total - 1) for step in range(frames)]] * clips
    length = Fraction(total, frames)
    found = []
    for clip in range(clips):
        place = (clip + Fraction(1, 2)) / clips
        found.append([math.floor(part * length + place * length) for part in range(frames)])
    return found


def dense_starts(total: int, frames: int, rate: int) -> list[int]:
    """Training: all starts from which the clip fits, else 0."""
    return [start for start in range(total) if start + (frames - 1) * rate < total] or [0]


def segment_choices(total: int, frames: int) -> list[list[int]]:
    """Training: the frames of each part, which begins in its first whole frame; too short: as in testing."""
    if total < frames:
        return [[frame] for frame in segment(total, frames, 1)[0]]
    begins = [math.floor(Fraction(part * total, frames)) for part in range(frames + 1)]
    return [list(range(begins[part], begins[part + 1])) for part in range(frames)]


def crops(length: int, size: int, count: int) -> list[int]:
    """Along the longer side, from edge to edge, the middle for one alone."""
    room = length - size
    return [math.floor(Fraction(room, 2) if count == 1 else Fraction(crop * room, count - 1)) for crop in range(count)]


# --- TSN: one clip


def tsn(total: int, frames: int) -> list[int]:
    """tsn-pytorch: the centre of each part, also where it holds no whole frame."""
    tick = total / float(frames)
    return [int(tick / 2.0 + tick * part) for part in range(frames)]


def tsn_choices(total: int, frames: int) -> list[list[int]]:
    """tsn-pytorch, training: parts of total // T frames, the rest at the end belongs to none; too short: the first frame."""
    average = total // frames
    if average == 0:
        return [[0]] * frames
    return [[part * average + offset for offset in range(average)] for part in range(frames)]


def tsn_caffe(total: int, frames: int) -> list[int]:
    """The first code, where a test takes 25 frames: a whole step from the first frame on."""
    step = (total - 1) // (frames - 1)
    return [part * step for part in range(frames)]


# --- SlowFast


def _linspace(start: float, end: float, frames: int, total: int) -> list[int]:
    places = torch.clamp(torch.linspace(start, end, frames), 0, total - 1)
    return [int(place) for place in places]


def slowfast_dense(total: int, frames: int, rate: int, clips: int) -> list[list[int]]:
    """At the frame rate that it is set for: T places over T * rate - 1 frames, so the step is not the rate."""
    room = max(total - frames * rate, 0)
    found = []
    for clip in range(clips):
        start = room * clip / clips
        found.append(_linspace(start, start + frames * rate - 1, frames, total))
    return found


def slowfast_dense_offset(total: int, frames: int, rate: int, clips: int) -> list[list[int]]:
    """The same with its option for starts as ours."""
    room = max(total - frames * rate, 0)
    found = []
    for clip in range(clips):
        start = room // 2 if clips == 1 else clip * (room // (clips - 1))
        found.append(_linspace(start, start + frames * rate - 1, frames, total))
    return found


def slowfast_segment(total: int, frames: int) -> list[int]:
    """Its loader of Something-Something: middle between rounded borders; every clip of a video is this one."""
    return [choices[0] + (choices[-1] - choices[0]) // 2 for choices in slowfast_segment_choices(total, frames)]


def slowfast_segment_choices(total: int, frames: int) -> list[list[int]]:
    """Training: both borders are part of the choice, so neighbours may take the same frame. Python's round, as NumPy's."""
    length = float(total - 1) / frames
    return [list(range(round(length * part), round(length * (part + 1)) + 1)) for part in range(frames)]


def slowfast_crops(length: int, size: int) -> list[int]:
    """Three: first, middle rounded up, last."""
    return [0, math.ceil((length - size) / 2), length - size]


# --- VideoMAE, and the authors of DualPath after it


def videomae_dense(total: int, frames: int, rate: int, clips: int) -> list[list[int]]:
    """Every rate-th frame of the video, then T of those in a row; the starts divide by clips - 1."""
    return _every_rate(total, frames, rate, clips, clips - 1)


def authors_dense(total: int, frames: int, rate: int, clips: int) -> list[list[int]]:
    """The same, but the starts divide by the number of clips: the last one never reaches the end."""
    return _every_rate(total, frames, rate, clips, clips)


def _every_rate(total: int, frames: int, rate: int, clips: int, parts: int) -> list[list[int]]:
    listed = list(range(0, total, rate))
    while len(listed) < frames:
        listed.append(listed[-1])
    step = max(1.0 * (len(listed) - frames) / parts, 0)
    return [listed[int(clip * step) : int(clip * step) + frames] for clip in range(clips)]


def videomae_dense_train(total: int, frames: int, rate: int) -> list[list[int]]:
    """All clips that training (and validation) draws from: T places over T * rate frames, the last one held back by one."""
    if total <= frames * rate:
        whole = total // rate
        places = [*np.linspace(0, total, num=whole), *[total] * (frames - whole)]
        return [[min(int(place), total - 1) for place in places]]
    found = []
    for end in range(frames * rate, total):
        places = np.linspace(end - frames * rate, end, num=frames)
        found.append([min(int(place), end - 1) for place in places])
    return found


def videomae_segment(total: int, frames: int) -> list[list[int]]:
    """Something-Something, two clips: begins and centres of the parts, put in order, taken in turn."""
    tick = total / float(frames)
    places = [int(tick / 2.0 + tick * part) for part in range(frames)] + [int(tick * part) for part in range(frames)]
    return [sorted(places)[0::2], sorted(places)[1::2]]


def videomae_crops(length: int, size: int, count: int) -> list[int]:
    """From edge to edge; one alone divides by zero."""
    step = 1.0 * (length - size) / (count - 1)
    return [int(crop * step) for crop in range(count)]


def authors_crops(length: int, size: int, count: int) -> list[int]:
    """Divided by the number of crops: one alone is the first, several never reach the far edge."""
    step = 1.0 * (length - size) / count
    return [int(crop * step) for crop in range(count)]


# --- MMAction2, and AIM on its older version


def aim_dense(total: int, frames: int, rate: int, clips: int) -> list[list[int]]:
    """MMAction2 0.x: the middles of equal parts of the possible starts; past the end it begins again."""
    length = frames * rate
    part = (total - length + 1) / float(clips)
    found = []
    for clip in range(clips):
        start = int(clip * part + part / 2.0) if total > length - 1 else 0
        found.append([(start + rate * step) % total for step in range(frames)])
    return found


def mmaction_dense(total: int, frames: int, rate: int, clips: int) -> list[list[int]]:
    """MMAction2 1.x: from the first to the last possible start, rounded to the nearest; past the end it begins again."""
    room = max(total - ((frames - 1) * rate + 1), 0)
    found = []
    for clip in range(clips):
        start = room // 2 if clips == 1 else round(clip * (room / float(clips - 1)))
        found.append([(start + rate * step) % total for step in range(frames)])
    return found


def mmaction_dense_starts(total: int, frames: int, rate: int) -> list[int]:
    """Training, both versions: the last rate - 1 starts from which a clip would fit are not among them."""
    return list(range(total - frames * rate + 1)) or [0]


def mmaction_segment_choices(total: int, frames: int) -> list[list[int]]:
    """UniformSampleFrames from 2 T frames on: one of each part, in testing too, where its seed is 255 always."""
    return [list(range(part * total // frames, (part + 1) * total // frames)) for part in range(frames)]


def mmaction_crops(length: int, size: int) -> list[int]:
    """Three: twice a whole step, so the last one may stop a pixel short. Its own order is first, last, middle."""
    step = (length - size) // 2
    return [0, step, 2 * step]


# --- torchcodec


def torchcodec_dense(total: int, frames: int, rate: int, clips: int) -> list[list[int]]:
    """clips_at_regular_indices: from the first to the last possible start; one clip alone is the first."""
    room = max(total - ((frames - 1) * rate + 1), 0)
    starts = torch.linspace(0, room, steps=clips, dtype=torch.int).tolist()
    found = []
    for start in starts:
        listed = list(range(start, min(start + (frames - 1) * rate + 1, total), rate))
        found.append(listed + [listed[-1]] * (frames - len(listed)))
    return found
