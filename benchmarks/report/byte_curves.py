"""Accuracy against bytes per class, of real and condensed images: table, crossings, picture."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.report.figures import COLORS, MARKERS, MOST_CURVES, Curve, can_draw, draw_curves, save_figure
from benchmarks.report.tables import format_bytes, format_summary, summary, text_table
from ddreplay.names import KINDS

__all__ = ["crossings", "curves", "draw", "higher", "is_real", "table"]

Curves = Mapping[str, Mapping[int, list[float]]]
Results = Sequence[dict[str, Any]]


def is_real(memory: str) -> bool:
    """Whether it stores real images: its name begins with that of a selection.

    >>> is_real("herding avif"), is_real("dm, then avif"), is_real("random(codec=jpeg)")
    (True, False, True)
    """
    return re.split(r"\W", memory, maxsplit=1)[0] in KINDS["selection"]


def curves(results: Results) -> dict[str, dict[int, list[float]]]:
    """Accuracies by memory and budget."""
    found: dict[str, dict[int, list[float]]] = {}
    for r in results:
        if r["accuracy"] is not None:
            found.setdefault(r["memory"], {}).setdefault(r["bytes_per_class"], []).append(r["accuracy"])
    return found


def higher(*runs: Results) -> list[dict[str, Any]]:
    """Of every memory and budget the results of the run with the higher mean accuracy, which favours memories tried in two ways."""
    best: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for results in runs:
        groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
        for r in results:
            groups.setdefault((r["memory"], r["bytes_per_class"]), []).append(r)
        for key, group in groups.items():
            if key not in best or _mean(group) > _mean(best[key]):
                best[key] = group
    return [r for group in best.values() for r in group]


def _mean(group: Results) -> float:
    known = [r["accuracy"] for r in group if r["accuracy"] is not None]
    return statistics.fmean(known) if known else -math.inf


def table(results: Results) -> str:
    """A row for each memory, a column for each budget: accuracy with its 95 % interval, and images per class."""
    budgets = sorted({r["bytes_per_class"] for r in results})
    rows = []
    for memory in dict.fromkeys(r["memory"] for r in results):
        row = [memory]
        for budget in budgets:
            group = [r for r in results if (r["memory"], r["bytes_per_class"]) == (memory, budget)]
            values = [r["accuracy"] for r in group if r["accuracy"] is not None]
            row.append(f"{format_summary(summary(values), scale=1)} ({group[0]['images']})" if values else "-")
        rows.append(row)
    seeds = len({r["seed"] for r in results})
    note = f"accuracy in percent, mean and 95 % interval over {seeds} seeds (stored images per class)"
    return f"{text_table(['memory', *(f'{format_bytes(b)} per class' for b in budgets)], rows)}\n{note}"


def crossings(results: Results) -> list[str]:
    """Where the best condensed curve leaves the best real one behind, in words."""
    found = curves(results)
    sides = {side: [m for m in found if is_real(m) == (side == "real")] for side in ("real", "condensed")}
    if not all(sides.values()):
        return []
    budgets = [sorted({b for m in memories for b in found[m]}) for memories in sides.values()]
    shared = [b for b in budgets[0] if b in budgets[1]]
    best = {
        side: {b: max(summary(found[m][b]).mean for m in memories if b in found[m]) for b in shared}
        for side, memories in sides.items()
    }
    gaps = [(b, best["condensed"][b] - best["real"][b]) for b in shared]
    lines = [f"condensed - real at {format_bytes(b)} per class: {gap:+.1f}" for b, gap in gaps]
    for (a, first), (b, second) in pairwise(gaps):
        if first * second < 0:
            at = a * (b / a) ** (first / (first - second))
            lines.append(f"the best curves cross near {format_bytes(at)} per class")
    return lines


def draw(results: Results, path: Path, title: str, names: Mapping[str, str] | None = None) -> Path | None:
    """The curves with their intervals, condensed images in full lines and real ones in broken ones; None without matplotlib.

    Args:
        names: the memories to draw, and how each is called there; ``None``: by the names of the table. Of more than six, the three
            best of either side are drawn, and the title says so.
    """
    if not can_draw():
        return None
    found = curves(results)
    wanted = {m: m for m in found} if names is None else {m: name for m, name in names.items() if m in found}
    shown = _best(found, list(wanted))
    if len(shown) < len(wanted):
        title += f"; {len(shown)} of {len(wanted)} memories"
    budgets = sorted({b for memory in shown for b in found[memory]})
    with save_figure(path, width=7.2, height=4.2) as (axis,):
        axis.set_xscale("log", base=2)
        axis.set_xlim(budgets[0] / 1.25, budgets[-1] * 1.25)
        axis.set_xticks(budgets, [f"{b / 1000:g} kB" if b >= 1000 else f"{b} B" for b in budgets])
        axis.minorticks_off()
        axis.set_xlabel("bytes per class, everything counted")
        axis.set_ylabel("accuracy %")
        axis.set_title(title, fontsize=9)
        drawn = [
            Curve(
                wanted[memory],
                {b: summary(values) for b, values in sorted(found[memory].items())},
                COLORS[k],
                "--" if is_real(memory) else "-",
                MARKERS[k],
            )
            for k, memory in enumerate(shown)
        ]
        draw_curves(axis, drawn, bars=True)
    return path


def _best(found: Curves, memories: Sequence[str]) -> list[str]:
    """At most six memories in their own order: those with the most budgets, then the highest accuracies, of either side."""
    if len(memories) <= MOST_CURVES:
        return list(memories)

    def worth(memory: str) -> tuple[int, float]:
        return len(found[memory]), statistics.fmean(statistics.fmean(v) for v in found[memory].values())

    kept: list[str] = []
    for real in (True, False):
        side = sorted((m for m in memories if is_real(m) == real), key=worth, reverse=True)
        kept += side[: MOST_CURVES // 2]
    return [memory for memory in memories if memory in kept]
