"""What is computed piece by piece is what is computed at once: values and gradients in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddreplay import ClassPool, ConvNet, eager_gradient
from ddreplay.augment.mixing import CutMix, MixUp
from ddreplay.augment.siamese import Identity, Siamese
from ddreplay.backbones import Bfloat16, Probe, draws_itself, mixes_images
from ddreplay.backbones.compiling import plain
from ddreplay.backbones.precision import full_precision
from ddreplay.data.chunks import DrawnImages
from ddreplay.objectives import (
    CharacteristicFunction,
    ClassRegulariser,
    GradientMatching,
    GramMatching,
    IntraClassDiversity,
    Look,
    MaximumMeanDiscrepancy,
    MeanEmbedding,
    MutualInformation,
    Side,
    StyleMoments,
    Sum,
    Term,
    UnrolledLoss,
    intra_class_diversity,
    maximum_mean_discrepancy,
    mutual_information,
    side,
)
from ddreplay.objectives.intra_class_diversity import neighbour_divergence
from ddreplay.objectives.pieces import Pass, by_pieces
from ddreplay.randomness import Random

CLASSES, REAL, SYN = 3, 5, 4
SHAPE = (2, 8, 8)
MakePool = Callable[..., ClassPool]


def network(seed: int = 0, **how: Any) -> nn.Module:
    with Random(seed).scope():
        return ConvNet(width=3, depth=2, **how)(SHAPE, CLASSES).double().requires_grad_(False)


def look(objective: Term, net: nn.Module | None = None, strategy: str = "color_crop_scale", **more: Any) -> Look:
    """The same network and draws at every call."""
    net, random = net or network(), Random(4)
    net.requires_grad_(objective.weight_gradients)
    probe = Probe(net, objective.taps)
    transform = Siamese(strategy, per_step=2).draw(SHAPE, random)
    return Look(net, probe, transform, Identity(), random, accuracy=0.4, **more)


def images(per_class: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(CLASSES * per_class, *SHAPE, generator=generator, dtype=torch.float64)


def information() -> MutualInformation:
    found = MutualInformation(width=6, images=3)
    with Random(7).scope():
        found.prepare(Side(look(found), images(1, 0), range(CLASSES)))
    return found.double()


TERMS: dict[str, Callable[[], Term]] = {
    "mean": MeanEmbedding,
    "style": lambda: StyleMoments(("convolutions",)),
    "style of mean maps": lambda: StyleMoments(("norms",), of_image=False, relative=True),
    "gram": GramMatching,
    "characteristic": lambda: CharacteristicFunction(6),
    "regulariser": ClassRegulariser,
    "diversity": lambda: IntraClassDiversity(2),
    "kernel": MaximumMeanDiscrepancy,
    "information": information,
    "class gradients": GradientMatching,
    "set gradients": lambda: GradientMatching("set"),
    "set gradients of convolutions": lambda: GradientMatching("set", "mse", layers="conv"),
    "groups": lambda: GradientMatching("set", groups=[[2, 0], [1]]),
    "vectorised": lambda: GradientMatching(vectorize=True),
    "mixed": lambda: GradientMatching("set", groups=2, mix=CutMix(p=1.0)),
    "unrolled": lambda: UnrolledLoss(3, lr=0.1, batch=2),
}
MEANS = ("mean", "style", "style of mean maps", "gram", "characteristic", "regulariser", "diversity", "kernel")


def value_and_gradient(
    objective: Term, chunk: int | None, syn: int = SYN, net: nn.Module | None = None
) -> tuple[Tensor, Tensor]:
    at, leaves = look(objective, net), images(syn, 2).requires_grad_()
    with torch.no_grad():
        statistic = objective.summarise(Side(at, images(REAL, 1), range(CLASSES), chunk=chunk))
    value = objective.distance(statistic, Side(at, leaves, range(CLASSES), chunk=chunk))
    return value.detach(), *torch.autograd.grad(value, leaves)


def assert_same(a: Any, b: Any) -> None:
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", TERMS)
def test_a_term_in_pieces_is_the_term(name: str) -> None:
    whole = value_and_gradient(TERMS[name](), None)
    assert whole[1].abs().max() > 1e-6
    for chunk in (1, 2):  # 12 images are 12 chunks, or 6, which are few enough to hold
        assert_same(value_and_gradient(TERMS[name](), chunk), whole)


def test_groups_of_many_images_are_matched_chunk_by_chunk() -> None:
    for scope in ("class", "set"):
        whole = value_and_gradient(GradientMatching(scope), None, syn=11)
        assert_same(value_and_gradient(GradientMatching(scope), 1, syn=11), whole)


@pytest.mark.parametrize("module", [maximum_mean_discrepancy, mutual_information])
def test_pairs_in_groups_are_all_pairs(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    make = TERMS["kernel" if module is maximum_mean_discrepancy else "information"]
    whole = value_and_gradient(make(), None)
    monkeypatch.setattr(module, "PAIRS", 45)
    assert_same(value_and_gradient(make(), None), whole)


def test_critics_learn_from_pairs_in_groups_as_from_all(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for pairs in (mutual_information.PAIRS, 45):
        monkeypatch.setattr(mutual_information, "PAIRS", pairs)
        objective = information()
        at = look(objective)
        with torch.no_grad():
            statistic = objective.summarise(Side(at, images(REAL, 1), range(CLASSES)))
        objective.distance(statistic, Side(at, images(SYN, 2).requires_grad_(), range(CLASSES))).backward()
        found.append([p.grad for p in objective.parameters()])
    assert len(found[0]) == 6
    assert_same(found[1], found[0])


def test_diversity_by_groups_of_classes_is_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = value_and_gradient(IntraClassDiversity(2), None)
    monkeypatch.setattr(intra_class_diversity, "FEATURES", 1)
    assert_same(value_and_gradient(IntraClassDiversity(2), None), whole)


def test_neighbours_far_from_the_origin_are_told_apart() -> None:
    """By |a|^2 + |b|^2 - 2ab these distances would drown in the squares."""
    places = torch.tensor([0.0, 1.0, 3.0, 7.0, 7.5]) / 1000
    features = 100 + places[None, :, None].repeat(1, 1, 3)
    features[..., 2] = places * torch.arange(5)  # so that a softmax sees them
    chosen = intra_class_diversity._kin(features, 1)[0].argmax(1)
    assert chosen.tolist() == [1, 0, 1, 4, 3]
    assert float(neighbour_divergence(features.double(), 1)) > 0


def test_a_sum_in_pieces_makes_two_passes() -> None:
    objective = Sum([TERMS[name]() for name in MEANS], [1.0, 2.0, 0.5, 3.0, 1.0, 0.1, 0.01, 1.0])
    whole = value_and_gradient(objective, None)
    net, batches = network(), []
    net.register_forward_pre_hook(lambda _, inputs: batches.append(len(inputs[0])))
    found = value_and_gradient(objective, 1, net=net)
    assert_same(found, whole)
    # real images for the means, and once more for the kernel's statistic, which is no mean; synthetic ones twice, for all terms
    assert batches == [1] * (2 * CLASSES * REAL + 2 * CLASSES * SYN)


def test_what_a_stranger_reads_from_the_activations_is_whole() -> None:
    class Mine(Term):
        def summarise(self, real: Side) -> tuple[Any, ...]:
            return ()

        def distance(self, statistic: tuple[Any, ...], syn: Side) -> Tensor:
            return syn.activations.embedding.square().sum() + syn.class_means(lambda seen: seen.logits)[0].sum()

    assert_same(value_and_gradient(Mine(), 1), value_and_gradient(Mine(), None))


@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize("size", [2, 5, 12, 20])
def test_a_pass_gives_means_and_values_with_their_gradients(even: bool, size: int) -> None:
    x = images(SYN, 3).requires_grad_()

    def see(piece: Tensor, rows: slice = slice(None)) -> list[Tensor]:
        assert torch.equal(piece, x[rows])
        return [piece.sin().flatten(1), piece.square().mean((2, 3)), piece.exp()]

    found = by_pieces(Pass(see, (True, False, False), CLASSES, size, even), x)
    direct = see(x)
    direct[0] = direct[0].unflatten(0, (CLASSES, SYN)).mean(1)
    assert_same(found, direct)

    def used(values: list[Tensor]) -> Tensor:  # and not the third
        return values[0].pow(3).sum() + values[1].cos().sum()

    assert_same(torch.autograd.grad(used(found), x), torch.autograd.grad(used(direct), x))


def test_compiled_pieces_are_all_of_the_size_of_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ddreplay.backbones.probe.compiled", lambda: plain)
    objective, found = MeanEmbedding(), []
    for compile in (False, True):
        at, sizes = look(objective), []
        at.probe = Probe(at.net, compile=compile)
        at.net.blocks.register_forward_pre_hook(lambda _, inputs, sizes=sizes: sizes.append(len(inputs[0])))
        leaves = images(15, 2).requires_grad_()
        with torch.no_grad():
            statistic = objective.summarise(Side(at, images(REAL, 1), range(CLASSES), chunk=5))
        sizes.clear()
        value = objective.distance(statistic, Side(at, leaves, range(CLASSES), chunk=4))
        found.append((value.detach(), *torch.autograd.grad(value, leaves)))
        assert sizes == ([4] * 12 if compile else [4] * 11 + [1]) * 2
    assert_same(found[1], found[0])


# ---- real images that are fetched piece by piece


@pytest.mark.parametrize("name", [name for name in TERMS if name != "unrolled"])
@pytest.mark.parametrize("chunk", [None, 4])
def test_fetched_images_give_the_statistic_of_images_at_hand(name: str, chunk: int | None, toy_pool: MakePool) -> None:
    pool, objective = toy_pool(shape=SHAPE), TERMS[name]().float()
    rows = pool.draw_rows(5, Random(3)).flatten()
    found = []
    for real in (pool.rows(rows), DrawnImages(pool, rows)):
        with torch.no_grad():
            found.append(
                objective.summarise(Side(look(objective, network().float()), real, range(CLASSES), chunk=chunk))
            )
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mix", [MixUp(), CutMix(p=1.0)])
@pytest.mark.parametrize("groups", [None, [[2, 0], [1]]])
def test_fetched_images_are_mixed_with_their_partners(mix: Any, groups: Any, toy_pool: MakePool) -> None:
    pool, objective = toy_pool(shape=SHAPE), GradientMatching("set", groups=groups, mix=mix)
    rows = pool.draw_rows(5, Random(3)).flatten()
    at = look(objective, network().float())
    parts = [objective._parts(Side(at, real, range(CLASSES))) for real in (pool.rows(rows), DrawnImages(pool, rows))]
    assert [len(part.y) for part in parts[0]] == ([15] if groups is None else [10, 5])
    for whole, fetched in zip(*parts, strict=True):
        assert torch.equal(fetched.y, whole.y)
        assert torch.equal(torch.cat([fetched.x[:3], fetched.x[3:]]), whole.x)


# ---- what cannot be taken apart


@pytest.mark.parametrize("wrong", ["batch norm", "dropout"])
def test_networks_whose_images_depend_on_a_batch_or_on_draws_are_not_taken_apart(wrong: str) -> None:
    net = (
        network(norm="batch") if wrong == "batch norm" else nn.Sequential(network().blocks, nn.Dropout(), nn.Flatten())
    )
    net = net if wrong == "batch norm" else nn.Sequential(*net, nn.Linear(12, CLASSES).double())
    at = look(MeanEmbedding(), net)
    side = Side(at, images(SYN, 2).requires_grad_(), range(CLASSES), chunk=1)
    assert (mixes_images(net), draws_itself(net)) == (wrong == "batch norm", wrong == "dropout")
    assert not side.splits
    net.eval()
    assert Side(at, images(SYN, 2), range(CLASSES), chunk=1).splits


def test_settled_batch_norms_mix_nothing_while_the_network_trains_on() -> None:
    net = network(norm="batch").train()
    assert mixes_images(net)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    assert net.training
    assert not mixes_images(net)


def test_a_sum_of_settled_values_has_the_gradients_of_all_inputs() -> None:
    a, b = images(2, 1).flatten(1).requires_grad_(), images(2, 2).flatten(1).requires_grad_()

    def part(a: Tensor, b: Tensor, row: int) -> Tensor:
        return (a[row] * b).sin().sum()

    rows = [(row,) for row in range(len(a))]
    found = eager_gradient.settled_sum(part, (a, b), rows)
    whole = torch.stack([part(a, b, *row) for row in rows]).sum()
    assert_same(found, whole)
    assert_same(torch.autograd.grad(found, (a, b)), torch.autograd.grad(whole, (a, b)))
    with pytest.raises(ValueError, match="at least one piece"):
        eager_gradient.settled_sum(part, (a, b), [])


# ---- precision


@pytest.mark.parametrize("scope", ["class", "set"])
@pytest.mark.parametrize("vectorize", [False, True])
def test_under_a_network_in_bfloat16_synthetic_images_are_matched_in_full_precision(
    scope: Any, vectorize: bool
) -> None:
    made, found = ConvNet(width=3, depth=2), []
    for net in (made, Bfloat16(made)):
        with Random(0).scope():
            module = net(SHAPE, CLASSES)
        objective = GradientMatching(scope, vectorize=vectorize)
        at, leaves = look(objective, module), images(SYN, 2).float().requires_grad_()
        with torch.no_grad():
            statistic = objective.summarise(Side(at, images(REAL, 1).float(), range(CLASSES), chunk=4))
        real = found[0][0] if found else statistic
        value = objective.distance(real, Side(at, leaves, range(CLASSES), chunk=4))
        found.append((statistic, value.detach(), *torch.autograd.grad(value, leaves)))
    for a, b in zip(found[0][1:], found[1][1:], strict=True):
        assert torch.equal(a, b)
    matrices = [(a, b) for a, b in zip(found[0][0], found[1][0], strict=True) if a.dim() > 2]  # those that are compared
    for a, b in matrices:
        assert 0 < (a - b).norm() < 0.05 * a.norm()


def test_full_precision_ends_where_it_ends() -> None:
    with Random(0).scope():
        net = Bfloat16(ConvNet(width=4))((1, 8, 8), 3)
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    coarse = net.embed(x)
    with full_precision(net):
        fine = net.embed(x)
    assert torch.equal(net.embed(x), coarse)
    assert 0 < (fine - coarse).abs().max() < 0.1
    assert F.cosine_similarity(fine.flatten(), coarse.flatten(), dim=0) > 0.999


def test_the_largest_graph_that_is_held_is_eight_chunks() -> None:
    at = look(MeanEmbedding())
    assert not Side(at, images(8, 1), range(CLASSES), chunk=3).splits
    assert Side(at, images(9, 1), range(CLASSES), chunk=3).splits
    assert side.WHOLE == 8
