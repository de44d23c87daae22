"""A trained model as a folder: adapter_model.safetensors, adapter_config.json and a model card. Never pickle.

Only trained tensors are kept; the backbone is named, with the hash of its weights, and a different one is refused.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import shutil
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import nn

from dualpath.data.formats.base import exists
from dualpath.data.manifest import HeldOutFold
from dualpath.engine.sharing import check_shared
from dualpath.errors import DualPathError, number_of
from dualpath.files import make_folder, read_table, temporary_beside, write_whole
from dualpath.markdown import escaped, table
from dualpath.methods import MethodConfig, build_model, count_parameters, find_method, trained_state
from dualpath.nn.backbone import Backbone
from dualpath.nn.zoo import BackboneConfig, load_backbone
from dualpath.video.sampling import SamplingConfig

WEIGHTS, CONFIG, CARD = "adapter_model.safetensors", "adapter_config.json", "README.md"
FORMAT = 1
CONFIG_HASH = "config_sha256"
"""Key in adapter_config.json: `hash_config` of all else in it; missing in checkpoints of older versions."""


@dataclass(frozen=True)
class ModelSpec:
    """All that is needed to build a trained model again, except its tensors; adapter_config.json holds it.

    Attributes:
        method: name in METHODS, and `options` its config.
        backbone: name and, for local weights, the file they came from.
        classes: class names; the index is the label.
        sampling: how a clip's frames are chosen from a video.
        split_seed, val_fraction: how a class folder without given splits was divided.
        training: settings and results of the run, for the card; nothing is built from it.
        format, fold: of the data it was trained on; None if that is not known.
        held_out: the fold of a cross-validation that it was not trained on; None if it was no part of one.
    """

    method: str
    options: MethodConfig
    backbone: BackboneConfig
    classes: tuple[str, ...]
    sampling: SamplingConfig
    split_seed: int
    val_fraction: float
    training: dict[str, Any]
    format: str | None = None
    fold: int | None = None
    held_out: HeldOutFold | None = None


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    import av
    import timm

    from dualpath import __version__

    return {
        "dualpath": __version__,
        "torch": torch.__version__,
        "timm": timm.__version__,
        "av": av.__version__,
        "python": platform.python_version(),
    }


def save_checkpoint(folder: Path, model: nn.Module, spec: ModelSpec, *, beside: dict[str, bytes] | None = None) -> None:
    """Writes the checkpoint folder; an older one of this name is replaced only when the new one is complete.

    Args:
        folder: where to.
        model: its trained tensors are written.
        spec: what else is needed to build it again.
        beside: further files, by name: a backbone's weights that travel with it.
    """
    backbone = _backbone_of(model)
    weights = tensors_to_bytes({name: value.cpu().contiguous() for name, value in trained_state(model).items()})
    config = {
        "format": FORMAT,
        "method": spec.method,
        "method_config": asdict(spec.options),
        "backbone": asdict(spec.backbone) | {"sha256": backbone.hash},
        "id2label": {str(label): name for label, name in enumerate(spec.classes)},
        "preprocessing": {"size": backbone.size, "mean": backbone.mean, "std": backbone.std},
        "sampling": {"protocol": spec.sampling.name} | asdict(spec.sampling),  # the name is for people, the numbers count
        "data_split": _data_split(spec),
        "training": spec.training,
        "sha256": hashlib.sha256(weights).hexdigest(),
        "versions": versions(),
    }
    config[CONFIG_HASH] = hash_config(config)
    fresh, old = temporary_beside(folder), folder.with_name(f".{folder.name}.old")
    mend_checkpoint(folder)
    if old.is_symlink():
        old.unlink()
    shutil.rmtree(old, ignore_errors=True)
    try:
        make_folder(folder.parent)
        fresh.mkdir()
        write_whole(fresh / WEIGHTS, weights)
        write_whole(fresh / CONFIG, json.dumps(config, indent=2) + "\n")
        write_whole(fresh / CARD, _card(model, spec, backbone))
        for name, content in (beside or {}).items():
            write_whole(fresh / name, content)
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as problem:
        raise DualPathError(f"{folder} could not be written ({problem.strerror}); make room or choose another one") from problem
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def mend_checkpoint(folder: Path) -> None:
    """Brings the older checkpoint back if a kill came between the two renames that replace it."""
    old = folder.with_name(f".{folder.name}.old")
    if old.is_dir() and not old.is_symlink() and not folder.exists():
        old.rename(folder)


def find_checkpoint(path: str | Path) -> Path:
    """The checkpoint folder meant by `path`: itself, or `best` or `last` in a run's folder."""
    path = Path(path)
    if not exists(path):
        raise DualPathError(
            f"no checkpoint {str(path)[:200]}: there is no such folder; give the folder that `dualpath train` wrote"
        )
    for folder in (path, path / "best", path / "last"):
        if (folder / CONFIG).is_file():
            return folder
    raise DualPathError(
        f"{path} holds no checkpoint: {CONFIG} is missing there and in its folders best and last; "
        "give the folder that `dualpath train` wrote"
    )


