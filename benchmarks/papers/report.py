"""Rows of a paper beside ours, as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from benchmarks.papers.index import INDEX, of_entry
from benchmarks.papers.published import Row
from benchmarks.papers.settings import Scale
from benchmarks.report.records import Record
from benchmarks.report.tables import format_bytes, format_number, summary, text_table

__all__ = ["ROW", "compared", "described", "difference", "is_of", "overview", "table_of"]

ROW = ("dataset", "images_per_class", "method", "variant", "network")
"""What tells the rows of a table apart."""


def overview(records: Sequence[Record]) -> str:
    """All tables and figures: how far each was run, and what runs it."""
    lines = [[one.name, of_entry(one, records), one.title, one.command] for one in INDEX]
    start = "python -m benchmarks "
    lines = [[*line[:3], line[3].removeprefix(start)] for line in lines]
    return text_table(["name", "run so far", "what it shows", f"run by ({start.strip()} ...)"], lines)


def described(row: Row) -> str:
    """A row in words.

    >>> from benchmarks.papers.published import rows_of
    >>> described(rows_of("dcc:table4")[0])
    'cifar10, 1 per class, dcc, no warm-up, convnet'
    """
    parts = [row.dataset, f"{row.images_per_class} per class", row.method, row.variant, row.network]
    return ", ".join(part for part in parts if part)


def table_of(rows: Sequence[Row], results: Sequence[dict[str, Any]], scale: Scale) -> str:
    """Ours beside theirs: mean and standard deviation over all networks of all sets, in percent.

    The difference is in standard deviations: the printed one, or ours where none is printed.
    """
    header = ["data", "per class", "method", "variant", "network", "paper", "ours", "sets x networks", "difference"]
    header += ["worst class", "bytes", "condense s", "train s"]
    lines = []
    for row in rows:
        own = [r for r in results if is_of(row, r)]
        theirs = format_number(row.mean) + ("" if row.std is None else f" ± {format_number(row.std)}")
        start = [row.dataset, row.images_per_class or "-", row.method, row.variant or "-", row.network, theirs]
        if not own:
            lines.append([*start, *["-"] * 7])
            continue
        ours = summary([r["accuracy"] for r in own])
        sets = len({r["seed"] for r in own})
        by_class = [summary(column).mean for column in zip(*(r["per_class"] for r in own), strict=True)]
        seconds = {r["seed"]: r["condense_seconds"] for r in own}
        lines.append(
            [
                *start,
                format_number(ours.mean) + ("" if math.isnan(ours.std) else f" ± {format_number(ours.std)}"),
                f"{sets} x {len(own) // sets}",
                difference(row, ours.mean, ours.std),
                format_number(min(by_class)),
                format_bytes(own[0]["nbytes"]),
                format_number(summary([*seconds.values()]).mean, 0),
                format_number(summary([r["train_seconds"] for r in own]).mean, 1),
            ]
        )
    notes = [
        "± standard deviation over networks; difference in the paper's standard deviations, (ours) where it prints none"
    ]
    notes += ["small: not the papers' settings; for the order of methods alone"] if scale == "small" else []
    return "\n".join([text_table(header, lines), *notes])


def compared(row: Row, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A printed number beside ours, as a record keeps it: means and standard deviations over networks, and the difference in them.

    >>> from benchmarks.papers.published import rows_of
    >>> row = rows_of("idm:table1", datasets=["cifar10"], images_per_class=[1], methods=["dm"])[0]
    >>> mine = {name: getattr(row, name) for name in ROW}
    >>> compared(row, [{**mine, "accuracy": 25.0}, {**mine, "accuracy": 26.0}])["standard_deviations"]
    '-0.6'
    """
    ours = summary([r["accuracy"] for r in results if is_of(row, r)])
    return {
        "paper": [row.mean, row.std],
        "ours": [round(ours.mean, 2), None if math.isnan(ours.std) else round(ours.std, 2)],
        "networks": ours.n,
        "standard_deviations": difference(row, ours.mean, ours.std),
    }


def is_of(row: Row, result: dict[str, Any]) -> bool:
    """Whether a result is of this row."""
    return all(result[name] == getattr(row, name) for name in ROW)


def difference(row: Row, mean: float, std: float) -> str:
    """Ours less theirs, in standard deviations.

    >>> from benchmarks.papers.published import rows_of
    >>> difference(rows_of("dcc:table2", datasets=["cifar10"], images_per_class=[1], methods=["dcc"])[0], 32.1, 1.0)
    '-1.0'
    """
    scale, whose = (std, " (ours)") if row.std is None else (row.std, "")
    if math.isnan(scale) or scale == 0:
        return f"{mean - row.mean:+.1f} points"
    return f"{(mean - row.mean) / scale:+.1f}{whose}"
