"""The report says what was measured, loads nothing, and stays whole whatever the classes are called."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dualpath.data.manifest import Video
from dualpath.engine.checkpoint import ModelSpec
from dualpath.engine.evaluate import Evaluation
from dualpath.engine.predict import VideoClassifier
from dualpath.methods import build_model
from dualpath.methods.options import DualPathConfig
from dualpath.nn.zoo import EMBEDDED, BackboneConfig, load_backbone
from dualpath.report import curves
from dualpath.report.pages import demo as page
from dualpath.report.pages.making import breakable, command
from dualpath.report.pictures import choose_right, choose_wrong, look, write_picture
from dualpath.video.drawn.synthetic import CLASSES, PAIRS, render_clip, write_video
from dualpath.video.sampling import SamplingConfig

VOID = {"meta", "img", "br", "link", "input", "hr"}
PROTOCOL = "segment-16, 1x1 views"
PER_CLASS = 2
# video: (predicted class, score): the true class where it is not named here, with a score of 0.3
MISTAKES = {3: ("moves left", 0.7), 8: ("moves up", 0.95), 13: ("appears", 0.5), 17: ("appears", 0.8), 18: ("moves left", 0.4)}


@dataclass
class Demo:
    """A demonstration that nobody had to train."""

    folder: Path
    model: VideoClassifier
    found: dict[str, Evaluation]
    results: dict[str, Any]

    def write(self) -> str:
        page.write_report(self.folder / "report.html", self.results, self.found, self.model, self.folder)
        return (self.folder / "report.html").read_text(encoding="utf-8")


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    words: list[str] = field(default_factory=list)
    children: list[Element] = field(default_factory=list)

    def all(self, tag: str, kind: str = "") -> list[Element]:
        inner = [found for child in self.children for found in child.all(tag, kind)]
        return [self, *inner] if self.tag == tag and kind in ["", *self.attributes.get("class", "").split()] else inner

    @property
    def text(self) -> str:
        return re.sub(r" ([,:])", r"\1", " ".join(" ".join(self.words).split()))


class Tree(HTMLParser):
    """Parses strictly: every element that opens must close, in order."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.root = Element("", {})
        self.open = [self.root]
        self.feed(content.replace("<wbr>", ""))
        self.close()
        assert self.open == [self.root], f"never closed: {[element.tag for element in self.open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {key: value or "" for key, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Element(tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.words.append(data)


def scores_of(videos: tuple[Video, ...], classes: tuple[str, ...], guesses: dict[int, tuple[str, float]]) -> np.ndarray:
    scores = np.zeros((len(videos), len(classes)), np.float32)
    for index, video in enumerate(videos):
        name, score = guesses.get(index, (classes[video.label], 0.3))
        scores[index] = (1 - score) / (len(classes) - 1)
        scores[index, classes.index(name)] = score
    return scores


def build(folder: Path, model: VideoClassifier, videos: tuple[Video, ...]) -> Demo:
    """DualPath: 15 of 20 right; shuffled: 8; the probe: 7, which takes all else for the opposite."""
    classes = model.classes
    opposite = {one: other for pair in PAIRS for one, other in (pair, pair[::-1])}
    names = [CLASSES[video.label] for video in videos]
    swaps = {i: (classes[CLASSES.index(opposite[names[i]])], 0.6) for i in range(len(videos))}
    guesses = {
        "dualpath": {i: (classes[CLASSES.index(name)], score) for i, (name, score) in MISTAKES.items()},
        "linear_probe": {i: swap for i, swap in swaps.items() if i >= 7},
        "dualpath_shuffled": {i: swap for i, swap in swaps.items() if i >= 8},
    }
    found = {
        name: Evaluation(classes, videos, scores_of(videos, classes, guess), {}, PROTOCOL) for name, guess in guesses.items()
    }
    results: dict[str, Any] = {"classes": list(classes), "test_videos": len(videos), "protocol": PROTOCOL}
    for name, evaluation in found.items():
        results[name] = {"top1": evaluation.top(1), "per_class": evaluation.per_class()}
    results["dualpath"]["trainable_params"] = 1_263_178
    results["linear_probe"]["trainable_params"] = 1_930
    told = [{"label": classes[i], "score": score} for i, score in ((4, 0.625), (5, 0.25), (0, 0.125))]
    results["prediction"] = {"video": "new.mp4", "shows": classes[4], "predictions": told}
    return Demo(folder, model, found, results | {"seconds": 402.4, "peak_rss_gb": 2.41})


