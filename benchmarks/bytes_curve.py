"""``python -m benchmarks bytes``: accuracy against bytes a class, for real and condensed images, by how they are stored."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from benchmarks.report.progress import Progress
from benchmarks.report.records import Recording, begin, read, write
from benchmarks.report.tables import format_bytes, format_summary, summary, text_table
from ddreplay import ClassPool, CondensedSet, Condenser, Distiller, methods
from ddreplay.cli import make_net
from ddreplay.condense.image_count import ByCodec, ChooseCount, Fixed, Validated
from ddreplay.condense.optimizer import SGD
from ddreplay.datasets import ImageData, load
from ddreplay.evaluate import Protocol, evaluate
from ddreplay.methods import selections
from ddreplay.methods.selections import Selection
from ddreplay.networks import Banked
from ddreplay.parameterize.frequency import Frequency
from ddreplay.parameterize.partitioned import Partitioned
from ddreplay.storage.budget import fit
from ddreplay.storage.codecs import BudgetTooSmall, Codec, avif, bits, jpeg, uint8

__all__ = ["bytes_curve"]


@dataclass(frozen=True)
class Scale:
    """What a run costs. visits: images that a tested network is trained on, repetitions included. tries: of a trial's images a class.
    trained: steps that the bank's networks are trained on real images for, at most."""

    net: str
    budgets: tuple[int, ...]
    seeds: int
    steps: int
    bank: int
    visits: int
    tries: int
    trained: int = 0
    compile: bool = False


SCALES = {
    "digits": Scale("convnet(width=32)", (64, 128, 256, 512), 3, 100, 20, 16000, 1200, 100),
    "small": Scale("convnet(width=32)", (1000, 4000), 2, 100, 10, 40000, 400, 100),
    "medium": Scale("convnet(width=32)", (1000, 2000, 4000, 8000), 3, 400, 20, 100000, 1200, 300),
    "full": Scale("convnet(width=128)", (500, 1000, 2000, 4000, 8000, 16000, 32000), 5, 4000, 200, 500000, 4000, 300),
}
REAL = ("random uint8", "random bits", "random jpeg", "random avif", "herding jpeg", "herding avif")
SYNTHETIC = (
    "dm uint8",
    "dm, then avif",
    "dm through bits",
    "dm through jpeg",
    "dm through avif",
    "dm partitioned avif",
    "dm frequency",
)


