"""A value whose gradient is computed along with it, so that its graph need not be kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["settled"]


def settled(function: Callable[..., Tensor], x: Tensor, *rest: Any) -> Tensor:
    """``function(x, *rest)``, a scalar, with its gradient to ``x`` taken at once and its graph let go.

    A sum over classes of such values holds one class's graph at a time. The gradient cannot be differentiated again.
    """
    if not x.requires_grad:
        return function(x, *rest).detach()
    leaf = x.detach().requires_grad_()
    with torch.enable_grad():
        value = function(leaf, *rest)
        (gradient,) = torch.autograd.grad(value, leaf)
    out: Tensor = _Settled.apply(x, value.detach(), gradient)
    return out


class _Settled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, out: Tensor) -> tuple[Tensor, None, None]:
        if torch.is_grad_enabled():  # only where a graph of the gradient is asked for
            raise RuntimeError(
                "this gradient was taken class by class and has no graph; use vectorize=True to differentiate it again"
            )
        (gradient,) = ctx.saved_tensors
        return out * gradient, None, None