def classifier(classes: tuple[str, ...]) -> VideoClassifier:
    torch.manual_seed(0)
    options = DualPathConfig(num_spatial_frames=1, bottleneck=8)
    backbone = BackboneConfig(EMBEDDED)
    told = {"epochs": 12, "batch": 32, "learning rate": 1e-3, "seed": 5, "training videos": 3000}
    spec = ModelSpec("dualpath", options, backbone, classes, SamplingConfig(num_frames=16), 0, 0.0, told)
    model = build_model("dualpath", load_backbone(backbone), num_classes=len(classes), config=options)
    return VideoClassifier(model, spec, device=torch.device("cpu"))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    folder = tmp_path_factory.mktemp("demo")
    videos = []
    for label, name in enumerate(CLASSES):
        for number in range(PER_CLASS):
            path = folder / "clips" / "test" / name / f"{number}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, *render_clip(name, (label, number)))
            videos.append(Video(path, f"test/{name}/{number}.mp4", label, "test"))
    write_video(folder / "new.mp4", *render_clip(CLASSES[4], (99,)))
    for run, steps in (("dualpath", 90), ("linear_probe", 30)):
        (folder / run).mkdir()
        lines = [{"step": step, "epoch": 1, "loss": 2.0 - step / 60, "lr": 1e-3} for step in range(1, steps + 1)]
        lines.append({"step": steps, "seconds": 1.0, "epoch": 1})
        (folder / run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return build(folder, classifier(CLASSES), tuple(videos))


@pytest.fixture(scope="module")
def content(demo: Demo) -> str:
    return demo.write()


@pytest.fixture(scope="module")
def root(content: str) -> Element:
    return Tree(content).root


def clip_cards(root: Element) -> Iterator[tuple[bool, str, str]]:
    """(right, file, all words) of each clip shown."""
    for card in root.all("article", "clip"):
        yield "is-right" in card.attributes["class"], card.all("p", "file")[0].text, card.text


def test_the_three_accuracies_stand_with_their_protocol(root: Element) -> None:
    cards = [item.text for item in root.all("ul", "scores")[0].all("li")]
    assert len(cards) == 3
    for card, name, share, right, pair in zip(
        cards,
        ("DualPath", "DualPath, frames shuffled", "Linear probe"),
        ("75.0 %", "40.0 %", "35.0 %"),
        (15, 8, 7),
        ("75.0 %", "100.0 %", "100.0 %"),  # of the mistakes of DualPath, none is the opposite class
        strict=True,
    ):
        assert card.startswith(f"{name} {share} top-1 {PROTOCOL} {right} of 20 correct")
        assert f"correct pair of opposites: {pair}" in card


def test_the_facts(root: Element) -> None:
    facts = {item.all("dt")[0].text: item.all("dd")[0].text for item in root.all("dl", "facts")[0].all("div")}
    assert facts["Chance level"].startswith("10.0 % ")
    assert facts["Trained parameters, DualPath"].startswith("1,263,178 ")
    assert facts["Trained parameters, probe"].startswith("1,930 ")
    assert facts["Time, everything"].startswith("6 min 42 s ")
    assert facts["Peak memory"].startswith("2.41 GB ")
    command = "dualpath demo --output NEW_FOLDER --train-clips 300 --test-clips 2 --epochs 12 --seed 5"
    assert root.all("pre")[0].text == command


def test_the_confusion_matrix_is_the_evaluations_own(demo: Demo, root: Element) -> None:
    (table,) = root.all("table", "matrix")
    columns = [cell.text for cell in table.all("thead")[0].all("th")][1:]
    assert columns == [name for pair in PAIRS for name in pair]  # and none for undecodable videos
    matrix = demo.found["dualpath"].confusion()
    rows = table.all("tbody")[0].all("tr")
    for row in rows:
        label = CLASSES.index(row.all("th")[0].text)
        shown = {name: int(cell.text) for name, cell in zip(columns, row.all("td"), strict=True)}
        assert [shown[name] for name in CLASSES] == matrix[label, :-1].tolist()
    assert sum(int(cell.text) for row in rows for cell in row.all("td")) == 20
    assert len(table.all("td", "miss")) == 5


def test_accuracy_by_class(demo: Demo, root: Element) -> None:
    (table,) = root.all("table", "bars")
    for row in table.all("tbody")[0].all("tr"):
        told = [cell.text for cell in row.all("td")]
        name = row.all("th")[0].text
        assert told == [f"{100 * (demo.found[key].per_class()[name] or 0):.0f} %" for key in page.METHODS]
        widths = [cell.all("span", "fill")[0].attributes["style"] for cell in row.all("td")]
        assert widths[0] == f"width:{100 * (demo.found['dualpath'].per_class()[name] or 0):.1f}%"


def test_the_worst_mistakes_are_listed_and_marked(demo: Demo, root: Element) -> None:
    *shown, new = clip_cards(root)
    videos = demo.found["dualpath"].videos
    assert choose_wrong(demo.found["dualpath"], 4) == [8, 17, 3, 13]
    assert [file for right, file, _ in shown if not right] == [videos[i].name for i in (8, 17, 3, 13)]
    worst = next(words for right, _, words in shown if not right)
    assert worst.startswith(f"✗ wrong shows {CLASSES[videos[8].label]}, taken for moves up")
    assert "moves up 0.950" in worst
    rights = [(file, words) for right, file, words in shown if right]
    assert [file.split("/")[1] for file, _ in rights] == ["moves right", "moves left", "moves down", "comes nearer"]
    assert all(words.startswith("✓ correct shows") for _, words in rights)
    assert new[:2] == (True, "new.mp4")
    assert f"{CLASSES[4]} (true) 0.625" in new[2]


def test_the_rightly_named_are_the_first_of_different_classes(demo: Demo) -> None:
    evaluation = demo.found["dualpath"]
    chosen = choose_right(evaluation, 10)
    labels = [evaluation.videos[i].label for i in chosen]
    assert len(set(labels)) == len(labels) == 10
    for index in chosen:
        same = [i for i in range(20) if evaluation.labels[i] == evaluation.labels[index] and i not in MISTAKES]
        assert index == same[0]


def test_the_pictures_are_what_the_model_sees(demo: Demo, root: Element) -> None:
    card = root.all("article", "clip")[0]
    name = card.all("p", "file")[0].text
    looks = look(demo.model, demo.folder / "clips" / name)
    assert [item.text for item in card.all("ol", "frames")[0].all("li")] == ["1", "3", "5", "7", "10", "12", "14", "16"]
    sources = [image.attributes["src"] for image in card.all("img")]
    for source, expected in zip(sources, [*looks.frames[looks.shown], looks.framesets[0]], strict=True):
        picture = Image.open(io.BytesIO(base64.b64decode(source.removeprefix("data:image/jpeg;base64,"))))
        assert np.abs(np.asarray(picture, float) - expected).mean() < 6
    # The frameset's cells are the frames, four times smaller, in the order of text.
    for number, frame in enumerate(looks.frames):
        row, column = divmod(number, 4)
        cell = looks.framesets[0][32 * row : 32 * row + 32, 32 * column : 32 * column + 32].astype(float)
        small = frame.reshape(32, 4, 32, 4, 3).mean(axis=(1, 3))
        assert np.abs(cell - small).mean() < 6


def test_the_curves_end_where_the_logs_do(root: Element) -> None:
    (plot,) = root.all("svg")
    smooth = plot.all("polyline", "smooth")
    ends = [[float(x) for x in line.attributes["points"].split()[-1].split(",")] for line in smooth]
    assert [end[0] for end in ends] == [1000.0, pytest.approx(1000 / 3, abs=0.1)]
    top = 1.12 * math.log(10)
    assert ends[0][1] == pytest.approx(1000 * (1 - (2 - 88.5 / 60) / top), abs=0.1)  # mean of the steps 87 to 90
    assert "Guessing: 2.30" in plot.attributes["aria-label"]


def test_nothing_is_loaded_and_every_picture_has_words(content: str, root: Element) -> None:
    assert not re.search(r"https?:|//[a-z]|url\(|@import|<script|<link", re.sub(r"base64,[^\"]*", "", content))
    images = root.all("img")
    assert len(images) == 9 * 9  # eight clips and the new one, of each eight frames and a frameset
    assert all(image.attributes["src"].startswith("data:image/jpeg;base64,") for image in images)
    assert all(len(image.attributes["alt"]) > 10 for image in images)
    assert all(svg.attributes["role"] == "img" and svg.attributes["aria-label"] for svg in root.all("svg"))
    assert len(content) < 4_000_000
    ids = {heading.attributes["id"] for heading in root.all("h2")}
    assert ids == {section.attributes["aria-labelledby"] for section in root.all("section")}
    assert len(root.all("h1")) == 1


def test_any_class_name_and_undecodable_videos(demo: Demo, tmp_path: Path) -> None:
    classes = tuple(f'<b>{name} & "co"</b>' if i < 3 else name for i, name in enumerate(CLASSES))
    videos = demo.found["dualpath"].videos
    other = build(demo.folder, classifier(classes), videos)
    evaluation = other.found["dualpath"]
    scores = evaluation.scores.copy()
    scores[8] = np.nan
    other.found["dualpath"] = Evaluation(classes, videos, scores, {8: "moov atom not found <here>"}, PROTOCOL)
    root = Tree(other.write()).root  # an element from a name would stand in the tree
    assert not root.all("b")
    (table,) = root.all("table", "matrix")
    columns = [cell.text for cell in table.all("thead")[0].all("th")][1:]
    assert columns == [*classes, "not decodable"]
    lost = [int(row.all("td")[-1].text) for row in table.all("tbody")[0].all("tr")]
    assert lost == [int(label == videos[8].label) for label in range(10)]
    assert f"{videos[8].name}: moov atom not found <here>" in " ".join(item.text for item in root.all("li"))
    assert next(file for right, file, _ in clip_cards(root) if not right) == videos[17].name
    assert "The 4 of" not in root.text  # four mistakes are left, and all are shown
    assert "All mistakes" in root.text


def test_wilson_interval_of_known_counts() -> None:
    assert curves.wilson(15, 20) == pytest.approx((0.5313, 0.8881), abs=1e-4)  # R: prop.test(15, 20, correct = FALSE)
    assert curves.wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert curves.wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)


