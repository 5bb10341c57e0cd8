"""Streams of every kind, in small: what an experience holds, and that the command goes on from its record."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch

from benchmarks import stream_kinds as command
from benchmarks.report.records import read
from benchmarks.stream_kinds import KINDS, drops_of, parts_of, stream_kinds
from ddreplay.datasets import ImageData, load

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load("digits")


def test_class_and_task_streams_show_every_class_once(digits: ImageData) -> None:
    for kind in ("class", "task"):
        parts = parts_of(kind, digits, 0)
        ids = [part.train.class_ids.tolist() for part in parts]
        assert sorted(c for own in ids for c in own) == list(range(10))
        assert all(part.test.class_ids.tolist() == own for part, own in zip(parts, ids, strict=True))
        assert [part.classes for part in parts] == [sorted(own) if kind == "task" else None for own in ids]
    assert ids != [part.train.class_ids.tolist() for part in parts_of("class", digits, 1)]


def test_domains_are_all_classes_turned(digits: ImageData) -> None:
    parts = parts_of("domain", digits, 0)
    assert all(part.train.classes == part.test.classes == 10 for part in parts)
    upright, quarter = parts[0].test.all().x, parts[1].test.all().x
    assert torch.equal(quarter, upright.rot90(1, (2, 3)))
    assert sum(len(part.train) for part in parts) == len(
        digits.pool("train", device="cpu")
    )  # every image in one of them


def test_repeated_classes_come_twice_with_other_images(digits: ImageData) -> None:
    parts = parts_of("repeated", digits, 0)
    ids = [c for part in parts for c in part.train.class_ids.tolist()]
    assert sorted(ids) == sorted([*range(10), *range(10)])
    for class_id in (0, 7):
        shown = [(part.train, part.train.class_ids.tolist()) for part in parts]
        seen = [train.of_class(known.index(class_id)) for train, known in shown if class_id in known]
        first, second = ({x.numpy().tobytes() for x in block} for block in seen)
        whole = digits.pool("train", device="cpu").of_class(class_id)
        assert len(seen[0]) + len(seen[1]) == len(whole)
        assert len(first & second) <= len(whole) - len({x.numpy().tobytes() for x in whole})


def test_drops_have_no_boundaries(digits: ImageData) -> None:
    drops = drops_of(digits, 20, 0)
    assert sum(len(drop) for drop in drops) == len(digits.pool("train", device="cpu"))
    assert all(len(drop) == 20 for drop in drops[:-1])
    known = [set(drop.class_ids.tolist()) for drop in drops]
    assert known[0] != known[-1]  # classes come and go
    shared = [bool(a & b) for a, b in itertools.pairwise(known)]
    assert all(shared)  # and never all at once


def test_every_kind_runs_within_its_bytes_and_is_gone_on_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ddreplay import ConvNet, dm
    from ddreplay.methods import selections
    from ddreplay.storage.codecs import uint8

    quick = {"ring": selections.random(codec=uint8()), "condensed": dm(ConvNet(width=8), steps=1).stored_by(uint8())}
    monkeypatch.setattr(command, "condenser_of", quick.__getitem__)
    stream_kinds(seeds=1, epochs=1, out=tmp_path)
    results = json.loads((tmp_path / "stream_kinds.json").read_text())["results"]
    assert {(r["kind"], r["memory"]) for r in results} == {(k, m) for k in KINDS for m in command.MEMORIES}
    for one in results:
        assert 0 <= one["accuracy"] <= 100
        assert one["nbytes"] == 0 if one["memory"] == "none" else 1500 < one["nbytes"] <= 3400, one
    assert "condensed" in capsys.readouterr().out

    def never(*_: object) -> None:
        raise AssertionError("a cell is run again")

    monkeypatch.setattr(command, "_stream", never)
    monkeypatch.setattr(command, "_online", never)
    stream_kinds(seeds=1, epochs=1, out=tmp_path)
    with pytest.raises(ValueError, match="other settings"):
        stream_kinds(seeds=1, epochs=2, out=tmp_path)
    with pytest.raises(ValueError, match="kinds must be among"):
        stream_kinds(kinds=("blurred",), out=tmp_path)


def test_the_page_has_the_table_of_the_record() -> None:
    record = read(ROOT / "benchmarks" / "records" / "stream_kinds_digits.json")
    assert len(record.results) == len(KINDS) * len(command.MEMORIES) * 5
    assert command.page_table(record.results) in (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
