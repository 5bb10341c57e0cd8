"""A-GEM with any storage policy, against the projection written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.training.storage_policy import ClassBalancedBuffer
from avalanche.training.supervised import Naive
from toy_streams import MEAN, STD, label_free_stream, linear, task_labelled_stream

from ddreplay.avalanche import ReferenceGradientPlugin, RingBuffer

STREAMS = {"labelled": task_labelled_stream, "label-free": lambda: label_free_stream([[0, 1], [2, 3], [4, 5]])}


def ring(**how: Any) -> Any:
    return RingBuffer(**{"images_per_class": 3, "mean": MEAN, "std": STD, "device": "cpu", **how})


def flat(model: Any) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters()])


class Gradients(SupervisedPlugin):  # type: ignore[misc]
    """Notes the gradient of every step as it is before and after the projection."""

    def __init__(self) -> None:
        super().__init__()
        self.raw: list[torch.Tensor] = []
        self.applied: list[torch.Tensor] = []
        self.reference: list[torch.Tensor | None] = []

    def after_backward(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self.raw.append(flat(strategy.model))

    def before_update(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self.applied.append(flat(strategy.model))
        memory = next(p for p in strategy.plugins if isinstance(p, ReferenceGradientPlugin)).storage_policy.buffer
        self.reference.append(None)
        if len(memory):  # a sample of all of it
            items = [memory[k] for k in range(len(memory))]
            x, y = torch.stack([item[0] for item in items]), torch.tensor([item[1] for item in items])
            model = strategy.model
            loss = torch.nn.functional.cross_entropy(model(x), y)
            self.reference[-1] = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


@pytest.mark.parametrize("stream", STREAMS)
def test_a_gradient_against_that_of_the_memory_is_projected(stream: str) -> None:
    model, gradients = linear(), Gradients()
    strategy = Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.3),
        criterion=torch.nn.CrossEntropyLoss(),
        train_mb_size=8,
        train_epochs=3,
        plugins=[gradients, ReferenceGradientPlugin(memory := ring(), sample_size=100)],
        evaluator=None,
    )
    for experience in STREAMS[stream]().train_stream:
        strategy.train(experience)
    assert len(memory.buffer) == 18
    projected = 0
    for before, after, reference in zip(gradients.raw, gradients.applied, gradients.reference, strict=True):
        if reference is None or before @ reference >= 0:
            assert torch.equal(after, before)
        else:
            projected += 1
            torch.testing.assert_close(after, before - reference * (before @ reference) / (reference @ reference))
            assert after @ reference > -1e-4
    assert sum(reference is None for reference in gradients.reference) == 9  # all of the first experience
    assert projected > 3


@pytest.mark.parametrize("memory", [ring, lambda: ClassBalancedBuffer(12)])
def test_a_sample_comes_from_any_policy_without_repetition(memory: Any) -> None:
    plugin = ReferenceGradientPlugin(memory(), sample_size=7)
    model = linear()
    strategy = Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        criterion=torch.nn.CrossEntropyLoss(),
        train_mb_size=8,
        plugins=[plugin],
        evaluator=None,
    )
    strategy.train(task_labelled_stream().train_stream[0])
    held = plugin.storage_policy.buffer
    x = plugin.sample_from_memory()[0]
    assert len(x) == min(7, len(held))
    assert len({image.numpy().tobytes() for image in x}) == len(x)
    assert len({plugin.sample_from_memory()[0].sum().item() for _ in range(20)}) > 1 or len(held) <= 7
    with pytest.raises(ValueError, match="sample_size must be at least 1, got 0"):
        ReferenceGradientPlugin(memory(), sample_size=0)
