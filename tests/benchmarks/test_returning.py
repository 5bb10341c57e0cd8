"""Classes that come back with another half: what the halves are, and that the command goes on from its record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import returning as command
from benchmarks.report.records import read
from benchmarks.returning import STAGES, halves, returning
from ddreplay.datasets import load

ROOT = Path(__file__).parents[2]


def test_halves_are_equal_and_look_different() -> None:
    data = load("digits")
    train, test = (data.pool(split, device="cpu") for split in ("train", "test"))
    far = halves(train, train)
    for k, own in enumerate(far.split(list(train.counts))):
        assert abs(int(own.sum()) - int((~own).sum())) <= 1
        x = train.of_class(k).flatten(1)
        between, chance = (
            (x[mask].mean(0) - x[~mask].mean(0)).norm() for mask in (own, torch.arange(len(own)) % 2 == 0)
        )
        assert between > 3 * chance
    shares = torch.stack([own.float().mean() for own in halves(test, train).split(list(test.counts))])
    assert float(shares.min()) > 0.2
    assert float(shares.max()) < 0.8


def test_a_record_has_every_stage_once_and_is_gone_on_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    how = {"memories": ("ring",), "seeds": 1, "nets": 1, "epochs": 1, "out": tmp_path}
    returning(**how)  # type: ignore[arg-type]
    results = json.loads((tmp_path / "returning_digits.json").read_text())["results"]
    assert [one["stage"] for one in results] == list(STAGES)
    assert all(one["nbytes"] <= 3400 and 0 < one["old"] <= 100 and 0 < one["new"] <= 100 for one in results)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("a cell is run again")

    monkeypatch.setattr(command, "evaluate", never)
    returning(**how)  # type: ignore[arg-type]
    assert json.loads((tmp_path / "returning_digits.json").read_text())["results"] == results


def test_the_page_has_the_table_of_the_record() -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert command.page_table(read(ROOT / "benchmarks" / "records" / "returning_digits.json").results) in page
