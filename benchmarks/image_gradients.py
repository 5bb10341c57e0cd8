"""How far the gradient of a matching loss by the synthetic images is from the exact one, by the precision of the networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.plain_loops import ROWS, Problem, Row
from benchmarks.report.tables import format_number, summary, text_table
from benchmarks.sets import Data, training
from benchmarks.speed import ours, theirs
from ddreplay import ClassPool
from ddreplay.backbones import Bfloat16, ConvNet
from ddreplay.evaluation import train
from ddreplay.randomness import Random

__all__ = ["METHODS", "WAYS", "Matching", "gradient_table", "image_gradients"]

METHODS = tuple(row.name for row in ROWS if not row.banked)
WAYS = ("float32, plain loop", "bfloat16, plain loop", "bfloat16, library", "float32, other real images")
"""Of a network: its weights in float32; its blocks under bfloat16, as they are in a plain loop; the same network given to the library,
whose terms may raise the precision; and in float32 with another draw of real images, as the next step has: what errors are small beside."""


@dataclass(frozen=True)
class Matching:
    """One step of matching.

    batch_real, images_per_class: images of every class on either side, all of them real ones. trained: epochs of the network on the real
    data before.
    """

    width: int = 32
    batch_real: int = 64
    images_per_class: int = 10
    trained: int = 0


def image_gradients(data: Data, methods: Sequence[str], matching: Matching, seed: int) -> list[dict[str, Any]]:
    """The error of every method's image gradient in every way, against float64: a result for each.

    relative_error: of the norm of the difference to the norm of the exact gradient. cosine: between both.
    """
    device, random = data.pool.device, Random(seed, data.pool.device)
    with random.scope():
        plain = ConvNet(width=matching.width)(data.pool.shape, data.pool.classes).to(device)
        low = Bfloat16(ConvNet(width=matching.width))(data.pool.shape, data.pool.classes).to(device)
    if matching.trained:
        protocol = training("dm2023", data.images, matching.trained)
        train(plain, data.pool.all().x, data.pool.all_labels(), protocol, random)
    low.load_state_dict(plain.state_dict())
    exact = ConvNet(width=matching.width)(data.pool.shape, data.pool.classes).to(device)
    exact.load_state_dict(plain.state_dict())
    exact.double()
    real, other, syn = _sides(data.pool, matching.batch_real, matching.images_per_class, random)
    results = []
    for row in (row for row in ROWS if row.name in methods):
        transform = row.augment.draw(data.pool.shape, random)

        def problem(
            net: nn.Module, dtype: torch.dtype, real: Tensor = real, row: Row = row, transform: Any = transform
        ) -> Problem:
            return Problem(net, transform, real.to(dtype), syn.to(dtype).requires_grad_())

        wanted = theirs(row, problem(exact, torch.float64))[1]
        found = (
            theirs(row, problem(plain, torch.float32))[1],
            theirs(row, problem(low, torch.float32))[1],
            ours(row, problem(low, torch.float32))[1],
            theirs(row, problem(plain, torch.float32, other))[1],
        )
        for way, gradient in zip(WAYS, found, strict=True):
            error = relative_error(gradient, wanted), cosine(gradient, wanted)
            how = {"method": row.name, "way": way, "seed": seed, "epochs_trained": matching.trained}
            results.append({**how, "relative_error": error[0], "cosine": error[1]})
    return results


def _sides(pool: ClassPool, batch_real: int, images_per_class: int, random: Random) -> tuple[Tensor, ...]:
    """Two draws of real images, as two steps have them, and synthetic ones that are in neither: each [classes, n, c, h, w]."""
    sides: tuple[list[Tensor], ...] = ([], [], [])
    for k in range(pool.classes):
        images = pool.of_class(k)
        if len(images) < batch_real + images_per_class:
            raise ValueError(
                f"class {k} has {len(images)} images but both sides need {batch_real + images_per_class}; lower batch_real"
            )
        order = torch.randperm(len(images), generator=random.cpu)
        syn, rest = order[:images_per_class], order[images_per_class:]
        again = rest[torch.randperm(len(rest), generator=random.cpu)]
        for side, rows in zip(sides, (rest[:batch_real], again[:batch_real], syn), strict=True):
            side.append(images[rows.to(images.device)])
    return tuple(torch.stack(side) for side in sides)


def relative_error(found: Tensor, wanted: Tensor) -> float:
    """|found - wanted| / |wanted|."""
    return float((found.double() - wanted).norm() / wanted.norm())


def cosine(found: Tensor, wanted: Tensor) -> float:
    """Between two tensors as vectors."""
    a, b = found.double().flatten(), wanted.flatten()
    return float(a @ b / (a.norm() * b.norm()))


def gradient_table(results: Sequence[dict[str, Any]]) -> str:
    """A row for every method and way, a pair of columns for every age of the networks: means over seeds."""
    ages = sorted({r["epochs_trained"] for r in results})
    header = ["method", "way"]
    for age in ages:
        header += [f"error %, {age} epochs trained", "cosine"]
    rows = []
    for method, way in dict.fromkeys((r["method"], r["way"]) for r in results):
        row = [method, way]
        for age in ages:
            own = [r for r in results if (r["method"], r["way"], r["epochs_trained"]) == (method, way, age)]
            row.append(format_number(100 * summary([r["relative_error"] for r in own]).mean, 2))
            row.append(format_number(summary([r["cosine"] for r in own]).mean, 4))
        rows.append(row)
    seeds = len({r["seed"] for r in results})
    return f"{text_table(header, rows)}\nerror: of the image gradient, against float64; means over {seeds} networks"
