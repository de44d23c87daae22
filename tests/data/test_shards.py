"""Shards: the same videos as plain files, from a folder or a URL, and every kind of damage named."""

import contextlib
import json
import shutil
import tarfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dualpath.data.batches import Course, shards_of
from dualpath.data.clips import TestClips, TrainClips
from dualpath.data.loader import test_loader, train_loader
from dualpath.data.manifest import DataError, Manifest, Video, read_manifest
from dualpath.data.orders import shard_order
from dualpath.data.preparing import prepare as prepare_module
from dualpath.data.preparing.journal import Finished
from dualpath.data.preparing.pack import SPLITS, _plan, write_shards
from dualpath.data.preparing.prepare import ShardConfig, prepare
from dualpath.data.preparing.shards import Index, Sample, Shard, read_index
from dualpath.errors import DualPathError, FetchError
from dualpath.video.decode import probe, read_frames
from dualpath.video.decoding import fetched
from dualpath.video.decoding.places import find_place
from dualpath.video.encode import EncodeConfig, Encoded
from dualpath.video.sampling import SamplingConfig
from dualpath.video.transforms import TransformConfig
from videos import read_numbers, write_video

SMALL = EncodeConfig(short_side=24, key_frame_distance=4)
COUNTS = [5 + n for n in range(12)]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("videos")
    for n, count in enumerate(COUNTS):
        path = root / ("test" if n > 9 else "train") / "ab"[n % 2] / f"{n}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, count)
    return root


