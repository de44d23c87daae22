"""The manifest: layouts, what each problem is called, and a split that can be trusted."""

import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpath.data.formats import table as table_format
from dualpath.data.formats.table import COLUMNS
from dualpath.data.manifest import DataError, Manifest, Video, read_manifest
from dualpath.data.scan import count_frames
from dualpath.data.splits import choose_val
from dualpath.errors import DualPathError, VideoError


def fill(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


OTHERS = {use: f" (or {', '.join(names[1:])})" for use, names in COLUMNS.items()}


def table(root: Path, *lines: str, name: str = "labels.csv", text: str | None = None) -> Path:
    path = root / name
    path.write_bytes(("\n".join(lines) + "\n" if text is None else text).encode())
    return path


def sides(manifest: Manifest) -> dict[str, str]:
    return {video.name: video.split for video in manifest.videos}


def problems(data: Path, **options) -> tuple[str, ...]:
    with pytest.raises(DataError) as caught:
        read_manifest(data, **options)
    return caught.value.problems


# --- layouts


def test_given_split_folders(tmp_path):
    fill(tmp_path, "train/run/1.mp4", "train/walk/deep/2.AVI", "validation/run/3.webm", "test/walk/4.mkv")
    fill(tmp_path, "train/run/notes.txt", "train/run/.DS_Store", "train/run/._1.mp4", "train/.cache/x.mp4")
    manifest = read_manifest(tmp_path)
    assert manifest.classes == ("run", "walk")
    assert [(v.name, v.label, v.split) for v in manifest.videos] == [
        ("test/walk/4.mkv", 1, "test"),
        ("train/run/1.mp4", 0, "train"),
        ("train/walk/deep/2.AVI", 1, "train"),
        ("validation/run/3.webm", 0, "val"),
    ]
    assert manifest.videos[1].path == tmp_path / "train/run/1.mp4"
    assert manifest.source == "class folders"
    assert manifest.skipped == ("train/run/notes.txt",)
    assert not manifest.val_split_off
    assert manifest.counts() == {
        "train": {"run": 1, "walk": 1},
        "val": {"run": 1, "walk": 0},
        "test": {"run": 0, "walk": 1},
    }
    assert [v.name for v in manifest.split("val")] == ["validation/run/3.webm"]


def test_val_is_split_off_train_and_test_stays(tmp_path):
    fill(tmp_path, *(f"train/{c}/{i}.mp4" for c in "ab" for i in range(10)), "test/a/x.mp4")
    manifest = read_manifest(tmp_path)
    assert manifest.val_split_off
    assert manifest.counts() == {"train": {"a": 8, "b": 8}, "val": {"a": 2, "b": 2}, "test": {"a": 1, "b": 0}}


def test_class_folders(tmp_path):
    fill(tmp_path, *(f"{c}/{i}.mp4" for c in ("jump", "sit") for i in range(5)), "annotations/a.txt", "README.md")
    manifest = read_manifest(tmp_path, val_fraction=0.4)
    assert manifest.counts()["val"] == {"jump": 2, "sit": 2}
    assert set(manifest.skipped) == {"annotations/a.txt", "README.md"}
    assert set(sides(read_manifest(tmp_path, val_fraction=0.0)).values()) == {"train"}


def test_a_class_may_be_called_test(tmp_path):
    fill(tmp_path, "test/1.mp4", "idle/2.mp4")
    assert read_manifest(tmp_path).classes == ("idle", "test")


def test_numbered_classes_keep_their_order(tmp_path):
    fill(tmp_path, *(f"{c}/x.mp4" for c in range(11)))
    assert read_manifest(tmp_path).classes == tuple(str(c) for c in range(11))


@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("column", ["path", "File", "video", "filename"])
def test_csv(tmp_path, start, end, column):
    fill(tmp_path, "clips/ä b.mp4", "clips/2.mp4", "elsewhere/3.mp4")
    outside = tmp_path / "elsewhere/3.mp4"
    root = fill(tmp_path / "set", "1.mp4")
    lines = [f"{column},label,split", '1.mp4,"Push, then pull",Train', "../clips/ä b.mp4,idle,training", ""]
    lines += [f"{outside},idle,valid", "../clips/2.mp4,idle,test", ""]
    path = table(root, text=start + end.join(lines))
    for data in (path, root):
        manifest = read_manifest(data)
        assert manifest.source == "csv"
        assert manifest.root == root
        assert manifest.classes == ("Push, then pull", "idle")
        assert sides(manifest) == {
            "1.mp4": "train",
            "../clips/ä b.mp4": "train",
            str(outside): "val",
            "../clips/2.mp4": "test",
        }
        assert all(video.path.is_file() for video in manifest.videos)


def test_csv_groups_and_numbers(tmp_path):
    fill(tmp_path, *(f"{i}.mp4" for i in range(20)))
    rows = [f"{i}.mp4,{i % 2 + 9},film {i // 4}" for i in range(20)]
    manifest = read_manifest(table(tmp_path, "file,label,source_group", *rows))
    assert manifest.classes == ("9", "10")
    assert manifest.counts()["val"] == {"9": 2, "10": 2}
    val = {v.group for v in manifest.split("val")}
    assert len(val) == 1
    assert not val & {v.group for v in manifest.split("train")}


def test_csv_beside_videos_in_one_folder_is_read(tmp_path):
    fill(tmp_path, "clips/1.mp4", "clips/2.mp4")
    table(tmp_path, "path,label", "clips/1.mp4,a", "clips/2.mp4,b")
    assert read_manifest(tmp_path).classes == ("a", "b")


def test_class_folders_go_before_a_csv_beside_them_but_not_before_labels_csv(tmp_path):
    fill(tmp_path, "a/1.mp4", "b/2.mp4")
    listed = table(tmp_path, "path,label", "a/1.mp4,x", "b/2.mp4,y")
    manifest = read_manifest(tmp_path)
    assert (manifest.classes, manifest.source, manifest.skipped) == (("x", "y"), "csv", ())
    listed.rename(tmp_path / "notes.csv")
    manifest = read_manifest(tmp_path)
    assert (manifest.classes, manifest.source) == (("a", "b"), "class folders")
    assert manifest.skipped == ("notes.csv",)


def test_a_file_listed_twice_alike_counts_once(tmp_path):
    fill(tmp_path, "1.mp4", "2.mp4")
    (tmp_path / "link.mp4").symlink_to("1.mp4")
    manifest = read_manifest(table(tmp_path, "path,label", "1.mp4,a", "2.mp4,b", "./1.mp4,a", "link.mp4,a"))
    assert [v.name for v in manifest.videos] == ["1.mp4", "2.mp4"]
    assert manifest.skipped == (
        "1.mp4 (line 4), the same as 1.mp4 (line 2)",
        "link.mp4 (line 5), the same as 1.mp4 (line 2)",
    )


def test_classes_of_a_checkpoint(tmp_path):
    fill(tmp_path, "b/1.mp4")
    manifest = read_manifest(tmp_path, classes=["a", "b", "c"])
    assert manifest.classes == ("a", "b", "c")
    assert [v.label for v in manifest.videos] == [1]
    fill(tmp_path, "z/1.mp4", "z/2.mp4")
    assert problems(tmp_path, classes=["a", "b"]) == (
        "class 'z' (2 videos, the first is z/1.mp4) is not one of the model's: a, b",
    )
    listed = table(tmp_path, "path,label,split", "b/1.mp4,2,test", name="x.csv")
    assert [v.label for v in read_manifest(listed, classes=["a", "b", "c"]).videos] == [2]
    assert "class '2' (1 video," in problems(listed, classes=["a", "b"])[0]
    assert "class '2' (1 video," in problems(listed, classes=["1", "3", "4"])[0]


# --- problems


def test_no_such_folder(tmp_path):
    with pytest.raises(DualPathError) as caught:
        read_manifest(tmp_path / "nix")
    assert str(caught.value) == f"{tmp_path / 'nix'}: no such file or folder"


HOW = "put each video into a folder named after its class, or give a CSV file with the columns path,label"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], f"holds no videos; {HOW}"),
        ([".DS_Store", "a.txt"], f"holds no videos; {HOW}"),
        (["1.mp4"], f"holds videos but no class folders; {HOW}"),
        (["run/1.mp4", "notes/x.txt"], "holds one class only ('run'); a classifier needs at least two"),
        (["a.csv", "b.csv"], "holds no class folders but several CSV files (a.csv, b.csv); give one of them"),
        (["train/a/1.mp4", "val/b/2.mp4"], "class 'b' has no training videos (1 in val, 0 in test)"),
        (["train/a/1.mp4", "train/b/2.txt"], "class 'b' has no training videos (0 in val, 0 in test)"),
    ],
)
def test_folder_problems(tmp_path, names, expected):
    assert problems(fill(tmp_path, *names)) == (expected,)


