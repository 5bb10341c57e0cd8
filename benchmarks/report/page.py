"""``python -m benchmarks report``: records as one page for people who did not run them."""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tyro

from benchmarks.report import records as files
from benchmarks.report.records import Record
from benchmarks.report.rows import PERCENT, Pair, Row, Rows, kind_of, read_rows
from benchmarks.report.streams import title_of
from benchmarks.report.tables import Summary, format_bytes, format_number, format_seconds, summary
from ddreplay.report.svg import COLORS, Dot, Point, dot_rows, line_chart
from ddreplay.report.template import check_available, write_html
from ddreplay.terminal import check_writable

__all__ = ["report"]

KINDS = ("condensed", "real images", "no memory")
MEMORIES = {"default": "condensed (default)", "ring": "ring buffer", "chosen": "chosen kind"}
MOST_ROWS = 60
"""That a figure has; the table has all."""
MOST_CHARTS = 8
TITLES = {
    "average_accuracy": "accuracy at the end, %", "accuracy": "accuracy, %", "average": "accuracy at the end, %",
    "augmented": "accuracy, trained on augmented images, %", "forgetting": "forgetting, points",
    "backward_transfer": "backward transfer, points", "nbytes": "bytes", "nbytes_beside": "bytes beside the memory",
    "stored_images": "images stored", "condense_seconds": "condensing", "condense_cpu_seconds": "condensing, processor",
    "train_seconds": "training", "train_cpu_seconds": "training, processor", "evaluate_seconds": "testing", "test_seconds": "testing",
    "seconds": "time", "plain_seconds": "time, plain loop", "bytes_per_class": "bytes per class", "images_per_class": "images per class",
    "peak_bytes": "peak of memory", "peak_memory": "memory added at the peak", "plain_peak_memory": "the same, plain loop",
    "relative_error": "relative error", "epochs_trained": "epochs trained",
}  # fmt: skip


def report(records: tyro.conf.Positional[tuple[Path, ...]], out: Path = Path("report.html")) -> None:
    """Write one page about records: what was run, tables with intervals, differences paired by seed, figures, settings, seconds, versions.

    The page needs nothing beside it and no script; it may be printed.

    Args:
        records: files that benchmarks wrote.
        out: the page.
    """
    if not records:
        raise ValueError("records must be one file or more, got none; write python -m benchmarks report results/*.json")
    check_available()
    check_writable(out)
    told = [_told(path.stem, files.read(path)) for path in records]
    title = f"Record {told[0]['name']}" if len(told) == 1 else f"{len(told)} records"
    template = Path(__file__).with_name("records.html").read_text(encoding="utf-8")
    command = shlex.join(["python -m benchmarks", *sys.argv[1:]]).replace("'", "", 2)
    page = write_html(template, out, title=title, records=told, command=command)
    print(f"{page}: {len(told)} record{'s' * (len(told) > 1)}, {format_bytes(page.stat().st_size)}")


def _told(name: str, record: Record) -> dict[str, Any]:
    """Everything that a page says of a record."""
    rows = read_rows(record)
    pairs = [_pair(pair, rows.main, str(rows.option)) for pair in rows.pairs()]
    places = tuple(n for n in rows.places if n != rows.option)
    return {
        "name": name,
        "benchmark": record.benchmark,
        "summary": _summary(record),
        "held_out": record.protocol.get("validation") is True or rows.alike.get("split") == "validation",
        "data": _data(record),
        "took": format_seconds(record.seconds),
        "seeds": rows.seeds,
        "about": _about(record, rows),
        "places": [_title(n) for n in rows.places],
        "measures": [_title(n) for n in rows.measures],
        "rows": [_row(row, rows) for row in rows.rows],
        "figures": list(_figures(rows)),
        "courses": list(_courses(rows)),
        "notes": _notes(record, rows),
        "pairs": pairs,
        "pairs_of_one": any(pair["seeds"] == 1 for pair in pairs),
        "pair_places": [_title(n) for n in places],
        "option": _title(rows.option or ""),
        "settings": json.dumps(record.protocol, indent=1),
    }


def _summary(record: Record) -> str:
    from benchmarks.__main__ import COMMANDS

    known = COMMANDS.get(record.benchmark)
    said = f"benchmark {record.benchmark}" if known is None else known.summary
    return said[0].upper() + said[1:] + "."


def _data(record: Record) -> str:
    given = record.protocol.get("dataset", record.protocol.get("data"))
    return Path(given).stem if isinstance(given, str) else "-" if given is None else str(given)


