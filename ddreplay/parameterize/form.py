"""What is learned: stored numbers of every class, and what images they stand for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ddreplay.data.pool import ClassPool
from ddreplay.randomness import Random
from ddreplay.storage.codecs import Codec
from ddreplay.storage.decoders import Decoder, Plain

__all__ = ["Form", "Parameterize", "XavierNoise"]

Init = Literal["real", "noise"] | Callable[[ClassPool, int, Random], Tensor]
"""Where images start: random real ones, standard normal noise, or what a function of pool, number per class and random gives."""


class Form(nn.Module):
    """Learnable stored numbers of every class, and what images they stand for.

    A form of your own stores images (`images`), tensors beside them (`beside`) and says who puts them together (`decoder`).

    Attributes:
        classes: how many there are. stored_per_class: images that are paid for. per_class: images that are trained on.
        max_bytes: what the stored images may take; ``None``: as many as their codec makes of them.
        images: the stored images, class-major, [classes * stored_per_class, c, h, w], in network space, with a graph to what is learned.
    """

    images: Tensor

    classes: int
    stored_per_class: int
    per_class: int
    max_bytes: int | None = None
    by_class: bool = False
    """Whether the first axis of every parameter goes class by class, and a class's images depend on its own part alone."""

    def decode(self) -> Float[Tensor, "n c h w"]:
        """The images trained on, class-major, in network space, with a graph to the stored numbers."""
        return self.expand(self.images)

    def expand(self, images: Float[Tensor, "m c h w"]) -> Float[Tensor, "n c h w"]:
        """Stored images, class-major -> the images trained on; by default they are the same."""
        return images

    def decoder(self) -> Decoder:
        """What makes the images trained on of the stored ones."""
        return Plain()

    def beside(self) -> dict[str, Tensor]:
        """What the decoder needs beside the stored images; on the CPU, without gradients."""
        return {}

    def storage(self, codec: Codec) -> Codec:
        """The codec that stores the images, where the method's is ``codec``: a form that has its own says so here."""
        return codec


@runtime_checkable
class Parameterize(Protocol):
    """Makes a `Form`, initialised from the pool."""

    def __call__(self, pool: ClassPool, images_per_class: int, random: Random) -> Form: ...


@dataclass(frozen=True)
class XavierNoise:
    """Uniform noise as small as the released code of BPTT starts from: an ``init`` for `Pixels`.

        s ~ U(-a, a)        a = sqrt(6 / (images of all classes + numbers of an image))

    For ten images of 3 x 32 x 32 its standard deviation is 0.025, where that of ``"noise"`` is 1.
    """

    def __call__(self, pool: ClassPool, images_per_class: int, random: Random) -> Float[Tensor, "n c h w"]:
        """Images of every class, class-major."""
        size = (pool.classes * images_per_class, *pool.shape)
        bound = math.sqrt(6 / (size[0] + math.prod(pool.shape)))
        return bound * (2 * torch.rand(size, generator=random.device, device=pool.device) - 1)


def initial_images(pool: ClassPool, n: int, init: Init, random: Random) -> Float[Tensor, "n c h w"]:
    """``n`` images of every class to start from, class-major, in network space."""
    pool = pool.distinct()  # what starts alike stays alike
    if not isinstance(init, str):
        return init(pool, n, random)
    if init == "noise":
        size = (pool.classes * n, *pool.shape)
        return torch.randn(size, generator=random.device, device=pool.device)
    rows = torch.cat([pool.draw_rows(min(n, max(pool.counts)), random) for _ in range(-(-n // max(pool.counts)))], 1)
    return pool.rows(rows[:, :n].flatten()).clone()


def check_init(init: Init) -> None:
    """Raise unless images can start so."""
    if not callable(init) and init not in ("real", "noise"):
        raise ValueError(f"init must be 'real', 'noise' or a function that gives images, got {init!r}")
