"""Analysis: each measure against loops in float64, and against cases whose answer is known."""

from __future__ import annotations

import copy
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmarks.analysis import (
    KernelVelocity,
    alignment,
    cka_matrix,
    cka_picture,
    consistency_ratio,
    cross_architecture,
    cross_architecture_table,
    image_kernel,
    intra_class_diversity,
    kernel_distance,
    layer_outputs,
    linear_cka,
    ntk,
    parameter_jacobian,
    projected_ntk,
    style_distance,
    style_statistics,
    tsne,
    tsne_picture,
    uniformity,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tiny_net(norm: nn.Module | None = None) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            norm or nn.GroupNorm(4, 4),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(4 * 4 * 4, 3),
        ).double()


def loop_jacobian(net: nn.Module, x: Tensor) -> Tensor:
    rows = []
    for image in x:
        out = net(image[None])[0]
        grads = [torch.autograd.grad(o, list(net.parameters()), retain_graph=True) for o in out]
        rows.append(torch.stack([torch.cat([g.flatten() for g in grad]) for grad in grads]))
    return torch.stack(rows)


# ---- neural tangent kernel


@pytest.mark.parametrize("norm", [nn.GroupNorm(4, 4), nn.InstanceNorm2d(4, affine=True)], ids=["group", "instance"])
def test_ntk_is_the_gram_matrix_of_the_loop_jacobian(norm: nn.Module) -> None:
    net, x = tiny_net(norm), normal(5, 1, 8, 8)
    expected = loop_jacobian(net, x)
    torch.testing.assert_close(parameter_jacobian(net, x, chunk=2), expected)
    full, trace = torch.zeros(15, 15, dtype=x.dtype), torch.zeros(5, 5, dtype=x.dtype)
    for i in range(5):
        for j in range(5):
            for o in range(3):
                trace[i, j] += expected[i, o] @ expected[j, o]
                for p in range(3):
                    full[3 * i + o, 3 * j + p] = expected[i, o] @ expected[j, p]
    torch.testing.assert_close(ntk(net, x, chunk=2), full)
    torch.testing.assert_close(ntk(net, x, outputs="trace"), trace)


def test_ntk_of_a_linear_model_is_the_gram_matrix_and_has_no_velocity() -> None:
    net, x = nn.Linear(6, 3, bias=False).double(), normal(7, 6)
    gram = x @ x.T
    torch.testing.assert_close(ntk(net, x), torch.kron(gram, torch.eye(3, dtype=x.dtype)))
    torch.testing.assert_close(ntk(net, x, outputs="trace"), 3 * gram)
    velocity, optimizer = KernelVelocity(), torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(4):
        velocity.observe(ntk(net, x))
        optimizer.zero_grad()
        net(x).square().sum().backward()
        optimizer.step()
    assert velocity.velocities == pytest.approx([0.0] * 3, abs=1e-12)


def test_the_kernel_of_a_trained_network_moves_and_the_observer_divides_by_the_interval() -> None:
    net, x = tiny_net(), normal(6, 1, 8, 8)
    before = copy.deepcopy(net)
    torch.optim.SGD(net.parameters(), lr=0.1).step(lambda: _backward(net, x))
    distance = float(kernel_distance(ntk(before, x), ntk(net, x)))
    assert 1e-6 < distance < 1
    velocity = KernelVelocity(interval=10.0)
    assert velocity.observe(ntk(before, x)) is None
    assert velocity.observe(ntk(net, x)) == pytest.approx(distance / 10)


def _backward(net: nn.Module, x: Tensor) -> float:
    loss = nn.functional.cross_entropy(net(x), torch.arange(len(x)) % 3)
    loss.backward()
    return loss.item()


