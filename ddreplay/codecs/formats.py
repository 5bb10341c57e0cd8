"""The picture codecs: JPEG, WebP and AVIF, as Pillow writes them. How sheets are stored: ``sheets.py``."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ddreplay.codecs.sheets import Pictures, Subsampling, check_choice, check_range, write

__all__ = ["avif", "jpeg", "webp"]

_SUBSAMPLING: tuple[Subsampling, ...] = ("4:4:4", "4:2:2", "4:2:0")


@dataclass(frozen=True)
class jpeg(Pictures):
    """Baseline JPEG. Fastest to write and read, and the largest of the three at equal error.

    Two ways to store a set, the smaller one is kept: the standard Huffman tables, or tables fitted to all sheets of one
    size together. For the second, these sheets are written as one tall picture with a restart marker after each:
    between two markers lies a sheet that depends on nothing but the shared head.

    Args:
        quality: 1 to 100.
        subsampling: of the colours. On CIFAR-10 at equal bytes "4:4:4" is 0.3 dB ahead of "4:2:0" at 180 bytes an image
            and 0.1 dB behind at 70; it keeps tiles apart exactly, and "4:2:0" pads tiles to 16 pixels.
    Reference: ITU-T T.81, annexes B (syntax), E (restart intervals), K (standard tables).
    Example:
        >>> import torch
        >>> images = [torch.rand(4, 1, 8, 8), torch.rand(2, 1, 8, 8)]
        >>> codec = jpeg(quality=50)
        >>> [tuple(x.shape) for x in codec.decode(codec.encode(images), [4, 2], (1, 8, 8))]
        [(4, 1, 8, 8), (2, 1, 8, 8)]
    """

    quality: int = 30
    subsampling: Subsampling = "4:4:4"

    name: ClassVar[str] = "jpeg"
    extension: ClassVar[str] = "jpg"
    form: ClassVar[str] = "JPEG"
    feature: ClassVar[str] = "jpg"
    limit: ClassVar[int] = 65500
    known: ClassVar[bytes] = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00\xff\xdb\x00C"
    lowest: ClassVar[int] = 1
    highest: ClassVar[int] = 100

    def __post_init__(self) -> None:
        check_range("jpeg", "quality", self.quality, 1, 100)
        check_choice("jpeg", "subsampling", self.subsampling, _SUBSAMPLING)

    def pitch(self, channels: int) -> int:
        return 8 if channels == 1 or self.subsampling == "4:4:4" else 16

    def write(self, sheet: np.ndarray) -> bytes:
        return self._write(sheet)

    def _write(self, sheet: np.ndarray, **options: Any) -> bytes:
        colour = {} if sheet.ndim == 2 else {"subsampling": self.subsampling}
        return write(sheet, "JPEG", quality=self.quality, **colour, **options)

    def split(self, file: bytes) -> tuple[bytes, bytes]:
        start = _scan(file)[0]
        return file[:start], file[start:-2]

    def join(self, head: bytes, body: bytes) -> bytes:
        return head + body + b"\xff\xd9"

    def alternative(self, sheets: Sequence[np.ndarray]) -> tuple[bytes, list[bytes]] | None:
        """One picture of all sheets, cut at its restart markers; None where JPEG or Pillow cannot write it."""
        height, width = sheets[0].shape[:2]
        pitch = self.pitch(1 if sheets[0].ndim == 2 else 3)
        # restart intervals count coded units: as large as the pitch, but 16 x 8 pixels in 4:2:2
        rows = height // (8 if self.subsampling == "4:2:2" else pitch)
        if height * len(sheets) > self.limit or rows * (width // pitch) > 0xFFFF:
            return None
        try:
            file = self._write(np.concatenate(sheets), optimize=True, restart_marker_rows=rows)
        except OSError:  # Pillow's buffer holds 8 bits a pixel; noise at high quality needs more
            return None
        start, size_at, interval_at = _scan(file)
        bodies = re.split(rb"\xff[\xd0-\xd7]", file[start:-2])
        if len(bodies) != len(sheets) or interval_at is None:
            return None
        head = file[:size_at] + struct.pack(">H", height) + file[size_at + 2 : start]
        return head[:interval_at] + head[interval_at + 6 :], bodies


def _scan(file: bytes) -> tuple[int, int, int | None]:
    """Where the coded data begins, where the frame's height stands, and where the restart interval is defined."""
    at, size_at, interval_at = 2, 0, None
    while True:
        marker, length = file[at + 1], struct.unpack_from(">H", file, at + 2)[0]
        if marker == 0xC0:
            size_at = at + 5
        if marker == 0xDD:
            interval_at = at
        at += 2 + length
        if marker == 0xDA:
            return at, size_at, interval_at


