"""Steps that a GPU replays: which are, and that another network's weights and other images give what the step itself gives."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ddreplay import ClassPool, ConvNet, methods
from ddreplay.backbones import Bfloat16, as_factory, capturing
from ddreplay.backbones.capturing import ASKED, KEPT, Captured, captured
from ddreplay.backbones.compiling import plain
from ddreplay.data.chunks import in_memory
from ddreplay.data.pool import Batch
from ddreplay.networks.trained_on_synthetic import train_epoch
from ddreplay.objectives.weight_gradients import OfGroups
from ddreplay.randomness import Random

SHAPE = (1, 8, 8)


def network(seed: int, **how: Any) -> nn.Module:
    with Random(seed).scope():
        return as_factory(ConvNet(width=8, **how))(SHAPE, 3)


class Noise(nn.Module):
    """A layer of somebody else's, which draws."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)


class ReplayedHere:
    """A graph on the CPU: its own weights and places, as on a GPU; a replay computes the step again into the same outputs."""

    def __init__(self, step: Callable[..., Sequence[Tensor]], net: nn.Module, inputs: Sequence[Tensor]) -> None:
        own = copy.deepcopy(net)
        self.weights = [p.data for p in own.parameters()]
        self.inputs = [x.detach().clone() for x in inputs]
        self.outputs = [found.detach() for found in step(own, *self.inputs)]

        def replay() -> None:
            with torch.enable_grad():
                computed = step(own, *self.inputs)
            for place, found in zip(self.outputs, computed, strict=True):
                place.copy_(found.detach())

        self.graph = SimpleNamespace(replay=replay)

    def __call__(self, weights: list[Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
        with torch.no_grad():
            torch._foreach_copy_(self.weights, weights)
            for place, x in zip(self.inputs, inputs, strict=True):
                place.copy_(x)
            self.graph.replay()
        return self.outputs


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> Iterator[Captured]:
    """The shared `Captured`, which takes every device for a GPU."""
    one = captured()
    monkeypatch.setattr(capturing, "_Graph", ReplayedHere)
    monkeypatch.setattr(Captured, "serves", lambda self, net, device: self.works)
    one._graphs.clear()
    one._asked.clear()
    yield one
    one._graphs.clear()
    one._asked.clear()
    one.works = True


STEP = OfGroups("all", plain, vectorize=False)


def groups(seed: int, n: int = 4) -> tuple[Tensor, Tensor]:
    with Random(seed).scope():
        return torch.randn(2, n, *SHAPE), torch.randint(3, (2, n))


def test_what_is_replayed_is_what_the_step_gives_for_other_weights_and_images(replays: Captured) -> None:
    for _ in range(ASKED + 1):
        replays.of(network(0))(STEP, *groups(0))
    assert len(replays._graphs) == 1
    net, (x, y) = network(1), groups(1)
    found, expected = replays.of(net)(STEP, x, y), STEP(net, x, y)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_a_step_is_captured_only_when_it_was_asked_for_a_few_times(replays: Captured) -> None:
    for n in range(1, 4):
        for _ in range(ASKED):
            replays.of(network(0))(STEP, *groups(0, n=n))
    assert not replays._graphs


def test_architectures_precisions_and_sizes_have_graphs_of_their_own(replays: Captured) -> None:
    nets = [network(0), network(0, activation="sigmoid"), as_factory(Bfloat16(ConvNet(width=8)))(SHAPE, 3)]
    for net in nets:
        for _ in range(ASKED + 1):
            replays.of(net)(STEP, *groups(0))
    for _ in range(ASKED + 1):
        replays.of(nets[0])(STEP, *groups(0, n=5))
    assert len(replays._graphs) == 4


def test_the_graphs_asked_for_last_are_kept(replays: Captured) -> None:
    net = network(0)
    for n in range(1, KEPT + 2):
        for _ in range(ASKED + 1):
            replays.of(net)(STEP, *groups(0, n=n))
    assert len(replays._graphs) == KEPT
    sizes = [key[5][0][1] for key in replays._graphs]  # type: ignore[index]
    assert sizes == list(range(2, KEPT + 2))


def test_a_network_with_another_classifier_than_before_is_another(replays: Captured) -> None:
    net, (x, y) = network(0), groups(0)
    for _ in range(ASKED + 2):
        replays.of(net)(STEP, x, y)
    net.classifier = nn.Linear(net.classifier.in_features, 5)
    for _ in range(ASKED + 2):
        found = replays.of(net)(STEP, x, y)
    assert found[-1].shape == (2, 5)
    for a, b in zip(found, STEP(net, x, y), strict=True):
        torch.testing.assert_close(a, b)


def test_networks_that_mix_or_draw_and_foreign_ones_are_not_replayed() -> None:
    one = Captured()
    gpu = torch.device("cuda")
    assert one.serves(network(0), gpu)
    assert not one.serves(network(0), torch.device("cpu"))
    assert not one.serves(network(0, norm="batch"), gpu)
    assert not one.serves(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), gpu)
    foreign, drawing = network(0), network(0)
    foreign.blocks.append(Noise())
    drawing.blocks.append(nn.RReLU())
    assert not one.serves(foreign, gpu)
    assert not one.serves(drawing, gpu)


def test_steps_of_many_images_run_as_they_are(replays: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capturing, "LARGEST", groups(0)[0].numel() - 1)
    for _ in range(ASKED + 2):
        replays.of(network(0))(STEP, *groups(0))
    assert not replays._graphs


def test_other_settings_of_all_of_pytorch_have_graphs_of_their_own(
    replays: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(ASKED + 1):
        replays.of(network(0))(STEP, *groups(0))
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", not torch.backends.cudnn.allow_tf32)
    for _ in range(ASKED + 1):
        replays.of(network(0))(STEP, *groups(0))
    assert len(replays._graphs) == 2


def test_graphs_go_where_memory_is_short(replays: Captured) -> None:
    for _ in range(ASKED + 1):
        replays.of(network(0))(STEP, *groups(0))

    def attempt(chunk: int) -> int:
        if replays._graphs:
            raise torch.OutOfMemoryError("pretended")
        return chunk

    assert in_memory(attempt, 8, torch.device("cpu")) == (4, 4)


def test_every_thread_has_its_own() -> None:
    found: list[Captured] = []
    thread = threading.Thread(target=lambda: found.append(captured()))
    thread.start()
    thread.join()
    assert found[0] is not captured() is captured()


def test_where_a_capture_fails_steps_go_on_without(
    replays: Captured, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(capturing, "_Graph", fails)
    net, (x, y) = network(0), groups(0)
    for _ in range(ASKED + 2):
        found = replays.of(net)(STEP, x, y)
    assert all(torch.equal(a, b) for a, b in zip(found, STEP(net, x, y), strict=True))
    assert [record.getMessage().startswith("no CUDA graph of") for record in caplog.records] == [True]


def test_memory_that_runs_out_in_a_capture_frees_the_graphs_and_is_told(
    replays: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = network(0)
    for _ in range(ASKED + 1):
        replays.of(net)(STEP, *groups(0))

    def fails(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(capturing, "_Graph", fails)
    for _ in range(ASKED):
        replays.of(net)(STEP, *groups(0, n=5))
    with pytest.raises(torch.OutOfMemoryError):
        replays.of(net)(STEP, *groups(0, n=5))
    assert not replays._graphs
    assert replays.works


def test_training_by_replayed_steps_is_training(replays: Captured) -> None:
    x, y = groups(0, n=6)
    batch = Batch(x.flatten(0, 1), y.flatten())
    trained, expected = network(3), network(3)
    train_epoch(trained, batch, Random(1), lr=0.1, batch_size=12, epochs=2 * ASKED)
    assert len(replays._graphs) == 1
    replays.works = False
    train_epoch(expected, batch, Random(1), lr=0.1, batch_size=12, epochs=2 * ASKED)
    for a, b in zip(trained.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("make", [methods.dsa, methods.dcc, methods.dsac])
def test_condensing_by_replayed_steps_is_condensing(
    make: Callable[..., Any], replays: Captured, toy_pool: Callable[..., ClassPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ddreplay.objectives import gradient_matching

    monkeypatch.setattr(gradient_matching, "_at_once", lambda side: True)
    condenser, pool = make(ConvNet(width=8), rounds=2, loops=(5, 1), batch_real=6), toy_pool()
    found = condenser(pool, 2, seed=1).images().x
    assert (
        len(replays._graphs) == 3 if make is not methods.dcc else 4
    )  # the real side, the synthetic one, the network's training
    replays.works = False
    expected = condenser(pool, 2, seed=1).images().x
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_another_way_of_computing_is_another_step() -> None:
    assert OfGroups("all", plain, vectorize=True) != STEP
    assert hash(OfGroups("all", plain, vectorize=False)) == hash(STEP)
