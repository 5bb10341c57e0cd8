"""Images as selected coefficients of their cosine transform."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from ddreplay.data.pool import ClassPool
from ddreplay.parameterize.form import Form, Init, initial_images
from ddreplay.randomness import Random
from ddreplay.storage.codecs import Codec
from ddreplay.storage.codecs.dct import dct, from_frequencies, to_frequencies

__all__ = [
    "Frequency",
    "FrequencyForm",
]

MOST_IMAGES = 1000  # of a class, that its variances are computed from


@dataclass(frozen=True)
class Frequency:
    """Frequency parameterisation (FreD): images live in a few coefficients of the orthonormal cosine transform.

    For each class the coefficients whose variance over its real images, averaged over channels, is largest are kept, the same for all
    its images and channels; images are the inverse transform. The mean of a channel is always kept.

    Args:
        coefficients: kept frequencies. FreD at 32 x 32: 64 of 1,024, so 16 times as many images for a count of numbers.
        step: of the quantiser of the codec that stores them (`ddreplay.storage.codecs.dct`), in grey levels; a budget in bytes
            chooses its own.
        init: where images start: ``"real"``, ``"noise"``, or what a function gives.
    Departures: coefficients are quantised and entropy-coded, where FreD stores float32. The transform is orthonormal, so a step size on
        pixels is one on coefficients; FreD's is scaled, hence its learning rate of 1e6.
    Reference: Shin et al., "Frequency Domain-based Dataset Distillation", NeurIPS 2023.
    Example:
        >>> Frequency(4)(toy_pool(), 2, Random(0)).decode().shape
        torch.Size([6, 1, 8, 8])
    """

    coefficients: int = 64
    _: KW_ONLY
    step: float = 16.0
    init: Init = "real"

    def __post_init__(self) -> None:
        dct(self.coefficients, self.step)

    @property
    def codec(self) -> dct:
        """What stores it."""
        return dct(self.coefficients, self.step)

    def __call__(self, pool: ClassPool, images_per_class: int, random: Random) -> FrequencyForm:
        mask = selected(pool, self.coefficients)
        images = initial_images(pool, images_per_class, self.init, random)
        return FrequencyForm(images, mask, self.codec)


class FrequencyForm(Form):
    """Coefficients of every image at its class's frequencies."""

    mask: Tensor

    def __init__(self, images: Tensor, mask: Bool[Tensor, "classes f"], codec: dct) -> None:
        super().__init__()
        self.size = (images.shape[2], images.shape[3])
        self.classes, self.codec = len(mask), codec
        self.stored_per_class = self.per_class = len(images) // self.classes
        self.register_buffer("mask", mask)
        found = to_frequencies(images).flatten(2).unflatten(0, (self.classes, -1))
        kept = [x[:, :, m] for x, m in zip(found, mask, strict=True)]
        self.coefficients = nn.Parameter(torch.stack(kept))

    @property
    def images(self) -> Tensor:  # type: ignore[override]
        classes, n, c, _ = self.coefficients.shape
        places = self.mask[:, None, None].expand(classes, n, c, -1)
        full = self.coefficients.new_zeros(places.shape).masked_scatter(places, self.coefficients)
        return from_frequencies(full.flatten(0, 1).unflatten(2, self.size))

    def storage(self, codec: Codec) -> Codec:
        return self.codec


def selected(pool: ClassPool, coefficients: int) -> Bool[Tensor, "classes f"]:
    """The frequencies of largest variance over each class's images, averaged over channels, and the mean."""
    pixels = pool.shape[1] * pool.shape[2]
    mask = torch.zeros(pool.classes, pixels, dtype=torch.bool, device=pool.device)
    start = 0
    for k, n in enumerate(pool.counts):
        rows = torch.arange(start, start + n, device=pool.device)[:: -(-n // MOST_IMAGES)]
        variance = to_frequencies(pool.rows(rows)).var(0, correction=0).mean(0).flatten()
        variance[0] = float("inf")
        mask[k, variance.topk(min(coefficients, pixels)).indices] = True
        start += n
    return mask
