"""What class-incremental streams gave, as a table and as a picture."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.report.tables import format_bytes, format_number, format_summary, summary, text_table
from benchmarks.streams import average_accuracy

__all__ = ["BOUNDS", "budget_of", "draw", "grouped", "table"]

BOUNDS = ("finetuning", "joint")


def budget_of(result: dict[str, Any]) -> str:
    """A result's budget in words; empty for bounds."""
    if result["bytes_per_class"] is not None:
        return f"{format_bytes(result['bytes_per_class'])} a class"
    return "" if result["images_per_class"] is None else f"{result['images_per_class']} a class"


def grouped(results: Sequence[dict[str, Any]]) -> dict[tuple[str, int, str], list[dict[str, Any]]]:
    """Results by (strategy, budget or 0, memory), in the order of the table, each in the order of seeds."""
    rank = {"gdumb": 0, "er": 1, "finetuning": 2, "joint": 3}
    memories = list(
        dict.fromkeys(r["memory"] for r in sorted(results, key=lambda r: r["memory"] not in ("ring", "herding")))
    )

    def key(r: dict[str, Any]) -> tuple[int, int, int]:
        return rank[r["strategy"]], _size(r), memories.index(r["memory"])

    ordered = sorted(results, key=lambda r: (key(r), r["seed"]))
    groups = itertools.groupby(ordered, key=lambda r: (r["strategy"], _size(r), r["memory"]))
    return {name: list(group) for name, group in groups}


def _size(result: dict[str, Any]) -> int:
    return result["bytes_per_class"] or result["images_per_class"] or 0


def table(results: Sequence[dict[str, Any]]) -> str:
    """One row a strategy, budget and memory: means over seeds with 95 % intervals, accuracies in percent."""
    header = [
        "strategy",
        "memory",
        "per class",
        "accuracy %",
        "forgetting",
        "backward",
        "images",
        "bytes",
        "condense s",
        "train s",
        "ratio",
    ]
    rows = []
    for (strategy, _, memory), group in grouped(results).items():
        stats = {
            k: format_summary(summary([r[k] for r in group]), scale=1)
            for k in ("average_accuracy", "forgetting", "backward_transfer", "condense_seconds", "train_seconds")
        }
        bound = memory in BOUNDS
        rows.append(
            [
                strategy,
                "-" if bound else memory,
                "-" if bound else budget_of(group[0]),
                stats["average_accuracy"],
                stats["forgetting"],
                stats["backward_transfer"],
                "-" if bound else round(summary([r["images"] for r in group]).mean),
                "-" if bound else format_bytes(summary([r["nbytes"] for r in group]).mean),
                "-" if bound else stats["condense_seconds"],
                stats["train_seconds"],
                "-" if bound else format_number(_share_of_time(group), 2),
            ]
        )
    seeds = len({r["seed"] for r in results})
    note = (
        f"mean and 95 % interval over {seeds} seeds; accuracy: mean over all experiences after the last one; "
        "ratio: seconds of condensing over seconds of training"
    )
    return f"{text_table(header, rows)}\n{note}"


def _share_of_time(group: Sequence[dict[str, Any]]) -> float:
    return float(sum(r["condense_seconds"] for r in group) / sum(r["train_seconds"] for r in group))


def draw(results: Sequence[dict[str, Any]], path: Path, dataset: str) -> Path | None:
    """Accuracy over experiences: a panel for each strategy and budget, bounds dashed; None without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    groups = grouped(results)
    strategies = list(dict.fromkeys(s for s, _, m in groups if m not in BOUNDS))
    budgets = sorted({n for _, n, m in groups if m not in BOUNDS})
    memories = list(dict.fromkeys(m for _, _, m in groups if m not in BOUNDS))
    size = (3.4 * len(budgets) + 0.6, 2.8 * len(strategies) + 0.6)
    figure, axes = pyplot.subplots(len(strategies), len(budgets), figsize=size, sharex=True, sharey=True, squeeze=False)
    for (strategy, budget, memory), group in groups.items():
        curves = [[average_accuracy(r["accuracies"], k) for k in range(len(r["accuracies"]))] for r in group]
        stats = [summary(values) for values in zip(*curves, strict=True)]
        x, mean = range(1, len(stats) + 1), [s.mean for s in stats]
        low, high = [s.low for s in stats], [s.high for s in stats]
        if memory in BOUNDS:
            for axis in axes.flat:
                axis.plot(x, mean, "--", color="0.55", label=memory, linewidth=1)
            continue
        axis = axes[strategies.index(strategy)][budgets.index(budget)]
        color = f"C{memories.index(memory)}"
        axis.plot(x, mean, "o-", color=color, label=memory, markersize=3)
        axis.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
        nbytes = format_bytes(max(r["nbytes"] for r in group))
        axis.set_title(f"{'GDumb' if strategy == 'gdumb' else 'replay'}, {budget_of(group[0])} ({nbytes})", fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("experiences learned")
    for row in axes:
        row[0].set_ylabel("accuracy %")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False, fontsize=9)
    figure.suptitle(f"{Path(dataset).stem}: accuracy on the classes seen so far, 95 % intervals", fontsize=10)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
    return path
