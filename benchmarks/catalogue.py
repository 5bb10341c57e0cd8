"""``python -m benchmarks catalogue``: every method on digits: its picture, its cost, the catalogue page and the example sets."""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.checks import among
from benchmarks.memories import memory_condenser, spelled
from benchmarks.report.records import Record, begin, read, write
from ddreplay import ClassPool, CondensedSet, evaluate, names
from ddreplay.data import to_pixels
from ddreplay.datasets import ImageData, load
from ddreplay.evaluation import PROTOCOLS
from ddreplay.examples import EXAMPLES

__all__ = ["catalogue", "page"]

ROOT = Path(__file__).resolve().parents[1]
RECORD, DOCS, SETS = (
    ROOT / "benchmarks" / "records" / "catalogue_digits.json",
    ROOT / "docs",
    ROOT / "ddreplay" / "examples",
)
METHODS = (*(name for name in names.KINDS["method"] if name != "whitened"), "random", "herding")
NET, EPOCHS, PER_CLASS, EXAMPLE_PER_CLASS, NETWORKS = "convnet(width=32)", 200, 2, 5, 3
SCALE, GAP = 4, 2  # screen pixels a pixel, and between images


def catalogue(methods: tuple[str, ...] = (), page_only: bool = False) -> None:
    """Condense digits with every method, draw what comes out, and write docs/methods.md and the sets that come with the package.

    Args:
        methods: those to condense anew; none: all.
        page_only: write the page alone, from the record.
    """
    among("methods", methods, METHODS)
    if not page_only:
        data = load("digits")
        pool = data.pool("train", device="cpu")
        results = [_run(name, data, pool) for name in methods or METHODS]
        if not methods:
            _examples(data, pool)
        _keep(results)
    (DOCS / "methods.md").write_text(page(read(RECORD)), encoding="utf-8")
    print(f"{DOCS / 'methods.md'}")


def _run(name: str, data: ImageData, pool: ClassPool) -> dict[str, Any]:
    started = time.perf_counter()
    condensed = memory_condenser(name, NET, data.augmentation)(pool, PER_CLASS, seed=0)
    seconds = time.perf_counter() - started
    _draw(condensed, DOCS / "methods" / f"{name}.png")
    protocol = PROTOCOLS["dm2023"].on(data.augmentation).scaled(EPOCHS)
    found = evaluate(condensed, data.pool("test", device="cpu"), names.network(NET), protocol=protocol, seeds=NETWORKS)
    print(f"{name:<8} {seconds:6.1f} s  {found}", flush=True)
    return {
        "method": name,
        "condenser": spelled(name),
        "seed": 0,
        "accuracies": found.accuracies,
        "seconds": round(seconds, 2),
        "nbytes": condensed.nbytes,
        "images": len(condensed),
    }


def _keep(results: Sequence[dict[str, Any]]) -> None:
    """All results in the record; of methods that did not run, those it has."""
    settings = {
        "dataset": "digits",
        "images_per_class": PER_CLASS,
        "net": NET,
        "evaluation": f"dm2023, {EPOCHS} epochs",
    }
    recording = begin("catalogue", {**settings, "networks": NETWORKS, "scale": "reduced"})
    before = {r["method"]: r for r in read(RECORD).results} if RECORD.exists() else {}
    merged = {**before, **{r["method"]: r for r in results}}
    for name in METHODS:
        if name in merged:
            recording.add(**merged[name])
    write(recording.finish(), RECORD)


def _examples(data: ImageData, pool: ClassPool) -> None:
    """The sets that come with the package."""
    about = {"name": data.name, "augmentation": data.augmentation}
    for example in EXAMPLES:
        method = example.partition("-")[2]
        made = memory_condenser(method, NET, data.augmentation)(pool, EXAMPLE_PER_CLASS, seed=0)
        said = {**made.provenance, "budget": f"{EXAMPLE_PER_CLASS} images a class", "data": about}
        replace(made, provenance=said).save(SETS / f"{example}.safetensors")


def _draw(condensed: CondensedSet, path: Path) -> None:
    """Two images of every class below each other, the classes side by side, in pixel colours."""
    from PIL import Image

    blocks = [to_pixels(x[:PER_CLASS], p.mean, p.std) for p in condensed.parts for x in p.images]
    tiles = torch.stack(blocks).clamp(0, 1).mul(255).round().byte()[:, :, 0]
    big = tiles.repeat_interleave(SCALE, 2).repeat_interleave(SCALE, 3)
    sheet: Tensor = torch.nn.functional.pad(big, (0, GAP, 0, GAP), value=255)
    rows = [torch.cat(list(sheet[:, k]), 1) for k in range(sheet.shape[1])]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(torch.cat(rows)[:-GAP, :-GAP].numpy()).save(path, format="PNG")


