"""The buffer that Mammoth's methods take: values in [0, 1] in and out, within the memory's bytes."""

from __future__ import annotations

import pytest
import torch

from ddreplay import ConvNet, OnlineMemory, dm
from ddreplay.frameworks.mammoth import CondensedMammothBuffer
from ddreplay.methods import selections
from ddreplay.storage.codecs import uint8

MEAN, STD = (0.4,), (0.2,)


def buffer(max_bytes: int = 4000, enough: int = 8, seed: int = 0) -> CondensedMammothBuffer:
    memory = OnlineMemory(selections.random(codec=uint8()), max_bytes=max_bytes, enough=enough)
    return CondensedMammothBuffer(memory, mean=MEAN, std=STD, seed=seed)


def images(n: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_what_is_added_comes_back_as_it_was() -> None:
    held, x = buffer(), images(6)
    assert held.is_empty()
    assert len(held) == 0
    held.add_data(examples=x, labels=torch.tensor([0, 1, 2, 0, 1, 2]))
    assert not held.is_empty()
    assert len(held) == held.num_seen_examples == 6
    found, labels = held.get_all_data()
    for image, label in zip(x, [0, 1, 2, 0, 1, 2], strict=True):
        gaps = (found - image).flatten(1).abs().amax(1)
        assert float(gaps.min()) < 0.01  # 8 bits
        assert int(labels[gaps.argmin()]) == label


def test_batches_are_drawn_without_repetition_and_transformed() -> None:
    held = buffer()
    held.add_data(images(6), torch.arange(6) % 3)
    rows, x, y = held.get_data(4, return_index=True)
    assert len(set(rows.tolist())) == len(x) == len(y) == 4
    assert torch.equal(held.examples[rows], x)
    assert torch.equal(held.labels[rows], y)
    again = buffer(seed=0)
    again.add_data(images(6), torch.arange(6) % 3)
    assert torch.equal(again.get_data(4)[0], x)  # the same seed, the same draw
    assert len(held.get_data(100)[0]) == 6
    x, y = held.get_data_by_index(torch.tensor([1, 3]), transform=lambda image: image + 1)
    torch.testing.assert_close(x, held.examples[[1, 3]] + 1)
    assert held.to("cpu").used_attributes == ["examples", "labels"]


def test_a_task_is_left_out() -> None:
    held = buffer()
    held.add_data(images(8), torch.arange(8) % 4)
    _, y = held.get_data(10, mask_task_out=1, cpt=2)
    assert set(y.tolist()) == {0, 1}
    with pytest.raises(ValueError, match="cpt"):
        held.get_data(10, mask_task_out=1)


def test_condensed_images_take_the_place_of_real_ones_within_the_bytes() -> None:
    memory = OnlineMemory(dm(ConvNet(width=8), steps=1).stored_by(uint8()), max_bytes=3000, enough=20)
    held = CondensedMammothBuffer(memory, mean=MEAN, std=STD)
    for k in range(8):
        held.add_data(images(10, k), torch.arange(10) % 2)
        assert memory.nbytes <= 3000
    assert sorted(memory.memory.condensed.class_ids) == [0, 1]
    assert held.num_seen_examples == 80
    x, y = held.get_all_data()
    assert len(x) == len(y) == len(held) == held.buffer_size > 10
    assert 0 <= float(x.min()) <= float(x.max()) <= 1


def test_what_condensed_images_do_not_have_is_refused() -> None:
    held = buffer()
    with pytest.raises(ValueError, match="labels must be given"):
        held.add_data(images(2))
    with pytest.raises(ValueError, match="logits"):
        held.add_data(images(2), torch.tensor([0, 1]), logits=torch.zeros(2, 10))
    with pytest.raises(ValueError, match="true_labels"):
        held.add_data(images(2), torch.tensor([0, 1]), true_labels=torch.tensor([0, 1]))
    assert held.is_empty()


def test_images_as_they_are_come_first_and_places_can_be_given() -> None:
    held = buffer()
    held.add_data(images(6), torch.arange(6) % 3)
    plain, flipped, y = held.get_data(
        2, transform=lambda image: image.flip(-1), return_not_aug=True, force_indexes=[4, 1]
    )
    assert torch.equal(plain, held.examples[[4, 1]])
    assert torch.equal(flipped, plain.flip(-1))
    assert torch.equal(y, held.labels[[4, 1]])


def test_it_can_be_emptied() -> None:
    held = buffer()
    held.add_data(images(20), torch.arange(20) % 2)
    held.empty()
    assert held.is_empty()
    assert held.num_seen_examples == 0
    held.add_data(images(2), torch.tensor([7, 8]))
    assert sorted(held.labels.tolist()) == [7, 8]