@dataclass(frozen=True)
class webp(Pictures):
    """Lossy WebP: between JPEG and AVIF in bytes and in time. Colours are always 4:2:0.

    Args:
        quality: 0 to 100.
        method: 0 (fast) to 6 (small).
    Reference: RFC 9649 (container), RFC 6386 (VP8).
    """

    quality: int = 30
    method: int = 6

    name: ClassVar[str] = "webp"
    extension: ClassVar[str] = "webp"
    form: ClassVar[str] = "WEBP"
    feature: ClassVar[str] = "webp"
    limit: ClassVar[int] = 16383
    known: ClassVar[bytes] = b"\x9d\x01\x2a"
    lowest: ClassVar[int] = 0
    highest: ClassVar[int] = 100

    def __post_init__(self) -> None:
        check_range("webp", "quality", self.quality, 0, 100)
        check_range("webp", "method", self.method, 0, 6)

    def pitch(self, channels: int) -> int:
        return 8  # a 4 x 4 transform of the halved colours

    def write(self, sheet: np.ndarray) -> bytes:
        return write(sheet, "WEBP", quality=self.quality, method=self.method)

    def split(self, file: bytes) -> tuple[bytes, bytes]:
        # RIFF size WEBP | VP8_ size | frame tag (3), start code (3), dimensions (4) | data, padded to an even length
        size = struct.unpack_from("<I", file, 16)[0]
        return file[23:30], file[20:23] + file[30 : 20 + size]

    def join(self, head: bytes, body: bytes) -> bytes:
        data = body[:3] + head + body[3:]
        chunk = b"VP8 " + struct.pack("<I", len(data)) + data + b"\x00" * (len(data) % 2)
        return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


# The boxes that libavif writes around a still picture of 8 bits, as a dictionary for deflate.
_AVIF_BOXES = (
    b"\x00\x00\x00\x20ftypavif\x00\x00\x00\x00avifmif1miafMA1B\x00\x00\x00\xebmeta\x00\x00\x00\x00\x00\x00\x00\x21hdlr"
    b"\x00\x00\x00\x00\x00\x00\x00\x00pict\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x0epitm"
    b"\x00\x00\x00\x00\x00\x01\x00\x00\x00\x1eiloc\x00\x00\x00\x00\x44\x00\x00\x01\x00\x01\x00\x00\x00\x01\x00\x00\x01"
    b"\x13\x00\x00\x00\x00\x00\x00\x00\x28iinf\x00\x00\x00\x00\x00\x01\x00\x00\x00\x1ainfe\x02\x00\x00\x00\x00\x01\x00"
    b"\x00av01Color\x00\x00\x00\x00\x6aiprp\x00\x00\x00\x4bipco\x00\x00\x00\x14ispe\x00\x00\x00\x00\x00\x00\x00\xa0\x00"
    b"\x00\x00\x80\x00\x00\x00\x10pixi\x00\x00\x00\x00\x03\x08\x08\x08\x00\x00\x00\x0cav1C\x81\x00\x0c\x00\x00\x00\x00"
    b"\x13colrnclx\x00\x01\x00\x0d\x00\x06\x80\x00\x00\x00\x17ipma\x00\x00\x00\x00\x00\x00\x00\x01\x00\x01\x04\x01\x02"
    b"\x83\x04\x00\x00\x00\x00mdat\x12\x00\x0a\x09\x18\x1d\xa7\xff\xb4\x40\x43\x41\xa1\x32"
)


