"""Pools: what is drawn, how it is normalised, what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.utils.data import TensorDataset

from ddreplay import ClassPool
from ddreplay.data.pool import concatenate
from ddreplay.randomness import Random

MakePool = Callable[..., ClassPool]


def test_draws_are_class_major_and_without_replacement(toy_pool: MakePool) -> None:
    pool = toy_pool(images_per_class=6)
    rows = pool.draw_rows(4, Random(0))
    assert rows.shape == (3, 4)
    assert all(len(set(row.tolist())) == 4 for row in rows)
    assert all(k * 6 <= int(row.min()) and int(row.max()) < (k + 1) * 6 for k, row in enumerate(rows))
    batch = pool.draw(4, Random(0))
    assert batch.y.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert torch.equal(batch.x, pool.rows(rows.flatten()))


def test_every_image_is_as_likely_as_another(toy_pool: MakePool) -> None:
    pool, random = toy_pool(images_per_class=5), Random(0)
    seen = torch.cat([pool.draw_rows(2, random)[1] for _ in range(2000)]) - 5
    share = torch.bincount(seen, minlength=5) / 4000
    assert (share - 0.2).abs().max() < 0.03


def test_more_than_a_class_holds_means_whole_classes(toy_pool: MakePool) -> None:
    pool = toy_pool(images_per_class=6)
    rows = pool.draw_rows(100, Random(0))
    assert rows.shape == (3, 6)
    assert sorted(rows[1].tolist()) == list(range(6, 12))


def test_a_smaller_class_repeats_its_images_evenly() -> None:
    labels = torch.tensor([0] * 2 + [1] * 5)
    pool = ClassPool(torch.randint(256, (7, 1, 8, 8), dtype=torch.uint8), labels, device="cpu")
    assert torch.bincount(pool.draw_rows(5, Random(1))[0]).sort().values.tolist() == [2, 3]


def test_uint8_is_kept_and_normalised_on_the_fly() -> None:
    images = torch.randint(256, (20, 3, 8, 8), dtype=torch.uint8)
    pool = ClassPool(
        images, torch.zeros(20, dtype=torch.int64), mean=(0.1, 0.2, 0.3), std=(0.5, 0.4, 0.3), device="cpu"
    )
    expected = (images.double() / 255 - torch.tensor([0.1, 0.2, 0.3]).view(-1, 1, 1)) / torch.tensor(
        [0.5, 0.4, 0.3]
    ).view(-1, 1, 1)
    torch.testing.assert_close(pool.all().x.double(), expected, atol=1e-5, rtol=0)
    assert pool._images.dtype == torch.uint8


def test_constants_from_data_give_zero_mean_and_unit_spread() -> None:
    images = torch.randint(20, 90, (50, 2, 8, 8), dtype=torch.uint8)
    pool = ClassPool(images, torch.arange(50) % 2, device="cpu")
    x = pool.all().x
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(x.std((0, 2, 3)), torch.ones(2), atol=1e-3, rtol=0)
    assert pool.normalization == "from data"


def test_float_images_are_network_space_already() -> None:
    images = torch.randn(10, 1, 8, 8) * 3 + 2
    pool = ClassPool(images, torch.zeros(10, dtype=torch.int64), device="cpu")
    assert torch.equal(pool.all().x, images)
    pixels = images * pool.std[0] + pool.mean[0]
    torch.testing.assert_close((pixels.min(), pixels.max()), (torch.tensor(0.0), torch.tensor(1.0)), atol=1e-5, rtol=0)


def test_labels_may_be_any_integers_and_come_back() -> None:
    labels = torch.tensor([86, -3, 26, 86, -3, 26])
    pool = ClassPool(torch.rand(6, 1, 8, 8), labels, device="cpu", class_names={86: "train"})
    assert pool.class_ids.tolist() == [-3, 26, 86]
    assert pool.class_names == ("-3", "26", "train")
    assert pool.relabel(pool.all().y).tolist() == [-3, -3, 26, 26, 86, 86]


def test_selecting_classes_keeps_their_images_and_constants(toy_pool: MakePool) -> None:
    pool = toy_pool()
    part = pool.select([2, 0])
    assert part.class_ids.tolist() == pool.class_ids[[0, 2]].tolist()
    assert torch.equal(part.of_class(1), pool.of_class(2))
    assert part.mean == pool.mean


def test_joining_pools_joins_equal_classes(toy_pool: MakePool) -> None:
    pool = toy_pool()
    both = concatenate([pool.select([0, 1]), pool.select([1, 2])])
    assert both.counts == (6, 12, 6)
    torch.testing.assert_close(both.of_class(2), pool.of_class(2))
    with pytest.raises(ValueError, match="different shapes"):
        concatenate([pool, toy_pool(shape=(3, 8, 8))])


def test_a_map_style_dataset_becomes_a_pool() -> None:
    data = TensorDataset(torch.rand(6, 1, 8, 8), torch.tensor([3, 3, 4, 4, 5, 5]))
    pool = ClassPool.from_dataset(data, device="cpu")
    assert pool.counts == (2, 2, 2)
    with pytest.raises(ValueError, match="empty"):
        ClassPool.from_dataset(TensorDataset(torch.zeros(0, 1, 8, 8), torch.zeros(0)))
    with pytest.raises(ValueError, match="differ in shape"):
        ClassPool.from_dataset([(torch.rand(1, 8, 8), 0), (torch.rand(1, 9, 8), 0)])
    with pytest.raises(ValueError, match="ToTensor"):
        ClassPool.from_dataset([("no tensor", 0)])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_pixels_that_are_not_finite_are_refused(bad: float) -> None:
    images = torch.rand(4, 1, 8, 8)
    images[2, 0, 3, 3] = bad
    with pytest.raises(ValueError, match="image 2 holds NaN or infinity"):
        ClassPool(images, torch.zeros(4, dtype=torch.int64))


@pytest.mark.parametrize(
    ("images", "labels", "error"),
    [
        (torch.rand(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64), ValueError),
        (torch.rand(3, 1, 8, 8), torch.zeros(2, dtype=torch.int64), ValueError),
        (torch.zeros(3, 1, 8, 8, dtype=torch.int32), torch.zeros(3, dtype=torch.int64), TypeError),
        (torch.rand(3, 1, 8, 8), torch.rand(3), TypeError),
    ],
)
def test_what_is_no_pool_is_refused(images: torch.Tensor, labels: torch.Tensor, error: type[Exception]) -> None:
    with pytest.raises(error):
        ClassPool(images, labels)


@pytest.mark.parametrize(
    "how", [{"mean": (0.5,)}, {"mean": (0.5, 0.5), "std": (1.0, 1.0)}, {"mean": (0.0,), "std": (0.0,)}]
)
def test_constants_that_cannot_be_are_refused(how: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(ValueError, match=r"mean|std"):
        ClassPool(torch.rand(3, 1, 8, 8), torch.zeros(3, dtype=torch.int64), **how)


def test_copies_know_what_they_are_copies_of(toy_pool: MakePool) -> None:
    pool = toy_pool(images_per_class=3)
    assert pool.origin is None
    assert pool.distinct() is pool
    rows = torch.tensor([0, 1, 2, 3, 3, 3, 4, 7, 7])
    copied = pool.subset(rows)
    assert copied.counts == (3, 4, 2)
    assert copied.distinct_rows().tolist() == [0, 1, 2, 3, 6, 7]
    assert copied.distinct().origin is None
    assert torch.equal(copied.distinct().all().x, pool.rows(torch.tensor([0, 1, 2, 3, 4, 7])))
    assert copied.select([0]).origin is None
    assert copied.select([1]).distinct().counts == (2,)
    twice = copied.subset(torch.tensor([0, 3, 4, 6, 7]))  # of copies, two are left
    assert twice.distinct().counts == (1, 2, 1)
