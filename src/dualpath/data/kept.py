"""Training clips that are kept on the disk once they are decoded, for further runs that draw the same ones.

    KeptClips[epoch, index] --it is there--> read
                            --it is not----> TrainClips[epoch, index], then written

A clip is a pure function of (seed, epoch, index), of the videos and of how clips are cut from them, never of the method:
runs that differ in their method alone can share them. All that decides them is hashed into the name of a folder:

    <folder>/<key>/<epoch>.clips   uint8 (n, T, C, S, S)
                   <epoch>.sums    uint64 (n,), little-endian: 0, or 2^32 + the clip's CRC-32, written after the clip

Whatever ends a process, at any time: a clip without its sum is decoded again, and so is one that does not suit its sum
(a machine that lost its power may have written the two in the other order).

The files are read and written, not mapped into memory: what a process has mapped counts as its own memory, which a
comparison measures, and a full disk is then an error like others and not a signal.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from dualpath.data.clips import Key, KeyedClips, TrainClips

_SUM = 8  # bytes
_THERE = 1 << 32
_NO_FALLOCATE = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class KeptClips(KeyedClips):
    """The clips of a `TrainClips`, each decoded once for all runs that are given the same folder.

    Attributes:
        clips: where those come from that are not there yet.
        folder: of these very clips, within the one that was given.
    """

    def __init__(self, clips: TrainClips, folder: Path, *, epochs: int) -> None:
        """Makes room on the disk for every clip of a run; what is there already stays.

        Args:
            clips: what is kept; it is left as it is.
            folder: where; clips that differ in anything do not get into each other's way.
            epochs: of the run.

        Raises:
            OSError: there is no room, or `folder` cannot be written; nothing is left behind of these clips then.
        """
        self.clips = clips
        self.videos = clips.videos
        self.seed = clips.seed
        self.shape = clips.shape
        self.lost = clips.lost
        self.seconds = clips.seconds
        self.folder = folder / _key(clips)
        try:
            for epoch in range(epochs):
                self._make_room(epoch)
        except OSError:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, key: Key) -> tuple[int, UInt8[Tensor, "t c s s"], int]:
        """Reads one clip from the disk, or from its video, and then it is kept.

        Raises:
            VideoError: the clip is not there and its video cannot be decoded.
        """
        epoch, index = key
        clip = self._find(epoch, index)
        if clip is not None:
            return index, clip, self.videos[index].label
        item = self.clips[key]
        # Who cannot keep a clip decodes it again the next time: slow, not wrong.
        with suppress(OSError):
            self._keep(epoch, index, item[1])
        return item

    @property
    def _bytes(self) -> int:
        """Of a clip."""
        frames, channels, height, width = self.shape
        return frames * channels * height * width

    def _paths(self, epoch: int) -> tuple[Path, Path]:
        return self.folder / f"{epoch}.clips", self.folder / f"{epoch}.sums"

    def _make_room(self, epoch: int) -> None:
        clips, sums = self._paths(epoch)
        if _size(clips) != len(self) * self._bytes:
            sums.unlink(missing_ok=True)  # first, or a kill here would leave sums of clips that are gone
            self.folder.mkdir(parents=True, exist_ok=True)
            _allocate(clips, len(self) * self._bytes)
        if _size(sums) != len(self) * _SUM:
            sums.write_bytes(bytes(len(self) * _SUM))

    def _find(self, epoch: int, index: int) -> UInt8[Tensor, "t c s s"] | None:
        clips, sums = self._paths(epoch)
        try:
            with sums.open("rb", buffering=0) as file:
                file.seek(index * _SUM)
                expected = int.from_bytes(file.read(_SUM), "little")
            if not expected & _THERE:
                return None
            found = np.empty(self.shape, np.uint8)
            with clips.open("rb", buffering=0) as file:
                file.seek(index * self._bytes)
                file.readinto(found.data)
        except OSError:
            return None
        return torch.from_numpy(found) if _sum(found) == expected else None

    def _keep(self, epoch: int, index: int, clip: UInt8[Tensor, "t c s s"]) -> None:
        clips, sums = self._paths(epoch)
        pixels = clip.contiguous().numpy()
        # A file that is gone, because its comparison has ended, is not made again: "r+".
        with clips.open("r+b", buffering=0) as file:
            file.seek(index * self._bytes)
            file.write(pixels.data)
        with sums.open("r+b", buffering=0) as file:
            file.seek(index * _SUM)
            file.write(_sum(pixels).to_bytes(_SUM, "little"))


def _key(clips: TrainClips) -> str:
    """A hash of all that decides the clips: of the videos what a run's fingerprint takes, and whatever else was given."""
    videos = [(video.name, video.label, video.start, video.num_frames) for video in clips.videos]
    apart = ("videos", "lost", "seconds", "seen")
    settings = {name: repr(value) for name, value in sorted(vars(clips).items()) if name not in apart}
    return hashlib.sha256(json.dumps([videos, settings]).encode()).hexdigest()[:16]


def _sum(pixels: np.ndarray) -> int:
    return _THERE + zlib.crc32(pixels.data)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _allocate(path: Path, size: int) -> None:
    """Makes a file of zeros whose blocks are its own, so that writing into it needs no more room; a full disk is told now."""
    with path.open("wb") as file:
        if size and hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(file.fileno(), 0, size)
                return
            except OSError as problem:
                if problem.errno not in _NO_FALLOCATE:
                    raise OSError(problem.errno, problem.strerror, str(path)) from problem
        zeros = bytes(min(size, 1 << 20))
        for start in range(0, size, 1 << 20):
            file.write(zeros[: size - start])
