"""``python -m benchmarks mim4dd``: condensers with and without MIM4DD, and what its weights change."""

from __future__ import annotations

import ast
import itertools
import time
from pathlib import Path
from typing import Any, Literal

from benchmarks.compare import reduced
from benchmarks.memories import memory_condenser
from benchmarks.report.progress import Progress
from benchmarks.report.records import begin, write
from benchmarks.report.tables import format_number, format_summary, paired, summary, text_table
from ddreplay import Condenser, Distiller
from ddreplay.cli import make_net
from ddreplay.datasets import load
from ddreplay.evaluate import PROTOCOLS, evaluate
from ddreplay.objectives import MutualInformation

__all__ = ["PAPER", "SWEEPS", "mim4dd", "table", "variants"]

Sweep = Literal["weight", "beta", "depth", "temperature"]

SWEEPS: dict[str, tuple[float, ...]] = {
    "weight": (0.1, 0.4, 0.8, 1.6),
    "beta": (0.5, 1.0, 2.0),
    "depth": (0, 1, 2),
    "temperature": (0.1, 0.5, 1.0),
}
"""Values that the paper varies (the weight lambda in Fig. 3, beta and the critic's depth in Tab. 2), and the one it leaves open."""

PAPER: dict[tuple[str, str, int], tuple[float, float]] = {
    ("mnist", "mtt", 1): (91.4, 92.0),
    ("mnist", "mtt", 10): (97.3, 98.1),
    ("mnist", "bptt", 1): (94.7, 95.8),
    ("mnist", "bptt", 10): (98.9, 98.9),
    ("cifar10", "mtt", 1): (46.3, 47.6),
    ("cifar10", "mtt", 10): (65.3, 66.4),
    ("cifar10", "bptt", 1): (49.1, 51.8),
    ("cifar10", "bptt", 10): (62.4, 66.4),
    ("cifar10", "dream", 1): (51.1, 51.9),
    ("cifar10", "dream", 10): (69.4, 70.8),
}
"""Accuracy without and with MIM4DD, in percent: Shang et al., NeurIPS 2023, Table 1."""


def mim4dd(
    dataset: str = "digits",
    methods: tuple[str, ...] = ("dm", "dsac", "dream", "mtt", "bptt"),
    images_per_class: tuple[int, ...] = (1,),
    seeds: int = 3,
    networks: int = 2,
    net: str = "convnet(width=32)",
    weight: float = 0.8,
    term: tuple[str, ...] = (),
    sweep: Sweep | None = None,
    values: tuple[float, ...] = (),
    protocol: str = "dm2023",
    epochs: int | None = 300,
    train_per_class: int | None = None,
    test_per_class: int | None = None,
    validation: bool = False,
    root: Path | None = None,
    download: bool = False,
    device: str = "auto",
    compile: bool = False,
    name: str = "mim4dd",
    out: Path = Path("results"),
) -> None:
    """Every method with and without MIM4DD on the same seeds: accuracies, and their differences pair by pair.

    A seed means the same start, networks, augmentations and real batches on both sides; only the images' gradients differ.

    Args:
        dataset: as in ddreplay condense.
        methods: of ddreplay condense, with options if any: "mtt(steps=20)"; others are those for small machines.
        images_per_class: stored images of every class.
        seeds: sets condensed by every method, with and without.
        networks: networks trained on each set.
        net: the backbone that condenses and is trained.
        weight: of the mutual information (lambda).
        term: hyper-parameters of it, such as beta=2.0 depth=1.
        sweep: vary the weight, beta, depth or temperature instead, beside the method alone.
        values: those to try; by default the paper's.
        protocol: dc2021 or dm2023, the same for all methods.
        epochs: another number of epochs; the protocol's name then says so.
        train_per_class, test_per_class: use the first so many images of every class alone.
        validation: test on held-out training images instead of test images: for choosing settings.
        root: where torchvision's files are.
        download: fetch missing files of a named data set.
        device: auto, cpu or cuda.
        compile: run networks through torch.compile where that can be done: faster after tens of seconds.
        name: of the record's file.
        out: folder for the record (JSON); experts of mtt are kept in its folder experts.
    """
    data = load(dataset, root=root, download=download)
    data = reduced(data.for_tuning() if validation else data, train_per_class, test_per_class)
    pool, test = data.pool("train", device=device), data.pool("test", device=device)
    chosen = PROTOCOLS[protocol].on(data.augmentation).scaled(PROTOCOLS[protocol].epochs if epochs is None else epochs)
    added = variants(weight, _options(term), sweep, values)
    bases = {text: _base(text, net, data.augmentation, out / "experts", compile) for text in methods}
    settings = {
        "dataset": data.name,
        "normalization": data.normalization,
        "methods": methods,
        "variants": {label: None if extra is None else str(extra) for label, extra in added.items()},
        "net": net,
        "compile": compile,
        "evaluation": chosen.name,
        "networks": networks,
        "train": f"{len(pool)} images",
        "test": f"{len(test)} {'held-out training' if validation else 'test'} images",
        "scale": "reduced: fewer updates and narrower networks than the papers'",
    }
    recording = begin("mim4dd", settings, device=pool.device)
    cells = list(itertools.product(range(seeds), images_per_class, methods, added.items()))
    with Progress(len(cells), name, unit="sets") as progress:
        for seed, count, text, (label, extra) in cells:
            started = time.perf_counter()
            condenser = bases[text] if extra is None else bases[text].plus(MutualInformation(**extra[1]), extra[0])
            condensed = condenser(pool, count, seed=seed)
            seconds = time.perf_counter() - started
            found = evaluate(
                condensed, test, make_net(net), protocol=chosen, seeds=networks, seed=1000 + seed, compile=compile
            )
            recording.add(
                method=text,
                variant=label,
                images_per_class=count,
                seed=seed,
                accuracies=list(found.accuracies),
                accuracy=found.mean,
                nbytes=condensed.nbytes,
                condense_seconds=round(seconds, 2),
            )
            progress.advance(note=f"{text}, {label}: {found.mean:.1f} %")
            write(recording.finish(), out / f"{name}.json")
    print(table(recording.results, data.name))
    print(f"record: {out / name}.json")


