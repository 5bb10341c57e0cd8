"""``python -m benchmarks figures``: every picture of the README and of docs/results.md, from the records beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.bytes_factor import class_incremental_results, factor_table, needs
from benchmarks.checks import among
from benchmarks.papers.field import draw_field
from benchmarks.report import byte_curves, stream_curves, streams
from benchmarks.report.records import read
from benchmarks.report.tables import format_summary, markdown_table, summary

__all__ = ["PICTURES", "bytes_of_cifar10", "bytes_table", "figures", "stream_table"]

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


STREAM = ("class_incremental_cifar10_bytes.json", "class_incremental_cifar10_real.json")
"""Condensed and herded images under two strategies, and real images at more budgets under GDumb; cells of one protocol."""


def draw_stream_bytes_cifar10(path: Path) -> str:
    """Accuracy over bytes in a stream of CIFAR-10, with plain uint8 images as far as they reach; and how many bytes real images need."""
    results = class_incremental_results([RECORDS / name for name in STREAM])
    seeds = len({r["seed"] for r in results})
    title = f"CIFAR-10, five experiences of two classes, ConvNet of width 32, up to {seeds} seeds, 95 % intervals"
    names = {"default": "condensed\nthrough AVIF", "herding": "herding in AVIF", "ring(codec=uint8)": "plain uint8"}
    stream_curves.draw_bytes(results, path, title, names)
    found = needs(results, ("default",), ("gdumb",))
    return f"{stream_table(read(RECORDS / STREAM[0]).results)}\n\n{factor_table(found)}"


def draw_stream_time_cifar10(path: Path) -> str:
    """Accuracy over the time that condensing was given, in the same stream at 4 kB per class."""
    limited = read(RECORDS / "class_incremental_cifar10_time.json").results
    seeds = {r["seed"] for r in limited}
    same = [r for r in read(RECORDS / STREAM[0]).results if r["strategy"] == "er" and r["bytes_per_class"] == 4000]
    title = f"CIFAR-10 in a stream, 4 kB per class, experience replay, {len(seeds)} seed{'s' * (len(seeds) > 1)}"
    stream_curves.draw_time([*limited, *(r for r in same if r["seed"] in seeds)], path, title)
    return streams.table(limited)


PICTURES: dict[str, Callable[[Path], str]] = {
    "class_incremental_digits": draw_class_incremental_digits,
    "bytes_cifar10": draw_bytes_cifar10,
    "bytes_digits": draw_bytes_digits,
    "stream_bytes_cifar10": draw_stream_bytes_cifar10,
    "stream_time_cifar10": draw_stream_time_cifar10,
    "field_by_bytes": draw_field,
}
"""Name of the file -> what draws it and gives the table beside it."""


def stream_table(results: Sequence[dict[str, Any]]) -> str:
    """Strategies and budgets in rows, memories in columns, and differences of condensed and real memories paired by seed."""
    groups = {name: group for name, group in streams.grouped(results).items() if not streams.is_bound(group[0])}
    memories = list(dict.fromkeys(memory for _, _, memory in groups))
    pairs = {(d.strategy, d.budget, d.memory, d.rival): d.summary for d in streams.paired_differences(results)}
    columns = list(dict.fromkeys((memory, rival) for _, _, memory, rival in pairs))
    rows = []
    for strategy, size in dict.fromkeys((strategy, size) for strategy, size, _ in groups):
        budget = streams.budget_of(next(g[0] for (s, n, _), g in groups.items() if (s, n) == (strategy, size)))
        row = [streams.title_of(strategy), budget.removesuffix(" per class")]
        for memory in memories:
            found = groups.get((strategy, size, memory))
            row.append(
                "-" if found is None else format_summary(summary([r["average_accuracy"] for r in found]), scale=1)
            )
        for memory, rival in columns:
            gap = pairs.get((strategy, budget, memory, rival))
            said = "-" if gap is None else format_summary(gap, scale=1)
            row.append(said if said.startswith("-") else f"+{said}")
        rows.append(row)
    titles = [streams.TITLES.get(memory, memory) for memory in memories]
    gaps = [f"{streams.TITLES.get(m, m)} less {streams.TITLES.get(r, r)}" for m, r in columns]
    return markdown_table(["strategy", "per class", *titles, *gaps], rows)


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
