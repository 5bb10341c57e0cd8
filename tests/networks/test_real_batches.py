"""Representative real images: k-means and the images nearest to its centroids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from ddreplay import ClassPool, ConvNet, methods
from ddreplay.augment.siamese import Identity
from ddreplay.backbones import Probe
from ddreplay.data.clustering import kmeans, representatives
from ddreplay.networks import Banked
from ddreplay.networks.real_batches import Representative, RepresentativeImages, Uniform
from ddreplay.objectives import Look
from ddreplay.parameterize import Pixels
from ddreplay.randomness import Random

MakePool = Callable[..., ClassPool]
NET = ConvNet(width=4)


def look(pool: ClassPool, seed: int = 0) -> Look:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = NET(pool.shape, pool.classes)
    return Look(net, Probe(net), Identity().draw(pool.shape, Random(0)), Identity(), Random(0))


def blobs() -> torch.Tensor:
    """Three tight groups of 5, 3 and 2 points around 0, 10 and 20."""
    centres = torch.tensor([0.0] * 5 + [10.0] * 3 + [20.0] * 2)
    noise = torch.tensor([0.1, -0.1, 0.0, 0.2, -0.2, 0.1, -0.1, 0.0, 0.1, -0.1])
    return (centres + noise)[:, None].expand(10, 2).contiguous()


def test_kmeans_is_lloyds_iteration_written_out() -> None:
    features = torch.randn(30, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start = torch.randperm(30, generator=Random(4).device)[:4]
    centroids = [features[i].clone() for i in start.tolist()]
    for _ in range(5):
        members: list[list[torch.Tensor]] = [[] for _ in centroids]
        for x in features:
            gaps = [float((x - c).square().sum()) for c in centroids]
            members[gaps.index(min(gaps))].append(x)
        centroids = [sum(m) / len(m) if m else c for m, c in zip(members, centroids, strict=True)]  # type: ignore[misc]
    torch.testing.assert_close(kmeans(features, 4, Random(4), iterations=5), torch.stack(centroids))


def test_representatives_are_in_the_middle_of_groups_largest_first() -> None:
    for seed in range(20):
        random = Random(seed)
        centroids = kmeans(blobs(), 3, Random(seed))[:, 0].sort().values
        if not torch.allclose(centroids, torch.tensor([0.0, 10.0, 20.0]), atol=0.01):
            continue  # a poor start, from which Lloyd's iteration does not find the groups
        rows = representatives(blobs(), 3, random)
        assert rows.tolist()[:2] == [2, 7]
        assert rows.tolist()[2] in (8, 9)
        return
    pytest.fail("no start of twenty found the groups")


def test_distinct_representatives_differ_and_few_rows_repeat() -> None:
    same = torch.zeros(4, 2)
    assert len(set(representatives(same, 3, Random(0), distinct=True).tolist())) == 3
    assert representatives(same, 6, Random(0)).tolist() == [0, 1, 2, 3, 0, 1]


def test_a_selection_is_kept_for_the_interval(toy_pool: MakePool) -> None:
    pool = toy_pool(images_per_class=12)
    drawer, random = Representative(interval=3).start(pool), Random(0)
    found = [drawer(look(pool), 4, random) for _ in range(7)]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[1], found[2])
    assert not torch.equal(found[2], found[3])
    assert torch.equal(found[3], found[5])
    assert not torch.equal(found[5], found[6])


def test_drawn_rows_are_of_their_class(toy_pool: MakePool) -> None:
    pool = toy_pool(images_per_class=9)
    rows = Representative(candidates=6).start(pool)(look(pool), 4, Random(0))
    assert rows.shape == (3, 4)
    assert pool.all_labels()[rows].tolist() == [[0] * 4, [1] * 4, [2] * 4]


def test_representatives_are_nearer_to_all_images_than_a_random_draw(toy_pool: MakePool) -> None:
    pool, seen = toy_pool(images_per_class=60), look(toy_pool())

    @torch.no_grad()
    def cost(x: torch.Tensor) -> float:
        real, chosen = seen.probe(pool.all().x).embedding, seen.probe(x).embedding
        return float(torch.cdist(real, chosen).min(1).values.square().mean())

    def drawn(how: Representative | Uniform, seed: int) -> torch.Tensor:
        return pool.rows(how.start(pool)(seen, 5, Random(seed)).flatten())

    k_means = [cost(drawn(Representative(), seed)) for seed in range(5)]
    at_random = [cost(drawn(Uniform(), seed)) for seed in range(5)]
    assert sum(k_means) < sum(at_random)


def test_images_may_start_as_representatives(toy_pool: MakePool) -> None:
    pool = toy_pool(images_per_class=10)
    start = RepresentativeImages(NET)
    first = start(pool, 3, Random(1))
    assert first.shape == (9, *pool.shape)
    assert torch.equal(first, start(pool, 3, Random(1)))
    images = pool.all().x
    for image in Pixels(start)(pool, 2, Random(0)).decode().detach():
        assert (images - image).abs().flatten(1).amax(1).min() < 1e-5


def test_every_bank_entry_is_clustered_under_its_own_network(toy_pool: MakePool) -> None:
    method = replace(methods.dm(NET, networks=Banked(size=2), steps=4), draw=Representative(interval=100))
    losses: list[float] = []
    method(toy_pool(images_per_class=12), 1, on_step=lambda _, loss: losses.append(float(loss)))
    assert len(losses) == 4


@pytest.mark.parametrize("wrong", [{"interval": 0}, {"iterations": -1}, {"candidates": 0}])
def test_wrong_settings_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be at least"):
        Representative(**wrong)
