"""Taps: groups of layers and patterns, and what they give of every backbone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ddreplay import ConvNet
from ddreplay.backbones import VGG11, Probe, ResNet18


@pytest.mark.parametrize(("net", "norms"), [(ConvNet(width=4), 3), (VGG11(), 8), (ResNet18(), 20)])
def test_groups_of_taps_serve_every_backbone(net: Any, norms: int) -> None:
    module = net((3, 32, 32), 2)
    probe = Probe(module, ("norms", "convolutions"))
    seen = probe(torch.zeros(1, 3, 32, 32))
    assert len(probe.names("norms")) == norms
    assert set(probe.names("norms", "convolutions")) == set(seen.maps)
    assert all(value.dim() == 4 for value in seen.maps.values())


def test_a_pattern_taps_what_it_matches() -> None:
    module = ConvNet(width=4, depth=2)((1, 8, 8), 2)
    assert Probe(module, ("blocks.*.act",)).names("blocks.*.act") == ["blocks.*.act/0", "blocks.*.act/1"]
    with pytest.raises(ValueError, match="does not have"):
        Probe(module, ("blocks.*.nothing",))
