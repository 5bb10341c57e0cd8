"""The numbers that the four papers print, row by row: what a run of ours is put beside.

dcc: Lee et al., "Dataset Condensation with Contrastive Signals", ICML 2022. idm: Zhao et al., "Improved Distribution Matching for Dataset
Condensation", CVPR 2023. mim4dd: Shang et al., "MIM4DD: Mutual Information Maximization for Dataset Distillation", NeurIPS 2023. ddm:
Malakshan et al., "Decomposed Distribution Matching in Dataset Condensation", WACV 2025, whose abstract gives gains only; the rows of its
figure 3 are what its authors measured later (their repository's documentation, 30 networks).
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["WHOLE", "Row", "published", "rows_of"]

WHOLE = "whole"
"""The method of a row that is trained on all real images."""

_FILE = Path(__file__).with_name("published.csv")


@dataclass(frozen=True)
class Row:
    """One number of a paper.

    Attributes:
        table: ``dcc:table2``.
        dataset: As `ddreplay.datasets.load` names it, or another name where it cannot read it.
        images_per_class: Stored images of every class; None where all real images are used, or the paper does not say.
        method: The name of a method or selection, or a part of it joined by a plus.
        variant: What the row changes; empty: nothing.
        network: Trained and tested on the set.
        mean, std: Accuracy in percent; a ``std`` of None is not printed. Of a row whose method is a difference, percentage points.
    """

    table: str
    dataset: str
    images_per_class: int | None
    method: str
    variant: str
    network: str
    mean: float
    std: float | None

    @property
    def paper(self) -> str:
        """dcc, idm, mim4dd or ddm."""
        return self.table.partition(":")[0]

    @property
    def key(self) -> str:
        """What tells it from the other rows of its table, as records write it."""
        said = (self.dataset, self.images_per_class, self.method, self.variant, self.network)
        return " | ".join(str(part) for part in said)


@cache
def published() -> tuple[Row, ...]:
    """All of them, as they stand in published.csv."""
    with _FILE.open(encoding="utf-8", newline="") as file:
        return tuple(
            Row(
                table=line["table"],
                dataset=line["dataset"],
                images_per_class=int(line["images_per_class"]) if line["images_per_class"] else None,
                method=line["method"],
                variant=line["variant"],
                network=line["network"],
                mean=float(line["mean"]),
                std=float(line["std"]) if line["std"] else None,
            )
            for line in csv.DictReader(file)
        )


def rows_of(
    table: str,
    *,
    datasets: Sequence[str] = (),
    images_per_class: Sequence[int] = (),
    methods: Sequence[str] = (),
    networks: Sequence[str] = (),
) -> tuple[Row, ...]:
    """The rows of a table, all of them or those that are asked for.

    Raises:
        ValueError: naming what the table does not have.

    >>> [row.mean for row in rows_of("dcc:table2", datasets=["cifar10"], images_per_class=[1], methods=["dc", "dcc"])]
    [28.2, 32.9]
    """
    found = tuple(row for row in published() if row.table == table)
    if not found:
        known = sorted({row.table for row in published()})
        raise ValueError(f"no numbers are printed for {table!r}; those with numbers are {', '.join(known)}")
    for name, wanted, key in (
        ("dataset", datasets, "dataset"),
        ("images_per_class", images_per_class, "images_per_class"),
        ("methods", methods, "method"),
        ("test_networks", networks, "network"),
    ):
        known = list(dict.fromkeys(str(getattr(row, key)) for row in found))
        missing = [str(value) for value in wanted if str(value) not in known]
        if missing:
            raise ValueError(f"{name} of {table} must be among {', '.join(known)}, got {', '.join(missing)}")
        found = tuple(row for row in found if not wanted or str(getattr(row, key)) in map(str, wanted))
    if not found:
        raise ValueError(f"{table} has no row with all of these together; leave one of them out")
    return found