def test_an_empty_class_folder_is_a_problem(tmp_path):
    fill(tmp_path, "a/1.mp4", "b/1.mp4")
    (tmp_path / "c").mkdir()
    assert problems(tmp_path) == ("class 'c' has no training videos (0 in val, 0 in test)",)


def test_one_video_by_two_names_in_two_split_folders(tmp_path):
    fill(tmp_path, "train/a/1.mp4", "train/b/2.mp4", "val/b/3.mp4")
    (tmp_path / "val/a").symlink_to(tmp_path / "train/a")
    assert problems(tmp_path) == ("the same video is in two splits: train/a/1.mp4 in train, val/a/1.mp4 in val",)


GROUPS = "group 'g' is in several splits: 1.mp4 (line 2) in train, 2.mp4 (line 3) in val"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["path,sort", "1.mp4,a"], [f"labels.csv has no column label{OTHERS['label']}; it has path, sort"]),
        (
            ["1.mp4,a"],
            [
                f"labels.csv has no column path{OTHERS['path']}; it has 1.mp4, a",
                f"labels.csv has no column label{OTHERS['label']}; it has 1.mp4, a",
            ],
        ),
        (["path,label"], [f"holds no videos; {HOW}"]),
        (["path,label", "1.mp4,a", "2.mp4,a"], ["holds one class only ('a'); a classifier needs at least two"]),
        (
            ["path,label,split", "1.mp4,a,train", "2.mp4,b,holdout", "3.mp4,,train", ",b,train", "nix.mp4,b,train"],
            [
                "labels.csv line 3 has the split 'holdout' for 2.mp4; allowed are train, training, val, valid, "
                "validation, test",
                "labels.csv line 4 has no label for 3.mp4",
                "labels.csv line 5 has no path",
                "labels.csv line 6 names a file that is not there: ROOT/nix.mp4",
            ],
        ),
        (
            ["path,label", "1.mp4,push, then pull", "2.mp4,b", "3.mp4,c"],
            ["labels.csv line 2 has 3 fields, the header has 2; put quotes around a label with a comma"],
        ),
        (
            ["path,label,split", "1.mp4,a,train", "2.mp4,b,train", "./1.mp4,a,test"],
            ["the same video is in two splits: 1.mp4 (line 2) in train, 1.mp4 (line 4) in test"],
        ),
        (
            ["path,label", "1.mp4,a", "2.mp4,b", "link.mp4,b"],
            ["the same video has two labels: 1.mp4 (line 2) 'a', link.mp4 (line 4) 'b'"],
        ),
        (["path,label,split,group", "1.mp4,a,train,g", "2.mp4,a,val,g", "3.mp4,b,train,h"], [GROUPS]),
    ],
)
def test_csv_problems(tmp_path, lines, expected):
    fill(tmp_path, "1.mp4", "2.mp4", "3.mp4")
    (tmp_path / "link.mp4").symlink_to("1.mp4")
    assert problems(table(tmp_path, *lines)) == tuple(text.replace("ROOT", str(tmp_path)) for text in expected)


