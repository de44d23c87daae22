"""dualpath: turn any frozen image transformer into a video model by training a few per cent of its size.

    import dualpath

    model = dualpath.load("runs/gestures")
    model.predict("clip.mp4", top_k=5)  # [{"label": "swipe left", "score": 0.97}, ...]

Names are imported when they are first used, so that `dualpath --help` does not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dualpath.engine.predict import VideoClassifier as VideoClassifier
    from dualpath.engine.predict import load as load
    from dualpath.errors import DualPathError as DualPathError
    from dualpath.methods import build_model as build_model
    from dualpath.methods.dualpath import DualPath as DualPath
    from dualpath.methods.options import DualPathConfig as DualPathConfig
    from dualpath.nn.zoo import BackboneConfig as BackboneConfig
    from dualpath.nn.zoo import load_backbone as load_backbone

__version__ = "0.1.0"

_HOMES = {
    "VideoClassifier": "dualpath.engine.predict",
    "load": "dualpath.engine.predict",
    "DualPathError": "dualpath.errors",
    "build_model": "dualpath.methods",
    "DualPath": "dualpath.methods.dualpath",
    "DualPathConfig": "dualpath.methods.options",
    "BackboneConfig": "dualpath.nn.zoo",
    "load_backbone": "dualpath.nn.zoo",
}
__all__ = [
    "BackboneConfig",
    "DualPath",
    "DualPathConfig",
    "DualPathError",
    "VideoClassifier",
    "__version__",
    "build_model",
    "load",
    "load_backbone",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dualpath' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
