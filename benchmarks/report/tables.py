"""Numbers over seeds: mean, standard deviation, 95 % interval, differences of pairs; and tables of them as text."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ddreplay.evaluation import interval

__all__ = [
    "Summary",
    "format_bytes",
    "format_number",
    "format_seconds",
    "format_summary",
    "markdown_table",
    "paired",
    "settings_note",
    "summary",
    "text_table",
]


class Summary(NamedTuple):
    """Mean, sample standard deviation (n - 1), half the width of the 95 % interval (`ddreplay.evaluation.interval`); nan for one value."""

    mean: float
    std: float
    half_width: float
    n: int

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.mean + self.half_width


def summary(values: Sequence[float]) -> Summary:
    """Summarise one value per seed.

    Raises:
        ValueError: if there are no values.

    >>> found = summary([1.0, 2.0, 3.0])
    >>> found.mean, found.std, round(found.half_width, 3)
    (2.0, 1.0, 2.484)
    """
    numbers = [float(value) for value in values]
    if not numbers:
        raise ValueError("values are empty: a summary needs at least one seed")
    mean, known = math.fsum(numbers) / len(numbers), len(numbers) > 1 and all(map(math.isfinite, numbers))
    return Summary(
        mean, statistics.stdev(numbers) if known else math.nan, interval(numbers) if known else math.nan, len(numbers)
    )


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Summary:
    """Summary of ``ours - theirs``, seed by seed: both must list the same seeds in the same order.

    Raises:
        ValueError: if they differ in number.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"pairs need as many values on both sides, got {len(ours)} and {len(theirs)}")
    return summary([float(a) - float(b) for a, b in zip(ours, theirs, strict=True)])


def settings_note(condensers: Mapping[str, str]) -> list[str]:
    """Lines that say with which settings every condenser ran, where those are more than what was typed.

    >>> settings_note({"random": "random", "dm": "dm(steps=200)"})
    ['settings, of small machines and not of the papers:', '  dm = dm(steps=200)']
    """
    told = [f"  {name} = {full}" for name, full in condensers.items() if full != name]
    return ["settings, of small machines and not of the papers:", *told] if told else []


def format_number(value: float | None, digits: int = 1) -> str:
    """A number with ``digits`` decimals; ``-`` for None and nan.

    >>> format_number(-0.04), format_number(float("nan"))
    ('0.0', '-')
    """
    if value is None or math.isnan(value):
        return "-"
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def format_summary(found: Summary, *, scale: float = 100.0, digits: int = 1, spread: str = "interval") -> str:
    """``43.6 ± 0.4``: the mean with the interval's half width, or with the standard deviation if ``spread="std"``.

    Args:
        scale: 100 shows a share as per cent.

    >>> format_summary(Summary(0.436, 0.005, 0.004, 5))
    '43.6 ± 0.4'
    """
    if spread not in ("interval", "std"):
        raise ValueError(f"spread must be 'interval' or 'std', got {spread!r}")
    width = found.half_width if spread == "interval" else found.std
    mean = format_number(scale * found.mean, digits)
    return mean if math.isnan(width) else f"{mean} ± {format_number(scale * width, digits)}"


def format_bytes(nbytes: float | None) -> str:
    """Decimal units, three digits.

    >>> format_bytes(3850), format_bytes(999), format_bytes(999_900), format_bytes(154e6)
    ('3.85 kB', '999 B', '1.00 MB', '154 MB')
    """
    if nbytes is None:
        return "-"
    value, units = float(nbytes), ["B", "kB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} B" if units[0] == "B" else f"{_three_digits(value)} {units[0]}"


def format_seconds(seconds: float | None) -> str:
    """Seconds, minutes or hours.

    >>> format_seconds(0.0123), format_seconds(75), format_seconds(7384)
    ('0.0123 s', '1 min 15 s', '2 h 03 min')
    """
    if seconds is None:
        return "-"
    if seconds < 59.5:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def text_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns aligned by spaces; a column is right-aligned where every entry begins like a number.

    >>> print(text_table(["memory", "accuracy"], [["random", "9.5"], ["dm", "43.6"]]))
    memory  accuracy
    ------  --------
    random       9.5
    dm          43.6
    """
    cells, right = _cells(header, rows)
    widths = [max(len(row[k]) for row in cells) for k in range(len(header))]
    lines = [_join(row, widths, right, "  ").rstrip() for row in cells]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """The same as a markdown table.

    >>> print(markdown_table(["memory", "accuracy"], [["dm", "43.6"]]))
    | memory | accuracy |
    | ------ | -------: |
    | dm     |     43.6 |
    """
    cells, right = _cells(header, rows)
    cells = [[text.replace("|", "\\|") for text in row] for row in cells]
    widths = [max(3, *(len(row[k]) for row in cells)) for k in range(len(header))]
    rule = [
        ("-" * (width - 1) + ":") if to_right else "-" * width for width, to_right in zip(widths, right, strict=True)
    ]
    return "\n".join(f"| {_join(row, widths, right, ' | ')} |" for row in [cells[0], rule, *cells[1:]])


def _cells(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> tuple[list[list[str]], list[bool]]:
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"a row has {len(row)} entries but the header {len(header)}: {list(row)}")
    cells = [[str(entry) for entry in row] for row in [header, *rows]]
    return cells, [bool(rows) and all(_numeric(row[k]) for row in cells[1:]) for k in range(len(header))]


def _numeric(text: str) -> bool:
    return text in ("", "-") or text.lstrip("+-")[:1].isdigit()


def _join(row: Sequence[str], widths: Sequence[int], right: Sequence[bool], between: str) -> str:
    padded = [t.rjust(w) if to_right else t.ljust(w) for t, w, to_right in zip(row, widths, right, strict=True)]
    return between.join(padded)


def _three_digits(value: float) -> str:
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"
