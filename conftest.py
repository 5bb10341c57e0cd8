"""What every test and every example in a docstring may use."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
import torch

collect_ignore = [] if find_spec("lightning") else ["ddreplay/frameworks/lightning.py"]
"""Modules whose examples need an extra that is not installed."""


def toy_pool(
    images_per_class: int = 6, shape: tuple[int, int, int] = (1, 8, 8), classes: int = 3, seed: int = 0
) -> Any:
    """A pool of noise around one pattern a class; class ids 5, 2, 9, ... are not 0..C-1 and not sorted."""
    from ddreplay.data.pool import ClassPool

    generator = torch.Generator().manual_seed(seed)
    ids = torch.tensor([5, 2, 9, 26, 7, 11, 0, 3][:classes])
    patterns = torch.rand(classes, *shape, generator=generator)
    noise = 0.2 * torch.rand(classes, images_per_class, *shape, generator=generator)
    images = (0.8 * patterns[:, None] + noise).mul(255).to(torch.uint8).flatten(0, 1)
    return ClassPool(images, ids.repeat_interleave(images_per_class), device="cpu")


@pytest.fixture(name="toy_pool")
def _toy_pool() -> Any:
    return toy_pool


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace: dict[str, Any]) -> None:
    doctest_namespace["toy_pool"] = toy_pool
