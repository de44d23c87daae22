"""How many bytes some work holds at once: counted tensor by tensor, so that no allocator has a say in it.

    operations --made: + bytes--> alive --nothing holds it any more: - bytes-->        most = the highest it came to

What a kernel takes for itself while it runs is no tensor and is not counted.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def most_alive(work: Callable[[], object], *, device: torch.device) -> int:
    """The most bytes of tensors that one call of `work` makes and holds at once.

    What was there before counts for nothing, also where it is changed in place: weights, their gradients if they are kept,
    an optimizer's moments. What `work` does must not be compiled: compiled code hides what it makes.

    Args:
        work: called once.
        device: whose tensors are counted.
    """
    with Alive(device) as alive:
        work()
    return alive.most


class Alive(TorchDispatchMode):
    """Counts the bytes of the tensors that operations make, from when they are made until nothing holds them.

    Attributes:
        bytes: alive now.
        most: the most at once so far.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        # "cuda" has an index of its own once a tensor lies there.
        self.device = torch.empty(0, device=device).device
        self.bytes = self.most = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled():  # then torch hands over what is made of other operations as it is
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        for storage in self._storages((args, kwargs)):
            self._count(storage, 0)  # not made here, or counted before
        results = func(*args, **kwargs)
        for storage in self._storages(results):
            self._count(storage, storage.nbytes())
        return results

    def _storages(self, values: Any) -> list[torch.UntypedStorage]:
        # A packed weight has another layout and no storage: it is made once and kept, and no work makes one.
        tensors = [v for v in tree_leaves(values) if isinstance(v, Tensor) and v.layout == torch.strided]
        return [tensor.untyped_storage() for tensor in tensors if tensor.device == self.device]

    def _count(self, storage: torch.UntypedStorage, size: int) -> None:
        key = storage._cdata
        if key in self._seen:  # a view, or changed in place
            return
        self._seen.add(key)
        self.bytes += size
        self.most = max(self.most, self.bytes)
        # Once it is gone, another storage may come to lie in its place.
        weakref.finalize(storage, self._free, key, size).atexit = False

    def _free(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.bytes -= size