def _about(record: Record, rows: Rows) -> dict[str, str]:
    memory = format_bytes(record.peak_memory) if record.peak_memory else "unknown"
    gpu = f", {format_bytes(record.peak_cuda_memory)} on the GPU" if record.peak_cuda_memory else ""
    seeds = "1 seed" if rows.seeds == 1 else f"up to {rows.seeds} seeds"
    return {
        "benchmark": record.benchmark,
        "command": record.command,
        "data": _data(record),
        "measured": f"{len(record.results)} results in {len(rows.rows)} row{'s' * (len(rows.rows) > 1)}, {seeds} each",
        **({"in all rows": ", ".join(f"{_title(k)} {v}" for k, v in rows.alike.items())} if rows.alike else {}),
        "took": f"{format_seconds(record.seconds)} of wall time in all; peak memory {memory}{gpu}",
        "on": f"{record.device}, {record.threads} thread{'s' * (record.threads > 1)} a process",
        "versions": ", ".join(f"{k} {v}" for k, v in record.versions.items()),
        "commit": record.commit or "outside a repository",
    }


def _title(name: str) -> str:
    return TITLES.get(name, name.replace("_", " "))


def _row(row: Row, rows: Rows) -> dict[str, Any]:
    each = row.values.get(rows.main, {})
    return {
        "place": [_place(n, v) for n, v in row.place.items()],
        "numbers": [_said(name, row.summary(name)) for name in rows.measures],
        "seeds": len(each),
        "each": ", ".join(_one(rows.main, value) for value in each.values()),
    }


def _place(name: str, value: str) -> str:
    """A place in words: strategies and memories that go by a short name by their full one."""
    if name == "bytes_per_class" and value:
        return f"{float(value) / 1000:g} kB" if float(value) >= 1000 else f"{float(value):g} B"
    if name == "strategy":
        return title_of(value)
    return MEMORIES.get(value, value) if name == "memory" and value else value or "-"


def _said(name: str, found: Summary | None) -> str:
    """A mean in its unit, with its interval where it is of accuracy or without a unit."""
    if found is None:
        return "-"
    if "seconds" in name or "bytes" in name or name.endswith("memory") or "images" in name:
        return _one(name, found.mean)
    half = "" if math.isnan(found.half_width) else f" ± {_one(name, found.half_width)}"
    return _one(name, found.mean) + half


def _one(name: str, value: float) -> str:
    if name in PERCENT:
        return format_number(value)
    if "seconds" in name:
        return format_seconds(value)
    if "bytes" in name or name.endswith("memory"):
        return format_bytes(value)
    return f"{value:,.0f}" if "images" in name else f"{value:.3g}"


def _pair(pair: Pair, measure: str, option_name: str) -> dict[str, Any]:
    mean, half = pair.summary.mean, pair.summary.half_width
    said = ("+" if mean >= 0 else "-") + _one(measure, abs(mean))
    if math.isfinite(half):
        said += f" ± {_one(measure, half)}" + (" (open)" if abs(mean) <= half else "")
    place = [_place(n, v) for n, v in pair.place.items()]
    option, less = (_place(option_name, name) for name in (pair.option, pair.less))
    return {"place": place, "option": option, "less": less, "difference": said, "seeds": pair.summary.n}


def _notes(record: Record, rows: Rows) -> str:
    """What the columns mean that do not say it themselves."""
    said = []
    if "average_accuracy" in rows.measures:
        said.append("Accuracy at the end: mean over all experiences after the last one.")
    if "forgetting" in rows.measures:
        said.append("Forgetting: how far accuracy on an experience fell below the best it had been.")
    if rows.seeds > 1:
        said.append("Times, bytes and images are means over seeds.")
    if any(row.values.get(rows.main) == {} for row in rows.rows):
        said.append("- : not measured, or not one image fits.")
    return " ".join(said)


def _figures(rows: Rows) -> Iterator[dict[str, str]]:
    """A dot for every row, in the order of the table; and curves over budgets where there are several."""
    known = [(k, row, found) for k, row in enumerate(rows.rows, 1) if (found := row.summary(rows.main))]
    percent = rows.main in PERCENT
    most = 100.0 if percent else 1.05 * max((f.mean for _, _, f in known), default=0.0)
    if not known or most <= 0 or any(f.mean < 0 for _, _, f in known):
        return
    shown = known[:MOST_ROWS]
    kinds = [k for k in KINDS if any(kind_of(row.place) == k for _, row, _ in known)]
    kinds = kinds if len(kinds) > 1 else []
    drawn = [
        (f"{k} {_name(row)}", [Dot(found.mean, found.half_width, kinds.index(kind_of(row.place)) if kinds else 0)])
        for k, row, found in shown
    ]
    title = _title(rows.main)
    said = "Mean of every row with its 95 % interval." if rows.seeds > 1 else "One seed, so without intervals."
    said += " Numbers are those of the table."
    said += f" The first {MOST_ROWS} of {len(known)} rows." if len(known) > MOST_ROWS else ""
    yield {"svg": dot_rows(drawn, f"{title} of every row", kinds, most=most, unit=title, letters=27), "said": said}
    if percent:
        yield from _over_budgets(rows)


