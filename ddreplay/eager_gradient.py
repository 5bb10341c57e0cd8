"""A value whose gradient is computed along with it, so that its graph need not be kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["settled", "settled_sum", "with_gradient"]


def settled(function: Callable[..., Tensor], x: Tensor, *rest: Any) -> Tensor:
    """``function(x, *rest)``, a scalar, with its gradient to ``x`` taken at once and its graph let go.

    A sum over classes of such values holds one class's graph at a time. The gradient cannot be differentiated again.
    """
    return settled_sum(function, (x,), [rest])


def settled_sum(function: Callable[..., Tensor], inputs: Sequence[Tensor], pieces: Iterable[Sequence[Any]]) -> Tensor:
    """The sum over ``pieces`` of the scalars ``function(*inputs, *piece)``, of which one graph is held at a time.

    The gradients to all ``inputs`` are taken at once, and cannot be differentiated again.
    """
    if not any(x.requires_grad for x in inputs):
        return torch.stack([function(*inputs, *piece).detach() for piece in pieces]).sum()
    leaves = [x.detach().requires_grad_(x.requires_grad) for x in inputs]
    learned = [leaf for leaf in leaves if leaf.requires_grad]
    value, gradients = None, None
    for piece in pieces:
        with torch.enable_grad():
            part = function(*leaves, *piece)
            found = torch.autograd.grad(part, learned)
        value = part.detach() if value is None else value + part.detach()
        gradients = found if gradients is None else tuple(a + b for a, b in zip(gradients, found, strict=True))
    if value is None or gradients is None:
        raise ValueError("a sum over pieces needs at least one piece, got none")
    return with_gradient(value, [x for x in inputs if x.requires_grad], gradients)


def with_gradient(value: Tensor, inputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """``value``, a scalar, with these gradients to ``inputs``; they are constants."""
    out: Tensor = _Settled.apply(value.detach(), len(inputs), *inputs, *gradients)
    return out


class _Settled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, count: int, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(*tensors[count:])
        return value.clone()

    @staticmethod
    def backward(ctx: Any, out: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # only where a graph of the gradient is asked for
            raise RuntimeError(
                "this gradient was taken piece by piece and has no graph; use vectorize=True to differentiate it again"
            )
        gradients = ctx.saved_tensors
        return None, None, *(out * gradient for gradient in gradients), *([None] * len(gradients))
