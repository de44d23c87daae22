"""The report tells what was recorded, loads nothing, says what is missing, and stays whole whatever names are."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_page import Element, Tree

from dualpath.cli import main
from dualpath.data.manifest import read_manifest
from dualpath.engine.checkpoint import ModelSpec, save_checkpoint
from dualpath.engine.evaluate import Evaluation
from dualpath.engine.origin import Origin, describe_origin
from dualpath.engine.predict import VideoClassifier
from dualpath.errors import DualPathError
from dualpath.methods import build_model
from dualpath.nn.zoo import EMBEDDED, load_backbone
from dualpath.report.pages.classes import confusion_rows, worst_pairs
from dualpath.report.pages.report import ReportConfig, write_report_page
from dualpath.report.pages.sources import read_source
from dualpath.video.protocols import ViewsConfig
from evaluations import NASTY, guessed, made
from runs import COLOURS, run_config
from wrong_json import spoiled

CLASSES = ("a", "b", "c")
LABELS = [0] * 4 + [1] * 4 + [2] * 4
GUESSES = [(0, 0.9), (0, 0.9), (1, 0.8), (1, 0.6), (1, 0.7), (0, 0.5), (1, 0.7), (1, 0.7), (2, 0.9), (2, 0.9), (0, 0.95), None]
STEPS = [{"step": i, "epoch": 1, "loss": 2.0 - i / 50, "lr": 1e-3, "clips_per_s": 12.5, "seconds": 0.5, "waited": 0.1}
         for i in range(1, 41)]  # fmt: skip
EPOCHS = [{"step": 20 * i, "seconds": 32.5 * i, "epoch": i, "val_top1": 0.25 * i} for i in (1, 2)]
RECORD: dict[str, Any] = {
    "command": ["/usr/bin/dualpath", "train", "DATA", "--output", "my run"],
    "settings": {"method": "linear_probe", "backbone": "tiny", "epochs": 2, "seed": 7, "num_frames": 8},
    "data": {
        "root": "/data",
        "counts": {"train": {"a": 5, "b": 4}, "val": {"a": 2, "b": 1}, "test": {}},
        "left_out": {"train/x.mp4": "is empty (0 bytes)"},
        "quarantined": 1,
        "sha256": "feed" * 16,
    },
    "skipped": {"train/y.mp4": "moov atom not found"},
    "memory": {"peak_ram_gb": 1.25, "peak_gpu_gb": None},
    "plan": {"trainable": 1930, "total": 193_000, "gmacs": 0.42},
    "versions": {"dualpath": "0.0.9"},
}


def write_run(folder: Path, *found: tuple[str, Evaluation], record: dict[str, Any] = RECORD) -> Path:
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*STEPS, *EPOCHS]))
    for name, evaluation in found:
        evaluation.write(folder / name)
    return folder


def page_of(folder: Path, output: Path, *, against: Path | None = None, mistakes: int = 0) -> tuple[str, Element]:
    other = read_source(against) if against else None
    write_report_page(output, read_source(folder), against=other, config=ReportConfig(mistakes))
    content = output.read_text(encoding="utf-8")
    return content, Tree(content).root


def rows_of(root: Element, name: str) -> dict[str, list[str]]:
    """The cells of a section's tables, by their first one."""
    (section,) = [one for one in root.all("section") if one.attributes["aria-labelledby"] == name]
    found = {}
    for row in section.all("tr"):
        first, *rest = [cell.text for cell in row.children]
        found[first] = rest
    return found


@pytest.fixture(scope="module")
def found() -> Evaluation:
    return guessed(LABELS, GUESSES, CLASSES)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, found: Evaluation) -> Path:
    return write_run(tmp_path_factory.mktemp("run") / "probe", ("evaluation-test", found))


@pytest.fixture(scope="module")
def page(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Element]:
    return page_of(run, tmp_path_factory.mktemp("page") / "report.html", mistakes=2)


