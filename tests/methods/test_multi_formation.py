"""IDC and DREAM: gradients of convolutions, networks that learn from real images, the step size by budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddreplay import ClassPool, ConvNet, methods
from ddreplay.augment.mixing import CutMix
from ddreplay.augment.siamese import DIGITS, Composed, Identity
from ddreplay.backbones import Probe
from ddreplay.condense.optimizer import SGD
from ddreplay.evaluation import PROTOCOLS, Protocol, train
from ddreplay.networks import Context, TrainedOnReal
from ddreplay.networks.real_batches import Representative
from ddreplay.objectives import GradientMatching, Look, Side
from ddreplay.randomness import Random

NET = ConvNet(width=8)
MakePool = Callable[..., ClassPool]


@pytest.mark.parametrize("metric", ["mse", "l1"])
@pytest.mark.parametrize("vectorize", [False, True])
def test_convolutions_alone_are_matched(metric: Any, vectorize: bool) -> None:
    with Random(0).scope():
        net = NET((1, 8, 8), 2).double()
    random = Random(0)
    look = Look(net, Probe(net), Identity().draw((1, 8, 8), random), Identity(), random)
    generator = torch.Generator().manual_seed(1)
    real, syn = (torch.randn(2 * n, 1, 8, 8, generator=generator, dtype=torch.float64) for n in (3, 2))
    term = GradientMatching(metric=metric, layers="conv", vectorize=vectorize)
    found = term.distance(term.summarise(Side(look, real, range(2))), Side(look, syn, range(2)))
    expected = 0.0
    convolutions = [m.weight for m in net.modules() if isinstance(m, nn.Conv2d)]
    for c in range(2):
        sides = []
        for x in (real.chunk(2)[c], syn.chunk(2)[c]):
            loss = F.cross_entropy(net(x), torch.full((len(x),), c))
            sides.append(torch.autograd.grad(loss, convolutions))
        for a, b in zip(*sides, strict=True):
            expected += float((a - b).square().sum() if metric == "mse" else (a - b).abs().sum())
    assert expected > 0
    assert float(found.detach()) == pytest.approx(expected, rel=1e-9)


def test_a_network_without_convolutions_is_refused(toy_pool: MakePool) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    with pytest.raises(ValueError, match="layers='all'"):
        methods.idc(net, rounds=1, steps=1, images_net=8)(toy_pool(), 1)


def networks_of(pool: ClassPool, **how: Any) -> Any:
    context = Context(pool, GradientMatching(), Identity(), 4, Random(0), lambda: pool.draw(1, Random(0)))
    return TrainedOnReal(NET, **{"steps": 3, "images": 9, "batch_size": 4, **how}).start(context)


def weights(net: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def test_the_network_learns_between_steps_and_is_new_every_round(toy_pool: MakePool) -> None:
    networks = networks_of(toy_pool())
    seen = []
    for _ in range(6):
        look, _ = networks.show()
        seen.append((look.round, look.step, weights(look.net).clone()))
        assert all(p.requires_grad for p in look.net.parameters())
        networks.moved()
    assert [(r, s) for r, s, _ in seen] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert len(torch.stack([w for *_, w in seen]).unique(dim=0)) == 6


def test_training_is_sgd_on_real_images_with_its_momentum_kept(toy_pool: MakePool) -> None:
    pool = toy_pool()
    networks = networks_of(pool, images=100, batch_size=100, lr=0.1)
    look, _ = networks.show()
    start = [p.detach().clone() for p in look.net.parameters()]
    with Random(0).scope():
        twin = NET(pool.shape, pool.classes)
    with torch.no_grad():
        for p, w in zip(twin.parameters(), start, strict=True):
            p.copy_(w)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    for _ in range(2):
        networks.moved()
        optimizer.zero_grad()
        F.cross_entropy(twin(pool.all().x), pool.all().y).backward()
        optimizer.step()
    torch.testing.assert_close(weights(networks.trainee.net), weights(twin), rtol=1e-4, atol=1e-5)


def test_mixing_is_used(toy_pool: MakePool) -> None:
    found = []
    for mix in (None, CutMix(p=1.0)):
        networks = networks_of(toy_pool(), mix=mix)
        networks.show()
        networks.moved()
        found.append(weights(networks.trainee.net))
    assert not torch.equal(*found)


def test_the_step_size_grows_with_the_stored_images() -> None:
    images = torch.zeros(6, 1, 2, 2, requires_grad=True)
    for n in (1, 3):
        optimizer = SGD(0.1, per_image=True)([{"params": [images], "stored_per_class": n}])
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * n)


def test_a_gradient_is_shortened_to_its_norm() -> None:
    images = torch.zeros(2, 1, 2, 2, requires_grad=True)
    optimizer = SGD(1.0, 0.0, max_norm=2.0)([{"params": [images], "stored_per_class": 1}])
    images.grad = torch.full_like(images, 5.0)
    optimizer.step()
    assert float(images.detach().norm()) == pytest.approx(2.0, rel=1e-4)


def test_dream_is_idc_with_representative_images() -> None:
    a, b = methods.idc(NET, batch_real=128), methods.dream(NET)
    assert b.draw == Representative(interval=10)
    assert (a.networks, a.augment, a.optimizer, a.steps, a.step_per) == (
        b.networks,
        b.augment,
        b.optimizer,
        b.steps,
        b.step_per,
    )


def test_the_papers_protocol_drops_the_rate_in_place(toy_pool: MakePool) -> None:
    pool = toy_pool()
    x, y = pool.all()
    protocol = Protocol("steps", epochs=6, lr=0.1, batch_size=100, drop=0.2, milestones=(1 / 3, 2 / 3))
    nets = []
    for _ in range(2):
        with Random(0).scope():
            nets.append(NET(pool.shape, pool.classes))
    train(nets[0], x, y, protocol, Random(0))
    optimizer = torch.optim.SGD(nets[1].parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 4], 0.2)
    for _ in range(6):
        optimizer.zero_grad()
        F.cross_entropy(nets[1](x), y).backward()
        optimizer.step()
        schedule.step()
    torch.testing.assert_close(weights(nets[0]), weights(nets[1]), rtol=1e-3, atol=1e-4)


def test_the_papers_protocol_mixes_and_leaves_cutout_out(toy_pool: MakePool) -> None:
    protocol = PROTOCOLS["idc2022"]
    assert protocol.augmentation() == Composed("color_crop_flip_scale_rotate")
    assert protocol.on(DIGITS).augmentation() == Composed("color_crop_scale_rotate")
    pool = toy_pool()
    found = []
    for mix in (0.0, 1.0):
        with Random(0).scope():
            net = NET(pool.shape, pool.classes)
        train(net, *pool.all(), Protocol("mixed", epochs=2, mix=mix, milestones=(0.5,)), Random(0))
        found.append(weights(net))
    assert torch.isfinite(found[1]).all()
    assert not torch.equal(*found)
