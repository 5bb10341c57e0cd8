"""Records as a page: every number of it is one of the record, and pairs are of the same seed."""

from __future__ import annotations

import re
import statistics
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.report.records import Record, read, write
from benchmarks.report.rows import kind_of, read_rows
from benchmarks.report.streams import paired_differences
from benchmarks.report.tables import format_summary

RECORDS = sorted((Path(__file__).resolve().parents[2] / "benchmarks" / "records").glob("*.json"))
DIGITS = next(path for path in RECORDS if path.stem == "class_incremental_digits")


class Reader(HTMLParser):
    """Tags, those still open, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + "\n"


def page_of(folder: Path, *records: Path) -> Reader:
    out = folder / "new" / "page.html"
    assert main(["report", *map(str, records), "--out", str(out)]) == 0
    reader, page = Reader(), out.read_text(encoding="utf-8")
    reader.feed(page)
    assert reader.open == []
    assert not {"script", "link", "iframe", "img"} & set(reader.tags)
    assert not re.search(r"(href|src|url)\s*[=(]\s*[\"']?https?:", page)
    return reader


def a_record(results: list[dict[str, Any]], **protocol: Any) -> Record:
    return Record(
        "compare", protocol, "python -m benchmarks compare <x>", None, {"torch": "2"}, "a machine", 1, results, 75.0
    )


def test_every_record_of_the_repository_has_its_place_on_a_page(tmp_path: Path) -> None:
    reader = page_of(tmp_path, *RECORDS)
    for path in RECORDS:
        assert path.stem in reader.text
    assert reader.tags.count("h2") == len(RECORDS) + 1
    assert reader.tags.count("svg") >= len(RECORDS)


def test_a_stream_says_what_its_own_table_says(tmp_path: Path) -> None:
    text, record = page_of(tmp_path, DIGITS).text, read(DIGITS)
    results = record.results
    for strategy, memory, images in (("gdumb", "dm", 2), ("er", "herding", 5)):
        values = [
            r["average_accuracy"]
            for r in results
            if (r["strategy"], r["memory"], r["images_per_class"]) == (strategy, memory, images)
        ]
        assert len(values) == 5
        assert f"{statistics.fmean(values):.1f} ± " in text
        assert ", ".join(f"{v:.1f}" for v in values) in text
    minutes, seconds = divmod(round(record.seconds), 60)
    assert f"{minutes} min {seconds:02d} s" in text


def test_differences_are_those_of_the_same_seeds() -> None:
    record = read(DIGITS)
    ours = {
        (p.place["strategy"], p.place["images_per_class"], p.option, p.less): p.summary
        for p in read_rows(record).pairs()
    }
    theirs = paired_differences(record.results)
    assert len(ours) == len(theirs) == 24
    for d in theirs:
        found = ours[d.strategy, d.budget.split()[0], d.memory, d.rival]
        assert found == pytest.approx(d.summary)


def test_seeds_that_one_side_lacks_are_left_out_of_a_pair(tmp_path: Path) -> None:
    accuracies = {"herding": {0: 40.0, 1: 50.0, 2: 90.0}, "dm": {1: 53.0, 0: 42.0}, "random": {7: 10.0}}
    results = [{"method": m, "seed": s, "accuracy": v} for m, seeds in accuracies.items() for s, v in seeds.items()]
    (pair,) = read_rows(a_record(results)).pairs()
    assert (pair.option, pair.less, pair.summary.n) == ("dm", "herding", 2)
    assert pair.summary.mean == pytest.approx(2.5)
    text = page_of(tmp_path, write(a_record(results), tmp_path / "r.json")).text
    assert format_summary(pair.summary, scale=1) == "2.5 ± 6.4"
    assert "+2.5 ± 6.4 (open)" in text


def test_what_was_not_measured_is_a_dash(tmp_path: Path) -> None:
    results = [
        {"memory": "random", "bytes_per_class": b, "seed": 0, "accuracy": a} for b, a in ((64, None), (128, 61.5))
    ]
    rows = read_rows(a_record(results))
    assert [row.summary("accuracy") is None for row in rows.rows] == [True, False]
    text = page_of(tmp_path, write(a_record(results, validation=True), tmp_path / "r.json")).text
    assert "not one image fits" in text
    assert "held out of the training split" in text
    assert "One seed, so without intervals" in text


@pytest.mark.parametrize(
    ("result", "accuracy", "course"),
    [
        ({"accuracy": [90.0, 70.0, 50.0], "train_seconds": [1.0, 2.0, 3.0]}, 50.0, {1: [90.0], 2: [70.0], 3: [50.0]}),
        ({"accuracies": [40.0, 60.0], "train_seconds": 6.0}, 50.0, {}),
        (
            {"average_accuracy": 50.0, "accuracies": [[90.0, 0.0], [30.0, 70.0]], "train_seconds": 6.0},
            50.0,
            {1: [90.0], 2: [50.0]},
        ),
        ({"average_accuracy": 50.0, "accuracies": [None, [30.0, 70.0]], "train_seconds": 6.0}, 50.0, {}),
    ],
)
def test_a_course_ends_in_its_last_value(
    result: dict[str, Any], accuracy: float, course: dict[int, list[float]]
) -> None:
    rows = read_rows(a_record([{"memory": "dm", "seed": 3, **result}]))
    (row,) = rows.rows
    assert row.values[rows.main] == {3: accuracy}
    assert row.values["train_seconds"] == {3: 6.0}
    assert row.course == course


def test_rivals_stand_together_in_the_order_of_budgets() -> None:
    results = [
        {"memory": m, "bytes_per_class": b, "seed": 0, "accuracy": 1.0} for m in ("dm", "random") for b in (1000, 64)
    ]
    found = [(row.place["bytes_per_class"], row.place["memory"]) for row in read_rows(a_record(results)).rows]
    assert found == [("64", "dm"), ("64", "random"), ("1000", "dm"), ("1000", "random")]
    assert kind_of({"strategy": "joint", "memory": "joint"}) == "no memory"


def test_results_of_one_seed_are_told_apart_by_what_they_differ_in() -> None:
    results = [{"memory": "dm", "seed": 0, "steps": steps, "accuracy": float(steps)} for steps in (10, 20)]
    rows = read_rows(a_record(results))
    assert rows.places == ("steps",)
    assert [row.values["accuracy"] for row in rows.rows] == [{0: 10.0}, {0: 20.0}]


def test_misuse_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report"]) == 2
    assert "records must be one file or more, got none" in capsys.readouterr().err
    empty = write(a_record([]), tmp_path / "empty.json")
    assert main(["report", str(empty), "--out", str(tmp_path / "p.html")]) == 2
    assert "has no results" in capsys.readouterr().err
    assert not (tmp_path / "p.html").exists()
