"""What a packet says of itself in its first bits: may decoding start here, and does any other picture need it?

A container's key-frame flags are claims, and some lie. The bits of the codec do not: only what is read here decides
where decoding may start (`starts`) and which pictures may be left out (`needless`) without changing a single pixel.

    codec   may start at                                      needless
    h264    IDR; recovery point with count 0 and exact match  nal_ref_idc 0 in every slice      (H.264, 7.4.1, D.2.8)
    hevc    IDR, BLA, CRA                                     sub-layer non-reference, if there is one layer (H.265, 7.4.2.2)
    vp9     key frame that is shown                           never: every frame trains the next one's coder
    av1     key frame that is shown                           never
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

CODECS = ("h264", "hevc", "vp9", "av1")


@dataclass(frozen=True)
class Nature:
    """What a packet is.

    Attributes:
        pictures: pictures in it that are to be shown: 0, 1 or more.
        starts: decoding may start here, and whatever is presented later comes out exactly.
        needless: no other picture refers to it.
        parameters: the parameter sets in it (H.264, HEVC), without which its followers may not be understood.
    """

    pictures: int
    starts: bool = False
    needless: bool = False
    parameters: frozenset[bytes] = frozenset()


def nature(packet: bytes | memoryview, *, codec: str, nal_length: int = 4) -> Nature | None:
    """Reads a packet; None if it cannot be understood, and nothing may be concluded.

    Args:
        packet: its bytes.
        codec: one of CODECS.
        nal_length: bytes of a NAL unit's length (H.264, HEVC), see `nal_length_size`.
    """
    try:
        if codec == "h264":
            return _h264(packet, nal_length)
        if codec == "hevc":
            return _hevc(packet, nal_length)
        return _vp9(packet) if codec == "vp9" else _av1(packet)
    except (IndexError, ValueError):
        return None


def nal_length_size(codec: str, extradata: bytes | None) -> int | None:
    """How long lengths of NAL units are in a stream; None if its units are told apart in another way.

    Args:
        codec: "h264" (avcC: ISO/IEC 14496-15, 5.3.3.1) or "hevc" (hvcC: 8.3.3.1); others have none: 4 is answered.
        extradata: of the stream.
    """
    if codec not in ("h264", "hevc"):
        return 4
    place = 4 if codec == "h264" else 21
    if extradata is None or len(extradata) <= place or extradata[0] != 1:
        return None
    return (extradata[place] & 3) + 1


def _units(packet: bytes | memoryview, nal_length: int) -> Iterator[tuple[int, int]]:
    """Start and end of each NAL unit. ValueError if their lengths do not add up to the packet."""
    at, end = 0, len(packet)
    while at < end:
        start = at + nal_length
        at = start + int.from_bytes(packet[at:start], "big")
        if at > end or at == start:
            raise ValueError("the lengths of NAL units do not fit")
        yield start, at


def _h264(packet: bytes | memoryview, nal_length: int) -> Nature:
    slices = idr = 0
    referred = recovery = False
    parameters = set()
    for start, end in _units(packet, nal_length):
        kind = packet[start] & 31
        if kind in (1, 2, 5):
            slices += 1
            idr += kind == 5
            referred |= bool(packet[start] & 0x60)
        elif kind == 6:
            recovery |= _exact_recovery(bytes(packet[start + 1 : end]))
        elif kind in (7, 8, 13, 15):
            parameters.add(bytes(packet[start:end]))
        elif kind in (14, 20, 21):
            raise ValueError("several layers or views")
    starts = slices > 0 and (idr == slices or (recovery and idr == 0 and referred))
    return Nature(int(slices > 0), starts, slices > 0 and not referred, frozenset(parameters))


def _exact_recovery(sei: bytes) -> bool:
    """Whether an SEI unit holds a recovery point whose pictures are exact from the very first one on."""
    at = 0
    while at + 2 <= len(sei) and sei[at] != 0x80:
        values = []
        for _ in range(2):  # payloadType, payloadSize
            value = 0
            while sei[at] == 255:
                value, at = value + 255, at + 1
            values.append(value + sei[at])
            at += 1
        kind, size = values
        if kind == 6 and size:  # recovery_frame_cnt ue(v) = 0 is the bit 1; exact_match_flag is the next one
            return sei[at] >> 6 == 3
        at += size
    return False


def _hevc(packet: bytes | memoryview, nal_length: int) -> Nature:
    kinds, parameters = set(), set()
    for start, end in _units(packet, nal_length):
        kind = packet[start] >> 1 & 63
        layer = (packet[start] & 1) << 5 | packet[start + 1] >> 3
        if layer or packet[start + 1] & 7 != 1:
            raise ValueError("several layers")
        if kind < 32:
            kinds.add(kind)
        elif kind in (32, 33, 34):
            parameters.add(bytes(packet[start:end]))
    starts = bool(kinds) and all(16 <= kind <= 21 for kind in kinds)
    needless = bool(kinds) and all(kind < 16 and kind % 2 == 0 for kind in kinds)
    return Nature(int(bool(kinds)), starts, needless, frozenset(parameters))


def _vp9(packet: bytes | memoryview) -> Nature:
    """The uncompressed header of each frame of a superframe (VP9 bitstream, 6.2 and annex B)."""
    sizes = [len(packet)]
    last = packet[len(packet) - 1]
    if last >> 5 == 6:
        width, count = (last >> 3 & 3) + 1, (last & 7) + 1
        index = len(packet) - 2 - width * count
        if index >= 0 and packet[index] == last:
            places = range(index + 1, len(packet) - 1, width)
            sizes = [int.from_bytes(packet[place : place + width], "little") for place in places]
    at, shown, first_is_key = 0, 0, False
    for number, size in enumerate(sizes):
        first = packet[at]
        if first >> 6 != 2:
            raise ValueError("not a VP9 frame")
        profile = (first >> 5 & 1) | (first >> 4 & 1) << 1
        bits = first << 8 | (packet[at + 1] if size > 1 else 0)
        place = 11 - (profile == 3)  # of show_existing_frame, counted from the lowest of the 16 bits
        existing, inter, visible = (bits >> place & 1, bits >> place - 1 & 1, bits >> place - 2 & 1)
        shown += bool(existing or visible)
        if number == 0:
            first_is_key = not existing and not inter and bool(visible)
        at += size
    return Nature(shown, first_is_key and len(sizes) == 1)


def _av1(packet: bytes | memoryview) -> Nature:
    """The headers of the OBUs of a temporal unit (AV1 bitstream, 5.3 and 5.9.2)."""
    at, frames, shown, starts = 0, 0, 0, False
    sequences = set()
    while at < len(packet):
        kind, extension, sized = packet[at] >> 3 & 15, packet[at] >> 2 & 1, packet[at] >> 1 & 1
        if extension:
            raise ValueError("several layers")
        start = at = at + 1
        size = len(packet) - at
        if sized:
            size = shift = 0
            while True:
                byte = packet[at]
                size |= (byte & 127) << shift
                at, shift = at + 1, shift + 7
                if byte < 128:
                    break
            start = at
        if kind == 1:
            if packet[start] >> 3 & 1:
                raise ValueError("a still picture")
            sequences.add(bytes(packet[start : start + size]))
        elif kind in (3, 6):
            first = packet[start]
            key = first >> 4 == 1  # show_existing_frame 0, frame_type 0 (key), show_frame 1
            frames += 1
            shown += bool(first >> 7 or first >> 4 & 1)
            starts = key and frames == 1 and bool(sequences)
        at = start + size
    return Nature(shown, starts, parameters=frozenset(sequences))
