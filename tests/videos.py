"""Videos for the tests, made on the spot: every frame carries its own number in its pixels.

A picture is a grid of 3 x 4 blocks, black or white, large enough to survive any codec and any scaling. The corners
say which way is up (only the top left one is white), the other eight blocks are the frame number in binary.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.video.stream import VideoStream

ROWS, COLUMNS = 3, 4
CORNERS = {(0, 0): True, (0, 3): False, (2, 0): False, (2, 3): False}
BITS = [(row, column) for row in range(ROWS) for column in range(COLUMNS) if (row, column) not in CORNERS]


def paint(number: int, *, width: int = 64, height: int = 48) -> np.ndarray:
    """Frame `number` (0..255) as uint8 (height, width, 3)."""
    assert 0 <= number < 2 ** len(BITS)
    grid = np.zeros((ROWS, COLUMNS), np.uint8)
    grid[0, 0] = 255
    for bit, block in enumerate(BITS):
        grid[block] = 255 * (number >> bit & 1)
    rows, columns = np.arange(height) * ROWS // height, np.arange(width) * COLUMNS // width
    return np.repeat(grid[rows][:, columns, None], 3, axis=2)


def read_number(frame: torch.Tensor) -> int:
    """The number that a frame, uint8 (3, H, W), carries; fails if it is not upright."""
    picture = frame.numpy().astype(float).mean(axis=0)
    height, width = picture.shape
    middles = picture[(np.arange(ROWS) * 2 + 1) * height // (2 * ROWS)][:, (np.arange(COLUMNS) * 2 + 1) * width // 8]
    for block, white in CORNERS.items():
        assert (middles[block] > 128) == white, f"not upright: {middles.round()}"
    return sum(int(middles[block] > 128) << bit for bit, block in enumerate(BITS))


def read_numbers(frames: torch.Tensor) -> list[int]:
    """The numbers of a clip, uint8 (T, 3, H, W)."""
    return [read_number(frame) for frame in frames]


def write_video(
    path: Path,
    frames: int | Sequence[np.ndarray],
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    fps: int = 25,
    width: int = 64,
    height: int = 48,
    rotation: int = 0,
    mirrored: bool = False,
    times_ms: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    audio: bool = False,
    first_pts: int = 0,
    placeholder_after: int | None = None,
) -> Path:
    """Writes numbered frames (or the pictures given) and returns `path`.

    Args:
        path: its ending names the container.
        frames: how many numbered ones, or upright uint8 pictures (H, W, 3).
        codec: FFmpeg's encoder.
        pix_fmt: pixel format of the file.
        fps: frames per second where `times_ms` says nothing else.
        width: of upright numbered pictures.
        height: of upright numbered pictures.
        rotation: clockwise degrees that the file asks players to turn by; the stored pictures lie accordingly.
        mirrored: the file asks to mirror left and right too (without rotation only).
        times_ms: presentation time of each frame: variable frame rate.
        options: of the encoder.
        container_options: of the muxer.
        audio: adds a silent sound track.
        first_pts: ticks of 1/fps; below 0, the first frames are cut off by an edit list (mp4).
        placeholder_after: an MPEG-4 packet without a picture goes in behind this many, as DivX and HMDB51 have it
            (needs the option flags=+bitexact, without FFmpeg's own mark in the stream).
    """
    count = frames if isinstance(frames, int) else len(frames)
    pictures = [paint(number, width=width, height=height) for number in range(frames)] if isinstance(frames, int) else frames
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=fps, options=options or {})
        assert isinstance(stream, VideoStream)
        turned = [np.ascontiguousarray(np.rot90(picture, rotation // 90)) for picture in pictures]
        if mirrored:
            turned = [np.ascontiguousarray(picture[:, ::-1]) for picture in turned]
        stream.height, stream.width = turned[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.codec_context.thread_count = 1
        if placeholder_after is not None:
            stream.codec_context.codec_tag = "XVID"  # decoders forgive placeholders to the encoders known for them
        tick = Fraction(1, 1000) if times_ms else Fraction(1, fps)
        stream.time_base = stream.codec_context.time_base = tick
        if rotation or mirrored:
            stream.set_display_rotation(-rotation, hflip=mirrored)
        sound = container.add_stream("aac", rate=16000) if audio else None
        packets = []
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(turned[number], format="rgb24")
            frame.pts, frame.time_base = (times_ms[number] if times_ms else number + first_pts), tick
            packets += stream.encode(frame)
        packets += stream.encode(None)
        for number, packet in enumerate(packets):
            if placeholder_after is not None and number >= placeholder_after:
                if number == placeholder_after:
                    empty = av.Packet(b"\x7f")
                    empty.pts, empty.dts = packet.pts, packet.dts
                    empty.time_base, empty.stream = packet.time_base, stream
                    container.mux(empty)
                packet.pts, packet.dts = (packet.pts or 0) + 1, (packet.dts or 0) + 1
            container.mux(packet)
        if sound is not None:
            for start in range(0, 4 * 1024, 1024):
                silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                silence.sample_rate, silence.pts = 16000, start
                container.mux(sound.encode(silence))  # pyright: ignore[reportAttributeAccessIssue]
            container.mux(sound.encode(None))  # pyright: ignore[reportAttributeAccessIssue]
    return path


def hit(path: Path, number: int) -> Path:
    """Spoils a packet of a video, so that its picture cannot be decoded."""
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][number]
    assert packet.pos is not None
    content = bytearray(path.read_bytes())
    content[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    path.write_bytes(content)
    return path
