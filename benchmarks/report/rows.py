"""Any record as rows: what was compared, what was measured of it for every seed, and differences paired by seed."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeGuard

from benchmarks.report.records import Record
from benchmarks.report.streams import REAL
from benchmarks.report.tables import Summary, paired, summary
from benchmarks.streams import average_accuracy

__all__ = ["PERCENT", "Pair", "Row", "Rows", "kind_of", "read_rows"]

PLACES = (
    "kind", "part", "strategy", "group", "split", "memory", "method", "variant", "row", "way", "alpha", "beta", "bytes_per_class",
    "images_per_class",
)  # fmt: skip
"""What results are told apart by, in every record that has it."""

MORE_PLACES = (
    "bank",
    "trained",
    "speed",
    "every",
    "share",
    "lr",
    "steps",
    "init",
    "epochs_trained",
    "images",
    "condenser",
    "codec",
)
"""What they are told apart by, where that above leaves two results of one seed."""

OPTIONS = ("variant", "way", "memory", "method")
"""What is compared with its like."""

MAIN = ("average_accuracy", "accuracy", "average", "ratio", "relative_error", "collective", "peak_bytes")
"""What is drawn and compared, the first that a record has."""

PERCENT = frozenset(("average_accuracy", "accuracy", "average", "forgetting", "backward_transfer", "augmented"))

COURSES = frozenset(("accuracy", "average"))
"""Where these are lists they are courses over a stream."""

_UNSAID = frozenset(("seed", "visits", "images_given", "protocol", "accuracies", "ratios"))


@dataclass(frozen=True)
class Row:
    """Results that differ in their seed alone.

    Attributes:
        place: what tells it from other rows, in words. values: measure -> seed -> number.
        course: experience, from 1 -> accuracies of all seeds on what was learned by then; empty where it was not measured.
    """

    place: Mapping[str, str]
    values: Mapping[str, Mapping[Any, float]]
    course: Mapping[int, Sequence[float]] = field(default_factory=dict)

    def summary(self, measure: str) -> Summary | None:
        """Over seeds; None where it was not measured."""
        values = list(self.values.get(measure, {}).values())
        return summary(values) if values else None


class Pair(NamedTuple):
    """One option less another at the same place, over the seeds that both have; None where they share none."""

    place: Mapping[str, str]
    option: str
    less: str
    summary: Summary


@dataclass(frozen=True)
class Rows:
    """A record as rows.

    Attributes:
        places: what varies between rows. measures: what was measured, the main one first. alike: what is the same in all rows.
    """

    rows: tuple[Row, ...]
    places: tuple[str, ...]
    measures: tuple[str, ...]
    alike: Mapping[str, str]

    @property
    def main(self) -> str:
        """What is drawn and compared."""
        return self.measures[0]

    @property
    def option(self) -> str | None:
        """The place whose values are compared with each other."""
        return next((name for name in OPTIONS if name in self.places), None)

    @property
    def seeds(self) -> int:
        """How many there are at most."""
        return max((len(row.values.get(self.main, {})) for row in self.rows), default=0)

    def around(self, row: Row, *left_out: str | None) -> dict[str, str]:
        """A row's place without these."""
        return {name: value for name, value in row.place.items() if name not in left_out}

    def pairs(self) -> list[Pair]:
        """Every option less what it has to beat at its place: real images where there are any, else the option that comes first."""
        if self.option is None:
            return []
        groups: dict[tuple[str, ...], list[Row]] = {}
        for row in self.rows:
            if kind_of(row.place) != "no memory" and row.values.get(self.main):
                groups.setdefault(tuple(self.around(row, self.option).values()), []).append(row)
        return [pair for group in groups.values() for pair in self._pairs(group)]

    def _pairs(self, group: list[Row]) -> list[Pair]:
        option = str(self.option)
        real = [row for row in group if kind_of(row.place) == "real images"]
        others = [row for row in group if row not in real]
        if not real or not others:
            real, others = group[:1], group[1:]
        found = []
        for row in others:
            for rival in real:
                ours, theirs = row.values[self.main], rival.values[self.main]
                if seeds := [seed for seed in ours if seed in theirs]:
                    by_seed = paired([ours[s] for s in seeds], [theirs[s] for s in seeds])
                    found.append(Pair(self.around(row, option), row.place[option], rival.place[option], by_seed))
        return found


def kind_of(place: Mapping[str, str]) -> str:
    """Whether a row is of real images, of condensed ones, or of a strategy that keeps none.

    >>> kind_of({"memory": "herding avif"}), kind_of({"method": "dm(steps=3)"}), kind_of({"memory": "none"}), kind_of({"row": "dc"})
    ('real images', 'condensed', 'no memory', '')
    """
    name = place.get("memory", place.get("method"))
    if name is None:
        return ""
    if name == "none" or name == place.get("strategy"):
        return "no memory"
    return "real images" if re.split(r"\W", name, maxsplit=1)[0] in REAL else "condensed"


