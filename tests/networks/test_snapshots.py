"""A bank of networks that somebody else trained."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ddreplay import ClassPool, ConvNet, dm
from ddreplay.augment.siamese import Identity, Siamese
from ddreplay.networks import Banked, Context, Snapshots
from ddreplay.objectives import ClassRegulariser, GradientMatching, MeanEmbedding
from ddreplay.objectives.term import Term
from ddreplay.randomness import Random

MakePool = Callable[..., ClassPool]
NET = ConvNet(width=8)


def a_context(pool: ClassPool, seed: int = 0, objective: Term | None = None, **how: Any) -> Context:
    how.setdefault("augment", Siamese())
    return Context(
        pool, objective or MeanEmbedding(), how.pop("augment"), 4, Random(seed), lambda: pool.draw(1, Random(0))
    )


def networks(count: int, outputs: int = 10, shape: tuple[int, int, int] = (1, 8, 8)) -> list[nn.Module]:
    with Random(7).scope():
        return [NET(shape, outputs) for _ in range(count)]


def test_it_equals_a_bank_whose_networks_were_trained_the_same(toy_pool: MakePool) -> None:
    pool = toy_pool(images_per_class=9)
    bank = Banked(NET, 4, trained=20, runs=2, images=None).build(a_context(pool, augment=Identity())).fill()
    nets = [bank.entry(k)[0].net for k in range(4)]
    given = Snapshots(nets, images=None).build(a_context(pool, 5, augment=Identity()))
    for k in range(4):
        (ours, statistic), (theirs, expected) = given.entry(k), bank.entry(k)
        assert all(torch.equal(p, q) for p, q in zip(ours.net.parameters(), theirs.net.parameters(), strict=True))
        assert ours.net.training == theirs.net.training
        torch.testing.assert_close(statistic, expected, atol=1e-5, rtol=1e-4)  # images are drawn in another order


def test_every_entry_has_its_own_draw_and_the_statistic_under_it(toy_pool: MakePool) -> None:
    pool, nets = toy_pool(images_per_class=5), networks(3)
    bank = Snapshots(nets, images=None).build(a_context(pool)).fill()
    assert len({repr(bank.entry(k)[0].transform) for k in range(3)}) == 3
    for k in range(3):
        look, statistic = bank.entry(k)
        for c in range(pool.classes):
            with torch.no_grad():
                x = look.transform(pool.of_class(c))
                mean = nets[k].get_submodule("blocks")(x).flatten(1).mean(0)
            torch.testing.assert_close(statistic[0][c], mean, atol=1e-5, rtol=1e-4)


def test_networks_are_copied_when_it_is_made_and_never_changed(toy_pool: MakePool) -> None:
    pool, net = (
        toy_pool(),
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)).eval(),
    )
    source = Snapshots([net])
    before = copy.deepcopy(net.state_dict())
    first = source.build(a_context(pool)).entry(0)
    assert not net.training
    assert all(p.requires_grad for p in net.parameters())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    with torch.no_grad():
        for p in net.parameters():
            p.add_(1)
    again = source.build(a_context(pool)).entry(0)
    assert torch.equal(first[1][0], again[1][0])
    assert again[0].net.training
    assert not any(p.requires_grad for p in again[0].net.parameters())
    assert source.nets[0].state_dict()["1.num_batches_tracked"] == 0


def test_images_are_condensed_under_networks_of_more_outputs_than_classes(toy_pool: MakePool) -> None:
    pool, losses = toy_pool(), []  # type: ignore[var-annotated]
    method = dm(networks=Snapshots(networks(2)), steps=60, lr=1.0)
    found = method(pool, 1, on_step=lambda _, loss: losses.append(float(loss)))
    assert found.stored_images == 3
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    assert [net["is"] for net in found.provenance["settings"]["networks"]["nets"]] == ["Network", "Network"]


def test_it_goes_on_from_a_checkpoint_to_the_same_bits_and_knows_its_networks(
    toy_pool: MakePool, tmp_path: Path
) -> None:
    pool, file, nets = toy_pool(), tmp_path / "run.pt", networks(3)
    method = dm(networks=Snapshots(nets), steps=8)
    whole = method(pool, 1)

    def stop(step: int, loss: Tensor) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        method(pool, 1, checkpoint=file, checkpoint_every=1, on_step=stop)
    again = dm(networks=Snapshots(copy.deepcopy(nets)), steps=8)
    others = dm(networks=Snapshots([*nets[:2], *networks(1)]), steps=8)
    with pytest.raises(ValueError, match="another run"):
        others(pool, 1, checkpoint=file, checkpoint_every=1)
    assert torch.equal(whole.images().x, again(pool, 1, checkpoint=file, checkpoint_every=1).images().x)


def test_bytes_are_those_of_all_weights_and_statistics(toy_pool: MakePool) -> None:
    pool, nets = toy_pool(), networks(2)
    bank = Snapshots(nets).build(a_context(pool)).fill()
    one = sum(p.nbytes for p in nets[0].parameters())
    assert bank.nbytes == 2 * (one + bank.entry(0)[1][0].nbytes)


def test_it_serves_several_budgets_as_a_bank_does(toy_pool: MakePool) -> None:
    pool = toy_pool()
    method = dm(networks=Snapshots(networks(2)), steps=2)
    shared = replace(method, networks=Snapshots(networks(2)).build(a_context(pool, objective=method.objective)))
    assert [shared(pool, n).stored_images for n in (1, 2)] == [3, 6]


def test_architectures_may_differ(toy_pool: MakePool) -> None:
    pool = toy_pool()
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 7), nn.ReLU(), nn.Linear(7, 10))
    bank = Snapshots([*networks(1), other]).build(a_context(pool)).fill()
    assert [bank.entry(k)[1][0].shape[1] for k in range(2)] == [
        NET(pool.shape, 2).get_submodule("classifier").in_features,
        7,
    ]


def test_an_empty_list_and_what_is_no_list_of_networks_are_refused() -> None:
    with pytest.raises(ValueError, match="nets must hold at least 1 network, got none"):
        Snapshots([])
    for wrong, message in (
        (nn.Sequential(nn.Linear(2, 2)), r"got Sequential; for one network write Snapshots\(\[net\]\)"),
        ([nn.Linear(2, 2), NET], r"got .*Linear.*ConvNet"),
    ):
        source = object.__new__(Snapshots)  # types are checked while tests run, and would be refused before
        object.__setattr__(source, "nets", wrong)
        with pytest.raises(TypeError, match=message):
            source.__post_init__()
    with pytest.raises(ValueError, match="images must be at least 1 per class"):
        Snapshots(networks(1), images=0)


def test_networks_of_other_images_are_refused_before_anything_is_done(toy_pool: MakePool) -> None:
    wrong = [*networks(1), *networks(1, shape=(3, 8, 8))]
    with pytest.raises(ValueError, match=r"nets\[1\], a Network, does not take the pool's images of shape \(1, 8, 8\)"):
        dm(networks=Snapshots(wrong), steps=2)(toy_pool(), 1)
    headless = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten())
    with pytest.raises(ValueError, match=r"nets\[0\], a Sequential, .* end in a linear layer"):
        Snapshots([headless]).build(a_context(toy_pool()))


@pytest.mark.parametrize("objective", [GradientMatching(), MeanEmbedding() + ClassRegulariser()])
def test_objectives_that_read_outputs_need_the_known_classes(objective: Term, toy_pool: MakePool) -> None:
    pool = toy_pool()
    with pytest.raises(
        ValueError, match=r"nets\[0\], a Network, has 10 outputs, and the objective reads them as the 3 classes"
    ):
        Snapshots(networks(1)).build(a_context(pool, objective=objective))
    bank = Snapshots(networks(1, outputs=3)).build(a_context(pool, objective=objective))
    assert all(p.requires_grad == objective.weight_gradients for p in bank.entry(0)[0].net.parameters())
