"""The mutual-information term against loops, its sign and bound, and its place in every method."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ddreplay import ClassPool, CondensedSet, ConvNet, methods
from ddreplay.augment.siamese import Identity
from ddreplay.backbones import Probe
from ddreplay.networks import Banked
from ddreplay.objectives import Look, MutualInformation, Side, Sum
from ddreplay.objectives.mutual_information import calibrated, noise_contrast
from ddreplay.objectives.term import Shared, pick_classes
from ddreplay.randomness import Random

CLASSES, REAL, SYN = 3, 4, 2
MakePool = Callable[..., ClassPool]
NET = ConvNet(width=8)


def network() -> nn.Module:
    with Random(0).scope():
        return nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Conv2d(3, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(32, CLASSES)
        ).double()


def side(x: Tensor, term: MutualInformation, positions: Any = range(CLASSES), chunk: int | None = None) -> Side:
    net, random = network().requires_grad_(False), Random(0)
    look = Look(net, Probe(net, term.taps), Identity().draw((1, 8, 8), random), Identity(), random)
    return Side(look, x, positions, chunk=chunk)


def images(n: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.randn(CLASSES, 1, 1, 8, 8, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    noise = torch.randn(CLASSES, n, 1, 8, 8, generator=generator, dtype=torch.float64)
    return (patterns + 0.5 * noise).flatten(0, 1)


def prepared(**how: Any) -> MutualInformation:
    term = MutualInformation(**{"width": 5, "pooled": None, "images": None, **how})
    with Random(1).scope(), torch.no_grad():
        term.prepare(side(images(SYN, 1), term))
    return term.double()


def value(term: MutualInformation, real: Tensor, syn: Tensor) -> Tensor:
    with torch.no_grad():
        statistic = term.summarise(side(real, term))
    return term.distance(statistic, side(syn, term))


def embed(term: MutualInformation, critic: nn.Module, activation: Tensor) -> Tensor:
    g: Tensor = critic(activation.flatten())
    return g / g.norm() if term.normalise else g


def h_of(term: MutualInformation, inner: float, with_all: list[float]) -> float:
    """The probability that a pair is of one class: with the prior, e^s / (e^s + (C - 1) mean e^s')."""
    e = math.exp(inner / term.temperature)
    if not term.prior:
        return e / (e + 1)
    mean = sum(math.exp(other / term.temperature) for other in with_all) / len(with_all)
    return e / (e + (CLASSES - 1) * mean)


def oracle(term: MutualInformation, real: Tensor, syn: Tensor) -> float:
    """Eq. 2.12 or 2.15, 2.16 and 2.17 pair by pair, with a minus sign."""
    net = network()
    names = ["0", "2", "5"]
    probe = Probe(net, names)
    total = 0.0
    with torch.no_grad():
        a, b = probe(syn).maps, probe(real).maps
        for k, name in enumerate(names, start=1):
            critic = term.critics[k - 1]
            alike, apart = [], []
            for i in range(len(syn)):
                for j in range(len(real)):
                    s, r = embed(term, critic, a[name][i]), embed(term, critic, b[name][j])
                    h = h_of(term, float(s @ r), [float(s @ embed(term, critic, b[name][m])) for m in range(len(real))])
                    if i // SYN == j // REAL:
                        alike.append(math.log(h))
                    else:
                        apart.append(math.log(1 - h))
            nce = sum(alike) / len(alike) + (CLASSES - 1) * sum(apart) / len(apart)
            total += nce / term.beta ** (len(names) - 1 - k)
    return -total


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("prior", [True, False])
def test_it_is_the_equation_pair_by_pair(depth: int, normalise: bool, prior: bool) -> None:
    term = prepared(depth=depth, normalise=normalise, prior=prior, temperature=0.7, beta=1.7)
    real, syn = images(REAL, 2), images(SYN, 3)
    assert float(value(term, real, syn).detach()) == pytest.approx(oracle(term, real, syn), rel=1e-9)


def test_the_gradient_is_right() -> None:
    term, real = prepared(temperature=0.5), images(REAL, 2)
    syn = images(SYN, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: value(term, real, x), syn, fast_mode=True)


def test_an_image_like_any_other_class_guesses_the_prior_and_is_pulled_as_hard_as_it_is_pushed() -> None:
    classes, n = 5, 3
    positive = torch.arange(classes).repeat_interleave(n) == 2
    scores = torch.full((1, classes * n), 4.0, dtype=torch.float64).requires_grad_()
    logits = calibrated(scores, classes)
    torch.testing.assert_close(logits.sigmoid(), torch.full_like(scores, 1 / classes))
    alike = torch.autograd.grad(noise_contrast(logits, positive[None], classes), logits)[0]
    torch.testing.assert_close(alike[:, positive].sum(), -alike[:, ~positive].sum())
    assert float(calibrated(torch.ones(2, 4), 1).abs().max()) == pytest.approx(0, abs=1e-6)  # one class has no prior


def own_class_pull(term: MutualInformation, real: Tensor, syn: Tensor) -> Tensor:
    """The direction in which images come nearer to the real ones of their own class, over all layers."""
    moving = syn.clone().requires_grad_()
    probe = Probe(network(), ["0", "2", "5"])
    seen, fixed = probe(moving).maps, probe(real).maps
    own = torch.arange(len(syn))[:, None] // SYN == torch.arange(len(real)) // REAL
    total = torch.zeros((), dtype=torch.float64)
    for k, name in enumerate(("0", "2", "5"), start=1):
        s, r = (torch.stack([embed(term, term.critics[k - 1], row) for row in maps[name]]) for maps in (seen, fixed))
        total = total + (s @ r.T)[own].mean() / term.beta ** (2 - k)
    return torch.autograd.grad(total, moving)[0].flatten()


def test_images_are_pulled_to_their_own_class_with_the_prior_and_away_from_it_without() -> None:
    real, syn = images(REAL, 2), images(SYN, 3).roll(1, 0)
    cosines = {}
    for prior, temperature in ((True, 0.1), (False, 1.0)):
        found = []
        for seed in range(8):
            with Random(seed).scope(), torch.no_grad():
                term = MutualInformation(width=16, pooled=None, images=None, prior=prior, temperature=temperature)
                term.prepare(side(syn, term))
            moving = syn.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(value(term.double(), real, moving), moving)
            pull = own_class_pull(term, real, syn)
            found.append(float(torch.nn.functional.cosine_similarity(-gradient.flatten(), pull, 0)))
        cosines[prior] = sum(found) / len(found)
    assert cosines[True] > 0.2, cosines
    assert cosines[False] < cosines[True] - 0.3, cosines


def test_never_below_zero_and_above_a_guess_of_even_odds_when_it_errs() -> None:
    scores = torch.tensor([[30.0, -30.0], [-30.0, 30.0]])
    positive = torch.eye(2, dtype=torch.bool)
    assert float(noise_contrast(scores, positive, 2)) == pytest.approx(0, abs=1e-9)
    assert float(noise_contrast(torch.zeros(2, 2), positive, 2)) == pytest.approx(-2 * math.log(2))
    assert float(noise_contrast(-scores, positive, 2)) == pytest.approx(-60)
    for seed in range(5):
        assert float(value(prepared(), images(REAL, seed), images(SYN, seed + 1)).detach()) > 0


@pytest.mark.parametrize("depth", [0, 1])
def test_identical_sets_share_more_than_shuffled_labels(depth: int) -> None:
    term, real = prepared(depth=depth), images(REAL, 2)
    shuffled = real.unflatten(0, (CLASSES, REAL)).roll(1, 0).flatten(0, 1)
    assert value(term, real, real) < value(term, real, shuffled)


def test_descending_it_raises_the_information() -> None:
    term, real = prepared(), images(REAL, 2)
    syn = (0.1 * images(SYN, 3)).requires_grad_()
    first = value(term, real, syn)
    for _ in range(30):
        (gradient,) = torch.autograd.grad(value(term, real, syn), syn)
        syn = (syn - 0.5 * gradient).detach().requires_grad_()
    assert value(term, real, syn) < first


def test_the_order_within_a_class_does_not_matter() -> None:
    term, real, syn = prepared(), images(REAL, 2), images(SYN, 3)
    flipped = [x.unflatten(0, (CLASSES, -1)).flip(1).flatten(0, 1) for x in (real, syn)]
    torch.testing.assert_close(value(term, real, syn), value(term, *flipped))


def test_classes_one_by_one_add_up_and_keep_their_negatives() -> None:
    term, real, syn = prepared(), images(REAL, 2), images(SYN, 3)
    with torch.no_grad():
        statistic = term.summarise(side(real, term))
    assert isinstance(statistic[0], Shared)
    blocks = syn.split(SYN)
    parts = [term.distance(pick_classes(statistic, [k]), side(blocks[k], term, [k])) for k in range(CLASSES)]
    torch.testing.assert_close(torch.stack(parts).sum(), value(term, real, syn))


def test_chunks_and_the_first_images_of_a_class() -> None:
    term, real, syn = prepared(images=2), images(REAL, 2), images(SYN, 3)
    first = real.unflatten(0, (CLASSES, REAL))[:, :2].flatten(0, 1)
    with torch.no_grad():
        chunked = term.summarise(side(real, term, chunk=4))
    torch.testing.assert_close(term.distance(chunked, side(syn, term)), value(prepared(), first, syn))


def test_one_class_has_no_negatives() -> None:
    net, random = network().requires_grad_(False), Random(0)
    term = prepared()
    look = Look(net, Probe(net, term.taps), Identity().draw((1, 8, 8), random), Identity(), random)
    alone = Side(look, images(REAL, 2)[:2], [0])
    assert torch.isfinite(term.distance(term.summarise(alone), alone))


def test_pooled_maps_bound_the_critic() -> None:
    term = MutualInformation(pooled=2, width=5)
    with Random(0).scope(), torch.no_grad():
        term.prepare(side(images(SYN, 1), term))
    assert [critic.in_features for critic in term.critics] == [3 * 4, 2 * 4, CLASSES]  # type: ignore[union-attr]


def test_wrong_arguments_and_missing_critics_are_named() -> None:
    for how in ({"depth": 3}, {"temperature": 0.0}, {"width": 0}, {"layers": "layers"}):
        with pytest.raises(ValueError, match=next(iter(how))):
            MutualInformation(**how)  # type: ignore[arg-type]
    term = MutualInformation()
    with pytest.raises(ValueError, match="prepare"):
        value(term, images(REAL, 2), images(SYN, 3))


METHODS = {
    "dm": methods.dm(NET, steps=3),
    "dm, banked": methods.dm(NET, steps=3, networks=Banked(size=2)),
    "dsac": methods.dsac(NET, rounds=2, loops=(2, 1)),
    "dream": methods.dream(NET, rounds=1, steps=3, images_net=8, batch_real=4, lr=0.1),
    "mtt": methods.mtt(NET, iterations=3, steps=2, latest_start=1, experts=1, inner_lr=0.01),
    "tesla": methods.tesla(NET, iterations=3, steps=2, latest_start=1, experts=1, inner_lr=0.01),
    "bptt": methods.bptt(NET, iterations=3, steps=2, batch=1),
}


def x_of(found: CondensedSet) -> Tensor:
    return found.images().x


@pytest.mark.parametrize("name", METHODS)
def test_it_joins_any_method(name: str, toy_pool: MakePool) -> None:
    method, term = METHODS[name], MutualInformation(width=8, images=4)
    alone, none = method(toy_pool(), 2), method.plus(term, 0.0)(toy_pool(), 2)
    assert torch.equal(x_of(alone), x_of(none))
    with_it = method.plus(term, 0.8)(toy_pool(), 2)
    assert not torch.equal(x_of(alone), x_of(with_it))
    assert alone.nbytes == with_it.nbytes


def test_critics_learn_at_their_own_rate_and_move_no_other_draw(toy_pool: MakePool) -> None:
    base = methods.dm(NET, steps=30, lr=1e-9)
    losses: dict[float, list[float]] = {}
    for lr in (1e-30, 0.01):
        method = replace(base, objective=MutualInformation(width=8, images=4, lr=lr))
        found: list[float] = []
        method(toy_pool(), 2, on_step=lambda _, loss, found=found: found.append(float(loss)))  # type: ignore[misc]
        losses[lr] = found
    assert losses[0.01][0] == losses[1e-30][0]
    assert sum(losses[0.01][-5:]) < sum(losses[1e-30][-5:])
    tiny = base.plus(MutualInformation(width=8, images=4), 1e-30)
    torch.testing.assert_close(x_of(base(toy_pool(), 2)), x_of(tiny(toy_pool(), 2)), atol=1e-6, rtol=0)


def test_critics_learn_alike_whatever_the_weight() -> None:
    real, syn, learned = images(REAL, 2), images(SYN, 3), []
    for weight in (0.01, 1.0, 30.0):
        term = prepared()
        total = Sum([term], [weight])
        optimizer = torch.optim.SGD(total.parameter_groups(), lr=99.0)
        with torch.no_grad():
            statistic = total.summarise(side(real, term))
        for _ in range(5):
            optimizer.zero_grad()
            total.distance(statistic, side(syn, term)).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        learned.append(torch.cat([p.detach().flatten() for p in term.critics.parameters()]))
    start = torch.cat([p.detach().flatten() for p in prepared().critics.parameters()])
    assert not torch.allclose(learned[1], start, atol=1e-3)
    torch.testing.assert_close(learned[0], learned[1])
    torch.testing.assert_close(learned[2], learned[1])


def test_real_images_are_seen_by_the_experts_later_weights() -> None:
    real, syn = images(REAL, 2), images(SYN, 3)
    term = prepared()
    asked = side(real, term)
    with Random(5).scope():
        later = network()
        for weight in later.parameters():
            weight.data.add_(0.1 * torch.randn_like(weight))
    asked.look.target = tuple(p.detach() for p in later.parameters())
    by_later = Side(
        Look(later, Probe(later, term.taps), Identity().draw((1, 8, 8), Random(0)), Identity(), Random(0)),
        real,
        range(CLASSES),
    )
    with torch.no_grad():
        found, wanted, shown = term.summarise(asked), term.summarise(by_later), term.summarise(side(real, term))
        for a, b, c in zip(found[0], wanted[0], shown[0], strict=True):
            torch.testing.assert_close(a, b)
            assert not torch.allclose(a, c)
        term.knowing = False
        torch.testing.assert_close(term.summarise(asked)[0][0], shown[0][0])
    assert torch.isfinite(term.distance(found, side(syn, term)))


def test_a_bank_needs_a_bounded_number_of_images() -> None:
    assert MutualInformation().bankable
    assert not MutualInformation(images=None).bankable
