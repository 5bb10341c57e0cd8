"""What class-incremental streams gave, as a table and as a picture."""

from __future__ import annotations

import itertools
import math
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.report.figures import COLORS, GRAY, MARKERS, MOST_CURVES, Curve, can_draw, draw_curves, save_figure
from benchmarks.report.tables import (
    Summary,
    format_bytes,
    format_number,
    format_summary,
    paired,
    settings_note,
    summary,
    text_table,
)
from benchmarks.streams import average_accuracy
from ddreplay.names import KINDS
from strategies import STRATEGIES

__all__ = [
    "Difference", "budget_of", "differences", "draw", "grouped", "is_bound", "is_real", "memory_title", "paired_differences", "table",
    "title_of",
]  # fmt: skip

REAL = ("ring", *KINDS["selection"])
TITLES = {"ring": "ring buffer", "default": "condensed", "chosen": "chosen"}
MEASURES = ("average_accuracy", "forgetting", "backward_transfer")
HEADER = (
    "strategy", "memory", "per class", "accuracy %", "forgetting", "backward", "images", "bytes", "condense s", "(cpu)", "train s", "(cpu)",
    "ratio", "seeds",
)  # fmt: skip
PAIRS = ("strategy", "per class", "memory", "less", "difference", "seeds")
BOUND_LINES: tuple[Any, ...] = (":", "-.", (0, (6, 1.5)), (0, (1, 3)))

Groups = dict[tuple[str, int, str], list[dict[str, Any]]]


def budget_of(result: Mapping[str, Any]) -> str:
    """A result's budget in words; empty for strategies without a memory."""
    if result["bytes_per_class"] is not None:
        return f"{format_bytes(result['bytes_per_class'])} per class"
    images = result["images_per_class"]
    return "" if images is None else f"{images} image{'s' * (images > 1)} per class"


def is_bound(result: Mapping[str, Any]) -> bool:
    """Whether it comes from a strategy without a memory, whose name then stands for both."""
    return bool(result["memory"] == result["strategy"])


def title_of(strategy: str) -> str:
    """A strategy's name for people."""
    return STRATEGIES[strategy].title if strategy in STRATEGIES else strategy


def grouped(results: Sequence[dict[str, Any]]) -> Groups:
    """Results by (strategy, budget or 0, memory), in the order of the table, each in the order of seeds."""
    strategies = list(dict.fromkeys([*STRATEGIES, *(r["strategy"] for r in results)]))
    memories = list(dict.fromkeys(r["memory"] for r in sorted(results, key=lambda r: r["memory"] not in REAL)))

    def key(r: dict[str, Any]) -> tuple[int, int, int]:
        return strategies.index(r["strategy"]), _size(r), memories.index(r["memory"])

    ordered = sorted(results, key=lambda r: (key(r), r["seed"]))
    groups = itertools.groupby(ordered, key=lambda r: (r["strategy"], _size(r), r["memory"]))
    return {name: list(group) for name, group in groups}


def _size(result: dict[str, Any]) -> int:
    return result["bytes_per_class"] or result["images_per_class"] or 0


def table(results: Sequence[dict[str, Any]], condensers: Mapping[str, str] | None = None) -> str:
    """One row a strategy, budget and memory: means over seeds with 95 % intervals, accuracies in percent.

    condensers: every memory with all its settings, to be said below the table.
    """
    rows = []
    for (strategy, _, memory), group in grouped(results).items():
        accuracy, lost, backward = (_mean(group, name) for name in MEASURES)
        held = [
            round(summary([r["images"] for r in group]).mean),
            format_bytes(summary([r["nbytes"] for r in group]).mean),
            _mean(group, "condense_seconds"),
            _mean(group, "condense_cpu_seconds"),
        ]
        bound = is_bound(group[0])
        rows.append(
            [
                title_of(strategy),
                *(["-", "-"] if bound else [memory, budget_of(group[0])]),
                *(accuracy, lost, backward),
                *(["-"] * 4 if bound else held),
                _mean(group, "train_seconds"),
                _mean(group, "train_cpu_seconds"),
                "-" if bound else format_number(_share_of_time(group), 2),
                len(group),
            ]
        )
    seeds = len({r["seed"] for r in results})
    note = (
        f"mean and 95 % interval over {seeds} seeds; accuracy: mean over all experiences after the last one; bytes: with what the strategy "
        "stores beside the memory; cpu: processor seconds; ratio: seconds of condensing over seconds of training"
    )
    return "\n".join([text_table(HEADER, rows), note, *settings_note(condensers or {})])


