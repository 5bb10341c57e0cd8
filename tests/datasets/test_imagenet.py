"""ImageNet's subsets, from folders that are laid out as ImageNet's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddreplay.datasets import load
from ddreplay.datasets.imagenet import SUBSETS


def photos(root: Path, ids: list[str], count: int = 2) -> None:
    """Photos of 40 x 30 pixels, a shade of gray for every class."""
    for k, name in enumerate(ids):
        for part in ("train", "val"):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                shade = np.full((30, 40, 3), 20 * k + 10, np.uint8)
                Image.fromarray(shade).save(root / part / name / f"{name}_{i}.JPEG", "JPEG", quality=95)


def test_subsets_are_ten_classes_each() -> None:
    assert {len(classes) for classes in SUBSETS.values()} == {10}
    assert all(id[0] == "n" and len(id) == 9 for classes in SUBSETS.values() for id in classes)
    everything = [(id, name) for classes in SUBSETS.values() for id, name in classes.items()]
    assert len({id for id, _ in everything}) == len(set(everything))  # an id has one name


def test_a_subset_is_read_in_its_own_order_from_among_other_classes(tmp_path: Path) -> None:
    ids = sorted([*SUBSETS["woof"], "n01440764"])  # a fish besides
    photos(tmp_path, ids)
    data = load("imagenet:woof", root=tmp_path, size=16)
    assert data.class_names == tuple(SUBSETS["woof"].values())
    assert data.shape == (3, 16, 16)
    assert (len(data.train_images), len(data.test_images)) == (20, 20)
    assert data.normalization == "imagenet"
    shades = [int(data.train_images[data.train_labels == k].float().mean()) for k in range(10)]
    assert shades == pytest.approx([20 * ids.index(id) + 10 for id in SUBSETS["woof"]], abs=2)


def test_the_size_is_that_of_the_papers_where_none_is_said(tmp_path: Path) -> None:
    photos(tmp_path, ["n02115641", "n02086240"], count=1)
    data = load("imagenet:n02115641,n02086240", root=tmp_path)
    assert data.shape == (3, 128, 128)
    assert data.class_names == ("n02115641", "n02086240")


@pytest.mark.parametrize(
    ("which", "words"),
    [
        ("imagenet:dogs", "followed by one of"),
        ("imagenet:", "followed by one of"),
        ("imagenet:n02086240,n02086240", "each named once"),
        ("imagenet:n02086240,n99999999", r"not \['n99999999'\]"),
    ],
)
def test_other_classes_are_refused(which: str, words: str, tmp_path: Path) -> None:
    photos(tmp_path, ["n02086240"], count=1)
    with pytest.raises(ValueError, match=words):
        load(which, root=tmp_path, size=8)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="give root="):
        load("imagenet:woof", root=tmp_path / "none")
