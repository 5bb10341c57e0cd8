"""ZCA whitening: pixels without their correlations, and the way back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ddreplay.data.pool import ClassPool

__all__ = ["Whitening"]

_PREFIX = "whitening."


_CHUNK = 2048  # images


@dataclass(frozen=True, eq=False)
class Whitening:
    """z = W (x - mean) of flattened pixels in [0, 1], W = U diag(s) U^T + s_rest (I - U U^T), s = 1 / sqrt(variance + eps).

    mean: [d]. vectors: U, [d, k]. scales: s of the k kept directions, then s_rest, [k + 1].
    """

    mean: Tensor
    vectors: Tensor
    scales: Tensor

    @classmethod
    def fit(cls, pool: ClassPool, *, eps: float = 0.1, rank: int | None = None) -> Whitening:
        """On all images of a pool.

        Args:
            eps: added to every variance; of pixels in [0, 1]. Paper of MTT: 0.1.
            rank: directions of largest variance that are scaled one by one, the rest by their mean variance; ``None``: all.
        """
        if eps <= 0 or (rank is not None and rank < 1):
            raise ValueError(f"eps must be positive and rank at least 1 or None, got {eps} and {rank}")
        d = pool.shape[0] * pool.shape[1] * pool.shape[2]
        total = torch.zeros(d, dtype=torch.float64, device=pool.device)
        products = torch.zeros(d, d, dtype=torch.float64, device=pool.device)
        for rows in torch.arange(len(pool), device=pool.device).split(_CHUNK):
            x = _pixels(pool, rows).double().flatten(1)
            total += x.sum(0)
            products += x.T @ x
        mean = total / len(pool)
        variances, vectors = torch.linalg.eigh(products / len(pool) - mean[:, None] * mean)
        k = d if rank is None else min(rank, d)
        kept, rest = variances.flip(0).clamp_min(0).split([k, d - k])
        spread = torch.cat([kept, rest.mean()[None] if len(rest) else kept.new_zeros(1)])
        scales = (spread + eps).rsqrt()
        return cls(mean.float().cpu(), vectors.flip(1)[:, :k].float().contiguous().cpu(), scales.float().cpu())

    def apply(self, pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Pixels in [0, 1] -> whitened."""
        return self._scaled(pixels.flatten(1) - self.mean.to(pixels.device), self.scales).view_as(pixels)

    def invert(self, whitened: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Whitened -> pixels."""
        flat = self._scaled(whitened.flatten(1), 1 / self.scales) + self.mean.to(whitened.device)
        return flat.view_as(whitened)

    def _scaled(self, flat: Float[Tensor, "n d"], scales: Tensor) -> Float[Tensor, "n d"]:
        vectors, scales = self.vectors.to(flat.device), scales.to(flat.device)
        return scales[-1] * flat + ((flat @ vectors) * (scales[:-1] - scales[-1])) @ vectors.T

    def pool(self, pool: ClassPool) -> ClassPool:
        """The same images, classes and device in whitened space, which takes the place of network space."""
        rows = torch.arange(len(pool), device=pool.device)
        images = torch.cat([self.apply(_pixels(pool, part)) for part in rows.split(_CHUNK)])
        names = dict(zip(pool.class_ids.tolist(), pool.class_names, strict=True))
        how: dict[str, Any] = {"class_names": names, "device": pool.device, "augmentation": pool.augmentation}
        neutral: dict[str, Any] = {"mean": [0.0] * pool.shape[0], "std": [1.0] * pool.shape[0]}
        return ClassPool(images, pool.relabel(pool.all_labels()), **how, **neutral)

    def tensors(self) -> dict[str, Tensor]:
        """What a file holds of it."""
        found = {"mean": self.mean, "vectors": self.vectors, "scales": self.scales}
        return {f"{_PREFIX}{name}": tensor for name, tensor in found.items()}

    @classmethod
    def of_tensors(cls, stored: Mapping[str, Tensor]) -> Whitening:
        """From what a file holds.

        Raises:
            ValueError: when a part is missing, or its parts do not fit each other.
        """
        try:
            mean, vectors, scales = (stored[f"{_PREFIX}{name}"] for name in ("mean", "vectors", "scales"))
        except KeyError as error:
            raise ValueError(
                f"the set is whitened, but its file lacks {error}: its pixels cannot be recovered"
            ) from error
        found = (mean, vectors, scales)
        fit = mean.dim() == scales.dim() == 1 and vectors.shape == (len(mean), len(scales) - 1)
        if (
            not fit
            or not all(t.is_floating_point() and bool(torch.isfinite(t).all()) for t in found)
            or scales.min() <= 0
        ):
            raise ValueError(
                f"a whitening must be finite mean [d], vectors [d, k] and positive scales [k + 1], got {[list(t.shape) for t in found]}"
            )
        return cls(*found)

    def equals(self, other: Whitening) -> bool:
        """Bit by bit."""
        return all(
            a.shape == b.shape and torch.equal(a, b)
            for a, b in zip(self.tensors().values(), other.tensors().values(), strict=True)
        )


def _pixels(pool: ClassPool, rows: Tensor) -> Float[Tensor, "n c h w"]:
    x = pool.rows(rows)
    std, mean = (torch.tensor(v, device=x.device).view(-1, 1, 1) for v in (pool.std, pool.mean))
    return x * std + mean
