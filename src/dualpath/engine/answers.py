"""What the verbs predict and features do with videos: several a forward pass, and one that cannot be read stops none.

words --find_videos--> videos --decode, in workers where there are many--> views --model--> a row for each
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from dualpath.data.formats.base import exists
from dualpath.data.listed import fetched, find_videos
from dualpath.data.manifest import Manifest, Video
from dualpath.engine.predict import BATCH, VideoClassifier, load
from dualpath.engine.progress import Bar, bar_if_long
from dualpath.errors import DualPathError, VideoError, check_count
from dualpath.files import check_file, csv_cell, write_whole
from dualpath.hardware import Precision
from dualpath.video.protocols import ViewsConfig

T = TypeVar("T")
MANY = 32
"""From so many videos on workers decode by default: to start them takes as long as some dozen videos."""


@dataclass(frozen=True)
class Asked:
    """A checkpoint and the videos that are to be looked at.

    Attributes:
        checkpoint: its folder, or the run's.
        videos: as `find_videos` takes them.
        views: of each.
        weights, precision, protocol, device: see `dualpath.load`.
        batch_size: videos that are computed together.
        workers: decoding processes, which a file that crashes its decoder costs nothing but itself; -1 chooses.
        allow_urls: whether URLs are fetched.
    """

    checkpoint: str
    videos: Sequence[str]
    views: ViewsConfig
    weights: str | None = None
    precision: Precision = "auto"
    protocol: str | None = None
    device: str | None = None
    batch_size: int = BATCH
    workers: int = -1
    allow_urls: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise DualPathError(f"batch_size is {self.batch_size}, but it must be at least 1")
        if self.workers < -1:
            raise DualPathError(f"workers is {self.workers}, but it must be at least 0, or -1 for a number that suits")

    def load(self) -> VideoClassifier:
        """The model."""
        return load(self.checkpoint, weights=self.weights, precision=self.precision, protocol=self.protocol, device=self.device)


@dataclass(frozen=True)
class Answer:
    """The prediction for one video, or the problem with it; `damage` is what could not be decoded, where the rest was taken."""

    video: str
    classes: tuple[dict[str, str | float], ...]
    problem: str | None = None
    damage: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values; the keys "error" and "damaged" are there only where there is something to tell."""
        told: dict[str, Any] = {"video": self.video, "predictions": list(self.classes)}
        more = {"error": self.problem, "damaged": self.damage}
        return told | {key: value for key, value in more.items() if value}


def predict_files(asked: Asked, *, top_k: int) -> list[Answer]:
    """The best classes of each video, in order, or what is wrong with it."""
    check_count("top_k", top_k)
    classifier = asked.load()
    damaged: dict[int, str] = {}
    return [
        Answer(video, (), row)
        if isinstance(row, str)
        else Answer(video, tuple(classifier.best(row, top_k=top_k)), damage=damaged.get(index))
        for index, (video, row) in enumerate(look_at(classifier, asked, classifier.score_views, damaged))
    ]


def look_at(
    classifier: VideoClassifier, asked: Asked, compute: Callable[[Tensor], Iterable[T]], damaged: dict[int, str]
) -> list[tuple[str, T | str]]:
    """Each video's name, in order, with what is made of its views, or with a sentence on what is wrong with it.

    Into `damaged` goes, by place, what of a video could not be decoded, where the rest was taken.
    """
    with bar_if_long("reading the list") as tell:
        listed = find_videos(asked.videos, allow_urls=asked.allow_urls, progress=tell)
    with fetched(listed) as videos:
        rows: list[T | VideoError] = []
        good = [index for index, video in enumerate(videos) if video.problem is None and video.path is not None]
        wanted = [
            Video(path, str(path), 0, "test", **videos[index].part)
            for index in good
            if (path := videos[index].path) is not None
        ]
        if any(video.seconds is not None for video in wanted):
            from dualpath.engine.prepare import find_segments  # brings all that a training needs

            wanted = find_segments(Manifest(Path(), (), tuple(wanted), "a list"), damaged=asked.views.damaged).videos
        found: dict[int, str] = {}
        if asked.workers > 0 or (asked.workers < 0 and len(wanted) >= MANY):
            rows = _in_workers(classifier, asked, wanted, compute, found)
        else:
            rows = list(classifier.each(wanted, asked.views, compute, batch_size=asked.batch_size, damaged=found))
        damaged.update({good[index]: told for index, told in found.items()})
        left = iter(rows)
        return [(video.name, video.problem or _told(video.name, next(left))) for video in videos]


