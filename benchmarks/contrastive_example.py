"""DCC's motivating example: which features of the data class-wise and class-collective gradient matching keep."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.checks import at_least
from benchmarks.report.figures import COLORS, GRAY, save_figure
from benchmarks.report.records import begin, write
from ddreplay.randomness import Random

__all__ = [
    "contrastive_example",
    "draw_active",
    "feature_ratio",
    "hinge_gradients",
    "matching_loss",
    "projected_descent",
    "truncated_mean",
]

Scope = Literal["class", "set"]
CLASS_SIGNS = (1.0, -1.0)
LARGEST_CAPACITY = 1 - math.sqrt(2 / math.pi)  # the discriminative strength of active images at alpha = 1
LOOSE = 0.6  # a capacity above every mean, below 1 so that synthetic points stay in the hinge's active range


def contrastive_example(
    *,
    alphas: tuple[float, ...] = (1.0, 2.0, 3.0),
    betas: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0),
    seeds: int = 5,
    samples: int = 400_000,
    capacity: float = 0.15,
    penalty: float = 0.001,
    steps: int = 2000,
    mnist: Path | None = None,
    digits: bool = True,
    digit_seeds: int = 1,
    images_per_class: int = 10,
    rounds: int = 20,
    width: int = 32,
    out: Path = Path("results"),
) -> None:
    """The motivating example of DCC (Sec. 3.2): two classes with a shared feature, one synthetic point for each.

    x ~ N(y alpha phi1 + beta phi2, I) (Eq. 3); Eq. 4 is minimised by projected gradient descent in float64, class by class
    (Eq. 6) and for both classes together (Eq. 8), under max |s| <= capacity. R(S) (Eq. 5) is the share of the feature that
    tells the classes apart. The paper: class-wise at most alpha / (alpha + beta) (Eq. 7), collective 1 (Eq. 9).

    Then Figure 3: digits 3 against 8, and 3 mirrored against 8, condensed class-wise (DC) and collectively.

    Args:
        alphas: strengths of the feature that differs between the classes, at least 1.
        betas: strengths of the feature that both classes share.
        seeds: data sets (and random starts) for each alpha and beta.
        samples: drawn images per data set; those with y w'x < 1 have a gradient and take part.
        capacity: upper bound of |s|. The paper: at most 1 - sqrt(2/pi) = 0.202.
        penalty: lambda of Eq. 4.
        steps: of the descent.
        mnist: an .npz with MNIST in the MedMNIST layout; without it scikit-learn's 8 x 8 digits are condensed.
        digits: condense digits at all.
        digit_seeds: condensations of digits of each kind.
        images_per_class: condensed digits per class. Paper: 10.
        rounds: networks per condensation of digits, 10 image steps each. Paper: 1000.
        width: filters of the ConvNet. Paper: 128.
        out: where the record and the pictures go.
    """
    protocol = {name: value for name, value in locals().items() if name not in ("mnist", "out")}
    _check(alphas, betas, seeds, samples, capacity)
    at_least(1, digit_seeds=digit_seeds, images_per_class=images_per_class, rounds=rounds, width=width)
    recording = begin("contrastive-example", {**protocol, "mnist": mnist is not None})
    grid = _solve_grid(alphas, betas, seeds, samples, capacity, penalty, steps)
    for problem, solved in zip(grid.problems, grid.rows(), strict=True):
        recording.add(part="gaussians", **problem._asdict(), **solved)
    print(_ratio_table(grid, alphas, betas))
    for row in _uniqueness(seeds, samples, capacity, steps):
        recording.add(part="uniqueness", **row)
    print(_uniqueness_table(recording.results))
    _draw_gaussians(out / "contrastive_gaussians.png", grid, alphas, betas)
    write(recording.finish(), out / "contrastive_example.json")
    if digits:
        from benchmarks.contrastive_digits import condense_digits, digits_table

        print(f"\nDigits 3 and 8, {rounds} networks a condensation ...", flush=True)
        how: dict[str, Any] = {"images_per_class": images_per_class, "rounds": rounds, "width": width}
        for seed in range(digit_seeds):
            picture = None if seed else out / "contrastive_digits.png"
            for row in condense_digits(mnist, picture=picture, seed=seed, **how):
                recording.add(part="digits", **row)
            write(recording.finish(), out / "contrastive_example.json")
        print(digits_table([r for r in recording.results if r["part"] == "digits"]))


def _check(alphas: Sequence[float], betas: Sequence[float], seeds: int, samples: int, capacity: float) -> None:
    if not alphas or min(alphas) < 1:
        raise ValueError(f"alphas must be at least 1, got {alphas}")
    if not betas or min(betas) < 0:
        raise ValueError(f"betas must not be negative, got {betas}")
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {seeds}")
    if samples < 1000:
        raise ValueError(f"samples must be at least 1000, so that both classes have active images; got {samples}")
    if not 0 < capacity <= LARGEST_CAPACITY:
        raise ValueError(f"capacity must lie in (0, {LARGEST_CAPACITY:.4f}], got {capacity}")


# ---- Eq. 3 to 8


def draw_active(
    alpha: float, beta: float, samples: int, random: Random
) -> tuple[Float[Tensor, "plus two"], Float[Tensor, "minus two"]]:
    """Images of both classes drawn by Eq. 3 that have a hinge gradient at w = phi1; columns are phi1 and phi2.

    The hinge max(0, 1 - y w'x) has a gradient where y w'x < 1; the paper prints this set with the opposite sign
    (-y w'x < 1), which its bound on the capacity contradicts.
    """
    y = 2.0 * torch.randint(2, (samples,), generator=random.cpu).double() - 1
    x = torch.randn(samples, 2, generator=random.cpu, dtype=torch.float64)
    x = x + torch.stack([y * alpha, torch.full_like(y, beta)], 1)
    active = y * x[:, 0] < 1
    return x[active & (y > 0)], x[active & (y < 0)]


def truncated_mean(alpha: float) -> float:
    """E[x | x < 1] for x ~ N(alpha, 1): the discriminative strength of active images in an infinite data set."""
    density = math.exp(-((1 - alpha) ** 2) / 2) / math.sqrt(2 * math.pi)
    return alpha - density / (math.erfc((alpha - 1) / math.sqrt(2)) / 2)


def hinge_gradients(x: Float[Tensor, "*n two"], y: Float[Tensor, "*n"]) -> Float[Tensor, "*n two"]:
    """Gradient of max(0, 1 - y w'x) by w at w = phi1, for every image, differentiable by the image."""
    with torch.enable_grad():
        w = torch.zeros_like(x)
        w[..., 0] = 1
        w.requires_grad_()
        loss = (1 - y * (w * x).sum(-1)).clamp_min(0).sum()
        (gradient,) = torch.autograd.grad(loss, w, create_graph=True)
    return gradient


def matching_loss(
    real: Float[Tensor, "p parts two"], syn: Float[Tensor, "p classes two"], scope: Scope, penalty: float
) -> Float[Tensor, " p"]:
    """Eq. 4 of every problem: summed over classes (``class``, Eq. 6) or once for both (``set``, Eq. 8).

    real: the mean gradient of real images, one per class or one in all.
    """
    gradient = hinge_gradients(syn, syn.new_tensor(CLASS_SIGNS).expand(syn.shape[:2]))
    gradient = gradient if scope == "class" else gradient.mean(1, keepdim=True)
    norms = syn.norm(dim=2)
    size: Tensor = norms.sum(1) if scope == "class" else norms.mean(1)
    mismatch: Tensor = (real - gradient).norm(dim=2).sum(1)
    return mismatch + penalty * size


def projected_descent(
    loss: Callable[[Tensor], Tensor], start: Float[Tensor, "p n two"], capacity: float, steps: int
) -> Float[Tensor, "p n two"]:
    """Minimise a loss, summed over problems, with every point inside the ball of radius ``capacity``.

    Steps shrink as 1/k, which (sub)gradients of bounded size need.
    """
    points = _into_ball(start.detach().clone(), capacity)
    for k in range(steps):
        leaves = points.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(leaves).sum(), leaves)
        points = _into_ball(leaves.detach() - capacity / (1 + k / 20) * gradient, capacity)
    return points


def _into_ball(points: Tensor, radius: float) -> Tensor:
    scale: Tensor = radius / points.norm(dim=-1, keepdim=True).clamp_min(radius)
    return points * scale


def feature_ratio(syn: Float[Tensor, "p n two"]) -> Float[Tensor, " p"]:
    """R(S), Eq. 5: mean over points of |s'phi1| / (|s'phi1| + |s'phi2|); NaN where a point is 0."""
    strength = syn.abs()
    shares: Tensor = strength[..., 0] / strength.sum(-1)
    return shares.mean(1)


# ---- the table


class Problem(NamedTuple):
    """One data set."""

    alpha: float
    beta: float
    seed: int


class Grid(NamedTuple):
    """Data sets and what was found for them; points are [problems, classes, 2]."""

    problems: list[Problem]
    means: Tensor
    class_wise: Tensor
    collective: Tensor
    unbalanced: Tensor

    def rows(self) -> list[dict[str, float]]:
        """Ratios of every problem."""
        columns = {
            "class_wise": feature_ratio(self.class_wise),
            "collective": feature_ratio(self.collective),
            "collective_unbalanced": feature_ratio(self.unbalanced),
            "largest_norm": torch.stack([self.class_wise, self.collective]).norm(dim=-1).amax((0, 2)),
        }
        return [{name: float(value[i]) for name, value in columns.items()} for i in range(len(self.problems))]

    def ratios(self, points: Tensor, alpha: float, beta: float) -> Tensor:
        """R over seeds."""
        chosen = [i for i, p in enumerate(self.problems) if (p.alpha, p.beta) == (alpha, beta)]
        return feature_ratio(points[chosen])


def _real_gradients(alpha: float, beta: float, samples: int, random: Random) -> tuple[Tensor, Tensor, Tensor]:
    """Mean gradients: per class [2, 2]; of both with equal numbers of images [1, 2] (the paper's assumption); as drawn."""
    plus, minus = draw_active(alpha, beta, samples, random)
    gradients = [
        hinge_gradients(x, x.new_full((len(x),), sign)).detach()
        for x, sign in zip((plus, minus), CLASS_SIGNS, strict=True)
    ]
    n = min(len(plus), len(minus))
    balanced = [g[:n] for g in gradients]
    by_class = torch.stack([g.mean(0) for g in balanced])
    return by_class, torch.cat(balanced).mean(0, keepdim=True), torch.cat(gradients).mean(0, keepdim=True)


def _solve_grid(
    alphas: Sequence[float],
    betas: Sequence[float],
    seeds: int,
    samples: int,
    capacity: float,
    penalty: float,
    steps: int,
) -> Grid:
    problems = [Problem(a, b, seed) for a in alphas for b in betas for seed in range(seeds)]
    sources = [Random(1000 * k + p.seed) for k, p in enumerate(problems)]
    real = [_real_gradients(p.alpha, p.beta, samples, random) for p, random in zip(problems, sources, strict=True)]
    by_class, balanced, drawn = (torch.stack(part) for part in zip(*real, strict=True))
    start = torch.stack([torch.randn(2, 2, generator=r.cpu, dtype=torch.float64) for r in sources])

    def solve(real: Tensor, scope: Scope) -> Tensor:
        return projected_descent(lambda s: matching_loss(real, s, scope, penalty), start, capacity, steps)

    means = -by_class * by_class.new_tensor(CLASS_SIGNS)[:, None]
    return Grid(problems, means, solve(by_class, "class"), solve(balanced, "set"), solve(drawn, "set"))


def _ratio_table(grid: Grid, alphas: Sequence[float], betas: Sequence[float]) -> str:
    def cell(values: Tensor) -> str:
        return f"{float(values.mean()):.4f} ± {float(values.std(correction=0)):.4f}"

    lines = [
        "R(S) by projected descent, mean ± standard deviation over data sets",
        "",
        "| alpha | beta | class-wise (Eq. 6) | m/(m+beta) | bound (Eq. 7) | collective (Eq. 8) | Eq. 9 | collective, as drawn |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for alpha in alphas:
        for beta in betas:
            m = truncated_mean(alpha)
            cells = [cell(grid.ratios(p, alpha, beta)) for p in (grid.class_wise, grid.collective, grid.unbalanced)]
            lines.append(
                f"| {alpha:g} | {beta:g} | {cells[0]} | {m / (m + beta):.4f} | {alpha / (alpha + beta):.4f} "
                f"| {cells[1]} | 1 | {cells[2]} |"
            )
    lines += [
        "",
        "m = E[x | x < 1], x ~ N(alpha, 1): the limit of an infinite data set, below alpha, so Eq. 7 is loose for beta > 0.",
        "As drawn: all active images in one mean, classes of unequal number; the shared feature then does not cancel.",
    ]
    return "\n".join(lines)


# ---- when is the collective solution unique?


def _uniqueness(seeds: int, samples: int, capacity: float, steps: int) -> list[dict[str, Any]]:
    """Eq. 8 at alpha = 1, beta = 4 from 16 random starts a data set, as capacity and penalty change."""
    rows = []
    for name, radius, penalty in (
        ("capacity binds", capacity, 0.0),
        ("loose, no penalty", LOOSE, 0.0),
        ("loose, penalty 0.1", LOOSE, 0.1),
        ("loose, penalty 2", LOOSE, 2.0),
    ):
        for seed in range(seeds):
            random = Random(seed)
            real = _real_gradients(1.0, 4.0, samples, random)[1].expand(16, 1, 2)
            start = torch.randn(16, 2, 2, generator=random.cpu, dtype=torch.float64)
            found = _descend_set(real, start, radius, penalty, steps)
            norms, ratios = found.norm(dim=2), feature_ratio(found)
            rows.append(
                {
                    "case": name,
                    "seed": seed,
                    "ratio_least": float(ratios.min()),
                    "ratio_most": float(ratios.max()),
                    "norm_least": float(norms.min()),
                    "norm_most": float(norms.max()),
                    "difference": float((found[:, 0] - found[:, 1]).norm(dim=1).mean()),
                }
            )
    return rows


def _descend_set(real: Tensor, start: Tensor, radius: float, penalty: float, steps: int) -> Tensor:
    return projected_descent(lambda s: matching_loss(real, s, "set", penalty), start, radius, steps)


def _uniqueness_table(results: Sequence[dict[str, Any]]) -> str:
    rows = [r for r in results if r["part"] == "uniqueness"]
    lines = [
        "",
        "Eq. 8 from 16 random starts, alpha = 1, beta = 4: smallest and largest over starts and data sets",
        "",
        "| case | R(S) | norm of s | norm of s1 - s2 |",
        "| --- | --- | --- | --- |",
    ]
    for case in dict.fromkeys(r["case"] for r in rows):
        own = [r for r in rows if r["case"] == case]
        low, high = min(r["ratio_least"] for r in own), max(r["ratio_most"] for r in own)
        small, large = min(r["norm_least"] for r in own), max(r["norm_most"] for r in own)
        apart = sum(r["difference"] for r in own) / len(own)
        lines.append(f"| {case} | {low:.3f} .. {high:.3f} | {small:.3f} .. {large:.3f} | {apart:.3f} |")
    lines += [
        "",
        "A binding capacity alone makes the solution unique. Without it, any common shift of s1 and s2 is as good, unless the",
        "penalty forbids it: below 1 it fixes the direction (R = 1) and not how s1 and s2 share the difference; above 1 it",
        "makes both points 0, where R means nothing.",
    ]
    return "\n".join(lines)


# ---- the picture


def _draw_gaussians(path: Path, grid: Grid, alphas: Sequence[float], betas: Sequence[float]) -> None:
    """Figure 2 for the smallest alpha and the middle beta; beside it R against beta."""
    alpha, beta = min(alphas), sorted(betas)[len(betas) // 2]
    i = grid.problems.index(Problem(alpha, beta, 0))
    with save_figure(path, columns=2, width=4.5, height=4.0) as (plane, curves):
        active = draw_active(alpha, beta, 4000, Random(0))
        for x, colour, sign, k in zip(active, COLORS[:2], CLASS_SIGNS, range(2), strict=True):
            plane.scatter(x[:400, 0].tolist(), x[:400, 1].tolist(), s=4, alpha=0.25, color=colour, linewidths=0)
            angle = torch.linspace(0, 2 * math.pi, 100)
            circle = (sign * alpha + angle.cos(), beta + angle.sin())
            plane.plot(*(c.tolist() for c in circle), color=colour, linewidth=1, label=f"y = {sign:+.0f}")
            plane.scatter(*grid.means[i, k].tolist(), marker="+", s=60, color=colour)
            for points, style in ((grid.class_wise, "-"), (grid.collective, "--")):
                end = (points[i, k] / points[i, k].norm()).tolist()
                plane.plot([0, end[0]], [0, end[1]], color=colour, linestyle=style, linewidth=2)
        plane.set_title(
            f"alpha = {alpha:g}, beta = {beta:g}; directions found: solid class-wise, dashed collective", fontsize=8
        )
        plane.set_xlabel("discriminative feature")
        plane.set_ylabel("shared feature")
        plane.set_aspect("equal")
        plane.legend(fontsize=7)
        order = sorted(betas)
        for name, points, style in (("class-wise", grid.class_wise, "-"), ("collective", grid.collective, "--")):
            values = [float(grid.ratios(points, alpha, b).mean()) for b in order]
            curves.plot(order, values, style, marker="o", color=COLORS[2 + (style == "--")], label=f"{name}, found")
        curves.plot(order, [alpha / (alpha + b) for b in order], ":", color=GRAY, label="bound of Eq. 7")
        curves.set_xlabel("beta")
        curves.set_ylabel("R(S)")
        curves.set_ylim(0, 1.05)
        curves.legend(fontsize=7)
