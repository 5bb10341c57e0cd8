"""``python -m benchmarks compare``: condensers side by side on one data set: accuracy, bytes, seconds."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from benchmarks.checks import at_least
from benchmarks.memories import condenser, memory_condenser, spelled
from benchmarks.report.records import resume
from benchmarks.report.tables import format_bytes, format_summary, settings_note, summary, text_table
from benchmarks.sets import read, run_sets, training

__all__ = ["compare", "table"]


def compare(
    dataset: str = "digits",
    methods: tuple[str, ...] = ("random", "herding", "dm(networks=banked(size=20), steps=300)"),
    images_per_class: tuple[int, ...] = (1, 10),
    seeds: int = 3,
    networks: int = 1,
    net: str = "convnet(width=32)",
    protocol: str = "dm2023",
    epochs: int | None = None,
    train_per_class: int | None = None,
    test_per_class: int | None = None,
    validation: bool = False,
    root: Path | None = None,
    download: bool = False,
    device: str = "auto",
    normalization: str = "own",
    compile: bool = False,
    scale: Literal["small", "full"] = "small",
    name: str = "compare",
    out: Path = Path("results"),
) -> None:
    """Condense with every method, train networks on each set, and put accuracies beside bytes and seconds.

    A call with the same settings goes on from the record; more seeds are added to it.

    Args:
        dataset: as in ddreplay condense.
        methods: of ddreplay condense, with options if any: "dm(steps=1000)". They are said in full before the run, in the table and in
            the record.
        images_per_class: stored images of every class.
        seeds: sets condensed by every method.
        networks: networks trained on each set.
        net: the backbone that condenses and is trained.
        protocol: dc2021 or dm2023.
        epochs: another number of epochs; the protocol's name then says so.
        train_per_class, test_per_class: use the first so many images of every class alone.
        validation: test on held-out training images instead of test images: for choosing settings.
        root: where torchvision's files are.
        download: fetch missing files of a named data set.
        normalization: own, train, or those of a paper for a named data set, such as cifar100:dcc.
        device: auto, cpu or cuda.
        compile: run networks through torch.compile where that can be done: faster after tens of seconds.
        scale: options of methods that are not given are those for small machines (benchmarks/memories.py), or with full the papers';
            a row of a paper with all its settings is python -m benchmarks paper.
        name: of the record's file.
        out: folder for the record (JSON).
    """
    at_least(1, seeds=seeds, networks=networks, images_per_class=min(images_per_class, default=0))
    at_least(0, epochs=epochs)
    data = read(
        dataset,
        root=root,
        download=download,
        validation=validation,
        train_per_class=train_per_class,
        test_per_class=test_per_class,
        device=device,
        normalization=normalization,
    )
    chosen = training(protocol, data.images, epochs)
    spelled_out = {text: spelled(text) if scale == "small" else text for text in methods}
    make = memory_condenser if scale == "small" else condenser
    condensers = {text: make(text, net, data.images.augmentation, compile=compile) for text in methods}
    settings = {
        **data.described(),
        "methods": methods,
        "condensers": spelled_out,
        "images_per_class": images_per_class,
        "net": net,
        "compile": compile,
        "evaluation": chosen.name,
        "networks": networks,
        "scale": "reduced"
        if epochs or train_per_class or test_per_class or "width=" in net or scale == "small"
        else "as the arguments say",
    }
    for line in settings_note(spelled_out):
        print(line)
    recording = resume(out / f"{name}.json", "compare", settings, device=data.pool.device)
    cells = [
        (condensers[text], {"method": text, "images_per_class": count, "seed": seed})
        for seed, count, text in itertools.product(range(seeds), images_per_class, methods)
    ]
    how: dict[str, Any] = {"net": net, "protocol": chosen, "networks": networks, "compile": compile}
    run_sets(recording, out / f"{name}.json", cells, data, **how)
    print(table(recording.results, spelled_out, chosen.name))
    print(f"record: {out / name}.json")


def table(results: list[dict[str, Any]], condensers: Mapping[str, str] | None = None, protocol: str = "") -> str:
    """One row a budget and method: means over seeds with 95 % intervals, accuracies in percent.

    Args:
        condensers: every method with all its settings, to be said below the table.
        protocol: how networks were trained, for the heading of their accuracy.
    """
    header = [
        "per class",
        "method",
        f"accuracy %{f', {protocol}' if protocol else ''}",
        "bytes",
        "trained on",
        "condense s",
        "train s",
    ]
    rows = []
    for key in dict.fromkeys((r["images_per_class"], r["method"]) for r in results):
        group = [r for r in results if (r["images_per_class"], r["method"]) == key]
        rows.append(
            [
                *key,
                format_summary(summary([r["accuracy"] for r in group]), scale=1),
                format_bytes(group[0]["nbytes"]),
                group[0]["images"],
                f"{summary([r['condense_seconds'] for r in group]).mean:.1f}",
                f"{summary([r['train_seconds'] for r in group]).mean:.1f}",
            ]
        )
    rows.sort(key=lambda row: row[0])
    note = f"mean and 95 % interval over {len({r['seed'] for r in results})} seeds"
    return "\n".join([text_table(header, rows), note, *settings_note(condensers or {})])