def test_kernel_distance_by_loops_and_at_known_angles() -> None:
    a, b = normal(4, 4), normal(4, 4, seed=1)
    a, b = a @ a.T, b @ b.T
    dot = sum(float(a[i, j] * b[i, j]) for i in range(4) for j in range(4))
    norms = [math.sqrt(sum(float(k[i, j]) ** 2 for i in range(4) for j in range(4))) for k in (a, b)]
    assert float(kernel_distance(a, b)) == pytest.approx(1 - dot / norms[0] / norms[1])
    assert float(kernel_distance(a, 7 * a)) == pytest.approx(0, abs=1e-15)
    one, other = torch.diag(torch.tensor([1.0, 0.0])), torch.diag(torch.tensor([0.0, 2.0]))
    assert float(kernel_distance(one, other)) == pytest.approx(1)
    with pytest.raises(ValueError, match="zeros"):
        kernel_distance(a, torch.zeros_like(a))


def test_projected_ntk_converges_to_the_exact_kernel() -> None:
    net, x = tiny_net(), normal(4, 1, 8, 8)
    exact = ntk(net, x)
    predicted = exact.diag().outer(exact.diag()) + exact.square()  # m times the variance of an entry
    for directions in (64, 1024):
        error = (projected_ntk(net, x, directions=directions) - exact).square().sum()
        assert 0.2 < float(error / (predicted.sum() / directions)) < 3
    close = projected_ntk(net, x, directions=1024, outputs="trace")
    assert float(kernel_distance(close, ntk(net, x, outputs="trace"))) < 0.01
    assert torch.equal(projected_ntk(net, x, directions=3), projected_ntk(net, x, directions=3))
    assert not torch.equal(projected_ntk(net, x, directions=3), projected_ntk(net, x, directions=3, seed=1))


def test_looking_at_a_kernel_changes_neither_the_network_nor_the_callers_random_state() -> None:
    net, x = tiny_net(nn.BatchNorm2d(4)), normal(3, 1, 8, 8)
    state, rng = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    with pytest.raises(ValueError, match="normalises over the batch"):
        ntk(net, x)
    projected_ntk(net, x, directions=2)
    torch.testing.assert_close(ntk(net.eval(), x), _gram(loop_jacobian(net, x)))
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert torch.equal(rng, torch.get_rng_state())


def _gram(jacobian: Tensor) -> Tensor:
    return jacobian.flatten(0, 1) @ jacobian.flatten(0, 1).T


def test_image_kernel_is_the_gram_matrix_of_the_gradient_by_image() -> None:
    net, x, target = tiny_net(), normal(3, 1, 8, 8), normal(3)
    kernel = image_kernel(lambda images: (net(images).mean(0) - target).square().sum(), x)
    leaves = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((net(leaves).mean(0) - target).square().sum(), leaves)
    expected = torch.stack([torch.stack([(a * b).sum() for b in gradient]) for a in gradient])
    torch.testing.assert_close(kernel, expected)
    assert not x.requires_grad


# ---- features


def test_alignment_and_uniformity_by_loops() -> None:
    features, labels = normal(9, 5), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 5])
    z = [f / f.square().sum().sqrt() for f in features]
    pairs = [(i, j) for i in range(9) for j in range(i + 1, 9)]
    squares = {(i, j): float((z[i] - z[j]).square().sum()) for i, j in pairs}
    same = [squares[i, j] for i, j in pairs if labels[i] == labels[j]]
    assert float(alignment(features, labels)) == pytest.approx(sum(same) / len(same))
    assert float(alignment(features, labels, power=1.0)) == pytest.approx(sum(math.sqrt(s) for s in same) / len(same))
    mean = sum(math.exp(-2 * s) for s in squares.values()) / len(squares)
    assert float(uniformity(features)) == pytest.approx(math.log(mean))


