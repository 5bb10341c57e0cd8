"""What every condenser returns and every consumer takes: a condensed set, and its file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddreplay.data.pool import Batch
from ddreplay.data.space import Shape, to_pixels
from ddreplay.storage.codecs.codec import Codec
from ddreplay.storage.decoders import Decoder, Space
from ddreplay.storage.files import read_whole, write_atomically
from ddreplay.storage.part import Part
from ddreplay.storage.set_file import CondensedFileError, read_set, write_set

__all__ = ["CondensedFileError", "CondensedSet"]

REMEMBERED = 4
"""How many earlier provenances a set keeps, so that a memory's header does not grow with its updates."""

_EARLIER = ("earlier", "earlier_left_out")


@dataclass(frozen=True, eq=False)
class CondensedSet:
    """Images and labels to train on, as they are stored, with everything needed to use them years later.

    Attributes:
        parts: classes stored alike; sets of several experiences are joined by joining their parts.
        provenance: method, every hyper-parameter, seed, steps done, seconds, versions.
    """

    parts: tuple[Part, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ids = [c for part in self.parts for c in part.class_ids]
        if len(ids) != len(set(ids)):
            raise ValueError(
                f"a class stands in two parts of the set: {sorted(c for c in set(ids) if ids.count(c) > 1)}"
            )

    @property
    def class_ids(self) -> tuple[int, ...]:
        """Original class ids, in the order of the images."""
        return tuple(c for part in self.parts for c in part.class_ids)

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(name for part in self.parts for name in part.class_names)

    @property
    def shape(self) -> Shape:
        """(channels, height, width) of the images trained on."""
        if not self.parts:
            raise ValueError("the set is empty: it has no image shape")
        return self.parts[0].shape

    @property
    def stored_images(self) -> int:
        """How many images are paid for."""
        return sum(sum(part.counts) for part in self.parts)

    def __len__(self) -> int:
        """How many images are trained on."""
        return sum(len(x) for part in self.parts for x in part.images)

    @property
    def nbytes(self) -> int:
        """Bytes of stored images, labels, normalisation and decoder parameters: the file without its header."""
        return sum(part.nbytes for part in self.parts)

    def images(self, device: torch.device | str = "cpu") -> Batch:
        """What storage gives back: x in network space, class-major; y the original class ids."""
        blocks = [(c, x) for part in self.parts for c, x in zip(part.class_ids, part.images, strict=True)]
        if not blocks:
            raise ValueError("the set is empty: there are no images in it")
        x = torch.cat([x for _, x in blocks])
        y = torch.cat([torch.full((len(x),), c, dtype=torch.int64) for c, x in blocks])
        return Batch(x.to(device), y.to(device))

    @property
    def space(self) -> Space | None:
        """The space that networks are to be trained in (a whitening); None where it is that of the pixels, or parts differ in it."""
        found = [space for part in self.parts if (space := part.space) is not None]
        return found[0] if found and all(space.equals(found[0]) for space in found) else None

    def in_space(self) -> Batch:
        """Its images in the space that networks are to be trained in, where there is one; else as `images` gives them."""
        batch, space = self.images(), self.space
        if space is None:
            return batch
        blocks = [to_pixels(torch.cat(list(part.images)), part.mean, part.std) for part in self.parts]
        return Batch(space.apply(torch.cat(blocks)), batch.y)

    @property
    def soft_labels(self) -> Tensor | None:
        """Float [images, classes] in the order of the images, or None; columns go by ascending class id.

        Parts without soft labels have their classes' own columns at 1.
        """
        if all(part.soft_labels is None for part in self.parts):
            return None
        column = {c: k for k, c in enumerate(sorted(self.class_ids))}
        blocks = []
        for part in self.parts:
            sizes = torch.tensor([len(x) for x in part.images])
            own = torch.eye(len(sizes)).repeat_interleave(sizes, 0) if part.soft_labels is None else part.soft_labels
            block = own.new_zeros(len(own), len(column))
            block[:, [column[c] for c in part.class_ids]] = own
            blocks.append(block)
        return torch.cat(blocks)

    def select(self, class_ids: Sequence[int]) -> CondensedSet:
        """These classes alone; stored bytes stay as they are."""
        unknown = set(class_ids) - set(self.class_ids)
        if unknown:
            raise ValueError(f"the set has no classes {sorted(unknown)}; it has {list(self.class_ids)}")
        kept = [(part, [k for k, c in enumerate(part.class_ids) if c in set(class_ids)]) for part in self.parts]
        parts = [part if len(k) == len(part.class_ids) else part.select(k) for part, k in kept if k]
        return replace(self, parts=tuple(parts))

    def join(self, other: CondensedSet) -> CondensedSet:
        """Both sets as one; provenance is that of the newer one, with the older under ``"earlier"``.

        The newest `REMEMBERED` of them are kept; ``"earlier_left_out"`` counts the others.
        """
        if not self.provenance:
            return CondensedSet((*self.parts, *other.parts), other.provenance)
        earlier = [*self.provenance.get("earlier", []), {k: v for k, v in self.provenance.items() if k not in _EARLIER}]
        left_out = self.provenance.get("earlier_left_out", 0) + max(0, len(earlier) - REMEMBERED)
        provenance = {**other.provenance, "earlier": earlier[-REMEMBERED:]}
        if left_out:
            provenance["earlier_left_out"] = left_out
        return CondensedSet((*self.parts, *other.parts), provenance)

    def take(self, stored_per_class: int) -> CondensedSet:
        """The first ``stored_per_class`` stored images of every class, encoded again where that is needed."""
        if stored_per_class < 0:
            raise ValueError(f"stored_per_class must be at least 0, got {stored_per_class}")
        return replace(self, parts=tuple(_shorten(part, stored_per_class) for part in self.parts))

    def recode(self, codec: Codec) -> CondensedSet:
        """The same stored images under another codec."""
        return replace(self, parts=tuple(part.encoded_anew(codec) for part in self.parts))

    def save(self, path: str | Path) -> Path:
        """Write a safetensors file, all or nothing.

        Raises:
            OSError: when the folder cannot be written.
        """
        return write_atomically(path, self.to_bytes())

    def to_bytes(self) -> bytes:
        """The file's content."""
        return write_set(self.parts, self.provenance)

    @property
    def header_nbytes(self) -> int:
        """Bytes of the file's header: names, hyper-parameters, provenance. `nbytes` and this make the file."""
        return 8 + int.from_bytes(self.to_bytes()[:8], "little")

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        decoders: Sequence[type[Decoder]] = (),
        codecs: Sequence[type] = (),
        max_decoded: int | None = None,
    ) -> CondensedSet:
        """Read a file written by `save`; nothing in it is ever executed.

        Args:
            decoders, codecs: those of the file that are not of this package.
            max_decoded: bytes that the decoded images may take; ``None``: 256 MiB, or 1024 times the file where that is more.
        Raises:
            CondensedFileError: when it is truncated, tampered with, or something else.
            CodecUnavailable: when this build of Pillow lacks the format that its pictures are in.
        """
        how: dict[str, Any] = {"decoders": decoders, "codecs": codecs, "max_decoded": max_decoded}
        return cls.from_bytes(read_whole(path), str(path), **how)

    @classmethod
    def from_bytes(
        cls,
        payload: bytes,
        source: str = "the data",
        *,
        decoders: Sequence[type[Decoder]] = (),
        codecs: Sequence[type] = (),
        max_decoded: int | None = None,
    ) -> CondensedSet:
        """The same from a file's content; ``source`` names it in errors."""
        parts, provenance = read_set(payload, source, decoders, codecs, max_decoded)
        try:
            return cls(parts, provenance)
        except ValueError as error:
            raise CondensedFileError(f"{source}: {error}") from error


def _shorten(part: Part, limit: int) -> Part:
    if max(part.counts, default=0) <= limit:
        return part
    return part.encoded_anew(part.codec, limit)
