"""Images condensed through the codec that will store them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ddreplay.data.pool import ClassPool
from ddreplay.data.space import to_network, to_pixels
from ddreplay.parameterize.form import Form, Parameterize
from ddreplay.parameterize.pixels import Pixels
from ddreplay.randomness import Random
from ddreplay.storage.budget import Budget
from ddreplay.storage.codecs import BudgetTooSmall, Codec, fit_quality
from ddreplay.storage.decoders import Decoder

__all__ = [
    "Coded",
    "CodedForm",
]


@dataclass(frozen=True)
class Coded:
    """The networks see what storage will give back; the gradient passes straight through the codec.

        s' = decode(encode(s)),     ds'/ds := 1          s = stored images, expanded afterwards where the form does that

    The set is stored by the same codec, so the images that were matched are those that are replayed. Pixels outside 0..1, which a
    picture cannot hold, get no gradient that leads further out.

    Args:
        codec: any of ``ddreplay.storage.codecs``.
        parameterize: what is stored: ``Pixels()`` (default), ``Partitioned(factor)`` or ``Frequency(...)``.
        every: look at the codec at every so many steps; between, its last error is added to the images as they are.
        bytes_per_class: of the condensed set, labels and normalisation included. The quality (of the codec's family) follows it,
            fitted anew every ``refit`` steps and at the end. ``None``: the codec's own quality.
        refit: steps after which a quality that follows a budget is fitted anew.
    Reference: straight-through gradients, Bengio et al., arXiv 1308.3432. For JPEG in 4:4:4 a model of its coefficients, rounded with
        the same gradient, differs in nothing but rounding: the transforms on both sides of the rounding are inverse to each other.
    Example:
        >>> from ddreplay.storage.codecs import bits
        >>> Coded(bits(2))(toy_pool(), 2, Random(0)).decode().unique().numel() <= 4
        True
    """

    codec: Codec
    parameterize: Parameterize = Pixels()
    _: KW_ONLY
    every: int = 10
    bytes_per_class: int | float | None = None
    refit: int = 100

    def __post_init__(self) -> None:
        if isinstance(self.parameterize, Coded):
            raise TypeError(
                "coded images cannot be coded once more; give Coded what stores images (Pixels, Partitioned, ...)"
            )
        for name, value in (("every", self.every), ("refit", self.refit)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")

    def __call__(self, pool: ClassPool, images_per_class: int, random: Random) -> CodedForm:
        return CodedForm(self.parameterize(pool, images_per_class, random), self, pool)


class CodedForm(Form):
    """Images seen through a codec."""

    residual: Tensor

    def __init__(self, stored: Form, how: Coded, pool: ClassPool) -> None:
        super().__init__()
        self.stored, self.how = stored, how
        self.classes = stored.classes
        self.stored_per_class, self.per_class = stored.stored_per_class, stored.per_class
        self.mean, self.std = pool.mean, pool.std
        counts = (self.stored_per_class,) * self.classes
        room = None if how.bytes_per_class is None else Budget.bytes(how.bytes_per_class).room(pool, counts)
        self.max_bytes = room if room is None else room - sum(tensor.nbytes for tensor in stored.beside().values())
        self.register_buffer("residual", torch.zeros_like(stored.images.detach()))
        self.step, self.quality = 0, -1  # numbers of the host: a tensor would wait for the device at every step
        self._look(fit=True)

    @property
    def codec(self) -> Codec:
        """At the quality of now."""
        return self.how.codec if self.quality < 0 else self.how.codec.qualities()[self.quality]

    def decode(self) -> Float[Tensor, "n c h w"]:
        if torch.is_grad_enabled():
            if self.step and (self.step % self.how.every == 0 or self.step % self.how.refit == 0):
                self._look(fit=self.step % self.how.refit == 0)
            self.step += 1
        shown: Tensor = _Through.apply(self._pixels(), self.residual, self._bounded)
        return self.stored.expand(to_network(shown, self.mean, self.std))

    @property
    def images(self) -> Tensor:  # type: ignore[override]
        return self.stored.images

    def storage(self, codec: Codec) -> Codec:
        return self.how.codec if self.max_bytes is None else self._fitted()

    def beside(self) -> dict[str, Tensor]:
        return self.stored.beside()

    def decoder(self) -> Decoder:
        return self.stored.decoder()

    def get_extra_state(self) -> Tensor:
        return torch.tensor([self.step, self.quality])

    def set_extra_state(self, state: Tensor) -> None:
        self.step, self.quality = state.tolist()

    @property
    def _bounded(self) -> bool:
        return self.how.codec.bounded

    def _pixels(self) -> Tensor:
        return to_pixels(self.stored.images, self.mean, self.std)

    def _blocks(self) -> Sequence[Tensor]:
        return torch.split(self._pixels().detach().float().cpu(), self.stored_per_class)

    def _fitted(self) -> Codec:
        """The highest quality within the budget; the lowest of all where none is."""
        try:
            near = self.codec if self.quality >= 0 else None
            return fit_quality(self.how.codec, self._blocks(), max_bytes=self.max_bytes, near=near)
        except BudgetTooSmall:
            return self.how.codec.qualities()[0]

    def _look(self, *, fit: bool) -> None:
        """Keep the codec's error on the images as they are."""
        if fit and self.max_bytes is not None:
            self.quality = list(self.how.codec.qualities()).index(self._fitted())
        blocks, codec = self._blocks(), self.codec
        _, c, h, w = self.stored.images.shape
        given = torch.cat(codec.decode(codec.encode(blocks), [len(x) for x in blocks], (c, h, w)))
        pixels = self._pixels().detach()
        self.residual.copy_(given.to(pixels.device) - (pixels.clamp(0, 1) if self._bounded else pixels))


class _Through(torch.autograd.Function):
    """Pixels plus the codec's error, with the gradient of the identity; none leads further out of 0..1 where that is the range."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, residual: Tensor, bounded: bool) -> Tensor:
        ctx.save_for_backward(images)
        ctx.bounded = bounded
        return (images.clamp(0, 1) if bounded else images) + residual

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (images,) = ctx.saved_tensors
        if ctx.bounded:
            grad = grad.masked_fill(((images < 0) & (grad > 0)) | ((images > 1) & (grad < 0)), 0.0)
        return grad, None, None
