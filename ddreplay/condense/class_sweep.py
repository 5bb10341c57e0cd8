"""One image step per class, all classes computed at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["can_sweep", "sweep_classes"]


def can_sweep(optimizer: torch.optim.Optimizer) -> bool:
    """Whether `sweep_classes` knows this optimiser: SGD in one group, with nothing but momentum and no hooks on its steps."""
    if type(optimizer) is not torch.optim.SGD or len(optimizer.param_groups) != 1:
        return False
    if optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
        return False
    group = optimizer.param_groups[0]
    return not any(group[name] for name in ("dampening", "weight_decay", "nesterov", "maximize"))


def sweep_classes(optimizer: torch.optim.Optimizer, classes: int, descent: Callable[[], Tensor]) -> Tensor:
    """``classes`` steps of SGD with momentum, step k on the loss of class k alone, for the price of one.

    The parameters' first axis goes class by class; ``descent()`` gives the sum of losses of single classes, whose gradient the
    parameters then have. A class moves by
    momentum v alone until its turn, by -lr v sum_{j=1..k} m^j, and from then on by its gradient g and momentum, so with g taken
    where the class stands at its turn, all C classes at once,

        p <- p - lr ( v sum_{j=1..C} m^j + g sum_{j=0..C-1-k} m^j )          v <- m^C v + m^(C-1-k) g

    Returns:
        The loss, of every class at its turn, summed.
    """
    group = optimizer.param_groups[0]
    lr, momentum = group["lr"], group["momentum"]
    parameters: list[Tensor] = group["params"]
    optimizer.zero_grad(set_to_none=True)
    started = [(p.detach().clone(), _velocity(optimizer, p)) for p in parameters]
    turns = range(classes)
    with torch.no_grad():
        for p, (_, v) in zip(parameters, started, strict=True):
            p.sub_(lr * _columns([_geometric(momentum, k + 1) - 1 for k in turns], p) * v)
    value = descent()
    with torch.no_grad():
        for p, (start, v) in zip(parameters, started, strict=True):
            gradient = torch.zeros_like(p) if p.grad is None else p.grad
            gained = _columns([_geometric(momentum, classes - k) for k in turns], p)
            p.copy_(start - lr * ((_geometric(momentum, classes + 1) - 1) * v + gained * gradient))
            kept = _columns([momentum ** (classes - 1 - k) for k in turns], p)
            if momentum:
                optimizer.state[p]["momentum_buffer"] = momentum**classes * v + kept * gradient
    return value.detach()


def _velocity(optimizer: torch.optim.Optimizer, p: Tensor) -> Tensor:
    found = optimizer.state[p].get("momentum_buffer")
    return torch.zeros_like(p) if found is None else found


def _geometric(momentum: float, n: int) -> float:
    """sum_{j=0..n-1} m^j"""
    return sum(momentum**j for j in range(n))


def _columns(values: list[float], like: Tensor) -> Tensor:
    """One number per class, to multiply a class-major tensor with."""
    numbers = torch.tensor(values, dtype=like.dtype).repeat_interleave(len(like) // len(values))
    numbers = numbers.to(like.device, non_blocking=True)  # without waiting for what the device does
    return numbers.view(-1, *[1] * (like.dim() - 1))