def pack(manifest: Manifest, output: Path, *, seed: int = 0) -> Index:
    """Shards of about four samples, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare_module, "ask", lambda jobs, do, **_: ((i, do(job)) for i, job in enumerate(jobs)))
        found = prepare(manifest, output, config=SMALL, shards=ShardConfig(shard_seed=seed))
        patch.setattr("dualpath.data.preparing.pack._plan", partial(_small, seed=seed))
        return write_shards(found, manifest.classes, config=ShardConfig(shard_seed=seed))


def _small(finished, most, number, *, seed):

    plans = []
    for split in SPLITS:
        own = [i for i, one in enumerate(finished) if one.video.split == split]
        order = np.random.default_rng(seed).permutation(own).tolist()
        plans += [(f"{split}-{at // 4:06d}.tar", split, order[at : at + 4]) for at in range(0, len(order), 4)]
    return plans


@pytest.fixture(scope="module")
def packed(data, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("packed") / "shards"
    pack(read_manifest(data, val_fraction=0.0), output)
    return output


def numbers(path: Path) -> list[int]:
    return read_numbers(read_frames(path, range(probe(path).num_frames)).frames)


def test_the_same_videos_again(data, packed):
    assert sorted(path.name for path in packed.iterdir()) == [
        "prepared.json", "prepared.jsonl", "shards.json", "test-000000.tar", *(f"train-00000{n}.tar" for n in range(3))
    ]  # fmt: skip
    before, after = read_manifest(data, val_fraction=0.0), read_manifest(packed, val_fraction=0.0)
    assert (after.source, after.classes) == ("shards", ("a", "b"))
    assert [(v.name, v.label, v.split) for v in after.videos] == [(v.name, v.label, v.split) for v in before.videos]
    for video in after.videos:
        count = COUNTS[int(Path(video.name).stem)]
        assert video.num_frames == count
        assert numbers(video.path) == list(range(count))
    assert read_manifest(packed / "shards.json", val_fraction=0.0) == after
    assert read_manifest(packed).counts()["val"] == {"a": 1, "b": 1}
    assert [v.label for v in read_manifest(packed, classes=["b", "x", "a"], val_fraction=0.0).videos] == [
        2 - 2 * v.label for v in before.videos
    ]
    with pytest.raises(DataError, match=r"class 'b' .* is not one of the model's: a"):
        read_manifest(packed, classes=["a"])


def test_tars_are_what_others_read(packed):
    index = json.loads((packed / "shards.json").read_text())
    for shard in index["shards"]:
        with tarfile.open(packed / shard["name"]) as tar:
            names = tar.getnames()
            assert names == [f"{s['key']}.{kind}" for s in shard["samples"] for kind in ("mp4", "json")]
            for sample in shard["samples"]:
                told = json.load(tar.extractfile(f"{sample['key']}.json"))  # pyright: ignore[reportArgumentType]
                assert told == {"label": sample["label"], "class": "ab"[sample["label"]], "name": sample["name"],
                                "num_frames": sample["num_frames"]}  # fmt: skip
                place = find_place(packed / f"{shard['name']}#{sample['offset']}+{sample['size']}")
                assert place.read() == tar.extractfile(f"{sample['key']}.mp4").read()  # pyright: ignore[reportOptionalMemberAccess]
    order = [sample["name"] for shard in index["shards"] for sample in shard["samples"] if shard["split"] == "train"]
    assert order != sorted(order)


def test_webdataset_reads_them(packed):
    """Its own reader of tars and grouping of samples (its WebDataset leaves files open, which is an error here)."""
    theirs = pytest.importorskip("webdataset.tariterators")
    samples = []
    for path in sorted(packed.glob("train-*.tar")):
        with path.open("rb") as file:
            files = ({"__url__": path.name, **member} for member in theirs.tar_file_iterator(file))
            samples += list(theirs.group_by_keys(files))
    assert len(samples) == 10
    names = {json.loads(sample["json"])["name"] for sample in samples}
    assert names == {v.name for v in read_manifest(packed, val_fraction=0.0).split("train")}
    assert all(sample["mp4"][4:8] == b"ftyp" for sample in samples)


def test_packing_goes_on_and_its_bytes_depend_on_nothing_else(data, packed, tmp_path, monkeypatch):
    manifest, output = read_manifest(data, val_fraction=0.0), tmp_path / "shards"
    real, calls = tarfile.TarFile.addfile, []

    def failing(self, member, content=None):
        calls.append(member.name)
        if len(calls) == 11:
            raise OSError(28, "No space left on device")
        return real(self, member, content)

    monkeypatch.setattr(tarfile.TarFile, "addfile", failing)
    with pytest.raises(DualPathError, match=r"No space left on device\); 1 of 4 shards are finished and kept: make room"):
        pack(manifest, output)
    assert sorted(p.name for p in output.iterdir()) == ["prepared.json", "prepared.jsonl", "test", "train", "train-000000.tar"]
    assert len(list(output.rglob("*.mp4"))) == 8
    monkeypatch.setattr(prepare_module, "reencode", None)  # nothing is encoded again
    pack(manifest, output)
    for path in packed.glob("*.tar"):
        assert (output / path.name).read_bytes() == path.read_bytes()
    assert (output / "shards.json").read_bytes() == (packed / "shards.json").read_bytes()
    assert pack(manifest, output) == read_index((packed / "shards.json").read_bytes(), source="x")
    lines = (output / "prepared.jsonl").read_text().splitlines(keepends=True)
    (output / "prepared.jsonl").write_text("".join(line for line in lines if '"test/a/10.mp4"' not in line))
    with pytest.raises(DualPathError, match=r"was packed before test/a/10\.mp4 was in the data; give a new folder"):
        pack(manifest, output)


def test_shards_are_about_equally_large():
    sizes = [10**6 * (1 + n % 7) for n in range(200)]
    finished = [
        Finished(Video(Path("x"), str(n), 0, "train"), f"{n}.mp4", Encoded(5, 32, 24, size), 0) for n, size in enumerate(sizes)
    ]
    plans = _plan(finished, 100 * 10**6, 0)
    assert sorted(place for _, _, part in plans for place in part) == list(range(200))
    held = [sum(sizes[place] for place in part) for _, _, part in plans]
    assert len(plans) == 8
    assert max(held) < 108e6
    assert min(held) > 90e6
    assert plans != _plan(finished, 100 * 10**6, 1)


def test_damaged_shards_are_all_named(packed, tmp_path):
    folder = tmp_path / "shards"
    shutil.copytree(packed, folder)
    content = (folder / "train-000000.tar").read_bytes()
    (folder / "train-000000.tar").write_bytes(content[:-2000])
    (folder / "test-000000.tar").unlink()
    swapped = (folder / "train-000001.tar").read_bytes()
    (folder / "train-000001.tar").write_bytes(swapped[512:] + bytes(512))
    with pytest.raises(DataError) as problem:
        read_manifest(folder)
    text = str(problem.value)
    assert f"train-000000.tar is cut off: it has {len(content) - 2000} bytes, shards.json says {len(content)}" in text
    assert "test-000000.tar is missing" in text
    assert "train-000001.tar does not hold 0000" in text
    assert len(problem.value.problems) == 3


def test_a_bit_of_a_local_shard_is_missed_too(packed, tmp_path):
    folder = tmp_path / "shards"
    shutil.copytree(packed, folder)
    read_manifest(folder)  # from now on known to be whole
    path = folder / "train-000000.tar"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"train-000000\.tar is damaged: its {len(content)} bytes are not those that shards"):
        read_manifest(folder)


@settings(max_examples=40)
@given(st.binary(max_size=60) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["version", "classes", "shards", "name", "split", "bytes", "sha256", "samples", "key"]), inner, max_size=5),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_any_bytes_are_an_index_or_a_complaint(content):
    with pytest.raises(DataError, match=r"is no proper index of shards|is of version"):
        read_index(content, source="shards.json")


@given(st.data())
def test_an_index_with_one_value_changed(data):
    """Whatever a value becomes, the index is refused or is consistent: nothing lies outside its shard or its classes."""
    samples = tuple(Sample(f"{n:08d}", f"v{n}", n % 2, 5, 512 + 4096 * n, 3000) for n in range(3))
    good = Index(("a", "b"), (Shard("train-000000.tar", "train", 20000, "0" * 64, samples),))
    told = json.loads(good.to_json())
    assert read_index(good.to_json().encode(), source="x") == good
    levels = (told, told["shards"][0], told["shards"][0]["samples"][1])
    level, name = data.draw(st.sampled_from([(level, name) for level in levels for name in level]))
    level[name] = data.draw(
        st.none() | st.integers(-(2**70), 2**70) | st.text(max_size=9) | st.floats() | st.just([]) | st.sampled_from(
            ["../x.tar", "/x.tar", "a/b.tar", "x.tar", "v0", "00000000", "val", True]))  # fmt: skip
    try:
        index = read_index(json.dumps(told).encode(), source="x")
    except DataError:
        return
    for shard in index.shards:
        assert "/" not in shard.name
        for sample in shard.samples:
            assert 0 <= sample.offset <= sample.offset + sample.size <= shard.bytes
            assert 0 <= sample.label < len(index.classes)


# --- loading


def clips(manifest: Manifest, *, seed: int = 7) -> TrainClips:
    return TrainClips(
        manifest.split("train"),
        sampling=SamplingConfig(num_frames=4),
        transform=TransformConfig(color_jitter=0.0),
        size=24,
        flip=True,
        seed=seed,
    )


def test_an_epoch_goes_over_shards_in_groups(packed, monkeypatch):
    monkeypatch.setattr("dualpath.data.orders.shard_groups.__kwdefaults__", {"group": 2})
    manifest = read_manifest(packed, val_fraction=0.0)
    dataset = clips(manifest)
    shards = shards_of(dataset.videos)
    assert shards is not None
    assert [file.name for file in shards.files] == [f"train-00000{n}.tar" for n in range(3)]
    assert not shards.remote
    seen = [batch.indices.tolist() for batch in train_loader(dataset, Course(3, 2))]
    flat = [index for batch in seen for index in batch]
    assert flat[:10] == shard_order(shards.numbers, seed=7, epoch=0)
    assert flat[10:] == shard_order(shards.numbers, seed=7, epoch=1)
    rest = train_loader(dataset, Course(3, 2, first_epoch=0, first_batch=2))
    assert [batch.indices.tolist() for batch in rest] == seen[2:]
    assert len(rest) == len(seen) - 2


def test_several_processes_see_each_sample_once(packed):
    dataset = clips(read_manifest(packed, val_fraction=0.0))
    parts = [list(train_loader(dataset, Course(2, 1, rank=rank, ranks=3))) for rank in range(3)]
    assert sorted(i for part in parts for batch in part for i in batch.indices.tolist()) == list(range(10))
    assert len({len(part) for part in parts}) == 1
    whole = {int(i): frames for batch in train_loader(dataset, Course(4, 1))
             for i, frames in zip(batch.indices, batch.frames, strict=True)}  # fmt: skip
    for part in parts:
        for batch in part:
            for i, frames in zip(batch.indices, batch.frames, strict=True):
                assert torch.equal(frames, whole[int(i)]), "what a sample looks like does not depend on who reads it"


def test_videos_are_judged_shard_by_shard(packed):
    videos = read_manifest(packed, val_fraction=0.0).videos
    dataset = TestClips(videos, sampling=SamplingConfig(num_frames=2), size=24)
    order = [int(index) for batch in test_loader(dataset, batch_size=5) for index in batch.indices]
    assert sorted(order) == list(range(12))
    names = [find_place(videos[index].path).file.name for index in order]
    assert names == sorted(names)


# --- from a URL


class Server:
    """A folder over HTTP that can misbehave.

    Attributes:
        asked: paths, as they came.
        began: first bytes that were sent, where they were not 0.
        act: path to what to do with a request for it: "cut", "404", "503", "grow", "swap", "elsewhere"; each once.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked, self.began, self.act = folder, [], [], {}
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.asked.append(self.path)
                acts = server.act.get(self.path.lstrip("/"), [])
                act = acts.pop(0) if acts else ""
                path = server.folder / self.path.removeprefix("/moved").lstrip("/")
                if act.isdecimal() or not path.is_file():
                    self.send_error(int(act or 404))
                elif act == "other host":
                    self.send_response(302)
                    self.send_header("Location", f"{server.url.replace('127.0.0.1', 'localhost')}/moved{self.path}")
                    self.end_headers()
                elif act in ("endless", "slow"):
                    self.send_response(200)
                    self.end_headers()
                    with contextlib.suppress(OSError):
                        for _ in range(400):
                            self.wfile.write(b" " * (1000 if act == "endless" else 1))
                            time.sleep(0.0 if act == "endless" else 0.01)
                elif act == "elsewhere":
                    self.send_response(302)
                    self.send_header("Location", f"/moved{self.path}")
                    self.end_headers()
                else:
                    self.answer(path.read_bytes(), act)

            def answer(self, content, act):
                begin = (
                    int((self.headers["Range"] or "bytes=0-").removeprefix("bytes=").rstrip("-")) if act != "no range" else 0
                )
                content = content + b"more" if act == "grow" else bytes(len(content)) if act == "swap" else content
                server.began += [begin] if begin else []
                self.send_response(206 if begin else 200)
                self.send_header("Content-Length", str(len(content) - begin))
                self.end_headers()
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(content[begin : begin + 3000] if act == "cut" else content[begin:])

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server(packed, tmp_path, monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("DUALPATH_SHARD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetched, "PAUSE", 0.001)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = Server(packed)
    yield server
    server.close()


@pytest.mark.parametrize("form", ["{}", "{}/", "{}/shards.json"])
def test_the_same_videos_from_a_url(server, packed, form):
    local = read_manifest(packed, val_fraction=0.0)
    manifest = read_manifest(Path(form.format(server.url)), val_fraction=0.0)  # as the command line hands it on
    assert server.asked == ["/shards.json"]
    assert [(v.name, v.label, v.num_frames) for v in manifest.videos] == [(v.name, v.label, v.num_frames) for v in local.videos]
    assert numbers(manifest.videos[0].path) == numbers(local.videos[0].path)
    assert len(server.asked) == 2
    for video, other in zip(manifest.videos, local.videos, strict=True):
        assert torch.equal(read_frames(video.path, [0, 4]).frames, read_frames(other.path, [0, 4]).frames)
    assert len(server.asked) == 5, "each shard is fetched once"
    assert not list(manifest.root.glob(".*"))


def test_batches_do_not_depend_on_where_shards_come_from(server, packed):
    local, remote = (clips(read_manifest(place, val_fraction=0.0)) for place in (packed, server.url))
    shards = shards_of(remote.videos)
    assert shards is not None
    assert shards.remote
    pairs = list(zip(*(train_loader(dataset, Course(3, 2)) for dataset in (local, remote)), strict=True))
    assert len(pairs) == 8
    assert all(torch.equal(a.indices, b.indices) and torch.equal(a.frames, b.frames) for a, b in pairs)
    assert sorted(server.asked) == ["/shards.json", *(f"/train-00000{n}.tar" for n in range(3))]


def test_broken_connections_are_mended(server):
    server.act["shards.json"] = ["503", "cut"]
    manifest = read_manifest(server.url, val_fraction=0.0)
    name = find_place(manifest.videos[0].path).file.name
    server.act[name] = ["503", "cut", "cut", "elsewhere"]
    assert numbers(manifest.videos[0].path) == list(range(manifest.videos[0].num_frames or 0))
    assert (server.asked.count(f"/{name}"), server.asked.count(f"/moved/{name}")) == (4, 1)
    assert server.began == [3000, 6000], "what came is not asked for again"


def test_a_server_that_knows_no_ranges(server, packed):
    manifest = read_manifest(server.url, val_fraction=0.0)
    place = find_place(manifest.videos[0].path)
    server.act[place.file.name] = ["cut", "no range"]
    assert numbers(manifest.videos[0].path)
    assert place.file.read_bytes() == (packed / place.file.name).read_bytes()


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        ("404", "cannot be fetched: the server says 404"),
        ("503", "cannot be fetched: the server says 503 .*; 6 tries"),
        ("grow", r"is larger than the \d+ bytes that its index says; 6 tries"),
        ("swap", "is another file than its index says"),
    ],
)
def test_a_shard_that_is_not_to_be_had(server, act, reason):
    manifest = read_manifest(server.url, val_fraction=0.0)
    name = find_place(manifest.videos[0].path).file.name
    server.act[name] = [act] * 6
    with pytest.raises(FetchError, match=reason) as problem:
        numbers(manifest.videos[0].path)
    assert problem.value.place == f"{server.url}/{name}"
    assert not [p for p in manifest.root.iterdir() if p.name.startswith(".") or p.suffix == ".tar"]
    server.act.clear()
    assert numbers(manifest.videos[0].path), "the next one who asks may have it"


