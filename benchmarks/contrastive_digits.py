"""Figure 3 of DCC: digits 3 and 8 condensed class by class and collectively, 3 as it is and mirrored."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.report.figures import save_figure
from benchmarks.report.tables import text_table
from ddreplay.backbones import ConvNet
from ddreplay.data.pool import ClassPool
from ddreplay.datasets import load
from ddreplay.methods import dc
from ddreplay.objectives import GradientMatching
from ddreplay.storage.codecs import float32

__all__ = ["condense_digits", "difference_shares", "digits_table", "feature_axes", "pair_of_digits"]


def pair_of_digits(mnist: Path | None, *, mirror_three: bool) -> ClassPool:
    """The train images of digits 3 and 8 (classes 3 and 8), from an .npz or scikit-learn; 3 mirrored left to right or not."""
    data = load("digits" if mnist is None else mnist)
    pair = (data.train_labels == 3) | (data.train_labels == 8)
    x, y = data.train_images[pair], data.train_labels[pair]
    if mirror_three:
        x = torch.where((y == 3)[:, None, None, None], x.flip(-1), x)
    return ClassPool(x, y, mean=data.mean, std=data.std, device="auto")


def feature_axes(pool: ClassPool) -> Float[Tensor, "two d"]:
    """phi1, the direction between the two class means, and phi2, that of their average made orthogonal to phi1."""
    three, eight = (pool.of_class(k).flatten(1).double().mean(0) for k in range(2))
    phi1 = (three - eight) / (three - eight).norm()
    common = (three + eight) / 2
    common = common - (common @ phi1) * phi1
    return torch.stack([phi1, common / common.norm()])


def difference_shares(x: Float[Tensor, "n c h w"], y: Float[Tensor, "m c h w"]) -> tuple[float, float]:
    """Squared difference of the mean images of two classes, left and right of the middle, as shares of both."""
    energy = (x.double().mean(0) - y.double().mean(0)).square().sum((0, 1))
    half = len(energy) // 2
    left, right = float(energy[:half].sum()), float(energy[-half:].sum())
    return left / (left + right), right / (left + right)


def condense_digits(
    mnist: Path | None,
    *,
    images_per_class: int,
    rounds: int,
    width: int,
    picture: Path | None,
    loops: tuple[int, int] = (10, 50),
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Both scopes of gradient matching on both pairs; the picture, if any, holds a row for every class.

    Both start from noise and train networks on the synthetic images alike; they differ in the scope alone. DCC's warm-up
    is off, as in Eq. 10.

    Args:
        loops: (image steps a network sees, epochs on the synthetic set after each), as DC has them for 10 images per class.
    """
    rows, sheets = [], {}
    for mirror in (False, True):
        pool = pair_of_digits(mnist, mirror_three=mirror)
        axes = feature_axes(pool).to(pool.device)
        real = [pool.of_class(k) for k in range(2)]
        for scope in ("class", "set"):
            base = dc(ConvNet(width=width), rounds=rounds, loops=loops)
            method = replace(base, objective=GradientMatching(scope=scope), codec=float32())
            images = method(pool, images_per_class, seed=seed).images()
            syn = [images.x[images.y == label] for label in (3, 8)]
            strength = (torch.cat(syn).flatten(1).double() @ axes.cpu().T).abs()
            rows.append(
                {
                    "images": "3 mirrored, 8" if mirror else "3, 8",
                    "scope": scope,
                    "seed": seed,
                    "ratio": float((strength[:, 0] / strength.sum(1)).mean()),
                    "left_share": difference_shares(*syn)[0],
                    "left_share_real": difference_shares(*real)[0],
                    "difference": float((syn[0].mean(0) - syn[1].mean(0)).norm()),
                }
            )
            sheets[f"{rows[-1]['images']}: {_NAMES[scope]}"] = torch.cat(syn) * pool.std[0] + pool.mean[0]
    if picture is not None:
        _draw(picture, sheets, images_per_class)
    return rows


_NAMES = {"class": "class-wise (DC)", "set": "collective (Eq. 10)"}


def _draw(path: Path, sheets: dict[str, Tensor], columns: int) -> None:
    with save_figure(path, columns=2, rows=2, width=0.5 * columns, height=1.4) as axes:
        for axis, (title, images) in zip(axes, sheets.items(), strict=True):
            gray = images.clamp(0, 1).mean(1)
            sheet = torch.cat([torch.cat(list(row), 1) for row in torch.split(gray, columns)])
            axis.imshow(sheet.tolist(), cmap="gray", vmin=0, vmax=1)
            axis.set_title(title, fontsize=8)
            axis.set_axis_off()


def digits_table(rows: Sequence[dict[str, Any]]) -> str:
    """R with the axes of the data, and where in the image the class means differ: means over seeds, with the least and the most."""
    header = ["images", "matching", "R(S)", "left half's share of the class difference", "of real images", "norm of it"]
    cells = []
    for images, scope in dict.fromkeys((r["images"], r["scope"]) for r in rows):
        own = [r for r in rows if (r["images"], r["scope"]) == (images, scope)]
        shown = [_over_seeds([r[key] for r in own]) for key in ("ratio", "left_share")]
        real, norm = (statistics.fmean(r[key] for r in own) for key in ("left_share_real", "difference"))
        cells.append([images, _NAMES[scope], *shown, f"{real:.3f}", f"{norm:.2f}"])
    seeds = len({r["seed"] for r in rows})
    return f"{text_table(header, cells)}\nmeans over {seeds} seeds (least to most)"


def _over_seeds(values: Sequence[float]) -> str:
    mean = f"{statistics.fmean(values):.3f}"
    return f"{mean} ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else mean
