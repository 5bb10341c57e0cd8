"""``python -m benchmarks mim4dd``: condensers with and without MIM4DD, and what its weights change."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks.checks import at_least
from benchmarks.memories import condenser, spelled
from benchmarks.report.figures import COLORS, MOST_CURVES, Curve, can_draw, draw_curves, save_figure
from benchmarks.report.records import resume
from benchmarks.report.tables import Summary, format_number, format_summary, paired, settings_note, summary, text_table
from benchmarks.sets import Data, read, run_sets, training
from ddreplay import Distiller, names
from ddreplay.condense.condenser import Deadline
from ddreplay.condense.run import Classes, Run
from ddreplay.objectives import Side, Sum, Term

__all__ = ["PAPER", "SWEEPS", "mim4dd", "table", "variants"]

Sweep = Literal["weight", "ratio", "beta", "depth", "temperature"]

SWEEPS: dict[str, tuple[float, ...]] = {
    "weight": (0.1, 0.4, 0.8, 1.6),
    "ratio": (0.1, 0.3, 1.0),
    "beta": (0.5, 1.0, 2.0),
    "depth": (0, 1, 2),
    "temperature": (0.07, 0.1, 0.5),
}
"""Values that the paper varies (the weight lambda in Fig. 3, beta and the critic's depth in Tab. 2), the temperature, which it leaves open,
and a ratio of gradients that stands for a weight."""

POINTS = 64
"""Of a curve of losses."""

LOOKS = 5
"""Networks over which the gradients of a ratio are averaged."""

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
    ratio: float | None = None,
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

    A seed means the same start, networks, augmentations and real batches on both sides; only the images' gradients differ. How the
    loss of the method itself went, with the term and without it, is recorded and drawn (Fig. 4). A call with the same settings goes on
    from the record; more seeds are added to it.

    Args:
        dataset: as in ddreplay condense.
        methods: of ddreplay condense, with options if any: "mtt(steps=20)"; others are those for small machines.
        images_per_class: stored images of every class.
        seeds: sets condensed by every method, with and without.
        networks: networks trained on each set.
        net: the backbone that condenses and is trained.
        weight: of the mutual information (lambda).
        ratio: instead of the weight: the norm of the term's gradient by the images over that of the method's own, at the start. The weight
            that makes it so follows for every method, and stands in the record.
        term: hyper-parameters of it, such as beta=2.0 depth=1.
        sweep: vary the weight, ratio, beta, depth or temperature instead, beside the method alone.
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
    at_least(1, seeds=seeds, networks=networks, images_per_class=min(images_per_class, default=0))
    at_least(0, epochs=epochs)
    if ratio is not None and (not ratio > 0 or sweep == "weight"):
        raise ValueError(f"ratio must be above 0 and stands in the place of a weight, got {ratio} and sweep {sweep}")
    data = read(
        dataset,
        root=root,
        download=download,
        validation=validation,
        train_per_class=train_per_class,
        test_per_class=test_per_class,
        device=device,
    )
    chosen = training(protocol, data.images, epochs)
    by_ratio = ratio is not None or sweep == "ratio"
    added = variants(weight if ratio is None else ratio, term, sweep, values)
    spelled_out = {text: _with_experts(spelled(text), out / "experts") for text in methods}
    bases = {text: _base(full, net, data.images.augmentation, compile) for text, full in spelled_out.items()}
    settings = {
        **data.described(),
        "methods": methods,
        "condensers": spelled_out,
        "variants": {
            label: None if extra is None else f"{extra[1]} at {'a ratio of ' if by_ratio else ''}{extra[0]:g}"
            for label, extra in added.items()
        },
        "net": net,
        "compile": compile,
        "evaluation": chosen.name,
        "networks": networks,
        "scale": "reduced: fewer updates and narrower networks than the papers'",
    }
    weights: dict[str, float] = {}
    for count, text, (label, extra) in itertools.product(images_per_class, methods, added.items()):
        if extra is not None:
            unit = gradient_ratio(bases[text], names.parse(extra[1], "term"), data, count) if by_ratio else 1.0
            weights[f"{text} | {count} | {label}"] = extra[0] / unit
    path = out / f"{name}.json"
    recording = resume(path, "mim4dd", {**settings, "weights": weights}, device=data.pool.device)
    cells = []
    for seed, count, text, (label, extra) in itertools.product(range(seeds), images_per_class, methods, added.items()):
        method = bases[text]
        if extra is not None:
            method = method.plus(names.parse(extra[1], "term"), weights[f"{text} | {count} | {label}"])
        cells.append((method, {"method": text, "variant": label, "images_per_class": count, "seed": seed}))
    how: dict[str, Any] = {"net": net, "protocol": chosen, "networks": networks, "compile": compile, "losses": POINTS}
    run_sets(recording, path, cells, data, **how)
    print(table(recording.results, data.images.name, spelled_out, chosen.name))
    print(f"the method's own loss, first and last eighth of the steps:\n{loss_table(recording.results)}")
    if can_draw():
        draw_losses(recording.results, path.with_suffix(".png"))
    print(f"record: {path}" + ("; picture beside it" if can_draw() else ""))


def gradient_ratio(base: Distiller, term: Term, data: Data, images_per_class: int, looks: int = LOOKS) -> float:
    """The norm of a term's gradient by the stored numbers over that of the method's own objective, at the start, a mean over networks."""
    pool, method = data.pool, base.plus(term)
    running = Run(method, Classes(pool, tuple(range(pool.classes))), images_per_class, 0, Deadline(None))
    if not isinstance(running.objective, Sum):
        raise ValueError(f"{base.name} is no sum of terms to which one could be added")
    parameters, found = list(running.form.parameters()), []
    for _ in range(looks):
        look, statistic = running.networks.show()
        norms = []
        for chosen in (slice(0, -1), slice(-1, None)):
            side = Side(look, running.form.decode(), running.compared, chunk=running.chunk)
            parts = zip(
                running.objective.terms[chosen], running.objective.weights[chosen], statistic[chosen], strict=True
            )
            loss = torch.stack([weight * one.distance(part, side) for one, weight, part in parts]).sum()
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            norms.append(torch.cat([g.flatten() for g in gradients if g is not None]).norm().item())
        running.networks.moved()
        found.append(norms[1] / norms[0])
    return statistics.fmean(found)


def variants(
    weight: float, term: Sequence[str], sweep: Sweep | None, values: Sequence[float]
) -> dict[str, tuple[float, str] | None]:
    """What is compared, by its label: nothing added, or a weight (or ratio) and the term as it is written.

    >>> variants(0.8, ("beta=2.0",), "depth", (0, 1))
    {'alone': None, 'depth=0': (0.8, 'mutual_information(beta=2.0, depth=0)'), 'depth=1': (0.8, 'mutual_information(beta=2.0, depth=1)')}
    """
    if sweep is None:
        return {"alone": None, "+ MIM4DD": (weight, _term(term))}
    found: dict[str, tuple[float, str] | None] = {"alone": None}
    for value in values or SWEEPS[sweep]:
        label = f"{sweep}={int(value) if sweep == 'depth' else value!r}"
        found[f"{sweep}={value:g}"] = (
            (value, _term(term)) if sweep in ("weight", "ratio") else (weight, _term([*term, label]))
        )
    return found


def _term(options: Sequence[str]) -> str:
    kept = {option.partition("=")[0]: option for option in options}
    return f"mutual_information({', '.join(kept.values())})"


def table(
    results: list[dict[str, Any]], dataset: str = "", condensers: Mapping[str, str] | None = None, protocol: str = ""
) -> str:
    """A row for every method and variant: accuracy in percent, and the gain over the method alone on the same seeds.

    Args:
        condensers: every method with all its settings, to be said below the table.
        protocol: how networks were trained, for the heading of their accuracy.
    """
    header = [
        "per class",
        "method",
        "variant",
        f"accuracy %{f', {protocol}' if protocol else ''}",
        "gain",
        "paper",
        "condense s",
    ]
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
    note = f"mean and 95 % interval over {len({r['seed'] for r in results})} seeds"
    return "\n".join([text_table(header, rows), note, *settings_note(condensers or {})])


def own_loss(result: Mapping[str, Any]) -> list[tuple[int, float]]:
    """The method's loss without the term, as (step, mean up to it) over the steps of condensing.

    >>> own_loss({"losses": {"loss": [(1, 3.0)], "mean embedding": [(1, 2.0)], "mutual information": [(1, 1.0)]}})
    [(1, 2.0)]
    """
    losses = result["losses"]
    parts = [curve for name, curve in losses.items() if name not in ("loss", "mutual information")]
    return [(of[0][0], sum(value for _, value in of)) for of in zip(*parts or [losses["loss"]], strict=True)]


def mean_losses(results: Sequence[dict[str, Any]]) -> dict[tuple[int, str, str], dict[float, Summary]]:
    """The method's own loss by budget, method and variant: step -> over seeds."""
    found: dict[tuple[int, str, str], dict[float, Summary]] = {}
    told = [r for r in results if "losses" in r]
    for key in dict.fromkeys((r["images_per_class"], r["method"], r["variant"]) for r in told):
        curves = [dict(own_loss(r)) for r in told if (r["images_per_class"], r["method"], r["variant"]) == key]
        found[key] = {float(step): summary([curve[step] for curve in curves]) for step in curves[0]}
    return found


def loss_table(results: Sequence[dict[str, Any]]) -> str:
    """Means of the method's own loss over the first and the last eighth of its steps, for every variant."""
    rows = []
    for (count, method, label), curve in mean_losses(results).items():
        values = [found.mean for found in curve.values()]
        eighth = max(1, len(values) // 8)
        ends = [f"{statistics.fmean(part):.4g}" for part in (values[:eighth], values[-eighth:])]
        rows.append([count, method.partition("(")[0], label, *ends])
    return text_table(["per class", "method", "variant", "first", "last"], rows)


def draw_losses(results: Sequence[dict[str, Any]], path: Path) -> None:
    """The method's own loss over steps, a panel for every method and budget: without the term and with it, means and intervals."""
    panels: dict[tuple[int, str], list[Curve]] = {}
    for (count, method, label), points in mean_losses(results).items():
        curves = panels.setdefault((count, method.partition("(")[0]), [])
        if len(curves) < MOST_CURVES:
            curves.append(Curve(label, points, COLORS[len(curves)], marker=""))
    if not panels:
        return
    with save_figure(path, columns=len(panels), width=4.5) as axes:
        for axis, ((count, method), curves) in zip(axes, panels.items(), strict=True):
            axis.set_title(f"{method.upper()}, {count} per class", fontsize=9)
            axis.set_xlabel("image steps")
            axis.set_ylabel("the method's own loss")
            draw_curves(axis, curves, most=math.inf)


def _with_experts(text: str, folder: Path) -> str:
    """Methods that train experts keep them in a folder, unless they name one."""
    method = text.partition("(")[0]
    return spelled(text, {method: [f"folder={str(folder)!r}"]}) if method in ("mtt", "tesla") else text


def _base(text: str, net: str, augment: str, compile: bool) -> Distiller:
    made = condenser(text, net, augment, compile=compile)
    if not isinstance(made, Distiller):
        raise ValueError(f"methods must descend an objective, which {text.partition('(')[0]!r} does not")
    return made
