"""How long a condensation or an evaluation will take, from a few of its steps."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F

from ddreplay.backbones import ConvNet, Net, as_factory
from ddreplay.condense.condenser import Condenser
from ddreplay.condense.distiller import Distiller
from ddreplay.condense.image_count import Fixed
from ddreplay.data.pool import Batch, ClassPool
from ddreplay.evaluation import PROTOCOLS, Protocol, evaluate
from ddreplay.methods.practical import Practical
from ddreplay.methods.selection_rules import InEmbedding, Rule, ScoreRule
from ddreplay.methods.selections import Selection
from ddreplay.methods.whitened import Whitened
from ddreplay.networks import Banked, ExpertSegments, ModelQueue, NetworkSource
from ddreplay.randomness import Random
from ddreplay.storage.budget import Budget
from ddreplay.storage.condensed_set import CondensedSet
from ddreplay.training import ByOptimizer

__all__ = ["condensing_seconds", "evaluating_seconds", "in_words"]

TRIED = 30  # steps at most
FEW = 20  # images of every class that are tested, or that an expert is trained on, while it is measured


def condensing_seconds(condenser: Condenser, pool: ClassPool, budget: Budget, *, patience: float = 3.0) -> float | None:
    """About how many seconds a condensation will take, by trying its first steps for ``patience`` seconds, at least two of them.

    The first step, which has what is done once (compiling), does not count. What networks cost beside steps (a bank's real side, their
    training, experts) is measured on a few images and multiplied. Of a selection it is the training of the networks that rank images.
    ``None``: where there is little to do or nothing.
    """
    if isinstance(condenser, Practical):
        return condensing_seconds(condenser.method(pool, budget), pool, budget, patience=patience)
    if isinstance(condenser, Selection):
        return _ranking_seconds(condenser.rule, pool)
    if isinstance(condenser, Whitened):
        return condensing_seconds(condenser.condenser, pool, Budget.images(_images(budget, pool)), patience=patience)
    if not isinstance(condenser, Distiller):
        return None
    count = _images(budget, pool)
    steps = condenser.steps if isinstance(condenser.steps, int) else condenser.steps(count)
    smaller, beside, entries = _without_training(condenser.networks, pool, steps)
    if steps <= TRIED and not beside:
        return None  # to try it would be to do it
    tried = replace(condenser, networks=smaller, steps=min(steps, TRIED), choose=Fixed(count))
    some = pool.first(FEW) if isinstance(smaller, ExpertSegments) else pool
    times = _step_times(tried, some, budget, patience)
    if not times:  # every class keeps its real images
        return None
    step, entry = _usual(times), 0.0
    if isinstance(smaller, Banked):
        renewed = replace(tried, networks=replace(smaller, refresh=1))  # a new entry at every step
        entry = max(0.0, _usual(_step_times(renewed, some, budget, patience)) - step)
    return beside + entries * entry + steps * step


def _usual(times: list[float]) -> float:
    """Of a step but the first, which has what is done once; of that one where there is no other."""
    return statistics.median(times[1:] or times)


def _ranking_seconds(rule: Rule, pool: ClassPool) -> float | None:
    """Of training the networks by which a rule ranks images."""
    if not isinstance(rule, (InEmbedding, ScoreRule)) or not rule.epochs:
        return None
    size = PROTOCOLS["dc2021"].batch_size
    batches = rule.epochs * -(-len(pool) // size) * (rule.networks if isinstance(rule, ScoreRule) else 1)
    return batches * _batch_seconds(rule.net, pool, size)


def _images(budget: Budget, pool: ClassPool) -> int:
    """Images per class: those of the budget, or for bytes a guess: an image takes as many as its side has pixels."""
    share = budget.share(pool.classes)
    most = max(1, max(pool.counts) - 1)
    return min(most, max(1, int(share / min(pool.shape[1:])))) if budget.in_bytes else int(share)


def _step_times(method: Distiller, pool: ClassPool, budget: Budget, patience: float) -> list[float]:
    """Seconds of every step tried, two of them at least; the first one's hold what is made once."""
    times: list[float] = []
    began = time.perf_counter()

    def stop(step: int, loss: Any) -> None:
        times.append(time.perf_counter())
        if len(times) > 1 and times[-1] - began > patience:
            raise _Enough

    with suppress(_Enough):
        method(pool, budget, on_step=stop)
    return [b - a for a, b in zip([began, *times], times, strict=False)]


