"""The benchmarks of gradient matching: speed against plain loops, fine-grained groups, task-incremental streams."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import speed as speed_module
from benchmarks.__main__ import main
from benchmarks.fine_grained import CONTRASTS, Settings, condenser, fine_grained, pools
from benchmarks.fine_grained import table as fine_grained_table
from benchmarks.plain_loops import ROWS, Row
from benchmarks.report.records import read
from benchmarks.speed import Size, check, compare, speed
from benchmarks.task_incremental import NO_CLASS, MultiHead, read_tasks, task_incremental
from ddreplay.objectives import GradientMatching

SIZE = Size((1, 8, 8), classes=3, real=5, syn=2, net="convnet(width=4)", device=torch.device("cpu"))


@pytest.fixture(name="data")
def _data(tmp_path: Path) -> Path:
    """Six classes of 8x8 images, ten training and four test images each."""
    draw = torch.Generator().manual_seed(0)
    patterns = torch.randint(40, 200, (6, 1, 8, 8, 3), generator=draw)
    arrays = {}
    for split, n in (("train", 10), ("test", 4)):
        noise = torch.randint(-40, 40, (6, n, 8, 8, 3), generator=draw)
        arrays[f"{split}_images"] = (patterns + noise).reshape(-1, 8, 8, 3).to(torch.uint8).numpy()
        arrays[f"{split}_labels"] = np.arange(6).repeat(n)
    np.savez(tmp_path / "six.npz", **arrays)
    return tmp_path / "six.npz"


# ---- speed


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_library_equals_the_plain_loop(row: Row) -> None:
    found = check(row, SIZE)
    assert found["difference_float64"] <= 1e-10
    assert found["difference_float32"] <= 1e-3


def test_a_difference_is_an_error() -> None:
    wrong = Row("dc", lambda: GradientMatching("set"), ROWS[0].plain)
    with pytest.raises(ValueError, match="differs from its plain loop"):
        check(wrong, SIZE)


def test_speed_writes_a_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    how: dict[str, Any] = {
        "image": (1, 8, 8),
        "classes": 2,
        "batch_real": 3,
        "images_per_class": 1,
        "net": "convnet(width=4)",
    }
    speed(("dc", "epoch"), **how, repeats=2, device="cpu", out=tmp_path)
    record = read(tmp_path / "speed.json")
    assert record.values("row") == ["dc", "epoch"]
    assert all(len(r["ratios"]) == 2 and r["difference_float64"] <= 1e-10 for r in record.results)
    assert "times as fast" in capsys.readouterr().out
    with pytest.raises(ValueError, match="methods must be among"):
        speed(("adam",), out=tmp_path)


def test_a_step_with_epochs_is_timed_part_by_part_and_trains_the_same_network(tmp_path: Path) -> None:
    how: dict[str, Any] = {"image": (1, 8, 8), "classes": 2, "batch_real": 3, "images_per_class": 20}
    rows = ("dsa and epochs", "dsa and epochs, pieces")
    speed(rows, **how, net="convnet(width=4)", epochs=2, repeats=2, device="cpu", out=tmp_path)
    record = read(tmp_path / "speed.json")
    assert record.values("row") == list(rows)
    for r in record.results:
        assert list(r["parts"]) == ["real", "synthetic", "epochs"]
        assert sum(r["parts"].values()) <= 1.5 * max(r["seconds"])
        assert r["difference_weights"] < 1e-3
    with pytest.raises(ValueError, match="epochs must be at least 1"):
        speed(rows, epochs=0, out=tmp_path)


def test_ratios_are_second_over_first(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = {"first": 2.0, "second": 6.0}
    calls: list[str] = []
    monkeypatch.setattr(speed_module, "_seconds", lambda function, device: costs[function()])
    monkeypatch.setattr(speed_module, "_peak_of", lambda function, device: None)

    def named(name: str) -> Any:
        return lambda: calls.append(name) or name

    found = compare(named("first"), named("second"), 3, torch.device("cpu"))
    assert found["ratios"] == [3.0, 3.0, 3.0]
    assert calls[2:] == ["first", "second", "second", "first", "first", "second"]


# ---- fine-grained


def tiny(data: Path, **more: Any) -> dict[str, Any]:
    base = {
        "group_size": 3,
        "images_per_class": 1,
        "net": "convnet(width=4)",
        "rounds": 1,
        "steps": 2,
        "inner_epochs": 1,
    }
    return {"dataset": str(data), **base, "nets": 2, "epochs": 2, "device": "cpu", **more}


def test_fine_grained_goes_on_where_it_was(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "results"
    fine_grained(**tiny(data), methods=("random", "dcc"), groups=(0,), seeds=1, out=out)
    first = read(next(out.glob("*.json")))
    fine_grained(**tiny(data), methods=("random", "dc", "dcc"), groups=(0, 1), seeds=2, out=out)
    second = read(next(out.glob("*.json")))
    assert second.results[:2] == first.results
    assert len(second.results) == 3 * 2 * 2
    assert len({(r["method"], r["group"], r["seed"]) for r in second.results}) == 12
    assert second.protocol["scale"] == "reduced"
    assert str(tmp_path) not in str(second)
    assert "dcc - dc" in capsys.readouterr().out
    with pytest.raises(ValueError, match="other settings"):
        fine_grained(**tiny(data, rounds=2), groups=(0,), out=out)
    with pytest.raises(ValueError, match="methods must be among"):
        fine_grained(**tiny(data), methods=("mtt",), out=out)
    with pytest.raises(ValueError, match="group 2 of 3 classes is not there: six has 6 classes"):
        fine_grained(**tiny(data), groups=(2,), out=out)


def settings(data: Path, **more: Any) -> Settings:
    rest = {"lr_class": 2.0, "lr_set": 6.0, "lr_net": 0.05, "batch_real": 4, "batch_size": 8, "validation": False}
    return Settings(**{**tiny(data), **rest, **more})


def test_a_group_is_normalised_with_its_own_training_images(data: Path) -> None:
    given = settings(data)
    train, test = pools(given, given.data(), 1)
    assert train.class_ids.tolist() == test.class_ids.tolist() == [3, 4, 5]
    assert (test.mean, test.std) == (train.mean, train.std)
    torch.testing.assert_close(train.all().x.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="group 2"):
        pools(given, given.data(), 2)


def test_validation_never_shows_test_images(data: Path) -> None:
    given = settings(data, validation=True)
    _, test = pools(given, given.data(), 0)
    train_images = settings(data).data().train_images.flatten(1).tolist()
    assert all(image in train_images for image in test._images.flatten(1).tolist())


def test_collective_methods_have_their_own_learning_rate_and_warm_up(data: Path) -> None:
    given = settings(data, rounds=8)
    scopes = {name: repr(condenser(given, name).objective.scope) for name in ("dc", "dcc", "dcc-cold")}  # type: ignore[attr-defined]
    assert scopes == {"dc": "'class'", "dcc": "WarmUp(rounds=2, steps=10)", "dcc-cold": "'set'"}
    own = replace(given, epochs=None)
    names = {method: own.protocol(method).name for method in ("dc", "dsa", "dsac-cold")}
    assert names == {"dc": "dc2021", "dsa": "dm2023", "dsac-cold": "dm2023"}
    assert [own.protocol(method).epochs for method in ("dc", "dsac-cold")] == [300, 1000]
    assert condenser(given, "dsa").optimizer.lr == 2.0  # type: ignore[attr-defined]
    assert condenser(given, "dsac").optimizer.lr == 6.0  # type: ignore[attr-defined]


def test_the_table_pairs_sets_of_the_same_group_and_seed() -> None:
    def result(method: str, group: int, seed: int, accuracy: float) -> dict[str, Any]:
        numbers = {"accuracy": accuracy, "accuracies": [accuracy], "condense_seconds": 1.0, "nbytes": 10}
        return {"method": method, "group": group, "seed": seed, **numbers}

    results = [result("dc", g, 0, 10.0 * g) for g in range(3)] + [result("dcc", g, 0, 10.0 * g + 2) for g in (2, 1, 0)]
    assert CONTRASTS[0] == ("dcc", "dc")
    text = fine_grained_table(results, {"dc": 44.7})
    assert "dcc - dc: 2.0 ± 0.0 over 3 pairs" in text
    assert "44.7" in text


# ---- task-incremental


def test_heads_of_other_tasks_do_not_answer() -> None:
    model = MultiHead(nn.Flatten(), 4, [2, 3])
    x, tasks = torch.randn(5, 4), torch.tensor([0, 1, 0, 1, 1])
    out = model(x, tasks)
    torch.testing.assert_close(out[0, :2], model.heads[0](x[0]))
    torch.testing.assert_close(out[1], model.heads[1](x[1]))
    assert out[0, 2] == out[2, 2] == NO_CLASS
    out[tasks == 0].sum().backward()
    assert model.heads[1].weight.grad is None or not model.heads[1].weight.grad.any()


def test_tasks_have_labels_from_zero_and_the_first_ones_normalisation(data: Path) -> None:
    tasks, mean, std = read_tasks(str(data))
    assert [t.classes for t in tasks] == [2, 2, 2]
    assert all(t.train.y.unique().tolist() == [0, 1] and len(t.test.y) == 8 for t in tasks)
    torch.testing.assert_close(torch.tensor(mean), tasks[0].train.x.double().div(255).mean((0, 2, 3)).float())
    assert len(std) == 3
    two, _, _ = read_tasks(f"{data}+{data}")
    assert [t.classes for t in two] == [6, 6]
    with pytest.raises(ValueError, match="do not divide into 4 tasks"):
        read_tasks(str(data), tasks=4)
    with pytest.raises(ValueError, match="differ in shape"):
        read_tasks(f"{data}+digits")


def test_task_incremental_records_every_memory(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    memories = ("none", "ring", "dsac(rounds=1, loops=(2, 1))")
    how: dict[str, Any] = {"net": "convnet(width=4)", "images_per_class": 2, "epochs": 1, "seeds": 2}
    task_incremental(str(data), memories=memories, **how, out=tmp_path)
    record = read(next(tmp_path.glob("task_incremental*.json")))
    assert record.values("memory") == list(memories) * 2
    for result in record.results:
        assert [len(row) for row in result["accuracies"]] == [1, 2, 3]
        assert result["images"] == (0 if result["memory"] == "none" else 2 * 6)
    ring, dsac = record.results[1], record.results[2]
    assert ring["nbytes"] == dsac["nbytes"]
    assert record.results[0]["accuracies"][0] == ring["accuracies"][0]  # nothing is stored yet: the same network
    assert "dsac - ring at the end" in capsys.readouterr().out


# ---- the command line


@pytest.mark.parametrize(
    "arguments",
    [
        "fine-grained --dataset DATA --group-size 3 --groups 0 1 --images-per-class 1 --methods random --seeds 1 --nets 1 --epochs 1",
        "task-incremental --dataset DATA --memories none ring --images-per-class 1 --epochs 1 --seeds 1",
        "speed --methods epoch --image 1 8 8 --classes 2 --images-per-class 1 --repeats 1",
    ],
    ids=lambda text: text.partition(" ")[0],
)
def test_commands(arguments: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(data) if word == "DATA" else word for word in arguments.split()]
    assert main([*words, "--net", "convnet(width=4)", "--device", "cpu", "--out", str(tmp_path / "out")]) == 0
    assert len(list((tmp_path / "out").glob("*.json"))) == 1
    assert "record: " in capsys.readouterr().out
