"""The benchmarks that look inside: analyses and precision."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import precision as bench
from benchmarks.analyses import MEASURES, Watched, analyses
from benchmarks.precision import WAYS, precision, running
from ddreplay import ClassPool, ConvNet, methods
from ddreplay.parameterize import Pixels


def test_watching_changes_nothing_and_sees_every_network(toy_pool: Callable[..., ClassPool]) -> None:
    seen: list[nn.Module] = []
    method = methods.dc(ConvNet(width=4), rounds=2, loops=(2, 1), batch_real=4, parameterize=Pixels())
    watched = replace(method, networks=Watched(method.networks, seen.append))
    assert torch.equal(method(toy_pool(), 1).images().x, watched(toy_pool(), 1).images().x)
    assert len(seen) == 4
    assert len({id(net) for net in seen}) == 2


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
        assert set(MEASURES) <= set(r)
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
    with pytest.raises(ValueError, match="ways among"):
        precision(method="mtt")


def test_the_table_of_precision_compares_with_the_first_way() -> None:
    results = [
        {"way": way, "seed": seed, "accuracy": a + seed, "condense_seconds": s, "evaluate_seconds": s}
        for way, a, s in (("float32", 50.0, 4.0), ("bfloat16", 49.0, 2.0))
        for seed in (0, 1, 2)
    ]
    line = next(line for line in bench.table(results).splitlines() if line.startswith("bfloat16"))
    assert "-1.0 ± 0.0" in line
    assert line.count("2.0") >= 4
