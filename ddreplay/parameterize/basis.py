"""Addressable memories: images as learned combinations of stored ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ddreplay.data.pool import ClassPool
from ddreplay.parameterize.form import Form, Init, initial_images
from ddreplay.randomness import Random
from ddreplay.storage.decoders import Combinations, combine

__all__ = [
    "Basis",
    "BasisForm",
]

_SPREAD = 0.1  # of the coefficients around the image that each combination starts from


@dataclass(frozen=True)
class Basis:
    """Every image trained on is a combination of the class's stored images (Remember the Past's addressable memories).

        x_{c,j} = sum_r a_{c,j,r} b_{c,r}          b and a are learned and stored; in network space, where 0 is the mean

    The stored images take the distiller's codec, coefficients two bytes each; both are charged.

    Args:
        times: images trained on, as a multiple of the stored ones.
        init: where stored images start. Each combination starts near one of them.
    Raises:
        ValueError: when ``times`` is below 1.
    Departures: a class combines its own stored images alone, where the paper shares them between classes, so that classes can be
        picked, kept and dropped one by one. No penalty on the coefficients.
    Reference: Deng and Russakovsky, "Remember the Past: Distilling Datasets into Addressable Memories for Neural Networks", NeurIPS
        2022.
    Example:
        >>> Basis(times=3)(toy_pool(), 2, Random(0)).decode().shape
        torch.Size([18, 1, 8, 8])
    """

    times: int = 4
    _: KW_ONLY
    init: Init = "real"

    def __post_init__(self) -> None:
        if self.times < 1:
            raise ValueError(f"times must be at least 1, got {self.times}")

    def __call__(self, pool: ClassPool, images_per_class: int, random: Random) -> BasisForm:
        images = initial_images(pool, images_per_class, self.init, random)
        n = self.times * images_per_class
        first = torch.eye(images_per_class, device=pool.device).repeat(self.times, 1)
        noise = torch.randn((pool.classes, n, images_per_class), generator=random.device, device=pool.device)
        return BasisForm(images, first + _SPREAD * noise, pool.mean)


class BasisForm(Form):
    """Stored images, and how they combine."""

    by_class = True

    def __init__(
        self, images: Float[Tensor, "m c h w"], coefficients: Float[Tensor, "classes n r"], mean: Sequence[float]
    ) -> None:
        super().__init__()
        self.images, self.coefficients = nn.Parameter(images), nn.Parameter(coefficients)
        self.mean = tuple(mean)
        self.classes, self.per_class, self.stored_per_class = coefficients.shape

    def expand(self, images: Float[Tensor, "m c h w"]) -> Float[Tensor, "n c h w"]:
        return combine(self.coefficients, images.unflatten(0, (self.classes, self.stored_per_class))).flatten(0, 1)

    def beside(self) -> dict[str, Tensor]:
        return {"coefficients": self.coefficients.detach().to(torch.float16).cpu()}

    def decoder(self) -> Combinations:
        return Combinations(self.mean)
