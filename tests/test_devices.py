"""Every condenser and evaluation on a device that is not there: nothing is made on the wrong one, and waits are counted and named."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from jaxtyping import Float
from pretended_device import ELSEWHERE, pretended_device
from test_contract import CONDENSERS, NET
from torch import Tensor

from ddreplay import ClassPool, Condenser, Distiller, evaluate, methods
from ddreplay.condense import class_sweep
from ddreplay.evaluation import PROTOCOLS
from ddreplay.objectives import Side
from ddreplay.objectives.term import Statistic, Term

WAITS: dict[str, dict[str, int]] = {
    # every `every`-th step the codec encodes the images on the host and gives back what it made of them
    "dm, through a codec": {
        "parameterize.coded.CodedForm._blocks copies to the host": 1,
        "parameterize.coded.CodedForm._look copies to the device": 1,
    },
    # the places of a class's coefficients are a mask; the matrices of the transform are made on the host
    "cafe": {
        "networks.until_settled._SettlingNetworks._accuracy reads a number": 3
    },  # it says when the inner loop ends
    "dm, frequencies": {
        "parameterize.frequency.FrequencyForm.images counts what is not zero": 1,
        "storage.codecs.dct.from_frequencies copies to the device": 2,
    },
}
"""How often the host waits for the device in a step after the first, at most, and where; a method that is not named never waits."""

TIES = ("dm, representative", "dream")
"""Both images of a cluster of two are as near to its centre: rounding chooses, and differs between devices."""

MakePool = Callable[..., ClassPool]


def pool_on(pool: ClassPool, device: torch.device | str) -> ClassPool:
    """One image of the first class, which is kept as it is, and all of the others."""
    rows = torch.tensor([0, *range(pool.counts[0], len(pool))])
    labels = pool.relabel(pool.all_labels())[rows]
    return ClassPool(pool._images[rows], labels, mean=pool.mean, std=pool.std, device=device)


def losses(condenser: Condenser, pool: ClassPool, after: Callable[[], None] = lambda: None) -> list[float]:
    """The losses of all steps, once the set is whole and on the CPU; ``after`` is called after every step."""
    seen: list[Tensor] = []

    def on_step(step: int, loss: Tensor) -> None:
        seen.append(loss)
        after()

    how: dict[str, Any] = {"on_step": on_step} if isinstance(condenser, Distiller) else {}
    x, y = condenser(pool, 2, seed=1, **how).images()
    assert x.device.type == y.device.type == "cpu"
    assert torch.isfinite(x).all()
    assert sorted(set(y.tolist())) == pool.class_ids.tolist()
    return [float(loss) for loss in seen]


@pytest.mark.parametrize("name", CONDENSERS)
def test_a_condenser_runs_elsewhere_and_waits_for_the_device_as_often_as_is_known(
    name: str, toy_pool: MakePool
) -> None:
    condenser, counts = CONDENSERS[name], []
    with pretended_device() as device:
        there = losses(condenser, pool_on(toy_pool(), ELSEWHERE), lambda: counts.append(Counter(device.waits)))
    here = losses(condenser, pool_on(toy_pool(), "cpu"))
    assert len(there) == len(here)
    if name not in TIES:
        assert there == pytest.approx(here, rel=1e-3)
    most: Counter[str] = Counter()
    for before, after in itertools.pairwise(counts):
        most |= after - before
    assert dict(most) == WAITS.get(name, {})


@pytest.mark.parametrize("protocol", ["dc2021", "dm2023", "idc2022"])
def test_evaluation_runs_elsewhere_and_waits_once_for_each_network(protocol: str, toy_pool: MakePool) -> None:
    condensed = methods.dm(NET, steps=1)(toy_pool(), 2)
    part, pool = condensed.parts[0], toy_pool()
    how = {"protocol": PROTOCOLS[protocol].scaled(4), "seeds": 2}

    def test_images(device: torch.device | str) -> ClassPool:
        labels = pool.relabel(pool.all_labels())
        return ClassPool(pool._images, labels, mean=part.mean, std=part.std, device=device)

    counts: dict[tuple[int, int], Counter[str]] = {}
    with pretended_device() as device:

        def on_epoch(network: int, epoch: int) -> None:
            counts[network, epoch] = Counter(device.waits)

        there = evaluate(condensed, test_images(ELSEWHERE), NET, on_epoch=on_epoch, **how)
    assert there.accuracies == evaluate(condensed, test_images("cpu"), NET, **how).accuracies
    for (network, epoch), now in counts.items():
        assert epoch == 0 or now == counts[network, epoch - 1]


# ---- what the device finds


class Stray(Term):
    """A stranger's term that makes a tensor where it should not, or waits for the device."""

    additive = True

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def summarise(self, real: Side) -> Statistic:
        return ()

    def distance(self, statistic: Statistic, syn: Side) -> Float[Tensor, ""]:
        embedding = syn.embedding
        if self.how == "made on the CPU":
            return (embedding - torch.zeros(embedding.shape[1])).square().sum()
        if self.how == "drawn on the CPU":
            return (embedding * torch.rand(1, generator=syn.look.random.cpu, device=embedding.device)).sum()
        if self.how == "reads a number":
            return embedding.sum() * float(embedding.detach().sum().sign())
        if self.how == "counts what is not zero":
            return embedding[embedding.detach() > 0].sum()
        return embedding.square().sum() * torch.tensor(0.5, device=embedding.device)


