"""What benchmarks on one data set share: reduced data, protocols by name, a set condensed and tested."""

from __future__ import annotations

import pytest
import torch

from benchmarks.sets import condense_and_test, first_rows, read, training
from ddreplay import names


def test_the_first_rows_of_every_class() -> None:
    labels = torch.tensor([2, 0, 2, 0, 2, 1])
    assert first_rows(labels, 2).tolist() == [1, 3, 5, 0, 2]
    assert sorted(first_rows(labels, None).tolist()) == list(range(6))


def test_held_out_images_are_training_images() -> None:
    data = read("digits", validation=True, train_per_class=5, test_per_class=2, device="cpu")
    assert data.described()["train"] == "50 images"
    assert data.described()["test"] == "20 held-out training images"
    given = read("digits", device="cpu")
    everything = {tuple(image) for image in given.images.train_images.flatten(1).tolist()}
    assert all(tuple(image) in everything for image in data.images.test_images.flatten(1).tolist())


def test_a_protocol_takes_the_operations_of_the_data_and_says_so() -> None:
    digits = read("digits", device="cpu").images
    assert "flip" not in str(training("dm2023", digits, None).augment)
    assert training("dc2021", digits, 7).name == "dc2021, 7 epochs"
    with pytest.raises(ValueError, match="protocol must be one of"):
        training("dm1823", digits, None)


def test_a_set_is_condensed_and_tested_with_the_seeds_given() -> None:
    data = read("digits", train_per_class=10, test_per_class=5, device="cpu")
    how = {"net": "convnet(width=4)", "protocol": training("dc2021", data.images, 2), "networks": 2}
    first, again, other = (
        condense_and_test(names.condenser("random"), data, 1, seed=seed, first_network=network, **how)
        for seed, network in ((0, 5), (0, 5), (0, 6))
    )
    assert first.accuracies == again.accuracies != other.accuracies
    assert torch.equal(first.condensed.images().x, other.condensed.images().x)
    result = first.result()
    assert result["accuracy"] == sum(result["accuracies"]) / 2
    assert (result["stored_images"], result["images"], len(result["accuracies"])) == (10, 10, 2)
