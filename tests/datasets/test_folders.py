"""Folders of photos: of any size, turned by the camera, with or without a split, among other files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddreplay.augment import DIGITS, NATURAL
from ddreplay.datasets import load


def striped(width: int, height: int) -> Image.Image:
    """Black, with a white band as wide as a third of the shorter side down the middle of the longer one."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    side = min(width, height)
    if width >= height:
        pixels[:, (width - side // 3) // 2 : (width + side // 3) // 2] = 255
    else:
        pixels[(height - side // 3) // 2 : (height + side // 3) // 2] = 255
    return Image.fromarray(pixels)


def photos(folder: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 4) -> None:
    for k, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            striped(30 + 6 * i, 24 + 12 * k).save(folder / name / f"{i}.jpg", quality=95)


def test_cropping_keeps_the_proportions_and_squashing_does_not(tmp_path: Path) -> None:
    (tmp_path / "wide").mkdir()
    for i in range(2):
        striped(96, 24).save(tmp_path / "wide" / f"{i}.png")
    cropped = load(tmp_path, size=12, test_fraction=0.5).train_images[0, 0]
    squashed = load(tmp_path, size=12, resize="squash", test_fraction=0.5).train_images[0, 0]
    assert cropped.shape == squashed.shape == (12, 12)
    assert (cropped > 127).sum(1).tolist() == [4] * 12  # a third of the side
    assert (squashed > 127).sum(1).max() <= 2  # a twelfth of it


def test_photos_are_turned_as_their_camera_says(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    image = Image.fromarray(np.concatenate([np.zeros((8, 8)), np.full((8, 8), 255)]).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    for i in range(2):
        image.save(tmp_path / "cat" / f"{i}.jpg", exif=exif, quality=95)
    found = load(tmp_path, test_fraction=0.5).train_images[0, 0]
    assert found.shape == (8, 16)
    assert found[:, :6].min() > 200
    assert found[:, 10:].max() < 50


def test_val_is_the_test_split_where_there_is_no_other(tmp_path: Path) -> None:
    photos(tmp_path / "train", count=3)
    photos(tmp_path / "val", count=2)
    data = load(tmp_path, size=8)
    assert (len(data.train_images), len(data.test_images), data.val_images) == (6, 4, None)
    assert data.notes == ("4 images of val/ are for testing",)
    photos(tmp_path / "test", count=1)
    data = load(tmp_path, size=8)
    assert data.val_images is not None
    assert (len(data.train_images), len(data.test_images), len(data.val_images)) == (6, 2, 4)


def test_what_is_held_out_and_left_out_is_said(tmp_path: Path) -> None:
    photos(tmp_path, count=4)
    for name in ("cat/a.heic", "cat/b.HEIC", "dog/list.csv", "README", "cat/.hidden"):
        (tmp_path / name).write_text("no image")
    (tmp_path / "dog" / "more").mkdir()
    held, left = load(tmp_path, size=8, test_fraction=0.25).notes
    assert held == "2 images, 25% of every class drawn with seed 0, are held out for testing"
    assert left.startswith(
        "5 of other kinds were left out (2 x .heic, 1 x no suffix, 1 x .csv, 1 x folders); read are .avif"
    )


def test_a_size_below_one_is_refused(tmp_path: Path) -> None:
    photos(tmp_path)
    with pytest.raises(ValueError, match=r"size must be a whole number in 1\.\.4096"):
        load(tmp_path, size=0)


def test_a_size_is_refused_where_images_have_one() -> None:
    with pytest.raises(ValueError, match="size is for folders of images, imagenet and gtsrb"):
        load("digits", size=16)


def test_only_what_may_be_mirrored_is_mirrored(tmp_path: Path) -> None:
    photos(tmp_path / "letters")
    photos(tmp_path / "gtsrb")
    assert load("digits").augmentation == DIGITS
    assert load(tmp_path / "gtsrb", size=8).augmentation == DIGITS
    assert load(tmp_path / "letters", size=8).augmentation == NATURAL
    said = load(tmp_path / "letters", size=8, augmentation="color_crop")
    assert (said.augmentation, said.pool().augmentation) == ("color_crop", "color_crop")
    assert said.pool().select([1]).augmentation == "color_crop"
    assert said.for_tuning(fraction=0.5).augmentation == "color_crop"
    with pytest.raises(ValueError, match="strategy"):
        load(tmp_path / "letters", size=8, augmentation="mirror")


def test_gtsrb_is_not_mirrored(tmp_path: Path) -> None:
    folder = tmp_path / "gtsrb" / "GTSRB"
    for k in range(2):
        (folder / "Training" / f"{k:05d}").mkdir(parents=True)
        striped(20, 24).save(folder / "Training" / f"{k:05d}" / "00000_00000.ppm")
    (folder / "Final_Test" / "Images").mkdir(parents=True)
    for k in range(2):
        striped(24, 20).save(folder / "Final_Test" / "Images" / f"{k:05d}.ppm")
    header = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"
    rows = [f"{k:05d}.ppm;24;20;0;0;23;19;{k}" for k in range(2)]
    (tmp_path / "gtsrb" / "GT-final_test.csv").write_text("\n".join([header, *rows]) + "\n")
    data = load("gtsrb", root=tmp_path)
    assert data.augmentation == DIGITS
    assert torch.equal(data.train_labels, torch.tensor([0, 1]))
