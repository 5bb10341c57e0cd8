"""Networks that the class-incremental benchmark trains."""

from __future__ import annotations

import pytest
import torch

from benchmarks import trained_networks
from benchmarks.trained_networks import CompiledInTraining, SlimResNet18, trained_network
from ddreplay import ConvNet


def test_avalanches_slim_network_has_a_name_and_takes_its_images_alone() -> None:
    made = trained_network("slim_resnet18")
    assert made == SlimResNet18()
    net = made((3, 32, 32), 7)
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    assert sum(weight.numel() for weight in net.parameters()) < 1_200_000
    with pytest.raises(ValueError, match="take another --net"):
        made((1, 8, 8), 7)
    assert trained_network("convnet(width=8)") == ConvNet(width=8)


def test_whole_batches_in_training_are_compiled_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def noted(net: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        out: torch.Tensor = net(x)
        return out

    monkeypatch.setattr(trained_networks, "compiled", lambda: noted)
    net = CompiledInTraining(ConvNet(width=4)((1, 8, 8), 3), 8).train()
    for size in (8, 5, 24, 12):
        assert net(torch.zeros(size, 1, 8, 8)).shape == (size, 3)
    net.eval()(torch.zeros(8, 1, 8, 8))
    assert sizes == [8, 24]
