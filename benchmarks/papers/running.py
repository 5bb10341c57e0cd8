"""Rows of a paper as cells: what is missing, what it will take, and how it is run."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmarks.kept_networks import digest
from benchmarks.kept_sets import KeptSets
from benchmarks.memories import condenser
from benchmarks.papers.published import Row
from benchmarks.papers.report import ROW, compared, described, is_of
from benchmarks.papers.settings import NotRun, Scale, Setting, setting
from benchmarks.report.records import Recording, resume, write
from benchmarks.sets import Data, reduced
from ddreplay import Distiller, names
from ddreplay.datasets import load
from ddreplay.evaluation import evaluate
from ddreplay.forecast import condensing_seconds, evaluating_seconds, in_words
from ddreplay.methods import Whitened, selections
from ddreplay.parameterize import Partitioned
from ddreplay.storage.budget import Budget
from ddreplay.storage.checkpoint import fingerprint

__all__ = ["Cell", "Files", "Run", "cells_of", "resumed"]


@dataclass(frozen=True)
class Files:
    """Where images are."""

    root: Path | None
    file: Path | None
    download: bool
    device: str


@dataclass(frozen=True)
class Cell:
    """A set of one row of a table; what differs in the tested network alone shares the set.

    rows: The rows, one for each tested network. how: Their settings, which differ in the tested network alone.
    """

    rows: tuple[Row, ...]
    how: tuple[Setting, ...]
    seed: int


def cells_of(
    rows: Sequence[Row],
    scale: Scale,
    sets: int | None = None,
    networks: int | None = None,
    *,
    instead: Sequence[str] = (),
    condense_net: str | None = None,
) -> Iterator[Cell]:
    """The first set of every row, then the second of every row; rows that cannot be run are said and left out.

    Args:
        rows: Printed numbers.
        scale: Of the settings.
        sets, networks: In place of the paper's numbers of them.
        instead, condense_net: As `setting` takes them.

    Raises:
        ValueError: where no row can be run.
    """
    groups: dict[Any, tuple[tuple[Row, ...], tuple[Setting, ...]]] = {}
    for row in rows:
        try:
            how = setting(row, scale, instead, condense_net)
        except NotRun as error:
            print(f"left out: {described(row)}: {error}")
            continue
        how = replace(how, sets=sets or how.sets, networks=networks or how.networks)
        key = replace(row, network="", mean=0.0, std=None)
        before = groups.get(key, ((), ()))
        groups[key] = (*before[0], row), (*before[1], how)
    if not groups:
        raise ValueError("none of these rows can be run; choose others (--list says which)")
    most = max(how[0].sets for _, how in groups.values())
    for seed, (group, how) in itertools.product(range(most), groups.values()):
        if seed < how[0].sets:
            yield Cell(group, how, seed)


def resumed(path: Path, table: str, scale: Scale, cells: Sequence[Cell], files: Files, compile: bool) -> Recording:
    """A recording that holds what the record at ``path`` holds.

    Raises:
        ValueError: where that was made with other settings or other images.
    """
    rows = {row.key: _deciding(how) for cell in cells for row, how in zip(cell.rows, cell.how, strict=True)}
    images = {}
    for cell in cells:
        name, how = cell.rows[0].dataset, cell.how[0]
        if (key := f"{name} by the constants of {how.normalization}") not in images:
            data = _data(name, how, files)
            of = "" if files.file is None else f" of {files.file.name}"
            images[key] = f"{data.described()['train']}{of}, digest {_digest(data)}"
    protocol: dict[str, Any] = {
        "table": table,
        "scale": scale,
        "compile": compile,
        "images": images,
        "rows": rows,
        "compared": {},
    }
    device = _data(cells[0].rows[0].dataset, cells[0].how[0], files).pool.device
    found = resume(path, "paper", protocol, device=device, growing=("rows", "images", "compared"))
    kept = found.protocol["compared"]  # a row that was asked for and has no network yet may still be run in another way
    found.protocol["rows"] = {key: how for key, how in found.protocol["rows"].items() if key in kept}
    return found


def _deciding(how: Setting) -> dict[str, Any]:
    """A setting as a record keeps it; how many sets and networks there are decides no number."""
    kept = {name: value for name, value in asdict(how).items() if name not in ("sets", "networks", "protocol")}
    return {**kept, "protocol": how.protocol.name, "epochs": how.protocol.epochs}


@lru_cache(maxsize=2)
def _read(dataset: str, normalization: str, train_per_class: int | None, files: Files) -> Data:
    images = load(files.file or dataset, root=files.root, download=files.download, normalization=normalization)
    images = replace(reduced(images, train_per_class, None), name=dataset)
    return Data(images, images.pool("train", device=files.device), images.pool("test", device=files.device))


def _data(dataset: str, how: Setting, files: Files) -> Data:
    return _read(dataset, how.normalization, how.train_per_class, files)


def _digest(data: Data) -> str:
    return digest([fingerprint(data.pool), fingerprint(data.test)])[:16]


@dataclass
class Run:
    """What all cells share."""

    recording: Recording
    path: Path
    files: Files
    compile: bool
    cache: Path

    def missing(self, cells: Sequence[Cell]) -> list[Cell]:
        """Cells some of whose networks are not in the record yet."""
        return [cell for cell in cells if any(self._left(row, how, cell.seed) for row, how in _pairs(cell))]

    def _left(self, row: Row, how: Setting, seed: int) -> list[int]:
        """Numbers of the networks that are still to be trained."""
        done = {r["number"] for r in self.recording.results if r["seed"] == seed and is_of(row, r)}
        return [k for k in range(how.networks) if k not in done]

    def _sets(self, cell: Cell, checkpoint_every: int) -> tuple[Data, KeptSets]:
        how = cell.how[0]
        data = _data(cell.rows[0].dataset, how, self.files)
        made = condenser(how.condenser, how.net, data.images.augmentation, compile=self.compile)
        return data, KeptSets(made, self.cache, checkpoint_every=checkpoint_every)

    def cell(self, cell: Cell, checkpoint_every: int) -> None:
        """Condense a set, or take the one that is kept, and train and test the networks that are missing."""
        data, sets = self._sets(cell, checkpoint_every)
        count = cell.rows[0].images_per_class or 1
        condensed = sets(data.pool, count, seed=cell.seed)
        for row, how in _pairs(cell):
            protocol = how.protocol.on(data.images.augmentation)
            for number in self._left(row, how, cell.seed):
                first = 1000 * (cell.seed + 1) + number
                net = names.network(how.test_net)
                found = evaluate(
                    condensed, data.test, net, protocol=protocol, seeds=1, seed=first, compile=self.compile
                )
                self.recording.add(
                    **{name: getattr(row, name) for name in ROW},
                    seed=cell.seed,
                    number=number,
                    accuracy=found.mean,
                    per_class=[round(found.per_class[c], 2) for c in sorted(found.per_class)],
                    evaluation=protocol.name,
                    nbytes=condensed.nbytes,
                    stored_images=condensed.stored_images,
                    images=found.images,
                    condense_seconds=round(sets.seconds.wall, 2),
                    train_seconds=round(found.seconds, 2),
                )
                self.recording.protocol["rows"] |= {row.key: _deciding(how)}
                self.recording.protocol["compared"] |= {row.key: compared(row, self.recording.results)}
                write(self.recording.finish(), self.path)

    def forecast(self, missing: Sequence[Cell], checkpoint_every: int, patience: float = 3.0) -> Iterator[str]:
        """A line for every row: what a set, a network and all that is missing will take."""
        groups: dict[Any, list[Cell]] = {}
        for cell in missing:
            groups.setdefault(cell.rows, []).append(cell)
        total = 0.0
        for cells in groups.values():
            data, sets = self._sets(cells[0], checkpoint_every)
            count = cells[0].rows[0].images_per_class or 1
            condense = condensing_seconds(sets.condenser, data.pool, Budget.images(count), patience=patience)
            condense = 0.0 if condense is None else condense
            stand_in = selections.random()(data.pool, min(count * _factor(sets.condenser) ** 2, min(data.pool.counts)))
            whole = 0.0
            for row, how in _pairs(cells[0]):
                protocol = how.protocol
                if protocol.lr == "learned":
                    protocol = replace(protocol, lr=0.01)
                each = evaluating_seconds(stand_in, data.test, names.network(how.test_net), protocol=protocol, seeds=1)
                left = sum(len(self._left(row, how, cell.seed)) for cell in cells)
                whole += each * left
                yield f"{described(row)}: {len(cells)} sets of {in_words(condense)}, {left} networks of {in_words(each)}"
            total += whole + condense * len(cells)
        if groups:
            yield f"about {in_words(total)} in all, on {self.recording.device}"


def _pairs(cell: Cell) -> Iterator[tuple[Row, Setting]]:
    return zip(cell.rows, cell.how, strict=True)


def _factor(made: Any) -> int:
    """Tiles along a side of a stored image."""
    inner = made.condenser if isinstance(made, Whitened) else made
    form = inner.parameterize if isinstance(inner, Distiller) else None
    return form.factor if isinstance(form, Partitioned) else 1