def stray(how: str) -> Distiller:
    return replace(methods.dm(NET, steps=2), objective=Stray(how))


@pytest.mark.parametrize("how", ["made on the CPU", "drawn on the CPU"])
def test_a_tensor_made_on_the_wrong_device_is_found(how: str, toy_pool: MakePool) -> None:
    losses(stray(how), toy_pool())
    with pretended_device(), pytest.raises(RuntimeError, match=r"on the same device|expected a generator"):
        losses(stray(how), pool_on(toy_pool(), ELSEWHERE))


@pytest.mark.parametrize("how", ["reads a number", "counts what is not zero", "copies to the device"])
def test_a_wait_is_counted(how: str, toy_pool: MakePool) -> None:
    with pretended_device() as device:
        losses(stray(how), pool_on(toy_pool(), ELSEWHERE))
    assert device.waits[f"test_devices.Stray.distance {how}"] == 2


def labels_on_the_cpu(side: Side) -> Tensor:
    return torch.tensor(side.positions).repeat_interleave(side.per_class)


def numbers_on_the_cpu(values: list[float], like: Tensor) -> Tensor:
    return torch.tensor(values).repeat_interleave(len(like) // len(values)).view(-1, 1, 1, 1)


@pytest.mark.parametrize(
    ("place", "name", "wrong"),
    [(Side, "labels", property(labels_on_the_cpu)), (class_sweep, "_columns", numbers_on_the_cpu)],
)
def test_a_mistake_in_the_library_is_found(
    place: Any, name: str, wrong: Any, toy_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = losses(CONDENSERS["idm"], toy_pool())
    monkeypatch.setattr(place, name, wrong)
    assert losses(CONDENSERS["idm"], toy_pool()) == right  # on a CPU nobody would notice
    with pretended_device(), pytest.raises(RuntimeError, match="on the same device"):
        losses(CONDENSERS["idm"], pool_on(toy_pool(), ELSEWHERE))


def test_what_an_accelerator_allows_is_allowed() -> None:
    with pretended_device() as device:
        x = torch.arange(6.0, device=ELSEWHERE).view(2, 3)
        assert x.device == ELSEWHERE
        assert (x * torch.tensor(2.0) + 1).sum().item() == 36  # a number of the CPU
        assert x[torch.tensor([1])].tolist() == [[3, 4, 5]]  # indices of the CPU, which are copied
        with pytest.raises(RuntimeError, match="on the same device"):
            torch.ones(2, 3)[torch.tensor([1], device=ELSEWHERE)]
        with pytest.raises(RuntimeError, match="on the same device"):
            torch.cat([x, torch.ones(1, 3)])
        x.zero_()
        assert x.tolist() == [[0, 0, 0], [0, 0, 0]]
    assert {name.split(" ", 1)[1]: n for name, n in device.waits.items()} == {
        "reads a number": 1,
        "copies to the device": 2,
        "copies to the host": 2,
    }