def load_checkpoint(
    path: str | Path,
    *,
    weights: str | None = None,
    dtype: torch.dtype | None = torch.float32,
    backbone: Backbone | None = None,
) -> tuple[nn.Module, ModelSpec]:
    """Builds the model of a checkpoint, backbone included.

    Args:
        path: the checkpoint's or the run's folder.
        weights: local file with the backbone's weights, if they have moved since the training.
        dtype: what the frozen weights are stored in; None, with a `backbone`, for what they are stored in already.
        backbone: one in memory, which the model shares with those that use it; by default one of its own.

    Raises:
        DualPathError: a file is missing or damaged, the backbone is another one than in training or cannot be shared.
    """
    folder = find_checkpoint(path)
    config = read_config(folder)
    spec = read_spec(folder, config, weights=weights)
    tensors = read_tensors(folder, config.get("sha256"))
    if backbone is None:
        backbone = load_backbone(spec.backbone, dtype=dtype or torch.float32)
        if backbone.size != config["preprocessing"]["size"]:
            raise DualPathError(
                f"{folder / CONFIG} speaks of pictures of {config['preprocessing']['size']} pixels, but its backbone takes "
                f"{backbone.size}; restore it or train again"
            )
        backbone.normalise_with(*(tuple(config["preprocessing"][key]) for key in ("mean", "std")))
    else:
        check_shared(backbone, folder=folder, wanted=spec.backbone, stored=config, trained=tensors, dtype=dtype)
    model = build_model(spec.method, backbone, num_classes=len(spec.classes), config=spec.options)
    load_trained(model, tensors, source=str(folder / WEIGHTS))
    _check_backbone(backbone, folder=folder, wanted=config["backbone"]["sha256"])  # last: its hash takes longest
    return model.eval(), spec


def _check_backbone(backbone: Backbone, *, folder: Path, wanted: str) -> None:
    """Raises DualPathError unless its weights are those that were trained on."""
    if backbone.hash != wanted:
        raise DualPathError(
            f"{folder} was trained on another backbone: {backbone.name} here has weights "
            f"{backbone.hash[:12]}, the checkpoint wants {wanted[:12]}; "
            "give the original weight file with --weights FILE"
        )


def load_trained(model: nn.Module, tensors: dict[str, torch.Tensor], *, source: str) -> None:
    """Copies trained tensors into the model; every one must be there, and no other."""
    wanted = trained_state(model)
    missing, extra = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    wrong = sorted(k for k in wanted.keys() & tensors.keys() if wanted[k].shape != tensors[k].shape)
    if missing or extra or wrong:
        raise DualPathError(
            f"{source} does not fit the model: {number_of(len(missing), 'tensor')} missing, {len(extra)} left over, "
            f"{len(wrong)} of another shape (first: {(missing + extra + wrong)[0]}); it is of another version or method"
        )
    with torch.no_grad():
        for name, value in wanted.items():
            value.copy_(tensors[name])


def read_config(folder: Path) -> dict[str, Any]:
    """What adapter_config.json of a checkpoint's folder holds; nothing is built from it.

    Raises:
        DualPathError: it is missing or damaged, or another version's.
    """
    try:
        config = read_table(folder / CONFIG)
        if CONFIG_HASH in config and config[CONFIG_HASH] != hash_config(config):
            raise ValueError("it holds something else than was written")
        if config["format"] != FORMAT:
            raise DualPathError(
                f"{folder / CONFIG} has format {config['format']}, this version of dualpath reads {FORMAT}; "
                "use the version that wrote it"
            )
        if not isinstance(config["backbone"]["sha256"], str) or not config["backbone"]["sha256"]:
            raise KeyError("sha256")
        if not isinstance(config["preprocessing"]["size"], int):
            raise TypeError(f"size is {config['preprocessing']['size']!r}, no whole number")
        for key, above in (("mean", -math.inf), ("std", 0.0)):
            colours = config["preprocessing"][key]
            numbers = len(colours) == 3 and all(isinstance(value, int | float) for value in colours)
            if not numbers or not all(above < value < math.inf for value in colours):
                raise TypeError(f"{key} is {colours}, not three numbers{' above 0' if key == 'std' else ''}")
    except DualPathError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as problem:
        raise DualPathError(f"{folder / CONFIG} is damaged ({problem!r}); restore it or train again") from problem
    return config


