"""Small data sets in the forms of the official ones, written on the spot: a file's text, and empty files for videos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dualpath.data.manifest import DataError, Manifest, read_manifest


def write(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def touch(root: Path, *names: str) -> Path:
    return write(root, dict.fromkeys(names, b""))


def labels(manifest: Manifest) -> dict[str, tuple[str, str]]:
    """Name to (split, class)."""
    return {video.name: (video.split, manifest.classes[video.label]) for video in manifest.videos}


def counts(manifest: Manifest) -> dict[str, tuple[int, int, int, int, int | None]]:
    """Split to (listed, found, missing, unlabelled, official)."""
    return {k: (t.listed, t.found, t.missing, t.unlabelled, t.official) for k, t in manifest.listed.items()}


def problems(data: Path, **options: Any) -> tuple[str, ...]:
    with pytest.raises(DataError) as caught:
        read_manifest(data, **options)
    return caught.value.problems


HEADER = "label,youtube_id,time_start,time_end,split,is_cc\n"


def kinetics() -> dict[str, str | bytes]:
    """Five training videos of three classes, two of validation, two of the old test list."""
    return {
        "annotations/train.csv": HEADER
        + "riding a bike,aaaaaaaaaa1,10,20,train,0\nabseiling,-aaaaaaaaa2,0,10,train,0\nzumba,aaaaaaaaaa3,100,110,train,1\n"
        + "zumba,aaaaaaaaaa4,7,17,train,0\nabseiling,aaaaaaaaaa5,8,18,train,0\n",
        "annotations/validate.csv": HEADER + "zumba,bbbbbbbbbb1,3,13,val,0\nabseiling,bbbbbbbbbb2,4,14,val,0\n",
        "annotations/test.csv": "youtube_id,time_start,time_end,split\ncccccccccc1,1,11,test\ncccccccccc2,2,12,test\n",
    }


KINETICS_VIDEOS = (
    "train/riding a bike/aaaaaaaaaa1_000010_000020.mp4",
    "train/abseiling/-aaaaaaaaa2_000000_000010.mp4",
    "train/zumba/aaaaaaaaaa3_000100_000110.mp4",
    "train/zumba/aaaaaaaaaa4_000007_000017.mp4",
    "val/zumba/bbbbbbbbbb1_000003_000013.mp4",
    "val/abseiling/other.mp4",
    "test/cccccccccc1_000001_000011.mp4",
)

TEMPLATES = {"Moving [something] up": "2", "Opening [something]": "0", "Dropping [something] onto [something]": "1"}


def ssv2(prefix: str = "something-something-v2-", *, answers: bool = False) -> dict[str, str | bytes]:
    def entry(key: str, template: str) -> dict[str, Any]:
        return {"id": key, "label": "text of its own", "template": template, "placeholders": ["cup"]}

    first, second, third = TEMPLATES
    files = {
        "labels": {name.replace("[", "").replace("]", ""): value for name, value in TEMPLATES.items()},
        "train": [entry("11", first), entry("12", second), entry("13", third)],
        "validation": [entry("21", second)],
        "test": [{"id": "31"}, {"id": "32"}],
    }
    told: dict[str, str | bytes] = {f"labels/{prefix}{name}.json": json.dumps(value) for name, value in files.items()}
    if answers:
        told["labels/test-answers.csv"] = "31;Opening something\n32;Moving something up\n"
    return told


SSV2_VIDEOS = ("videos/11.webm", "videos/12.mp4", "videos/13.webm", "videos/21.webm", "videos/31.webm", "videos/32.webm")


def hmdb51() -> dict[str, str | bytes]:
    """Two actions, three clips each; every fold uses them otherwise."""
    tags = {1: (1, 2, 0), 2: (2, 1, 1), 3: (1, 1, 2)}
    return {
        f"splits/{action}_test_split{fold}.txt": "".join(
            f"Film_{i}_{action}_f_cm_np1_fr_med_{i}.avi {tag} \n" for i, tag in enumerate(folded)
        )
        for action in ("wave", "brush_hair")
        for fold, folded in tags.items()
    }


HMDB51_VIDEOS = tuple(
    f"videos/{action}/Film_{i}_{action}_f_cm_np1_fr_med_{i}.avi" for action in ("wave", "brush_hair") for i in range(3)
)


def ucf101() -> dict[str, str | bytes]:
    def video(name: str, group: int) -> str:
        return f"{name}/v_{name}_g{group:02d}_c01.avi"

    names = ("Yo Yo".replace(" ", ""), "Archery")  # not in the order of the alphabet
    files: dict[str, str | bytes] = {"ucfTrainTestlist/classInd.txt": "".join(f"{i} {n}\r\n" for i, n in enumerate(names, 1))}
    for fold in (1, 2, 3):
        train = [f"{video(name, group)} {i}\r\n" for i, name in enumerate(names, 1) for group in (1, 2, 3) if group != fold]
        files[f"ucfTrainTestlist/trainlist0{fold}.txt"] = "".join(train)
        files[f"ucfTrainTestlist/testlist0{fold}.txt"] = "".join(f"{video(name, fold)}\r\n" for name in names)
    return files


UCF101_VIDEOS = tuple(f"{name}/v_{name}_g{group:02d}_c01.avi" for name in ("YoYo", "Archery") for group in (1, 2, 3))


def diving48(prefix: str = "Diving48_V2_") -> dict[str, str | bytes]:
    def entry(name: str, label: int, start: int, end: int) -> dict[str, Any]:
        return {"vid_name": name, "label": label, "start_frame": start, "end_frame": end}

    vocabulary = [["Forward", "15som", "NoTwis", "PIKE"], ["Back", "15som", "05Twis", "FREE"]]
    train = [entry("_8Vy3dlHg2w_00000", 1, 0, 48), entry("_8Vy3dlHg2w_00001", 0, 10, 30), entry("x_00002", 0, 0, 9)]
    return {
        "annotations/Diving48_vocab.json": json.dumps(vocabulary),
        f"annotations/{prefix}train.json": json.dumps(train),
        f"annotations/{prefix}test.json": json.dumps([entry("y_00003", 1, 0, 20)]),
    }


DIVING48_VIDEOS = ("rgb/_8Vy3dlHg2w_00000.mp4", "rgb/_8Vy3dlHg2w_00001.mp4", "rgb/x_00002.mp4", "rgb/y_00003.mp4")


def plain_lists() -> dict[str, str | bytes]:
    return {
        "train_list.txt": "run/1.mp4 0\nwalk/2.mp4 1\nwalk/3 4.mp4 1\n",
        "val_list.txt": "run/5.mp4 0\n",
        "classes.txt": "run\nwalk\n",
    }


LIST_VIDEOS = ("videos/run/1.mp4", "videos/walk/2.mp4", "videos/walk/3 4.mp4", "videos/run/5.mp4")

ALL = {
    "kinetics": (kinetics, KINETICS_VIDEOS),
    "ssv2": (ssv2, SSV2_VIDEOS),
    "hmdb51": (hmdb51, HMDB51_VIDEOS),
    "ucf101": (ucf101, UCF101_VIDEOS),
    "diving48": (diving48, DIVING48_VIDEOS),
    "lists": (plain_lists, LIST_VIDEOS),
}


def lay_out(root: Path, name: str) -> Path:
    """A whole small data set of one format."""
    files, videos = ALL[name]
    return touch(write(root, files()), *videos)