def test_headline_numbers(page: tuple[str, Element]) -> None:
    cards = [card.text for card in page[1].all("ul", "scores")[0].all("li")]
    assert cards[0].startswith("All videos 58.3 % top-1 segment-16, 1x1 views 7 of 12 correct 95 % interval: 32.0 to 80.7 %")
    assert "91.7 % top-5" in cards[1]
    assert "58.3 % mean" in cards[2]
    assert page[1].all("h1")[0].text == "linear probe names 58.3 % of 12 videos correctly"


def test_counts_and_costs(page: tuple[str, Element]) -> None:
    data, cost = rows_of(page[1], "data"), rows_of(page[1], "cost")
    assert data["Model"] == ["linear probe on tiny, clips of 8 frames"]
    assert data["Videos judged"] == ["12 of 3 classes"]
    assert data["Could not be read, counted as wrong"] == ["1"]
    assert data["Usable videos"] == ["train 9, val 3, test 0"]
    assert data["Left out before training"] == ["1"]
    assert data["of these, quarantined by dualpath data check"] == ["1"]
    assert data["Skipped in training"] == ["1"]
    assert data["Training"] == ["epochs 2, seed 7"]
    assert cost["Trained parameters"] == ["1,930 (1.00 %)"]
    assert cost["A step of it"] == ["0.400 s, and 0.100 s waiting for clips (medians)"]
    assert cost["Training took"] == ["1 min 5 s"]
    assert cost["Peak memory of the training"] == ["1.25 GB of memory"]
    assert cost["Clips a second at its end"] == ["12.5"]


def test_what_is_not_recorded_is_said(page: tuple[str, Element]) -> None:
    data, cost, repeat = (rows_of(page[1], name) for name in ("data", "cost", "repeat"))
    assert data["Videos from"] == ["not recorded"]
    assert cost["Evaluation took"] == cost["Checkpoint on disk"] == cost["Machine"] == ["not recorded"]
    assert repeat["sha256 of the backbone's weights"] == ["not recorded"]
    assert repeat["Version of dualpath"] == ["0.0.9"]
    assert repeat["sha256 of the training data's names, labels, splits, lengths"] == ["feed" * 16]
    assert [line.text for line in page[1].all("pre")] == ["dualpath train DATA --output 'my run'"]


def test_bad_files_have_their_reasons(page: tuple[str, Element]) -> None:
    bad = rows_of(page[1], "bad")
    assert bad["train/x.mp4"] == ["is empty (0 bytes)", "left out of the training"]
    assert bad["train/y.mp4"] == ["moov atom not found", "skipped in training"]
    assert bad["test/11.mp4"] == ["is empty (0 bytes)", "counted as wrong"]


def test_classes_and_confusion(found: Evaluation, page: tuple[str, Element]) -> None:
    (bars,) = page[1].all("table", "bars")
    told = {row.all("th")[0].text: row.all("td")[0].text for row in bars.all("tbody")[0].all("tr")}
    assert told == {"a": "50 %", "b": "75 %", "c": "50 %"}
    pairs = [item.text for item in page[1].all("ol", "pairs")[0].all("li")]
    assert pairs == [
        "“a” was taken for “b” 2 times of 4 (50 %); the other way round 1 of 4.",
        "“b” was taken for “a” 1 time of 4 (25 %); the other way round 2 of 4.",
        "“c” was taken for “a” 1 time of 4 (25 %); the other way round 0 of 4.",
    ]
    (matrix,) = page[1].all("table", "matrix")
    cells = [[int(cell.text) for cell in row.all("td")] for row in matrix.all("tbody")[0].all("tr")]
    assert cells == found.confusion().tolist()