def test_alignment_and_uniformity_of_known_points() -> None:
    same = torch.ones(4, 3, dtype=torch.float64)
    assert float(uniformity(same)) == pytest.approx(0, abs=1e-12)
    assert float(alignment(same, torch.zeros(4, dtype=torch.int64))) == pytest.approx(0, abs=1e-12)
    poles = torch.tensor([[5.0, 0.0], [-0.1, 0.0]], dtype=torch.float64)
    assert float(uniformity(poles)) == pytest.approx(-8)
    assert float(alignment(poles, torch.zeros(2, dtype=torch.int64))) == pytest.approx(4)
    with pytest.raises(ValueError, match="at least two images"):
        alignment(poles, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="at least two images, got 1"):
        uniformity(poles[:1])


def test_intra_class_diversity_by_loops() -> None:
    features, labels = normal(7, 4), torch.tensor([9, 2, 9, 2, 2, 9, 4])
    found = intra_class_diversity(features, labels)
    for row, k in enumerate([2, 4, 9]):
        own = [f for f, y in zip(features, labels, strict=True) if y == k]
        distances = [float((a - b).norm()) for i, a in enumerate(own) for b in own[i + 1 :]]
        expected = sum(distances) / len(distances) if distances else math.nan
        assert float(found[row]) == pytest.approx(expected, nan_ok=True)


def test_style_by_loops() -> None:
    real, syn = normal(4, 3, 5, 5), 2 * normal(6, 3, 4, 4, seed=1) + 1

    def statistics(maps: Tensor) -> Tensor:
        rows = []
        for image in maps:
            means = [channel.sum() / channel.numel() for channel in image]
            stds = [((c - m).square().sum() / c.numel()).sqrt() for c, m in zip(image, means, strict=True)]
            rows.append(torch.stack(means + stds))
        return torch.stack(rows)

    torch.testing.assert_close(style_statistics(real), statistics(real))
    difference = statistics(real).mean(0) - statistics(syn).mean(0)
    torch.testing.assert_close(style_distance(real, syn), difference.square().sum().sqrt())
    assert float(style_distance(real, real.roll((1, 2), (2, 3)))) == pytest.approx(0, abs=1e-12)
    assert float(style_distance(real, real + 1)) == pytest.approx(math.sqrt(3))


def test_tsne_separates_far_clusters_and_repeats(tmp_path: Path) -> None:
    far = torch.cat([normal(12, 6), normal(12, 6, seed=1) + 50])
    points = tsne(far, perplexity=5.0)
    assert torch.equal(points, tsne(far, perplexity=5.0))
    between = (points[:12].mean(0) - points[12:].mean(0)).norm()
    within = max(float((p - p.mean(0)).norm(dim=1).max()) for p in (points[:12], points[12:]))
    assert within < float(between)
    with pytest.raises(ValueError, match="perplexity"):
        tsne(far, perplexity=24.0)
    path = tsne_picture(tmp_path / "new" / "tsne.png", {"real": far[:12], "condensed": far[12:]}, perplexity=5.0)
    assert path.read_bytes().startswith(b"\x89PNG")


# ---- centred kernel alignment


def test_linear_cka_by_loops() -> None:
    x, y = normal(6, 4), normal(6, 9, seed=1) ** 2
    n = 6
    h = torch.eye(n, dtype=x.dtype) - 1 / n
    k, l = h @ (x @ x.T) @ h, h @ (y @ y.T) @ h

    def hsic(a: Tensor, b: Tensor) -> float:
        return sum(float(a[i, j] * b[i, j]) for i in range(n) for j in range(n)) / (n - 1) ** 2

    assert float(linear_cka(x, y)) == pytest.approx(hsic(k, l) / math.sqrt(hsic(k, k) * hsic(l, l)))


def test_linear_cka_of_known_cases() -> None:
    x = normal(20, 5)
    rotation = torch.linalg.qr(normal(5, 5, seed=1)).Q
    assert float(linear_cka(x, 3 * x @ rotation + 7)) == pytest.approx(1)
    assert float(linear_cka(x, x @ normal(5, 5, seed=2))) < 0.99  # a general linear map is no isometry
    ramp = torch.arange(8, dtype=torch.float64)[:, None]
    assert float(linear_cka(ramp, (ramp - 3.5).square())) == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="same features"):
        linear_cka(x, x[:1].expand(20, 5) / 3)


