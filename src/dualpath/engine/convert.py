"""A checkpoint of the authors' code to one of ours: `dualpath convert`.

Their file holds a whole CLIP with the adapters in it, under names of their own, as torch saves it. The image tower goes
to `backbone.safetensors` as it is, the trained parts to `adapter_model.safetensors` under our names; the text tower,
the optimiser and the rest are left out. It is read without running anything that is pickled in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from dualpath.engine.checkpoint import ModelSpec, load_trained, save_checkpoint
from dualpath.errors import DualPathError, number_of
from dualpath.files import temporary_beside, write_whole
from dualpath.methods import build_model
from dualpath.methods.options import DualPathConfig
from dualpath.nn.weights import read_state
from dualpath.nn.zoo import CLIP_VIT_B16, BackboneConfig, load_backbone
from dualpath.video.sampling import SamplingConfig

BACKBONE = "backbone.safetensors"

_ADAPTERS = {
    "t_adapter_attn_b": "temporal.{}.before",
    "t_adapter_attn": "temporal.{}.attention",
    "t_adapter_mlp": "temporal.{}.mlp",
    "s_adapter_attn": "spatial.{}.attention",
    "s_adapter_mlp": "spatial.{}.mlp",
}
_OTHERS = {
    "visual.class_embedding": "tables.class_token",
    "visual.positional_embedding": "tables.spatial",
    "visual.spatial_positional_embedding": "tables.temporal",
    "visual.head.linear1.weight": "head.hidden.weight",
    "visual.head.linear1.bias": "head.hidden.bias",
    "visual.head.linear2.weight": "head.out.weight",
    "visual.head.linear2.bias": "head.out.bias",
}
_ADAPTER = re.compile(rf"visual\.transformer\.resblocks\.(\d+)\.({'|'.join(_ADAPTERS)})\.(down|up)_proj\.(weight|bias)")

# (width, depth, patch, size) of the CLIP towers that have a name
_NAMED = {
    (768, 12, 16, 224): CLIP_VIT_B16,
    (768, 12, 32, 224): "vit_base_patch32_clip_quickgelu_224.openai",
    (1024, 24, 14, 224): "vit_large_patch14_clip_quickgelu_224.openai",
    (1024, 24, 14, 336): "vit_large_patch14_clip_quickgelu_336.openai",
}


def trained_names(theirs: Iterable[str]) -> dict[str, str]:
    """Our name for each of the authors' names that are trained; the others are left out."""
    names = {}
    for name in theirs:
        if name in _OTHERS:
            names[name] = _OTHERS[name]
        elif found := _ADAPTER.fullmatch(name):
            block, adapter, side, part = found.groups()
            names[name] = f"{_ADAPTERS[adapter].format(block)}.{side}.{part}"
    return names


def convert(
    path: Path, output: Path, *, num_frames: int = 16, labels: tuple[str, ...] | None = None, antialias: bool = False
) -> Path:
    """Writes a checkpoint folder with the authors' weights, ready for evaluate and predict.

    Args:
        path: their .pth file.
        output: a new folder.
        num_frames: T of the clips, which their file does not tell.
        labels: the classes' names in the order of their labels; by default "0", "1" ...
        antialias: frames are antialiased when they are shrunk to framesets. Theirs were as their torchvision had it: the
            compiled files in their repository are of Python 3.7, whose last torchvision (0.14) did not antialias tensors.

    Returns:
        The folder.

    Raises:
        DualPathError: no such file, not a checkpoint of theirs, a wrong number of labels or frames, a folder that exists.
    """
    if output.exists():
        raise DualPathError(f"the output {output} exists; give a new folder")
    state = {name.removeprefix("module."): value for name, value in read_state(path).items()}
    config = DualPathConfig(variant="reference", antialias=antialias)
    config.check_clip(num_frames)
    classes = _classes(state, path, labels)
    names = trained_names(state)
    frozen = {
        name: value.contiguous()
        for name, value in state.items()
        if name.startswith("visual.")
        and (name not in names or name in ("visual.class_embedding", "visual.positional_embedding"))
    }
    fresh = temporary_beside(output).with_suffix(".safetensors")
    write_whole(fresh, tensors_to_bytes(frozen))
    try:
        architecture = _architecture(state, path)
        backbone = load_backbone(BackboneConfig(architecture.backbone, str(fresh), model_args=architecture.model_args))
        model = build_model("dualpath", backbone, num_classes=len(classes), config=config)
        load_trained(model, {names[name]: state[name].float() for name in names}, source=str(path))
        spec = ModelSpec(
            method="dualpath",
            options=config,
            backbone=BackboneConfig(architecture.backbone, BACKBONE, model_args=architecture.model_args),
            classes=classes,
            sampling=SamplingConfig(num_frames, "dense", 4),  # as their code tests
            split_seed=0,
            val_fraction=0.2,
            training={"converted from": path.name},
        )
        save_checkpoint(output, model, spec, beside={BACKBONE: fresh.read_bytes()})
    finally:
        fresh.unlink(missing_ok=True)
    return output


def read_labels(path: Path) -> tuple[str, ...]:
    """Class names from a text file, one a line."""
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as problem:
        raise DualPathError(
            f"{path} cannot be read as a text file of labels ({problem}); give one class name a line"
        ) from problem
    if len(set(names)) < len(names):
        raise DualPathError(f"{path} names a class twice; give each label a name of its own")
    return names


def _classes(state: dict[str, Tensor], path: Path, labels: tuple[str, ...] | None) -> tuple[str, ...]:
    head = state.get("visual.head.linear2.weight")
    if head is None or "visual.spatial_positional_embedding" not in state:
        raise DualPathError(
            f"{path} is no checkpoint of the authors' DualPath: it has no visual.head.linear2.weight or no "
            f"visual.spatial_positional_embedding (it has {', '.join(sorted(state)[:3])} ...); give the file that their "
            "main_clip.py saved"
        )
    if labels is not None and len(labels) != len(head):
        raise DualPathError(
            f"{number_of(len(labels), 'label')} given, but {path} has {number_of(len(head), 'class|classes')}; give one name "
            "for each"
        )
    return labels or tuple(str(number) for number in range(len(head)))


def _architecture(state: dict[str, Tensor], path: Path) -> BackboneConfig:
    """The tower's name, or its sizes where it has none; heads have 64 channels in every CLIP."""
    try:
        width, _, patch, _ = state["visual.conv1.weight"].shape
        side = round((len(state["visual.positional_embedding"]) - 1) ** 0.5)
        features = state["visual.proj"].shape[1]
    except (KeyError, ValueError) as problem:
        raise DualPathError(
            f"{path} holds no whole CLIP image tower ({problem}); give the file that their main_clip.py saved"
        ) from problem
    depth = len({name.split(".")[3] for name in state if name.startswith("visual.transformer.resblocks.")})
    if name := _NAMED.get((width, depth, patch, side * patch)):
        return BackboneConfig(name)
    sizes = {"embed_dim": width, "depth": depth, "num_heads": max(1, width // 64), "patch_size": patch}
    return BackboneConfig(CLIP_VIT_B16, model_args=sizes | {"img_size": side * patch, "num_classes": features})