def hash_config(config: dict[str, Any]) -> str:
    """sha256 over what adapter_config.json holds beside this hash, however it is laid out."""
    rest = {key: value for key, value in config.items() if key != CONFIG_HASH}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def read_spec(folder: Path, config: dict[str, Any], *, weights: str | None = None) -> ModelSpec:
    """What the model of a checkpoint is made of.

    Args:
        folder: the checkpoint's.
        config: from `read_config`.
        weights: local file with the backbone's weights, instead of the one that is named there.

    Raises:
        DualPathError: something is missing or of a wrong kind.
    """
    try:
        options: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in config["method_config"].items()}
        backbone = config["backbone"]
        travelled = backbone["weights"] and (folder / backbone["weights"]).is_file()
        stored = str(folder / backbone["weights"]) if travelled else backbone["weights"]
        if len(config["id2label"]) < 2:
            raise KeyError("id2label")
        return ModelSpec(
            method=config["method"],
            options=find_method(config["method"]).config(**options),
            backbone=BackboneConfig(
                backbone["backbone"],
                weights or stored,
                image_size=backbone.get("image_size"),
                model_args=backbone.get("model_args", {}),
            ),
            classes=tuple(config["id2label"][str(i)] for i in range(len(config["id2label"]))),
            sampling=SamplingConfig(**{f.name: config["sampling"][f.name] for f in fields(SamplingConfig)}),
            split_seed=config["data_split"]["seed"],
            val_fraction=config["data_split"]["val_fraction"],
            training=config["training"],
            format=config["data_split"].get("format"),
            fold=config["data_split"].get("fold"),
            held_out=_held_out(config["data_split"]),
        )
    except (KeyError, TypeError, AttributeError) as problem:
        raise DualPathError(f"{folder / CONFIG} is damaged ({problem!r}); restore it or train again") from problem
    except DualPathError as problem:  # of a dataclass or the methods' list
        raise DualPathError(f"{folder / CONFIG}: {problem}; restore it or train again") from problem


def _data_split(spec: ModelSpec) -> dict[str, Any]:
    split = {"seed": spec.split_seed, "val_fraction": spec.val_fraction, "format": spec.format, "fold": spec.fold}
    return split | (asdict(spec.held_out) if spec.held_out is not None else {})


def _held_out(split: dict[str, Any]) -> HeldOutFold | None:
    """None in checkpoints of ordinary runs and of older versions."""
    num_folds, fold = split.get("num_folds"), split.get("held_out_fold")
    return HeldOutFold(num_folds, fold) if num_folds is not None and fold is not None else None


def read_tensors(folder: Path, digest: str | None) -> dict[str, torch.Tensor]:
    """The trained tensors of a checkpoint by name; DualPathError if their file is not the one with this sha256."""
    path = folder / WEIGHTS
    if not path.is_file():
        raise DualPathError(f"{path} is missing; restore it or train again")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise DualPathError(
            f"{path} is damaged: its {len(data):,} bytes are not those that were written; restore it or train again"
        )
    try:
        return tensors_from_bytes(data)
    except SafetensorError as problem:
        raise DualPathError(f"{path} is no safetensors file ({problem}); restore it or train again") from problem


def _backbone_of(model: nn.Module) -> Backbone:
    backbone = model.backbone
    assert isinstance(backbone, Backbone)
    return backbone


def _about(backbone: Backbone) -> str:
    if any(value.requires_grad for value in backbone.parameters()):
        return f"Some are within the backbone, whose\nweights had sha256 {backbone.hash} before the training."
    return f"The backbone is frozen; its\nweights have sha256 {backbone.hash}."


def _card(model: nn.Module, spec: ModelSpec, backbone: Backbone) -> str:
    trained, total = count_parameters(model)
    training = table(["training", ""], [(key, str(value)) for key, value in spec.training.items()], words=2)
    more = f" and {len(spec.classes) - 20} more" if len(spec.classes) > 20 else ""
    labels = ", ".join(map(escaped, spec.classes[:20])) + more
    return f"""---
library_name: dualpath
base_model: {spec.backbone.backbone}
pipeline_tag: video-classification
---
# {spec.method} on {spec.backbone.backbone}

A video classifier for {len(spec.classes)} classes: {labels}.

Trained parts only: {trained:,} parameters ({100 * trained / total:.2f} % of {total:,}). {_about(backbone)}

```python
import dualpath

model = dualpath.load("this folder")
model.predict("clip.mp4", top_k=5)
```

Clips: {spec.sampling.name}, {number_of(spec.sampling.num_frames, "frame")} of {backbone.size}x{backbone.size} pixels.

{training}
"""
