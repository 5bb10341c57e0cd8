"""What a page says of sets, measured: accuracy over seeds and networks beside real images of as many bytes, confusion, near copies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import count

import torch
from torch import Tensor

from ddreplay.backbones import NetFactory
from ddreplay.baselines import BASELINES, baseline
from ddreplay.condense.condenser import OnProgress
from ddreplay.data.pool import ClassPool
from ddreplay.data.space import to_pixels
from ddreplay.evaluation import Evaluation, Protocol, evaluate
from ddreplay.report.nearest import Nearest, nearest_real, real_spacing
from ddreplay.storage.codecs import BudgetTooSmall
from ddreplay.storage.condensed_set import CondensedSet

__all__ = ["Findings", "SetFindings", "look_into"]

Watch = Callable[[str, int], AbstractContextManager[Callable[[], object]]]
"""(what is trained on, epochs in all) -> a context whose value is called after every epoch."""


@dataclass(frozen=True)
class SetFindings:
    """One set and what was found about it.

    Attributes:
        name: the set's name on the page.
        evaluations: network -> ``"condensed"`` and the baselines that fit -> evaluation.
        missing: baselines of which not one image of every class fits into the set's bytes.
        nearest: of every image shown, the nearest real one.
        spacing: how far real images are from their own nearest ones.
    """

    name: str
    condensed: CondensedSet
    train: ClassPool
    test: ClassPool
    evaluations: Mapping[str, Mapping[str, Evaluation]]
    missing: tuple[str, ...]
    nearest: Nearest
    spacing: Tensor

    @property
    def pixels(self) -> Tensor:
        """Its images in pixel colours, float [n, c, h, w], class-major; values outside 0..1 stay outside."""
        return torch.cat([to_pixels(torch.cat(list(p.images)), p.mean, p.std) for p in self.condensed.parts])


@dataclass(frozen=True)
class Findings:
    """Everything that a page says."""

    sets: tuple[SetFindings, ...]
    protocol: Protocol
    seeds: int
    data: str
    command: str = ""
    notes: tuple[str, ...] = field(default=())


def look_into(
    sets: Mapping[str, CondensedSet],
    pools: Callable[[CondensedSet], tuple[ClassPool, ClassPool]],
    nets: Mapping[str, NetFactory],
    protocol: Protocol,
    *,
    seeds: int,
    watch: Watch,
    bars: Callable[[], AbstractContextManager[OnProgress | None]] = nullcontext,
    seed: int = 0,
    data: str = "",
    command: str = "",
    baselines: Sequence[str] = BASELINES,
    notes: tuple[str, ...] = (),
) -> Findings:
    """Evaluate sets, and real images of as many bytes, under one protocol, and look for near copies.

    Args:
        pools: a set -> the real images it was condensed from and those to test on, normalised with its constants.
        seeds: networks for each set, each kind of network and each baseline.
        watch: is told what is trained on, and for how many epochs.
        bars: gives what is told how far the choice of real images is.
        notes: sentences for the page, about how it was made.
    """
    found = []
    place, of = count(1), len(sets) * len(nets) * (1 + len(baselines))
    for name, condensed in sets.items():
        train, test = pools(condensed)
        rivals, missing = _rivals(condensed, train, next(iter(nets.values())), seed, baselines, bars)
        of -= len(missing) * len(nets)
        evaluations: dict[str, dict[str, Evaluation]] = {}
        for net_name, net in nets.items():
            evaluations[net_name] = {}
            for rival_name, rival in {"condensed": condensed, **rivals}.items():
                chosen = protocol.of(condensed)
                label = f"{name}, {net_name}, {rival_name} ({next(place)} of {of})"
                with watch(label, seeds * chosen.passes) as told:
                    evaluations[net_name][rival_name] = evaluate(
                        rival, test, net, protocol=chosen, seeds=seeds, seed=seed, on_epoch=_without_numbers(told)
                    )
        pixels = torch.cat([to_pixels(torch.cat(list(p.images)), p.mean, p.std) for p in condensed.parts])
        found.append(
            SetFindings(
                name, condensed, train, test, evaluations, missing, nearest_real(pixels, train), real_spacing(train)
            )
        )
    return Findings(tuple(found), protocol, seeds, data, command, notes)


def _rivals(
    condensed: CondensedSet,
    train: ClassPool,
    net: NetFactory,
    seed: int,
    names: Sequence[str],
    bars: Callable[[], AbstractContextManager[OnProgress | None]],
) -> tuple[dict[str, CondensedSet], tuple[str, ...]]:
    """Real images of no more bytes, and what does not fit."""
    made, missing = {}, []
    for name in names:
        try:
            with bars() as told:
                made[name] = baseline(condensed, train, name, net=net, seed=seed, on_progress=told)
        except BudgetTooSmall:
            missing.append(name)
    return made, tuple(missing)


def _without_numbers(told: Callable[[], object]) -> Callable[[int, int], None]:
    def after(network: int, epoch: int) -> None:
        told()

    return after