def test_cka_of_two_networks_layer_by_layer(tmp_path: Path) -> None:
    net, other, x = tiny_net(), tiny_net(nn.BatchNorm2d(4)).train(), normal(9, 1, 8, 8)
    mine, theirs = layer_outputs(net, x, ["0", "3", "5"], chunk=4), layer_outputs(other, x, ["1", "5"], chunk=4)
    torch.testing.assert_close(mine["0"], net[0](x))
    torch.testing.assert_close(mine["5"], net(x))
    assert other.training
    assert torch.equal(other[1].running_mean, torch.zeros(4, dtype=x.dtype))
    matrix = cka_matrix(mine, theirs)
    for i, a in enumerate(mine.values()):
        for j, b in enumerate(theirs.values()):
            torch.testing.assert_close(matrix[i, j], linear_cka(a.flatten(1), b.flatten(1)))
    torch.testing.assert_close(cka_matrix(mine, mine).diag(), torch.ones(3, dtype=x.dtype))
    path = cka_picture(tmp_path / "cka.png", matrix, rows=list(mine), columns=list(theirs), title="tiny")
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="not in the network"):
        layer_outputs(net, x, ["conv9"])


# ---- consistency and transfer


def test_consistency_ratio_by_loops() -> None:
    real, real_labels = normal(30, 4), torch.arange(30) % 3
    syn, syn_labels = normal(7, 4, seed=1), torch.arange(7) % 3
    found = consistency_ratio(syn, syn_labels, real, real_labels, neighbours=(1, 4, 30), chunk=3)
    for k, ratio in zip((1, 4, 30), found, strict=True):
        shares = []
        for s, label in zip(syn, syn_labels, strict=True):
            nearest = sorted(range(30), key=lambda i: float((real[i] - s).square().sum()))[:k]
            shares.append(sum(int(real_labels[i] == label) for i in nearest) / k)
        assert float(ratio) == pytest.approx(sum(shares) / 7)
    assert float(found[2]) == pytest.approx(1 / 3)


def test_consistency_ratio_of_separated_classes() -> None:
    labels = torch.arange(12) % 2
    real = normal(12, 3) + 100 * labels[:, None]
    own = consistency_ratio(real, labels, real, labels, neighbours=[1, 6])
    swapped = consistency_ratio(real, 1 - labels, real, labels, neighbours=[1, 6])
    assert own.tolist() == [1.0, 1.0]
    assert swapped.tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="neighbours"):
        consistency_ratio(real, labels, real, labels, neighbours=[13])


@dataclass(frozen=True)
class Evaluated:
    mean: float
    std: float


def test_cross_architecture_evaluates_every_network_once_and_draws_the_table() -> None:
    seen = []

    def evaluate(condensed: str, test: str, net: float, *, seeds: int) -> Evaluated:
        seen.append((condensed, test, net, seeds))
        return Evaluated(net, 0.01)

    row = cross_architecture("set", "test", {"ConvNet": 0.616, "ResNet": 0.273}, evaluate=evaluate, seeds=2)
    assert seen == [("set", "test", 0.616, 2), ("set", "test", 0.273, 2)]
    table = cross_architecture_table({"DCC": row, "DC": {"VGG": Evaluated(0.4, 0.002)}}).splitlines()
    assert table == [
        "| method | ConvNet | ResNet | VGG |",
        "| --- | --- | --- | --- |",
        "| DCC | 61.6 ± 1.0 | 27.3 ± 1.0 | - |",
        "| DC | - | - | 40.0 ± 0.2 |",
    ]


def test_the_package_imports_light() -> None:
    code = "import sys, benchmarks.analysis; print([m for m in ('sklearn', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
