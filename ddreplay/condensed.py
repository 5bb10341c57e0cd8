"""What every condenser returns and every consumer takes: a condensed set, and its file."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ddreplay.codec import Codec, codec_from_spec
from ddreplay.data import Batch, ClassPool, Shape
from ddreplay.parameterize import encode, select_beside, to_network, to_pixels, unpack
from ddreplay.whitening import Whitening

__all__ = ["CondensedFileError", "CondensedSet", "Part"]

FORMAT = 1


class CondensedFileError(ValueError):
    """A file is not a condensed set, or not a whole one."""


@dataclass(frozen=True, eq=False)
class Part:
    """Classes that are stored alike.

    stored: the tensors that are paid for. counts: stored images of every class. shape: of an image trained on.
    mean, std: network space is (pixel - mean) / std. soft_labels: float [images trained on, classes
    of the part], or None.
    """

    stored: Mapping[str, Tensor]
    codec: Codec
    class_ids: tuple[int, ...]
    class_names: tuple[str, ...]
    counts: tuple[int, ...]
    shape: Shape
    mean: tuple[float, ...]
    std: tuple[float, ...]
    layout: Mapping[str, Any] = field(default_factory=lambda: {"name": "pixels"})
    soft_labels: Tensor | None = None

    @classmethod
    def of_images(cls, pool: ClassPool, images: Sequence[Tensor], codec: Codec) -> Part:
        """Images of every class of a pool (network space), stored by a codec."""
        return cls.of_stored(pool, encode(codec, images, pool), codec, tuple(len(x) for x in images))

    @classmethod
    def of_stored(
        cls, pool: ClassPool, stored: Mapping[str, Tensor], codec: Codec, counts: tuple[int, ...], **more: Any
    ) -> Part:
        """What is stored of every class of a pool."""
        return cls(
            stored=stored,
            codec=codec,
            counts=counts,
            class_ids=tuple(pool.class_ids.tolist()),
            class_names=pool.class_names,
            shape=pool.shape,
            mean=_float32(pool.mean),
            std=_float32(pool.std),
            **more,
        )

    @cached_property
    def images(self) -> list[Float[Tensor, "_ c h w"]]:
        """Per class, in network space, on the CPU: what storage gives back."""
        pixels = unpack(self.layout, self.codec, self.stored, self.counts, self.shape)
        return [to_network(x, self.mean, self.std) for x in pixels]

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that a file holds of this part."""
        known = {
            "class_ids": _smallest(self.class_ids),
            "counts": _smallest(self.counts),
            "normalisation": torch.tensor([self.mean, self.std], dtype=torch.float32),
        }
        if self.soft_labels is not None:
            known["soft_labels"] = self.soft_labels
        return {**{f"stored.{name}": tensor for name, tensor in self.stored.items()}, **known}

    @property
    def nbytes(self) -> int:
        """Bytes of all its tensors: stored images, labels, normalisation, decoder parameters."""
        return sum(tensor.nbytes for tensor in self.tensors().values())

    def select(self, positions: Sequence[int]) -> Part:
        """These classes alone, not encoded again."""
        keep = list(positions)
        soft = self.soft_labels
        if soft is not None:
            blocks = soft.split([len(x) for x in self.images])
            soft = torch.cat([blocks[k] for k in keep])[:, keep]
        return replace(
            self,
            stored={
                **self.codec.select(self.stored, self.counts, self.shape, keep),
                **select_beside(self.layout, self.stored, keep),
            },
            class_ids=tuple(self.class_ids[k] for k in keep),
            class_names=tuple(self.class_names[k] for k in keep),
            counts=tuple(self.counts[k] for k in keep),
            soft_labels=soft,
        )

    def encoded_anew(self, codec: Codec, limit: int | None = None) -> Part:
        """The first ``limit`` stored images of every class (all, if ``None``) under this codec.

        Raises:
            ValueError: when images fall away that labels or combinations need.
        """
        blocks = [x[:limit] for x in self.codec.decode(self.stored, self.counts, self.shape)]
        beside = select_beside(self.layout, self.stored, range(len(blocks)))
        soft = self.soft_labels
        if limit is not None and limit < max(self.counts, default=0) and (soft is not None or "coefficients" in beside):
            if soft is None or self.layout["name"] != "pixels":
                raise ValueError(
                    f"a set of layout {self.layout['name']!r} with labels or coefficients for every image trained on cannot be "
                    "shortened; condense again with fewer images"
                )
            soft = torch.cat([block[:limit] for block in soft.split(list(self.counts))])
        stored = {**codec.encode(blocks), **beside}
        return replace(self, stored=stored, codec=codec, counts=tuple(len(x) for x in blocks), soft_labels=soft)


