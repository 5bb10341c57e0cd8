"""Figures as SVG text that stands in a page: no script, no font of its own, names beside what they name."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import NamedTuple

__all__ = ["COLORS", "Dot", "Point", "confusion_grid", "dot_rows", "line_chart", "spread"]

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's colours without yellow, which is too light on white."""

Number = int | float

_WIDTH = 400  # of every figure, in units of which a letter is about 12 high
_LEFT, _RIGHT, _BOTTOM = 50, 96, 196  # of a chart
_INK, _FAINT = "#222", "#d0d0d0"
_SHAPES = ("circle", "square", "triangle", "diamond")


@dataclass(frozen=True)
class Dot:
    """A value with the interval around it (NaN: none), and what kind of thing it is of: its colour and shape."""

    value: float
    half_width: float = math.nan
    kind: int = 0


class Point(NamedTuple):
    """A point of a curve, with the interval around its height (NaN: none)."""

    x: Number
    y: Number
    half_width: Number = math.nan

    def interval(self, bounds: tuple[Number, Number]) -> tuple[Number, Number]:
        """Its two ends within bounds; the point twice where there is none."""
        half = self.half_width if math.isfinite(self.half_width) else 0
        return max(bounds[0], self.y - half), min(bounds[1], self.y + half)


def dot_rows(
    rows: Sequence[tuple[str, Sequence[Dot]]],
    title: str,
    kinds: Sequence[str] = (),
    *,
    chance: Number | None = None,
    most: Number = 100,
    unit: str = "accuracy, %",
    letters: int = 22,
) -> str:
    """A row for every name with dots on a scale from 0 on; intervals end where it does.

    Args:
        kinds: the names of the kinds of dots, for a legend; empty where the rows' names say it.
        chance: what guessing would give, a broken line.
        most: where the scale ends.
        unit: what is measured, in words below it.
        letters: of a name that are shown.
    """
    names = [_cut(name, letters) for name, _ in rows]
    left, row, top = _label_width(names, letters=letters), 22, 26 if kinds else 6
    height, scale = top + row * len(rows) + 36, (_WIDTH - left - 82) / most
    parts = [_legend(kinds, left)] if kinds else []
    bottom = top + row * len(rows)
    for tick in _ticks(0, most, 5):
        x = left + tick * scale
        parts += [_line(x, top, x, bottom, _FAINT), _text(x, bottom + 14, f"{tick:g}", "middle", 11)]
    parts.append(_text(left + most / 2 * scale, bottom + 31, unit, "middle", 11))
    if chance is not None:
        parts += [_line(left + chance * scale, top, left + chance * scale, bottom, "#888", "3 3")]
    for k, (name, (_, dots)) in enumerate(zip(names, rows, strict=True)):
        y = top + row * (k + 0.5)
        parts.append(_text(left - 8, y + 4, name, "end", 12))
        for place, dot in enumerate(dots):
            at = y + (place - (len(dots) - 1) / 2) * min(5.0, 14 / max(1, len(dots)))
            parts.append(_dot(dot, left, scale, at, most))
        if len(dots) == 1:
            value, half = dots[0].value, dots[0].half_width
            digits = 1 if most >= 10 else max(2, 1 - math.floor(math.log10(most)))
            said = f"{value:.{digits}f}" + (f" ± {half:.{digits}f}" if math.isfinite(half) else "")
            parts.append(_text(left + most * scale + 8, y + 4, said, "start", 11))
    return _svg(height, title, parts)


@dataclass(frozen=True)
class _Plane:
    """Where points of a chart are drawn: x in units as they are, or doubled at equal steps."""

    first: Number
    across: Number
    low: Number
    up: Number
    log_x: bool

    @classmethod
    def around(cls, points: Sequence[Point], bounds: tuple[Number, Number], log_x: bool) -> _Plane:
        xs = [math.log2(p.x) if log_x else p.x for p in points]
        low, high = _span([y for p in points for y in (p.y, *p.interval(bounds))])
        low, high = max(low, bounds[0]), min(high, bounds[1])
        across = (_WIDTH - _LEFT - _RIGHT) / ((max(xs) - min(xs)) or 1)
        return cls(min(xs), across, low, (_BOTTOM - 24) / ((high - low) or 1), log_x)

    @property
    def high(self) -> Number:
        return self.low + (_BOTTOM - 24) / self.up

    def place(self, x: Number, y: Number) -> tuple[Number, Number]:
        return _LEFT + ((math.log2(x) if self.log_x else x) - self.first) * self.across, _BOTTOM - (
            y - self.low
        ) * self.up


