"""The size that an AVIF picture's frame declares, which need not be the one that its boxes do."""

from __future__ import annotations

import struct

__all__ = ["frame_size"]

_SEQUENCE_HEADER = 1


def frame_size(file: bytes) -> tuple[int, int]:
    """(width, height) by the sequence header of a still picture of one item, as libavif writes it.

    Raises:
        ValueError: when the file is laid out in another way, so that its size is not known before it is decoded.
    Reference: AV1 bitstream specification, sections 5.3 (OBU) and 5.5 (sequence header); ISO/IEC 14496-12 (iloc).
    """
    try:
        start = _data(file)
        found = [_size(file[a:b]) for kind, a, b in _units(file, start) if kind == _SEQUENCE_HEADER]
    except (IndexError, struct.error) as error:
        raise ValueError(f"its units end too early ({error})") from error
    if len(found) != 1:
        raise ValueError(f"a still picture has one sequence header, got {len(found)}")
    return found[0]


def _data(file: bytes) -> int:
    """Where the one item's data begin; they must reach to the end."""
    at = file.index(b"iloc") + 4
    # version and flags, sizes of offset and length, of base offset and index, number of items, id, reference, number of extents
    version, sizes, items, _, _, extents, offset, length = struct.unpack_from(">I2sHHHHII", file, at)
    start = file.index(b"mdat") + 4
    if (version, sizes, items, extents, offset, length) != (0, b"\x44\x00", 1, 1, start, len(file) - start):
        raise ValueError("its boxes are not those of one picture that ends with its data")
    if file.count(b"iloc", 0, start) != 1 or file.count(b"mdat", 0, start) != 1:
        raise ValueError("it has several lists of items")
    return start


def _units(file: bytes, at: int) -> list[tuple[int, int, int]]:
    """Type, start and end of every unit."""
    found = []
    while at < len(file):
        head, at = file[at], at + 1
        if head & 0b10000110 != 0b00000010:  # a size follows, no extension does
            raise ValueError("it has units without a size")
        size = shift = 0
        while True:
            byte, at = file[at], at + 1
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
            if shift > 56:
                raise ValueError("the size of a unit does not end")
        if at + size > len(file):
            raise ValueError("a unit is longer than the data")
        found.append((head >> 3 & 15, at, at + size))
        at += size
    return found


def _size(header: bytes) -> tuple[int, int]:
    bits, length = int.from_bytes(header, "big"), 8 * len(header)
    at = 0

    def take(n: int) -> int:
        nonlocal at
        at += n
        if at > length:
            raise IndexError("the sequence header")
        return bits >> (length - at) & ((1 << n) - 1)

    take(3)  # profile
    if take(1) != 1 or take(1) != 1:
        raise ValueError("it is no still picture with a reduced header")
    take(5)  # level
    width_bits, height_bits = take(4) + 1, take(4) + 1
    return take(width_bits) + 1, take(height_bits) + 1
