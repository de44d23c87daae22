"""Checkpoints: the same scores after a round trip, trained tensors only, and one sentence for whatever is wrong."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save, save_file
from torch import nn

from dualpath.engine import checkpoint
from dualpath.engine.checkpoint import (
    CARD,
    CONFIG,
    CONFIG_HASH,
    FORMAT,
    WEIGHTS,
    ModelSpec,
    find_checkpoint,
    load_checkpoint,
    load_trained,
    read_config,
    save_checkpoint,
)
from dualpath.errors import DualPathError
from dualpath.methods import build_model, trained_state
from dualpath.methods.linear_probe import LinearProbeConfig
from dualpath.methods.options import DualPathConfig
from dualpath.nn import hashing
from dualpath.nn.zoo import EMBEDDED, BackboneConfig, load_backbone, random_backbone
from dualpath.video.sampling import SamplingConfig
from tiny import random_clips, randomise

CLASSES = tuple(f"class {letter}" for letter in "zyxwvutsrqpo")  # twelve, against the alphabet
OPTIONS = {
    "dualpath": DualPathConfig(num_spatial_frames=1, grid=(2, 1), bottleneck=2),
    "linear_probe": LinearProbeConfig(num_probe_frames=2),
}


@dataclass
class Saved:
    """A model, and the folder that it was saved to."""

    folder: Path
    model: nn.Module
    spec: ModelSpec

    def config(self) -> dict[str, Any]:
        return json.loads((self.folder / CONFIG).read_text())

    def write_config(self, config: Any) -> None:
        """As older versions did, without its hash."""
        (self.folder / CONFIG).write_text(json.dumps({key: value for key, value in config.items() if key != CONFIG_HASH}))

    def write_tensors(self, content: bytes) -> None:
        """Other weights, with the config made to agree."""
        (self.folder / WEIGHTS).write_bytes(content)
        self.write_config(self.config() | {"sha256": hashlib.sha256(content).hexdigest()})


@pytest.fixture(scope="module")
def weight_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    vit = random_backbone(EMBEDDED).vit
    randomise(vit, seed=1)
    save_file(vit.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def models(weight_file: Path) -> dict[str, nn.Module]:
    built = {}
    for name, options in OPTIONS.items():
        backbone = load_backbone(BackboneConfig(EMBEDDED, str(weight_file)))
        built[name] = build_model(name, backbone, num_classes=len(CLASSES), config=options).eval()
        for part in built[name].children():
            if part is not backbone:
                randomise(part, seed=2)
    return built


@pytest.fixture
def save_as(models: dict[str, nn.Module], weight_file: Path, tmp_path: Path) -> Callable[[str], Saved]:
    def save_one(method: str) -> Saved:
        spec = ModelSpec(
            method=method,
            options=OPTIONS[method],
            backbone=BackboneConfig(EMBEDDED, str(weight_file)),
            classes=CLASSES,
            sampling=SamplingConfig(num_frames=4, sampling="dense", sampling_rate=3),
            split_seed=11,
            val_fraction=0.25,
            training={"epochs": 3, "top1": 0.5},
        )
        save_checkpoint(tmp_path / "run" / "best", models[method], spec)
        return Saved(tmp_path / "run" / "best", models[method], spec)

    return save_one


@pytest.fixture
def saved(save_as: Callable[[str], Saved]) -> Saved:
    return save_as("dualpath")


def scores(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(random_clips(2, 4, size=128))


def refused(saved: Saved, message: str, **options: Any) -> str:
    with pytest.raises(DualPathError, match=message) as caught:
        load_checkpoint(saved.folder, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What is written, and back


@pytest.mark.parametrize("method", OPTIONS)
def test_a_round_trip_gives_bit_equal_scores_and_the_same_spec(method: str, save_as: Callable[[str], Saved]) -> None:
    saved = save_as(method)
    expected = scores(saved.model)
    assert (expected[0] - expected[1]).abs().max() > 1e-3
    model, spec = load_checkpoint(saved.folder)
    assert torch.equal(scores(model), expected)
    assert spec == saved.spec
    assert not model.training
    assert type(model) is type(saved.model)


def test_bf16_has_the_same_trained_tensors_in_fp32(saved: Saved) -> None:
    model, _ = load_checkpoint(saved.folder, dtype=torch.bfloat16)
    assert model.backbone.dtype == torch.bfloat16
    expected = trained_state(saved.model)
    assert all(torch.equal(value, expected[name]) for name, value in trained_state(model).items())
    assert (scores(model) - scores(saved.model)).norm() / scores(saved.model).norm() < 0.05


def test_the_file_holds_the_trained_tensors_and_nothing_else(saved: Saved) -> None:
    assert sorted(path.name for path in saved.folder.iterdir()) == sorted([WEIGHTS, CONFIG, CARD])
    held, expected = load_file(saved.folder / WEIGHTS), trained_state(saved.model)
    assert held.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in held.items())
    assert {name.split(".")[0] for name in held} == {"spatial", "temporal", "head"}
    assert len(held) == 2 * 6 * 2 * 4 + 4


def test_no_pickle(saved: Saved) -> None:
    data = (saved.folder / WEIGHTS).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])  # safetensors: a JSON header, then raw numbers
    numbers = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    assert len(data) == 8 + length + numbers
    assert {entry["dtype"] for name, entry in header.items() if name != "__metadata__"} == {"F32"}
    assert not data.startswith((b"PK", b"\x80"))


def test_the_config_says_all_that_is_needed(saved: Saved, weight_file: Path) -> None:
    config = saved.config()
    assert config["format"] == FORMAT
    assert config["method"] == "dualpath"
    chosen = {"num_spatial_frames": 1, "grid": [2, 1], "bottleneck": 2}
    assert config["method_config"] == json.loads(json.dumps(asdict(DualPathConfig()))) | chosen
    backbone = {"backbone": EMBEDDED, "weights": str(weight_file), "image_size": None, "model_args": {}}
    backbone["sha256"] = saved.model.backbone.hash
    assert config["backbone"] == backbone
    assert config["id2label"] == {str(label): name for label, name in enumerate(CLASSES)}
    assert config["preprocessing"] == {"size": 128, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    assert config["sampling"] == {"protocol": "dense-4x3", "num_frames": 4, "sampling": "dense", "sampling_rate": 3}
    assert config["sha256"] == hashlib.sha256((saved.folder / WEIGHTS).read_bytes()).hexdigest()
    assert config["versions"]["torch"] == torch.__version__
    card = (saved.folder / CARD).read_text()
    trained = sum(value.numel() for value in trained_state(saved.model).values())
    for wanted in (
        f"base_model: {EMBEDDED}",
        f"{trained:,} parameters",
        saved.model.backbone.hash,
        CLASSES[0],
        "| epochs | 3 |",
    ):
        assert wanted in card


def test_labels_follow_their_numbers_not_their_order_in_the_file(saved: Saved) -> None:
    config = saved.config()
    saved.write_config(config | {"id2label": dict(sorted(config["id2label"].items(), reverse=True))})
    _, spec = load_checkpoint(saved.folder)
    assert spec.classes == CLASSES


def test_mean_and_std_of_the_checkpoint_win(saved: Saved) -> None:
    mean, std = (0.1, 0.2, 0.3), (0.3, 0.2, 0.7)
    before = scores(saved.model)
    config = saved.config()
    saved.write_config(config | {"preprocessing": {"size": 128, "mean": mean, "std": std}})
    model, _ = load_checkpoint(saved.folder)
    assert (model.backbone.mean, model.backbone.std) == (mean, std)
    assert (scores(model) - before).abs().max() > 1e-3
    again = saved.folder.parent / "again"
    save_checkpoint(again, model, saved.spec)
    assert torch.equal(scores(load_checkpoint(again)[0]), scores(model))


# The backbone


def test_another_backbone_is_refused(saved: Saved, weight_file: Path, tmp_path: Path) -> None:
    state = load_file(weight_file)
    state["norm.bias"][0] += 1e-3
    other = tmp_path / "other.safetensors"
    save_file(state, other)
    message = refused(saved, "was trained on another backbone", weights=str(other))
    assert saved.model.backbone.hash[:12] in message
    assert "--weights FILE" in message


def test_no_model_is_given_out_before_its_backbone_is_known(
    saved: Saved, weight_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, hash_now = threading.Event(), hashing._hash

    def hash_late(state: dict[str, torch.Tensor]) -> str:
        assert done.wait(60)
        return hash_now(state)

    def load_late(*given: Any, **named: Any) -> None:
        load_trained(*given, **named)
        done.set()  # so the model is built before there is a hash

    monkeypatch.setattr(hashing, "_hash", hash_late)
    monkeypatch.setattr(checkpoint, "load_trained", load_late)
    assert load_checkpoint(saved.folder, dtype=torch.bfloat16)[0].backbone.hash == saved.model.backbone.hash
    done.clear()
    state = load_file(weight_file)
    state["norm.bias"][0] += 1e-3
    save_file(state, tmp_path / "other.safetensors")
    refused(saved, "was trained on another backbone", weights=str(tmp_path / "other.safetensors"), dtype=torch.bfloat16)
    assert done.is_set()


def test_weights_that_have_moved_can_be_given(saved: Saved, weight_file: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(weight_file.read_bytes())
    config = saved.config()
    config["backbone"]["weights"] = str(tmp_path / "gone.safetensors")
    saved.write_config(config)
    refused(saved, r"no weight file .*gone\.safetensors; ")
    model, spec = load_checkpoint(saved.folder, weights=str(moved))
    assert spec.backbone == BackboneConfig(EMBEDDED, str(moved))
    assert torch.equal(scores(model), scores(saved.model))


# Damage


@pytest.mark.parametrize("spoil", ["empty", "truncated", "first byte", "header", "middle", "last bit", "longer"])
def test_damaged_weights_are_refused(spoil: str, saved: Saved) -> None:
    path = saved.folder / WEIGHTS
    data = bytearray(path.read_bytes())
    match spoil:
        case "empty":
            data.clear()
        case "truncated":
            del data[-1]
        case "longer":
            data.append(0)
        case _:
            place = {"first byte": 0, "header": 20, "middle": len(data) // 2, "last bit": len(data) - 1}[spoil]
            data[place] ^= 1
    path.write_bytes(data)
    assert str(path) in refused(saved, r"is damaged: .* restore it or train again")


def test_missing_weights_are_named(saved: Saved) -> None:
    (saved.folder / WEIGHTS).unlink()
    assert str(saved.folder / WEIGHTS) in refused(saved, "is missing; restore it or train again")


@pytest.mark.parametrize(
    "text", ["", "{", '{"format": 1', "[]", "null", "3", '"format"', "{}", '{"format": 1}', "\x00\x01"], ids=repr
)
def test_damaged_json_is_refused(text: str, saved: Saved) -> None:
    (saved.folder / CONFIG).write_text(text)
    assert str(saved.folder / CONFIG) in refused(saved, r"is damaged .* restore it or train again")


def test_no_flipped_bit_of_the_configuration_is_read(saved: Saved) -> None:
    path = saved.folder / CONFIG
    data, wanted = path.read_bytes(), read_config(saved.folder)
    del wanted[CONFIG_HASH]
    for place in range(len(data)):
        for bit in (1, 8, 64):
            path.write_bytes(data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :])
            try:
                found = read_config(saved.folder)
            except DualPathError:
                continue
            known = {key: found.get(key) for key in wanted}
            assert known == wanted, (place, bit)  # between the values, or in the name of the hash


@pytest.mark.parametrize(
    ("part", "key", "value", "said"),
    [
        ("preprocessing", "std", [0.5, 0, 0.5], "three numbers above 0"),
        ("preprocessing", "std", [0.5, float("nan"), 0.5], "three numbers above 0"),
        ("preprocessing", "mean", [0.5, float("inf"), 0.5], "not three numbers"),
        ("preprocessing", "size", 96, "speaks of pictures of 96 pixels, but its backbone takes 128"),
    ],
)
def test_values_that_cannot_be_are_refused_without_a_hash_too(
    saved: Saved, part: str, key: str, value: object, said: str
) -> None:
    config = saved.config()
    config[part][key] = value
    saved.write_config(config)
    assert str(saved.folder / CONFIG) in refused(saved, re.escape(said))


def test_json_that_is_not_utf8_is_refused(saved: Saved) -> None:
    (saved.folder / CONFIG).write_bytes(b'{"format": "\xff"}')
    refused(saved, "is damaged")


@pytest.mark.parametrize(
    "keys",
    [
        "format", "method", "method_config", "backbone", "backbone.backbone", "backbone.sha256", "id2label", "id2label.3",
        "preprocessing", "preprocessing.mean", "preprocessing.std", "sampling", "sampling.num_frames", "data_split",
        "data_split.seed", "data_split.val_fraction", "training", "sha256",
    ],
)  # fmt: skip
def test_missing_keys_are_damage(keys: str, saved: Saved) -> None:
    config = saved.config()
    part, *rest = keys.split(".")
    if rest:
        del config[part][rest[0]]
    else:
        del config[part]
    saved.write_config(config)
    refused(saved, "is damaged.*restore it or train again")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": FORMAT + 1}, rf"has format {FORMAT + 1}, this version of dualpath reads {FORMAT}; use the version"),
        ({"method": "telepathy"}, "unknown method 'telepathy'; there are dualpath"),
        ({"method_config": {"grid": [0, 4]}}, "each must be at least 1"),
        ({"method_config": {"width": 3}}, "is damaged .*width"),
        ({"method_config": 3}, "is damaged"),
        ({"id2label": 3}, "is damaged"),
        ({"preprocessing": []}, "is damaged"),
        ({"backbone": {"backbone": "vit_b17", "weights": None, "sha256": "0"}}, "unknown backbone 'vit_b17'"),
    ],
    ids=str,
)
def test_a_config_that_cannot_be_is_refused(change: dict[str, Any], message: str, saved: Saved) -> None:
    saved.write_config(saved.config() | change)
    refused(saved, message)


def test_tensors_that_do_not_fit_are_refused(saved: Saved) -> None:
    state = load_file(saved.folder / WEIGHTS)
    for change, message in (
        ({"head.out.bias": None}, r"1 tensor missing, 0 left over, 0 of another shape \(first: head.out.bias\)"),
        ({"extra": torch.ones(2)}, r"0 tensors missing, 1 left over, 0 of another shape \(first: extra\)"),
        ({"head.out.bias": torch.ones(3)}, r"0 tensors missing, 0 left over, 1 of another shape \(first: head.out.bias\)"),
    ):
        tensors = {name: value for name, value in (state | change).items() if value is not None}
        saved.write_tensors(save(tensors))
        refused(saved, message)
    saved.write_tensors(b"not safetensors")
    refused(saved, "is no safetensors file")


def test_tensors_that_do_not_fit_change_nothing(saved: Saved) -> None:
    model, _ = load_checkpoint(saved.folder)
    before = {name: value.clone() for name, value in trained_state(model).items()}
    with pytest.raises(DualPathError, match="somewhere does not fit"):
        load_trained(model, {"head.out.bias": torch.ones(len(CLASSES))}, source="somewhere")
    assert all(torch.equal(value, before[name]) for name, value in trained_state(model).items())


# Finding it


def test_a_checkpoint_is_itself_or_best_or_last(tmp_path: Path) -> None:
    for name in ("last", "best", "."):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / CONFIG).write_text("{}")
        assert find_checkpoint(str(tmp_path)) == tmp_path / name
    assert find_checkpoint(tmp_path / "last") == tmp_path / "last"


def test_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(DualPathError, match=rf"no checkpoint {tmp_path}/none: there is no such folder"):
        load_checkpoint(tmp_path / "none")
    (tmp_path / "best").mkdir()
    (tmp_path / "a file").write_text("x")
    for path in (tmp_path, tmp_path / "best", tmp_path / "a file"):
        with pytest.raises(DualPathError, match=rf"{path} holds no checkpoint: {CONFIG} is missing"):
            load_checkpoint(path)


# Writing over an older one


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_newer_one_replaces_the_older_one_whole(saved: Saved) -> None:
    (saved.folder / "stray.txt").write_text("left by somebody")
    model, spec = load_checkpoint(saved.folder)
    with torch.no_grad():
        model.head.out.bias.add_(1)
    save_checkpoint(saved.folder, model, replace(spec, training={"epochs": 4}))
    again, newer = load_checkpoint(saved.folder)
    assert newer.training == {"epochs": 4}
    torch.testing.assert_close(scores(again), scores(saved.model) + 1)
    assert [path.name for path in saved.folder.parent.iterdir()] == [saved.folder.name]
    assert sorted(path.name for path in saved.folder.iterdir()) == sorted([WEIGHTS, CONFIG, CARD])


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_failing_write_leaves_the_older_one(failing: int, saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    before, calls, real = contents(saved.folder), [], checkpoint.write_whole

    def write_whole(path: str | Path, content: bytes | str) -> None:
        calls.append(path)
        if len(calls) == failing:
            raise DualPathError(f"{path} could not be written (No space left on device)")
        real(path, content)

    model, spec = load_checkpoint(saved.folder)
    with torch.no_grad():
        model.head.out.bias.add_(1)
    monkeypatch.setattr(checkpoint, "write_whole", write_whole)
    with pytest.raises(DualPathError, match="No space left"):
        save_checkpoint(saved.folder, model, spec)
    assert len(calls) == failing
    assert contents(saved.folder) == before
    assert torch.equal(scores(load_checkpoint(saved.folder)[0]), scores(saved.model))
    monkeypatch.undo()
    save_checkpoint(saved.folder, model, spec)  # and what the failed one left is no hindrance
    torch.testing.assert_close(scores(load_checkpoint(saved.folder)[0]), scores(saved.model) + 1)
    assert [path.name for path in saved.folder.parent.iterdir()] == [saved.folder.name]


def test_links_under_names_of_ours_lead_nowhere(saved: Saved, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / WEIGHTS).write_text("precious")
    for name in (".best.new", ".best.old"):
        (saved.folder.parent / name).symlink_to(victim)
    save_checkpoint(saved.folder, saved.model, saved.spec)
    (saved.folder.parent / ".best.old").symlink_to(victim)
    saved.folder.rename(tmp_path / "away")
    checkpoint.mend_checkpoint(saved.folder)
    assert not saved.folder.exists()
    assert (victim / WEIGHTS).read_text() == "precious"


def test_a_kill_between_the_two_renames_loses_nothing(saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    before, real = contents(saved.folder), Path.rename

    def rename(path: Path, target: Path) -> Path:
        if path.name.endswith(".tmp"):
            raise KeyboardInterrupt
        return real(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(saved.folder, saved.model, saved.spec)
    monkeypatch.undo()
    assert not saved.folder.exists()
    checkpoint.mend_checkpoint(saved.folder)
    assert contents(saved.folder) == before
    checkpoint.mend_checkpoint(saved.folder)
    save_checkpoint(saved.folder, saved.model, saved.spec)
    assert [path.name for path in saved.folder.parent.iterdir()] == [saved.folder.name]