@pytest.mark.parametrize(
    ("top", "expected"),
    [(2.58, [0, 1, 2]), (1128.0, [0, 250, 500, 750, 1000]), (3.0, [0, 1, 2, 3]), (0.9, [0, 0.2, 0.4, 0.6, 0.8])],
)
def test_ticks_are_round(top: float, expected: list[float]) -> None:
    assert curves.ticks(top, 5) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([2.0, 2.5], (1.94, 2.56)),  # far from 0: a little beyond on either side
        ([2.3, 2.3], (2.2724, 2.3276)),
        ([0.4, 2.5], (0.0, 2.8)),  # less than half of the highest
        ([0.0, 0.0], (0.0, 1.12e-12)),
    ],
)
def test_an_axis_fits_its_values(values: list[float], expected: tuple[float, float]) -> None:
    assert curves.limits(values) == pytest.approx(expected)


def test_losses_far_from_0_fill_their_plot() -> None:
    losses = [(step, 2.5 - step / 200) for step in range(1, 101)]  # 2.495 to 2
    drawn = curves.plot([curves.Curve("x", "s0", losses, rough=True)], title="steps", mark=(2.3, "guessing"), fitted=True)
    heights = [float(point.split(",")[1]) for point in drawn["curves"][0]["line"].split()]
    assert min(heights) < 150
    assert max(heights) > 850
    (two, low), (_, middle), (_, high) = drawn["down"]
    assert (two, low - middle) == ("2", pytest.approx(middle - high))
    assert drawn["mark"]["at"] == pytest.approx((middle + high) / 2)  # between 2.2 and 2.4