def _float32(values: Sequence[float]) -> tuple[float, ...]:
    """As a file holds them, so that saving and loading changes nothing."""
    return tuple(torch.tensor(values, dtype=torch.float32).tolist())


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
    def whitening(self) -> Whitening | None:
        """The whitening that its images were made under; None where there is none, or parts differ in it."""
        found = [Whitening.of_tensors(part.stored) for part in self.parts if part.layout.get("whitened")]
        return found[0] if found and all(w.equals(found[0]) for w in found) else None

    def whitened(self) -> Batch:
        """Its images in the space of its whitening, where there is one; else as `images` gives them."""
        batch, whitening = self.images(), self.whitening
        if whitening is None:
            return batch
        blocks = [to_pixels(torch.cat(list(part.images)), part.mean, part.std) for part in self.parts]
        return Batch(whitening.apply(torch.cat(blocks)), batch.y)

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
        """Both sets as one; provenance is that of the newer one, with the older under ``"earlier"``."""
        earlier = [*self.provenance.get("earlier", []), {k: v for k, v in self.provenance.items() if k != "earlier"}]
        provenance = {**other.provenance, "earlier": earlier} if self.provenance else other.provenance
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
        path = Path(path)
        payload = self.to_bytes()
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(payload)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        return path

    def to_bytes(self) -> bytes:
        """The file's content."""
        from safetensors.torch import save

        tensors = {
            f"{k}.{name}": t.contiguous() for k, part in enumerate(self.parts) for name, t in part.tensors().items()
        }
        about = {
            "format": FORMAT,
            "parts": [_part_header(part) for part in self.parts],
            "provenance": dict(self.provenance),
            "sha256": _digest(tensors),
        }
        return save(tensors, {"ddreplay": json.dumps(about, default=str)})

    @property
    def header_nbytes(self) -> int:
        """Bytes of the file's header: names, hyper-parameters, provenance. `nbytes` and this make the file."""
        return 8 + int.from_bytes(self.to_bytes()[:8], "little")

    @classmethod
    def load(cls, path: str | Path) -> CondensedSet:
        """Read a file written by `save`; nothing in it is ever executed.

        Raises:
            CondensedFileError: when it is truncated, tampered with, or something else.
        """
        return cls.from_bytes(Path(path).read_bytes(), str(path))

    @classmethod
    def from_bytes(cls, payload: bytes, source: str = "the data") -> CondensedSet:
        """The same from a file's content; ``source`` names it in errors."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            tensors = load(payload)
            length = int.from_bytes(payload[:8], "little")
            metadata = json.loads(payload[8 : 8 + length]).get("__metadata__", {})
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise CondensedFileError(f"{source} is no whole safetensors file with a description ({error})") from error
        if "ddreplay" not in metadata:
            raise CondensedFileError(
                f"{source} is a safetensors file, but no condensed set: its header says nothing of ddreplay"
            )
        try:
            return _read(json.loads(metadata["ddreplay"]), tensors)
        except CondensedFileError as error:
            raise CondensedFileError(f"{source}: {error}") from error
        except (ValueError, KeyError, TypeError, IndexError, RuntimeError) as error:
            raise CondensedFileError(f"{source}: the description does not fit the content ({error!r})") from error


def _part_header(part: Part) -> dict[str, Any]:
    return {
        "codec": part.codec.spec(),
        "layout": dict(part.layout),
        "shape": list(part.shape),
        "class_names": list(part.class_names),
        "space": "network = (pixel - mean) / std, pixel in [0, 1], layout n c h w",
    }


def _read(about: dict[str, Any], tensors: dict[str, Tensor]) -> CondensedSet:
    if about["format"] > FORMAT:
        raise CondensedFileError(f"file format {about['format']} is newer than {FORMAT}: upgrade ddreplay")
    if about["sha256"] != _digest(tensors):
        raise CondensedFileError("the content does not fit its checksum: the file was damaged or tampered with")
    parts = []
    for k, header in enumerate(about["parts"]):
        own = {name.split(".", 1)[1]: t for name, t in tensors.items() if name.split(".", 1)[0] == str(k)}
        mean, std = own["normalisation"].tolist()
        c, h, w = header["shape"]
        part = Part(
            stored={name.removeprefix("stored."): t for name, t in own.items() if name.startswith("stored.")},
            codec=codec_from_spec(header["codec"]),
            class_ids=tuple(own["class_ids"].long().tolist()),
            class_names=tuple(header["class_names"]),
            counts=tuple(own["counts"].long().tolist()),
            shape=(c, h, w),
            mean=tuple(mean),
            std=tuple(std),
            layout=header["layout"],
            soft_labels=own.get("soft_labels"),
        )
        if not len(part.class_ids) == len(part.class_names) == len(part.counts) == len(part.images):
            raise CondensedFileError("the numbers of classes, names, counts and image blocks differ")
        parts.append(part)
    return CondensedSet(tuple(parts), about["provenance"])


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()


def _smallest(values: Sequence[int]) -> Tensor:
    """An integer tensor of the smallest type that holds the values."""
    wide = torch.tensor(list(values), dtype=torch.int64)
    for dtype in (torch.uint8, torch.int16, torch.int32):
        if bool((wide.to(dtype).long() == wide).all()):
            return wide.to(dtype)
    return wide


def _shorten(part: Part, limit: int) -> Part:
    if max(part.counts, default=0) <= limit:
        return part
    return part.encoded_anew(part.codec, limit)
