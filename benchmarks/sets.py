"""What benchmarks on one data set share: its pools, a protocol, and a set that is condensed and tested."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.report.progress import Progress
from benchmarks.report.records import Recording, write
from ddreplay import ClassPool, CondensedSet, Condenser, names
from ddreplay.condense import LossCurve, TermCurves
from ddreplay.datasets import ImageData, load
from ddreplay.evaluation import Protocol, evaluate

__all__ = ["Data", "Tested", "condense_and_test", "first_rows", "read", "reduced", "run_sets", "training"]


@dataclass(frozen=True)
class Data:
    """Images to condense and images to test on.

    held_out: whether the latter are training images that condensing does not see.
    """

    images: ImageData
    pool: ClassPool
    test: ClassPool
    held_out: bool = False

    def described(self) -> dict[str, Any]:
        """For a record's protocol."""
        return {
            "dataset": self.images.name,
            "normalization": self.images.normalization,
            "train": f"{len(self.pool)} images",
            "test": f"{len(self.test)} {'held-out training' if self.held_out else 'test'} images",
        }


def read(
    dataset: str,
    *,
    root: Path | None = None,
    download: bool = False,
    validation: bool = False,
    train_per_class: int | None = None,
    test_per_class: int | None = None,
    device: str = "auto",
    normalization: str = "own",
) -> Data:
    """A data set by its name, the first so many images of every class if that is wanted.

    Args:
        normalization: as `ddreplay.datasets.load` has it.
        validation: hold training images out, and test on those.
    """
    images = load(dataset, root=root, download=download, normalization=normalization)
    images = reduced(images.for_tuning() if validation else images, train_per_class, test_per_class)
    return Data(images, images.pool("train", device=device), images.pool("test", device=device), validation)


def training(protocol: str, images: ImageData, epochs: int | None) -> Protocol:
    """A protocol by its name, with the operations that suit the images, and another number of epochs where one is given."""
    found = names.protocol(protocol).on(images.augmentation)
    return found if epochs is None else found.scaled(epochs)


@dataclass(frozen=True)
class Tested:
    """A set, the accuracies in percent of networks trained on it, and what both took in seconds.

    losses: how the loss of condensing went, and each term of a sum by its name, as (step, mean up to it), where that was asked for.
    """

    condensed: CondensedSet
    accuracies: tuple[float, ...]
    condense_seconds: float
    train_seconds: float
    losses: dict[str, list[tuple[int, float]]] | None = None

    @property
    def accuracy(self) -> float:
        """Their mean."""
        return statistics.fmean(self.accuracies)

    def result(self) -> dict[str, Any]:
        """For a record."""
        return {
            "accuracies": list(self.accuracies),
            "accuracy": self.accuracy,
            "nbytes": self.condensed.nbytes,
            "stored_images": self.condensed.stored_images,
            "images": len(self.condensed),
            "condense_seconds": round(self.condense_seconds, 2),
            "train_seconds": round(self.train_seconds, 2),
            **({} if self.losses is None else {"losses": self.losses}),
        }


def condense_and_test(
    condenser: Condenser,
    data: Data,
    images_per_class: int,
    *,
    seed: int,
    net: str,
    protocol: Protocol,
    networks: int,
    first_network: int,
    compile: bool = False,
    losses: int = 0,
) -> Tested:
    """Condense a set with one seed, and train and test networks on it, the first with the seed ``first_network``.

    Args:
        losses: points of every curve of losses that is kept, an even number; 0: none is.
    """
    started = time.perf_counter()
    whole, terms = (LossCurve(losses), TermCurves(losses)) if losses else (None, None)
    told = {} if whole is None else {"on_step": whole, "on_terms": terms}
    condensed = condenser(data.pool, images_per_class, seed=seed, **told)
    seconds = time.perf_counter() - started
    how: dict[str, Any] = {"protocol": protocol, "seeds": networks, "seed": first_network, "compile": compile}
    found = evaluate(condensed, data.test, names.network(net), **how)
    kept = None if whole is None or terms is None else {"loss": whole.points(), **terms.points()}
    return Tested(condensed, found.accuracies, seconds, found.seconds, kept)


def run_sets(
    recording: Recording,
    path: Path,
    cells: Sequence[tuple[Condenser, dict[str, Any]]],
    data: Data,
    *,
    net: str,
    protocol: Protocol,
    networks: int,
    compile: bool,
    losses: int = 0,
) -> None:
    """Condense and test a set for every cell, into the record at ``path``, which holds what is done at every moment.

    Args:
        cells: a condenser, and what the record says of the set besides its results, ``images_per_class`` and ``seed`` among it. Those
            that the recording holds already are passed over.
        losses: as `condense_and_test` takes it.
    """
    how: dict[str, Any] = {"net": net, "protocol": protocol, "networks": networks, "compile": compile, "losses": losses}
    missing = [cell for cell in cells if not any(cell[1].items() <= result.items() for result in recording.results)]
    with Progress(max(1, len(missing)), path.stem, unit="sets") as progress:
        for condenser, labels in missing:
            seed = labels["seed"]
            count = labels["images_per_class"]
            tested = condense_and_test(condenser, data, count, seed=seed, first_network=1000 + seed, **how)
            recording.add(**labels, **tested.result())
            write(recording.finish(), path)
            named = ", ".join(str(value) for name, value in labels.items() if name != "seed")
            progress.advance(note=f"{named}: {tested.accuracy:.1f} %")


def reduced(data: ImageData, train_per_class: int | None, test_per_class: int | None) -> ImageData:
    """The first so many images of every class alone; ``None``: all."""
    train, test = first_rows(data.train_labels, train_per_class), first_rows(data.test_labels, test_per_class)
    return replace(
        data,
        train_images=data.train_images[train],
        train_labels=data.train_labels[train],
        test_images=data.test_images[test],
        test_labels=data.test_labels[test],
    )


def first_rows(labels: Tensor, per_class: int | None) -> Tensor:
    """Where the first ``per_class`` images of every class are."""
    return torch.cat([(labels == c).nonzero()[:per_class, 0] for c in labels.unique()])