def _name(row: Row) -> str:
    """What tells a row from others, the most telling first; the figure has little room."""
    telling = {"memory": 0, "method": 0, "row": 0, "way": 1, "variant": 1, "bytes_per_class": 1, "images_per_class": 1}
    order = sorted(row.place.items(), key=lambda item: telling.get(item[0], 2))
    words = [_short_place(name, value) for name, value in order if value]
    return ", ".join(
        words[:1] if "strategy" in row.place and row.place.get("memory") == row.place["strategy"] else words
    )  # a strategy without a memory has its name twice


def _short_place(name: str, value: str) -> str:
    if name == "images_per_class":
        return f"{value} img"
    number = name not in TITLES and value.replace(".", "", 1).isdigit()
    return f"{_title(name)} {value}" if number else _place(name, value)


def _over_budgets(rows: Rows) -> Iterator[dict[str, str]]:
    budget = next((n for n in ("bytes_per_class", "images_per_class") if n in rows.places), None)
    if budget is None or rows.option is None:
        return
    groups: dict[str, dict[str, list[Point]]] = {}
    for row in rows.rows:
        found = row.summary(rows.main)
        if found is not None and row.place[budget]:
            place = ", ".join(_place(n, v) for n, v in rows.around(row, budget, rows.option).items() if v)
            curve = groups.setdefault(place, {}).setdefault(row.place[rows.option], [])
            curve.append(Point(float(row.place[budget]), found.mean, found.half_width))
    for place, curves in list(groups.items())[:MOST_CHARTS]:
        long = {name: sorted(curve) for name, curve in curves.items() if len(curve) > 1}
        if not long:
            continue
        shown = _best({name: curve[-1].y for name, curve in long.items()}, str(rows.option))
        title = f"Accuracy over {_title(budget)}" + (f": {place}" if place else "")
        said = title + ", with 95 % intervals" * (rows.seeds > 1)
        said += f"; the best {len(shown)} of {len(long)}." if len(shown) < len(long) else "."
        drawn = {_short(name, shown): long[name] for name in shown}
        svg = line_chart(drawn, title, _title(budget), "accuracy, %", log_x=True, bounds=(0, 100))
        yield {
            "svg": svg,
            "said": f"{said} The vertical scale is that of the values; the budget doubles at equal steps.",
        }


def _courses(rows: Rows) -> Iterator[dict[str, str]]:
    """Accuracy over the stream: a chart for every place at which memories are compared."""
    groups: dict[str, dict[str, Row]] = {}
    for row in rows.rows:
        if row.course and kind_of(row.place) != "no memory":
            around = rows.around(row, rows.option)
            said = ", ".join(f"{_title(n)} {_place(n, v)}" for n, v in around.items() if v)
            groups.setdefault(said, {})[row.place[rows.option] if rows.option else ""] = row
    for place, group in list(groups.items())[:MOST_CHARTS]:
        ends = {name: summary(row.course[max(row.course)]).mean for name, row in group.items()}
        shown = _best(ends, str(rows.option))
        drawn = {
            _short(name, shown): [Point(k, summary(values).mean) for k, values in group[name].course.items()]
            for name in shown
        }
        svg = line_chart(drawn, f"Accuracy over experiences: {place}", "experiences learned", "accuracy, %")
        said = (place or "All rows") + (f"; the best {len(shown)} of {len(group)}" if len(shown) < len(group) else "")
        yield {"svg": svg, "said": said}


def _best(ends: dict[str, float], option: str) -> list[str]:
    """As many names as there are colours, those of the highest ends; condensed ones first, in the first colours."""
    kept = sorted(ends, key=lambda name: -ends[name])[: len(COLORS)]
    return sorted(
        (name for name in ends if name in kept), key=lambda name: KINDS.index(kind_of({option: name}) or KINDS[0])
    )


def _short(name: str, others: Sequence[str]) -> str:
    """A name without its arguments, unless another differs in them alone."""
    short = name.partition("(")[0]
    return (
        name
        if [other.partition("(")[0] for other in others].count(short) > 1
        else MEMORIES.get(short, short).partition(" (")[0]
    )
