"""The picture codecs: JPEG, WebP and AVIF, as Pillow writes them. How sheets are stored: ``sheets.py``."""

from __future__ import annotations

import io
import math
import struct
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, features
from torch import Tensor

from ddreplay.data.space import Shape

_SUBSAMPLING: tuple[Subsampling, ...] = ("4:4:4", "4:2:2", "4:2:0")


Subsampling = Literal["4:4:4", "4:2:2", "4:2:0"]


class CodecUnavailable(RuntimeError):
    """This build of Pillow cannot read and write the picture format."""


def grid(count: int, cell: tuple[int, int], limit: int) -> tuple[int, int]:
    """Rows and columns of a sheet: the smallest divisor of ``count`` that is at least its root, so no cell is empty.

    Where that strip is longer than ``limit`` pixels: as square as can be, the last cells grey.
    Raises:
        ValueError: if the sheet is larger than the format allows.
    """
    rows = next(c for c in range(math.isqrt(count), 0, -1) if count % c == 0)
    root, columns = math.isqrt(count - 1) + 1, count // rows
    if columns * cell[1] > limit:
        columns = root
    rows = -(-count // columns)
    if rows * cell[0] > limit or columns * cell[1] > limit:
        raise ValueError(
            f"a sheet of {count} images of {cell[0]}x{cell[1]} pixels exceeds the format's {limit} pixels a side; "
            "lower the number of images per class or use codec uint8"
        )
    return rows, columns


def to_sheet(images: Float[Tensor, "n c h w"], pitch: int, limit: int) -> UInt8[np.ndarray, "..."]:  # noqa: UP037
    """Images in pixel space (clamped to 0..1, 8 bits) as tiles of one picture [H, W] or [H, W, 3], edges replicated."""
    n, c, h, w = images.shape
    cell = (-(-h // pitch) * pitch, -(-w // pitch) * pitch)
    rows, columns = grid(n, cell, limit)
    pixels = images.detach().cpu().clamp(0, 1).mul(255).round().to(torch.uint8)
    down, across = torch.arange(cell[0]).clamp(max=h - 1), torch.arange(cell[1]).clamp(max=w - 1)
    tiles = pixels.new_full((rows * columns, c, *cell), 128)
    tiles[:n] = pixels[:, :, down][:, :, :, across]
    sheet = tiles.view(rows, columns, c, *cell).permute(0, 3, 1, 4, 2).reshape(rows * cell[0], columns * cell[1], c)
    array: np.ndarray = sheet.squeeze(2).numpy() if c == 1 else sheet.numpy()
    return array


def from_sheet(sheet: np.ndarray, count: int, shape: Shape, pitch: int, limit: int) -> Float[Tensor, "n c h w"]:
    """The inverse of ``to_sheet``: float32 in 0..1."""
    c, h, w = shape
    cell = (-(-h // pitch) * pitch, -(-w // pitch) * pitch)
    rows, columns = grid(count, cell, limit)
    tiles = torch.from_numpy(sheet.copy()).view(rows, cell[0], columns, cell[1], c).permute(0, 2, 4, 1, 3)
    return tiles.reshape(rows * columns, c, *cell)[:count, :, :h, :w].float().div_(255)


def write(sheet: np.ndarray, form: str, **options: Any) -> bytes:
    """One picture file in memory."""
    out = io.BytesIO()
    Image.fromarray(sheet).save(out, form, **options)
    return out.getvalue()


def read(file: bytes, form: str, size: tuple[int, int], channels: int) -> np.ndarray:
    """Pixels of a picture file of known size (width, height), decoded where it declares that size.

    Raises:
        ValueError: on a damaged one, or one of another size.
    """
    try:
        with Image.open(io.BytesIO(file), formats=[form]) as image:
            if image.size != size:
                found = f"a picture of {image.size[0]}x{image.size[1]} pixels instead of {size[0]}x{size[1]}"
            elif image.info.get("progressive") or getattr(image, "n_frames", 1) != 1:
                found = "several scans or frames, which no codec here writes"  # each would cost a whole decoding
            else:
                return np.asarray(image.convert("L" if channels == 1 else "RGB"))
    except Exception as error:  # Pillow's readers raise nearly anything on a damaged file
        raise ValueError(f"stored {form} sheet is damaged: {error}") from error
    raise ValueError(f"stored {form} sheet is damaged: {found}")


def to_tensor(data: bytes) -> UInt8[Tensor, " n"]:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)


def part(stored: Mapping[str, Tensor], key: str) -> Tensor:
    """A stored tensor. Raises ValueError where it is missing."""
    if key not in stored:
        raise ValueError(f"stored lacks the tensor {key!r}; it has {sorted(stored)}")
    return stored[key]


def _bytes(stored: Mapping[str, Tensor], key: str) -> bytes:
    tensor = part(stored, key)
    if tensor.dtype != torch.uint8:
        raise ValueError(f"stored tensor {key!r} must be uint8, got {tensor.dtype}")
    return bytes(tensor.cpu().numpy().tobytes())


def _layouts(counts: Iterable[int]) -> list[int]:
    """Distinct numbers of images, in order of appearance: sheets of one count have one size and share a head."""
    return [n for n in dict.fromkeys(counts) if n > 0]


def _pack(heads: Sequence[bytes], bodies: Sequence[bytes], known: bytes) -> dict[str, Tensor]:
    table = b"".join(struct.pack("<H", len(head)) + head for head in heads)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, known)
    width = max((-(-len(body).bit_length() // 8) for body in bodies), default=0)
    sizes = b"".join(len(body).to_bytes(width, "little") for body in bodies)
    return {
        "shared": to_tensor(deflate.compress(table) + deflate.flush() if heads else b""),
        "sizes": to_tensor(sizes).reshape(len(bodies), width),
        "data": to_tensor(b"".join(bodies)),
    }


def _unpack(stored: Mapping[str, Tensor], counts: Sequence[int], known: bytes) -> tuple[list[bytes], list[bytes]]:
    """The head and the body of every class. Raises ValueError unless every byte is where it should be."""
    sizes, data = _bytes(stored, "sizes"), _bytes(stored, "data")
    if stored["sizes"].dim() != 2 or stored["sizes"].shape[0] != len(counts):
        raise ValueError(f"stored sizes must be [{len(counts)}, width], got {tuple(stored['sizes'].shape)}")
    width = stored["sizes"].shape[1]
    lengths = [int.from_bytes(sizes[i * width : (i + 1) * width], "little") for i in range(len(counts))]
    if sum(lengths) != len(data):
        raise ValueError(f"stored data is damaged: {len(data)} bytes where the sizes add up to {sum(lengths)}")
    ends = np.cumsum([0, *lengths]).tolist()
    heads = _heads(_bytes(stored, "shared"), _layouts(counts), known)
    return [heads.get(n, b"") for n in counts], [data[a:b] for a, b in pairwise(ends)]


def _heads(shared: bytes, layouts: Sequence[int], known: bytes) -> dict[int, bytes]:
    if not layouts and not shared:
        return {}
    bound = max(1, len(layouts) * (2 + 0xFFFF))  # a damaged table cannot ask for more memory than a sound one
    inflate = zlib.decompressobj(-15, zdict=known)
    try:
        table = inflate.decompress(shared, bound)
    except zlib.error as error:
        raise ValueError(f"stored shared heads are damaged: {error}") from error
    if not inflate.eof or inflate.unused_data:
        raise ValueError("stored shared heads are damaged: the deflated data ends too early or too late")
    heads: dict[int, bytes] = {}
    at = 0
    for n in layouts:
        size = int.from_bytes(table[at : at + 2], "little")
        heads[n] = table[at + 2 : at + 2 + size]
        at += 2 + size
    if at != len(table):
        raise ValueError(f"stored shared heads are damaged: {len(table)} bytes where {at} are expected")
    return heads


def check_keep(keep: Sequence[int], classes: int) -> None:
    for position in keep:
        if not 0 <= position < classes:
            raise ValueError(f"class positions must lie in 0..{classes - 1}, got {position}")


@dataclass(frozen=True)
class Pictures(ABC):
    """A codec whose classes are picture files. Subclasses say how a sheet is written and which bytes sheets share."""

    name: ClassVar[str]
    lossy: ClassVar[bool] = True
    bounded: ClassVar[bool] = True
    extension: ClassVar[str]
    form: ClassVar[str]  # Pillow's name of the format
    feature: ClassVar[str]  # Pillow's name of the library behind it
    limit: ClassVar[int]  # longest side in pixels
    known: ClassVar[bytes]  # bytes of a typical head: the dictionary that heads are deflated with
    lowest: ClassVar[int]
    highest: ClassVar[int]

    quality: int

    @abstractmethod
    def pitch(self, channels: int) -> int:
        """Tiles begin at multiples of this many pixels."""

    @abstractmethod
    def write(self, sheet: np.ndarray) -> bytes:
        """A complete picture file."""

    @abstractmethod
    def split(self, file: bytes) -> tuple[bytes, bytes]:
        """(head, body): head is the same for all sheets of one size."""

    @abstractmethod
    def join(self, head: bytes, body: bytes) -> bytes:
        """The inverse of ``split``."""

    def declared(self, file: bytes) -> tuple[int, int] | None:
        """The size (width, height) of what is coded, where the container around it has a size of its own.

        Raises:
            ValueError: when it cannot be told before decoding.
        """
        return None

    def alternative(self, sheets: Sequence[np.ndarray]) -> tuple[bytes, list[bytes]] | None:
        """Another way to store sheets of one size, as a shared head and a body for each; taken where it is smaller."""
        return None

    def plain(self, sheets: Sequence[np.ndarray]) -> tuple[bytes, list[bytes]]:
        """A shared head and a body for each sheet of one size; whole files where their heads differ."""
        files = _map(self.write, sheets)
        pairs = _map(self._try_split, files)
        if len({head for head, _ in pairs}) == 1 and pairs[0][0]:
            return pairs[0][0], [body for _, body in pairs]
        return b"", files

    def _try_split(self, file: bytes) -> tuple[bytes, bytes]:
        """``split``, or no head where another version of the library writes what ``join`` would not give back."""
        try:
            head, body = self.split(file)
            return (head, body) if self.join(head, body) == file else (b"", file)
        except (struct.error, IndexError, ValueError):
            return b"", file

    def spec(self) -> dict[str, Any]:
        return {"name": self.name, **asdict(self)}

    def qualities(self) -> tuple[Pictures, ...]:
        """The family, from the fewest bytes to the most."""
        return tuple(replace(self, quality=q) for q in range(self.lowest, self.highest + 1))

    def encode(self, classes: Sequence[Float[Tensor, "_ c h w"]]) -> dict[str, Tensor]:
        """One sheet for each class; pixels are clamped to 0..1 and become 8 bits."""
        check_images(classes)
        heads, bodies = [], [b""] * len(classes)
        for n in _layouts(len(images) for images in classes):
            members = [i for i, images in enumerate(classes) if len(images) == n]
            pitch = self._pitch(classes[members[0]].shape[1])
            sheets = [to_sheet(classes[i], pitch, self.limit) for i in members]
            ways = [way for way in (self.plain(sheets), self.alternative(sheets)) if way is not None]
            head, parts = min(ways, key=lambda way: sum(t.nbytes for t in _pack([way[0]], way[1], self.known).values()))
            heads.append(head)
            for i, body in zip(members, parts, strict=True):
                bodies[i] = body
        return _pack(heads, bodies, self.known)

    def restored(
        self, stored: Mapping[str, Tensor], counts: Sequence[int], position: int, images: Float[Tensor, "_ c h w"]
    ) -> dict[str, Tensor] | None:
        """What is stored, with one class's images written by this codec in the place of its sheet; ``None`` where its head differs."""
        heads, bodies = _unpack(stored, counts, self.known)
        head, (body,) = self.plain([to_sheet(images, self._pitch(images.shape[1]), self.limit)])
        if head != heads[position]:
            return None
        by_count = dict(zip(counts, heads, strict=True))
        bodies[position] = body
        return _pack([by_count[n] for n in _layouts(counts)], bodies, self.known)

    def decode(self, stored: Mapping[str, Tensor], counts: Sequence[int], shape: Shape) -> list[Tensor]:
        """Images of every class, float32 in 0..1. Raises ValueError where the stored bytes are damaged."""
        c, h, w = shape
        pitch = self._pitch(c)
        heads, bodies = _unpack(stored, counts, self.known)

        def images(position: int) -> Tensor:
            if counts[position] == 0:
                return torch.empty(0, c, h, w)
            rows, columns = grid(counts[position], (-(-h // pitch) * pitch, -(-w // pitch) * pitch), self.limit)
            size = (columns * -(-w // pitch) * pitch, rows * -(-h // pitch) * pitch)
            file = self._file(heads[position], bodies[position])
            self._check_declared(file, size)
            pixels = read(file, self.form, size, c)
            return from_sheet(pixels, counts[position], shape, pitch, self.limit)

        return _map(images, range(len(counts)))

    def select(
        self, stored: Mapping[str, Tensor], counts: Sequence[int], shape: Shape, keep: Sequence[int]
    ) -> dict[str, Tensor]:
        """The stored form of these class positions, in this order; the same bytes, not encoded again."""
        check_keep(keep, len(counts))
        heads, bodies = _unpack(stored, counts, self.known)
        by_count = dict(zip(counts, heads, strict=True))
        kept = [by_count[n] for n in _layouts(counts[i] for i in keep)]
        return _pack(kept, [bodies[i] for i in keep], self.known)

    def picture(self, stored: Mapping[str, Tensor], counts: Sequence[int], shape: Shape, position: int) -> bytes:
        """The picture file of one class."""
        check_keep([position], len(counts))
        if counts[position] == 0:
            raise ValueError(f"the class at position {position} has no images, so there is no picture of it")
        heads, bodies = _unpack(stored, counts, self.known)
        return self._file(heads[position], bodies[position])

    def _file(self, head: bytes, body: bytes) -> bytes:
        try:
            return self.join(head, body) if head else body
        except (struct.error, IndexError, ValueError) as error:
            raise ValueError(f"stored {self.form} sheet is damaged: {error}") from error

    def _check_declared(self, file: bytes, size: tuple[int, int]) -> None:
        try:
            found = self.declared(file)
        except ValueError as error:
            raise ValueError(f"stored {self.form} sheet is damaged: {error}") from error
        if found not in (None, size):
            raise ValueError(f"stored {self.form} sheet is damaged: a frame of {found} pixels instead of {size}")

    def _pitch(self, channels: int) -> int:
        if channels not in (1, 3):
            raise ValueError(f"codec {self.name} takes images of 1 or 3 channels, got {channels}; use codec uint8")
        if not features.check(self.feature):
            raise CodecUnavailable(
                f"this build of Pillow has no {self.form}; pip install -U 'pillow>=11.3', or use codec jpeg"
            )
        return self.pitch(channels)


def check_images(classes: Sequence[Float[Tensor, "_ c h w"]]) -> None:
    """Raises ValueError unless every class is a floating tensor [n, c, h, w] of finite values and of one shape."""
    for i, images in enumerate(classes):
        if images.dim() != 4 or images.shape[1:] != classes[0].shape[1:] or 0 in images.shape[1:]:
            raise ValueError(f"classes must all be [n, c, h, w] of one shape, got {[tuple(x.shape) for x in classes]}")
        if not images.is_floating_point():
            raise ValueError(f"images must be floating point in pixel space 0..1, got {images.dtype}; divide by 255")
        if not torch.isfinite(images).all():
            raise ValueError(f"images of the class at position {i} hold NaN or infinity; only finite values are stored")


def check_range(codec: str, argument: str, value: int, lowest: int, highest: int) -> None:
    if not isinstance(value, int) or not lowest <= value <= highest:
        raise ValueError(f"{argument} of {codec} must be a whole number in {lowest}..{highest}, got {value!r}")


def check_choice(codec: str, argument: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{argument} of {codec} must be one of {', '.join(choices)}, got {value!r}")


def _map(function: Any, items: Sequence[Any]) -> list[Any]:
    """In order; on as many threads as torch may use, since the picture libraries release the interpreter's lock."""
    workers = min(torch.get_num_threads(), len(items))
    if workers <= 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(function, items))
