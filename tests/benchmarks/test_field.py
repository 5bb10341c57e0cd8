"""The field by bytes: what is drawn is what its sources say."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.paper import paper
from benchmarks.papers import field as module
from benchmarks.papers.field import DATASETS, draw_field, field, field_table
from benchmarks.papers.published import rows_of
from benchmarks.report.byte_curves import curves
from benchmarks.report.figures import MOST_CURVES, Curve
from benchmarks.report.records import read


def test_images_take_four_bytes_a_value_and_have_the_accuracy_of_their_paper() -> None:
    (printed,) = rows_of("mim4dd:table1", datasets=["cifar10"], images_per_class=[50], methods=["mtt"])
    (found,) = [r for r in field() if (r.dataset, r.method, r.bytes_per_class) == ("cifar10", "MTT", 50 * 3072 * 4)]
    assert found.accuracies == (printed.mean,)
    assert not any(r.method == "DM" and "tiles" in r.stored for r in field())


def test_ours_are_those_of_the_records() -> None:
    record = curves(read(module.RECORDS / "bytes_cifar10.json").results)
    ours = {r.bytes_per_class: r.accuracies for r in field() if r.method.startswith("DM through")}
    assert sorted(ours) == [1000, 2000, 4000, 8000]
    assert list(ours[4000]) == record["dm through avif"][4000]
    assert list(ours[1000]) == record["dm partitioned avif"][1000]
    assert {r.bytes_per_class for r in field() if r.real} >= {1000, 2000, 4000, 8000}


def test_every_row_has_a_source_and_stands_in_the_table_in_order_of_bytes() -> None:
    assert {r.dataset for r in field()} == set(DATASETS)
    assert all(r.source and r.stored and 0 < r.accuracies[0] < 100 for r in field())
    _, _, *lines = field_table().splitlines()
    assert len(lines) == len(field())
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    first = [line[2] for line in cells if line[0] == "CIFAR-100"]
    assert first[0] == "TM-RUO"  # 8.6 kB: nothing is smaller
    assert ["CIFAR-10", "12.3 kB", "FreD", "60.6", "float32 coefficients", "its README"] in cells


def test_a_panel_holds_no_more_curves_than_can_be_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    panels: list[list[Curve]] = []
    monkeypatch.setattr(module, "draw_curves", lambda axis, curves, **how: panels.append(list(curves)))
    draw_field(tmp_path / "field.png")
    assert [len(curves) <= MOST_CURVES for curves in panels] == [True, True]
    drawn = {tuple(round(s.mean, 1) for s in curve.points.values()) for curve in panels[0]}
    assert (70.3, 77.5, 79.7) in drawn
    assert all(len({curve.color for curve in curves}) == len(curves) for curves in panels)


def test_the_command_prints_the_table_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paper("bytes", out=tmp_path)
    said = capsys.readouterr().out
    assert field_table() in said
    assert (tmp_path / "field_by_bytes.png").stat().st_size > 10000
