"""What a part stores beside its images, and how stored images become the images trained on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ddreplay.data.pool import ClassPool
from ddreplay.storage.whitening import Whitening

__all__ = [
    "Combinations",
    "Decoder",
    "Plain",
    "Space",
    "Tiles",
    "Whitened",
    "combine",
    "decoder_from_spec",
    "expand_partition",
]

Beside = Mapping[str, Tensor]
"""Tensors that are stored beside the images, by name."""


@runtime_checkable
class Space(Protocol):
    """Another space than that of pixels, in which a set wants networks to be trained and tested."""

    def apply(self, pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Pixels -> this space."""

    def pool(self, pool: ClassPool) -> ClassPool:
        """Real data in this space."""

    def equals(self, other: Any) -> bool:
        """Bit by bit."""


class Decoder(ABC):
    """How what a part stores becomes images again. A frozen dataclass whose fields are JSON; ``name`` is that of the class.

    One of your own is written with the set, and read again by ``CondensedSet.load(path, decoders=[Mine])``.
    """

    name: ClassVar[str]

    def spec(self) -> dict[str, Any]:
        """Name and parameters, as JSON; ``type(self)(**parameters)`` makes it again."""
        return {"name": self.name, **asdict(self)}  # type: ignore[call-overload]

    @abstractmethod
    def decode(self, images: list[Tensor], beside: Beside) -> list[Float[Tensor, "_ c h w"]]:
        """The stored images of every class -> the images trained on, all as pixels.

        Raises:
            ValueError: when what is stored beside them does not fit.
        """

    def decoded(self, counts: Sequence[int], beside: Beside) -> int:
        """How many images so many stored ones of each class become, before any is decoded; by default as many."""
        return sum(counts)

    def select(self, beside: Beside, keep: Sequence[int]) -> dict[str, Tensor]:
        """What is stored beside the images of these class positions alone; by default all of it, as one thing for all classes."""
        return dict(beside)

    def shorten(self, beside: Beside, counts: Sequence[int], limit: int) -> dict[str, Tensor]:
        """What is stored beside the first ``limit`` stored images of every class.

        Raises:
            ValueError: when an image trained on needs more of them.
        """
        return dict(beside)

    def rows(self, count: int, limit: int) -> list[int]:
        """Which of a class's images trained on stem from the first ``limit`` of its ``count`` stored ones, in order."""
        return list(range(min(count, limit)))

    def space(self, beside: Beside) -> Space | None:
        """The space that networks are to be trained in, where it is not that of the pixels."""
        return None


@dataclass(frozen=True)
class Plain(Decoder):
    """Images are stored as they are trained on."""

    name: ClassVar[str] = "plain"

    def decode(self, images: list[Tensor], beside: Beside) -> list[Tensor]:
        return images

    def select(self, beside: Beside, keep: Sequence[int]) -> dict[str, Tensor]:
        return {}


@dataclass(frozen=True)
class Tiles(Decoder):
    """Every stored image holds ``factor`` x ``factor`` smaller ones, which are enlarged (`expand_partition`)."""

    factor: int = 2

    name: ClassVar[str] = "tiles"

    def __post_init__(self) -> None:
        if type(self.factor) is not int or self.factor < 1:
            raise ValueError(f"factor must be a whole number of at least 1, got {self.factor!r}")

    def decoded(self, counts: Sequence[int], beside: Beside) -> int:
        return self.factor**2 * sum(counts)

    def decode(self, images: list[Tensor], beside: Beside) -> list[Tensor]:
        return [expand_partition(x, self.factor) if len(x) else x for x in images]

    def select(self, beside: Beside, keep: Sequence[int]) -> dict[str, Tensor]:
        return {}

    def rows(self, count: int, limit: int) -> list[int]:
        return [tile * count + k for tile in range(self.factor**2) for k in range(min(count, limit))]


