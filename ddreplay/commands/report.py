"""``ddreplay report``: a page about sets, for people who did not make them."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import tyro

from ddreplay.commands.words import Resize
from ddreplay.terminal import check_writable, epochs_bar, say
from ddreplay.terminal import report as tell

__all__ = ["report"]


def report(
    files: tyro.conf.Positional[tuple[Path, ...]],
    data: str,
    out: Path = Path("report.html"),
    nets: tuple[str, ...] = ("convnet",),
    protocol: str = "dm2023",
    epochs: int | None = None,
    seeds: int = 3,
    baselines: bool = True,
    augment: str | None = None,
    seed: int = 0,
    size: int | None = None,
    resize: Resize | None = None,
    test_fraction: float | None = None,
    root: Path | None = None,
    download: bool = False,
    device: str = "auto",
    json: bool = False,
) -> None:
    """Write one page about sets: their images, what networks learn from them beside real images, mistakes, near copies.

    The page needs nothing beside it and no script; it may be printed.

    Args:
        files: sets written by condense, of the same data.
        data: the data that they were condensed from, as in condense.
        out: the page.
        nets: backbones that are trained on them, such as convnet "resnet18(width=16)".
        protocol: dc2021, dm2023, mtt2022, bptt2022, idc2022 or frepo2022, as in evaluate.
        epochs: another number of epochs; the protocol's name then says so.
        seeds: networks of every kind for every set.
        baselines: real images at no more bytes beside every set, chosen at random and by herding.
        augment: operations of a protocol that augments, as in condense. Default: what the first set was condensed with.
        seed: every network's own seed is derived from this one.
        size: pixels a side of a folder's images. Default: as they were condensed.
        resize: crop or squash. Default: as they were condensed.
        test_fraction: of every class of a folder without a test split. Default: as it was condensed.
        root: where torchvision's files are.
        download: fetch missing files of a named data set.
        device: auto, cpu or cuda.
        json: print one JSON object instead of text.
    """
    from ddreplay import ClassPool, CondensedSet, names
    from ddreplay.baselines import BASELINES
    from ddreplay.commands.reading import about_data, read_as_condensed, real_pool
    from ddreplay.data import pick_device
    from ddreplay.report import check_available, look_into, write_page

    if not files:
        raise ValueError("files must be one set or more, got none; write ddreplay report set.safetensors --data ...")
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1 network, got {seeds}")
    check_available()
    pick_device(device)
    factories, chosen = {net: names.network(net) for net in nets}, names.protocol(protocol)
    chosen = chosen if epochs is None else chosen.scaled(epochs)
    sets = {name: CondensedSet.load(file) for name, file in zip(_names(files), files, strict=True)}
    check_writable(out)
    given: dict[str, Any] = {"resize": resize, "test_fraction": test_fraction, "augmentation": augment}
    read = read_as_condensed(data, next(iter(sets.values())), root=root, download=download, size=size, **given)
    if not json:
        say(about_data(read, "test"))

    def pools(condensed: CondensedSet) -> tuple[ClassPool, ClassPool]:
        return real_pool(read, condensed, "train", device), real_pool(read, condensed, "test", device)

    findings = look_into(
        sets,
        pools,
        factories,
        chosen.on(read.augmentation),
        seeds=seeds,
        seed=seed,
        watch=lambda name, total: epochs_bar(name, total, quiet=json),
        data=f"{read.name}, {len(read.train_images):,} images to condense, {len(read.test_images):,} to test on",
        command=shlex.join(["ddreplay", *sys.argv[1:]]),
        baselines=BASELINES if baselines else (),
    )
    page = write_page(findings, out)
    accuracies = {
        one.name: {net: str(found["condensed"]) for net, found in one.evaluations.items()} for one in findings.sets
    }
    tell({"page": str(page), "bytes_of_the_page": page.stat().st_size, **accuracies}, json)


def _names(files: tuple[Path, ...]) -> list[str]:
    """By the files' names, or by their paths where two are named alike."""
    short = [file.name.removesuffix(".safetensors") for file in files]
    return short if len(set(short)) == len(short) else [str(file) for file in files]
