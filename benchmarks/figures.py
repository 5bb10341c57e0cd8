"""``python -m benchmarks figures``: every picture of the README and of docs/results.md, from the records beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.checks import among
from benchmarks.report import byte_curves, streams
from benchmarks.report.records import read
from benchmarks.report.tables import format_summary, markdown_table, summary

__all__ = ["PICTURES", "bytes_of_cifar10", "bytes_table", "figures"]

RECORDS, DOCS = (Path(__file__).resolve().parent / "records", Path(__file__).resolve().parents[1] / "docs")

CIFAR10 = {
    "dm through avif": "DM through AVIF",
    "dm partitioned avif": "DM through AVIF,\nfour tiles an image",
    "herding avif": "herding in AVIF",
    "random avif": "random in AVIF",
    "random jpeg": "random in JPEG",
}
DIGITS = {
    "dm through avif": "DM through AVIF",
    "dm, then avif": "DM, then AVIF",
    "dm through bits": "DM through few bits",
    "herding avif": "herding in AVIF",
    "random avif": "random in AVIF",
    "random bits": "random in few bits",
}


def figures(names: tuple[str, ...] = (), out: Path = DOCS) -> None:
    """Draw the pictures of README and docs from the records in benchmarks/records, and print the tables that stand beside them.

    Args:
        names: of `PICTURES`; none: all.
        out: the folder for the pictures (PNG).
    """
    among("names", names, tuple(PICTURES))
    for name in names or PICTURES:
        print(f"{PICTURES[name](out / f'{name}.png')}\n")


def draw_class_incremental_digits(path: Path) -> str:
    """The picture of the README: class-incremental digits."""
    results = read(RECORDS / "class_incremental_digits.json").results
    streams.draw(results, path, "digits")
    return streams.table(results)


def draw_bytes_cifar10(path: Path) -> str:
    """Accuracy against bytes on CIFAR-10, with real images at the better of two numbers for each budget, as in the table."""
    results = bytes_of_cifar10()
    byte_curves.draw(results, path, "CIFAR-10, ConvNet of width 32, 3 seeds, 95 % intervals", CIFAR10)
    return bytes_table()


def draw_bytes_digits(path: Path) -> str:
    """Accuracy against bytes on digits: six memories of the table."""
    results = read(RECORDS / "bytes_digits.json").results
    title = "digits, ConvNet of width 32, 3 seeds, 95 % intervals; six memories of the table"
    byte_curves.draw(results, path, title, DIGITS)
    return byte_curves.table(results)


PICTURES: dict[str, Callable[[Path], str]] = {
    "class_incremental_digits": draw_class_incremental_digits,
    "bytes_cifar10": draw_bytes_cifar10,
    "bytes_digits": draw_bytes_digits,
}
"""Name of the file -> what draws it and gives the table beside it."""


def bytes_of_cifar10() -> list[dict[str, object]]:
    """What table and picture show: of every memory and budget the run whose mean accuracy is higher.

    Real images chose their number in two ways, by trials on held-out images and by a low quality; this favours them.
    """
    runs = ("bytes_cifar10.json", "bytes_cifar10_real_low_quality.json")
    return byte_curves.higher(*(read(RECORDS / name).results for name in runs))


def bytes_table() -> str:
    """CIFAR-10 at equal bytes as README and docs/results.md have it; condensed images are in tiles at 1 kB."""
    found = byte_curves.curves(bytes_of_cifar10())
    counts = {(r["memory"], r["bytes_per_class"]): r["images"] for r in bytes_of_cifar10()}
    columns = {"herding in AVIF": "herding avif", "random in AVIF": "random avif", "random in JPEG": "random jpeg"}
    rows = []
    for budget in sorted({b for points in found.values() for b in points}):
        memory = "dm through avif" if budget in found["dm through avif"] else "dm partitioned avif"
        said = f"{counts[memory, budget]} images{' of four tiles' if 'partitioned' in memory else ''}"
        row = [f"{budget / 1000:g} kB", f"**{format_summary(summary(found[memory][budget]), scale=1)}** ({said})"]
        row += [f"{format_summary(summary(found[m][budget]), scale=1)} ({counts[m, budget]})" for m in columns.values()]
        rows.append(row)
    return markdown_table(["per class", "DM through AVIF", *columns], rows)