def test_not_utf8_and_not_a_table(tmp_path):
    fill(tmp_path, "1.mp4")
    (tmp_path / "latin.csv").write_bytes("path,label\n1.mp4,jubilä\n".encode("latin-1"))
    assert problems(tmp_path / "latin.csv") == ("latin.csv is not UTF-8 text (byte 22); save it as UTF-8",)
    assert problems(tmp_path / "1.mp4") == (f"is neither a folder nor a CSV or JSON lines file; {HOW}",)
    assert problems(table(tmp_path, text="")) == (f"labels.csv is empty; {HOW}",)


def test_many_problems_are_told_at_once_and_capped(tmp_path):
    path = table(tmp_path, "path,label", *(f"{i}.mp4,{'ab'[i % 2]}" for i in range(33)))
    with pytest.raises(DataError) as caught:
        read_manifest(path)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"33 problems in {path}:"
    assert lines[1] == f"  labels.csv line 2 names a file that is not there: {tmp_path}/0.mp4"
    assert lines[-1] == "  and 13 more"
    assert len(lines) == 22


def test_val_fraction_out_of_range(tmp_path):
    with pytest.raises(DualPathError, match=r"val_fraction is 1\.0; it must be at least 0 and less than 1"):
        read_manifest(tmp_path, val_fraction=1.0)


# --- the split


def videos_of(labels_and_groups: list[tuple[int, int | None]]) -> list[Video]:
    return [
        Video(Path(f"{i}.mp4"), f"{i}.mp4", label, "train", None if group is None else f"g{group}")
        for i, (label, group) in enumerate(labels_and_groups)
    ]


ungrouped = st.lists(st.tuples(st.integers(0, 3), st.none()), max_size=60).map(videos_of)
grouped = st.lists(st.tuples(st.integers(0, 3), st.none() | st.integers(0, 8)), max_size=60).map(videos_of)
fractions = st.sampled_from([0.1, 0.2, 0.5, 0.9])


