"""Sets that come with the package."""

from __future__ import annotations

import pytest

from ddreplay import ClassPool, ConvNet, Protocol, evaluate, load_example
from ddreplay.datasets import load
from ddreplay.examples import EXAMPLES


@pytest.fixture(scope="module")
def test_images() -> ClassPool:
    return load("digits").pool("test", device="cpu")


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_small_and_says_how_it_was_made(name: str) -> None:
    condensed = load_example(name)
    assert condensed.provenance["method"] == name.partition("-")[2]
    assert condensed.provenance["data"]["name"] == "digits"
    assert condensed.stored_images == 50
    assert len(condensed.to_bytes()) < 8000


@pytest.mark.parametrize("name", EXAMPLES)
def test_networks_learn_digits_from_an_example(name: str, test_images: ClassPool) -> None:
    found = evaluate(load_example(name), test_images, ConvNet(width=16), protocol=Protocol("quick", 60), seeds=1)
    assert found.mean > 70


def test_another_name_is_refused() -> None:
    with pytest.raises(ValueError, match="name must be one of digits-dm"):
        load_example("cifar10-dm")