def test_curves_and_calibration(page: tuple[str, Element]) -> None:
    labels = [svg.attributes["aria-label"] for svg in page[1].all("svg")]
    assert labels[0].startswith("Loss over the steps. linear probe: from 1.98 to 1.21 at 40 points.")
    assert labels[1].startswith("Learning rate over the steps. linear probe: from 0.001 to 0.001")
    assert labels[2].startswith("Validation top-1 over the steps. linear probe: from 0.25 to 0.5 at 2 points.")
    # 11 predictions, 7 of them right; confidences by bins of 15: 0.5 | 0.6 | 0.7 x3 | 0.8 | 0.9 x4 | 0.95
    ece = (0.5 + 0.6 + 3 * 0.3 + 0.8 + 4 * 0.1 + 0.95) / 11
    assert f"expected calibration error {100 * ece:.1f}" in labels[3]
    numbers = rows_of(page[1], "calibration")
    assert numbers["0.67 to 0.73"] == ["3", "70.0 %", "100.0 %"]
    assert rows_of(page[1], "training")["2"][0] == "50.00 %"


def test_the_page_is_whole_alone_and_told_to_those_who_do_not_see(page: tuple[str, Element]) -> None:
    check_page(*page)


def check_page(content: str, root: Element) -> None:
    assert not re.search(r"https?:|//[a-z]|url\(|@import|<script|<link", re.sub(r"base64,[^\"]*", "", content))
    assert all(svg.attributes["role"] == "img" and svg.attributes["aria-label"] for svg in root.all("svg"))
    assert all(len(image.attributes["alt"]) > 10 for image in root.all("img"))
    assert all(cell.attributes.get("scope") in ("col", "row") for cell in root.all("th"))
    boxes = root.all("div", "scroll")
    assert boxes
    for box in boxes:
        assert box.attributes["tabindex"] == "0"
        assert box.attributes["role"] == "region"
        assert box.attributes["aria-label"]
    ids = [heading.attributes["id"] for heading in root.all("h2")]
    assert sorted(ids) == sorted(section.attributes["aria-labelledby"] for section in root.all("section"))
    assert {link.attributes["href"][1:] for link in root.all("nav")[0].all("a")} == set(ids)
    assert root.all("a", "skip")[0].attributes["href"] == "#" + root.all("main")[0].attributes["id"]
    levels = [int(level) for level in re.findall(r"<h([1-6])", content)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_a_run_without_evaluation_says_how_to_make_one(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    content, root = page_of(run, tmp_path / "report.html")
    assert root.all("h1")[0].text == "A training run of linear probe"
    assert f"dualpath evaluate {run} DATA" in root.all("pre")[0].text
    assert len(root.all("svg")) == 3
    check_page(content, root)


def test_an_evaluation_without_a_run(tmp_path: Path, found: Evaluation) -> None:
    found.write(tmp_path / "out")
    told = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    for key in ("data", "origin", "quarantined"):  # as an older version wrote it
        del told[key]
    (tmp_path / "out" / "evaluation.json").write_text(json.dumps(told))
    content, root = page_of(tmp_path / "out", tmp_path / "report.html", mistakes=1)
    assert rows_of(root, "data")["Model"] == ["not recorded"]
    assert "the checkpoint is no longer where it was, or was not recorded" in root.text
    assert "The command was not recorded." in root.text
    (card,) = root.all("article", "clip")
    assert card.text.startswith("✗ wrong shows c, taken for a test/10.mp4 a 0.950")
    check_page(content, root)


def test_400_classes_stay_readable(tmp_path: Path) -> None:
    classes = tuple(f"class {i}" for i in range(400))
    rng = np.random.default_rng(0)
    labels = [i % 400 for i in range(1200)]
    guesses = [(label if rng.random() < 0.6 else 7 if label == 3 else int(rng.integers(400)), 0.5) for label in labels]
    guesses[3] = guesses[403] = guesses[803] = (7, 0.5)
    found = guessed(labels, guesses, classes)
    found.write(tmp_path / "out")
    content, root = page_of(tmp_path / "out", tmp_path / "report.html")
    assert root.all("ol", "pairs")[0].all("li")[0].text.startswith("“class 3” was taken for “class 7” 3 times of 3 (100 %)")
    (matrix,) = root.all("table", "matrix")
    rows = matrix.all("tbody")[0].all("tr")
    assert 8 < len(rows) <= 16
    assert "class 3" in [row.all("th")[0].text for row in rows]
    for row in rows:  # all videos of the class stand in its row: the classes that are not shown have a column together
        assert sum(int(cell.text) for cell in row.all("td")) == 3
    assert len(root.all("table", "bars")[0].all("tbody")[0].all("tr")) == 30
    assert len(rows_of(root, "classes")) >= 400
    assert len(content) < 300_000


def test_names_are_names(tmp_path: Path) -> None:
    names = [f"{name}.mp4" for name in NASTY]
    rows = [[0.6, 0.1, 0.1, 0.1, 0.1], [0.6, 0.1, 0.1, 0.1, 0.1], None, [0.1, 0.1, 0.1, 0.6, 0.1], [0.2] * 5]
    record = RECORD | {"skipped": {NASTY[0]: NASTY[1]}, "command": ["dualpath", "train", NASTY[1]]}
    found = made([0, 1, 2, 3, 4], rows, NASTY, names=names, origin=Origin(data=NASTY[0], split="test", command=("x", NASTY[2])))
    run = write_run(tmp_path / "<i>run & co</i>", ("evaluation-test", found), record=record)
    content, root = page_of(run, tmp_path / "report.html", mistakes=3)  # an element from a name would stand in the tree
    assert not root.all("b")
    assert not root.all("i")
    assert '<b>bold</b> & "co"' in root.text
    check_page(content, root)
    second = write_run(tmp_path / '"other"', ("evaluation-test", found), record=record)
    content, root = page_of(run, tmp_path / "two.html", against=second, mistakes=2)
    assert not root.all("b")
    check_page(content, root)


def test_two_side_by_side(run: Path, tmp_path: Path) -> None:
    named = [0, 1, 1, 0, 1, 1, 1, 0, 2, 2, 2, 2]
    scores = [0.9, 0.9, 0.8, 0.6, 0.7, 0.5, 0.7, 0.7, 0.9, 0.9, 0.95, 0.4]
    guesses = list(zip(named, scores, strict=True))
    other = guessed(LABELS, guesses, CLASSES)
    second = write_run(tmp_path / "second", ("validation", other))
    content, root = page_of(run, tmp_path / "two.html", against=second, mistakes=4)
    cards = [card.text for card in root.all("ul", "scores")[0].all("li")]
    assert [card.split(" top-1")[0] for card in cards[:2]] == ["probe 58.3 %", "second 75.0 %"]
    assert cards[2].startswith("Difference −16.7 points probe less second 95 % interval: ")
    quad = [[int(cell.text) for cell in row.all("td")] for row in root.all("table", "quad")[0].all("tbody")[0].all("tr")]
    assert quad == [[5, 2], [4, 1]]
    sides = rows_of(root, "sides")
    assert sides["c"][:3] == ["50 %", "100 %", "−50.0"]
    assert rows_of(root, "data")["Videos judged"] == ["12 of 3 classes"] * 2
    shown = [card.all("p", "file")[0].text for card in root.all("article", "clip")]
    assert shown == ["test/1.mp4", "test/7.mp4", "test/10.mp4", "test/3.mp4"]
    assert "do not tell which one is better" in root.text
    assert "probability of 0.688" in root.text  # 2 x (1 + 6 + 15) / 64
    check_page(content, root)


def test_the_worst_pairs_are_those_that_are_commonest() -> None:
    labels = [0] * 10 + [1] * 2 + [2] * 5
    guesses: list[tuple[int, float] | None] = (
        [(1, 0.9)] * 2 + [(0, 0.9)] * 8 + [(0, 0.9)] * 2 + [(2, 0.9)] * 3 + [(1, 0.9), None]
    )
    found = guessed(labels, guesses, CLASSES)
    pairs = [(pair.true, pair.taken, pair.count, pair.videos, pair.back, pair.back_videos) for pair in worst_pairs(found, 9)]
    assert pairs == [(1, 0, 2, 2, 2, 10), (0, 1, 2, 10, 2, 2), (2, 1, 1, 5, 0, 2)]
    (row,) = confusion_rows(found, [2])
    assert (row["others"], row["cells"][0]["count"], row["undecodable"]) == (1, 3, 1)


@pytest.fixture(scope="module")
def pictured(weights: Path, clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that nobody trained and an evaluation in it, whose scores are made up."""
    folder = tmp_path_factory.mktemp("pictured") / "best"
    config = run_config(weights)
    backbone = load_backbone(config.backbone)
    assert config.options is not None
    model = build_model(config.method, backbone, num_classes=2, config=config.options, seed=0)
    with torch.no_grad():
        for value in (value for value in model.parameters() if value.requires_grad):
            value.normal_(0, 0.1, generator=torch.Generator().manual_seed(value.numel()))
    spec = ModelSpec(config.method, config.options, config.backbone, tuple(COLOURS), config.sampling, 0, 0.2, {"epochs": 2})
    save_checkpoint(folder, model, spec)
    classifier = VideoClassifier(model, spec, device=torch.device("cpu"))
    videos = read_manifest(clips).split("val")
    scores = np.array([[0.2, 0.8] if video.label == 0 else [0.6, 0.4] for video in videos], dtype=np.float32)
    origin = describe_origin(
        classifier, checkpoint=folder, data=clips, split="val", videos=videos, views=ViewsConfig(), seconds=2.0
    )
    Evaluation(tuple(COLOURS), videos, scores, {}, "segment-4, 1x1 views", origin=origin).write(folder / "evaluation-val")
    return folder


def test_an_evaluations_origin_is_told(pictured: Path, tmp_path: Path) -> None:
    stored = json.loads((pictured / "adapter_config.json").read_text())
    _, root = page_of(pictured / "evaluation-val", tmp_path / "report.html")
    data, cost, repeat = (rows_of(root, name) for name in ("data", "cost", "repeat"))
    assert data["Model"] == [f"DualPath on {EMBEDDED}, clips of 4 frames of 128x128 pixels"]
    assert cost["Evaluation took"] == ["2 s, 2.0 videos a second"]
    size = sum(file.stat().st_size for file in pictured.iterdir() if file.is_file())
    assert cost["Checkpoint on disk"] == [f"{size / 1e6:.2f} MB"]
    assert repeat["sha256 of its trained weights"] == [stored["sha256"]]
    assert repeat["sha256 of the backbone's weights"] == [stored["backbone"]["sha256"]]
    assert repeat["Checkpoint"] == [str(pictured)]


def test_mistakes_are_shown_as_the_model_saw_them_with_maps(pictured: Path, tmp_path: Path) -> None:
    content, root = page_of(pictured / "evaluation-val", tmp_path / "report.html", mistakes=1)
    (card,) = root.all("article", "clip")
    alts = [image.attributes["alt"] for image in card.all("img")]
    assert len(alts) == 4 + 1 + 4 + 1
    assert alts[0].startswith("Frame 1 of 4 of val/")
    assert alts[4].startswith("Map of the spatial path over frame ")
    assert alts[5].startswith("Map of the temporal path over frame 1 of 4")
    assert alts[9].startswith("Frameset 1 of 1")
    taken = "red" if "/blue/" in alts[0] else "blue"
    assert f"Temporal path: what speaks for “{taken}”" in card.text
    for image in card.all("img"):
        picture = Image.open(io.BytesIO(base64.b64decode(image.attributes["src"].removeprefix("data:image/jpeg;base64,"))))
        assert np.asarray(picture).std() > 1
    check_page(content, root)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": "/gone"}, "because the videos are no longer there: "),
        ({"data": None}, "because it was not recorded where the videos are"),
        ({"checkpoint": "/gone"}, "because the checkpoint is no longer where it was"),
    ],
)
def test_what_is_no_longer_there_is_told_instead_of_shown(
    pictured: Path, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    shutil.copytree(pictured / "evaluation-val", tmp_path / "out")
    told = json.loads((tmp_path / "out/evaluation.json").read_text())
    (tmp_path / "out/evaluation.json").write_text(json.dumps(told | {"origin": told["origin"] | change}))
    _, root = page_of(tmp_path / "out", tmp_path / "report.html", mistakes=1)
    (card,) = root.all("article", "clip")
    assert not card.all("img")
    assert words in root.text
    assert "red 0.800" in card.text


def test_a_video_that_cannot_be_read_any_more(pictured: Path, clips: Path, tmp_path: Path) -> None:
    shutil.copytree(clips, tmp_path / "data")
    (tmp_path / "data/val/blue/0.mp4").write_text("no video")
    source = read_source(pictured / "evaluation-val")
    write_report_page(tmp_path / "report.html", source, config=ReportConfig(1), data=tmp_path / "data")
    assert "It cannot be shown: is not a video but a text file." in (tmp_path / "report.html").read_text()


def run_verb(*words: Any) -> int:
    return main(["report", *map(str, words)])


def test_the_verb(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "new" / "page.html"
    assert run_verb(run, "--output", output, "--mistakes", 0) == 0
    assert capsys.readouterr().out == f"written to {output}, 0.0 MB; it opens in any browser\n"
    assert run_verb(run, "--output", output) == 2
    assert capsys.readouterr().err == f"dualpath: the output {output} exists; give a new file with --output\n"
    mine = tmp_path / "mine"
    shutil.copytree(run, mine)
    assert run_verb(mine, "--mistakes", 0) == 0
    assert (mine / "report.html").is_file()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["{tmp}/nothing"], "there is no folder"),
        (["{tmp}"], "is neither a run nor an evaluation"),
        (["{run}", "--against", "{run}"], "would be compared with itself"),
        (["{run}", "--against", "{run}/../probe"], "would be compared with itself"),
        (["{run}", "--against", "{tmp}"], "is neither a run nor an evaluation"),
        (["{run}", "--mistakes", "-1"], "mistakes is -1"),
        (["{run}", "--against", "{other}"], "they are not of the same classes"),
        (["{damaged}"], "run.json is damaged"),
        (["{cut}"], "log.jsonl is damaged"),
    ],
)  # fmt: skip
def test_bad_input(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: Sequence[str], told: str) -> None:
    places = {"run": str(run), "tmp": str(tmp_path), "other": str(tmp_path / "other")}
    guessed([0, 1], [(0, 0.9), (1, 0.9)], ("a", "z")).write(tmp_path / "other")
    for name, file, text in (("damaged", "run.json", "[1"), ("cut", "log.jsonl", '{"step": 1, "loss\n{"step": 2}\n')):
        places[name] = str(write_run(tmp_path / name))
        (tmp_path / name / file).write_text(text)
    assert run_verb(*(word.format(**places) for word in words), "--output", tmp_path / "page.html") == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1
    assert not (tmp_path / "page.html").exists()


def test_a_log_that_a_kill_cut_off_is_read(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    text = (run / "log.jsonl").read_text()
    (run / "log.jsonl").write_text(text + '{"step": 41, "lo')
    assert len(read_source(run).steps) == 40


@pytest.mark.parametrize("name", ["run.json", "evaluation-test/evaluation.json", "log.jsonl"])
def test_whatever_a_record_holds_is_reported_or_refused(name: str, run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    told = (folder / name).read_text().splitlines() if name == "log.jsonl" else [(folder / name).read_text()]
    for number in {0, len(told) - 1}:
        for changed in spoiled(json.loads(told[number])):
            (folder / name).write_text("\n".join([*told[:number], json.dumps(changed), *told[number + 1 :]]) + "\n")
            with suppress(DualPathError):
                page_of(folder, tmp_path / "report.html")