def _mean(group: Sequence[dict[str, Any]], name: str) -> str:
    """Mean and interval of what all results of a group say; ``-`` where some do not."""
    values = [r.get(name) for r in group]
    return "-" if None in values else format_summary(summary([v for v in values if v is not None]), scale=1)


class Difference(NamedTuple):
    """Accuracy of a condensed memory less that of a real one, in points, over the seeds that both have.

    best: whether the real memory is the one of highest mean accuracy under this strategy and budget.
    """

    strategy: str
    budget: str
    memory: str
    rival: str
    best: bool
    summary: Summary


def paired_differences(results: Sequence[dict[str, Any]]) -> list[Difference]:
    """Every memory that is not of real images less every one that is, under the same strategy and budget, paired by seed.

    The best rival comes first, and is chosen by its mean over the seeds there are; pairs are of the seeds that both memories have.
    """
    groups = {name: group for name, group in grouped(results).items() if not is_bound(group[0])}
    found = []
    for (strategy, size, memory), group in groups.items():
        if is_real(memory):
            continue
        rivals = {m: rival for (s, n, m), rival in groups.items() if (s, n) == (strategy, size) and is_real(m)}
        ranked = sorted(rivals, key=lambda m: -statistics.fmean(r["average_accuracy"] for r in rivals[m]))
        ours = {r["seed"]: r["average_accuracy"] for r in group}
        for rank, rival in enumerate(ranked):
            theirs = {r["seed"]: r["average_accuracy"] for r in rivals[rival]}
            seeds = [seed for seed in ours if seed in theirs]
            if seeds:
                by_seed = paired([ours[seed] for seed in seeds], [theirs[seed] for seed in seeds])
                found.append(Difference(strategy, budget_of(group[0]), memory, rival, rank == 0, by_seed))
    return found


def differences(results: Sequence[dict[str, Any]]) -> str:
    """`paired_differences` as a table; a line that says so where there are none."""
    rows = []
    for d in paired_differences(results):
        mean = format_summary(d.summary, scale=1)
        signed = mean if mean.startswith("-") else f"+{mean}"
        rows.append([title_of(d.strategy), d.budget, d.memory, d.rival + " (best)" * d.best, signed, d.summary.n])
    if not rows:
        return "no pairs: differences need a condensed and a real memory under one strategy and budget"
    return "\n".join(
        [text_table(PAIRS, rows), "points of accuracy, paired by seed: mean and 95 % interval (Student's t)"]
    )


def _share_of_time(group: Sequence[dict[str, Any]]) -> float:
    return float(sum(r["condense_seconds"] for r in group) / sum(r["train_seconds"] for r in group))


