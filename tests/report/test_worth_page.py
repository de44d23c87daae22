"""What time is worth, as people and programs get to see it: from hand-made answers."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.text import Text
from PIL import Image

from dualpath.data.manifest import Video
from dualpath.engine.evaluate import Evaluation
from dualpath.engine.paired import Interval
from dualpath.engine.worth import ORDERS, ROWS, Worth
from dualpath.report.worth import as_csv, as_json, class_cells, markdown, row_cells, worth_table, write_worth
from dualpath.report.worth_picture import (
    LONGEST_NAME,
    MOST_CLASSES,
    choose_classes,
    draw_worth,
    make_figure,
    points,
    short_name,
)

CLASSES = ("opens", "red [thing]", "$5|10", "none")
COUNT = 20
LABELS = [label for label in range(3) for _ in range(COUNT)]


def evaluation(classes: tuple[str, ...], labels: list[int], guesses: list[int]) -> Evaluation:
    videos = tuple(Video(Path(f"/data/{i}.mp4"), f"{i}.mp4", label, "test") for i, label in enumerate(labels))
    scores = np.eye(len(classes), dtype=np.float32)[guesses]
    failures = {i: "is empty (0 bytes)" for i, guess in enumerate(guesses) if guess < 0}
    scores[[*failures]] = np.nan
    return Evaluation(classes, videos, scores, failures, "segment-4, 1x1 views")


def guesses(opens: int, red: int, five: int) -> list[int]:
    """So many of the first videos of each class are recognised, the others taken for "none"; the last video is undecodable."""
    found = [label if place < right else 3 for label, right in enumerate((opens, red, five)) for place in range(COUNT)]
    return [*found[:-1], -1]


@pytest.fixture
def worth() -> Worth:
    """The first class needs order, the second one frame, the third is not recognised."""
    told = {
        "in_order": (18, 20, 0), "reversed": (0, 20, 0), "shuffled": (3, 19, 0), "one_frame": (1, 20, 0),
        "no_spatial": (18, 4, 0), "no_temporal": (0, 20, 1),
    }  # fmt: skip
    return Worth({row: evaluation(CLASSES, LABELS, guesses(*told[row])) for row in ROWS})


def test_rows_by_hand(worth: Worth) -> None:
    cells = row_cells(worth)
    assert [line[:4] for line in cells] == [
        ["frames in order", "63.3 %", "63.3 %", "38 of 60"],
        ["reversed", "33.3 %", "33.3 %", "20 of 60"],
        ["shuffled", "36.7 %", "36.7 %", "22 of 60"],
        ["one frame repeated", "35.0 %", "35.0 %", "21 of 60"],
        ["spatial path silenced", "36.7 %", "36.7 %", "22 of 60"],
        ["temporal path silenced", "35.0 %", "35.0 %", "21 of 60"],
    ]
    assert cells[0][4] == ""
    assert cells[1][4] == "-30.0 (-41.7 to -18.3)"
    assert points(Interval(0.462, 0.41, 0.513)) == "-46.2 (-51.3 to -41.0)"
    assert points(Interval(-0.05, -0.1, 0.0)) == "+5.0 (+0.0 to +10.0)"
    assert points(Interval(0.0, 0.0, 0.0)) == "+0.0 (+0.0 to +0.0)"


def test_classes_by_hand(worth: Worth) -> None:
    assert class_cells(worth) == [
        ["opens", "motion", "20", "90", "0", "15", "5", "90", "0"],
        ["red [thing]", "appearance", "20", "100", "100", "95", "100", "20", "100"],
        ["$5|10", "unrecognised", "20", "0", "0", "0", "0", "0", "5"],
        ["none", "-", "0", "-", "-", "-", "-", "-", "-"],
    ]


def test_table_for_the_terminal(worth: Worth) -> None:
    told = worth_table(worth)
    assert "60 videos, segment-4, 1x1 views" in told
    assert "red [thing]" in told
    assert "motion, 1 class: the order of frames tells it" in told
    assert "frames, 0" not in told
    assert "A silenced path's features are their mean over all videos." in told
    assert "1 video could not be decoded and counted as wrong in each row:\n  59.mp4 is empty (0 bytes)" in told


def test_a_model_without_paths_says_so(worth: Worth) -> None:
    rows = {row: worth.rows[row] for row in ORDERS}
    alone = Worth(rows, "LinearProbe has no paths, so none was silenced; DualPath has two.")
    told = worth_table(alone)
    assert "LinearProbe has no paths, so none was silenced; DualPath has two." in told
    assert "silenced path" not in told
    assert list(as_json(alone, command="x")["rows"]) == list(ORDERS)
    assert [text.get_text() for text in make_figure(alone).axes[0].get_yticklabels()] == [ROWS[row] for row in ORDERS]


def test_files(worth: Worth, tmp_path: Path) -> None:
    (tmp_path / "worth.md").write_text("older")
    told = write_worth(worth, tmp_path, command="dualpath worth RUN DATA")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["worth.csv", "worth.json", "worth.md", "worth.png"]
    assert json.loads((tmp_path / "worth.json").read_text()) == told
    assert (told["command"], told["videos"], told["undecodable"]) == (
        "dualpath worth RUN DATA", 60, {"59.mp4": "is empty (0 bytes)"}
    )  # fmt: skip
    row = told["rows"]["shuffled"]
    assert (row["top1"], row["right"]) == (22 / 60, 22)
    assert row["top1_interval95"] == pytest.approx([0.2562, 0.4932], abs=1e-3)
    assert row["in_order_minus_this"]["difference"] == pytest.approx(16 / 60)
    assert told["verdicts"] == {
        "motion": 1, "both": 0, "appearance": 1, "frames": 0, "unrecognised": 1, "too few": 0
    }  # fmt: skip
    assert told["classes"]["none"] == {"videos": 0, "verdict": None}
    opens = told["classes"]["opens"]
    assert (opens["right"]["shuffled"], opens["top1"]["shuffled"], opens["others_taken_for_it"]["shuffled"]) == (3, 0.15, 0)
    # 15 lost and none won is 2 / 2**15; corrected as the fifth least of 9, three of this class's and two of others come before
    assert opens["p_in_order_differs"]["shuffled"] == pytest.approx(7 * 2 / 2**15)
    assert (tmp_path / "worth.png").read_bytes().startswith(b"\x89PNG")
    with Image.open(tmp_path / "worth.png") as picture:
        assert picture.width == 1210


def test_csv(worth: Worth) -> None:
    lines = list(csv.DictReader(io.StringIO(as_csv(worth))))
    assert lines[0] == {
        "video": "0.mp4", "label": "opens", "in_order": "opens", "reversed": "none", "shuffled": "opens",
        "one_frame": "opens", "no_spatial": "opens", "no_temporal": "none",
    }  # fmt: skip
    assert set(lines[59].values()) == {"59.mp4", "$5|10", ""}


def test_markdown(worth: Worth) -> None:
    page = markdown(worth, command="dualpath worth RUN DATA")
    assert "| reversed | 33.3 % | 33.3 % | 20 of 60 | -30.0 (-41.7 to -18.3) |" in page
    assert r"| \$5\|10 | unrecognised | 20 |" in page
    assert "60 videos of 4 classes, segment-4, 1x1 views." in page
    assert "(worth.png)" in page
    assert "Holm's method" in page


def test_the_picture_shows_the_figures(worth: Worth) -> None:
    above, below = make_figure(worth).axes
    assert [bar.get_width() for bar in above.patches] == pytest.approx([100 * n / 60 for n in (38, 20, 22, 21, 22, 21)])
    words = [text.get_text() for text in above.texts]
    assert "63.3 %" in words
    assert "-30.0 (-41.7 to -18.3)" in words
    assert [text.get_text() for text in below.get_yticklabels() if text.get_text()] == ["opens", "red [thing]", r"\$5|10"]
    cells = [text.get_text() for text in below.texts]
    assert cells[:7] == ["90", "0", "15", "5", "90", "0", "motion"]
    assert cells[13] == "appearance"


@pytest.mark.parametrize("size", ["few", "many"])
def test_no_word_of_the_picture_lies_on_another_or_is_cut(worth: Worth, size: str) -> None:
    figure = make_figure(worth if size == "few" else many())
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()  # pyright: ignore
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text().strip() and text.get_visible()]
    words, boxes = [text.get_text() for text in texts], np.array([text.get_window_extent(renderer).extents for text in texts])
    assert boxes[:, 0].min() >= 0
    assert boxes[:, 2].max() <= figure.bbox.width, words[boxes[:, 2].argmax()]
    low, high = np.maximum(boxes[:, None, :2], boxes[:, :2]), np.minimum(boxes[:, None, 2:], boxes[:, 2:])
    clashes = np.argwhere(np.triu((low < high).all(axis=2), k=1))
    assert [(words[i], words[j]) for i, j in clashes] == []


def many() -> Worth:
    """A hundred classes with long names, of which the even ones are told by order."""
    names = tuple(f"class {i} {'of a very long name ' * 4}" for i in range(100))
    labels = [i for i in range(100) for _ in range(2)]
    lost = [label if label % 2 else (label + 1) % 100 for label in labels]
    return Worth({row: evaluation(names, labels, lost if row in ("reversed", "shuffled") else labels) for row in ROWS})


def test_many_classes_are_shown_from_both_ends() -> None:
    worth = many()
    shown = [one.label for one in choose_classes(worth)]
    assert len(shown) == MOST_CLASSES
    assert all(label % 2 == 0 for label in shown[:20])
    assert all(label % 2 for label in shown[20:])
    below = make_figure(worth).axes[1]
    assert "40 of 100: order is worth most" in below.get_title(loc="left")
    assert all(len(text.get_text()) <= LONGEST_NAME for text in below.get_yticklabels())
    assert short_name("a" * 50 + "b" * 50) == f"{'a' * 21}…{'b' * 21}"
    assert short_name("手" * 22) == "手" * 22
    assert short_name("手" * 40) == f"{'手' * 10}…{'手' * 10}"


@pytest.mark.filterwarnings("error")
def test_letters_that_no_font_has_are_no_warning(worth: Worth) -> None:
    plain = replace(worth.in_order, classes=("opens", "手を振る", "دوران", "none"))
    assert draw_worth(Worth({**worth.rows, "in_order": plain})).startswith(b"\x89PNG")


def test_the_picture_tells_the_mean_per_class_where_it_is_another(worth: Worth) -> None:
    assert "diamonds" not in make_figure(worth).axes[0].get_xlabel()
    labels = [0] * 30 + [1] * 10
    rows = {row: evaluation(CLASSES, labels, [0] * 40) for row in ROWS}
    above = make_figure(Worth(rows)).axes[0]
    assert "diamonds: mean per class" in above.get_xlabel()
    (diamonds,) = [one for one in above.collections if isinstance(one, PathCollection)]
    assert diamonds.get_offsets().tolist() == [[50.0, float(row)] for row in range(len(ROWS))]
