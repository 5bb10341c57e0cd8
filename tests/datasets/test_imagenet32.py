"""ImageNet32: its groups of classes from tiny files in the official format, and what is missing by name."""

from pathlib import Path

import numpy as np
import pytest
from pixel_noise import noise

from ddreplay.datasets import channel_moments, load
from ddreplay.datasets.imagenet32 import GROUPS

LIZARDS = dict(zip((900, 41, 3, 77, 8, 500, 12, 30, 60, 61, 1), GROUPS["lizard"], strict=True))


def write_imagenet32(folder: Path, names=LIZARDS):
    lines = [f"n{label:08d} {label} {name.replace(' ', '_')}" for label, name in names.items()]
    (folder / "map_clsloc.txt").write_text("\n".join([*lines, "n09999999 2 maillot", "n09999998 4 maillot", ""]))
    labels = np.array([*names, 2, 4])
    for file, seed in (
        ("train_data_batch_1", 0),
        ("train_data_batch_2", 1),
        ("train_data_batch_10", 2),
        ("val_data", 3),
    ):
        order = np.roll(labels, 3 * seed)
        np.savez(folder / f"{file}.npz", data=noise(len(labels), 3072, seed=seed), labels=order, mean=np.zeros(3072))


def test_imagenet32_group_follows_the_label_numbers(tmp_path):
    write_imagenet32(tmp_path)
    data = load("imagenet32:lizard", root=tmp_path)
    assert data.class_names == tuple(LIZARDS[label] for label in sorted(LIZARDS))
    assert data.shape == (3, 32, 32)
    assert data.train_labels.bincount().tolist() == [3] * 11
    assert data.test_labels.bincount().tolist() == [1] * 11
    with np.load(tmp_path / "val_data.npz") as val:
        row = int(np.flatnonzero(val["labels"] == 41)[0])
        expected = val["data"][row].reshape(3, 32, 32)
    position = data.class_names.index("banded gecko")
    assert np.array_equal(data.test_images[data.test_labels == position][0].numpy(), expected)
    with np.load(tmp_path / "train_data_batch_10.npz") as last:  # batches in the order of their numbers
        rows = np.isin(last["labels"], list(LIZARDS))
        assert np.array_equal(data.train_images[-11:].flatten(1).numpy(), last["data"][rows])
    assert data.mean == channel_moments(data.train_images).mean


def test_imagenet32_whole(tmp_path):
    write_imagenet32(tmp_path)
    data = load("imagenet32", root=tmp_path)
    assert data.classes == 13
    assert data.class_names[1] == "maillot"
    assert len(data.train_images) == 39


def test_imagenet32_errors_name_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"map_clsloc\.txt"):
        load("imagenet32:lizard", root=tmp_path)
    write_imagenet32(tmp_path)
    with pytest.raises(ValueError, match=r"every class of 'fish' must be in map_clsloc\.txt once"):
        load("imagenet32:fish", root=tmp_path)
    with pytest.raises(ValueError, match="group must be one of"):
        load("imagenet32:bird", root=tmp_path)
    np.savez(tmp_path / "val_data.npz", data=noise(2, 3072), labels=np.array([0, 1]))
    with pytest.raises(ValueError, match=r"val_data\.npz: labels must be integers \[n\] from 1"):
        load("imagenet32:lizard", root=tmp_path)
    (tmp_path / "val_data.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"val_data\.npz"):
        load("imagenet32:lizard", root=tmp_path)
    (tmp_path / "map_clsloc.txt").write_text("n02119789 kit_fox\n")
    with pytest.raises(ValueError, match=r"map_clsloc\.txt line 1"):
        load("imagenet32:lizard", root=tmp_path)


def test_groups_have_the_published_sizes():
    sizes = {group: len(set(names)) for group, names in GROUPS.items()}
    assert sizes == {"automobile": 9, "terrier": 26, "fish": 16, "lizard": 11, "truck": 9, "insect": 27}
