"""Condensers side by side: the record and the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.compare import compare
from benchmarks.memories import SMALL
from benchmarks.report.records import read


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
    said = capsys.readouterr().out
    assert "dm(networks=banked(size=1), steps=1)" in said
    assert "accuracy %, dm2023, color_crop_cutout_scale_rotate, 1 epochs" in said


def test_settings_that_were_not_typed_are_in_record_and_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SMALL, "dm", ("networks=banked(size=1)", "steps=3"))
    how: dict[str, Any] = {"net": "convnet(width=4)", "epochs": 1, "train_per_class": 5, "test_per_class": 2}
    compare(methods=("random", "dm(steps=2)"), images_per_class=(1,), seeds=1, **how, out=tmp_path)
    said = {"random": "random", "dm(steps=2)": "dm(steps=2, networks=banked(size=1))"}
    assert read(tmp_path / "compare.json").protocol["condensers"] == said
    assert "  dm(steps=2) = dm(steps=2, networks=banked(size=1))" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"seeds": 0}, "seeds must be at least 1, got 0"),
        ({"epochs": -1}, "epochs must be at least 0, got -1"),
        ({"protocol": "dm"}, "protocol must be one of"),
        ({"methods": ("dm(speed=1)",)}, "an option of dm must be one of"),
    ],
)
def test_wrong_values_stop_before_the_work(wrong: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        compare(**wrong, out=tmp_path)
    assert list(tmp_path.iterdir()) == []
