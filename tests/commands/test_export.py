"""``ddreplay export``: what other libraries read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from running_commands import refused, run

from ddreplay import CondensedSet


def test_exported_images_are_read_as_a_folder_of_classes(
    sets: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from torchvision.datasets import ImageFolder
    from torchvision.transforms.functional import pil_to_tensor

    out = tmp_path / "pictures"
    told = run(capsys, "export", str(sets[1]), str(out), "--images", "--json")
    assert told["pictures"] == 10
    read = ImageFolder(str(out))
    assert read.classes == [str(digit) for digit in range(10)]
    stored = CondensedSet.load(sets[1])
    pixels = torch.cat([part._stored_pixels()[k] for part in stored.parts for k in range(10)])
    for (picture, label), own in zip(read, pixels, strict=True):
        assert torch.equal(pil_to_tensor(picture)[:1], own.mul(255).round().byte())  # real images, stored without loss
        assert torch.equal(own, pixels[label])
    card = (out / "README.md").read_text()
    assert "| method | herding |" in card
    assert "Licence of the real images" in card


def test_a_shard_and_its_card(sets: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = run(capsys, "export", str(sets[0]), str(tmp_path / "out"), "--format", "webdataset", "--json")
    assert (told["pictures"], told["files"]) == (10, ["train-000000.tar"])
    card = (tmp_path / "out" / "README.md").read_text()
    assert "The images of the shard beside this card have 8 bits" in card
    said = refused(capsys, "export", str(sets[0]), str(tmp_path / "other"), "--format", "parquet", "--images")
    assert "--images is --format images, and --format parquet was given too" in said
    assert not (tmp_path / "other").exists()
