"""``python -m benchmarks paper``: a row of a paper, with the paper's settings, beside the paper's number."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from benchmarks.checks import at_least
from benchmarks.papers.field import draw_field
from benchmarks.papers.index import RECORDS, entry, every_record, of_row
from benchmarks.papers.published import rows_of
from benchmarks.papers.report import described, overview, table_of
from benchmarks.papers.running import Files, Run, cells_of, resumed
from benchmarks.papers.settings import Scale
from benchmarks.report.progress import Progress

__all__ = ["paper"]


def paper(
    table: tyro.conf.Positional[str] = "",
    dataset: tuple[str, ...] = (),
    images_per_class: tuple[int, ...] = (),
    methods: tuple[str, ...] = (),
    test_networks: tuple[str, ...] = (),
    list_: Annotated[bool, tyro.conf.arg(name="list")] = False,
    plan: bool = False,
    scale: Scale = "full",
    sets: int | None = None,
    networks: int | None = None,
    instead: tuple[str, ...] = (),
    condense_net: str | None = None,
    file: Path | None = None,
    root: Path | None = None,
    download: bool = False,
    device: str = "auto",
    compile: bool = False,
    checkpoint_every: int = 50,
    out: Path = Path("results"),
    cache: Path | None = None,
) -> None:
    """Run rows of a paper's table and print ours beside theirs, with the difference in standard deviations.

    The settings are the paper's for this data set and budget: loops, released commands, normalisation, the protocol that each method's own
    paper trains by, sets and networks. They stand in the record. Before anything starts, a line says what each row will take. The
    record is written after every network; a call that was interrupted goes on from it, and a set from its last checkpoint.

    Args:
        table: as --list names it: dcc:table2. bytes: published sets of CIFAR by the bytes that they store, beside real images through a
            codec and ours, as a table and a picture.
        dataset: rows of these data sets alone: cifar10, imagenet32:lizard.
        images_per_class: rows of these budgets alone.
        methods: rows of these methods alone.
        test_networks: rows tested with these networks alone.
        list_: show all tables and figures, how far each was run, and what runs it; with a table, its rows.
        plan: show what the rows would take, and stop.
        scale: full: the papers' settings. small: networks 32 wide, 500 images a class, few steps and a fifth of the epochs.
        sets: sets of every row; by default the paper's number.
        networks: trained on every set; by default the paper's number.
        instead: arguments of the method in place of the paper's, where a machine cannot do as the paper does; they stand in the record
            and beside the row: networks=banked(size=100) steps=5000.
        condense_net: the network that condenses, in place of the paper's: bfloat16(convnet). Those that are tested stay.
        file: an .npz file in MedMNIST's layout that holds the data set named; normalised with the paper's constants all the same.
        root: where torchvision's files, or those of ImageNet32, are.
        download: fetch missing files of a named data set.
        device: auto, cpu or cuda.
        compile: run networks through torch.compile where that can be done: faster after tens of seconds.
        checkpoint_every: image steps from one checkpoint of a set to the next.
        out: folder for the record (JSON).
        cache: folder for condensed sets; default: cache in the folder of the record.
    """
    records = every_record(RECORDS, out)
    if list_ and not table:
        print(overview(records))
        return
    if not table:
        raise ValueError("table must be named, such as dcc:table2; --list shows all of them")
    found = entry(table)
    if table == "bytes" and not list_:
        path = out / "field_by_bytes.png"
        print(draw_field(path))
        print(
            f"picture: {path}" if path.is_file() else "no picture: it needs matplotlib (pip install 'ddreplay[plots]')"
        )
        return
    if not found.rows:
        raise ValueError(f"{table} is not run by this command: {found.command}")
    rows = rows_of(table, datasets=dataset, images_per_class=images_per_class, methods=methods, networks=test_networks)
    if list_:
        print("\n".join(f"{described(row)}: {of_row(row, records)}" for row in rows))
        return
    at_least(1, sets=sets, networks=networks, checkpoint_every=checkpoint_every)
    if file is not None and len({row.dataset for row in rows}) > 1:
        raise ValueError("file holds one data set, and these rows are of several; name one of them with --dataset")
    files = Files(root, file, download, device)
    cells = [*cells_of(rows, scale, sets, networks, instead=instead, condense_net=condense_net)]
    path = out / f"paper_{table.replace(':', '_')}_{scale}.json"
    run = Run(resumed(path, table, scale, cells, files, compile), path, files, compile, cache or out / "cache")
    missing = run.missing(cells)
    for line in run.forecast(missing, checkpoint_every):
        print(line, flush=True)
    if plan:
        return
    with Progress(max(1, len(missing)), table, unit="sets") as progress:
        for cell in missing:
            run.cell(cell, checkpoint_every)
            progress.advance(note=described(cell.rows[0]))
    print(table_of(rows, run.recording.results, scale))
    print(f"record: {path}")