@given(grouped, fractions, st.integers(0, 99))
def test_split_keeps_groups_together_and_a_training_video_for_all(videos, fraction, seed):
    val = choose_val(videos, val_fraction=fraction, seed=seed)
    inside = {v.group for v in videos if v.name in val and v.group}
    assert not inside & {v.group for v in videos if v.name not in val and v.group}
    assert {v.label for v in videos if v.name not in val} == {v.label for v in videos}
    assert choose_val(videos[::-1], val_fraction=fraction, seed=seed) == val


@given(ungrouped, fractions, st.integers(0, 99))
def test_split_is_exactly_stratified_without_groups(videos, fraction, seed):
    val = choose_val(videos, val_fraction=fraction, seed=seed)
    counts = Counter(v.label for v in videos)
    chosen = Counter(v.label for v in videos if v.name in val)
    for label, n in counts.items():
        assert chosen[label] == min(n - 1, max(1, int(fraction * n + 0.5)))


@given(ungrouped, st.integers(0, 3), fractions, st.integers(0, 99))
def test_a_new_file_moves_at_most_one_old_one(videos, label, fraction, seed):
    before = choose_val(videos, val_fraction=fraction, seed=seed)
    new = Video(Path("new.mp4"), "new.mp4", label, "train")
    after = choose_val([*videos, new], val_fraction=fraction, seed=seed) - {"new.mp4"}
    assert len(before ^ after) <= 1
    assert all(v.label == label for v in videos if v.name in before ^ after)


def test_split_is_stratified_as_well_as_groups_allow():
    videos = videos_of([(i % 2, i // 5) for i in range(200)])  # 40 groups of 5 clips, both classes in each
    for seed in range(5):
        val = choose_val(videos, val_fraction=0.2, seed=seed)
        chosen = Counter(v.label for v in videos if v.name in val)
        assert abs(chosen[0] - 20) <= 3
        assert abs(chosen[1] - 20) <= 3


def test_large_groups_are_measured_too():
    videos = videos_of([(0, i // 5) for i in range(10)] + [(1, None)] * 10)  # wanted: 2 of class 0, which come as 5s
    val = choose_val(videos, val_fraction=0.2, seed=0)
    assert Counter(v.label for v in videos if v.name in val) == {0: 5, 1: 2}


def test_another_seed_chooses_others():
    videos = videos_of([(0, None)] * 50)
    chosen = [choose_val(videos, val_fraction=0.2, seed=seed) for seed in range(3)]
    assert len(set(chosen)) == 3
    assert chosen[0] == choose_val(videos, val_fraction=0.2, seed=0)


def test_a_long_table_tells_how_far_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(table_format, "TOLD_ROWS", 100)
    path = table(tmp_path, "path,label", *(f"{i}.mp4,{'ab'[i % 2]}" for i in range(250)))
    told: list[tuple[int, int]] = []
    read_manifest(path, strict=False, progress=lambda done, total: told.append((done, total)))
    assert told == [(100, 250), (200, 250), (250, 250)]
    told.clear()
    read_manifest(
        table(tmp_path, "path,label", "1.mp4,a", "2.mp4,b"), strict=False, progress=lambda *numbers: told.append(numbers)
    )
    assert told == []


@pytest.mark.parametrize("listed", ["", "labels.csv", "train.txt"])
def test_links_that_lead_in_a_circle_cost_themselves_alone(listed, tmp_path):
    names = [f"{label}/{number}.mp4" for label in "ab" for number in range(2)]
    fill(tmp_path, *names)
    (tmp_path / "a/self.mp4").symlink_to("self.mp4")
    (tmp_path / "a/one.mp4").symlink_to("two.mp4")
    (tmp_path / "a/two.mp4").symlink_to("one.mp4")
    (tmp_path / "a/up").symlink_to("..")
    (tmp_path / "class").symlink_to("class")
    (tmp_path / "notes.csv").symlink_to("notes.csv")
    if listed == "labels.csv":
        table(tmp_path, "path,label", *(f"{name},{name[0]}" for name in names))
    elif listed:
        table(tmp_path, *(f"{name} {name[0]}" for name in names), name=listed)
    circles = ["a/self.mp4", "a/one.mp4", "a/two.mp4"] if not listed else []
    assert sorted(video.name for video in read_manifest(tmp_path).videos) == sorted(names + circles)
    for name in circles:
        with pytest.raises(VideoError, match="is a link to a file that is not there"):
            count_frames(tmp_path / name)


def test_class_folders_whose_names_are_not_text_are_named_in_text(tmp_path):
    strange = os.fsdecode(b"caf\xe9")
    fill(tmp_path, "a/0.mp4", f"{strange}/{os.fsdecode(bytes([0xFF]))}.mp4")
    manifest = read_manifest(tmp_path, val_fraction=0.0)
    assert manifest.classes == ("a", "caf\N{REPLACEMENT CHARACTER}")
    assert all(video.path.exists() for video in manifest.videos)
