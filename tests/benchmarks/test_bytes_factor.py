"""Differences paired by seed, and bytes that real images need: arithmetic worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks.bytes_factor import bytes_factor, bytes_needed, needs
from benchmarks.report.records import begin, write
from benchmarks.report.streams import differences, paired_differences


def result(memory: str, seed: int, accuracy: float, nbytes: int = 40_000, **more: Any) -> dict[str, Any]:
    """Of ten classes; ``nbytes`` in all is the budget too."""
    made = {
        "memory": memory, "seed": seed, "strategy": "gdumb", "images_per_class": None, "bytes_per_class": nbytes // 10,
        "accuracies": [[accuracy]], "average_accuracy": accuracy, "nbytes": nbytes, "classes": 10,
    }  # fmt: skip
    return {**made, **more}


# ---- pairs


def test_differences_are_paired_by_seed_and_name_the_best_rival() -> None:
    results = [result("default", s, a) for s, a in enumerate((50.0, 60.0, 55.0))]
    results += [result("ring", s, a) for s, a in enumerate((48.0, 56.0, 49.0))]
    results += [result("herding", s, a) for s, a in ((0, 52.0), (2, 53.0), (7, 90.0))]
    best, other = paired_differences(results)
    assert (best.rival, best.best, other.rival, other.best) == ("herding", True, "ring", False)
    assert best.summary.mean == pytest.approx((50 - 52 + 55 - 53) / 2)  # seeds 0 and 2
    assert best.summary.n == 2
    assert other.summary.mean == pytest.approx((2 + 4 + 6) / 3)
    # the standard deviation of 2, 4, 6 is 2; Student's t of 2 degrees of freedom is 4.3027
    assert other.summary.half_width == pytest.approx(4.3027 * 2 / math.sqrt(3), rel=1e-4)
    text = differences(results)
    assert "herding (best)" in text
    assert "+4.0 ± 5.0" in text


def test_only_memories_under_the_same_strategy_and_budget_make_pairs() -> None:
    results = [result("default", 0, 50.0), result("ring", 0, 40.0, strategy="er"), result("ring", 0, 30.0, 20_000)]
    assert paired_differences(results) == []
    assert differences(results).startswith("no pairs")


# ---- bytes


def test_bytes_needed_lie_on_lines_over_the_logarithm_of_bytes() -> None:
    curve = [(16_000, 52.0), (1000, 40.0), (4000, 50.0)]
    assert bytes_needed(curve, 45.0).nbytes == pytest.approx(2000)
    assert bytes_needed(curve, 50.0).nbytes == pytest.approx(4000)
    assert bytes_needed(curve, 51.0).nbytes == pytest.approx(8000)
    assert str(bytes_needed(curve, 52.1)) == "more than 16.0 kB"
    assert str(bytes_needed(curve, 39.0)) == "less than 1.00 kB"
    assert not bytes_needed(curve, 40.0).beyond
    assert bytes_needed([(1, 10.0), (10, 30.0), (100, 20.0), (1000, 40.0)], 25.0).nbytes == pytest.approx(10**0.75)
    with pytest.raises(ValueError, match="at least 2 points"):
        bytes_needed([(1, 1.0)], 1.0)


def test_factors_come_from_means_and_from_every_seed() -> None:
    results = [result("default", s, a) for s, a in ((0, 45.0), (1, 50.0))]
    ring = {10_000: (40.0, 40.0), 40_000: (50.0, 50.0), 160_000: (60.0, 60.0)}
    results += [
        result("ring(codec=uint8)", s, a, n, images_per_class=n // 1000, bytes_per_class=None)
        for n, pair in ring.items()
        for s, a in enumerate(pair)
    ]
    (need,) = needs(results)
    assert need.nbytes == 4000
    assert need.accuracy == pytest.approx(47.5)
    assert need.needed.nbytes == pytest.approx(1000 * 4**0.75)
    assert need.factor == pytest.approx(4**0.75 / 4)
    assert need.by_seed is not None
    assert math.exp(need.by_seed.mean) == pytest.approx(math.sqrt(0.5 * 1.0))  # 2,000 and 4,000 of 4,000 bytes
    assert (need.crossing, need.paired) == (2, 2)


def test_a_seed_that_does_not_cross_leaves_the_factor_of_means_alone() -> None:
    results = [result("default", s, a) for s, a in ((0, 45.0), (1, 51.0), (2, 45.0))]
    results += [result("herding", s, a, n) for n, a in ((10_000, 40.0), (40_000, 50.0)) for s in (0, 1)]
    (need,) = needs(results)
    assert need.by_seed is None
    assert (need.crossing, need.paired) == (1, 2)  # seed 2 has no points
    assert need.needed.nbytes == pytest.approx(1000 * 4**0.7)


def test_one_memory_with_both_kinds_of_budgets_makes_two_curves() -> None:
    results = [result("default", 0, 45.0), *(result("ring", 0, a, n) for n, a in ((10_000, 40.0), (90_000, 50.0)))]
    results += [
        result("ring", 0, a, n, images_per_class=k, bytes_per_class=None)
        for k, n, a in ((1, 5000, 44.0), (2, 10_000, 46.0))
    ]
    found = {need.rival: need.needed.nbytes for need in needs(results)}
    assert found == {"ring, by images": pytest.approx(500 * math.sqrt(2)), "ring, by bytes": pytest.approx(3000)}


def test_the_command_reads_records_of_alike_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def record(name: str, results: list[dict[str, Any]], **protocol: Any) -> Path:
        recording = begin("class-incremental", {"net": "convnet", "condensers": {}, **protocol})
        for one in results:
            recording.add(**one)
        return write(recording.finish(), tmp_path / name)

    ours = record("ours.json", [result("default", 0, 45.0)], classes=10)
    curve = [result("ring", 0, 40.0, 10_000), result("ring", 0, 50.0, 160_000)]
    real = record("real.json", [*curve, result("default", 0, 45.0)], classes=10)
    bytes_factor((ours, real))
    said = capsys.readouterr().out
    assert "4.00 kB" in said
    assert said.splitlines()[2].split()[-3:] == ["1.0", "1.0", "1"]
    with pytest.raises(ValueError, match=r"other settings than ours.json: net"):
        bytes_factor((ours, record("other.json", curve, classes=10, net="mlp")))
    with pytest.raises(ValueError, match="how many classes"):
        bytes_factor((record("old.json", curve),))
    with pytest.raises(ValueError, match="at least 1 file"):
        bytes_factor(())
