"""Selections: what each of them takes, and in which order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ddreplay import ClassPool, ConvNet
from ddreplay.methods import selections
from ddreplay.methods.selection_rules import (
    Candidates,
    error_norms,
    farthest_first,
    forgetting_counts,
    herd,
    nearest_to_mean,
)
from ddreplay.randomness import Random
from ddreplay.storage.codecs import float32

NET = ConvNet(width=4)
MakePool = Callable[..., ClassPool]


def test_k_center_takes_the_middle_and_then_the_farthest() -> None:
    features = torch.tensor([[0.0], [1.0], [9.0], [4.0], [5.0]])
    # the mean is 3.8; then 9 is farthest (5 away), then 0 (4 from 4), then ties between 1 and 5 at distance 1: the first
    assert farthest_first(features, 5).tolist() == [3, 2, 0, 1, 4]


def test_herding_keeps_the_mean() -> None:
    features = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    rows = herd(features, 10)
    assert len(set(rows.tolist())) == 10
    assert (features[rows].mean(0) - features.mean(0)).norm() < (features[:10].mean(0) - features.mean(0)).norm()


def test_forgetting_counts_what_the_definitions_say() -> None:
    history = torch.tensor(
        [
            [1, 0, 1, 0],
            [1, 0, 0, 0],
            [1, 1, 1, 0],
            [1, 1, 0, 0],
        ]
    ).bool()  # rows are epochs; columns: always right, learned late, forgotten twice, never learned
    assert forgetting_counts(history, transitions=True).tolist() == [0, 0, 2, 4]
    assert forgetting_counts(history, transitions=False).tolist() == [0, 2, 2, 4]


def test_error_norms_are_gradients_of_the_loss(toy_pool: Callable[..., ClassPool]) -> None:
    pool = toy_pool()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = NET(pool.shape, pool.classes)
    found = error_norms(net, Candidates.of(pool), times_features=True)
    plain = error_norms(net, Candidates.of(pool), times_features=False)
    x, y = pool.all()
    for k in range(len(x)):
        loss = torch.nn.functional.cross_entropy(net(x[k : k + 1]), y[k : k + 1])
        weight, bias = torch.autograd.grad(loss, [net.classifier.weight, net.classifier.bias])
        torch.testing.assert_close(found[k], weight.norm(), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(plain[k], bias.norm(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("make", [selections.forgetting, selections.el2n, selections.grand])
def test_directions_are_opposite(make: Callable[..., selections.Selection], toy_pool: Callable[..., ClassPool]) -> None:
    pool = toy_pool(images_per_class=10)
    hard, easy = (
        make(NET, keep=keep, epochs=3, networks=1).rule(Candidates.of(pool), 10, Random(0))
        for keep in ("hardest", "easiest")
    )
    for a, b in zip(hard, easy, strict=True):
        assert sorted(a.tolist()) == list(range(10))
        if make is not selections.forgetting:  # whose counts tie
            assert a.tolist() == b.tolist()[::-1]


def test_published_scores_rank_the_images_of_every_class(toy_pool: MakePool, tmp_path: Path) -> None:
    pool = toy_pool(images_per_class=4)
    ids = pool.class_ids.tolist()
    scores = torch.tensor([0.1, 0.9, 0.5, 0.7])
    mixed = torch.tensor([c for k in range(4) for c in ids])  # one image of every class after the other
    file = tmp_path / "scores.npz"
    np.savez(file, scores=scores.repeat_interleave(len(ids)).numpy(), labels=mixed.numpy())
    found = selections.c_score(file, codec=float32())(pool, 2)
    lowest = selections.c_score(file, keep="lowest", codec=float32())(pool, 1)
    for k in range(pool.classes):
        mine = found.images().x[2 * k : 2 * k + 2]
        torch.testing.assert_close(mine, pool.of_class(k)[[1, 3]], atol=1e-6, rtol=0)
        torch.testing.assert_close(lowest.images().x[k], pool.of_class(k)[0], atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="which has 5 images here"):
        selections.c_score(file)(toy_pool(images_per_class=5), 2)
    with pytest.raises(ValueError, match="needs the file"):
        selections.c_score()(pool, 1)
    np.savez(file, scores=scores.numpy())
    with pytest.raises(ValueError, match="lacks labels"):
        selections.c_score(file)(pool, 1)


def test_the_nearest_to_the_mean_are_not_what_herding_takes() -> None:
    features = torch.tensor([[0.9, 0.0], [1.0, 0.0], [1.1, 0.0], [-1.5, 0.0], [-1.5, 0.0]])
    by_hand = sorted(range(5), key=lambda i: float((features[i] - features.mean(0)).square().sum()))
    assert nearest_to_mean(features, 3).tolist() == by_hand[:3]
    assert herd(features, 3).tolist() != by_hand[:3]
    assert selections.herding(ConvNet(width=4), order="nearest").rule.order is nearest_to_mean  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["forgetting", "el2n", "grand"])
def test_scores_of_a_network_whose_time_was_up_at_once_are_those_of_what_it_knows(
    name: str, toy_pool: MakePool
) -> None:
    pool = toy_pool(images_per_class=6)
    rule = getattr(selections, name)(NET, epochs=2).rule
    rows = rule(Candidates.of(pool, stop=lambda: True), 3, Random(0))
    assert [len(part) for part in rows] == [3] * pool.classes
