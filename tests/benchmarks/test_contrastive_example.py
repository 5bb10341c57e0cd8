"""DCC's motivating example: losses against loops, solutions against the closed form and against a grid search."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.contrastive_digits import condense_digits, difference_shares, digits_table, feature_axes, pair_of_digits
from benchmarks.contrastive_example import (
    contrastive_example,
    draw_active,
    feature_ratio,
    hinge_gradients,
    matching_loss,
    projected_descent,
    truncated_mean,
)
from benchmarks.report.records import read
from ddreplay.randomness import Random

CAPACITY = 0.15


def gradients(seed: int, alpha: float = 1.0, beta: float = 2.0) -> tuple[Tensor, Tensor, Tensor]:
    """Class means [2, 2], and the mean gradients per class [1, 2, 2] and of both [1, 1, 2], equally many images a class."""
    plus, minus = draw_active(alpha, beta, 20_000, Random(seed))
    n = min(len(plus), len(minus))
    means = torch.stack([plus[:n].mean(0), minus[:n].mean(0)])
    by_class = torch.stack([-means[0], means[1]])
    return means, by_class[None], by_class.mean(0)[None, None]


def loop_loss(real: Tensor, points: Tensor, scope: str, penalty: float) -> float:
    """Eq. 4 in one problem, image by image."""
    synthetic = []
    for s, y in zip(points.tolist(), (1.0, -1.0), strict=True):
        active = 1 - y * s[0] > 0
        synthetic.append([-y * v if active else 0.0 for v in s])
    norms = [math.hypot(*s) for s in points.tolist()]
    if scope == "class":
        parts = zip(real.tolist(), synthetic, norms, strict=True)
        return sum(math.dist(r, g) + penalty * norm for r, g, norm in parts)
    mean = [(synthetic[0][i] + synthetic[1][i]) / 2 for i in range(2)]
    return math.dist(real[0].tolist(), mean) + penalty / 2 * sum(norms)


def test_active_images_are_those_with_a_gradient_and_their_mean_is_the_truncated_one() -> None:
    plus, minus = draw_active(1.5, 3.0, 200_000, Random(0))
    assert bool((plus[:, 0] < 1).all())
    assert bool((minus[:, 0] > -1).all())
    for x, sign in ((plus, 1.0), (minus, -1.0)):
        torch.testing.assert_close(hinge_gradients(x, x.new_full((len(x),), sign)).detach(), -sign * x)
        assert float(sign * x[:, 0].mean()) == pytest.approx(truncated_mean(1.5), abs=0.02)
        assert float(x[:, 1].mean()) == pytest.approx(3, abs=0.02)
    assert float(hinge_gradients(torch.tensor([[1.5, 9.0]]), torch.tensor([1.0])).abs().sum()) == 0
    assert truncated_mean(1.0) == pytest.approx(1 - math.sqrt(2 / math.pi))


def test_the_ratio_by_loops_and_at_known_points() -> None:
    points = torch.tensor([[[3.0, -1.0], [-2.0, 2.0]], [[0.1, 0.0], [-5.0, 0.0]]])
    assert feature_ratio(points).tolist() == pytest.approx([(3 / 4 + 2 / 4) / 2, 1.0])


@pytest.mark.parametrize("scope", ["class", "set"])
def test_the_matching_loss_by_loops(scope: str) -> None:
    _, by_class, both = gradients(0)
    real = by_class if scope == "class" else both
    points = torch.randn(5, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = matching_loss(real.expand(5, *real.shape[1:]), points, scope, 0.3)  # type: ignore[arg-type]
    assert found.tolist() == pytest.approx([loop_loss(real[0], p, scope, 0.3) for p in points])


@pytest.mark.parametrize("seed", [0, 1])
def test_descent_finds_the_closed_forms_of_equations_6_and_8(seed: int) -> None:
    means, by_class, both = gradients(seed)
    start = torch.randn(4, 2, 2, generator=Random(seed).cpu, dtype=torch.float64)
    wise = projected_descent(lambda s: matching_loss(by_class, s, "class", 1e-3), start, CAPACITY, 600)
    expected = CAPACITY * means / means.norm(dim=1, keepdim=True)
    torch.testing.assert_close(wise, expected.expand(4, 2, 2), atol=1e-4, rtol=0)
    collective = projected_descent(lambda s: matching_loss(both, s, "set", 1e-3), start, CAPACITY, 600)
    apart = means[0] - means[1]
    expected = CAPACITY * torch.stack([apart, -apart]) / apart.norm()
    torch.testing.assert_close(collective, expected.expand(4, 2, 2), atol=1e-4, rtol=0)
    assert float(feature_ratio(wise).max()) < 1 / 3 < 0.9 < float(feature_ratio(collective).min())


@pytest.mark.parametrize("scope", ["class", "set"])
def test_no_point_of_a_grid_is_better_than_what_descent_finds(scope: str) -> None:
    _, by_class, both = gradients(3)
    real = by_class if scope == "class" else both
    found = projected_descent(
        lambda s: matching_loss(real, s, scope, 1e-3),  # type: ignore[arg-type]
        torch.zeros(1, 2, 2, dtype=torch.float64),
        CAPACITY,
        600,
    )
    assert float(found.norm(dim=2).max()) <= CAPACITY * (1 + 1e-12)
    ticks = torch.linspace(-CAPACITY, CAPACITY, 13, dtype=torch.float64)
    grid = torch.cartesian_prod(ticks, ticks, ticks, ticks).unflatten(1, (2, 2))
    grid = grid[(grid.norm(dim=2) <= CAPACITY).all(1)]
    others = matching_loss(real.expand(len(grid), *real.shape[1:]), grid, scope, 1e-3)  # type: ignore[arg-type]
    assert float(matching_loss(real, found, scope, 1e-3)) <= float(others.min())  # type: ignore[arg-type]


def test_without_a_binding_capacity_a_common_shift_of_both_points_costs_nothing() -> None:
    means, _, both = gradients(4)
    half = (means[0] - means[1]) / 2
    shift = torch.tensor([0.0, 0.4], dtype=torch.float64)
    points = torch.stack([torch.stack([half, -half]), torch.stack([half + shift, shift - half])])
    losses = matching_loss(both.expand(2, 1, 2), points, "set", 0.0)
    assert losses.tolist() == pytest.approx([0.0, 0.0], abs=1e-12)
    ratios = feature_ratio(points)
    assert float(ratios[0]) > 0.9
    assert float(ratios[1]) < 0.4


def test_the_benchmark_prints_the_table_and_writes_record_and_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contrastive_example(alphas=(1.0,), betas=(0.0, 2.0), seeds=2, samples=20_000, steps=100, digits=False, out=tmp_path)
    table = capsys.readouterr().out
    assert "| 1 | 2 |" in table
    assert "0.3333" in table
    record = read(tmp_path / "contrastive_example.json")
    rows = [r for r in record.results if r["part"] == "gaussians" and r["beta"] == 2]
    assert [r["seed"] for r in rows] == [0, 1]
    assert all(r["class_wise"] < 1 / 3 and r["collective"] > 0.9 for r in rows)
    assert (tmp_path / "contrastive_gaussians.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"alphas": (0.5,)}, "alphas"),
        ({"betas": (-1.0,)}, "betas"),
        ({"seeds": 0}, "seeds"),
        ({"samples": 10}, "samples"),
        ({"capacity": 0.5}, "capacity"),
    ],
)
def test_arguments_outside_the_papers_assumptions_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        contrastive_example(**wrong)  # type: ignore[arg-type]


# ---- digits


def test_mirroring_turns_every_three_and_no_eight() -> None:
    plain, mirrored = pair_of_digits(None, mirror_three=False), pair_of_digits(None, mirror_three=True)
    assert plain.class_ids.tolist() == [3, 8]
    assert torch.equal(mirrored.of_class(0), plain.of_class(0).flip(-1))
    assert torch.equal(mirrored.of_class(1), plain.of_class(1))


def test_axes_are_orthonormal_and_the_class_means_differ_along_the_first_alone() -> None:
    pool = pair_of_digits(None, mirror_three=False)
    axes = feature_axes(pool).cpu()
    torch.testing.assert_close(axes @ axes.T, torch.eye(2, dtype=axes.dtype))
    three, eight = (pool.of_class(k).flatten(1).double().mean(0).cpu() for k in range(2))
    torch.testing.assert_close((three - eight) @ axes[1], torch.zeros((), dtype=axes.dtype), atol=1e-10, rtol=0)


def test_the_shares_of_the_halves() -> None:
    x, y = torch.zeros(2, 1, 3, 5), torch.zeros(4, 1, 3, 5)
    x[..., 0], x[..., 2], x[..., 3] = 1, 9, 3  # the middle column belongs to neither half
    assert difference_shares(x, y) == pytest.approx((0.1, 0.9))


def test_digits_are_condensed_by_both_scopes_and_drawn(tmp_path: Path) -> None:
    picture = tmp_path / "digits.png"
    rows = condense_digits(None, images_per_class=1, rounds=1, width=4, picture=picture, loops=(2, 1))
    assert [(r["images"], r["scope"]) for r in rows] == [
        ("3, 8", "class"),
        ("3, 8", "set"),
        ("3 mirrored, 8", "class"),
        ("3 mirrored, 8", "set"),
    ]
    assert all(0 < r["ratio"] < 1 for r in rows)
    assert rows[0]["ratio"] != rows[1]["ratio"]
    lines = digits_table([*rows, {**rows[0], "seed": 1, "ratio": 0.0}]).splitlines()
    assert len(lines) == 7
    assert f"{rows[0]['ratio'] / 2:.3f} (0.000 to {rows[0]['ratio']:.3f})" in lines[2]
    assert f"{rows[1]['ratio']:.3f}" in lines[3]
    assert picture.read_bytes().startswith(b"\x89PNG")