def read_rows(record: Record) -> Rows:
    """A record's results as rows.

    Raises:
        ValueError: when it has no results, or nothing in them is a number.
    """
    results = record.results
    if not results:
        raise ValueError(f"the record of {record.benchmark} has no results")
    places = _places(results)
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for result in results:
        groups.setdefault(tuple(_word(result.get(name)) for name in places), []).append(result)
    measures = _measures(results, places)
    if not measures:
        raise ValueError(f"the record of {record.benchmark} has no numbers; its results have {', '.join(results[0])}")
    varying = tuple(n for k, n in enumerate(places) if len({key[k] for key in groups}) > 1)
    alike = {n: _word(results[0].get(n)) for n in places if n not in varying and results[0].get(n) is not None}
    named = varying or places[:1]
    rows = []
    for key, group in groups.items():
        place = {name: value for name, value in zip(places, key, strict=True) if name in named}
        values = {
            m: {r.get("seed", k): v for k, r in enumerate(group) if (v := _number(r, m)) is not None} for m in measures
        }
        rows.append(Row(place, values, _course(group)))
    return Rows(tuple(_in_order(rows, named)), named, measures, alike)


def _in_order(rows: list[Row], places: Sequence[str]) -> list[Row]:
    """By place, what is compared last, so that rivals stand together; numbers by size, words as they came."""
    compared = next((name for name in OPTIONS if name in places), None)
    order = sorted(places, key=lambda name: (name == compared, name in MORE_PLACES))
    came = {name: list(dict.fromkeys(row.place[name] for row in rows)) for name in order}

    def key(row: Row) -> list[tuple[float, int]]:
        return [(_size(row.place[n]), came[n].index(row.place[n])) for n in order]

    return sorted(rows, key=key)


def _size(word: str) -> float:
    """The number that a word is; 0 for others."""
    try:
        found = float(word)
    except ValueError:
        return 0.0
    return found if math.isfinite(found) else 0.0


def _places(results: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """What tells results apart: as few of the less telling names as leave no two results of one seed alike."""
    there = {name for result in results for name in result}
    places = [name for name in PLACES if name in there and not (name == "method" and "memory" in there)]
    for name in MORE_PLACES:
        keys = [tuple(_word(r.get(n)) for n in (*places, "seed")) for r in results]
        if len(set(keys)) == len(keys):
            break
        if name in there:
            places.append(name)
    return tuple(places)


def _measures(results: Sequence[dict[str, Any]], places: Sequence[str]) -> tuple[str, ...]:
    names = dict.fromkeys(name for result in results for name in result)
    found = [
        n for n in names if n not in places and n not in _UNSAID and any(_number(r, n) is not None for r in results)
    ]
    if "accuracies" in names and not set(MAIN[:3]) & set(found):
        found.append("accuracy")
    measured = {name: sum(_number(r, name) is not None for r in results) for name in found}

    def key(name: str) -> tuple[int, int]:  # parts of a benchmark may measure different things
        return (-measured[name], MAIN.index(name)) if name in MAIN else (0, len(MAIN))

    return tuple(sorted(found, key=key))


def _number(result: Mapping[str, Any], name: str) -> float | None:
    """One number of a result: of a course its end, of seconds along it their sum, of repetitions the mean."""
    value = result.get(name)
    if value is None and name == "accuracy":
        value = result.get("accuracies")
        value = None if not _numbers(value) else statistics.fmean(value)
    if _numbers(value):
        course = any(_numbers(result.get(n)) for n in COURSES)
        value = (
            math.fsum(value)
            if course and name.endswith("seconds")
            else value[-1]
            if course
            else statistics.fmean(value)
        )
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value)


def _numbers(value: Any) -> TypeGuard[list[float]]:
    return isinstance(value, list) and bool(value) and all(isinstance(v, (int, float)) for v in value)


def _course(group: Sequence[Mapping[str, Any]]) -> dict[int, list[float]]:
    """Accuracy on what was learned so far, after every experience."""
    found: dict[int, list[float]] = {}
    for result in group:
        given = next((result[n] for n in ("average", "accuracy") if _numbers(result.get(n))), None)
        table = result.get("accuracies")
        if given is None and "average_accuracy" in result and isinstance(table, list):
            rows = [row for row in table if isinstance(row, list)]
            if len(rows) < len(table) or any(v is None for row in rows for v in row):
                return {}
            given = [average_accuracy(table, k) for k in range(len(table))]
        for k, value in enumerate(given or [], 1):
            found.setdefault(k, []).append(value)
    return found if len(found) > 1 else {}


def _word(value: Any) -> str:
    return "" if value is None else str(value)
