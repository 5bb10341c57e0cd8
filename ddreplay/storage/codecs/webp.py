"""WebP, as Pillow writes it. How sheets are stored: ``sheets.py``."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ddreplay.storage.codecs.sheets import Pictures, check_range, write

__all__ = ["webp"]


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