def variants(
    weight: float, term: dict[str, Any], sweep: Sweep | None, values: tuple[float, ...]
) -> dict[str, tuple[float, dict[str, Any]] | None]:
    """What is compared, by its label: nothing added, or a weight and the term's hyper-parameters."""
    if sweep is None:
        return {"alone": None, "+ MIM4DD": (weight, term)}
    found: dict[str, tuple[float, dict[str, Any]] | None] = {"alone": None}
    for value in values or SWEEPS[sweep]:
        exact = int(value) if sweep == "depth" else value
        found[f"{sweep}={exact:g}"] = (value, term) if sweep == "weight" else (weight, {**term, sweep: exact})
    return found


def table(results: list[dict[str, Any]], dataset: str = "") -> str:
    """A row for every method and variant: accuracy in percent, and the gain over the method alone on the same seeds."""
    header = ["per class", "method", "variant", "accuracy %", "gain", "paper", "condense s"]
    rows: list[list[Any]] = []
    for count, method, label in dict.fromkeys((r["images_per_class"], r["method"], r["variant"]) for r in results):

        def of(variant: str, count: int = count, method: str = method) -> list[dict[str, Any]]:
            return [
                r for r in results if (r["images_per_class"], r["method"], r["variant"]) == (count, method, variant)
            ]

        own, alone = of(label), of("alone")[: len(of(label))]
        gain = (
            ""
            if label == "alone"
            else format_summary(paired([r["accuracy"] for r in own], [r["accuracy"] for r in alone]), scale=1)
        )
        paper = PAPER.get((dataset, method.partition("(")[0], count))
        rows.append(
            [
                count,
                method,
                label,
                format_summary(summary([r["accuracy"] for r in own]), scale=1),
                gain,
                "-" if paper is None else format_number(paper[label != "alone"]),
                f"{summary([r['condense_seconds'] for r in own]).mean:.1f}",
            ]
        )
    rows.sort(key=lambda row: row[0])
    return f"{text_table(header, rows)}\nmean and 95 % interval over {len({r['seed'] for r in results})} seeds"


def _base(text: str, net: str, strategy: str, experts: Path, compile: bool) -> Distiller:
    name, _, arguments = text.partition("(")
    if name in ("mtt", "tesla") and "folder" not in arguments:
        given = arguments.removesuffix(")")
        text = f"{name}({', '.join([*([given] if given else []), f'folder={str(experts)!r}'])})"
    made: Condenser = memory_condenser(text, net, strategy, compile=compile)
    if not isinstance(made, Distiller):
        raise ValueError(f"methods must descend an objective, which {name!r} does not")
    return made


def _options(term: tuple[str, ...]) -> dict[str, Any]:
    return {name: ast.literal_eval(value) for name, _, value in (text.partition("=") for text in term)}
