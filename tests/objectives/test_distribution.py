"""Terms of distribution matching against loops written from the equations, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ddreplay import ClassPool, ConvNet, methods
from ddreplay.augment.siamese import Identity
from ddreplay.backbones import Probe
from ddreplay.backbones.compiling import plain
from ddreplay.networks import Banked
from ddreplay.objectives import (
    CharacteristicFunction,
    ClassRegulariser,
    GramMatching,
    IntraClassDiversity,
    Look,
    MaximumMeanDiscrepancy,
    MeanEmbedding,
    Side,
    StyleMoments,
    Sum,
    Term,
)
from ddreplay.objectives.intra_class_diversity import neighbour_divergence
from ddreplay.randomness import Random

CLASSES, REAL, SYN = 3, 7, 4
TAPS = ("blocks.0.conv", "blocks.1.norm")


def look(taps: tuple[str, ...] = TAPS, accuracy: float = 0.0, seed: int = 0) -> Look:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = ConvNet(width=3, depth=2)((2, 8, 8), CLASSES).double().requires_grad_(False)
    transform = Identity().draw((2, 8, 8), Random(0))
    return Look(net, Probe(net, taps), transform, Identity(), Random(seed), accuracy=accuracy)


def images(per_class: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(CLASSES * per_class, 2, 8, 8, generator=generator, dtype=torch.float64)


def distance(term: Term, real: Tensor, syn: Tensor, seen: Look | None = None) -> Tensor:
    seen = seen or look(term.taps)
    with torch.no_grad():
        statistic = term.summarise(Side(seen, real, range(CLASSES)))
    return term.distance(statistic, Side(seen, syn, range(CLASSES)))


def classes(values: Tensor) -> list[Tensor]:
    return list(values.split(len(values) // CLASSES))


def moments_of(maps: Tensor) -> tuple[list[float], list[float]]:
    """Spatial mean and standard deviation of every channel of one image's maps [c, h, w], by hand."""
    means, stds = [], []
    for channel in maps:
        values = channel.flatten().tolist()
        mean = sum(values) / len(values)
        variance = sum((v - mean) ** 2 for v in values) / (len(values) - 1)
        means.append(mean)
        stds.append(math.sqrt(variance + 1e-5))
    return means, stds


def mean_over(lists: list[list[float]]) -> list[float]:
    return [sum(column) / len(lists) for column in zip(*lists, strict=True)]


def mse(a: list[float], b: list[float]) -> float:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / len(a)


def style_of_mean_map(real: Tensor, syn: Tensor, seen: Look) -> float:
    total = 0.0
    for name in TAPS:
        pairs = zip(classes(seen.probe(real).maps[name]), classes(seen.probe(syn).maps[name]), strict=True)
        for r, s in pairs:
            (mr, sr), (ms, ss) = moments_of(sum(r) / len(r)), moments_of(sum(s) / len(s))
            total += 0.5 * (mse(mr, ms) + mse(sr, ss))
    return total / len(TAPS)


def style_of_images(real: Tensor, syn: Tensor, seen: Look, relative: bool = False) -> float:
    total = 0.0
    for name in TAPS:
        pairs = zip(classes(seen.probe(real).maps[name]), classes(seen.probe(syn).maps[name]), strict=True)
        for r, s in pairs:
            mr, sr = (mean_over(list(part)) for part in zip(*[moments_of(x) for x in r], strict=True))
            ms, ss = (mean_over(list(part)) for part in zip(*[moments_of(x) for x in s], strict=True))
            error = 0.5 * (mse(mr, ms) + mse(sr, ss))
            total += error / (0.5 * (mse(mr, [0] * 3) + mse(sr, [0] * 3))) if relative else error
    return total / len(TAPS)


def gram_distance(real: Tensor, syn: Tensor, seen: Look) -> float:
    def mean_gram(maps: Tensor) -> list[list[float]]:
        n, c, h, w = maps.shape
        return [
            [sum(float((image[i] * image[j]).sum()) for image in maps) / (n * c * h * w) for j in range(c)]
            for i in range(c)
        ]

    total = 0.0
    for name in TAPS:
        pairs = zip(classes(seen.probe(real).maps[name]), classes(seen.probe(syn).maps[name]), strict=True)
        for r, s in pairs:
            a, b = mean_gram(r), mean_gram(s)
            total += sum((x - y) ** 2 for p, q in zip(a, b, strict=True) for x, y in zip(p, q, strict=True))
    return total / len(TAPS)