def _told(name: str, row: T | VideoError) -> T | str:
    return f"{name}: {row.reason}" if isinstance(row, VideoError) else row


def _in_workers(
    classifier: VideoClassifier,
    asked: Asked,
    videos: Sequence[Video],
    compute: Callable[[Tensor], Iterable[T]],
    damaged: dict[int, str],
) -> list[T | VideoError]:
    from dualpath.data.loader import ViewBatch
    from dualpath.engine.evaluate import visit
    from dualpath.engine.prepare import default_workers

    rows: dict[int, T | VideoError] = {}

    def use(batch: ViewBatch) -> None:
        damaged.update(batch.damaged)
        rows.update(zip(batch.indices.tolist(), compute(batch.frames), strict=True))

    with Bar("videos", total=len(videos)) as bar:
        bad = visit(
            classifier, videos, use, views=asked.views,
            batch_size=asked.batch_size, workers=default_workers(asked.workers), progress=bar.tell,
        )  # fmt: skip
    rows.update({index: VideoError(videos[index].path, reason) for index, reason in bad.items()})
    return [rows[index] for index in range(len(videos))]


# --- files


def check_output(output: Path, endings: Sequence[str], videos: Sequence[str]) -> None:
    """Raises DualPathError unless results can be written there, of one of these kinds; before minutes are spent."""
    if output.suffix.lower() not in endings:
        raise DualPathError(f"the output {output} must end in {' or '.join(endings)}, which says what is written")
    if exists(output) and any(exists(Path(video)) and output.samefile(video) for video in videos if video):
        raise DualPathError(f"the output {output} is one of the files to be read; give another one")
    check_file(output)


def write_answers(output: Path, answers: Sequence[Answer]) -> None:
    """A line of JSON a video, or for .csv a row of its classes with their scores, or for .json one list."""
    rows = [answer.as_json() for answer in answers]
    match output.suffix.lower():
        case ".csv":
            text = _table(answers, width=max([1, *(len(answer.classes) for answer in answers)]))
        case ".json":
            text = json.dumps(rows, indent=2) + "\n"
        case _:
            text = "".join(json.dumps(row) + "\n" for row in rows)
    write_whole(output, text.encode("utf-8", "surrogateescape"))


def _table(answers: Sequence[Answer], *, width: int) -> str:
    """video,error,damaged,label,score,label_2,score_2 ..: a bad file has empty cells."""
    out = io.StringIO()
    writer = csv.writer(out)
    marks = ["", *(f"_{rank}" for rank in range(2, width + 1))]
    writer.writerow(["video", "error", "damaged", *(f"{name}{mark}" for mark in marks for name in ("label", "score"))])
    for answer in answers:
        cells = [cell for guess in answer.classes for cell in (str(guess["label"]), f"{float(guess['score']):.6f}")]
        row = (answer.video, answer.problem or "", answer.damage or "", *cells)
        writer.writerow([*map(csv_cell, row), *[""] * (2 * width - len(cells))])
    return out.getvalue()


def check_parquet(output: Path) -> None:
    """Raises DualPathError if Parquet is asked for and pyarrow is not there to write it."""
    from importlib.util import find_spec

    if output.suffix.lower() == ".parquet" and find_spec("pyarrow") is None:
        raise DualPathError(f"the output {output} needs pyarrow, which is not installed: pip install pyarrow, or write .npz")


def write_features(output: Path, names: Sequence[str], rows: Sequence[dict[str, Tensor]]) -> None:
    """The features of videos, a row each: "path", "features" and, with DualPath, "spatial" and "temporal"."""
    paths = [name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for name in names]
    columns = {key: np.stack([row[key].numpy() for row in rows]) for key in (rows[0] if rows else ())}
    target = io.BytesIO()
    if output.suffix.lower() == ".parquet":
        import pyarrow  # pyright: ignore[reportMissingImports]
        from pyarrow import parquet  # pyright: ignore[reportMissingImports]

        lists = {
            key: pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values.ravel()), values.shape[1])
            for key, values in columns.items()
        }
        parquet.write_table(pyarrow.table({"path": pyarrow.array(paths, pyarrow.string())} | lists), target)
    else:
        np.savez(target, path=np.array(paths, dtype=np.str_), **columns)  # pyright: ignore[reportArgumentType]
    write_whole(output, target.getvalue())
