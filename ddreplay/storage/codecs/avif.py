"""AVIF, as Pillow writes it. How sheets are stored: ``sheets.py``."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

from ddreplay.storage.codecs.av1 import frame_size
from ddreplay.storage.codecs.sheets import _SUBSAMPLING, Pictures, Subsampling, check_choice, check_range, write

__all__ = ["avif"]

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
        matrices: AV1's quantisation matrices, from 0 (fine details are quantised most coarsely) to 15 (all alike); ``None``: none.
        transforms: ``"few"`` leaves the encoder two kinds of transform to choose from: a tenth more bytes, and a slightly smaller error.
            With `matrices` it fills the wide gaps between the quantiser's steps (`between`).
    Reference: ISO/IEC 14496-12 and 23008-12 (boxes), AV1 bitstream specification, section 5.3 (OBU).
    """

    quality: int = 30
    speed: int = 6
    subsampling: Subsampling = "4:4:4"
    matrices: int | None = None
    transforms: Literal["all", "few"] = "all"

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
        check_choice("avif", "transforms", self.transforms, ("all", "few"))
        if self.matrices is not None:
            check_range("avif", "matrices", self.matrices, 0, 15)

    @property
    def step(self) -> int:
        """The quantiser's step that the quality stands for, from 0 (finest) to 63; qualities share steps."""
        return ((100 - self.quality) * 63 + 50) // 100

    def between(self) -> tuple[avif, ...]:
        """What lies between this quality and the next one with another step, that one first: roughly from many bytes to few.

        Sheets of any of them can stand beside each other: a sheet says itself how it is to be read.
        """
        higher = [q for q in range(self.quality + 1, self.highest + 1) if replace(self, quality=q).step < self.step]
        up = [replace(self, quality=higher[0], matrices=m) for m in (self.matrices, 8, 5, 3, 1)] if higher else []
        return (
            *up,
            *(replace(self, transforms="few", matrices=m) for m in (14, 10, 6, 3)),
            *(replace(self, matrices=m) for m in (12, 9)),
        )

    def pitch(self, channels: int) -> int:
        return 4 if channels == 1 or self.subsampling == "4:4:4" else 8  # AV1's smallest transform is 4 x 4

    def write(self, sheet: np.ndarray) -> bytes:
        # The tuning is named, because libavif's default differs between versions and shifts the scale of quality;
        # one thread and no tiling, because the tiling would follow the number of cores.
        subsampling = "4:0:0" if sheet.ndim == 2 else self.subsampling
        advanced = {"tune": "psnr"}
        if self.matrices is not None:
            advanced |= {"enable-qm": "1", "qm-min": str(self.matrices), "qm-max": str(self.matrices)}
        if self.transforms == "few":
            advanced |= {"reduced-tx-type-set": "1"}
        options: dict[str, Any] = {"codec": "aom", "advanced": advanced, "max_threads": 1, "autotiling": False}
        return write(sheet, "AVIF", quality=self.quality, speed=self.speed, subsampling=subsampling, **options)

    def declared(self, file: bytes) -> tuple[int, int]:
        return frame_size(file)

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
