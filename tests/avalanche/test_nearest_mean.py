"""Classification by the nearest class mean, against loops."""

from __future__ import annotations

import copy

import pytest
import torch
from avalanche.training.supervised import Naive
from torch import nn
from toy_streams import MEAN, STD, label_free_stream, linear, task_labelled_stream

from ddreplay.avalanche import CondensedReplayPlugin, NearestMean, NearestMeanPlugin, RingBuffer

STREAMS = {"labelled": task_labelled_stream, "label-free": lambda: label_free_stream([[0, 1], [2, 3], [4, 5]])}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 6))


def unit(x: torch.Tensor) -> torch.Tensor:
    return x / x.norm()


@pytest.mark.parametrize("chunk", [4, 256])
def test_the_output_is_the_distance_to_the_mean(chunk: int) -> None:
    net = NearestMean(network())
    x, y = torch.randn(12, 1, 8, 8), torch.tensor([4, 1, 4] * 4)
    given = torch.randn(5, 1, 8, 8)
    assert torch.equal(net.eval()(given), net.net(given))  # without means it is the network
    net.train()
    net.remember(x, y, chunk=chunk)
    assert net.training
    out = net.eval()(given)
    body = net.net[:-1].eval()
    for row, image in enumerate(given):
        for label in range(6):
            if label in (1, 4):
                mean = unit(torch.stack([unit(body(one[None])[0]) for one in x[y == label]]).mean(0))
                distance = (unit(body(image[None])[0]) - mean).norm()
                torch.testing.assert_close(out[row, label], -distance, atol=1e-5, rtol=1e-5)
            else:
                assert out[row, label] < -2  # farther than any vector of unit length
    twin = net.train().net
    torch.testing.assert_close(net(given), copy.deepcopy(twin).train()(given))


def test_means_are_no_part_of_the_weights() -> None:
    net = NearestMean(network())
    net.remember(torch.randn(4, 1, 8, 8), torch.tensor([0, 1, 0, 1]))
    assert set(net.state_dict()) == {f"net.{name}" for name in network().state_dict()}
    NearestMean(network()).load_state_dict(net.state_dict())
    twin = copy.deepcopy(net).eval()
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(twin(x), net.eval()(x))
    twin.remember(torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64))
    assert torch.equal(twin(x), net.net(x))


@pytest.mark.parametrize("stream", STREAMS)
def test_the_memory_is_remembered_after_every_experience(stream: str) -> None:
    memory = RingBuffer(images_per_class=4, mean=MEAN, std=STD, device="cpu")
    model = NearestMean(linear())
    strategy = Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=8,
        plugins=[CondensedReplayPlugin(memory), NearestMeanPlugin(memory)],
        evaluator=None,
    )
    old: set[int] = set()
    for experience in STREAMS[stream]().train_stream:
        strategy.train(experience)
        old |= {int(c) for c in experience.dataset.targets}
        assert set(model.labels.tolist()) == old
        x, y = (torch.stack([torch.as_tensor(memory.buffer[i][k]) for i in range(len(memory.buffer))]) for k in (0, 1))
        wanted = copy.deepcopy(model)
        wanted.remember(x, y)
        torch.testing.assert_close(model.means, wanted.means)
        assert (model.eval()(x).argmax(1) == y).float().mean() > 0.9


def test_another_network_is_refused() -> None:
    memory = RingBuffer(images_per_class=4, mean=MEAN, std=STD, device="cpu")
    model = linear()
    strategy = Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        criterion=nn.CrossEntropyLoss(),
        plugins=[NearestMeanPlugin(memory)],
        evaluator=None,
    )
    with pytest.raises(TypeError, match=r"needs a NearestMean\(network\) for a model, got Sequential"):
        strategy.train(task_labelled_stream().train_stream[0])
