"""The catalogue: what it runs is drawn and recorded, and a page says it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import catalogue as module
from benchmarks.catalogue import catalogue, page
from benchmarks.report.records import read
from ddreplay.datasets import load


def test_a_method_that_runs_anew_takes_its_place_in_record_picture_and_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RECORD", tmp_path / "record.json")
    monkeypatch.setattr(module, "DOCS", tmp_path)
    monkeypatch.setattr(module, "EPOCHS", 1)
    (tmp_path / "results.md").write_text(
        "## CIFAR-10, equal numbers of stored images\n| method | a | b | c | d | e |\n"
        "| random | 1 | 2 | **33.3 ± 1** | 44.4 | x |\n\n## Other\n| herding | 1 | 2 | 9 | 9 | x |\n"
    )
    catalogue(("random",))
    catalogue(("herding",))
    found = read(tmp_path / "record.json").results
    assert [r["method"] for r in found] == ["random", "herding"]
    text = (tmp_path / "methods.md").read_text(encoding="utf-8")
    assert text == page(read(tmp_path / "record.json"))
    assert "| 33.3 ± 1 | 44.4 |" in text
    assert text.count("| - | - |") == 1
    assert 'Welling, "Herding dynamical weights to learn"' in text
    with Image.open(tmp_path / "methods" / "random.png") as picture:
        drawn = np.asarray(picture)
    digits = load("digits")
    first = torch.from_numpy(drawn[:32:4, :32:4].copy())  # the first image of class 0, four screen pixels a pixel
    assert (digits.train_images[digits.train_labels == 0][:, 0] == first).flatten(1).all(1).any()
    with pytest.raises(ValueError, match="methods"):
        catalogue(("magic",))
