"""Embeddings and queue training through a compiler give what they give without one."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from ddreplay import ClassPool, ConvNet, evaluate, methods, training
from ddreplay.backbones import Probe, probe
from ddreplay.backbones.compiling import Compiled
from ddreplay.methods import selections
from ddreplay.networks import ModelQueue
from ddreplay.parameterize import Pixels

NET = ConvNet(width=4)
evaluation = importlib.import_module("ddreplay.evaluation")


@pytest.fixture(name="calls")
def _calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Traces without generating code, which would take tens of seconds; notes every batch."""
    traced, calls = Compiled(backend="eager"), []

    def noting(net: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        calls.append(tuple(x.shape))
        return traced(net, x)

    for module in (probe, training, evaluation):
        monkeypatch.setattr(module, "compiled", lambda: noting)
    return calls


def test_a_compiled_probe_sees_the_same(calls: list[tuple[int, ...]]) -> None:
    torch.manual_seed(0)
    net, x = NET((1, 8, 8), 3), torch.randn(5, 1, 8, 8)
    with torch.no_grad():
        fast, slow = Probe(net, compile=True)(x), Probe(net)(x)
    torch.testing.assert_close(fast.embedding, slow.embedding)
    torch.testing.assert_close(fast.logits, slow.logits)
    assert calls == [(5, 1, 8, 8)]


def test_gradients_to_the_images_are_the_same(calls: list[tuple[int, ...]]) -> None:
    net, x = NET((1, 8, 8), 3).requires_grad_(False), torch.randn(5, 1, 8, 8, requires_grad=True)
    fast, slow = (torch.autograd.grad(Probe(net, compile=c)(x).embedding.square().sum(), x)[0] for c in (True, False))
    torch.testing.assert_close(fast, slow)
    assert calls == [(5, 1, 8, 8)]


def test_what_is_differentiated_twice_or_tapped_is_not_compiled(calls: list[tuple[int, ...]]) -> None:
    net, x = NET((1, 8, 8), 3), torch.randn(5, 1, 8, 8)
    Probe(net, compile=True, twice=True)(x)
    with torch.no_grad():
        Probe(net, ("norms",), compile=True)(x)
    assert not calls


def test_evaluation_compiled_is_the_evaluation(
    toy_pool: Callable[..., ClassPool], calls: list[tuple[int, ...]]
) -> None:
    pool, short = toy_pool(), evaluation.PROTOCOLS["dc2021"].scaled(4)
    condensed = selections.random()(pool, 2, seed=0)
    slow = evaluate(condensed, pool, NET, protocol=short, seeds=1)
    assert not calls
    fast = evaluate(condensed, pool, NET, protocol=short, seeds=1, compile=True)
    assert fast.accuracies == slow.accuracies
    assert len(calls) > 4


def test_the_last_chunk_of_a_prediction_is_as_large_as_the_others(
    toy_pool: Callable[..., ClassPool], calls: list[tuple[int, ...]]
) -> None:
    pool, net = toy_pool(), NET((1, 8, 8), 3)
    whole = evaluation.predict(net, pool)
    chunked = evaluation.predict(net, pool, chunk=len(pool) - 1, compile=True)
    assert [shape[0] for shape in calls] == [len(pool) - 1] * 2
    assert torch.equal(whole, chunked)


@pytest.mark.parametrize("name", ["dm", "idm"])
def test_a_method_compiled_is_the_method(
    name: str, toy_pool: Callable[..., ClassPool], calls: list[tuple[int, ...]]
) -> None:
    method = {
        "dm": methods.dm(NET, steps=3),
        "idm": methods.idm(
            NET, steps=3, networks=ModelQueue(train_steps=2, batch_size=8), parameterize=Pixels(), weight=0.05
        ),
    }[name]
    slow = method(toy_pool(), 1).images().x
    assert not calls
    fast = replace(method, compile=True)(toy_pool(), 1).images().x
    assert calls
    torch.testing.assert_close(fast, slow, atol=0.02, rtol=0)  # stored as 8 bits
