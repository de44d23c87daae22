"""What a comparison and a cross-validation share: a folder of runs with common settings, whose videos are checked once.

Of the folder's files, settings.json holds what --resume must ask for again, and videos.json by name the number of frames
(with what of the video is damaged, if anything), or why a video is unreadable.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from dualpath.data.scan import Taken
from dualpath.engine.config import RunConfig
from dualpath.engine.prepare import Usable
from dualpath.engine.progress import Bar
from dualpath.engine.schedule import make_schedule
from dualpath.errors import DualPathError
from dualpath.files import names_in, read_table, remove_temporary, write_whole

SETTINGS, VIDEOS = "settings.json", "videos.json"


def read_settings(output: Path, *, resume: bool, what: str, key: str) -> dict[str, Any] | None:
    """The settings in a folder of runs, None if it is new; refuses one that cannot be written or holds something else.

    Args:
        output: the folder.
        resume: whether it may hold what was begun before.
        what: is in the folder: "comparison".
        key: that its settings have, and those of other folders do not have.
    """
    if resume and names_in(output):
        remove_temporary(output)
    names = names_in(output)
    ours = SETTINGS in names or names == [VIDEOS]
    if names and not (ours and resume):
        content = f"another {what}" if ours else f"other files ({names[0]} ...)"
        remedy = "give a new folder, or --resume to continue it" if ours else "give a new folder"
        raise DualPathError(f"the output folder {output} holds {content}; {remedy}")
    if SETTINGS not in names:
        if resume:
            print(f"nothing to resume in {output} yet: starting", file=sys.stderr)
        return None
    try:
        settings = read_table(output / SETTINGS)
        entries = settings.get("entries", {})
        if not all(isinstance(part, dict) for part in (settings.get("settings", {}), entries, *dict(entries).values())):
            raise ValueError("its settings are no table")
    except (ValueError, TypeError) as problem:
        raise DualPathError(f"{output / SETTINGS} is damaged ({problem}); give a new folder") from problem
    if key not in settings:
        raise DualPathError(f"{output} holds no {what}: its {SETTINGS} has no {key}; give a new folder")
    return settings


def write_videos(output: Path, usable: Usable) -> None:
    """Writes videos.json: what all runs need to know of the videos, so that none checks them again."""
    damaged = usable.damaged
    frames: dict[str, Any] = {
        video.name: [video.num_frames, damaged[video.name]] if video.name in damaged else video.num_frames
        for video in usable.manifest.videos
    }
    write_whole(output / VIDEOS, json.dumps(frames | usable.bad) + "\n")


def read_videos(path: Path) -> dict[str, int | str | Taken]:
    """What `write_videos` has written.

    Raises:
        DualPathError: it is missing or damaged.
    """
    try:
        return {name: _as_written(value) for name, value in read_table(path).items()}
    except (OSError, ValueError) as problem:
        raise DualPathError(f"{path} is damaged ({problem}); delete it and --resume to check the videos again") from problem


def _as_written(value: Any) -> int | str | Taken:
    match value:
        case str():
            return value
        case int() if value > 0 and value is not True:
            return value
        case [int(frames), str(damage)] if frames > 0 and frames is not True:
            return Taken(frames, damage)
        case _:
            raise ValueError("it holds something else than frame counts and reasons")


def total_steps(config: RunConfig, videos: int) -> int:
    """Optimizer steps of a run that learns from so many videos."""
    return make_schedule(videos, config.training).steps


def tell_progress(bar: Bar, text: str, before: int, steps: int, done: int, loss: float | None) -> None:
    """Moves the bar of all runs on.

    Args:
        bar: over the steps of all runs.
        text: which run it is.
        before: steps of the runs before it.
        steps: of this run.
        done: of those.
        loss: of the last one.
    """
    state = ", evaluating" if done >= steps else "" if loss is None else f", loss {loss:.3f}"
    bar.update(before + min(done, steps), text + state)
