"""What streams gave over bytes, and over the time that condensing was given, as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.memories import in_time
from benchmarks.report.figures import COLORS, MARKERS, Curve, can_draw, draw_curves, save_figure
from benchmarks.report.streams import is_real, memory_title, title_of
from benchmarks.report.tables import summary

__all__ = ["draw_bytes", "draw_time"]

Results = Sequence[dict[str, Any]]


def draw_bytes(results: Results, path: Path, title: str, names: Mapping[str, str]) -> Path | None:
    """Accuracy at the end over bytes per class, a panel for each strategy; None without matplotlib.

    A budget in bytes stands at its bytes, which are kept, one in images at the bytes that are stored.

    Args:
        results: of class-incremental records, each with its number of ``classes``.
        names: the memories to draw, and how each is called there; at most six.
    Raises:
        ValueError: when no memory has two budgets.
    """
    if not can_draw():
        return None
    kept = [r for r in results if r["memory"] in names]
    curves = {
        strategy: _over_bytes([r for r in kept if r["strategy"] == strategy], names)
        for strategy in dict.fromkeys(r["strategy"] for r in kept)
    }
    curves = {strategy: found for strategy, found in curves.items() if found}
    if not curves:
        raise ValueError("nothing to draw: no memory has two budgets under one strategy")
    with save_figure(path, columns=len(curves), width=4.6, height=3.6, sharey=True) as axes:
        axes[0].figure.suptitle(title, fontsize=10)
        axes[0].set_ylabel("accuracy %")
        for axis, (strategy, found) in zip(axes, curves.items(), strict=True):
            ends = [x for curve in found for x in curve.points]
            axis.set_xscale("log", base=2)
            axis.set_xlim(min(ends) / 1.25, max(ends) * 1.25)
            axis.set_xticks(ticks := _ticks(min(ends), max(ends)), [f"{b / 1000:g} kB" for b in ticks])
            axis.minorticks_off()
            axis.set_xlabel("bytes per class, everything counted")
            axis.set_title(title_of(strategy), fontsize=9)
            draw_curves(axis, found, bars=True)
    return path


def _ticks(least: float, most: float) -> list[int]:
    """At most six kilobytes that double, or quadruple, and so on."""
    doubled = [1000 * 2**k for k in range(12) if least / 1.25 <= 1000 * 2**k <= most * 1.25]
    return doubled[:: -(-len(doubled) // 6)]


def _over_bytes(results: Results, names: Mapping[str, str]) -> list[Curve]:
    curves = []
    for k, (memory, name) in enumerate(names.items()):
        budgets: dict[Any, list[dict[str, Any]]] = {}
        for r in results:
            if r["memory"] == memory:
                budgets.setdefault((r["bytes_per_class"], r["images_per_class"]), []).append(r)
        points = {
            budget or summary([r["nbytes"] / r["classes"] for r in group]).mean: summary(
                [r["average_accuracy"] for r in group]
            )
            for (budget, _), group in budgets.items()
        }
        if len(points) > 1:
            line = "--" if is_real(memory) else "-"
            curves.append(Curve(name, dict(sorted(points.items())), COLORS[k], line, MARKERS[k]))
    return curves


def draw_time(results: Results, path: Path, title: str) -> Path | None:
    """Accuracy at the end over seconds of condensing, as a share of those of training; None without matplotlib.

    Args:
        results: of one budget and strategy: memories within a time (``default@0.5``), the same without a limit, and real images, whose
            accuracy is drawn as a level line.
    Raises:
        ValueError: when no memory stays within a time.
    """
    if not can_draw():
        return None
    limited = [r for r in results if in_time(r["memory"])[1] is not None]
    if not limited:
        raise ValueError("nothing to draw: no memory was condensed within a share of the training time")
    name = in_time(limited[0]["memory"])[0]
    groups: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        if in_time(result["memory"])[0] == name:
            groups.setdefault(result["memory"], []).append(result)
    points = {
        summary([r["condense_seconds"] / r["train_seconds"] for r in group]).mean: summary(
            [r["average_accuracy"] for r in group]
        )
        for group in groups.values()
    }
    curves = [Curve("condensed", dict(sorted(points.items())), COLORS[0])]
    for k, memory in enumerate(dict.fromkeys(r["memory"] for r in results if is_real(r["memory"])), start=1):
        level = summary([r["average_accuracy"] for r in results if r["memory"] == memory])
        curves.append(Curve(memory_title(memory), dict.fromkeys(sorted(points), level), COLORS[k], "--", ""))
    with save_figure(path, width=5.4, height=3.6) as (axis,):
        axis.set_xscale("log", base=2)
        axis.set_xlim(min(points) / 1.25, max(points) * 1.25)
        axis.set_xticks([t for t in (0.125, 0.25, 0.5, 1, 2, 4, 8) if min(points) / 1.25 <= t <= max(points) * 1.25])
        axis.set_xticklabels([f"{t:g}" for t in axis.get_xticks()])
        axis.minorticks_off()
        axis.set_xlabel("seconds of condensing over seconds of training")
        axis.set_ylabel("accuracy %")
        axis.set_title(title, fontsize=9)
        draw_curves(axis, curves)
    return path
