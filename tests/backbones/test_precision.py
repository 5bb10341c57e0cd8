"""Networks in bfloat16: the same names and weights, float32 outside, and close to the network in float32."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from ddreplay import ClassPool, ConvNet, dm, dsa
from ddreplay.backbones import Bfloat16, Probe, ResNet18
from ddreplay.objectives import GramMatching

SHAPE = (3, 16, 16)


def pair(seed: int = 0) -> tuple[torch.nn.Module, torch.nn.Module]:
    nets = []
    for factory in (ConvNet(width=8), Bfloat16(ConvNet(width=8))):
        torch.manual_seed(seed)
        nets.append(factory(SHAPE, 4))
    return nets[0], nets[1]


def test_weights_and_names_are_those_of_the_network() -> None:
    plain, low = pair()
    assert [name for name, _ in low.named_modules()] == [name for name, _ in plain.named_modules()]
    for name, weight in plain.state_dict().items():
        assert torch.equal(weight, low.state_dict()[name])
        assert low.state_dict()[name].dtype == torch.float32


def test_values_and_gradients_are_close_but_not_equal() -> None:
    plain, low = pair()
    x = torch.randn(6, *SHAPE, requires_grad=True)
    values = [Probe(net)(x).embedding for net in (plain, low)]
    gradients = [torch.autograd.grad(v.square().sum(), x)[0] for v in values]
    for (a, b), most in ((values, 0.02), (gradients, 0.2)):  # gradients carry the rounding of every layer
        assert b.dtype == torch.float32
        assert not torch.equal(a, b)
        assert float((a - b).detach().norm() / a.detach().norm()) < most


def test_maps_are_float32_for_the_terms_that_read_them() -> None:
    _, low = pair()
    seen = Probe(low, ("norms",))(torch.randn(2, *SHAPE))
    assert {m.dtype for m in seen.maps.values()} == {torch.float32}


@pytest.mark.parametrize("method", ["dm", "dsa", "gram"])
def test_methods_run_in_it(method: str, toy_pool: Callable[..., ClassPool]) -> None:
    net = Bfloat16(ConvNet(width=8))
    made = {
        "dm": dm(net, steps=3),
        "dsa": dsa(net, rounds=1, loops=(2, 1), batch_real=8),
        "gram": dm(net, steps=3).plus(GramMatching(("norms",)), 10.0),
    }[method]
    moved, start = made(toy_pool(), 1).images().x, dm(net, steps=1, lr=1e-12)(toy_pool(), 1).images().x
    assert moved.isfinite().all()
    assert not torch.equal(moved, start)


def test_other_networks_get_a_clear_error() -> None:
    assert isinstance(Bfloat16(ResNet18())((3, 32, 32), 2), torch.nn.Module)
    own = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 4))
    with pytest.raises(TypeError, match=r"autocast"):
        Bfloat16(own)(SHAPE, 4)
