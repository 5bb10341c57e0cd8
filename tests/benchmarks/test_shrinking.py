"""Sets that shrink, in several orders: that each way is what it says, and that the command goes on from its record."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import shrinking as command
from benchmarks.report.records import read
from benchmarks.shrinking import WAYS, Task, shrinking
from ddreplay.datasets import load
from ddreplay.storage.codecs import uint8

ROOT = Path(__file__).parents[2]

SMALL = {"sets": 1, "steps": 3, "nets": 1, "epochs": 1, "whole": 266, "left": (138,)}


def test_a_record_has_every_way_once_and_is_gone_on_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shrinking(**SMALL, out=tmp_path)  # type: ignore[arg-type]
    first = json.loads((tmp_path / "shrinking_digits.json").read_text())["results"]
    assert {(r["way"], r["left"]) for r in first} == {(way, 138) for way in WAYS} | {
        (way, 266) for way in WAYS if way not in ("random order", "condensed anew")
    }
    assert {r["images"] for r in first if r["left"] == 138} == {20}
    assert {r["images"] for r in first if r["left"] == 266} == {40}
    assert all(r["nbytes"] <= 10 * r["left"] for r in first)
    assert "learned order" in capsys.readouterr().out

    def never(*_: object, **__: object) -> None:
        raise AssertionError("a cell is run again")

    monkeypatch.setattr(command, "evaluate", never)
    shrinking(**SMALL, out=tmp_path)  # type: ignore[arg-type]
    assert json.loads((tmp_path / "shrinking_digits.json").read_text())["results"] == first
    with pytest.raises(ValueError, match="at most the whole"):
        shrinking(whole=100, left=(200,), out=tmp_path)


def test_every_order_holds_the_same_images_but_the_learned_one() -> None:
    data = load("digits")
    method = replace(command._method(data, 2, "uint8"), codec=uint8())
    task = Task(data.pool("train", device="cpu").select([0, 1, 2]).first(20), method, "images")
    made: dict[str, tuple[object, float]] = {}
    found = {way: command._ordered(task, 5, way, 0, made)[0] for way in WAYS[:4]}  # type: ignore[arg-type]

    def sums(name: str) -> torch.Tensor:
        return torch.stack([x.flatten(1).sum(1).sort().values for x in found[name].parts[0].images])

    assert torch.equal(sums("as condensed"), sums("greedy order"))
    assert torch.equal(sums("as condensed"), sums("random order"))
    assert not torch.equal(sums("as condensed"), sums("learned order"))
    orders = [found[name].images().x for name in WAYS[:3]]
    assert not any(torch.equal(a, b) for a, b in itertools.pairwise(orders))
    kept = task.shrink(found["greedy order"], 2)
    first = found["greedy order"].parts[0].images[1][:2]
    torch.testing.assert_close(
        kept.parts[0].images[1], first, atol=0.02, rtol=0
    )  # in 8 bits anew, over a smaller range


@pytest.mark.parametrize(
    "record", sorted((ROOT / "benchmarks" / "records").glob("shrinking_*.json")), ids=lambda p: p.stem
)
def test_the_page_has_the_table_of_the_record(record: Path) -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    kept = read(record)
    assert command.page_table(kept.results, kept.protocol.get("classes", 10)) in page
    assert f"records/{record.name}" in page
