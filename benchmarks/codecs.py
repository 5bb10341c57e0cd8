"""``python -m benchmarks codecs``: what codecs leave of real images at equal bytes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.checks import at_least
from benchmarks.report.progress import Progress
from benchmarks.report.records import begin, write
from benchmarks.report.tables import format_bytes, text_table
from benchmarks.sets import read
from ddreplay import ClassPool, names
from ddreplay.data.space import to_pixels
from ddreplay.randomness import Random
from ddreplay.storage.codecs import BudgetTooSmall, Codec, fill, fit_quality, nbytes

__all__ = ["WithinBytes", "at_bytes", "codecs"]


@dataclass(frozen=True)
class WithinBytes:
    """How a codec stored images within a budget.

    codec: with the quality that fits.
    errors: of each class, the mean square in grey levels of 255.
    write_seconds, read_seconds: of the set at that quality, once.
    """

    codec: Codec
    nbytes: int
    errors: tuple[float, ...]
    write_seconds: float
    read_seconds: float


def at_bytes(family: Codec, classes: Sequence[Tensor], max_bytes: int) -> WithinBytes | None:
    """The best that a codec's family makes of so many bytes; ``None`` where its lowest quality takes more."""
    try:
        codec = fit_quality(family, classes, max_bytes=max_bytes)
    except BudgetTooSmall:
        return None
    started = time.perf_counter()
    codec.encode(classes)
    written = time.perf_counter()
    stored = fill(codec, classes, max_bytes)
    filled = time.perf_counter()
    channels, height, width = classes[0].shape[1:]
    given = codec.decode(stored, [len(images) for images in classes], (channels, height, width))
    took = time.perf_counter() - filled
    errors = tuple(float((a - b).square().mean()) * 255**2 for a, b in zip(given, classes, strict=True))
    return WithinBytes(codec, nbytes(stored), errors, written - started, took)


def codecs(
    dataset: str = "digits",
    codecs: tuple[str, ...] = ("jpeg", "webp", "avif", "thumb"),
    images_per_class: tuple[int, ...] = (16, 64),
    bytes_per_class: tuple[int, ...] = (250, 1000),
    classes: int = 10,
    seeds: int = 1,
    name: str = "codecs",
    out: Path = Path("results"),
) -> None:
    """Store random real images by every codec within the same bytes, filled as far as the codec can, and compare what comes back.

    Args:
        dataset: as in ddreplay condense.
        codecs: as --codec of ddreplay condense has them; the last one is compared with each other one.
        images_per_class: how many images share the bytes beside them.
        bytes_per_class: as many numbers as images_per_class.
        classes: the first so many classes are stored.
        seeds: draws of images.
        name: of the record's file.
        out: folder for the record (JSON).
    """
    if len(images_per_class) != len(bytes_per_class):
        raise ValueError(
            f"images_per_class and bytes_per_class go together, got {len(images_per_class)} and {len(bytes_per_class)} numbers"
        )
    at_least(1, classes=classes, seeds=seeds)
    families = {text: names.codec(text) for text in codecs}
    data = read(dataset, device="cpu")
    pool = data.pool
    recording = begin(
        "codecs", {**data.described(), "classes": min(classes, pool.classes), "seeds": seeds}, device=pool.device
    )
    with Progress(seeds * len(images_per_class) * len(families), "codecs", unit="sets") as progress:
        for seed in range(seeds):
            for images, budget in zip(images_per_class, bytes_per_class, strict=True):
                blocks = _drawn(pool, min(classes, pool.classes), images, Random(seed))
                for text, family in families.items():
                    found = at_bytes(family, blocks, budget * len(blocks))
                    recording.add(
                        codec=text,
                        seed=seed,
                        images_per_class=images,
                        bytes_per_class=budget,
                        **({} if found is None else _row(found)),
                    )
                    write(recording.finish(), out / f"{name}.json")
                    progress.advance(note=f"{text}, {images} images in {budget} B")
    print(table(recording.results))
    print(
        "mean square error in grey levels of 255, over classes and draws; less: of it, paired by class and draw; seconds of one set"
    )
    print(f"record: {out / f'{name}.json'}")


def _drawn(pool: ClassPool, classes: int, images: int, random: Random) -> list[Tensor]:
    """So many images of each class, in pixel space; all where there are fewer."""
    found = []
    for position in range(classes):
        chosen = torch.randperm(pool.counts[position], generator=random.cpu)[:images]
        found.append(to_pixels(pool.of_class(position)[chosen], pool.mean, pool.std).clamp(0, 1))
    return found


def _row(found: WithinBytes) -> dict[str, Any]:
    return {
        "stored_by": repr(found.codec),
        "nbytes": found.nbytes,
        "errors": list(found.errors),
        "write_seconds": round(found.write_seconds, 4),
        "read_seconds": round(found.read_seconds, 4),
    }


def _spread(shares: Sequence[float]) -> str:
    return f"{100 * statistics.fmean(shares):.0f} % ({100 * min(shares):.0f} to {100 * max(shares):.0f})"


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Errors beside each other, one row for each codec and budget."""
    last = results[-1]["codec"]
    rows = []
    for images, budget in dict.fromkeys((x["images_per_class"], x["bytes_per_class"]) for x in results):
        here = [x for x in results if (x["images_per_class"], x["bytes_per_class"]) == (images, budget)]
        best = [x.get("errors") for x in here if x["codec"] == last]
        for codec in dict.fromkeys(x["codec"] for x in here):
            own = [x for x in here if x["codec"] == codec]
            if any("errors" not in x for x in own):
                rows.append([images, format_bytes(budget), codec, "does not fit", "-", "-", "-", "-"])
                continue
            less = [
                1 - a / b for x, y in zip(best, own, strict=True) if x for a, b in zip(x, y["errors"], strict=True)
            ]  # fmt: skip
            rows.append(
                [
                    images, format_bytes(budget), codec, f"{statistics.fmean(e for x in own for e in x['errors']):.1f}",
                    "-" if codec == last or not less else _spread(less),
                    format_bytes(statistics.fmean(x["nbytes"] for x in own)),
                    f"{statistics.fmean(x['write_seconds'] for x in own):.3f}",
                    f"{statistics.fmean(x['read_seconds'] for x in own):.3f}",
                ]
            )  # fmt: skip
    header = ["images", "bytes per class", "codec", "error", f"{last} has less", "bytes", "write s", "read s"]
    return text_table(header, rows)