def test_a_shard_that_is_cut_off_for_good(server, packed, tmp_path):
    manifest = read_manifest(server.url, val_fraction=0.0)
    name = find_place(manifest.videos[0].path).file.name
    whole = (packed / name).stat().st_size
    short = tmp_path / "short"
    shutil.copytree(packed, short)
    (short / name).write_bytes((packed / name).read_bytes()[:5000])
    server.folder = short
    with pytest.raises(FetchError, match=rf"{name}: .*(is cut off: 5000 of {whole} bytes came|the server says 416).*; 6 tries"):
        numbers(manifest.videos[0].path)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_stops_where_no_shard_is_to_be_had_and_blames_no_video(server, workers):
    manifest = read_manifest(server.url, val_fraction=0.0)
    for file in {find_place(video.path).file.name for video in manifest.videos}:
        server.act[file] = ["404"] * 99
    train = TrainClips(
        manifest.videos, sampling=SamplingConfig(2), transform=TransformConfig(color_jitter=0.0), size=16, flip=False, seed=0
    )
    with pytest.raises(FetchError, match="the server says 404"):
        list(train_loader(train, Course(2, 1), workers=workers))
    with pytest.raises(FetchError, match="the server says 404"):
        list(test_loader(TestClips(manifest.videos, sampling=SamplingConfig(2), size=16), batch_size=2, workers=workers))