@dataclass(frozen=True)
class Afterwards:
    """Condensed without a codec, then stored by one at the best quality that fits."""

    method: Distiller
    codec: Codec
    choose: ChooseCount

    def __call__(
        self,
        pool: ClassPool,
        images_per_class: int | None = None,
        *,
        bytes_per_class: int | float | None = None,
        max_bytes: int | None = None,
        seed: int = 0,
    ) -> CondensedSet:
        per_class = bytes_per_class or (max_bytes or 0) / pool.classes
        steps = self.method.steps if isinstance(self.method.steps, int) else 1
        shorter = replace(self.method, steps=max(1, steps // 8))

        def trial(kept: ClassPool, n: int) -> CondensedSet:
            return fit(shorter(kept, n, seed=seed), per_class * kept.classes, self.codec)

        n = self.choose(pool, self.codec, per_class, trial, seed)
        return fit(self.method(pool, n, seed=seed), per_class * pool.classes, self.codec)


def bytes_curve(
    dataset: str = "digits",
    root: Path | None = None,
    download: bool = False,
    scale: Literal["digits", "small", "medium", "full"] | None = None,
    bytes_per_class: tuple[int, ...] = (),
    memories: tuple[str, ...] = (),
    images: tuple[int, ...] = (),
    net: str | None = None,
    steps: int | None = None,
    seeds: int | None = None,
    validation: bool = False,
    device: str = "cpu",
    compile: bool = False,
    out: Path = Path("results"),
) -> None:
    """Compare real and condensed images at equal bytes.

    Every memory chooses by itself how many images a budget is spent on: as many as fit at a low quality where they are stored as
    pictures, real and condensed ones alike, else on images held out of the training data. Their quality is the highest that fits.
    Finished cells are in the record at once, and a run with the same settings goes on from it.

    Args:
        dataset: digits, mnist, cifar10, ..., an .npz file in MedMNIST's layout, or a folder of class folders.
        root: where torchvision's files are.
        download: fetch missing files of a named data set.
        scale: digits (minutes), small (32x32 images, about an hour on two cores), medium (a day) or full (an accelerator); default: by
            image size.
        bytes_per_class: budgets; default: those of the scale. Labels, numbers and normalisation are charged.
        memories: which curves; default: all that suit the images.
        images: stored images of a class, a number for every memory in their order, instead of choosing them; 0: choose.
        net: the backbone that condenses, chooses and is trained; default: that of the scale.
        steps: image steps of condensing; default: those of the scale.
        seeds: of selection, condensing and training; default: those of the scale.
        validation: test on held-out training images instead of test images.
        device: cpu or cuda.
        compile: run networks through torch.compile where that can be done: faster after tens of seconds.
        out: folder for the record (JSON) and the picture (PNG).
    """
    data = load(dataset, root=None if root is None else str(root), download=download)
    data = data.for_tuning(fraction=0.1) if validation else data
    tiny = data.shape[1] < 16
    scale = scale or ("digits" if tiny else "small")
    size = SCALES[scale]
    given: dict[str, Any] = {"budgets": bytes_per_class or None, "seeds": seeds, "net": net, "steps": steps}
    size = replace(size, compile=compile, **{name: value for name, value in given.items() if value is not None})
    memories = memories or tuple(m for m in (*REAL, *SYNTHETIC) if tiny or "bits" not in m)
    if images and len(images) != len(memories):
        raise ValueError(f"images must have a number for every one of {len(memories)} memories, got {len(images)}")
    counts = dict(zip(memories, images, strict=False))
    protocol = {
        "dataset": dataset,
        "scale": scale,
        "reduced": scale != "full",
        "validation": validation,
    }
    protocol |= {k: getattr(size, k) for k in ("net", "steps", "bank", "trained", "visits", "tries", "compile")}
    protocol |= {"mean": list(data.mean), "std": list(data.std)}
    path = out / f"bytes_{Path(dataset).stem}.json"
    recording = _resume(path, protocol, device)
    done = {(r["memory"], r["bytes_per_class"], r["seed"]) for r in recording.results}
    cells = [(s, b, m) for s in range(size.seeds) for b in size.budgets for m in memories if (m, b, s) not in done]
    pool, test = data.pool("train", device=device), data.pool("test", device=device)
    with Progress(max(1, len(cells)), "bytes", unit="cells") as progress:
        for seed, budget, memory in cells:
            # herding looks at all data anew for every number it tries: it takes that of random images in the same codec
            alike = (memory, memory.replace("herding", "random"))
            known = [r["images"] for r in recording.results if r["memory"] in alike and r["bytes_per_class"] == budget]
            known = [counts[memory]] if counts.get(memory) else known
            trials = Validated(make_net(size.net), visits=size.tries)
            # a stored image of tiles shows several: what a picture of one can lose says nothing about it
            choose: ChooseCount = trials if "partitioned" in memory else ByCodec(others=trials)
            if known and known[0]:
                choose = Fixed(known[0])
            condenser = memory_in_bytes(memory, size, data, choose)
            cell = run_cell(condenser, pool, test, size, data, memory, budget, seed)
            recording.add(**cell, images_given=bool(counts.get(memory)))
            write(recording.finish(), path)
            progress.advance(note=f"{memory}, {budget} bytes, seed {seed}")
    results = [r for r in recording.results if r["memory"] in memories and r["bytes_per_class"] in size.budgets]
    print(table(results))
    for line in crossings(results):
        print(line)
    picture = draw(results, path.with_suffix(".png"), f"{Path(dataset).stem}, {size.net}")
    print(f"record: {path}" + (f"   picture: {picture}" if picture else "   no picture: matplotlib is not installed"))


def _resume(path: Path, protocol: dict[str, Any], device: str) -> Recording:
    recording = begin("bytes", protocol, device=device)
    if path.is_file():
        earlier = read(path)
        if earlier.protocol == begin("bytes", protocol).finish().protocol:
            recording.results = list(earlier.results)
            recording.started -= earlier.seconds
        else:
            raise ValueError(f"{path.name} is the record of another run; give another folder with --out, or delete it")
    return recording


def memory_in_bytes(name: str, size: Scale, data: ImageData, choose: ChooseCount) -> Condenser:
    """A memory by its name in the table.

    Raises:
        ValueError: for a name that is not known.
    """
    if name not in (*REAL, *SYNTHETIC):
        raise ValueError(f"memories must be among {', '.join((*REAL, *SYNTHETIC))}; got {name!r}")
    net, (kind, *_, last) = make_net(size.net), name.replace(",", "").split()
    codecs: dict[str, Codec] = {"uint8": uint8(), "bits": bits(), "jpeg": jpeg(), "avif": avif()}
    codec = codecs.get(last, uint8())
    if kind == "random":
        return replace(selections.random(codec=codec), choose=choose)
    if kind == "herding":
        found: Selection = selections.herding(net, epochs=5 if data.shape[1] < 16 else 1, codec=codec)
        return replace(found, choose=choose)
    method = methods.dm(
        net,
        networks=Banked(size=size.bank, trained=size.trained),
        steps=size.steps,
        lr=0.4,
        per_image=True,
        strategy=data.augmentation,
    )
    method = replace(method, choose=choose, codec=codec, compile=size.compile)
    if "then" in name:
        return Afterwards(replace(method, codec=uint8()), codec, choose)
    if "partitioned" in name:
        return replace(method, parameterize=Partitioned(2), optimizer=SGD(lr=0.4, per_image=True))  # of each tile: 0.1
    return replace(method, parameterize=Frequency(64 if data.shape[1] >= 16 else 16)) if last == "frequency" else method


def run_cell(
    condenser: Condenser,
    pool: ClassPool,
    test: ClassPool,
    size: Scale,
    data: ImageData,
    memory: str,
    budget: int,
    seed: int,
) -> dict[str, Any]:
    """One memory at one budget with one seed; accuracy is None where not one image fits."""
    cell = {"memory": memory, "bytes_per_class": budget, "seed": seed}
    started = time.perf_counter()
    try:
        condensed = condenser(pool, bytes_per_class=budget, seed=seed)
    except BudgetTooSmall:
        return {**cell, "accuracy": None, "images": 0, "nbytes": 0, "codec": "", "seconds": 0.0}
    seconds = time.perf_counter() - started
    if condensed.nbytes > budget * pool.classes:
        raise RuntimeError(f"{memory} takes {condensed.nbytes} bytes where {budget * pool.classes} are allowed")
    epochs = max(1, size.visits // len(condensed))
    training = Protocol(f"{size.visits} visits", epochs=epochs - 1, augment=data.augmentation, batch_size=64)
    found = evaluate(condensed, test, make_net(size.net), protocol=training, seeds=1, seed=seed, compile=size.compile)
    part = condensed.parts[0]
    return {
        **cell,
        "accuracy": found.mean,
        "images": max(part.counts),
        "nbytes": condensed.nbytes,
        "codec": repr(part.codec),
        "seconds": seconds,
        "test_seconds": found.seconds,
    }


Curves = Mapping[str, Mapping[int, list[float]]]


def curves(results: Sequence[dict[str, Any]]) -> dict[str, dict[int, list[float]]]:
    """Accuracies by memory and budget."""
    found: dict[str, dict[int, list[float]]] = {}
    for r in results:
        if r["accuracy"] is not None:
            found.setdefault(r["memory"], {}).setdefault(r["bytes_per_class"], []).append(r["accuracy"])
    return found


def table(results: Sequence[dict[str, Any]]) -> str:
    """A row for each memory, a column for each budget: accuracy with its 95 % interval, and images a class."""
    budgets = sorted({r["bytes_per_class"] for r in results})
    rows = []
    for memory in dict.fromkeys(r["memory"] for r in results):
        row = [memory]
        for budget in budgets:
            group = [r for r in results if (r["memory"], r["bytes_per_class"]) == (memory, budget)]
            values = [r["accuracy"] for r in group if r["accuracy"] is not None]
            row.append(f"{format_summary(summary(values), scale=1)} ({group[0]['images']})" if values else "-")
        rows.append(row)
    seeds = len({r["seed"] for r in results})
    note = f"accuracy in percent, mean and 95 % interval over {seeds} seeds (stored images a class)"
    return f"{text_table(['memory', *(f'{format_bytes(b)} a class' for b in budgets)], rows)}\n{note}"


def crossings(results: Sequence[dict[str, Any]]) -> list[str]:
    """Where the best condensed curve leaves the best real one behind, in words."""
    found = curves(results)
    best = {
        side: {b: max(summary(found[m][b]).mean for m in names if b in found.get(m, {})) for b in _shared(found)}
        for side, names in (("real", REAL), ("condensed", SYNTHETIC))
        if any(m in found for m in names)
    }
    if len(best) < 2:
        return []
    gaps = [(b, best["condensed"][b] - best["real"][b]) for b in _shared(found)]
    lines = [f"condensed - real at {format_bytes(b)} a class: {gap:+.1f}" for b, gap in gaps]
    for (a, first), (b, second) in pairwise(gaps):
        if first * second < 0:
            at = a * (b / a) ** (first / (first - second))
            lines.append(f"the best curves cross near {format_bytes(at)} a class")
    return lines


def _shared(found: Curves) -> list[int]:
    sides = [{b for m in names for b in found.get(m, {})} for names in (REAL, SYNTHETIC)]
    return sorted(sides[0] & sides[1])


def draw(results: Sequence[dict[str, Any]], path: Path, title: str) -> Path | None:
    """The curves with their intervals, condensed ones full and real ones dashed; None without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(8.5, 4.8))
    shown = curves(results)
    for k, (memory, points) in enumerate(shown.items()):
        stats = [(b, summary(values)) for b, values in sorted(points.items())]
        spread = [0.0 if math.isnan(s.half_width) else s.half_width for _, s in stats]
        axis.errorbar(
            [b * 1.02 ** (k - len(shown) / 2) for b, _ in stats],
            [s.mean for _, s in stats],
            yerr=spread,
            fmt="o" if k < 10 else "s",
            linestyle="--" if memory in REAL else "-",
            markersize=3,
            capsize=2,
            linewidth=1,
            label=memory,
            color=f"C{k % 10}",
        )
    crossed = [line for line in crossings(results) if "cross" in line]
    axis.text(0.98, 0.02, "\n".join(crossed), ha="right", va="bottom", transform=axis.transAxes, fontsize=8)
    axis.set_xscale("log", base=2)
    budgets = sorted({b for points in shown.values() for b in points})
    axis.set_xticks(budgets, [format_bytes(b) for b in budgets])
    axis.set_xlabel("bytes a class, everything counted")
    axis.set_ylabel("accuracy %")
    axis.set_title(title, fontsize=9)
    axis.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
    return path
