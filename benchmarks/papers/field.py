"""``python -m benchmarks paper bytes``: accuracy over the bytes that published sets really take, real images through a codec, and ours."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.papers.index import RECORDS
from benchmarks.papers.published import published
from benchmarks.report.byte_curves import curves, higher
from benchmarks.report.figures import COLORS, GRAY, MARKERS, Curve, can_draw, draw_curves, save_figure
from benchmarks.report.records import read
from benchmarks.report.tables import Summary, format_bytes, format_number, format_summary, markdown_table, summary

__all__ = ["DATASETS", "Stored", "draw_field", "field", "field_table"]

DATASETS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}

_FILE = Path(__file__).with_name("stored_bytes.csv")
_FLOAT32 = 4 * 3 * 32 * 32  # bytes of a 32 x 32 image as these methods keep it
_OF_IMAGES = {"dm": "idm:table1", "idm": "idm:table1", "mtt": "mim4dd:table1", "dream": "mim4dd:table1"}
_OURS = ("bytes_cifar10.json", "bytes_cifar10_real_low_quality.json")
_MEASURED = {
    "dm partitioned avif": "DM through AVIF (ours)",
    "dm through avif": "DM through AVIF (ours)",
    "herding avif": "herding in AVIF",
}
_REAL = ("herding in AVIF",)
_DRAWN = ("TM-RUO", "FreD", "IDC", "MTT", "herding in AVIF", "DM through AVIF (ours)")
_ASIDE: dict[str, tuple[str, tuple[int, int], str]] = {
    "DM through AVIF (ours)": ("DM through AVIF\n(ours, width 32)", (0, 24), "center"),
    "herding in AVIF": ("herding in AVIF\n(width 32)", (10, -20), "left"),
}
"""Curves that end beside others: the name, and where it stands from their second point on."""
_RECORDS = "our records, width 32"
_TICKS = (1000, 4000, 16000, 64000, 256000)


@dataclass(frozen=True)
class Stored:
    """A set's accuracy and what it takes.

    Attributes:
        dataset: A key of `DATASETS`.
        method: Its name in the figure.
        stored: What is kept.
        bytes_per_class: As it is kept, everything charged that its source charges.
        accuracies: In percent: the printed one, or that of every set of ours.
        source: Where the number is from.
    """

    dataset: str
    method: str
    stored: str
    bytes_per_class: int
    accuracies: tuple[float, ...]
    source: str

    @property
    def real(self) -> bool:
        """Whether it stores real images."""
        return self.method.startswith(_REAL)


@cache
def field() -> tuple[Stored, ...]:
    """Everything known: from stored_bytes.csv, from the rows of papers whose sets are float32 images, and from the records."""
    return (*_from_file(), *_of_papers(), *_of_records())


def _from_file() -> list[Stored]:
    with _FILE.open(encoding="utf-8", newline="") as file:
        return [
            Stored(
                dataset=line["dataset"],
                method=line["method"],
                stored=line["stored"],
                bytes_per_class=int(line["bytes_per_class"]),
                accuracies=(float(line["accuracy"]),),
                source=line["source"],
            )
            for line in csv.DictReader(file)
        ]


def _of_papers() -> list[Stored]:
    """Sets of whole images, which their authors keep in float32."""
    return [
        Stored(
            dataset=row.dataset,
            method=row.method.upper(),
            stored=f"float32 images{' of four tiles' if row.method in ('idm', 'dream') else ''}",
            bytes_per_class=row.images_per_class * _FLOAT32,
            accuracies=(row.mean,),
            source=row.table,
        )
        for row in published()
        if row.dataset in DATASETS
        and _OF_IMAGES.get(row.method) == row.table
        and row.images_per_class is not None
        and not row.variant
        and row.network == "convnet"
    ]


def _of_records() -> list[Stored]:
    """Condensed through AVIF, and herded, of CIFAR-10; real images by the better of two ways of choosing their number."""
    found = curves(higher(*(read(RECORDS / name).results for name in _OURS)))
    return [
        Stored(
            dataset="cifar10",
            method=title,
            stored=f"{'real' if title in _REAL else 'condensed'} images in AVIF{_tiles(memory)}",
            bytes_per_class=budget,
            accuracies=tuple(values),
            source=_RECORDS,
        )
        for memory, title in _MEASURED.items()
        for budget, values in sorted(found[memory].items())
    ]


def _tiles(memory: str) -> str:
    return " of four tiles" if "partitioned" in memory else ""


def field_table(rows: Sequence[Stored] | None = None) -> str:
    """A row for every set, by data set and bytes."""
    ordered = sorted(field() if rows is None else rows, key=lambda r: (r.dataset, r.bytes_per_class, r.accuracies))
    lines = []
    for row in ordered:
        said = format_number(row.accuracies[0])
        if len(row.accuracies) > 1:
            said = format_summary(summary(row.accuracies), scale=1)
        lines.append(
            [DATASETS[row.dataset], format_bytes(row.bytes_per_class), row.method, said, row.stored, row.source]
        )
    return markdown_table(["data", "bytes per class", "set", "accuracy %", "what is stored", "source"], lines)


def draw_field(path: Path) -> str:
    """Both data sets side by side, six sets of curves and the real images of wide networks; gives the table."""
    if can_draw():
        with save_figure(path, columns=2, width=5.4, height=4.2, sharey=True) as axes:
            for axis, dataset in zip(axes, DATASETS, strict=True):
                _draw_one(axis, dataset)
            axes[0].set_ylabel("accuracy %")
    return field_table()


def _draw_one(axis: Any, dataset: str) -> None:
    own = [row for row in field() if row.dataset == dataset]
    axis.set_xscale("log", base=2)
    axis.set_xlim(800, 800000)
    axis.set_ylim(20, 85)
    axis.set_xticks(_TICKS, [f"{b // 1000} kB" for b in _TICKS])
    axis.minorticks_off()
    axis.set_xlabel("bytes per class as they are stored")
    measured = "" if any(row.source == _RECORDS for row in own) else "; nothing of ours measured"
    axis.set_title(f"{DATASETS[dataset]}{measured}", fontsize=9)
    drawn = []
    aside = []
    for k, method in enumerate(_DRAWN):
        points: dict[float, Summary] = {
            row.bytes_per_class: summary(row.accuracies) for row in own if row.method == method
        }
        if points:
            ordered, name = dict(sorted(points.items())), method
            if method in _ASIDE:
                aside.append((method, COLORS[k], list(ordered.items())[1]))
                name = ""
            drawn.append(Curve(name, ordered, COLORS[k], "--" if method in _REAL else "-", MARKERS[k]))
    draw_curves(axis, drawn, bars=True)
    for method, color, (x, found) in aside:
        said, offset, side = _ASIDE[method]
        axis.annotate(
            said, (x, found.mean), xytext=offset, textcoords="offset points", fontsize=8, color=color, ha=side
        )
    for row in own:
        if row.real and row.method not in _DRAWN:
            x, y = row.bytes_per_class, row.accuracies[0]
            axis.plot([x], [y], marker="x", color=GRAY, markersize=6)
            said = row.method.replace(", ", ",\n")
            axis.annotate(said, (x, y), xytext=(7, 4), textcoords="offset points", fontsize=7, color=GRAY)
