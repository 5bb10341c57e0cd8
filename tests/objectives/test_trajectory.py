"""Trajectory matching and the experts whose segments it matches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddreplay import ClassPool, CondensedSet, ConvNet, evaluate, methods
from ddreplay.augment.siamese import Identity, Siamese
from ddreplay.backbones import Probe
from ddreplay.evaluation import Protocol
from ddreplay.networks import Context, ExpertSegments
from ddreplay.objectives import Look, Side, TrajectoryMatching
from ddreplay.objectives.unrolling import draw_steps
from ddreplay.randomness import Random

CLASSES, PER_CLASS = 3, 2
MakePool = Callable[..., ClassPool]
NET = ConvNet(width=8)


def network(seed: int = 0) -> nn.Module:
    with Random(seed).scope():
        net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(3 * 16, CLASSES)).double()
    return net.requires_grad_(False)


def look(target: Any = None, augment: Any = Identity()) -> Look:
    random, net = Random(0), network()
    return Look(net, Probe(net), Identity().draw((1, 6, 6), random), augment, random, target=target)


def images(seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(CLASSES * PER_CLASS, 1, 6, 6, generator=generator, dtype=torch.float64)


def target() -> tuple[Tensor, ...]:
    return tuple(p + 0.1 * torch.sin(37 * p) for p in network().parameters())


def distance(term: TrajectoryMatching, x: Tensor, augment: Any = Identity()) -> Tensor:
    return term.double().distance((), Side(look(target(), augment), x, range(CLASSES)))


def matching(**how: Any) -> TrajectoryMatching:
    return TrajectoryMatching(4, lr=0.3, batch=3, **how)


def test_the_loss_is_the_students_distance_to_the_expert() -> None:
    augment = Siamese("color_crop")
    value = distance(matching(), images().requires_grad_(), augment)
    student = network().requires_grad_(True)
    optimizer = torch.optim.SGD(student.parameters(), lr=float(torch.tensor(0.3)))
    labels = torch.arange(CLASSES).repeat_interleave(PER_CLASS)
    for rows, transform in draw_steps(look(augment=augment), images(), steps=4, blocks=1, batch=3, anew=True):
        optimizer.zero_grad()
        F.cross_entropy(student(transform(images()[rows])), labels[rows]).backward()
        optimizer.step()
    left = sum(float((a - b).detach().square().sum()) for a, b in zip(student.parameters(), target(), strict=True))
    whole = sum(float((a - b).square().sum()) for a, b in zip(network().parameters(), target(), strict=True))
    assert float(value.detach()) == pytest.approx(left / whole, rel=1e-9)


@pytest.mark.parametrize("learned", [None, 0.1])
def test_tesla_and_mtt_have_one_gradient_and_it_is_that_of_finite_differences(learned: float | None) -> None:
    found: dict[str, list[Tensor]] = {}
    for memory in ("graph", "constant"):
        term = matching(memory=memory, lr_labels=learned)
        x = images().requires_grad_()
        term.prepare(Side(look(), x.detach(), range(CLASSES)))
        value = distance(term, x)
        found[memory] = [value, *torch.autograd.grad(value, [x, *term.parameters()])]
    for a, b in zip(found["graph"], found["constant"], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    term, direction, step = matching(lr_labels=learned), images(seed=9), 1e-5
    term.prepare(Side(look(), images(), range(CLASSES)))
    with torch.no_grad():
        ends = [distance(term, images() + sign * step * direction) for sign in (1, -1)]
        torch.testing.assert_close(
            (found["graph"][1] * direction).sum(), (ends[0] - ends[1]) / (2 * step), rtol=1e-6, atol=1e-9
        )
        ends = []
        for sign in (1, -1):
            term.lr.add_(sign * step)
            ends.append(distance(term, images()))
            term.lr.sub_(sign * step)
    torch.testing.assert_close(found["graph"][2], (ends[0] - ends[1]) / (2 * step), rtol=1e-6, atol=1e-9)


def test_the_published_path_agrees_for_one_step_and_only_then() -> None:
    for steps, alike in ((1, True), (4, False)):
        found = []
        for memory in ("graph", "first-order"):
            x = images().requires_grad_()
            term = TrajectoryMatching(steps, lr=0.3, memory=memory)  # type: ignore[arg-type]
            found.append(torch.autograd.grad(distance(term, x), x)[0])
        difference = float((found[0] - found[1]).norm() / found[0].norm())
        assert (difference < 1e-9) is alike


def test_the_published_formula_with_its_factor() -> None:
    # grad_x of [ (alpha (w* - w_0) + alpha^2 G) . g_i ] * 2 / || w_0 - w* ||^2, with G and all weights constants
    term = TrajectoryMatching(3, lr=0.3, memory="first-order")
    x = images().requires_grad_()
    (ours,) = torch.autograd.grad(distance(term, x), x)
    net, alpha = network(), float(torch.tensor(0.3))
    names, start = zip(*net.named_parameters(), strict=True)
    labels = torch.arange(CLASSES).repeat_interleave(PER_CLASS)
    w, steps = list(start), []
    for _ in range(3):
        constant = [p.detach().requires_grad_() for p in w]
        logits = torch.func.functional_call(net, dict(zip(names, constant, strict=True)), (x,))
        steps.append(torch.autograd.grad(F.cross_entropy(logits, labels), constant, create_graph=True))
        w = [p - alpha * g.detach() for p, g in zip(w, steps[-1], strict=True)]
    total = [sum(g[k].detach() for g in steps) for k in range(len(w))]
    whole = sum((a - b).square().sum() for a, b in zip(start, target(), strict=True))
    factor = [alpha * (t - s) + alpha**2 * g for t, s, g in zip(target(), start, total, strict=True)]
    inner = sum((f * g).sum() for step in steps for f, g in zip(factor, step, strict=True))
    torch.testing.assert_close(ours, torch.autograd.grad(inner * 2 / whole, x)[0])


def test_without_an_expert_it_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="ExpertSegments"):
        matching().distance((), Side(look(), images(), range(CLASSES)))


def a_context(pool: ClassPool) -> Context:
    return Context(pool, TrajectoryMatching(1), Identity(), 4, Random(0), lambda: pool.draw(1, Random(0)))


def experts(**how: Any) -> Any:
    return ExpertSegments(NET, **{"experts": 2, "latest_start": 2, "segment": 1, "batch_size": 4, **how})


def test_a_segment_is_one_epoch_of_sgd(toy_pool: MakePool) -> None:
    pool = toy_pool()
    source = experts(batch_size=100)
    networks: Any = source.start(a_context(pool))
    before, after = networks.weights(0, 1), networks.weights(0, 2)
    with Random(0).scope():
        net = NET(pool.shape, pool.classes)
    with torch.no_grad():
        for p, w in zip(net.parameters(), before, strict=True):
            p.copy_(w)
    F.cross_entropy(net(pool.all().x), pool.all().y).backward()
    for p, w in zip(net.parameters(), after, strict=True):
        assert p.grad is not None
        torch.testing.assert_close(p - 0.01 * p.grad, w, rtol=1e-4, atol=1e-6)


def test_looks_show_a_start_and_what_came_after(toy_pool: MakePool) -> None:
    networks: Any = experts().start(a_context(toy_pool()))
    seen = set()
    for _ in range(12):
        shown, _ = networks.show()
        weights = tuple(shown.net.parameters())
        place = [
            (expert, epoch)
            for expert in range(2)
            for epoch in range(2)
            if all(torch.equal(a, b) for a, b in zip(networks.weights(expert, epoch), weights, strict=True))
        ]
        assert len(place) == 1
        expert, epoch = place[0]
        later = networks.weights(expert, epoch + 1)
        assert all(torch.equal(a, b) for a, b in zip(shown.target, later, strict=True))
        seen.add(place[0])
    assert len(seen) == 4


def test_trajectories_are_kept_on_disk_and_reused(toy_pool: MakePool, tmp_path: Path) -> None:
    pool = toy_pool()
    kept: Any = experts(folder=tmp_path).start(a_context(pool))
    fresh: Any = experts().start(a_context(pool))
    for expert in range(2):
        for a, b in zip(kept.weights(expert, 2), fresh.weights(expert, 2), strict=True):
            assert torch.equal(a, b)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(files) == 2
    again: Any = experts(folder=tmp_path).start(a_context(pool))
    again._train = None  # a call would fail
    assert torch.equal(again.weights(1, 0)[0], fresh.weights(1, 0)[0])
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == files
    for other in (
        experts(folder=tmp_path, lr=0.1).start(a_context(pool)),
        experts(folder=tmp_path).start(a_context(toy_pool(seed=1))),
    ):
        other.weights(0, 0)
    assert len(list(tmp_path.iterdir())) == 4


def test_the_folder_changes_no_bit_of_the_result(toy_pool: MakePool, tmp_path: Path) -> None:
    how: dict[str, Any] = {"iterations": 3, "steps": 2, "latest_start": 2, "experts": 2, "batch_expert": 4}
    a = methods.mtt(NET, **how)(toy_pool(), 1)
    for _ in range(2):
        b = methods.mtt(NET, folder=tmp_path, **how)(toy_pool(), 1)
        assert torch.equal(a.images().x, b.images().x)


def test_tesla_does_what_mtt_does(toy_pool: MakePool) -> None:
    how: dict[str, Any] = {"iterations": 4, "steps": 3, "latest_start": 1, "experts": 1, "batch": 4}
    a, b, c = (f(NET, **how)(toy_pool(), 2).images().x for f in (methods.mtt, methods.tesla, published))
    torch.testing.assert_close(a, b, atol=0.02, rtol=0)
    assert not torch.equal(a, c)


def published(net: Any, **how: Any) -> Any:
    return methods.tesla(net, published=True, **how)


def test_the_learned_step_size_is_recorded_and_serves_in_evaluation(toy_pool: MakePool, tmp_path: Path) -> None:
    pool = toy_pool()
    found = methods.mtt(NET, iterations=3, steps=2, latest_start=1, experts=1, lr_lr=1e-2)(pool, 1)
    lr = found.provenance["learned"]["lr"]
    assert lr != 0.001
    loaded = CondensedSet.load(found.save(tmp_path / "set.safetensors"))
    given = Protocol("short", epochs=3, lr=lr)
    asked = Protocol("short", epochs=3, lr="learned")
    results = [evaluate(loaded, pool, NET, protocol=p, seeds=2) for p in (given, asked)]
    assert results[0].accuracies == results[1].accuracies
    assert results[1].protocol.lr == lr
    with pytest.raises(ValueError, match="learned no step size"):
        evaluate(methods.dm(NET, steps=1)(pool, 1), pool, NET, protocol="mtt2022", seeds=1)


def test_soft_labels_are_learned_stored_and_trained_on(toy_pool: MakePool, tmp_path: Path) -> None:
    pool = toy_pool()
    how: dict[str, Any] = {"iterations": 5, "steps": 2, "latest_start": 1, "experts": 1, "inner_lr": 0.05}
    found = methods.mtt(NET, lr_labels=5.0, **how)(pool, 2)
    soft = found.soft_labels
    assert soft is not None
    assert soft.shape == (6, 3)
    torch.testing.assert_close(soft.sum(1), torch.ones(6))
    start = F.one_hot(torch.arange(3).repeat_interleave(2)) * 0.85 + 0.05
    assert (soft - start).abs().max() > 1e-3
    assert found.nbytes == methods.mtt(NET, **how)(pool, 2).nbytes + soft.nbytes
    loaded = CondensedSet.load(found.save(tmp_path / "set.safetensors"))
    assert loaded.soft_labels is not None
    assert torch.equal(loaded.soft_labels, soft)
    assert len(evaluate(loaded, pool, NET, protocol=Protocol("short", epochs=2), seeds=1).accuracies) == 1


def test_soft_labels_beside_kept_images_and_other_sets(toy_pool: MakePool) -> None:
    pool = toy_pool()
    x, y = pool.all()
    keep = torch.tensor([0, *range(6, 18)])  # one image of the first class
    uneven = ClassPool(x[keep], pool.relabel(y)[keep], mean=pool.mean, std=pool.std, device="cpu")
    mtt = methods.mtt(NET, iterations=2, steps=2, latest_start=1, experts=1, lr_labels=1.0)
    found = mtt(uneven, 2)
    soft, labels = found.soft_labels, found.images().y
    assert soft is not None
    ids = torch.tensor(sorted(found.class_ids))
    assert soft.shape == (5, 3)
    assert torch.equal(ids[soft.argmax(1)], labels)
    kept = soft[labels == int(pool.class_ids[0])]
    assert torch.equal(kept, torch.tensor([[1.0, 0.0, 0.0]]))
    assert torch.equal(found.select([9, 5]).soft_labels.argmax(1), torch.tensor([0, 0, 1, 1]))  # type: ignore[union-attr]
    shorter = found.take(1)
    assert shorter.soft_labels is not None
    first = [labels.tolist().index(c) for c in shorter.images().y.tolist()]
    assert torch.equal(shorter.soft_labels, soft[first])
