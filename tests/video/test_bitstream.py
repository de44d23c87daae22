"""The few bits that decide where decoding may start, against bytes written out by hand from the standards."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpath.video.decoding.bitstream import CODECS, Nature, nal_length_size, nature

SPS, PPS = b"\x67\x42\x00", b"\x68\xce"
IDR, P_SLICE, B_SLICE = b"\x65\x88", b"\x41\x9a", b"\x01\x9e"
DELIMITER = b"\x09\xf0"


def units(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def recovery(payload: int) -> bytes:
    """An SEI unit: a message of another kind, then a recovery point, both in one."""
    return bytes((6, 5, 2, 0, 0, 6, 1, payload, 0x80))


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (units(DELIMITER, SPS, PPS, IDR), Nature(1, starts=True, parameters=frozenset({SPS, PPS}))),
        (units(IDR, IDR), Nature(1, starts=True)),
        (units(P_SLICE), Nature(1)),
        (units(DELIMITER, B_SLICE, B_SLICE), Nature(1, needless=True)),
        (units(P_SLICE, B_SLICE), Nature(1)),
        (units(recovery(0b11000000), P_SLICE), Nature(1, starts=True)),  # recovery_frame_cnt 0, exact
        (units(recovery(0b10000000), P_SLICE), Nature(1)),  # not exact
        (units(recovery(0b01011000), P_SLICE), Nature(1)),  # recovery_frame_cnt 1
        (units(DELIMITER), Nature(0)),
        (units(b"\x74\x00\x00\x00", IDR), None),  # a layer or view: unit type 20
        (units(IDR)[:-1], None),
        (b"\x00\x00\x00\x00", None),
        (b"\xff" * 20, None),
    ],
)
def test_h264(packet: bytes, expected: Nature | None) -> None:
    assert nature(packet, codec="h264") == expected


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (19, Nature(1, starts=True)),  # IDR_W_RADL
        (21, Nature(1, starts=True)),  # CRA
        (1, Nature(1)),  # TRAIL_R
        (0, Nature(1, needless=True)),  # TRAIL_N
        (9, Nature(1)),  # RASL_R
        (8, Nature(1, needless=True)),  # RASL_N
        (35, Nature(0)),  # access unit delimiter
        (33, Nature(0, parameters=frozenset({bytes((33 << 1, 1, 7))}))),
    ],
)
def test_hevc(kind: int, expected: Nature) -> None:
    assert nature(units(bytes((kind << 1, 1, 7))), codec="hevc") == expected
    assert nature(units(bytes((kind << 1, 2, 7))), codec="hevc") is None  # a temporal layer above the first
    assert nature(units(bytes((kind << 1, 9, 7))), codec="hevc") is None  # another layer


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (b"\x82\x49", Nature(1, starts=True)),  # profile 0, key, shown
        (b"\x80\x49", Nature(0)),  # key, hidden
        (b"\x86\x00", Nature(1)),  # inter, shown
        (b"\x84\x00", Nature(0)),  # inter, hidden
        (b"\x88", Nature(1)),  # an old frame shown again
        (b"\xb1\x49", Nature(1, starts=True)),  # profile 3 has one more bit before these
        (b"\x84\x00\x86\x00\xc1\x02\x02\xc1", Nature(1)),  # superframe: hidden, then shown
        (b"\x82\x00\x86\x00\xc1\x02\x02\xc1", Nature(2)),
        (b"\x42\x00", None),
    ],
)
def test_vp9(packet: bytes, expected: Nature | None) -> None:
    assert nature(packet, codec="vp9") == expected


SEQUENCE = b"\x0a\x02\x00\x11"


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (b"\x12\x00" + SEQUENCE + b"\x32\x02\x10\x00", Nature(1, starts=True, parameters=frozenset({b"\x00\x11"}))),
        (b"\x12\x00\x32\x02\x10\x00", Nature(1)),  # no sequence header beside it
        (SEQUENCE + b"\x32\x02\x00\x00", Nature(0, parameters=frozenset({b"\x00\x11"}))),  # key, hidden
        (b"\x32\x02\x30\x00", Nature(1)),  # inter, shown
        (b"\x32\x01\x20\x32\x01\x30", Nature(1)),  # hidden and shown in one unit
        (b"\x1a\x01\x80", Nature(1)),  # an old frame shown again
        (b"\x30\x30\x00", Nature(1)),  # without a size: to the end
        (b"\x36\x00\x01\x30", None),  # layers
    ],
)
def test_av1(packet: bytes, expected: Nature | None) -> None:
    assert nature(packet, codec="av1") == expected


@given(st.binary(max_size=60), st.sampled_from(CODECS), st.integers(1, 4))
def test_no_bytes_upset_it(packet: bytes, codec: str, nal_length: int) -> None:
    found = nature(packet, codec=codec, nal_length=nal_length)
    assert found is None or not (found.starts and (found.needless or not found.pictures))
    assert nature(memoryview(packet), codec=codec, nal_length=nal_length) == found


def test_lengths_of_units_are_read_from_the_header() -> None:
    assert nal_length_size("h264", b"\x01\x64\x00\x1f\xff\xe1") == 4
    assert nal_length_size("h264", b"\x01\x64\x00\x1f\xfd\xe1") == 2
    assert nal_length_size("hevc", b"\x01" + bytes(20) + b"\x03") == 4
    for extradata in (None, b"", b"\x00\x00\x00\x01\x67", b"\x01\x64"):
        assert nal_length_size("h264", extradata) is None
    assert nal_length_size("vp9", None) == 4
