"""LAMB against its equation, one number after the other."""

from __future__ import annotations

import pytest
import torch

from ddreplay.condense import LAMB


def test_it_is_adam_whose_step_is_as_long_as_the_weights_say() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 2, generator=generator).requires_grad_()
    gradients = [torch.randn(3, 2, generator=generator) for _ in range(4)]
    optimizer = LAMB(lr=0.1, betas=(0.8, 0.9))([{"params": [weight], "stored_per_class": 1}])
    w, m, v = weight.detach().double().clone(), torch.zeros(3, 2).double(), torch.zeros(3, 2).double()
    for t, gradient in enumerate(gradients, start=1):
        weight.grad = gradient.clone()
        optimizer.step()
        for i in range(3):
            for j in range(2):
                m[i, j] = 0.8 * m[i, j] + 0.2 * gradient[i, j]
                v[i, j] = 0.9 * v[i, j] + 0.1 * gradient[i, j] ** 2
        r = (m / (1 - 0.8**t)) / ((v / (1 - 0.9**t)).sqrt() + 1e-6)
        w = w - 0.1 * w.norm() / r.norm() * r
        torch.testing.assert_close(weight.detach().double(), w, rtol=1e-5, atol=1e-6)


def test_a_group_has_its_own_step_and_wrong_values_are_named() -> None:
    a, b = (torch.ones(2, requires_grad=True) for _ in range(2))
    optimizer = LAMB(lr=0.1)([{"params": [a]}, {"params": [b], "lr": 0.2}])
    for weight in (a, b):
        weight.grad = torch.ones(2)
    optimizer.step()
    torch.testing.assert_close(1 - b.detach(), 2 * (1 - a.detach()))
    with pytest.raises(ValueError, match="lr must be positive"):
        LAMB(lr=0.0)
