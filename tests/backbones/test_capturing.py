"""Steps that a GPU replays: which are, and that another network's weights and other images give what the step itself gives."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ddreplay import ClassPool, ConvNet, methods
from ddreplay.backbones import MLP, VGG11, AlexNet, Bfloat16, LeNet, ResNet18, as_factory, capturing
from ddreplay.backbones.capturing import ASKED, KEPT, Captured, captured
from ddreplay.backbones.compiling import plain
from ddreplay.data.chunks import in_memory
from ddreplay.data.pool import Batch
from ddreplay.networks.trained_on_synthetic import train_epoch
from ddreplay.objectives.weight_gradients import OfGroups
from ddreplay.randomness import Random
from ddreplay.training import LabelledImages, PlainSGD, Shuffled, train_network

SHAPE = (1, 8, 8)
GPU = torch.device("cuda")


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
    one.__init__()  # type: ignore[misc]
    yield one
    one.__init__()  # type: ignore[misc]


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
    sizes = [key[-1 - 1][0][1] for key in replays._graphs]  # type: ignore[index]
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


def hooked(net: nn.Module) -> nn.Module:
    net.blocks.register_forward_hook(lambda *_: None)
    return net


@pytest.mark.parametrize(
    "net",
    [nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), network(0, norm="batch"), hooked(network(0))],
    ids=["foreign", "batch norm", "with a hook"],
)
def test_a_network_that_its_description_does_not_tell_is_not_served(net: nn.Module) -> None:
    assert not Captured().serves(net, GPU)


@pytest.mark.parametrize(
    "layer", [nn.RReLU(), nn.InstanceNorm2d(8, track_running_stats=True), nn.AvgPool2d(1), Noise()]
)
def test_a_network_with_a_layer_that_is_not_known_is_not_served(layer: nn.Module) -> None:
    net = network(0)
    net.blocks.append(layer)
    assert not Captured().serves(net, GPU)


@pytest.mark.parametrize(
    "make", [ConvNet(width=8), LeNet(), AlexNet(), VGG11(), ResNet18(), MLP(), Bfloat16(ConvNet(width=8))]
)
def test_the_networks_of_the_literature_are_served_on_a_gpu(make: Any) -> None:
    net = as_factory(make)((3, 32, 32), 3)
    assert Captured().serves(net, GPU)
    assert not Captured().serves(net, torch.device("cpu"))


def test_another_thread_is_not_served() -> None:
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(captured().serves(network(0), GPU)))
    thread.start()
    thread.join()
    assert found == [False]
    assert captured().serves(network(0), GPU)


def test_a_capture_is_on_a_stream_of_its_own_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's default stream for it belongs to the device that captured first."""
    asked: dict[str, Any] = {}

    @contextmanager
    def pretended(*_: Any, **how: Any) -> Iterator[None]:
        asked.update(how)
        yield

    stream = SimpleNamespace(wait_stream=lambda other: None)
    stand_ins: dict[str, Callable[..., Any]] = {
        "CUDAGraph": lambda: SimpleNamespace(replay=lambda: None),
        "Stream": lambda device: asked.update(device=device) or stream,
        "current_stream": lambda device: SimpleNamespace(wait_stream=lambda other: None),
        "stream": lambda stream: nullcontext(),
        "set_stream": lambda stream: None,
        "device": lambda device: nullcontext(),
        "graph": pretended,
    }
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    net, (x, y) = network(0), groups(0)
    graph = capturing._Graph(STEP, net, (x, y))
    assert asked["stream"] is stream
    assert asked["device"] == x.device
    for a, b in zip(graph([p.data for p in net.parameters()], (x, y)), STEP(net, x, y), strict=True):
        torch.testing.assert_close(a, b)


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
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    for _ in range(ASKED + 1):
        replays.of(network(0))(STEP, *groups(0))
    assert len(replays._graphs) == 2


def test_graphs_are_the_first_to_go_where_memory_is_short(replays: Captured) -> None:
    def attempt(chunk: int) -> int:
        if replays._graphs or chunk > 4:
            raise torch.OutOfMemoryError("pretended")
        return chunk

    for chunk in (4, 8):
        for _ in range(ASKED + 1):
            replays.of(network(0))(STEP, *groups(0))
        assert replays._graphs
        assert in_memory(attempt, chunk, torch.device("cpu")) == (4, 4)


def test_training_follows_weights_that_are_frozen_and_thawed(replays: Captured) -> None:
    """Between epochs, as gradual unfreezing does."""

    def trained() -> nn.Module:
        net, (x, y), turns = network(3), groups(0, n=6), {4: True, 9: False}
        net.blocks.requires_grad_(False)

        def after(epoch: int) -> None:
            if epoch in turns:
                net.blocks.requires_grad_(turns[epoch])

        images = LabelledImages.of_batch(Batch(x.flatten(0, 1), y.flatten()))
        train_network(net, images, Shuffled(12), PlainSGD(net, 0.1), Random(1), epochs=14, on_epoch=after)
        return net

    found = trained()
    assert len(replays._graphs) == 2
    replays.works = False
    for a, b in zip(found.parameters(), trained().parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_loss_that_may_change_is_not_replayed(replays: Captured) -> None:
    net, (x, y) = network(0), groups(0)
    images = LabelledImages.of_batch(Batch(x.flatten(0, 1), y.flatten()))
    smooth = nn.CrossEntropyLoss(label_smoothing=0.1)
    train_network(net, images, Shuffled(8), PlainSGD(net, 0.1), Random(1), epochs=6, loss=smooth)
    assert not replays._graphs


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


def test_memory_that_runs_out_in_a_capture_frees_the_graphs_and_the_step_runs_as_it_is(
    replays: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, tried = network(0), []
    for _ in range(ASKED + 1):
        replays.of(net)(STEP, *groups(0))

    def fails(*_: Any) -> Any:
        tried.append(1)
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(capturing, "_Graph", fails)
    x, y = groups(0, n=5)
    for _ in range(ASKED + 3):
        found = replays.of(net)(STEP, x, y)
    assert all(torch.equal(a, b) for a, b in zip(found, STEP(net, x, y), strict=True))
    assert tried == [1]
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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("device", [torch.device("cuda", k) for k in range(torch.cuda.device_count())], ids=str)
def test_on_every_gpu_a_replay_is_the_step(device: torch.device) -> None:
    one = Captured()
    for vectorize in (False, True):
        step = OfGroups("all", plain, vectorize=vectorize)
        x, y = (values.to(device) for values in groups(0))
        for _ in range(ASKED + 1):
            one.of(network(0).to(device))(step, x, y)
        net, (x, y) = network(1).to(device), (values.to(device) for values in groups(1))
        for a, b in zip(one.of(net)(step, x, y), step(net, x, y), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    assert len(one._graphs) == 2
