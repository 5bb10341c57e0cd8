"""What every picture is drawn with: off screen, in colours that colour-blind people tell apart, names at the ends of the curves."""

from __future__ import annotations

import importlib.util
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report.tables import Summary

__all__ = ["COLORS", "GRAY", "MOST_CURVES", "Curve", "can_draw", "draw_curves", "save_figure", "spread_apart"]

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's colours, but for yellow, which is too light for lines on white; in the order in which they are given away."""
GRAY = "#666666"
MARKERS = ("o", "s", "^", "D", "v", "P")
MOST_CURVES = 6
"""In one panel: more cannot be told apart."""


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


@contextmanager
def save_figure(
    path: str | Path,
    *,
    columns: int = 1,
    rows: int = 1,
    width: float = 4.0,
    height: float = 3.0,
    dpi: int = 150,
    **how: Any,
) -> Iterator[tuple[Any, ...]]:
    """Axes to draw on, row by row; the file is written when the block ends, and pyplot's state is left alone.

    Args:
        width, height: of one panel, in inches.
        how: for ``Figure.subplots``, such as ``sharey=True``.
    Raises:
        ImportError: when matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'ddreplay[plots]'") from error
    figure = Figure(figsize=(columns * width, rows * height), layout="constrained")
    FigureCanvasAgg(figure)
    yield tuple(figure.subplots(rows, columns, squeeze=False, **how).flat)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    # no version of matplotlib in the file: the same data give the same bytes
    figure.savefig(path, dpi=dpi, metadata={"Software": None})


@dataclass(frozen=True)
class Curve:
    """A named line of means with their 95 % intervals.

    points: x -> what was measured there. line: as matplotlib takes it (``-``, ``:``, a pattern of dashes). marker: empty for none.
    """

    name: str
    points: Mapping[float, Summary]
    color: str
    line: Any = "-"
    marker: str = "o"


def draw_curves(
    axis: Any,
    curves: Sequence[Curve],
    *,
    bars: bool = False,
    least: float = 0.0,
    most: float = 100.0,
    fontsize: float = 8.0,
) -> None:
    """Curves with their intervals as bands, or as bars beside each other; each name stands at the end of its curve.

    Call it when the axis has its scales and limits: names are kept apart as it then is.

    Args:
        least, most: values that cannot be passed; intervals end there.
        bars: for few values of x, on a logarithmic axis.
    Raises:
        ValueError: when there are more than `MOST_CURVES` curves.
    """
    if len(curves) > MOST_CURVES:
        raise ValueError(f"a panel holds at most {MOST_CURVES} curves, got {len(curves)}; leave some to the table")
    for k, curve in enumerate(curves):
        x, found = list(curve.points), list(curve.points.values())
        mean = [s.mean for s in found]
        low = [min(s.mean, max(least, s.low)) if math.isfinite(s.half_width) else s.mean for s in found]
        high = [max(s.mean, min(most, s.high)) if math.isfinite(s.half_width) else s.mean for s in found]
        look = {"color": curve.color, "linestyle": curve.line, "marker": curve.marker or None, "markersize": 4}
        if bars:
            x = [value * 1.025 ** (k - (len(curves) - 1) / 2) for value in x]
            lengths = [
                [m - b for m, b in zip(mean, low, strict=True)],
                [t - m for m, t in zip(mean, high, strict=True)],
            ]
            axis.errorbar(x, mean, yerr=lengths, capsize=2, elinewidth=0.8, linewidth=1.3, **look)
        else:
            axis.plot(x, mean, linewidth=1.3, **look)
            axis.fill_between(x, low, high, color=curve.color, alpha=0.13, linewidth=0)
    _name_ends(axis, curves, fontsize)


def _name_ends(axis: Any, curves: Sequence[Curve], fontsize: float) -> None:
    """Names right of the axis for curves that reach its end, and beside their last point for others."""
    axis.figure.canvas.draw()  # settles limits and sizes
    end = max(max(curve.points) for curve in curves)
    right = [curve for curve in curves if max(curve.points) == end]
    for curve in curves:
        if curve not in right:
            x = max(curve.points)
            offset: dict[str, Any] = {
                "xytext": (7, 0),
                "textcoords": "offset points",
                "va": "center",
                "linespacing": 1.1,
            }
            axis.annotate(curve.name, (x, curve.points[x].mean), color=curve.color, fontsize=fontsize, **offset)
    to_axes = axis.transData + axis.transAxes.inverted()
    heights = [float(to_axes.transform((end, curve.points[end].mean))[1]) for curve in right]
    gap = 1.25 * fontsize / 72 * axis.figure.dpi / axis.bbox.height
    for curve, height, place in zip(right, heights, spread_apart(heights, gap), strict=True):
        line = {"color": curve.color, "linewidth": 0.6, "clip_on": False, "transform": axis.transAxes}
        axis.plot([1.0, 1.03], [height, place], scalex=False, scaley=False, **line)
        axis.text(1.04, place, curve.name, color=curve.color, fontsize=fontsize, va="center", transform=axis.transAxes)


def spread_apart(places: Sequence[float], gap: float) -> list[float]:
    """Places in 0..1, moved as little as can be (in squares) so that none is nearer to the next than ``gap``.

    >>> spread_apart([0.5, 0.5, 0.9], 0.1)
    [0.45, 0.55, 0.9]
    """
    order = sorted(range(len(places)), key=lambda k: places[k])
    groups: list[list[float]] = []
    for rank, k in enumerate(order):
        groups.append([places[k] - rank * gap])
        while len(groups) > 1 and statistics.fmean(groups[-2]) > statistics.fmean(groups[-1]):
            groups[-2:] = [groups[-2] + groups[-1]]
    starts = [statistics.fmean(group) for group in groups for _ in group]
    moved = [0.0] * len(places)
    for rank, (k, start) in enumerate(zip(order, starts, strict=True)):
        least, most = rank * gap, 1 - (len(places) - 1 - rank) * gap
        moved[k] = round(max(least, min(most, start + rank * gap)), 9)
    return moved