def test_what_is_no_index_or_no_server(server, tmp_path):
    (tmp_path / "web").mkdir()
    (tmp_path / "web/shards.json").write_text("<html>")
    server.folder = tmp_path / "web"
    with pytest.raises(DataError, match="is no proper index of shards"):
        read_manifest(server.url)
    with pytest.raises(DataError, match="the server says 404"):
        read_manifest(f"{server.url}/none")
    url = server.url
    server.close()
    with pytest.raises(DataError, match=r"cannot be fetched \(.*refused.*\); 6 tries"):
        read_manifest(url)


@pytest.mark.parametrize(
    ("act", "told"),
    [
        ("endless", "is larger than 50,000 bytes, which no index is; look at the address"),
        ("slow", "took longer than 0 s to fetch; look at the server"),
        (
            "other host",
            r"leads to http://localhost:\d+/moved/shards.json, another place; give that address itself if you trust",
        ),
    ],
)
def test_an_index_has_limits(server, monkeypatch, act, told):
    monkeypatch.setattr(fetched, "MOST_INDEX", 50_000)
    monkeypatch.setattr(fetched, "INDEX_SECONDS", 0.3 if act == "slow" else 60.0)
    server.act["shards.json"] = [act]
    began = time.monotonic()
    with pytest.raises(DataError, match=told):
        read_manifest(server.url)
    assert time.monotonic() - began < 60.0
    assert server.asked == ["/shards.json"]


