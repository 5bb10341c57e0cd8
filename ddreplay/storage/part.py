"""What every condenser returns and every consumer takes: a condensed set, and its file."""

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
from ddreplay.storage.decoders import select_beside, unpack

__all__ = ["Part"]


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


def _part_header(part: Part) -> dict[str, Any]:
    return {
        "codec": part.codec.spec(),
        "layout": dict(part.layout),
        "shape": list(part.shape),
        "class_names": list(part.class_names),
        "space": "network = (pixel - mean) / std, pixel in [0, 1], layout n c h w",
    }


def _smallest(values: Sequence[int]) -> Tensor:
    """An integer tensor of the smallest type that holds the values."""
    wide = torch.tensor(list(values), dtype=torch.int64)
    for dtype in (torch.uint8, torch.int16, torch.int32):
        if bool((wide.to(dtype).long() == wide).all()):
            return wide.to(dtype)
    return wide


def encode(codec: Codec, images: Sequence[Tensor], pool: ClassPool) -> dict[str, Tensor]:
    """Images of each class in network space -> what the codec stores."""
    return codec.encode([to_pixels(x.detach().float(), pool.mean, pool.std).cpu() for x in images])
