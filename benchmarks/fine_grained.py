"""``python -m benchmarks fine-grained``: gradient matching on groups of classes that look alike, class-wise and collective."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.checks import among, at_least
from benchmarks.report.progress import Progress
from benchmarks.report.records import resume, write
from benchmarks.report.tables import Summary, format_bytes, format_summary, paired, summary, text_table
from ddreplay import names
from ddreplay.condense.condenser import Condenser
from ddreplay.data.pool import ClassPool
from ddreplay.datasets import ImageData, load
from ddreplay.evaluation import PROTOCOLS, Protocol, evaluate

__all__ = ["PAPER", "fine_grained"]

METHODS = ("random", "dc", "dsa", "dcc", "dsac", "dcc-cold", "dsac-cold")
AUGMENTED = ("dsa", "dsac")
CONTRASTS = (("dcc", "dc"), ("dsac", "dsa"))

PAPER: dict[tuple[str, int], dict[str, float]] = {
    ("cifar10", 1): {"random": 14.4, "dc": 28.2, "dsa": 28.7, "dcc": 32.9, "dsac": 34.0},
    ("cifar10", 10): {"random": 26.0, "dc": 44.7, "dsa": 52.1, "dcc": 49.4, "dsac": 54.5},
    ("cifar10", 50): {"random": 43.4, "dc": 54.8, "dsa": 60.6, "dcc": 61.6, "dsac": 64.2},
}
"""Lee et al., "Dataset Condensation with Contrastive Signals", ICML 2022, Table 2: accuracy in percent."""


@dataclass(frozen=True)
class Settings:
    """Everything that decides the numbers besides group, method and seed."""

    dataset: str
    group_size: int
    images_per_class: int
    net: str
    rounds: int
    steps: int
    inner_epochs: int
    lr_class: float
    lr_set: float
    lr_net: float
    batch_real: int
    nets: int
    epochs: int | None
    batch_size: int
    validation: bool
    device: str
    compile: bool = False

    def data(self) -> ImageData:
        """The data; for tuning with held-out training images in the place of the test images."""
        found = load(self.dataset)
        return found.for_tuning(fraction=0.2) if self.validation else found

    def protocol(self, method: str) -> Protocol:
        """As the paper evaluates the method, with fewer epochs where a number is given."""
        full = PROTOCOLS["dm2023" if method.partition("-")[0] in AUGMENTED else "dc2021"]
        return replace(full if self.epochs is None else full.scaled(self.epochs), batch_size=self.batch_size)


def fine_grained(
    dataset: str,
    methods: tuple[str, ...] = ("random", "dc", "dsa", "dcc", "dsac"),
    groups: tuple[int, ...] = (0, 1, 2),
    group_size: int = 10,
    images_per_class: int = 10,
    net: str = "convnet(width=32)",
    rounds: int = 4,
    steps: int = 10,
    inner_epochs: int = 3,
    lr_class: float = 2.0,
    lr_set: float = 6.0,
    lr_net: float = 0.05,
    batch_real: int = 50,
    seeds: int = 2,
    first_seed: int = 0,
    nets: int = 2,
    epochs: int | None = 40,
    batch_size: int = 32,
    validation: bool = False,
    compile: bool = False,
    device: str = "auto",
    out: Path = Path("results"),
) -> None:
    """Compare class-wise with collective gradient matching where classes look alike (DCC, Table 1).

    Every group of classes is a task of its own, normalised with its own training images. The settings are small ones; the paper's
    are rounds=1000, steps=10, inner_epochs=50, lr_class=lr_set=0.1, lr_net=0.01, epochs=None, batch_size=256,
    a ConvNet of width 128, DC from noise. All methods start from the same real images here. Where a record with these settings exists, what
    it holds is not run again.

    Args:
        dataset: an .npz file in MedMNIST's layout, or any data set of ddreplay condense.
        methods: random, dc, dsa, dcc, dsac; and dcc-cold, dsac-cold without warm-up.
        groups: group k holds classes k * group_size to (k + 1) * group_size - 1.
        images_per_class: of the condensed sets.
        net: the network that condensing and evaluation use.
        rounds: networks that look at a set.
        steps: image steps a network sees.
        inner_epochs: epochs on the set after each image step.
        lr_class: image learning rate of dc and dsa.
        lr_set: image learning rate of dcc and dsac, whose loss is smaller by the number of classes.
        lr_net: learning rate of the networks while condensing.
        batch_real: real images of every class and step.
        seeds: sets for every method and group.
        first_seed: the seed of the first set of a method and group.
        nets: networks that evaluate a set.
        epochs: of evaluation; dsa and dsac with augmentation, the others without, as in the paper. None: those of each method's own
            protocol, 1,000 with augmentation and 300 without.
        batch_size: of evaluation.
        validation: test on a fifth of the training images, which condensing does not see: for choosing settings.
        compile: run networks through torch.compile where that can be done: faster after tens of seconds.
        device: auto, cpu or cuda.
        out: folder for the record.
    """
    given = dict(locals())
    settings = Settings(**{name: given[name] for name in Settings.__dataclass_fields__})
    among("methods", methods, METHODS)
    at_least(
        1, seeds=seeds, nets=nets, images_per_class=images_per_class, group_size=group_size, rounds=rounds, steps=steps
    )
    data = settings.data()
    for group in groups:
        classes_of(settings, data, group)
    kind = "validation" if validation else "test"
    path = out / f"fine_grained_{Path(dataset).stem}_{images_per_class}_{kind}.json"
    protocol = {**asdict(settings), "dataset": Path(dataset).name, "scale": "reduced"}
    recording = resume(path, "fine-grained", protocol, device="cuda" if device == "cuda" else "cpu")
    cells = [(s, g, m) for s in range(first_seed, first_seed + seeds) for g in groups for m in methods]
    done = {(r["seed"], r["group"], r["method"]) for r in recording.results}
    left = [cell for cell in cells if cell not in done]
    if left:
        with Progress(len(left), "fine-grained", unit="sets") as progress:
            for seed, group, method in left:
                recording.add(**run(settings, data, group, method, seed))
                write(recording.finish(), path)
                progress.advance(note=f"{method}, group {group}")
    print(table(recording.results, PAPER.get((Path(dataset).stem, images_per_class))))
    print(f"record: {path}")


def condenser(settings: Settings, method: str) -> Condenser:
    """The method at this scale."""
    if method == "random":
        return names.condenser(method)
    name, _, cold = method.partition("-")
    lr = settings.lr_set if name in ("dcc", "dsac") else settings.lr_class
    options = [
        f"rounds={settings.rounds}",
        f"loops=({settings.steps}, {settings.inner_epochs})",
        f"lr={lr}",
        f"lr_net={settings.lr_net}",
        f"batch_real={settings.batch_real}",
        "parameterize=pixels",
        f"compile={settings.compile}",
        *(["scope=set"] if cold else []),
    ]
    return names.condenser(name, net=settings.net, options=options)


def run(settings: Settings, data: ImageData, group: int, method: str, seed: int) -> dict[str, Any]:
    """One set, and the networks that are trained on it."""
    train, test = pools(settings, data, group)
    started = time.perf_counter()
    condensed = condenser(settings, method)(train, settings.images_per_class, seed=seed)
    seconds = time.perf_counter() - started
    net = names.network(settings.net)
    how: dict[str, Any] = {"seeds": settings.nets, "seed": seed, "compile": settings.compile}
    found = evaluate(condensed, test, net, protocol=settings.protocol(method), **how)
    result = {
        "method": method,
        "group": group,
        "seed": seed,
        "accuracies": list(found.accuracies),
        "accuracy": found.mean,
        "protocol": found.protocol.name,
        "condense_seconds": seconds,
        "evaluate_seconds": found.seconds,
        "nbytes": found.nbytes,
    }
    if method == "random":  # what augmented training alone gives
        augmented = evaluate(condensed, test, net, protocol=settings.protocol("dsa"), **how)
        result |= {"augmented": list(augmented.accuracies), "augmented_protocol": augmented.protocol.name}
    return result


def pools(settings: Settings, data: ImageData, group: int) -> tuple[ClassPool, ClassPool]:
    """Training and test images of one group, normalised with the mean and deviation of the training images."""
    classes = classes_of(settings, data, group)
    rows, test_rows = torch.isin(data.train_labels, classes), torch.isin(data.test_labels, classes)
    train = ClassPool(data.train_images[rows], data.train_labels[rows], device=settings.device)
    normal: dict[str, Any] = {"mean": train.mean, "std": train.std, "device": settings.device}
    return train, ClassPool(data.test_images[test_rows], data.test_labels[test_rows], **normal)


def classes_of(settings: Settings, data: ImageData, group: int) -> Tensor:
    """The classes of one group.

    Raises:
        ValueError: when the data have too few.
    """
    classes = torch.arange(group * settings.group_size, (group + 1) * settings.group_size)
    if group < 0 or int(classes[-1]) >= data.classes:
        raise ValueError(
            f"group {group} of {settings.group_size} classes is not there: {data.name} has {data.classes} classes; "
            "give other groups or a smaller group_size"
        )
    return classes


def table(results: Sequence[dict[str, Any]], paper: dict[str, float] | None = None) -> str:
    """A row a method, a column a group: mean and 95 % interval over all networks of all sets, in percent."""
    groups = sorted({r["group"] for r in results})
    rows: list[list[Any]] = []
    for method in [m for m in METHODS if any(r["method"] == m for r in results)]:
        own = [r for r in results if r["method"] == method]
        rows.append(_row(method, own[0].get("protocol", "-"), own, groups, "accuracies", paper))
        if all("augmented" in r for r in own):
            rows.append(_row(method, own[0].get("augmented_protocol", "with DSA"), own, groups, "augmented", None))
    header = ["method", "networks trained by", *(f"group {g}" for g in groups), "all", *(["paper"] if paper else [])]
    header += ["condense s", "bytes"]
    lines = [text_table(header, rows)]
    for ours, theirs in CONTRASTS:
        found = _difference(results, ours, theirs)
        if found is not None:
            lines.append(
                f"{ours} - {theirs}: {format_summary(found, scale=1)} over {found.n} pairs of sets (group and seed)"
            )
    return "\n".join(lines)


def _row(
    name: str,
    protocol: str,
    own: Sequence[dict[str, Any]],
    groups: Sequence[int],
    key: str,
    paper: dict[str, float] | None,
) -> list[Any]:
    by_group = [[a for r in own if r["group"] == g for a in r[key]] for g in groups]
    cells = [format_summary(summary(values), scale=1) if values else "-" for values in by_group]
    everything = summary([a for values in by_group for a in values])
    seconds = summary([r["condense_seconds"] for r in own]).mean
    beside = [paper.get(name, "-") if key == "accuracies" else "-"] if paper else []
    return [
        name,
        protocol,
        *cells,
        format_summary(everything, scale=1),
        *beside,
        f"{seconds:.1f}",
        format_bytes(own[0]["nbytes"]),
    ]


def _difference(results: Sequence[dict[str, Any]], ours: str, theirs: str) -> Summary | None:
    found = {
        name: {(r["group"], r["seed"]): r["accuracy"] for r in results if r["method"] == name}
        for name in (ours, theirs)
    }
    keys = sorted(set(found[ours]) & set(found[theirs]))
    return paired([found[ours][k] for k in keys], [found[theirs][k] for k in keys]) if keys else None
