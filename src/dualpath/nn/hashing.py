"""The hash that tells whether two backbones have the same weights: found in a thread, as one core has to do it alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from torch import nn


def start_hash(vit: nn.Module) -> Callable[[], str]:
    """Hashes beside what comes next; Python's lock is free meanwhile.

    What is hashed are the tensors of now: other ones may take their places, as they do in another type or on another device.

    Returns:
        What waits for the hash.
    """
    if any(value.is_meta for value in vit.parameters()):
        return partial(str, "")
    thread = ThreadPoolExecutor(1)
    hashed = thread.submit(_hash, vit.state_dict())
    thread.shutdown(wait=False)
    return hashed.result


def _hash(state: dict[str, Any]) -> str:
    digest = hashlib.sha256()
    for key, value in sorted(state.items()):
        digest.update(key.encode())
        digest.update(memoryview(value.detach().float().cpu().contiguous().numpy()))
    return digest.hexdigest()