def test_a_shard_that_comes_too_slowly_is_given_up(server, monkeypatch):
    manifest = read_manifest(server.url, val_fraction=0.0)
    monkeypatch.setattr(fetched, "SILENCE", 0.1)
    monkeypatch.setattr(fetched, "TRIES", 2)
    server.act[find_place(manifest.videos[0].path).file.name] = ["slow"] * 2
    with pytest.raises(FetchError, match=r"comes too slowly, \d+ bytes in 0 s; 2 tries"):
        numbers(manifest.videos[0].path)


def test_a_shard_may_come_from_another_host(server):
    manifest = read_manifest(server.url, val_fraction=0.0)
    server.act[find_place(manifest.videos[0].path).file.name] = ["other host"]
    assert numbers(manifest.videos[0].path)


def test_many_readers_fetch_a_shard_once(server):
    manifest = read_manifest(server.url, val_fraction=0.0)
    path, found = manifest.videos[0].path, []
    threads = [threading.Thread(target=lambda: found.append(probe(path).num_frames)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [manifest.videos[0].num_frames] * 6
    assert len(server.asked) == 2


def test_whoever_died_while_fetching_is_replaced(server, monkeypatch):
    manifest = read_manifest(server.url, val_fraction=0.0)
    file = find_place(manifest.videos[0].path).file
    (file.parent / f".{file.name}.lock").touch()
    monkeypatch.setattr(fetched, "DEAD", 0.3)
    assert probe(manifest.videos[0].path).num_frames == manifest.videos[0].num_frames
    assert not list(file.parent.glob(".*.lock"))


def test_whoever_is_alive_is_waited_for(server, packed, monkeypatch):
    manifest = read_manifest(server.url, val_fraction=0.0)
    file = find_place(manifest.videos[0].path).file
    lock = file.parent / f".{file.name}.lock"
    lock.touch()
    monkeypatch.setattr(fetched, "DEAD", 1.0)

    def slow() -> None:
        import os
        import time

        for second in range(8):
            time.sleep(0.2)
            os.utime(lock, (second, second))
        shutil.copy(packed / file.name, file)
        lock.unlink()

    other = threading.Thread(target=slow)
    other.start()
    assert probe(manifest.videos[0].path).num_frames == manifest.videos[0].num_frames
    other.join()
    assert server.asked == ["/shards.json"], "it was not fetched a second time"


def test_the_cache_keeps_what_was_used_last_and_what_is_read(server, packed, monkeypatch):
    manifest = read_manifest(server.url, val_fraction=0.0)
    first = {find_place(v.path).file: v for v in manifest.videos}
    sizes = {file: (packed / file.name).stat().st_size for file in first}
    files = list(first)
    monkeypatch.setenv("DUALPATH_SHARD_CACHE_GB", str((sum(sizes.values()) - 1) / 1e9))
    with fetched.held(files[0]):
        for file in files[1:]:
            probe(first[file].path)
        assert files[0].exists(), "the oldest, but being read"
        assert not files[1].exists()
        assert all(file.exists() for file in files[2:])
    probe(first[files[1]].path)
    assert not files[0].exists()
    monkeypatch.setenv("DUALPATH_SHARD_CACHE_GB", "much")
    with pytest.raises(DualPathError, match="DUALPATH_SHARD_CACHE_GB is 'much'"):
        fetched.cache_bytes()


def test_shards_are_fetched_ahead(server):
    """While the first batch is looked at, the shards of the next ones come."""
    dataset = clips(read_manifest(server.url, val_fraction=0.0))
    shards = shards_of(dataset.videos)
    assert shards is not None
    batches = iter(train_loader(dataset, Course(1, 1)))
    next(batches)
    for _ in range(200):
        if all(file.exists() for file in shards.files):
            break
        threading.Event().wait(0.02)
    assert all(file.exists() for file in shards.files)
    assert len(list(batches)) == 9
    assert len(server.asked) == 4


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://a/b", "http://a/b"),
        ("http:/a/b", "http://a/b"),
        ("https:/a", "https://a"),
        ("/data/http:/a", None),
        ("a.csv", None),
    ],
)
def test_what_is_a_url(given, url):
    assert fetched.as_url(given) == url
    assert fetched.as_url(Path(given)) == url
