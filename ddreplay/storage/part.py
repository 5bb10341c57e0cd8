"""Classes that are stored alike: their stored tensors, and everything needed to use them years later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ddreplay.data.pool import ClassPool
from ddreplay.data.space import Shape, to_network, to_pixels
from ddreplay.storage.codecs.codec import Codec
from ddreplay.storage.codecs.quality import fill
from ddreplay.storage.decoders import Decoder, Plain, Space

__all__ = ["Part", "encode", "overhead"]


@dataclass(frozen=True, eq=False)
class Part:
    """Classes that are stored alike.

    Attributes:
        stored: what the codec made of the images, by name.
        codec: how images became bytes.
        class_ids, class_names, counts: the original label, the name and the number of stored images of every class.
        shape: (channels, height, width) of an image trained on.
        mean, std: network space is (pixel - mean) / std; one number per channel.
        decoder: how stored images become those trained on.
        beside: what the decoder needs beside the images, by name.
        soft_labels: float [images trained on, classes of the part], or None.
    """

    stored: Mapping[str, Tensor]
    codec: Codec
    class_ids: tuple[int, ...]
    class_names: tuple[str, ...]
    counts: tuple[int, ...]
    shape: Shape
    mean: tuple[float, ...]
    std: tuple[float, ...]
    decoder: Decoder = Plain()
    beside: Mapping[str, Tensor] = field(default_factory=dict)
    soft_labels: Tensor | None = None

    @classmethod
    def of_images(
        cls, pool: ClassPool, images: Sequence[Tensor], codec: Codec, max_bytes: int | None = None, **more: Any
    ) -> Part:
        """Images of every class of a pool (network space), stored by a codec.

        Args:
            max_bytes: of the stored images: what the codec leaves of it is filled (`fill`).
            more: other attributes.
        """
        return cls(
            stored=encode(codec, images, pool, max_bytes),
            codec=codec,
            counts=tuple(len(x) for x in images),
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
        return [to_network(x, self.mean, self.std) for x in self.decoder.decode(self._stored_pixels(), self.beside)]

    @property
    def space(self) -> Space | None:
        """The space that networks are to be trained in, where it is not that of the pixels."""
        return self.decoder.space(self.beside)

    def _stored_pixels(self) -> list[Tensor]:
        return self.codec.decode(self.stored, self.counts, self.shape)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that a file holds of this part."""
        known = {
            **_labels(self.class_ids, self.counts),
            "normalisation": torch.tensor([self.mean, self.std], dtype=torch.float32),
        }
        if self.soft_labels is not None:
            known["soft_labels"] = self.soft_labels
        stored = {f"stored.{name}": tensor for name, tensor in self.stored.items()}
        return {**stored, **{f"beside.{name}": tensor for name, tensor in self.beside.items()}, **known}

    @property
    def nbytes(self) -> int:
        """Bytes of all its tensors: stored images, labels, normalisation, decoder parameters."""
        return sum(tensor.nbytes for tensor in self.tensors().values())

    @property
    def images_nbytes(self) -> int:
        """Bytes of the stored images alone."""
        return sum(tensor.nbytes for tensor in self.stored.values())

    def select(self, positions: Sequence[int]) -> Part:
        """These classes alone, not encoded again."""
        keep = list(positions)
        soft = self.soft_labels
        if soft is not None:
            blocks = soft.split([len(x) for x in self.images])
            soft = torch.cat([blocks[k] for k in keep])[:, keep]
        return replace(
            self,
            stored=self.codec.select(self.stored, self.counts, self.shape, keep),
            beside=self.decoder.select(self.beside, keep),
            class_ids=tuple(self.class_ids[k] for k in keep),
            class_names=tuple(self.class_names[k] for k in keep),
            counts=tuple(self.counts[k] for k in keep),
            soft_labels=soft,
        )

    def encoded_anew(self, codec: Codec, limit: int | None = None, max_bytes: int | None = None) -> Part:
        """The first ``limit`` stored images of every class (all, if ``None``) under this codec.

        Args:
            max_bytes: of the stored images: what the codec leaves of it is filled (`fill`).

        Raises:
            ValueError: when an image trained on needs stored ones that fall away.
        """
        blocks, beside, soft = self._stored_pixels(), dict(self.beside), self.soft_labels
        if limit is not None and limit < max(self.counts, default=0):
            blocks = [x[:limit] for x in blocks]
            beside = self.decoder.shorten(self.beside, self.counts, limit)
            if soft is not None:
                of_class = zip(soft.split([len(x) for x in self.images]), self.counts, strict=True)
                soft = torch.cat([block[self.decoder.rows(count, limit)] for block, count in of_class])
        return replace(
            self,
            stored=codec.encode(blocks) if max_bytes is None else fill(codec, blocks, max_bytes),
            beside=beside,
            codec=codec,
            counts=tuple(len(x) for x in blocks),
            soft_labels=soft,
        )


def encode(codec: Codec, images: Sequence[Tensor], pool: ClassPool, max_bytes: int | None = None) -> dict[str, Tensor]:
    """Images of each class in a pool's network space -> what the codec stores; ``max_bytes``: to be filled, where given."""
    pixels = [to_pixels(x.detach().float(), pool.mean, pool.std).cpu() for x in images]
    return codec.encode(pixels) if max_bytes is None else fill(codec, pixels, max_bytes)


def overhead(class_ids: Sequence[int], counts: Sequence[int], channels: int) -> int:
    """Bytes that a part of these classes takes beside images: labels, counts, and normalisation in float32."""
    return sum(tensor.nbytes for tensor in _labels(class_ids, counts).values()) + 2 * 4 * channels


def _labels(class_ids: Sequence[int], counts: Sequence[int]) -> dict[str, Tensor]:
    return {"class_ids": _smallest(class_ids), "counts": _smallest(counts)}


def _float32(values: Sequence[float]) -> tuple[float, ...]:
    """As a file holds them, so that saving and loading changes nothing."""
    return tuple(torch.tensor(values, dtype=torch.float32).tolist())


def _smallest(values: Sequence[int]) -> Tensor:
    """An integer tensor of the smallest type that holds the values."""
    wide = torch.tensor(list(values), dtype=torch.int64)
    for dtype in (torch.uint8, torch.int16, torch.int32):
        if bool((wide.to(dtype).long() == wide).all()):
            return wide.to(dtype)
    return wide
