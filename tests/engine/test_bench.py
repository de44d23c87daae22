"""The bench: what it measures adds up, and what it says follows from the figures."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dualpath.cli import main
from dualpath.engine import bench as module
from dualpath.engine.appetite import Demand, advise, choose_workers, estimate, find_limit
from dualpath.engine.bench import AS_THEY_ARE, PREPARED, Bench, BenchConfig, Rates
from dualpath.errors import DualPathError
from dualpath.report.bench import bench_table
from runs import ask_here, scan_here
from videos import write_video

PLAIN = Rates(disk=900.0, decode=10.0, transform=40.0, transfer=500.0, loader={0: 8.0, 1: 8.1, 4: 31.0}, megabytes=1.0)
QUICK = replace(PLAIN, decode=60.0, loader={0: 24.0, 1: 23.0, 4: 92.0}, megabytes=2.0)
BENCH = Bench("data", 16, "16 frames", 8, {AS_THEY_ARE: PLAIN, PREPARED: QUICK})


@pytest.mark.parametrize(
    ("rates", "workers", "limit"),
    [
        (PLAIN, 0, "decode"),
        (PLAIN, 4, "decode"),
        (QUICK, 4, "transform"),
        (replace(QUICK, transfer=50.0, loader={4: 48.0}), 4, "process transfer"),
        (replace(QUICK, disk=30.0, loader={4: 29.0}), 4, "disk"),
        (replace(QUICK, disk=None, loader={4: 29.0}), 4, "transform"),
        (replace(PLAIN, loader={16: 60.0}), 16, "decode"),  # no more cores than 8: it is what 8 can do
    ],
)
def test_the_limit(rates, workers, limit):
    assert find_limit(rates, workers, 8) == limit


def test_the_fewest_workers_that_are_as_good():
    assert choose_workers(replace(PLAIN, loader={0: 10.0, 2: 19.5, 4: 20.0, 8: 19.0})) == 2


def test_advice_by_hand():
    told = advise(BENCH, (Demand("an H100", 400.0, True),))
    assert told == [
        "Files as they are: 31.0 clips/s with 4 workers; the limit is decode (100.0 ms a clip; transform 25.0, process "
        "transfer 2.0, disk 1.1).",
        "Files prepared: 92.0 clips/s with 4 workers; the limit is transform (25.0 ms a clip; decode 16.7, process transfer "
        "2.0, disk 1.1).",
        "Take `dualpath data prepare` (x3.0) and --workers 4.",
        "An H100 would eat about 400 clips/s (an estimate); your loader gives 31: it would wait 92 % of the time, with "
        "prepared files and 4 workers 77 %; about 17 workers on as many cores would feed it, more than the 8 cores here.",
    ]
    assert advise(BENCH, (Demand("your training", 50.0, False),))[-1] == (
        "Your training eats 50 clips/s; your loader gives 31: it would wait 38 % of the time, with prepared files "
        "and 4 workers 0 %."
    )
    assert advise(BENCH, (Demand("your training", 20.0, False),))[-1] == (
        "Your training eats 20 clips/s: your loader gives 31, which is enough."
    )
    alike = Bench("data", 16, "", 8, {AS_THEY_ARE: PLAIN, PREPARED: PLAIN})
    assert advise(alike, ())[-1] == "Take the files as they are and --workers 4: preparing them would gain little (x1.0)."


def test_estimates_follow_from_the_cards_peaks():
    """A step of two forward passes of 100e9 multiply-adds is 4e11 operations; a T4 makes 65e12 x 0.4 a second."""
    demands = {demand.what: demand.clips_per_s for demand in estimate(100.0)}
    assert demands["a T4"] == pytest.approx(65.0)
    assert demands["an H100"] == pytest.approx(989.0)
    assert list(demands) == ["an H100", "an A100", "an RTX 4090", "a T4"]
    assert all(demand.estimated for demand in estimate(100.0))


def test_the_table_shows_all_figures():
    text = bench_table(BENCH, ["So it is."])
    for figure in ("900.0", "10.0", "60.0", "500.0", "31.0", "92.0", "4 workers", "prepared", "So it is."):
        assert figure in text
    assert "-" in bench_table(Bench("d", 1, "", 1, {AS_THEY_ARE: replace(PLAIN, disk=None)}), [])


def test_a_run_on_real_files(tmp_path, monkeypatch, capsys):
    for n in range(4):
        path = tmp_path / "data" / "ab"[n % 2] / f"{n}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, 30, options={"g": "250"})
    (tmp_path / "data/a/bad.mp4").write_bytes(b"\0" * 999)
    monkeypatch.setattr(module, "ask", ask_here)
    monkeypatch.setattr(module, "scan", scan_here)
    monkeypatch.setattr(module, "_transfer_rate", lambda *_: 1000.0)  # it starts a process

    words = [
        "data",
        "bench",
        f"{tmp_path}/data",
        "--workers",
        "0",
        "--seconds",
        "0.05",
        "--num-frames",
        "8",
        "--method",
        "linear_probe",
        "--backbone",
        "stills_vit_tiny_patch16_128",
        "--short-side",
        "24",
        "--batch-size",
        "2",
    ]
    assert main([*words, "--json", "--clips-per-s", "1e9"]) == 0
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert told["files"] == 4
    assert set(told["clips_per_s"]) == {"as they are", "prepared"}
    for rates in told["clips_per_s"].values():
        assert min(rates["decode"], rates["transform"], rates["loader"]["0"], rates["megabytes"]) > 0
    assert told["demand"] == [{"what": "your training", "clips_per_s": 1e9, "estimated": False}]
    assert "it would wait 100 % of the time" in told["advice"][-1]
    assert "left out: a/bad.mp4" in said.err
    assert not list(Path(module.tempfile.gettempdir()).glob("dualpath-bench-*"))


@pytest.mark.parametrize(
    "wrong", [{"workers": ()}, {"workers": (-1,)}, {"workers": (1, 1)}, {"seconds": 0.0}, {"batch_size": 0}, {"files": 0}]
)
def test_settings_that_cannot_be(wrong):
    with pytest.raises(DualPathError, match=next(iter(wrong))):
        BenchConfig(**wrong)


def test_words_that_cannot_be(tmp_path, capsys):
    assert main(["data", "bench", str(tmp_path), "--clips-per-s", "0"]) == 2
    assert "clips_per_s is 0.0, but it must be a number above 0" in capsys.readouterr().err
    assert main(["data", "prepair"]) == 2
    assert "unknown verb data 'prepair' (did you mean prepare?); there are check, prepare, bench" in capsys.readouterr().err
    assert main(["data"]) == 0
    assert "prepare DATA --output DIR" in capsys.readouterr().out
