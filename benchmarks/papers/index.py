"""Every table and figure of the four papers under one scheme of names, what runs it, and how far it has been run, by the records."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.papers.published import Row, published
from benchmarks.papers.settings import NotRun, setting
from benchmarks.report.records import Record, read

__all__ = ["INDEX", "RECORDS", "Entry", "State", "entry", "every_record", "of_entry", "of_row"]

State = Literal["full size", "small size", "never"]

RECORDS = Path(__file__).resolve().parents[1] / "records"

Evidence = Callable[[Record], bool]


@dataclass(frozen=True)
class Entry:
    """A table or figure.

    Attributes:
        name: ``dcc:figure4``.
        title: What it shows.
        command: What runs it, or why nothing does.
        evidence: Whether a record is one of it, where its rows do not say so themselves.
    """

    name: str
    title: str
    command: str
    evidence: Evidence | None = None

    @property
    def rows(self) -> tuple[Row, ...]:
        """Its printed numbers."""
        return tuple(row for row in published() if row.table == self.name)


def _of(benchmark: str, **protocol: Any) -> Evidence:
    """A record of this benchmark with these settings."""
    return lambda record: (
        record.benchmark == benchmark and all(record.protocol.get(k) == v for k, v in protocol.items())
    )


def _sweep(*names: str) -> Evidence:
    """A record of mim4dd whose variants vary one of these."""
    return lambda record: (
        record.benchmark == "mim4dd"
        and any(label.partition("=")[0] in names for label in record.protocol.get("variants", {}))
    )


def _ddm_parts(record: Record) -> bool:
    methods = [str(m) for m in record.protocol.get("methods", ())]
    return (
        record.benchmark == "compare" and any("moments=" in m for m in methods) and any("gram=" in m for m in methods)
    )


def _idm_parts(record: Record) -> bool:
    methods = [str(m).replace(" ", "") for m in record.protocol.get("methods", ())]
    idm = [m for m in methods if m.startswith("idm")]
    without = [m for m in idm if "weight=0.0" in m]
    return record.benchmark == "compare" and bool(without) and len(idm) > len(without)


def _varied(option: str) -> Evidence:
    """A record of compare with IDM at several values of an option."""

    def found(record: Record) -> bool:
        idm = [str(m) for m in record.protocol.get("methods", ()) if str(m).startswith("idm")]
        values = {value for text in idm for value in re.findall(rf"\b{option}=([\w.]+)", text)}
        return record.benchmark == "compare" and len(values) > 1

    return found


def _one_age(record: Record) -> bool:
    """A record of compare with DM under banks whose networks are all of one age: as many runs as entries."""
    banks = [re.search(r"size=(\d+).*runs=(\d+)", str(m)) for m in record.protocol.get("methods", ())]
    return record.benchmark == "compare" and any(bank and bank[1] == bank[2] for bank in banks)


def _losses(record: Record) -> bool:
    return record.benchmark == "mim4dd" and any("losses" in result for result in record.results)


_PAPER = "python -m benchmarks paper {}"
_ANALYSES = "python -m benchmarks analyses"
_IDM_SWEEP = "python -m benchmarks compare --scale full --dataset cifar100 --images-per-class 10 --methods {}"
# ten epochs of CIFAR-100 in batches of 256; a bank of as many runs as entries is of one age, the last one of a run
_ONE_AGE = _IDM_SWEEP.format(
    "dm "
    + " ".join(
        f'"dm(networks=banked(size=100, runs=100, trained={epochs * 196}, batch_size=256))"'
        for epochs in (10, 20, 30, 40, 50, 60)
    )
    + " idm"
)
_PICTURES = "ddreplay condense, then ddreplay export"
_NO_TEXT = "the text of this paper is not to be had: what the table holds is not known"


def _table(name: str, title: str, evidence: Evidence | None = None) -> Entry:
    return Entry(name, title, _PAPER.format(name), evidence)


INDEX: tuple[Entry, ...] = (
    _table("dcc:table1", "groups of look-alike classes of ImageNet32"),
    _table("dcc:table2", "SVHN, CIFAR-10 and CIFAR-100: selections, DC, DSA, DCC, DSAC"),
    _table("dcc:table3", "sets of a ConvNet under other architectures"),
    _table("dcc:table4", "with and without the bi-level warm-up"),
    _table("dcc:table5", "kinds of warm-up"),
    Entry("dcc:table6", "the classes of the groups: no measurement", "ddreplay.datasets.imagenet32.GROUPS"),
    Entry(
        "dcc:figure2",
        "features shared and not shared by classes",
        "python -m benchmarks contrastive-example",
        _of("contrastive-example"),
    ),
    Entry(
        "dcc:figure3",
        "images of the same example on digits",
        "python -m benchmarks contrastive-example --digits",
        _of("contrastive-example", digits=True),
    ),
    Entry("dcc:figure4", "velocity of the tangent kernel", _ANALYSES, _of("analyses")),
    Entry("dcc:figure5", "images of automobiles", _PICTURES),
    Entry("dcc:figure6", "alignment and uniformity", _ANALYSES, _of("analyses")),
    Entry(
        "dcc:figure7",
        "tasks with labels: lizards, trucks, insects",
        "python -m benchmarks task-incremental --dataset imagenet32:lizard+imagenet32:truck+imagenet32:insect",
        _of("task-incremental"),
    ),
    Entry(
        "dcc:figure8",
        "tasks with labels: CIFAR-10, SVHN, traffic signs",
        "python -m benchmarks task-incremental --dataset cifar10+svhn+gtsrb",
    ),
    _table("idm:table1", "CIFAR-10, CIFAR-100, Tiny ImageNet and 100 classes of ImageNet"),
    _table("idm:table2", "IDM's parts one after the other", _idm_parts),
    _table("idm:table3", "tiles of an image"),
    _table("idm:table4", "condensed with one architecture, trained with another"),
    _table("idm:table5", "the same with more of DM"),
    Entry("idm:figure3", "DM under networks of one age", _ONE_AGE, _one_age),
    Entry("idm:figure4", "share of images whose neighbours are of their class", _ANALYSES, _of("analyses")),
    Entry(
        "idm:figure5",
        "weight of the regularisation",
        _IDM_SWEEP.format('"idm(weight=0.1)" "idm(weight=0.5)"'),
        _varied("weight"),
    ),
    Entry(
        "idm:figure6",
        "training steps of the queue's networks",
        _IDM_SWEEP.format('"idm(networks=model_queue(train_steps=10))" "idm(networks=model_queue(train_steps=50))"'),
        _varied("train_steps"),
    ),
    Entry(
        "idm:figure7",
        "size of the queue",
        _IDM_SWEEP.format('"idm(networks=model_queue(size=10))" "idm(networks=model_queue(size=100))"'),
        _varied("size"),
    ),
    Entry(
        "idm:figure8",
        "continual learning on CIFAR-100 in 5 and 10 steps",
        "python -m benchmarks gdumb --dataset cifar100 --steps 5 --scale full",
        _of("gdumb", dataset="cifar100"),
    ),
    _table("mim4dd:table1", "MNIST, CIFAR-10, CIFAR-100: methods with and without mutual information"),
    _table("mim4dd:table2", "its beta and its critic's depth", _sweep("beta", "depth")),
    Entry("mim4dd:figure3", "its weight", "python -m benchmarks mim4dd --sweep weight", _sweep("weight")),
    Entry(
        "mim4dd:figure4",
        "the method's loss with and without it, over steps",
        "python -m benchmarks mim4dd --dataset cifar10 --methods mtt --images-per-class 10",
        _losses,
    ),
    Entry("mim4dd:figure5", "alignment of layers between networks (CKA)", _ANALYSES, _of("analyses")),
    Entry("mim4dd:figure6", "images of sets", _PICTURES),
    Entry("ddm:abstract", "gains on DM at most, without their settings", "nothing: the settings are not to be had"),
    _table("ddm:code", "what its authors' later code reaches: DM, the paper's objective, style alone"),
    *(Entry(f"ddm:table{k}", "not known", f"nothing: {_NO_TEXT}") for k in range(1, 6)),
    Entry("ddm:figure1", "style of condensed and real images, and its drift", _ANALYSES, _of("analyses")),
    Entry(
        "ddm:figure3", "parts of the objective (a); continual learning (b)", _PAPER.format("ddm:figure3"), _ddm_parts
    ),
    Entry("ddm:figure4", "diversity within a class", _ANALYSES, _of("analyses")),
    Entry("bytes", "the field by the bytes that it stores", _PAPER.format("bytes"), _of("bytes")),
)
"""Figures that only explain (dcc 1, idm 1 and 2, mim4dd 1 and 2, ddm 2) are left out."""


def entry(name: str) -> Entry:
    """A table or figure by its name.

    Raises:
        ValueError: for an unknown one.
    """
    found = next((one for one in INDEX if one.name == name), None)
    if found is None:
        raise ValueError(f"name must be one of {', '.join(one.name for one in INDEX)}, got {name!r}")
    return found


def every_record(*folders: Path) -> list[Record]:
    """The records in these folders; files of other programs are passed over."""
    found = []
    for path in sorted(path for folder in folders for path in folder.glob("*.json")):
        try:
            found.append(read(path))
        except (ValueError, OSError):
            continue
    return found


def of_entry(one: Entry, records: Sequence[Record]) -> str:
    """How far a table or figure was run, in words.

    >>> of_entry(entry("dcc:table6"), [])
    'never'
    """
    found = [record for record in records if one.evidence is not None and one.evidence(record)]
    seen = [_size(record) for record in found]
    if not one.rows or (one.evidence is not None and not one.command.startswith(_PAPER.format(""))):
        return _best(seen)
    counts = Counter(of_row(row, records).partition(" (")[0] for row in one.rows)
    parts = [
        f"{counts[state]} {state}" for state in ("full size", "small size", "never", "not to be run") if counts[state]
    ]
    return f"of {len(one.rows)} numbers {', '.join(parts)}" + (
        f"; {_best(seen)} by {', '.join(dict.fromkeys(r.benchmark for r in found))}" if found else ""
    )


def of_row(row: Row, records: Sequence[Record]) -> str:
    """How far a printed number was run: at full size (with how many sets of how many), at small size, never; or why it is not."""
    try:
        wanted = setting(row, "full")
    except NotRun as error:
        return f"not to be run ({error})"
    seeds: dict[State, set[int]] = {"full size": set(), "small size": set()}
    instead: set[str] = set()
    for record in records:
        for result in record.results:
            if _is_of(row, record, result):
                seeds[_size(record)].add(int(result.get("seed", 0)))
                if _size(record) == "full size":
                    instead.update(record.protocol["rows"].get(row.key, {}).get("instead", ()))
    if seeds["full size"]:
        said = f"; with {', '.join(sorted(instead))}" if instead else ""
        return f"full size ({len(seeds['full size'])} of {wanted.sets} sets{said})"
    return "small size" if seeds["small size"] else "never"


def _is_of(row: Row, record: Record, result: dict[str, Any]) -> bool:
    """Whether a result is of this row: by its own labels, or by those of compare and mim4dd."""
    if record.benchmark == "paper":
        keys = ("dataset", "images_per_class", "method", "variant", "network")
        return record.protocol.get("table") == row.table and all(result.get(k) == getattr(row, k) for k in keys)
    if record.benchmark not in ("compare", "mim4dd") or row.variant or row.network != "convnet":
        return False
    if record.protocol.get("dataset") != row.dataset or "held-out" in str(record.protocol.get("test")):
        return False
    added = "+mim4dd" if result.get("variant") == "+ MIM4DD" else ""
    if result.get("variant", "alone") not in ("alone", "+ MIM4DD"):
        return False
    method = str(result.get("method")).partition("(")[0] + added
    return method == row.method and result.get("images_per_class") == row.images_per_class


def _size(record: Record) -> State:
    return "full size" if str(record.protocol.get("scale")) == "full" else "small size"


def _best(states: Sequence[State]) -> State:
    return "full size" if "full size" in states else "small size" if states else "never"