def diversity(real: Tensor, syn: Tensor, seen: Look, neighbours: int = 2) -> float:
    total = 0.0
    for features in classes(seen.probe(syn).embedding):
        for i in range(len(features)):
            others = [j for j in range(len(features)) if j != i]
            others.sort(key=lambda j: float((features[i] - features[j]).square().sum()))
            mean = sum(features[j] for j in others[:neighbours]) / neighbours
            p, q = features[i].softmax(0).tolist(), mean.softmax(0).tolist()
            total -= sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return total


def regulariser(real: Tensor, syn: Tensor, seen: Look) -> float:
    total = 0.0
    for label, logits in enumerate(classes(seen.probe(syn).logits)):
        losses = [-math.log(float(row.softmax(0)[label])) for row in logits]
        total += 100 * float(seen.accuracy) * sum(losses) / len(losses)
    return total


def kernel(real: Tensor, syn: Tensor, seen: Look) -> float:
    total = 0.0
    sides = zip(classes(seen.probe(real).embedding), classes(seen.probe(syn).embedding), strict=True)
    for r, s in sides:
        gaps = [float((a - b).square().sum()) for i, a in enumerate(r) for j, b in enumerate(r) if i != j]
        width = sum(gaps) / len(gaps)

        def k(a: Tensor, b: Tensor, width: float = width) -> float:
            gap = float((a - b).square().sum())
            return (math.exp(-gap / (0.5 * width)) + math.exp(-gap / (2.0 * width))) / 2

        def mean(x: Tensor, y: Tensor, k: Callable[[Tensor, Tensor], float] = k) -> float:
            return sum(k(a, b) for a in x for b in y) / (len(x) * len(y))

        total += mean(r, r) + mean(s, s) - 2 * mean(r, s)
    return total


def characteristic(real: Tensor, syn: Tensor, seen: Look) -> float:
    sides = [seen.probe(x).embedding for x in (real, syn)]
    (frequencies,) = seen._kept.values()  # drawn by the term when it looked
    total = 0.0
    for r, s in zip(*[classes(x) for x in sides], strict=True):
        found = []
        for t in frequencies.T:
            p, q = (
                sum(complex(math.cos(a), math.sin(a)) for a in (3.0 * (x / x.norm(dim=1, keepdim=True)) @ t).tolist())
                / len(x)
                for x in (r, s)
            )
            angle = math.atan2(p.imag, p.real) - math.atan2(q.imag, q.real)
            inside = 0.3 * (abs(p) - abs(q)) ** 2 + 0.7 * 2 * abs(p) * abs(q) * (1 - math.cos(angle))
            found.append(math.sqrt(inside))
        total += sum(found) / len(found)
    return total


Oracle = Callable[[Tensor, Tensor, Look], float]
TERMS: dict[str, tuple[Term, Oracle]] = {
    "style": (StyleMoments(TAPS, of_image=False), style_of_mean_map),
    "style of images": (StyleMoments(TAPS), style_of_images),
    "style, relative": (StyleMoments(TAPS, relative=True), lambda *a: style_of_images(*a, relative=True)),
    "gram": (GramMatching(TAPS), gram_distance),
    "diversity": (IntraClassDiversity(2), diversity),
    "regulariser": (ClassRegulariser(), regulariser),
    "kernel": (MaximumMeanDiscrepancy((0.5, 2.0)), kernel),
    "characteristic": (CharacteristicFunction(5, spread=3.0, amplitude=0.3), characteristic),
}
MATCHING = [name for name in TERMS if name not in ("diversity", "regulariser")]


@pytest.mark.parametrize("name", TERMS)
def test_a_term_is_its_equation(name: str) -> None:
    term, oracle = TERMS[name]
    seen = look(TAPS, accuracy=0.37)
    real, syn = images(REAL, 1), images(SYN, 2)
    found = float(distance(term, real, syn, seen))
    assert found == pytest.approx(oracle(real, syn, seen), rel=1e-5, abs=1e-9)
    assert abs(found) > 1e-6


