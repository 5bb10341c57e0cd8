"""Condensers side by side: the record, and what is left of the data when it is reduced."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.compare import compare, first_rows
from benchmarks.report.records import read


def test_the_first_rows_of_every_class() -> None:
    labels = torch.tensor([2, 0, 2, 0, 2, 1])
    assert first_rows(labels, 2).tolist() == [1, 3, 5, 0, 2]
    assert sorted(first_rows(labels, None).tolist()) == list(range(6))


def test_a_record_holds_every_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare(
        methods=("random", "dm(networks=banked(size=1), steps=1)"),
        images_per_class=(1, 2),
        seeds=2,
        networks=2,
        net="convnet(width=4)",
        epochs=1,
        train_per_class=20,
        test_per_class=5,
        validation=True,
        name="found",
        out=tmp_path,
    )
    record = read(tmp_path / "found.json")
    assert record.protocol["scale"] == "reduced"
    assert record.protocol["train"] == "200 images"
    assert record.protocol["test"] == "50 held-out training images"
    assert len(record.results) == 8
    assert {len(r["accuracies"]) for r in record.results} == {2}
    assert [r["stored_images"] for r in record.results] == [10, 10, 20, 20] * 2
    assert "dm(networks=banked(size=1), steps=1)" in capsys.readouterr().out
