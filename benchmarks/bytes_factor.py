"""``python -m benchmarks bytes-factor``: how many bytes real images need for the accuracy that a condensed memory reaches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.report.records import read
from benchmarks.report.streams import budget_of, grouped, is_bound, is_real, title_of
from benchmarks.report.tables import Summary, format_bytes, summary, text_table
from benchmarks.stream_cells import Cell

__all__ = ["Need", "Needed", "bytes_factor", "bytes_needed", "class_incremental_results", "factor_table", "needs"]

HEADER = (
    "strategy",
    "memory",
    "bytes",
    "accuracy %",
    "real images",
    "bytes needed",
    "factor",
    "by seed, 95 % interval",
    "seeds",
)
NOT_COMPARED = ("condensers",)

Curve = Sequence[tuple[float, float]]
"""(bytes per class, accuracy in percent), in any order."""


def bytes_factor(
    records: tuple[Path, ...], /, memories: tuple[str, ...] = (), strategies: tuple[str, ...] = ()
) -> None:
    """Read accuracy over bytes the other way round: what real images take for the accuracy of condensed ones.

    For every strategy, every condensed memory and budget, and every memory of real images measured at two budgets or more: the bytes per
    class at which the real memory reaches that accuracy, on lines between neighbouring points over the logarithm of bytes, and how
    many times the condensed bytes that is. "more than X": it does not reach it at X bytes, its largest budget; "less than X": it is
    above it at its smallest. Bytes are those that were stored, all charged. Factors come from mean accuracies over seeds; beside them
    stands the geometric mean over seeds, each with its own curve, with a 95 % interval of Student's t over logarithms, where every seed
    that has all points crosses between them.

    Args:
        records: of class-incremental, with alike settings; their results are taken together.
        memories: condensed memories to ask for; default: all.
        strategies: default: all.
    """
    print(factor_table(needs(class_incremental_results(records), memories, strategies)))


@dataclass(frozen=True)
class Needed:
    """Bytes at which a curve reaches an accuracy.

    beyond: ``"more"``: it does not up to these, its largest; ``"less"``: it is above already at these, its smallest.
    """

    nbytes: float
    beyond: str = ""

    def __str__(self) -> str:
        return f"{self.beyond} than {format_bytes(self.nbytes)}" if self.beyond else format_bytes(self.nbytes)


@dataclass(frozen=True)
class Need:
    """What one memory of real images needs for the accuracy of a condensed one.

    Attributes:
        nbytes, accuracy: per class and in percent, of the condensed memory, means over seeds.
        needed: from means over seeds.
        by_seed: logarithms of factors, over the seeds that cross; None where there are none, or some that have all points do not.
        crossing, paired: how many seeds cross between points, of how many that have all points.
    """

    strategy: str
    memory: str
    budget: str
    rival: str
    nbytes: float
    accuracy: float
    needed: Needed
    by_seed: Summary | None
    crossing: int
    paired: int

    @property
    def factor(self) -> float:
        """How many times the condensed bytes are needed, from means."""
        return self.needed.nbytes / self.nbytes


def bytes_needed(curve: Curve, accuracy: float) -> Needed:
    """The fewest bytes at which straight lines between the points, over the logarithm of bytes, reach ``accuracy``.

    Raises:
        ValueError: for a curve of fewer than two points.

    >>> bytes_needed([(1000, 40.0), (4000, 50.0)], 45.0).nbytes
    2000.0
    >>> str(bytes_needed([(1000, 40.0), (4000, 50.0)], 50.5))
    'more than 4.00 kB'
    """
    points = sorted(curve)
    if len(points) < 2:
        raise ValueError(f"a curve needs at least 2 points, got {len(points)}")
    if accuracy <= points[0][1]:
        return Needed(points[0][0], "" if accuracy == points[0][1] else "less")
    for (low, below), (high, above) in pairwise(points):
        if below < accuracy <= above:
            share = (accuracy - below) / (above - below)
            return Needed(float(round(low * (high / low) ** share, 6)))
    return Needed(points[-1][0], "more")


def needs(
    results: Sequence[dict[str, Any]], memories: Sequence[str] = (), strategies: Sequence[str] = ()
) -> list[Need]:
    """Every condensed memory and budget against every curve of real images under the same strategy.

    Args:
        results: as in records of class-incremental, each with its number of ``classes``.
    """
    groups = {name: group for name, group in grouped(results).items() if not is_bound(group[0])}
    found = []
    for (strategy, _, memory), group in groups.items():
        wanted = (not memories or memory in memories) and (not strategies or strategy in strategies)
        if is_real(memory) or not wanted:
            continue
        found += [_need(group, rival, points) for rival, points in _curves(groups, strategy).items() if len(points) > 1]
    return found


def _curves(groups: Mapping[Any, list[dict[str, Any]]], strategy: str) -> dict[str, list[list[dict[str, Any]]]]:
    """Memories of real images -> their budgets; one that has both kinds of budgets, which store otherwise, makes two curves."""
    real = [group for (s, _, memory), group in groups.items() if s == strategy and is_real(memory)]
    kinds = {(group[0]["memory"], group[0]["bytes_per_class"] is None) for group in real}
    found: dict[str, list[list[dict[str, Any]]]] = {}
    for group in real:
        memory, by_images = group[0]["memory"], group[0]["bytes_per_class"] is None
        both = (memory, not by_images) in kinds
        found.setdefault(f"{memory}{', by images' if by_images else ', by bytes'}" if both else memory, []).append(
            group
        )
    return found


def _need(group: Sequence[dict[str, Any]], rival: str, points: Sequence[Sequence[dict[str, Any]]]) -> Need:
    nbytes, accuracy = _point(group)
    factors, paired = [], 0
    for result in group:
        own = [[r for r in point if r["seed"] == result["seed"]] for point in points]
        if all(own):
            paired += 1
            needed = bytes_needed([_point(r) for r in own], result["average_accuracy"])
            factors += [] if needed.beyond else [math.log(needed.nbytes / _point([result])[0])]
    return Need(
        strategy=group[0]["strategy"],
        memory=group[0]["memory"],
        budget=budget_of(group[0]),
        rival=rival,
        nbytes=nbytes,
        accuracy=accuracy,
        needed=bytes_needed([_point(point) for point in points], accuracy),
        by_seed=summary(factors) if factors and len(factors) == paired else None,
        crossing=len(factors),
        paired=paired,
    )


def _point(group: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """Stored bytes per class and accuracy, means over the results."""
    return (
        summary([r["nbytes"] / r["classes"] for r in group]).mean,
        summary([r["average_accuracy"] for r in group]).mean,
    )


def factor_table(found: Sequence[Need]) -> str:
    """A row for each; a line that says so where there are none."""
    if not found:
        return "nothing to read: this needs a condensed memory, and one of real images at two budgets or more, under one strategy"
    rows = []
    for need in found:
        sign = {"more": "> ", "less": "< "}.get(need.needed.beyond, "")
        rows.append(
            [
                title_of(need.strategy),
                need.memory,
                format_bytes(need.nbytes),
                f"{need.accuracy:.1f}",
                need.rival,
                str(need.needed),
                f"{sign}{need.factor:.1f}",
                _spread(need),
                f"{need.crossing} of {need.paired} cross" if need.by_seed is None else need.paired,
            ]
        )
    return (
        text_table(HEADER, rows)
        + "\nbytes are per class, as stored; factor: bytes needed over bytes of the condensed memory"
    )


def _spread(need: Need) -> str:
    if need.by_seed is None:
        return "-"
    mean, low, high = (math.exp(v) for v in (need.by_seed.mean, need.by_seed.low, need.by_seed.high))
    return f"{mean:.1f}" if math.isnan(low) else f"{mean:.1f} ({low:.1f} to {high:.1f})"


def class_incremental_results(records: Sequence[Path]) -> list[dict[str, Any]]:
    """The results of all records, with the number of classes.

    Raises:
        ValueError: for no records, those of other benchmarks or of an earlier version, or with settings that differ.
    """
    if not records:
        raise ValueError("records must name at least 1 file, got none")
    found: list[dict[str, Any]] = []
    first: dict[str, Any] = {}
    for path in records:
        record = read(path)
        if record.benchmark != "class-incremental" or "classes" not in record.protocol:
            raise ValueError(
                f"{path.name} is no record of class-incremental that says how many classes there are; run it anew"
            )
        settings = {k: v for k, v in record.protocol.items() if k not in NOT_COMPARED}
        first = first or settings
        changed = sorted(k for k in first if first[k] != settings.get(k))
        if changed:
            raise ValueError(f"{path.name} has other settings than {records[0].name}: {', '.join(changed)}")
        found += [{**result, "classes": record.protocol["classes"]} for result in record.results]
    return list({Cell.of(result): result for result in found}.values())  # a cell in several records counts once