@pytest.mark.parametrize("name", MATCHING)
def test_zero_when_real_is_synthetic(name: str) -> None:
    real = images(REAL, 1)
    assert float(distance(TERMS[name][0], real, real)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", TERMS)
def test_the_order_within_a_class_does_not_matter(name: str) -> None:
    real, syn = images(REAL, 1), images(SYN, 2)
    mixed = torch.cat([x[torch.tensor([2, 0, 3, 1])] for x in classes(syn)])
    assert not torch.equal(mixed, syn)
    first, second = (distance(TERMS[name][0], real, x, look(TAPS, accuracy=0.5)) for x in (syn, mixed))
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize("name", TERMS)
def test_gradients(name: str) -> None:
    term, seen = TERMS[name][0], look(TAPS, accuracy=0.5)
    real, syn = images(REAL, 1), images(SYN, 2)[::4].clone()
    syn = torch.cat([syn, syn.flip(3)]).unflatten(0, (2, CLASSES)).transpose(0, 1).flatten(0, 1)
    distance(term, real, syn, seen)  # draws are made
    assert torch.autograd.gradcheck(
        lambda x: distance(term, real, x, seen), syn.requires_grad_(), fast_mode=True, atol=1e-4
    )


@pytest.mark.parametrize("name", TERMS)
def test_the_distance_is_the_sum_over_classes(name: str) -> None:
    term, seen = TERMS[name][0], look(TAPS, accuracy=0.5)
    assert term.additive
    real, syn = images(REAL, 1), images(SYN, 2)
    whole = distance(term, real, syn, seen)
    parts = []
    for k, (r, s) in enumerate(zip(classes(real), classes(syn), strict=True)):
        statistic = term.summarise(Side(seen, r, [k]))
        parts.append(term.distance(statistic, Side(seen, s, [k])))
    torch.testing.assert_close(whole, torch.stack(parts).sum())


def test_chunks_change_nothing() -> None:
    term = Sum([t for t, _ in TERMS.values()])
    seen, real, syn = look(TAPS, accuracy=0.5), images(REAL, 1), images(SYN, 2)
    found = []
    for chunk in (None, 5):
        with torch.no_grad():
            statistic = term.summarise(Side(seen, real, range(CLASSES), chunk=chunk))
        found.append(term.distance(statistic, Side(seen, syn, range(CLASSES))))
    torch.testing.assert_close(found[0], found[1])


def test_pieces_change_neither_distance_nor_gradient() -> None:
    term = Sum([t for t, _ in TERMS.values()])
    seen, real = look(TAPS, accuracy=0.5), images(REAL, 1)
    found = []
    for chunk in (None, 2):
        batches: list[int] = []
        watched = seen.net.register_forward_pre_hook(lambda _, x, batches=batches: batches.append(len(x[0])))
        syn = images(SYN, 2).requires_grad_(True)
        with torch.no_grad():
            statistic = term.summarise(Side(seen, real, range(CLASSES)))
        batches.clear()
        value = term.distance(statistic, Side(seen, syn, range(CLASSES), chunk=chunk))
        (gradient,) = torch.autograd.grad(value, syn)
        watched.remove()
        assert batches == ([12] if chunk is None else [8, 4])
        found.append((value.detach(), gradient))
    torch.testing.assert_close(found[0], found[1])


def test_compiled_pieces_are_of_one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, sizes = look(()), []

    class Watched(Probe):
        def __call__(self, x: Tensor, parameters: Any = None) -> Any:
            sizes.append(len(x))
            return super().__call__(x, parameters)

    monkeypatch.setattr("ddreplay.backbones.probe.compiled", lambda: plain)
    found = []
    for compile in (False, True):
        seen.probe = Watched(seen.net, (), compile=compile)
        syn = images(SYN, 2).requires_grad_(True)
        value = Side(seen, syn, range(CLASSES), chunk=2).activations.embedding.square().mean()
        found.append((value.detach(), *torch.autograd.grad(value, syn)))
    assert sizes == [8, 4, 8, 8]
    torch.testing.assert_close(found[0], found[1])


def test_networks_that_mix_a_batch_see_it_whole() -> None:
    net = ConvNet(width=3, depth=2, norm="batch")((2, 8, 8), CLASSES).double()
    seen = Look(net, Probe(net, ()), Identity().draw((2, 8, 8), Random(0)), Identity(), Random(0))
    syn = images(SYN, 2).requires_grad_(True)
    whole = Side(seen, syn, range(CLASSES)).activations.embedding
    assert torch.equal(whole, Side(seen, syn, range(CLASSES), chunk=2).activations.embedding)
    net.eval()
    apart = Side(seen, syn, range(CLASSES), chunk=2).activations.embedding
    torch.testing.assert_close(apart, net.embed(syn))


def test_frequencies_stay_with_a_look_and_differ_between_looks() -> None:
    term, real, syn = CharacteristicFunction(8), images(REAL, 1), images(SYN, 2)
    seen = look(())
    first = distance(term, real, syn, seen)
    assert torch.equal(first, distance(term, real, syn, seen))
    other = look(())
    other.random = Random(99)
    assert not torch.equal(first, distance(term, real, syn, other))


def test_a_wide_kernel_compares_means() -> None:
    """For kernels much wider than the data, the discrepancy is that of the means: 2 |mean r - mean s|^2 / (scale B)."""
    real, syn, scale = images(REAL, 1), images(SYN, 2), 1e6
    seen = look(())
    term = MaximumMeanDiscrepancy((scale,))
    with torch.no_grad():
        statistic = term.summarise(Side(seen, real, range(CLASSES)))
    means = [
        float((r.mean(0) - s.mean(0)).square().sum()) * 2 / (scale * float(b))
        for r, s, b in zip(
            classes(seen.probe(real).embedding), classes(seen.probe(syn).embedding), statistic[1], strict=True
        )
    ]
    found = float(term.distance(statistic, Side(seen, syn, range(CLASSES))))
    assert found == pytest.approx(sum(means), rel=1e-3)


def test_an_instance_norm_leaves_only_the_deviation_of_the_mean_map() -> None:
    """Behind an instance norm every image has mean 0 and deviation 1: of images, nothing is left to match."""
    real, syn = images(REAL, 1), images(SYN, 2)
    of_images = float(distance(StyleMoments(("norms",)), real, syn))
    of_mean_map = float(distance(StyleMoments(("norms",), of_image=False), real, syn))
    in_front = float(distance(StyleMoments(("convolutions",)), real, syn))
    assert of_images < 1e-6 < 1e-3 < of_mean_map
    assert in_front > 1e-3


def test_one_image_has_no_neighbours() -> None:
    assert float(distance(IntraClassDiversity(), images(REAL, 1), images(1, 2))) == 0


def test_equal_images_are_not_diverse() -> None:
    features = torch.randn(2, 1, 5, dtype=torch.float64).expand(2, 4, 5)
    assert float(neighbour_divergence(features, 2)) == pytest.approx(0, abs=1e-12)


def test_an_untrained_network_does_not_regularise() -> None:
    assert float(distance(ClassRegulariser(), images(REAL, 1), images(SYN, 2), look((), accuracy=0.0))) == 0


def test_units_of_the_regulariser_differ_by_a_hundred() -> None:
    percent, fraction = (
        distance(ClassRegulariser(unit), images(REAL, 1), images(SYN, 2), look((), accuracy=0.6))
        for unit in ("percent", "fraction")
    )
    torch.testing.assert_close(percent, 100 * fraction)


def test_a_bank_of_several_terms_is_the_bank_of_each(toy_pool: Callable[..., ClassPool]) -> None:
    """What a bank keeps for a sum of terms is what every term alone would have been given."""
    terms = [MeanEmbedding(), StyleMoments(), GramMatching(), CharacteristicFunction(4), MaximumMeanDiscrepancy()]
    together = methods.dm(ConvNet(width=4), networks=Banked(size=1), steps=1)
    together = type(together)(**{**vars(together), "objective": Sum(terms), "networks": Banked(ConvNet(width=4), 1)})
    losses: list[Tensor] = []
    together(toy_pool(), 1, on_step=lambda _, loss: losses.append(loss))
    alone = []
    for term in terms:
        single = type(together)(**{**vars(together), "objective": term})
        single(toy_pool(), 1, on_step=lambda _, loss: alone.append(loss))
    torch.testing.assert_close(losses[0], torch.stack(alone).sum())