def line_chart(
    series: Mapping[str, Sequence[Point]],
    title: str,
    x_name: str,
    y_name: str,
    *,
    log_x: bool = False,
    bounds: tuple[Number, Number] = (-math.inf, math.inf),
    color: int = 0,
) -> str:
    """Curves through points (x, y), each named at its end; the vertical scale is that of the values, and says so by its numbers.

    Args:
        bounds: values that cannot be passed; intervals end there.
        color: of the first curve, a place in `COLORS`; the others follow.
    Raises:
        ValueError: when there are more curves than colours.
    """
    if len(series) > len(COLORS):
        raise ValueError(f"a chart holds at most {len(COLORS)} curves, got {len(series)}; leave some to a table")
    plane = _Plane.around([p for curve in series.values() for p in curve], bounds, log_x)
    parts = [*_axes(plane, {p.x for curve in series.values() for p in curve}, x_name, y_name)]
    ends = spread([plane.place(curve[-1].x, curve[-1].y)[1] for curve in series.values()], 14)
    for k, ((name, curve), end) in enumerate(zip(series.items(), ends, strict=True)):
        tint, drawn = COLORS[(color + k) % len(COLORS)], [plane.place(p.x, p.y) for p in curve]
        for p, (x, _) in zip(curve, drawn, strict=True):
            beside = x + 3 * (k - (len(series) - 1) / 2)  # side by side, so that all can be seen
            low, high = (plane.place(p.x, y)[1] for y in p.interval(bounds))
            parts += [_line(beside, low, beside, high, tint)] if low != high else []
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{tint}" stroke-width="1.8"/>')
        parts += [_mark(x, y, k, tint) for x, y in drawn] if len(drawn) <= 12 else []
        parts.append(_text(drawn[-1][0] + 10, end + 4, _cut(name, 14), "start", 11, tint))
    return _svg(_BOTTOM + 44, title, parts)


def _axes(plane: _Plane, values: set[Number], x_name: str, y_name: str) -> Iterator[str]:
    """Horizontal lines with their numbers, and numbers below, as many as do not touch."""
    for tick in _ticks(plane.low, plane.high):
        y = _BOTTOM - (tick - plane.low) * plane.up
        yield _line(_LEFT, y, _WIDTH - _RIGHT, y, _FAINT)
        yield _text(_LEFT - 6, y + 4, f"{tick:g}", "end", 11)
    free = -math.inf
    for value in sorted(values) if len(values) <= 8 else [min(values), max(values)]:
        x, half = plane.place(value, plane.low)[0], 3.6 * len(_number(value))
        if x - half > free:
            yield _line(x, _BOTTOM, x, _BOTTOM + 4, _INK)
            yield _text(x, _BOTTOM + 16, _number(value), "middle", 11)
            free = x + half + 6
    yield _text(_LEFT + (_WIDTH - _LEFT - _RIGHT) / 2, _BOTTOM + 36, x_name, "middle", 11)
    yield _text(4, 12, y_name, "start", 11)