def draw(results: Sequence[dict[str, Any]], path: Path, dataset: str) -> Path | None:
    """Accuracy over experiences: a panel for each strategy with a memory and each budget; None without matplotlib, or where no
    strategy with a memory was measured after every experience.

    Memories are drawn in full lines where images are condensed and broken ones where they are real, strategies without a memory in
    grey. Of more than six curves those whose accuracy is highest at the end are shown, and the title says so.
    """
    groups = {name: group for name, group in grouped(results).items() if None not in _measured(group)}
    if not can_draw() or all(is_bound(group[0]) for group in groups.values()):
        return None
    bounds = [group for group in groups.values() if is_bound(group[0])]
    kept = {name: group for name, group in groups.items() if not is_bound(group[0])}
    strategies, budgets = list(dict.fromkeys(s for s, _, _ in kept)), sorted({n for _, n, _ in kept})
    memories = list(dict.fromkeys(m for _, _, m in kept))
    shown = _best(kept, memories, MOST_CURVES - len(bounds))
    seeds = len({r["seed"] for r in results})
    title = f"{Path(dataset).stem}: accuracy on the classes seen so far, {f'{seeds} seeds, 95 % intervals' if seeds > 1 else '1 seed'}"
    title += f"; {len(shown)} of {len(memories)} memories" if len(shown) < len(memories) else ""
    lines = [
        Curve(title_of(group[0]["strategy"]), _course(group), GRAY, line, "")
        for group, line in zip(bounds, BOUND_LINES, strict=False)
    ]
    least = min(s.low if math.isfinite(s.low) else s.mean for group in groups.values() for s in _course(group).values())
    size: dict[str, Any] = {"columns": len(budgets), "rows": len(strategies), "width": 3.7, "height": 2.7}
    with save_figure(path, **size, sharex=True, sharey=True) as axes:
        axes[0].figure.suptitle("\n".join(textwrap.wrap(title, 52 * len(budgets))), fontsize=10)
        axes[0].set_ylim(max(0, 10 * math.floor(least / 10)), 101)
        for k, (axis, place) in enumerate(zip(axes, itertools.product(strategies, budgets), strict=True)):
            here = {memory: kept[key] for memory in shown if (key := (*place, memory)) in kept}
            if not here:
                axis.set_visible(False)
                continue
            _panel(axis, here, shown, lines)
            axis.set_xlabel("experiences learned" if k >= len(axes) - len(budgets) else "")
            axis.set_ylabel("" if k % len(budgets) else "accuracy %")
    return path


def _panel(axis: Any, here: Mapping[str, list[dict[str, Any]]], shown: Sequence[str], lines: Sequence[Curve]) -> None:
    """One strategy at one budget, the lines of strategies without a memory behind its curves."""
    curves = [
        Curve(memory_title(m, shown), _course(group), COLORS[k], "--" if is_real(m) else "-", MARKERS[k])
        for k, m in enumerate(shown)
        if (group := here.get(m))
    ]
    first = next(iter(here.values()))[0]
    nbytes = format_bytes(max(r["nbytes"] for group in here.values() for r in group))
    axis.set_title(f"{title_of(first['strategy'])}, {budget_of(first)} ({nbytes})", fontsize=9)
    ends = {x for curve in [*lines, *curves] for x in curve.points}
    axis.set_xlim(min(ends) - 0.1, max(ends) + 0.1)
    axis.set_xticks(sorted(ends))
    draw_curves(axis, [*lines, *curves])


def _measured(group: Sequence[dict[str, Any]]) -> list[Any]:
    return [row for r in group for row in r["accuracies"]]


def _course(group: Sequence[dict[str, Any]]) -> dict[float, Summary]:
    """Experiences learned -> mean accuracy on them over seeds."""
    curves = [[average_accuracy(r["accuracies"], k) for k in range(len(r["accuracies"]))] for r in group]
    return {k + 1: summary(values) for k, values in enumerate(zip(*curves, strict=True))}


def _best(kept: Groups, memories: Sequence[str], most: int) -> list[str]:
    """The memories that are most accurate at the end, over all strategies and budgets, in their own order; one of real images at least."""
    found = {
        m: statistics.fmean(r["average_accuracy"] for n, g in kept.items() if n[2] == m for r in g) for m in memories
    }
    ranked = sorted(memories, key=lambda memory: -found[memory])
    best = ranked[:most]
    rivals = [memory for memory in ranked if is_real(memory)]
    if rivals and rivals[0] not in best:
        best[-1] = rivals[0]
    return [memory for memory in memories if memory in best]


def is_real(memory: str) -> bool:
    """Whether a memory holds real images."""
    return memory.partition("(")[0] in REAL


def memory_title(memory: str, others: Sequence[str] = ()) -> str:
    """A memory's name in a picture: without its options, unless another of ``others`` differs in them alone."""
    name = memory.partition("(")[0]
    if [other.partition("(")[0] for other in others].count(name) > 1:
        return memory
    return TITLES.get(name, name if name in REAL else name.upper())