@dataclass(frozen=True)
class avif(Pictures):
    """AVIF: the fewest bytes at equal error, and the slowest to write.

    Stored without its boxes, AV1 sequence header and length fields, which are the same or follow from the lengths.

    Args:
        quality: 0 to 100. Steps of AV1's quantiser, so neighbouring values can be the same.
        speed: 0 (slow) to 10. On CIFAR-10 at equal bytes, 6 is 0.5 dB behind 2 at a tenth of its time; 8 is 0.2 dB and 9
            is 0.7 dB behind 6, at a third and a tenth of its time.
        subsampling: of the colours.
    Reference: ISO/IEC 14496-12 and 23008-12 (boxes), AV1 bitstream specification, section 5.3 (OBU).
    """

    quality: int = 30
    speed: int = 6
    subsampling: Subsampling = "4:4:4"

    name: ClassVar[str] = "avif"
    extension: ClassVar[str] = "avif"
    form: ClassVar[str] = "AVIF"
    feature: ClassVar[str] = "avif"
    limit: ClassVar[int] = 32768
    known: ClassVar[bytes] = _AVIF_BOXES
    lowest: ClassVar[int] = 0
    highest: ClassVar[int] = 100

    def __post_init__(self) -> None:
        check_range("avif", "quality", self.quality, 0, 100)
        check_range("avif", "speed", self.speed, 0, 10)
        check_choice("avif", "subsampling", self.subsampling, _SUBSAMPLING)

    def pitch(self, channels: int) -> int:
        return 4 if channels == 1 or self.subsampling == "4:4:4" else 8  # AV1's smallest transform is 4 x 4

    def write(self, sheet: np.ndarray) -> bytes:
        # The tuning is named, because libavif's default differs between versions and shifts the scale of quality;
        # one thread and no tiling, because the tiling would follow the number of cores.
        subsampling = "4:0:0" if sheet.ndim == 2 else self.subsampling
        options: dict[str, Any] = {"codec": "aom", "advanced": {"tune": "psnr"}, "max_threads": 1, "autotiling": False}
        return write(sheet, "AVIF", quality=self.quality, speed=self.speed, subsampling=subsampling, **options)

    def split(self, file: bytes) -> tuple[bytes, bytes]:
        # head: boxes and the units before the frame, its lengths zeroed; body: the frame unit without its length
        start = file.index(b"mdat") + 4
        at = start
        while (file[at] >> 3) & 15 != 6:  # type 6: a frame
            size, width = _leb128(file, at + 1)
            at += 1 + width + size
        width = _leb128(file, at + 1)[1]
        head = bytearray(file[: at + 1])
        for field in (start - 8, _extent(file)):
            head[field : field + 4] = bytes(4)
        return bytes(head), file[at + 1 + width :]

    def join(self, head: bytes, body: bytes) -> bytes:
        start = head.index(b"mdat") + 4
        file = bytearray(head + _to_leb128(len(body)) + body)
        struct.pack_into(">I", file, start - 8, len(file) - start + 8)
        struct.pack_into(">I", file, _extent(head), len(file) - start)
        return bytes(file)


def _extent(file: bytes) -> int:
    """Where the item location box (version 0, 4-byte fields, one item of one extent) holds the data's length."""
    return file.index(b"iloc") + 4 + 4 + 2 + 2 + 2 + 2 + 2 + 4


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    """An AV1 length and the number of bytes it takes."""
    value = width = 0
    while True:
        value |= (data[at + width] & 127) << (7 * width)
        width += 1
        if data[at + width - 1] < 128:
            return value, width


def _to_leb128(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