@dataclass(frozen=True)
class Combinations(Decoder):
    """Every image trained on is a combination of its class's stored ones; ``coefficients`` float16 [classes, n, r] stand beside them.

    mean: of the pixels, one number per channel: what combinations are taken around.
    """

    mean: Sequence[float]

    name: ClassVar[str] = "combinations"

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(self.mean))  # JSON gives a list

    def decoded(self, counts: Sequence[int], beside: Beside) -> int:
        if "coefficients" not in beside or beside["coefficients"].dim() != 3:
            raise ValueError("combinations need coefficients [classes, n, r] beside their images")
        classes, n, _ = beside["coefficients"].shape
        return int(classes * n)

    def decode(self, images: list[Tensor], beside: Beside) -> list[Tensor]:
        if "coefficients" not in beside or len(beside["coefficients"]) != len(images):
            raise ValueError("combinations need the coefficients of every class beside its images")
        mean = torch.tensor(self.mean, dtype=torch.float32).view(-1, 1, 1)
        return [combine(a.float(), x - mean) + mean for a, x in zip(beside["coefficients"], images, strict=True)]

    def select(self, beside: Beside, keep: Sequence[int]) -> dict[str, Tensor]:
        return {"coefficients": beside["coefficients"][list(keep)]}

    def shorten(self, beside: Beside, counts: Sequence[int], limit: int) -> dict[str, Tensor]:
        raise ValueError(
            "combinations need all of the stored images, which cannot be cut; condense again with fewer images"
        )


@dataclass(frozen=True)
class Whitened(Decoder):
    """What ``inner`` decodes is whitened (ZCA), and the whitening stands beside it; networks are trained in its space."""

    inner: Decoder

    name: ClassVar[str] = "whitened"

    def spec(self) -> dict[str, Any]:
        return {"name": self.name, "inner": self.inner.spec()}

    def decoded(self, counts: Sequence[int], beside: Beside) -> int:
        return self.inner.decoded(counts, self._inner(beside))

    def decode(self, images: list[Tensor], beside: Beside) -> list[Tensor]:
        whitening = Whitening.of_tensors(beside)
        return [whitening.invert(x) for x in self.inner.decode(images, beside)]

    def select(self, beside: Beside, keep: Sequence[int]) -> dict[str, Tensor]:
        return {**self.inner.select(self._inner(beside), keep), **self._own(beside)}

    def shorten(self, beside: Beside, counts: Sequence[int], limit: int) -> dict[str, Tensor]:
        return {**self.inner.shorten(self._inner(beside), counts, limit), **self._own(beside)}

    def rows(self, count: int, limit: int) -> list[int]:
        return self.inner.rows(count, limit)

    def space(self, beside: Beside) -> Space:
        return Whitening.of_tensors(beside)

    def _own(self, beside: Beside) -> dict[str, Tensor]:
        return Whitening.of_tensors(beside).tensors()

    def _inner(self, beside: Beside) -> dict[str, Tensor]:
        own = self._own(beside)
        return {name: tensor for name, tensor in beside.items() if name not in own}


def decoder_from_spec(spec: Mapping[str, Any], more: Sequence[type[Decoder]] = ()) -> Decoder:
    """The decoder that a file names.

    Args:
        more: decoders besides those of this package.
    Raises:
        ValueError: when the name is unknown or the parameters do not fit.
    """
    kinds: list[type[Decoder]] = [*more, Plain, Tiles, Combinations, Whitened]
    known = {kind.name: kind for kind in kinds}
    parameters = dict(spec)
    name = parameters.pop("name", None)
    if name not in known:
        raise ValueError(
            f"the set has a decoder {name!r}, which is none of {', '.join(known)}: it may come from a newer ddreplay, or be "
            "somebody's own: CondensedSet.load(path, decoders=[TheirDecoder])"
        )
    if known[name] is Whitened:
        parameters["inner"] = decoder_from_spec(parameters["inner"], more)
    try:
        return known[name](**parameters)
    except TypeError as error:
        raise ValueError(f"decoder {name} cannot be made of {parameters}: {error}") from error


def combine(
    coefficients: Float[Tensor, "*classes n r"], images: Float[Tensor, "*classes r c h w"]
) -> Float[Tensor, "*classes n c h w"]:
    """Every image trained on as a combination of stored ones."""
    combined: Tensor = (coefficients @ images.flatten(-3)).unflatten(-1, images.shape[-3:])
    return combined


def windows(size: int, factor: int) -> list[slice]:
    """Where the tiles of one side lie: of the rounded-up size, overlapping where ``factor`` does not divide it."""
    tile = -(-size // factor)
    starts = [round(k * (size - tile) / max(factor - 1, 1)) for k in range(factor)]
    return [slice(start, start + tile) for start in starts]


def expand_partition(images: Float[Tensor, "n c h w"], factor: int) -> Float[Tensor, "m c h w"]:
    """Images of one class -> ``factor``^2 times as many enlarged tiles, tile-major, columns of tiles first."""
    if factor == 1:
        return images
    h, w = images.shape[2:]
    tiles = [images[:, :, rows, cols] for cols in windows(w, factor) for rows in windows(h, factor)]
    return F.interpolate(torch.cat(tiles), size=(h, w), mode="bilinear", align_corners=False)
