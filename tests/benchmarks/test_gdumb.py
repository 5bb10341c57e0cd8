"""The protocol of DM, IDM and DDM: class orders, what a memory may see, what a network is tested on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gdumb
from benchmarks.gdumb import SCALES, Cell, Stream, class_order, make_condenser, run_cell, table
from benchmarks.report.records import read
from ddreplay import ClassPool, CondensedSet
from ddreplay.methods import selections

# the released lists of DM's continual learning: the first twelve and the last four classes of every seed
ORDERS = {
    0: ([26, 86, 2, 55, 75, 93, 16, 73, 54, 95, 53, 92], [67, 64, 47, 44]),
    1: ([80, 84, 33, 81, 93, 17, 36, 82, 69, 65, 92, 39], [9, 72, 12, 37]),
    2: ([83, 30, 56, 24, 16, 23, 2, 27, 28, 13, 99, 92], [22, 72, 15, 40]),
    3: ([93, 67, 6, 64, 96, 83, 98, 42, 25, 15, 77, 9], [72, 56, 3, 24]),
    4: ([20, 10, 96, 16, 63, 24, 53, 97, 41, 47, 43, 2], [1, 69, 55, 46]),
}


def stream(**changes: Any) -> Stream:
    scale = replace(SCALES["small"], net="convnet(width=4)", epochs=1, images_per_class=1, **changes)
    return Stream("digits", None, False, 5, scale, "cpu")


@pytest.mark.parametrize("seed", ORDERS)
@pytest.mark.parametrize("steps", [5, 10])
def test_orders_are_those_of_dm(seed: int, steps: int) -> None:
    found = class_order(100, steps, None, seed)
    assert [len(step) for step in found] == [100 // steps] * steps
    flat = [c for step in found for c in step]
    assert flat[:12] == ORDERS[seed][0]
    assert flat[-4:] == ORDERS[seed][1]
    assert sorted(flat) == list(range(100))


def test_too_few_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="steps must be between"):
        class_order(3, 5, None, 0)


def test_a_memory_sees_the_classes_of_its_step_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []
    real = selections.random()

    def spy(pool: ClassPool, images_per_class: int, *, seed: int = 0) -> CondensedSet:
        seen.append(pool.class_ids.tolist())
        return real(pool, images_per_class, seed=seed)

    monkeypatch.setattr(gdumb, "make_condenser", lambda *_: (spy, 1))
    found = run_cell(stream(), Cell("random", 0))
    assert seen == [sorted(step) for step in class_order(10, 5, None, 0)]
    assert found["images"] == [2, 4, 6, 8, 10]
    assert len(found["accuracy"]) == len(found["nbytes"]) == len(found["condense_seconds"]) == 5


def test_a_network_is_tested_on_seen_classes_with_all_outputs_open(monkeypatch: pytest.MonkeyPatch) -> None:
    tested: list[tuple[int, list[int], list[int]]] = []

    def spy(net: Any, test: ClassPool, columns: list[int], **how: object) -> float:
        tested.append((net.classifier.out_features, test.class_ids.tolist(), columns))
        return 0.0

    monkeypatch.setattr(gdumb, "accuracy", spy)
    run_cell(stream(), Cell("random", 1))
    order = class_order(10, 5, None, 1)
    for k, (outputs, classes, columns) in enumerate(tested):
        assert outputs == 10
        assert classes == columns == sorted(c for step in order[: k + 1] for c in step)


def test_tiles_cost_what_whole_images_cost_and_four_times_the_images_four_times_as_much() -> None:
    memories = {
        "dm": "dm(networks=banked(size=1), steps=1)",
        "dm, tiles": "dm(networks=banked(size=1), steps=1, parameterize=partitioned(2))",
    }
    found = {name: run_cell(stream(memories=memories), Cell(name, 0)) for name in ("dm", "dm, tiles", "random x4")}
    assert found["dm"]["nbytes"] == found["dm, tiles"]["nbytes"]
    assert found["dm, tiles"]["images"][-1] == found["random x4"]["images"][-1] == 4 * found["dm"]["images"][-1]
    pixels = 64 * 10
    assert found["random x4"]["nbytes"][-1] - found["dm"]["nbytes"][-1] == 3 * pixels


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("memory", gdumb.MEMORIES)
def test_every_memory_of_every_scale_can_be_made(scale: str, memory: str) -> None:
    where = replace(stream(), scale=SCALES[scale])
    assert callable(make_condenser(memory, where, where.data())[0])


def test_an_unknown_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="method must be one of"):
        make_condenser("nothing", stream(), stream().data())


def test_the_command_writes_a_record_and_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gdumb.gdumb(
        memories=("random",), images_per_class=1, epochs=1, seeds=2, net="convnet(width=4)", workers=1, out=tmp_path
    )
    record = read(tmp_path / "gdumb_digits_5_small.json")
    assert [r["seed"] for r in record.results] == [0, 1]
    assert record.protocol["evaluation"].endswith("1 epochs, batches of 32")
    assert record.protocol["condensers"] == {"random": "random"}
    printed = capsys.readouterr().out
    assert table(record.results, 5, paper=False, protocol=record.protocol["evaluation"]) in printed
    assert "24.8" in table(record.results, 5, paper=True)
    assert "24.8" not in printed
