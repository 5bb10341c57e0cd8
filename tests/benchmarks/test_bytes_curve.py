"""The benchmark of bytes: its cells, its table, its crossings, and going on after an interruption."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import bytes_curve as bench
from benchmarks.bytes_curve import SCALES, Scale, bytes_curve, memory_in_bytes
from benchmarks.report.byte_curves import crossings, curves, higher, table
from ddreplay.condense.image_count import Fixed
from ddreplay.datasets import load

TINY = Scale("convnet(width=8)", (300,), 1, 2, 1, 60, 4)


def result(memory: str, budget: int, accuracy: float | None, seed: int = 0) -> dict[str, Any]:
    return {"memory": memory, "bytes_per_class": budget, "seed": seed, "accuracy": accuracy, "images": 3}


def test_every_memory_stays_within_its_budget() -> None:
    data = load("digits")
    pool = data.pool("train", device="cpu").select([0, 1, 2])
    test = data.pool("test", device="cpu").select([0, 1, 2])
    for name in (*bench.MEMORIES, "random(codec=webp)", "m3d(codec=jpeg, steps=1, networks=banked(size=1))"):
        condenser = memory_in_bytes(name, TINY, data, Fixed(3))
        cell = bench.run_cell(condenser, pool, test, TINY, data, name, 300, 0)
        assert 0 < cell["nbytes"] <= 900
        assert 0 <= cell["accuracy"] <= 100
        assert cell["images"] == 3
    with pytest.raises(ValueError, match="must be one of"):
        memory_in_bytes("nothing", TINY, data)
    with pytest.raises(ValueError, match=r"memories need a codec: write 'm3d' like m3d\(codec=avif\)"):
        memory_in_bytes("m3d", TINY, data)


def test_a_budget_below_one_image_is_a_gap() -> None:
    data = load("digits")
    pool = data.pool("train", device="cpu").select([0, 1])
    condenser = memory_in_bytes("random uint8", TINY, data)
    cell = bench.run_cell(condenser, pool, pool, TINY, data, "random uint8", 40, 0)
    assert cell["accuracy"] is None
    assert table([cell, result("random jpeg", 40, 50.0)]).count("-") > 1


def test_where_the_best_curves_cross() -> None:
    results = [result("random jpeg", b, a) for b, a in ((100, 30.0), (200, 40.0), (400, 60.0))]
    results += [result("random avif", b, a) for b, a in ((100, 20.0), (200, 45.0), (400, 50.0))]
    results += [result("dm through avif", b, a) for b, a in ((100, 40.0), (200, 50.0), (400, 55.0))]
    lines = crossings(results)
    assert [line.split(": ")[-1] for line in lines[:3]] == ["+10.0", "+5.0", "-5.0"]
    assert lines[3:] == ["the best curves cross near 283 B per class"]
    assert crossings(results[:3]) == []


def test_of_two_runs_the_higher_mean_is_kept_for_every_memory_and_budget() -> None:
    first = [result("random jpeg", 100, a, seed) for seed, a in enumerate((30.0, 34.0))]
    first += [result("random jpeg", 200, 50.0), result("dm through jpeg", 100, 60.0)]
    second = [result("random jpeg", 100, 33.0), result("random jpeg", 200, 40.0), result("random jpeg", 400, None)]
    found = curves(higher(first, second))
    assert found == {"random jpeg": {100: [33.0], 200: [50.0]}, "dm through jpeg": {100: [60.0]}}


def test_numbers_of_images_can_be_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bench.SCALES, "digits", TINY)
    how: dict[str, Any] = {"memories": ("random jpeg", "random bits"), "out": tmp_path, "net": "convnet(width=4)"}
    bytes_curve(images=(4, 2), **how)
    record = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert [r["images"] for r in record["results"]] == [4, 2]
    assert record["protocol"]["net"] == "convnet(width=4)"
    with pytest.raises(ValueError, match="images must have a number"):
        bytes_curve(images=(4,), **how)


def test_it_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(SCALES, "digits", TINY)
    ran: list[tuple[str, int]] = []
    monkeypatch.setattr(
        bench,
        "run_cell",
        lambda condenser, pool, test, size, data, memory, budget, seed: (
            ran.append((memory, seed)) or {**result(memory, budget, 50.0 + seed, seed), "nbytes": 1}
        ),
    )
    memories = ("random jpeg", "dm through jpeg")
    bytes_curve(memories=memories[:1], out=tmp_path)
    bytes_curve(memories=memories, seeds=2, out=tmp_path)
    assert ran == [("random jpeg", 0), ("dm through jpeg", 0), ("random jpeg", 1), ("dm through jpeg", 1)]
    assert "50.5" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "bytes_digits.json").read_text())["results"]) == 4
    assert (tmp_path / "bytes_digits.png").stat().st_size > 0
    with pytest.raises(ValueError, match="another run"):
        bytes_curve(memories=memories, validation=True, out=tmp_path)
