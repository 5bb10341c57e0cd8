"""Gradient matching: distances and gradients against loops in float64, and through the compiler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddreplay import ConvNet, training
from ddreplay.augment.mixing import CutMix, MixTransform, MixUp
from ddreplay.augment.siamese import Identity, Siamese
from ddreplay.backbones import Probe, compiling
from ddreplay.data.pool import Batch
from ddreplay.methods.gradient import dc
from ddreplay.networks import trained_on_synthetic as trained
from ddreplay.objectives import GradientMatching, Look, Side, WarmUp
from ddreplay.objectives import gradient_matching as gradients
from ddreplay.objectives.gradient_matching import Metric, gradient_distance
from ddreplay.randomness import Random

C, REAL, SYN = 4, 6, 2


def network(norm: str = "instance", classes: int = C, seed: int = 0) -> nn.Module:
    with Random(seed).scope():
        return ConvNet(width=4, norm=norm)((1, 8, 8), classes).double()


def look(net: nn.Module, seed: int = 0, **more: Any) -> Look:
    random = Random(seed)
    transform = Siamese("crop_scale").draw((1, 8, 8), random)
    return Look(net=net, probe=Probe(net), transform=transform, augment=Identity(), random=random, **more)


def images(n: int, seed: int, classes: int = C) -> Tensor:
    return torch.randn(classes * n, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def loss_and_gradient(
    term: GradientMatching, at: Look, real: Tensor, syn: Tensor, classes: int = C
) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        statistic = term.summarise(Side(at, real, range(classes), chunk=5))
    leaves = syn.clone().requires_grad_()
    loss = term.distance(statistic, Side(at, leaves, range(classes), chunk=5))
    return loss.detach(), torch.autograd.grad(loss, leaves)[0]


# ---- oracles: written from the equations, one image and one output unit at a time


def image_gradient(net: nn.Module, x: Tensor, target: Tensor) -> list[Tensor]:
    loss = -(target * F.log_softmax(net(x[None])[0], 0)).sum()
    return list(torch.autograd.grad(loss, list(net.parameters()), create_graph=True))


def group_gradient(net: nn.Module, rows: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
    each = [image_gradient(net, x, target) for x, target in rows]
    return [sum(layer[1:], layer[0]) / len(each) for layer in zip(*each, strict=True)]


def oracle_distance(real: Sequence[Tensor], syn: Sequence[Tensor], metric: str) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    if metric == "cosine":
        a, b = (torch.cat([g.reshape(-1) for g in side]) for side in (real, syn))
        return 1 - (a * b).sum() / (a.square().sum().sqrt() * b.square().sum().sqrt() + 1e-6)
    for a, b in zip(real, syn, strict=True):
        if metric == "mse":
            total = total + sum(
                ((p - q) ** 2 for p, q in zip(a.reshape(-1), b.reshape(-1), strict=True)), torch.zeros(())
            )
        elif a.dim() > 1:
            for unit in range(len(a)):
                p, q = a[unit].reshape(-1), b[unit].reshape(-1)
                total = total + 1 - (p * q).sum() / (p.square().sum().sqrt() * q.square().sum().sqrt() + 1e-6)
    return total


def oracle(
    net: nn.Module,
    at: Look,
    real: Tensor,
    syn: Tensor,
    partition: Sequence[Sequence[int]],
    metric: str,
    mixing: MixTransform | None = None,
) -> tuple[Tensor, Tensor]:
    leaves = syn.clone().requires_grad_()
    sides = []
    for x in (real, leaves):
        n = len(x) // C
        seen = at.transform(x)
        targets = torch.eye(C, dtype=torch.float64).repeat_interleave(n, 0)
        if mixing is not None:
            batch = mixing.mix((seen, torch.arange(C).repeat_interleave(n)), C)
            seen, targets = batch.x, batch.y
        rows = list(zip(seen, targets, strict=True))
        sides.append(
            [group_gradient(net, [row for k in group for row in rows[k * n : (k + 1) * n]]) for group in partition]
        )
    each = [oracle_distance([g.detach() for g in a], b, metric) for a, b in zip(*sides, strict=True)]
    total = sum(each[1:], each[0])
    return total.detach(), torch.autograd.grad(total, leaves)[0]


ALONE, TOGETHER = [[k] for k in range(C)], [list(range(C))]


@pytest.mark.parametrize("metric", ["layerwise", "cosine", "mse"])
@pytest.mark.parametrize(("scope", "partition"), [("class", ALONE), ("set", TOGETHER)])
@pytest.mark.parametrize("vectorize", [False, True])
def test_both_scopes_equal_the_oracle(scope: Any, partition: list[list[int]], metric: Metric, vectorize: bool) -> None:
    net = network()
    at, real, syn = look(net), images(REAL, 1), images(SYN, 2)
    term = GradientMatching(scope, metric, vectorize=vectorize)
    found, expected = loss_and_gradient(term, at, real, syn), oracle(net, at, real, syn, partition, metric)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("vectorize", [False, True])
@pytest.mark.parametrize("groups", [[[0, 2], [3, 1]], [[1], [0, 2, 3]]])
def test_groups_of_classes_equal_the_oracle(groups: list[list[int]], vectorize: bool) -> None:
    net = network()
    at, real, syn = look(net), images(REAL, 1), images(SYN, 2)
    term = GradientMatching("set", groups=groups, vectorize=vectorize)
    expected = oracle(net, at, real, syn, groups, "layerwise")
    torch.testing.assert_close(loss_and_gradient(term, at, real, syn), expected, rtol=1e-10, atol=1e-12)


def test_dealt_groups_are_a_partition_the_same_for_both_sides_and_new_under_every_look() -> None:
    net, term = network(), GradientMatching("set", groups=2)
    real, syn = images(REAL, 1), images(SYN, 2)
    drawn = set()
    for seed in range(12):
        at = look(net, seed)
        found = loss_and_gradient(term, at, real, syn)
        partition = term._partition(at, C)
        assert sorted(k for group in partition for k in group) == list(range(C))
        assert [len(group) for group in partition] == [2, 2]
        torch.testing.assert_close(found, oracle(net, at, real, syn, partition, "layerwise"), rtol=1e-10, atol=1e-12)
        drawn.add(frozenset(map(frozenset, partition)))
    assert len(drawn) > 1


def test_one_group_of_all_and_a_group_for_each_are_the_two_scopes() -> None:
    at, real, syn = look(network()), images(REAL, 1), images(SYN, 2)
    for scope, groups in (("set", 1), ("class", 9)):
        fixed = loss_and_gradient(GradientMatching(scope), at, real, syn)  # type: ignore[arg-type]
        dealt = loss_and_gradient(GradientMatching("set", groups=groups), look(at.net), real, syn)
        torch.testing.assert_close(fixed, dealt, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("mix", [MixUp(), CutMix(p=1.0)])
@pytest.mark.parametrize(("scope", "partition"), [("class", ALONE), ("set", TOGETHER)])
def test_mixed_classes_equal_the_oracle(mix: Any, scope: Any, partition: list[list[int]]) -> None:
    net = network()
    at, real, syn = look(net), images(REAL, 1), images(SYN, 2)
    term = GradientMatching(scope, mix=mix)
    found = loss_and_gradient(term, at, real, syn)
    mixing = at.once((term, "mix"), lambda: pytest.fail("nothing was drawn"))
    assert 0 < mixing.share < 1
    torch.testing.assert_close(
        found, oracle(net, at, real, syn, partition, "layerwise", mixing), rtol=1e-10, atol=1e-12
    )


def test_with_one_class_collective_is_class_wise() -> None:
    at, real, syn = look(network(classes=1)), images(REAL, 1, 1), images(SYN, 2, 1)
    one, all_ = (loss_and_gradient(GradientMatching(scope), at, real, syn, 1) for scope in ("class", "set"))  # type: ignore[arg-type]
    assert torch.equal(one[0], all_[0])
    torch.testing.assert_close(one[1], all_[1], rtol=1e-12, atol=1e-15)


def test_distance_by_hand() -> None:
    # two units: at a right angle (1 - 0), and 3-4-5 (1 - 0.6); the bias, one axis only, counts nothing
    real = [torch.tensor([[[2.0, 0.0], [3.0, 4.0]]]), torch.tensor([[5.0, 5.0]])]
    syn = [torch.tensor([[[0.0, 7.0], [1.0, 0.0]]]), torch.tensor([[-5.0, 0.0]])]
    assert float(gradient_distance(real, syn)) == pytest.approx(1.4, abs=1e-6)
    # 4 + 49 + 4 + 16, and 100 + 25 of the bias
    assert float(gradient_distance(real, syn, "mse")) == pytest.approx(198)
    # one vector: <., .> = 3 - 25, squared norms 4 + 25 + 50 and 49 + 1 + 25
    assert float(gradient_distance(real, syn, "cosine")) == pytest.approx(1 + 22 / (79 * 75) ** 0.5, abs=1e-6)


@pytest.mark.parametrize("scope", ["class", "set"])
@pytest.mark.parametrize("metric", ["layerwise", "cosine", "mse"])
def test_zero_when_real_is_synthetic(scope: Any, metric: Metric) -> None:
    syn = images(SYN, 2)
    loss, gradient = loss_and_gradient(GradientMatching(scope, metric), look(network()), syn, syn)
    # the 1e-6 in the denominator leaves 1e-6 / |a|^2 of every unit
    assert float(loss) < (1e-20 if metric == "mse" else 0.05)
    other = loss_and_gradient(GradientMatching(scope, metric), look(network()), images(SYN, 9), syn)
    assert float(loss) < 0.01 * float(other[0])
    assert float(gradient.abs().max()) < 0.02 * float(other[1].abs().max())


@pytest.mark.parametrize("scope", ["class", "set"])
def test_order_inside_a_class_does_not_matter(scope: Any) -> None:
    at, real, syn = look(network()), images(REAL, 1), images(SYN, 2)
    turned = real.unflatten(0, (C, REAL)).flip(1).flatten(0, 1)
    a, b = (loss_and_gradient(GradientMatching(scope), at, x, syn)[0] for x in (real, turned))
    torch.testing.assert_close(a, b, rtol=1e-10, atol=0)
    swapped = loss_and_gradient(GradientMatching(scope), at, real.flip(0), syn)[0]
    assert abs(float(swapped - a)) > 1e-3 * float(a)


@pytest.mark.parametrize("vectorize", [False, True])
@pytest.mark.parametrize("scope", ["class", "set"])
def test_gradcheck(scope: Any, vectorize: bool) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    at = Look(net=net, probe=Probe(net), transform=lambda x: x, augment=Identity(), random=Random(0))
    draw = torch.Generator().manual_seed(0)
    real, syn = (torch.randn(2 * n, 1, 2, 2, dtype=torch.float64, generator=draw) for n in (3, 1))
    term = GradientMatching(scope, vectorize=vectorize)
    with torch.no_grad():
        statistic = term.summarise(Side(at, real, [0, 1]))
    assert torch.autograd.gradcheck(lambda x: term.distance(statistic, Side(at, x, [0, 1])), syn.requires_grad_())


def test_a_loop_over_classes_does_not_pretend_to_have_second_derivatives() -> None:
    at, real, syn = look(network()), images(REAL, 1), images(SYN, 2).requires_grad_()
    term = GradientMatching("class", vectorize=False)
    statistic = term.summarise(Side(at, real, range(C)))
    with pytest.raises(RuntimeError, match="vectorize=True"):
        torch.autograd.grad(term.distance(statistic, Side(at, syn, range(C))), syn, create_graph=True)


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ({"scope": "all"}, "scope"),
        ({"metric": "l3"}, "metric"),
        ({"groups": 2}, "scope='class' has not"),
        ({"scope": "set", "groups": 0}, "at least 1"),
    ],
)
def test_what_is_refused(how: dict[str, Any], match: str) -> None:
    from jaxtyping import TypeCheckError

    with pytest.raises((ValueError, TypeCheckError), match=match):
        GradientMatching(**how)


def test_groups_must_be_a_partition() -> None:
    term = GradientMatching("set", groups=[[0, 1], [1, 2, 3]])
    with pytest.raises(ValueError, match="each of the class positions"):
        loss_and_gradient(term, look(network()), images(REAL, 1), images(SYN, 2))


@pytest.mark.parametrize("how", [{"scope": "set"}, {"scope": WarmUp(rounds=9)}, {"mix": MixUp()}])
def test_what_compares_classes_together_cannot_step_by_class(how: dict[str, Any], toy_pool: Callable[..., Any]) -> None:
    method = replace(dc(ConvNet(width=4), rounds=1), step_per="class")
    assert torch.isfinite(method(toy_pool(), 1).images().x).all()
    with pytest.raises(ValueError, match="step_per='set'"):
        replace(method, objective=GradientMatching(**how))(toy_pool(), 1)


# ---- compiling


def unchecked(seed: int) -> nn.Module:
    """A network without shape annotations, whose checks cannot be compiled."""
    with Random(seed).scope():
        layers = nn.Conv2d(1, 4, 3), nn.GroupNorm(4, 4), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, C)
        return nn.Sequential(*layers).double()


def test_compiled_gradients_and_training_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = compiling.Compiled("aot_eager")  # the whole machinery but the compiler
    for module in (gradients, training):
        monkeypatch.setattr(module, "compiled", lambda: forward)
    real, syn = images(REAL, 1), images(SYN, 2)
    for seed in (0, 1):  # the second network meets what was compiled for the first
        net = unchecked(seed)
        at = look(net)
        for scope in ("class", "set"):
            term = GradientMatching(scope, vectorize=False, compile=True)  # type: ignore[arg-type]
            plain = GradientMatching(scope, vectorize=False)  # type: ignore[arg-type]
            found, expected = (loss_and_gradient(t, at, real, syn) for t in (term, plain))
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
        other, batch = unchecked(seed), Batch(syn, torch.arange(C).repeat_interleave(SYN))
        for model, compile in ((net, True), (other, False)):
            trained.train_epoch(model, batch, Random(3), lr=0.1, batch_size=8, compile=compile)
        torch.testing.assert_close(list(net.parameters()), list(other.parameters()), rtol=1e-9, atol=1e-12)
    assert forward.works


def test_without_a_compiler_nothing_changes(caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: Any) -> Any:
        raise OSError("no compiler")

    forward, net, x = compiling.Compiled(broken), unchecked(0), images(1, 0)
    assert torch.equal(forward(net, x), net(x))
    assert torch.equal(forward(net, x), net(x))
    assert not forward.works
    (record,) = [r for r in caplog.records if r.name == "ddreplay.backbones.compiling"]
    assert "no compiler" in record.getMessage()
    with pytest.raises(RuntimeError):
        compiling.Compiled("eager")(net, x[:, :, 0])
