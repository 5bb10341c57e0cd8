"""Functions of many images, computed a piece at a time: what comes out has a gradient, and one piece's graph is held at most."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from ddreplay.data.chunks import Images

__all__ = ["Pass", "by_pieces"]


class _Span(NamedTuple):
    """A piece of the images: those from ``first`` to ``stop`` pass, and those from ``start`` on count."""

    first: int
    start: int
    stop: int

    @property
    def rows(self) -> slice:
        """All that pass."""
        return slice(self.first, self.stop)


@dataclass(frozen=True)
class Pass:
    """What one pass over class-major images computes.

    see: images [m, c, h, w], and which of all they are -> functions of single images, each [m, ...].
    averaged: for each function, whether its mean over every class is wanted, [classes, ...], or its values, [n, ...].
    classes: equal blocks that the images divide into.
    size: images in a piece.
    even: all pieces are of one size: the last one begins earlier, with images that passed before.
    """

    see: Callable[[Tensor, slice], Sequence[Tensor]]
    averaged: tuple[bool, ...]
    classes: int
    size: int
    even: bool = False

    def over(self, images: Images) -> list[Tensor]:
        """The means and values of these images, without a graph."""
        n = len(images)
        found: list[Any] = [[] for _ in self.averaged]
        with torch.no_grad():
            for span in self._spans(n):
                values = [v[span.start - span.first :] for v in self.see(images[span.rows], span.rows)]
                block = self._blocks(span, n, values[0].device) if any(self.averaged) else None
                for k, (value, mean) in enumerate(zip(values, self.averaged, strict=True)):
                    if not mean:
                        found[k].append(value)
                        continue
                    if isinstance(found[k], list):
                        found[k] = value.new_zeros(self.classes, *value.shape[1:])
                    found[k].index_add_(0, block, value)
        per_class = n // self.classes
        return [f / per_class if mean else torch.cat(f) for f, mean in zip(found, self.averaged, strict=True)]

    def gradient(self, images: Float[Tensor, "n c h w"], given: Sequence[Tensor | None]) -> Float[Tensor, "n c h w"]:
        """The gradient of the images, where ``given`` is that of every mean or value (``None``: nothing depends on it)."""
        n, per_class = len(images), len(images) // self.classes
        out = torch.zeros_like(images)
        for span in self._spans(n):
            piece = images[span.rows].detach().requires_grad_()
            block = self._blocks(span, n, images.device)
            with torch.enable_grad():
                seen = [v[span.start - span.first :] for v in self.see(piece, span.rows)]
            pairs = [
                (value, gradient[block] / per_class if mean else gradient[span.start : span.stop])
                for value, mean, gradient in zip(seen, self.averaged, given, strict=True)
                if gradient is not None and value.requires_grad
            ]
            if pairs:
                values, gradients = zip(*pairs, strict=True)
                (found,) = torch.autograd.grad(values, piece, gradients)
                out[span.start : span.stop] = found[span.start - span.first :]
        return out

    def _spans(self, n: int) -> Iterator[_Span]:
        for start in range(0, n, self.size):
            stop = min(start + self.size, n)
            yield _Span(max(0, stop - self.size) if self.even else start, start, stop)

    def _blocks(self, span: _Span, n: int, device: torch.device) -> Tensor:
        """The class of every image of a piece that counts."""
        return torch.arange(span.start, span.stop, device=device) // (n // self.classes)


def by_pieces(how: Pass, images: Float[Tensor, "n c h w"]) -> list[Tensor]:
    """The means and values of a `Pass`, with a gradient to the images.

    First all pieces without a graph; when the gradients of what came out are known, each piece once more with its own graph, which is
    let go before the next. Exact, for one forward pass more. Weights get no gradient, and it cannot be differentiated again.
    """
    return list(_ByPieces.apply(images, how))


class _ByPieces(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, how: Pass) -> tuple[Tensor, ...]:
        ctx.how = how
        ctx.save_for_backward(images)
        ctx.set_materialize_grads(False)
        return tuple(how.over(images))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *given: Tensor | None) -> tuple[Tensor, None]:
        (images,) = ctx.saved_tensors
        return ctx.how.gradient(images, given), None