def confusion_grid(counts: Sequence[Sequence[int]], names: Sequence[str], columns: Sequence[str], title: str) -> str:
    """Test images of every class (rows) by what networks took them for (columns), in percent of the row; darker is more."""
    left, top, cell = (
        _label_width(names),
        _label_width(columns, 6) + 14,
        min(34.0, (_WIDTH - _label_width(names) - 6) / len(columns)),
    )
    parts = [_text(left, 12, "taken for", "start", 11)]
    for k, name in enumerate(columns):
        x = left + cell * (k + 0.5) + 4
        parts.append(
            f'<g transform="translate({x:.1f} {top - 6}) rotate(-90)">{_text(0, 0, _cut(name), "start", 11)}</g>'
        )
    for k, (name, row) in enumerate(zip(names, counts, strict=True)):
        parts.append(_text(left - 6, top + cell * (k + 0.5) + 4, _cut(name), "end", 11))
        for j, count in enumerate(row):
            share = count / max(1, sum(row))
            x, y, color = left + cell * j, top + cell * k, "#fff" if share > 0.5 else _INK
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{cell - 1:.1f}" height="{cell - 1:.1f}" stroke="#ddd" '
                f'fill="{COLORS[0]}" fill-opacity="{share:.2f}"/>'
            )
            if cell >= 20 and share >= 0.005:
                parts.append(_text(x + cell / 2, y + cell / 2 + 4, f"{100 * share:.0f}", "middle", 10, color))
    return _svg(top + cell * len(names) + 6, title, parts)


def spread(places: Sequence[Number], gap: Number) -> list[Number]:
    """Places moved down where they are nearer than ``gap`` to the one above.

    >>> spread([10.0, 12.0, 40.0], 14)
    [10.0, 24.0, 40.0]
    """
    moved = list(places)
    order = sorted(range(len(places)), key=lambda k: places[k])
    for above, below in pairwise(order):
        moved[below] = max(moved[below], moved[above] + gap)
    return moved


def _dot(dot: Dot, left: Number, scale: Number, y: Number, most: Number) -> str:
    color, x = COLORS[dot.kind % len(COLORS)], left + dot.value * scale
    bar = ""
    if math.isfinite(dot.half_width):
        low, high = max(0.0, dot.value - dot.half_width), min(float(most), dot.value + dot.half_width)
        bar = _line(left + low * scale, y, left + high * scale, y, color, width=2)
    return bar + _mark(x, y, dot.kind, color)


def _mark(x: Number, y: Number, kind: int, color: str) -> str:
    shape = _SHAPES[kind % len(_SHAPES)]
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{color}"/>'
    if shape == "square":
        return f'<rect x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7" fill="{color}"/>'
    corners = [(0, -4.5), (4.5, 3.5), (-4.5, 3.5)] if shape == "triangle" else [(0, -5), (5, 0), (0, 5), (-5, 0)]
    path = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return f'<polygon points="{path}" fill="{color}"/>'


def _legend(kinds: Sequence[str], left: Number) -> str:
    width = sum(26 + 6.6 * len(kind) for kind in kinds)
    parts, x = [], max(0.0, min(left, _WIDTH - width))
    for k, kind in enumerate(kinds):
        color = COLORS[k % len(COLORS)]
        parts += [_mark(x + 4, 10, k, color), _text(x + 13, 14, kind, "start", 11, color)]
        x += 26 + 6.6 * len(kind)
    return "".join(parts)


def _span(values: Sequence[Number]) -> tuple[Number, Number]:
    low, high = min(values), max(values)
    margin = 0.1 * (high - low) or abs(high) * 0.1 or 1.0
    return low - margin, high + margin


def _ticks(low: Number, high: Number, parts: int = 4) -> list[Number]:
    rough = (high - low) / parts
    size = 10 ** math.floor(math.log10(rough))
    step = next(size * m for m in (1, 2, 5, 10) if size * m >= rough)
    return [round(k * step, 10) for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _number(value: Number) -> str:
    return f"{value:,.0f}"


def _label_width(names: Sequence[str], least: int = 40, letters: int = 22) -> Number:
    return max(least, 16 + 7.2 * max((len(_cut(name, letters)) for name in names), default=0))


def _cut(name: str, most: int = 22) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _line(x1: Number, y1: Number, x2: Number, y2: Number, color: str, dashes: str = "", width: Number = 1) -> str:
    broken = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}" stroke-width="{width}"{broken}/>'


def _text(x: Number, y: Number, text: str, anchor: str, size: int, color: str = _INK) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{color}">{escape(text)}</text>'
    )


def _svg(height: Number, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{escape(title, quote=True)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )
