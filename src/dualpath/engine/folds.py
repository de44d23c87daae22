"""The official splits of a data set as the folds of one comparison: HMDB51 and UCF101 have three, of the same videos.

Papers report the mean of the three accuracies, each of a model trained on its own split.

    --folds 1,2,3 --read_folds--> labels of each fold --all_videos--> what is to be checked, each video once
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from dualpath.data.formats import FORMATS, look, recognise
from dualpath.data.manifest import Manifest, Video
from dualpath.engine.config import RunConfig
from dualpath.engine.prepare import read_data
from dualpath.engine.record import fingerprint
from dualpath.errors import DualPathError

Folds = Mapping[int | None, Manifest]
"""The labels of each fold; of None alone where no folds are asked for."""


def read_folds(data: Path, config: RunConfig, folds: Sequence[int]) -> Folds:
    """Reads the labels of each fold, all training videos to be learnt from; of the one split in `config` without folds.

    Raises:
        DualPathError: the data have no such splits, or one cannot be used.
    """
    if not folds:
        return {None: read_data(data, config, val_fraction=0.0)}
    if config.data.split is not None:
        raise DualPathError(
            f"--split {config.data.split} and --folds {words_of(folds, ',')} are both given: a comparison has either one split "
            "or several; leave one of the two out"
        )
    _check_format(data, config.data.format, folds)
    told: set[str] = set()
    found: dict[int | None, Manifest] = {}
    for fold in folds:
        of_fold = replace(config, data=replace(config.data, split=fold))
        found[fold] = read_data(data, of_fold, val_fraction=0.0, told=told)
        if found[fold].fold != fold:  # shards at a URL: whatever they were made of, they hold one split
            raise _without_folds(data, folds)
    return found


def _check_format(data: Path, format: str, folds: Sequence[int]) -> None:
    """Refuses data of a format with one split only; what is wrong with them otherwise is told by who reads them."""
    if format != "auto":
        names = [format]
    else:
        try:
            names = recognise(look(data)) or (["folders"] if data.is_dir() else [])
        except OSError:
            return
    if names and not any(FORMATS[name].folds for name in names):
        raise _without_folds(data, folds)


def _without_folds(data: Path, folds: Sequence[int]) -> DualPathError:
    having = " and ".join(format.title for format in FORMATS.values() if format.folds)
    return DualPathError(
        f"--folds {words_of(folds, ',')}: {data} has no official splits to choose from, as {having} have; leave --folds out"
    )


def all_videos(folds: Folds) -> Manifest:
    """Every video of any fold once, under `train` if one of them learns from it: what is to be checked."""
    first, *others = folds.values()
    if not others:
        return first
    found: dict[str, Video] = {}
    for manifest in (first, *others):
        for video in manifest.videos:
            if video.name not in found or video.split == "train":
                found[video.name] = video
    return replace(first, videos=tuple(found[name] for name in sorted(found)))


def fingerprints(folds: Folds) -> str | dict[str, str]:
    """What is compared on, for the settings: of the data, or of each fold."""
    if None in folds:
        return fingerprint(folds[None])
    return {str(fold): fingerprint(manifest) for fold, manifest in folds.items()}


def words_of(folds: Sequence[int], between: str = ", ") -> str:
    """Such as "1, 2, 3"."""
    return between.join(map(str, folds))
