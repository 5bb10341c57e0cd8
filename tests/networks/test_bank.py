"""Network sources of distribution matching: fresh networks and banks of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ddreplay import ClassPool, ConvNet, dc, dm
from ddreplay.augment.mixing import CutMix
from ddreplay.augment.siamese import Identity, Siamese
from ddreplay.data.chunks import DrawnImages
from ddreplay.networks import Banked, Context, Fresh
from ddreplay.objectives import GradientMatching, MeanEmbedding, WarmUp
from ddreplay.objectives.term import Term
from ddreplay.randomness import Random

MakePool = Callable[..., ClassPool]
NET = ConvNet(width=8)


def a_context(pool: ClassPool, seed: int = 0, objective: Term | None = None, chunk: int | None = None) -> Context:
    return Context(
        pool, objective or MeanEmbedding(), Siamese(), 4, Random(seed), lambda: pool.draw(1, Random(0)), 1, chunk
    )


def test_a_banks_statistics_are_the_class_means_in_float64(toy_pool: MakePool) -> None:
    pool = toy_pool(images_per_class=7)
    bank = Banked(NET, 3, images=None).build(a_context(pool, chunk=5)).fill()
    for position in range(3):
        look, statistic = bank.entry(position)
        look.net.double()
        for k in range(pool.classes):
            total = torch.zeros_like(statistic[0][k], dtype=torch.float64)
            for image in pool.of_class(k):
                x = look.transform(image[None].double())
                total += look.probe(x).embedding[0]
            torch.testing.assert_close(statistic[0][k].double(), total / 7, atol=1e-5, rtol=1e-4)


def test_entries_differ_in_network_and_draw_and_follow_from_their_seed(toy_pool: MakePool) -> None:
    pool = toy_pool()
    one, two = Banked(NET, 4).build(a_context(pool, 1)), Banked(NET, 4).build(a_context(pool, 1))
    for a, b in zip(range(4), range(4), strict=True):
        assert torch.equal(one.entry(a)[1][0], two.entry(b)[1][0])
    values = [one.entry(k)[1][0] for k in range(4)]
    assert all(not torch.equal(values[0], v) for v in values[1:])


def test_real_images_are_read_once(toy_pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    pool, drawn = toy_pool(), []

    def watched(pool: ClassPool, rows: torch.Tensor) -> DrawnImages:
        drawn.append(rows)
        return DrawnImages(pool, rows)

    monkeypatch.setattr("ddreplay.networks.source.DrawnImages", watched)
    dm(NET, steps=50, networks=Banked(size=3))(pool, 1)
    assert len(drawn) == 3
    drawn.clear()
    dm(NET, steps=5)(pool, 1)
    assert len(drawn) == 5


def test_refreshing_at_every_step_shows_a_new_network_every_time(toy_pool: MakePool) -> None:
    networks = Banked(NET, 3, images=4, refresh=1).start(a_context(toy_pool()))
    seen = []
    for _ in range(12):
        look, statistic = networks.show()
        seen.append((look.net, statistic[0]))
        networks.moved()
    assert len({id(net) for net, _ in seen}) == 12
    flat = torch.stack([s.flatten() for _, s in seen])
    assert torch.pdist(flat).min() > 0


def test_the_limit_of_refreshing_is_fresh_in_distribution(toy_pool: MakePool) -> None:
    """Means over many shown statistics agree within their standard errors."""

    def moments(source: object) -> tuple[torch.Tensor, torch.Tensor]:
        context = replace(a_context(toy_pool(), seed=7), augment=Identity())
        networks = source.start(context)  # type: ignore[attr-defined]
        found = []
        for _ in range(300):
            found.append(networks.show()[1][0].norm(dim=1).mean())
            networks.moved()
        values = torch.stack(found)
        return values.mean(), values.std() / 300**0.5

    (a, sa), (b, sb) = moments(Fresh(NET)), moments(Banked(NET, 5, images=4, refresh=1))
    assert abs(a - b) < 4 * (sa**2 + sb**2).sqrt()


def test_refreshing_now_and_then_replaces_the_oldest(toy_pool: MakePool) -> None:
    source = Banked(NET, 2, refresh=3)
    bank = source.build(a_context(toy_pool()))
    networks = bank.start(bank.context)
    changed = []
    for _ in range(9):
        before = list(bank.seeds)
        networks.show()
        changed.append([k for k in range(2) if bank.seeds[k] != before[k]])
        networks.moved()
    assert changed == [[0], [], [], [1], [], [], [0], [], []]


def test_a_bank_serves_several_budgets(toy_pool: MakePool) -> None:
    pool = toy_pool()
    method = dm(NET, steps=4, networks=Banked(size=2))
    bank = Banked(NET, 2).build(a_context(pool, objective=method.objective)).fill()
    assert bank.nbytes > 0
    shared = replace(method, networks=bank)
    assert shared(pool, 1).stored_images == 3
    assert shared(pool, 2).stored_images == 6
    with pytest.raises(ValueError, match="another pool"):
        shared(pool.select([0, 1]), 1)


def test_what_cannot_be_banked_says_so(toy_pool: MakePool) -> None:
    mixed = GradientMatching(WarmUp(), mix=CutMix())
    with pytest.raises(ValueError, match="cannot be banked"):
        replace(dc(NET, rounds=1), networks=Banked(NET, 2), objective=mixed)(toy_pool(), 1)
    with pytest.raises(ValueError, match="size"):
        Banked(NET, 0)
    with pytest.raises(ValueError, match="refresh"):
        Banked(NET, 2, refresh=0)


def test_gradients_can_be_banked(toy_pool: MakePool) -> None:
    method = replace(dc(NET, rounds=3, loops=(1, 0)), networks=Banked(NET, 2))
    assert torch.isfinite(method(toy_pool(), 1).images().x).all()


def test_a_trained_bank_knows_the_real_images_at_different_ages(toy_pool: MakePool) -> None:
    pool = toy_pool(images_per_class=20)

    def losses(trained: int) -> torch.Tensor:
        context = replace(a_context(pool, 3), augment=Identity())
        bank = Banked(NET, 6, trained=trained).build(context).fill()
        nets = [bank.entry(k)[0].net for k in range(6)]
        assert not any(p.requires_grad or p.grad is not None for net in nets for p in net.parameters())
        everything = pool.all()
        with torch.no_grad():
            return torch.stack([torch.nn.functional.cross_entropy(net(everything.x), everything.y) for net in nets])

    new, known, again = losses(0), losses(200), losses(200)
    assert torch.equal(known, again)
    assert known.median() < 0.5 * new.median()
    assert known.max() > 2 * known.min()  # ages differ
    with pytest.raises(ValueError, match="trained"):
        Banked(NET, trained=-1)


def test_a_trained_bank_goes_on_from_a_checkpoint(toy_pool: MakePool, tmp_path: Path) -> None:
    pool, file = toy_pool(), tmp_path / "run.pt"
    whole = dm(NET, steps=6, networks=Banked(size=2, refresh=2, trained=5))(pool, 1)

    def stop(step: int, loss: torch.Tensor) -> None:
        if step == 3:
            raise KeyboardInterrupt

    method = dm(NET, steps=6, networks=Banked(size=2, refresh=2, trained=5))
    with pytest.raises(KeyboardInterrupt):
        method(pool, 1, checkpoint=file, checkpoint_every=1, on_step=stop)
    assert torch.equal(whole.images().x, method(pool, 1, checkpoint=file, checkpoint_every=1).images().x)
