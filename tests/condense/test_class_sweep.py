"""One step per class, all at once, equals the loop over classes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from ddreplay import ClassPool, ConvNet, methods
from ddreplay.condense.class_sweep import can_sweep, sweep_classes
from ddreplay.condense.optimizer import SGD
from ddreplay.networks import ModelQueue
from ddreplay.parameterize import Partitioned
from ddreplay.parameterize.pixels import PixelForm


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_a_sweep_is_the_loop_in_float64(momentum: float) -> None:
    classes, per, d = 5, 3, 4
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(classes * per, d, generator=generator, dtype=torch.float64)
    target = torch.randn(classes, d, generator=generator, dtype=torch.float64)

    def of_class(p: torch.Tensor, k: int, step: int) -> torch.Tensor:
        block = p[k * per : (k + 1) * per]
        return (block.sin() * (1 + step)).mean(0).sub(target[k]).pow(4).sum() + (block[0] * block[1]).sin().sum()

    looped, swept = (torch.nn.Parameter(start.clone()) for _ in range(2))
    loop, sweep = (torch.optim.SGD([p], lr=0.01, momentum=momentum) for p in (looped, swept))
    for step in range(6):
        total = torch.zeros((), dtype=torch.float64)
        for k in range(classes):
            loop.zero_grad()
            loss = of_class(looped, k, step)
            loss.backward(inputs=[looped])
            loop.step()
            total += loss.detach()

        def whole(step: int = step) -> torch.Tensor:
            value = torch.stack([of_class(swept, k, step) for k in range(classes)]).sum()
            value.backward(inputs=[swept])
            return value.detach()

        found = sweep_classes(sweep, classes, whole)
        torch.testing.assert_close(found, total, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(swept, looped, rtol=1e-12, atol=1e-12)
    if momentum:
        buffers = [o.state_dict()["state"][0]["momentum_buffer"] for o in (loop, sweep)]
        torch.testing.assert_close(buffers[1], buffers[0], rtol=1e-12, atol=1e-12)
    # and it is not the summed step
    summed = torch.nn.Parameter(start.clone())
    plain = torch.optim.SGD([summed], lr=0.01, momentum=momentum)
    for step in range(6):
        plain.zero_grad()
        torch.stack([of_class(summed, k, step) for k in range(classes)]).sum().backward()
        plain.step()
    assert torch.allclose(summed, looped) == (momentum == 0)


@pytest.mark.parametrize("factor", [1, 2])
def test_idm_by_class_is_idm_looped_over_classes(
    factor: int, toy_pool: Callable[..., ClassPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    method = methods.idm(
        ConvNet(width=8),
        networks=ModelQueue(train_steps=2, batch_size=8, push_interval=2),
        parameterize=Partitioned(factor),
        steps=6,
        weight=0.05,
    )
    found = []
    for swept in (True, False):
        monkeypatch.setattr(PixelForm, "by_class", swept)
        losses: list[float] = []
        condensed = method(toy_pool(20), 2, on_step=lambda _, loss, losses=losses: losses.append(float(loss)))
        found.append((condensed.images().x, losses))
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-4)
    torch.testing.assert_close(found[0][0], found[1][0], atol=0.02, rtol=0)  # stored as 8 bits


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p: torch.optim.Adam([p]),
        lambda p: torch.optim.SGD([p], lr=1, weight_decay=0.1),
        lambda p: SGD(max_norm=1.0)([{"params": [p]}]),
        lambda p: torch.optim.SGD([{"params": [p]}, {"params": [p.clone().detach()]}], lr=1),
    ],
)
def test_other_optimisers_are_left_to_the_loop(optimizer: Callable[..., torch.optim.Optimizer]) -> None:
    assert not can_sweep(optimizer(torch.nn.Parameter(torch.zeros(2))))


def test_plain_sgd_is_swept() -> None:
    assert can_sweep(SGD(lr=0.2)([{"params": [torch.nn.Parameter(torch.zeros(2))]}]))