class _Enough(Exception):
    """Enough steps were seen."""


def _without_training(source: NetworkSource, pool: ClassPool, steps: int) -> tuple[NetworkSource, float, int]:
    """A source that begins at once, the seconds of training that it saves, and how many entries of a bank there will be."""
    if isinstance(source, Banked):
        renewed = 0 if source.refresh is None else steps // source.refresh
        entries = min(source.size, steps) + renewed
        batches = entries * source.trained / 2 if source.runs is None else source.runs * source.trained
        training = batches * _batch_seconds(source.net, pool, source.batch_size) if batches else 0.0
        return replace(source, size=1, trained=0, refresh=None, runs=None), training, entries
    if isinstance(source, ExpertSegments):
        epochs = source.latest_start - 1 + source.segment
        batches = epochs * -(-len(pool) // source.batch_size)
        training = min(source.experts, steps) * batches * _batch_seconds(source.net, pool, source.batch_size)
        return replace(source, experts=1, latest_start=1, segment=1, folder=None), training, 0
    if isinstance(source, ModelQueue) and source.pretrained is not None:
        batches = source.pretrained.networks * source.pretrained.steps
        training = batches * _batch_seconds(source.net, pool, source.batch_size)
        return replace(source, pretrained=None), training, 0
    return source, 0.0, 0


def _batch_seconds(net: Net | None, pool: ClassPool, size: int) -> float:
    """Seconds of training a network on one batch of so many images."""
    random = Random(0, pool.device)
    with random.scope():
        model = as_factory(ConvNet() if net is None else net)(pool.shape, max(2, pool.classes)).to(pool.device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    rows = torch.arange(min(size, len(pool)), device=pool.device)
    batch, times = Batch(pool.rows(rows), pool.all_labels()[rows]), []
    for _ in range(3):
        began = time.perf_counter()
        ByOptimizer(optimizer)(F.cross_entropy(model(batch.x), batch.y))
        _finish(pool.device)
        times.append(time.perf_counter() - began)
    return min(times) * size / len(rows)


def evaluating_seconds(
    condensed: CondensedSet, test: ClassPool, net: Net | None, *, protocol: Protocol, seeds: int
) -> float:
    """About how many seconds an evaluation will take, from two epochs and the test of a few images."""
    marks: list[float] = []
    few, protocol = test.first(FEW), protocol.of(condensed)
    quick = replace(protocol, epochs=2)
    found = evaluate(condensed, few, net, protocol=quick, seeds=1, on_epoch=_clock(marks))
    epoch = marks[-1] - marks[-2] if len(marks) > 1 else found.seconds
    testing = max(0.0, found.seconds - len(marks) * epoch) * len(test) / len(few)
    return seeds * (protocol.passes * epoch + testing)


def _clock(marks: list[float]) -> Callable[[int, int], None]:
    return lambda *_: marks.append(time.perf_counter())


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def in_words(seconds: float) -> str:
    """A duration for people, to two figures.

    >>> in_words(34.2), in_words(400.0), in_words(2e4), in_words(4e5)
    ('34 s', '7 minutes', '5.6 hours', '4.6 days')
    """
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    for unit, length, most in (("minutes", 60, 100), ("hours", 3600, 48), ("days", 86400, float("inf"))):
        if seconds / length < most:
            value = seconds / length
            return f"{value:.1f} {unit}" if value < 10 and unit != "minutes" else f"{value:.0f} {unit}"
    return ""