def page(record: Record) -> str:
    """The catalogue in Markdown: of every method what its docstring says, its picture, its cost, the paper's number and ours."""
    results, reached = (
        {r["method"]: r for r in record.results},
        _numbers((DOCS / "results.md").read_text(encoding="utf-8")),
    )
    blocks = [_HEAD.format(net=NET, per_class=PER_CLASS, epochs=EPOCHS, networks=NETWORKS)]
    rows = [_row(name, result, reached) for name, result in results.items()]
    blocks.append("\n".join([_COLUMNS, *rows]))
    blocks += [_entry(name, result) for name, result in results.items()]
    return "\n\n".join(blocks) + "\n"


def _row(name: str, result: dict[str, Any], reached: dict[str, tuple[str, str]]) -> str:
    accuracies = result["accuracies"]
    ours, paper = reached.get(name, ("-", "-"))
    mean = sum(accuracies) / len(accuracies)
    return f"| [`{name}`](#{name}) | {mean:.1f} | {result['seconds']:.1f} | {ours} | {paper} |"


def _entry(name: str, result: dict[str, Any]) -> str:
    make = {**names.KINDS["method"], **names.KINDS["selection"]}[name]
    text = inspect.cleandoc(make.__doc__ or "").replace("``", "`")
    lead, _, rest = text.partition("\n\n")
    body, about = _split(rest)
    lines = [f"## {name}", lead.replace("\n", " "), *body]
    lines.append(f"![Digits condensed by {name}, two images for each of ten classes](methods/{name}.png)")
    lines.append(
        f'`ddreplay condense digits --images-per-class {PER_CLASS} --net "{NET}" --method "{result["condenser"]}"`'
    )
    lines += [f"*{title}.* {words[:1].upper()}{words[1:]}" for title, words in about.items()]
    return "\n\n".join(lines)


def _split(text: str) -> tuple[list[str], dict[str, str]]:
    """Paragraphs before the arguments, equations as code; and the sections that people who choose a method read."""
    before = re.split(r"^(?:Args|Departures|Reference|Raises|Example):", text, maxsplit=1, flags=re.MULTILINE)[0]
    about = {
        match[1]: " ".join(match[2].split())
        for match in re.finditer(
            r"^(Departures|Reference): (.*(?:\n    .*)*(?:\n(?![A-Z]\w*:)\S.*)*)", text, re.MULTILINE
        )
    }
    return list(_paragraphs(before)), about


def _paragraphs(text: str) -> Iterator[str]:
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        if not block.strip():
            continue
        lines = block.splitlines()
        yield (
            "```text\n" + _narrow(inspect.cleandoc("\n".join(lines))) + "\n```"
            if lines[0].startswith("    ")
            else " ".join(lines)
        )


def _narrow(equation: str) -> str:
    """What stands right of an equation, below it."""
    return re.sub(r"(?<=\S)\s{4,}(?=\S)", "\n    ", equation)


def _numbers(results: str) -> dict[str, tuple[str, str]]:
    """Method -> (ours, the paper's) on CIFAR-10 at ten images per class, from the table in docs/results.md."""
    _, _, section = results.partition("## CIFAR-10, equal numbers of stored images")
    found = {}
    for line in section.partition("\n## ")[0].splitlines():
        cells = [cell.strip().strip("*") for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 6 and cells[0] != "method":
            name = {"DM, four tiles an image": "", "NCFM, without tiles": "ncfm", "IDM, four tiles an image": "idm"}
            key = name.get(cells[0], cells[0].partition(" ")[0].lower())
            if key:
                found[key] = (cells[3], cells[4])
    return found


_COLUMNS = """| method | digits, % | seconds | CIFAR-10, ours, % | CIFAR-10, paper, % |
| --- | ---: | ---: | ---: | ---: |"""

_HEAD = """# Methods

Every method of the library on scikit-learn's digits: {per_class} images per class, {net}, at the reduced settings of
`benchmarks/memories.py`, seed 0; accuracy of {networks} networks trained for {epochs} epochs under `dm2023`
([record](../benchmarks/records/catalogue_digits.json)). One set each and small settings: this shows what a method's images look like and
what it costs beside the others (one thread; other work ran beside), not an order. Beside it, from [the results](results.md), CIFAR-10 at
ten stored images per class: ours at a reduced scale, see there, and the paper's own at full scale.

Any of them takes other parts (`networks=banked(size=40)`, `parameterize=partitioned(2)`, `plus=(mutual_information, 0.01)`);
`ddreplay methods NAME` explains the options. This page is written by `python -m benchmarks catalogue`."""
