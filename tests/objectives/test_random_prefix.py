"""A term on the first images of every class too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from ddreplay import ClassPool, ConvNet, dc, dm
from ddreplay.augment import Identity
from ddreplay.backbones import Probe
from ddreplay.networks import Banked
from ddreplay.objectives import Look, MeanEmbedding, RandomPrefix, Side
from ddreplay.objectives.random_prefix import _length
from ddreplay.randomness import Random

MakePool = Callable[..., ClassPool]


class Squares(nn.Module):
    """Whose embedding is the square of every pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.out(x.flatten(1) ** 2)
        return logits


class Flat(nn.Module):
    """Whose embedding is the image itself."""

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        self.out = nn.Linear(64, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.out(x.flatten(1))
        return logits


def look(round: int) -> Look:
    net = Squares().double()
    return Look(net, Probe(net), Identity().draw((1, 2, 2), Random(0)), Identity(), Random(0), round=round)


def test_it_is_the_term_on_all_and_on_the_first_images() -> None:
    torch.manual_seed(0)
    real, syn = torch.randn(12, 1, 2, 2).double(), torch.randn(10, 1, 2, 2).double()
    for round in range(6):
        seen = look(round)
        k = _length(seen, 5)
        means = [(real[6 * c : 6 * c + 6].flatten(1) ** 2).mean(0) for c in range(2)]

        def gap(n: int, means: list[torch.Tensor] = means) -> float:
            return sum(
                float((means[c] - (syn[5 * c : 5 * c + n].flatten(1) ** 2).mean(0)).square().sum()) for c in range(2)
            )

        term = RandomPrefix(MeanEmbedding(), weight=0.3)
        found = float(term.distance(term.summarise(Side(seen, real, [0, 1])), Side(seen, syn, [0, 1])))
        assert found == pytest.approx(0.7 * gap(5) + 0.3 * gap(k), rel=1e-9)


def test_every_length_below_all_comes_and_follows_from_the_step() -> None:
    lengths = [_length(look(k), 4) for k in range(60)]
    assert set(lengths) == {1, 2, 3}
    assert lengths == [_length(look(k), 4) for k in range(60)]


def test_the_first_images_come_nearer_to_the_real_ones(toy_pool: MakePool) -> None:
    pool, means = toy_pool(images_per_class=40), []
    plain = replace(dm(Flat, networks=Banked(size=1), steps=60, lr=0.5), augment=Identity())
    for method in (plain, replace(plain, objective=RandomPrefix(MeanEmbedding()))):
        gaps = 0.0
        for position, x in enumerate(method(pool, 8, seed=1).parts[0].images):
            gaps += float((pool.of_class(position).mean(0) - x[:2].mean(0)).norm())
        means.append(gaps)
    assert means[1] < means[0]


def test_gradients_are_matched_for_the_first_images_too(toy_pool: MakePool) -> None:
    method = dc(ConvNet(width=8), rounds=2, loops=(1, 1))
    found = replace(method, objective=RandomPrefix(method.objective))(toy_pool(), 3)
    assert bool(torch.isfinite(found.images().x).all())
    assert not torch.equal(found.images().x, method(toy_pool(), 3).images().x)


def test_a_run_goes_on_to_the_same_bits(toy_pool: MakePool, tmp_path: object) -> None:
    method = replace(dm(ConvNet(width=8), networks=Banked(size=3), steps=8), objective=RandomPrefix(MeanEmbedding()))
    whole = method(toy_pool(), 4, seed=2)
    path = tmp_path / "ck"  # type: ignore[operator]

    def stop(step: int, loss: torch.Tensor) -> None:
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        method(toy_pool(), 4, seed=2, checkpoint=path, checkpoint_every=2, on_step=stop)
    assert torch.equal(method(toy_pool(), 4, seed=2, checkpoint=path).images().x, whole.images().x)


def test_what_it_refuses() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        RandomPrefix(MeanEmbedding(), weight=1.5)
    sized = MeanEmbedding()
    sized.sized = True
    with pytest.raises(TypeError, match="parameters for every one"):
        RandomPrefix(sized)
