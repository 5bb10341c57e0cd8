"""How stored numbers become images: pixels, partitions of an image."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ddreplay.data.pool import ClassPool
from ddreplay.randomness import Random
from ddreplay.storage.codecs import Codec
from ddreplay.storage.part import encode

__all__ = ["Form", "Parameterize"]

Init = Literal["real", "noise"] | Callable[[ClassPool, int, Random], Tensor]


"""Where images start: random real ones, standard normal noise, or what a function of pool, number per class and random gives."""


class Form(nn.Module, abc.ABC):
    """Learnable stored numbers of every class, and what images they stand for.

    classes: how many. stored_per_class: images that are paid for. per_class: images that are trained on.
    """

    classes: int
    stored_per_class: int
    per_class: int
    by_class: bool = False
    """Whether the first axis of every parameter goes class by class, and a class's images depend on its own part alone."""

    @abc.abstractmethod
    def decode(self) -> Float[Tensor, "n c h w"]:
        """The images trained on, class-major, in network space, with a graph to the stored numbers."""

    @abc.abstractmethod
    def pack(self, codec: Codec, pool: ClassPool) -> dict[str, Tensor]:
        """The stored numbers as the tensors a file holds."""

    @abc.abstractmethod
    def layout(self) -> dict[str, Any]:
        """Everything `unpack` needs besides those tensors, as JSON."""

    def storage(self, codec: Codec, pool: ClassPool) -> Codec:
        """The codec to `pack` with, where the method's is ``codec``: a form that has its own says so here."""
        return codec


@runtime_checkable
class Parameterize(Protocol):
    """Makes a `Form`, initialised from the pool."""

    def __call__(self, pool: ClassPool, images_per_class: int, random: Random) -> Form: ...


class ImageForm(Form):
    """A form whose stored numbers are images, or make them; an image codec stores these.

    images: [classes * stored_per_class, c, h, w] in network space, with a graph to the stored numbers.
    """

    images: Tensor

    def expand(self, images: Float[Tensor, "m c h w"]) -> Float[Tensor, "n c h w"]:
        """Stored images, class-major -> the images trained on."""
        return images

    def decode(self) -> Float[Tensor, "n c h w"]:
        return self.expand(self.images)

    def pack(self, codec: Codec, pool: ClassPool) -> dict[str, Tensor]:
        return encode(codec, self.images.detach().split(self.stored_per_class), pool)

    def layout(self) -> dict[str, Any]:
        return {"name": "pixels"}


def initial_images(pool: ClassPool, n: int, init: Init, random: Random) -> Float[Tensor, "n c h w"]:
    if not isinstance(init, str):
        return init(pool, n, random)
    if init == "noise":
        size = (pool.classes * n, *pool.shape)
        return torch.randn(size, generator=random.device, device=pool.device)
    rows = torch.cat([pool.draw_rows(min(n, max(pool.counts)), random) for _ in range(-(-n // max(pool.counts)))], 1)
    return pool.rows(rows[:, :n].flatten()).clone()


def _check_init(init: Init) -> None:
    if not callable(init) and init not in ("real", "noise"):
        raise ValueError(f"init must be 'real', 'noise' or a function that gives images, got {init!r}")
