"""The benchmarks that look inside: analyses and precision."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks import precision as bench
from benchmarks.analyses import MEASURES, analyses, watched
from benchmarks.analysis import Watched, WatchedTerm
from benchmarks.image_gradients import WAYS as GRADIENT_WAYS
from benchmarks.image_gradients import cosine, relative_error
from benchmarks.precision import WAYS, precision, running
from ddreplay import ClassPool, ConvNet, methods
from ddreplay.condense.optimizer import SGD
from ddreplay.parameterize import Pixels
from ddreplay.storage.codecs import float32


def test_watching_changes_nothing_and_sees_every_network_and_step(toy_pool: Callable[..., ClassPool]) -> None:
    networks: list[nn.Module] = []
    kernels: list[Tensor] = []
    for method in (
        methods.dc(ConvNet(width=4), rounds=2, loops=(2, 1), batch_real=4, parameterize=Pixels()),
        methods.dsac(ConvNet(width=4), rounds=2, loops=(2, 1), batch_real=4),
    ):
        networks.clear()
        kernels.clear()
        watching = {
            "networks": Watched(method.networks, networks.append),
            "objective": WatchedTerm(method.objective, kernels.append),
        }
        seen = replace(method, **watching)(toy_pool(), 2)
        assert torch.equal(method(toy_pool(), 2).images().x, seen.images().x)
        assert len(networks) == len(kernels) == 4
        assert len({id(net) for net in networks}) == 2
        assert {kernel.shape for kernel in kernels} == {(6, 6)}


def test_the_kernel_that_is_watched_is_that_of_the_step(toy_pool: Callable[..., ClassPool]) -> None:
    """Plain gradient descent moves every image by the gradient whose Gram matrix is the kernel."""
    kernels: list[Tensor] = []
    method = methods.dc(ConvNet(width=4), rounds=1, loops=(2, 1), batch_real=4, parameterize=Pixels())
    how: dict[str, Any] = {"optimizer": SGD(lr=0.5, momentum=0.0), "codec": float32()}
    how |= {"objective": WatchedTerm(method.objective, kernels.append)}
    start, end = (replace(method, steps=steps, **how)(toy_pool(), 2).images().x for steps in (1, 2))
    moved = ((start - end) / 0.5).flatten(1)
    torch.testing.assert_close(kernels[-1], moved @ moved.T, rtol=1e-3, atol=1e-6)


def test_methods_that_match_no_gradients_have_no_velocity(toy_pool: Callable[..., ClassPool]) -> None:
    pool = toy_pool()
    for method in (methods.dm(ConvNet(width=4), steps=2), methods.selections.random()):
        assert watched(method, pool) == (method, None)
    made, seen = watched(methods.dcc(ConvNet(width=4), rounds=1, loops=(3, 1), batch_real=4), pool)
    assert seen is not None
    made(pool, 1)
    assert len(seen.images.velocities) == len(seen.weights.velocities) == 2
    assert seen.images.velocities != seen.weights.velocities
    assert all(0 <= v <= 1 for v in seen.images.velocities)


def test_analyses_of_a_small_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    how: dict[str, Any] = {"net": "convnet(width=4)", "networks": 1, "seeds": 2, "epochs": 1, "reference_epochs": 1}
    how |= {"train_per_class": 20, "test_per_class": 4, "architectures": ("mlp",), "out": tmp_path}
    analyses(methods=("random", "dc(rounds=1, loops=(3, 1))"), images_per_class=2, **how)
    results = json.loads((tmp_path / "analyses_digits.json").read_text())["results"]
    measured = [r for r in results if "seed" in r]
    assert len(measured) == 4
    for r in measured:
        assert 0 <= r["CKA"] <= 1
        assert 0 <= r["consistency"] <= 100
        assert r["alignment"] >= 0 >= r["uniformity"]
        assert r["style distance"] > 1e-3  # where an instance norm has no style left it is nothing
        assert set(MEASURES) <= set(r)
    (turned,) = [r for r in results if "image_kernel_velocities" in r]
    assert turned["method"] == "dc(rounds=1, loops=(3, 1))"
    assert len(turned["image_kernel_velocities"]) == len(turned["weight_kernel_velocities"]) == 2
    assert [list(r["architectures"]) for r in results if "architectures" in r] == [["mlp"]] * 2
    pictures = {path.name for path in tmp_path.glob("*.png")}
    assert pictures == {"cka_random.png", "cka_dc.png", "analyses_digits_tsne.png", "analyses_digits_velocity.png"}
    assert "| mlp |" in capsys.readouterr().out
    with pytest.raises(ValueError, match="2 or more"):
        analyses(images_per_class=1)


def test_every_way_of_running_is_what_its_name_says() -> None:
    for way in WAYS:
        net, compile = running(way, 8)
        made = net((3, 16, 16), 2)  # type: ignore[call-arg, operator, arg-type]
        assert compile == way.endswith("compiled")
        kernel = made.blocks[0].conv.weight  # type: ignore[union-attr, index]
        assert kernel.is_contiguous(memory_format=torch.channels_last) == ("channels" in way)
        assert ("Autocast" in type(made.blocks).__name__) == way.startswith("bfloat16")


@pytest.mark.parametrize("method", ["dm", "dsac"])
def test_precision_of_a_small_run(method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    how: dict[str, Any] = {"images_per_class": 1, "width": 4, "steps": 2, "bank": 1, "epochs": 1, "seeds": 1}
    ways = ("float32", "float32, channels last", "bfloat16")
    precision(method=method, ways=ways, train_per_class=8, test_per_class=3, out=tmp_path, **how)
    results = json.loads((tmp_path / f"precision_digits_{method}.json").read_text())["results"]
    assert [(r["way"], r["seed"]) for r in results] == [(way, seed) for seed in (0, 1) for way in ways]
    rows = capsys.readouterr().out
    assert all(way in rows for way in ways)
    with pytest.raises(ValueError, match="method must be among dm, dsac, got 'mtt'"):
        precision(method="mtt")


def test_the_errors_of_image_gradients(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    how: dict[str, Any] = {"width": 4, "images_per_class": 2, "train_per_class": 100, "test_per_class": 2}
    precision(gradients=("dc", "dsac", "dm"), ages=(0, 1), seeds=2, **how, out=tmp_path)
    results = json.loads((tmp_path / "precision_digits_gradients.json").read_text())["results"]
    assert len(results) == 3 * len(GRADIENT_WAYS) * 2 * 2
    other = [r for r in results if r["way"] == "float32, other real images"]
    assert len(other) == 3 * 2 * 2
    assert all(r["relative_error"] > 0.02 for r in other)
    for r in (r for r in results if r not in other):
        assert r["cosine"] > 0.5
        if r["way"] == "float32, plain loop":
            assert r["relative_error"] < 0.02
        if r["way"] == "bfloat16, plain loop":
            assert r["relative_error"] > 0.001
    said = capsys.readouterr().out
    assert "error %, 1 epochs trained" in said
    with pytest.raises(ValueError, match="gradients must be among"):
        precision(gradients=("mtt",))
    with pytest.raises(ValueError, match="lower batch_real"):
        precision(gradients=("dc",), **{**how, "train_per_class": 10})


def test_errors_of_a_gradient_by_hand() -> None:
    wanted, found = torch.tensor([3.0, 4.0], dtype=torch.float64), torch.tensor([3.0, 0.0])
    assert relative_error(found, wanted) == pytest.approx(4 / 5)
    assert cosine(found, wanted) == pytest.approx(3 / 5)


def test_the_table_of_precision_compares_with_the_first_way() -> None:
    results = [
        {"way": way, "seed": seed, "accuracy": a + seed, "condense_seconds": s, "evaluate_seconds": s}
        for way, a, s in (("float32", 50.0, 4.0), ("bfloat16", 49.0, 2.0))
        for seed in (0, 1, 2)
    ]
    line = next(line for line in bench.table(results).splitlines() if line.startswith("bfloat16"))
    assert "-1.0 ± 0.0" in line
    assert line.count("2.0") >= 4