def test_smoothing_keeps_a_line_straight_and_does_not_lag() -> None:
    line = [float(i) for i in range(120)]
    assert curves.smooth(line)[4:-4] == pytest.approx(line[4:-4])
    assert curves.smooth([2.5]) == [2.5]
    assert curves.smooth([]) == []


def test_the_readme_picture(demo: Demo, tmp_path: Path) -> None:
    write_picture(tmp_path / "picture.png", demo.found, demo.model)
    assert (tmp_path / "picture.png").stat().st_size < 400_000
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.width == 1400
        pixels = np.asarray(picture.convert("RGB"), float)
    # The first row is the first rightly named clip of "moves right": its frameset stands at the right.
    (first, *_) = choose_right(demo.found["dualpath"], 1)
    expected = look(demo.model, demo.found["dualpath"].videos[first].path).framesets[0]
    shown = np.asarray(Image.fromarray(pixels[62:272, 1162:1372].astype(np.uint8)).resize((128, 128)), float)
    assert np.abs(shown - expected).mean() < 12


def test_what_is_written_from_right_to_left_stays_in_its_place() -> None:
    assert breakable("test/דור/00005.mp4") == "<bdi>test</bdi>/<bdi><wbr>דור</bdi>/<bdi><wbr>00005.<wbr>mp4</bdi>"
    assert breakable("left/<b>") == "left/&lt;b&gt;"


def test_a_command_breaks_before_its_flags_alone() -> None:
    assert command("x --a_b 'c --d' <e> -f") == "x <span>--a_b</span> &#39;c <span>--d&#39;</span> &lt;e&gt; <span>-f</span>"
