"""``python -m benchmarks bytes``: accuracy against bytes per class, for real and condensed images, by how they are stored."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from benchmarks.checks import at_least
from benchmarks.memories import SMALL, spelled
from benchmarks.report.byte_curves import crossings, draw, table
from benchmarks.report.progress import Progress
from benchmarks.report.records import resume, write
from benchmarks.report.tables import settings_note
from ddreplay import Budget, ClassPool, CondensedSet, Condenser, Distiller, names
from ddreplay.condense.image_count import ByCodec, ChooseCount, CountQuestion, Fixed, Validated
from ddreplay.datasets import ImageData, load
from ddreplay.evaluation import Protocol, evaluate
from ddreplay.methods.selections import Selection
from ddreplay.parameterize import Partitioned
from ddreplay.storage.codecs import BudgetTooSmall, Codec
from ddreplay.storage.fit import fit

__all__ = ["bytes_curve"]


@dataclass(frozen=True)
class Scale:
    """What a run costs.

    visits: images that a tested network is trained on, repetitions included; tries: the same for a trial's network, per class. trained:
    steps that the bank's networks are trained on real images for, at most.
    """

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
MEMORIES = {
    "random uint8": "random(codec=uint8)",
    "random bits": "random(codec=bits)",
    "random jpeg": "random(codec=jpeg)",
    "random avif": "random(codec=avif)",
    "herding jpeg": "herding(codec=jpeg)",
    "herding avif": "herding(codec=avif)",
    "dm uint8": "dm(codec=uint8)",
    "dm, then avif": "dm(codec=uint8), then avif",
    "dm through bits": "dm(codec=bits)",
    "dm through jpeg": "dm(codec=jpeg)",
    "dm through avif": "dm(codec=avif)",
    "dm partitioned avif": "dm(codec=avif, parameterize=partitioned(2))",
    "dm frequency": "dm(codec=uint8, parameterize=frequency({kept}))",
}
"""The memories compared by default. ``X, then CODEC``: condensed without a codec, then stored by one. kept: numbers of each channel."""


@dataclass(frozen=True)
class Afterwards:
    """Condensed without a codec, then stored by one at the best quality that fits."""

    method: Distiller
    codec: Codec
    choose: ChooseCount

    def __call__(self, pool: ClassPool, budget: Budget | int, *, seed: int = 0) -> CondensedSet:
        total = Budget.of(budget).total(pool.classes)
        steps = self.method.steps if isinstance(self.method.steps, int) else 1
        shorter = replace(self.method, steps=max(1, steps // 8))

        def trial(kept: ClassPool, n: int) -> CondensedSet:
            return fit(shorter(kept, n, seed=seed), total / pool.classes * kept.classes, self.codec)

        n = self.choose(CountQuestion(pool, self.codec, Budget.total_bytes(total), trial, seed))
        return fit(self.method(pool, n, seed=seed), total, self.codec)


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
        memories: which curves: names of `MEMORIES`, or condensers with a codec, such as "idm(codec=avif, steps=500)"; default: all of the
            former that suit the images.
        images: stored images per class, a number for every memory in their order, instead of choosing them; 0: choose.
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
    memories = memories or tuple(m for m in MEMORIES if tiny or "bits" not in m)
    if images and len(images) != len(memories):
        raise ValueError(f"images must have a number for every one of {len(memories)} memories, got {len(images)}")
    at_least(1, seeds=size.seeds, steps=size.steps, bytes_per_class=min(size.budgets))
    counts = dict(zip(memories, images, strict=False))
    protocol = {
        "dataset": dataset,
        "scale": scale,
        "reduced": scale != "full",
        "validation": validation,
    }
    protocol |= {k: getattr(size, k) for k in ("net", "steps", "bank", "trained", "visits", "tries", "compile")}
    protocol |= {"mean": list(data.mean), "std": list(data.std)}
    for memory in memories:
        memory_in_bytes(memory, size, data, Fixed(1))  # wrong ones are refused before any work
    path = out / f"bytes_{Path(dataset).stem}.json"
    recording = resume(path, "bytes", protocol, device=device)
    done = {(r["memory"], r["bytes_per_class"], r["seed"]) for r in recording.results}
    cells = [(s, b, m) for s in range(size.seeds) for b in size.budgets for m in memories if (m, b, s) not in done]
    pool, test = data.pool("train", device=device), data.pool("test", device=device)
    with Progress(max(1, len(cells)), "bytes", unit="cells") as progress:
        for seed, budget, memory in cells:
            # herding looks at all data anew for every number it tries: it takes that of random images in the same codec
            alike = (memory, memory.replace("herding", "random"))
            known = [r["images"] for r in recording.results if r["memory"] in alike and r["bytes_per_class"] == budget]
            known = [counts[memory]] if counts.get(memory) else known
            choose = Fixed(known[0]) if known and known[0] else None
            condenser = memory_in_bytes(memory, size, data, choose)
            cell = run_cell(condenser, pool, test, size, data, memory, budget, seed)
            recording.add(**cell, condenser=spelled_out(memory, size, data), images_given=bool(counts.get(memory)))
            write(recording.finish(), path)
            progress.advance(note=f"{memory}, {budget} bytes, seed {seed}")
    results = [r for r in recording.results if r["memory"] in memories and r["bytes_per_class"] in size.budgets]
    print(table(results))
    for line in crossings(results):
        print(line)
    print("\n".join(settings_note({memory: spelled_out(memory, size, data) for memory in memories})))
    picture = draw(results, path.with_suffix(".png"), f"{Path(dataset).stem}, {size.net}")
    print(f"record: {path}" + (f"   picture: {picture}" if picture else "   no picture: matplotlib is not installed"))


def spelled_out(memory: str, size: Scale, data: ImageData) -> str:
    """A memory with all its settings at this scale."""
    tiny = data.shape[1] < 16
    bank = f"networks=banked(size={size.bank}, trained={size.trained})"
    settings = {
        **SMALL,
        "herding": [f"epochs={5 if tiny else 1}"],
        "dm": [bank, f"steps={size.steps}", "lr=0.4", "per_image=True"],
    }
    named = MEMORIES[memory].format(kept=16 if tiny else 64) if memory in MEMORIES else memory
    text, comma, codec = named.partition(", then ")
    return spelled(text, settings) + comma + codec


def memory_in_bytes(memory: str, size: Scale, data: ImageData, choose: ChooseCount | None = None) -> Condenser:
    """A memory by its name in the table, or as a condenser with its codec.

    Args:
        choose: how many images; ``None``: as many as fit at a low quality where they are stored as pictures, and by trials on
            held-out images otherwise.
    Raises:
        ValueError: for a name that is not known, and for a condenser without a codec.
    """
    text, _, afterwards = spelled_out(memory, size, data).partition(", then ")
    made = names.condenser(text, net=size.net, augment=data.augmentation)
    if not isinstance(made, (Distiller, Selection)) or made.codec is None:
        raise ValueError(f"memories need a codec: write {memory!r} like {text.partition('(')[0]}(codec=avif)")
    trials = Validated(names.network(size.net), visits=size.tries)
    tiled = isinstance(made, Distiller) and isinstance(made.parameterize, Partitioned)
    # a stored image of tiles shows several: what a picture of one can lose says nothing about it
    made = replace(made, choose=choose or (trials if tiled else ByCodec(others=trials)))
    if isinstance(made, Distiller):
        made = replace(made, compile=size.compile)
        return Afterwards(made, names.codec(afterwards), made.choose) if afterwards else made
    return made


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
        condensed = condenser(pool, Budget.bytes(budget), seed=seed)
    except BudgetTooSmall:
        return {**cell, "accuracy": None, "images": 0, "nbytes": 0, "codec": "", "seconds": 0.0}
    seconds = time.perf_counter() - started
    if condensed.nbytes > budget * pool.classes:
        raise RuntimeError(f"{memory} takes {condensed.nbytes} bytes where {budget * pool.classes} are allowed")
    epochs = max(1, size.visits // len(condensed))
    training = Protocol(f"{size.visits} visits", epochs=epochs - 1, augment=data.augmentation, batch_size=64)
    found = evaluate(
        condensed, test, names.network(size.net), protocol=training, seeds=1, seed=seed, compile=size.compile
    )
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
