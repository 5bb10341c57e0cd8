"""The class-incremental benchmark: its metrics, its streams, and one small run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.class_incremental import class_incremental
from benchmarks.memories import memory_condenser
from benchmarks.report.records import read
from benchmarks.streams import average_accuracy, backward_transfer, class_incremental_stream, forgetting
from ddreplay import Budget, ClassPool, Distiller
from ddreplay.avalanche import CondensedBuffer
from ddreplay.datasets import load
from ddreplay.methods import Practical, selections
from ddreplay.randomness import Random
from ddreplay.storage.codecs import webp
from strategies import STRATEGIES

TABLE = [[90.0, 0.0, 0.0], [60.0, 80.0, 0.0], [70.0, 50.0, 95.0]]


def test_metrics_of_a_table_worked_out_by_hand() -> None:
    assert average_accuracy(TABLE) == pytest.approx((70 + 50 + 95) / 3)
    assert average_accuracy(TABLE, 1) == pytest.approx(70)
    assert forgetting(TABLE) == pytest.approx(((90 - 70) + (80 - 50)) / 2)
    assert backward_transfer(TABLE) == pytest.approx(((70 - 90) + (50 - 80)) / 2)
    assert forgetting([[50.0]]) == backward_transfer([[50.0]]) == 0


def test_streams_divide_the_classes_by_seed() -> None:
    digits = load("digits")
    stream = class_incremental_stream(digits, 5, seed=1, per_class=7)
    assert sorted(c for classes in stream.order for c in classes) == list(range(10))
    assert stream.order != class_incremental_stream(digits, 5, seed=2, per_class=7).order
    for experience, classes, test in zip(stream.train, stream.order, stream.test, strict=True):
        labels = [y for _, y, _ in experience.dataset]
        assert sorted(labels) == sorted(classes * 7)
        assert test.class_ids.tolist() == sorted(classes)
    x = torch.stack([x for x, _, _ in stream.train[0].dataset])
    raw = x * torch.tensor(digits.std) + torch.tensor(digits.mean)
    assert float(raw.min()) == pytest.approx(0, abs=1e-5)
    with pytest.raises(ValueError, match="divide"):
        class_incremental_stream(digits, 3, seed=0)


def test_options_of_a_memory_are_read_with_their_brackets() -> None:
    made = memory_condenser("dc(loops=(2, 1), rounds=3)", "convnet(width=8)", "flip")
    assert made.networks.loops(1) == (2, 1)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="an option of dm"):
        memory_condenser("dm(speed=1)", "convnet(width=8)", "flip")


def test_small_images_are_not_cut_into_tiles(toy_pool: Callable[..., ClassPool]) -> None:
    def tiles(name: str, side: int) -> int:
        made = memory_condenser(name, "convnet(width=8)", "flip")
        assert isinstance(made, Distiller)
        form = made.parameterize(toy_pool(shape=(1, side, side)), 1, Random(0))
        return form.per_class // form.stored_per_class

    for name in ("idm", "ncfm", "idc", "dream"):
        assert (tiles(name, 8), tiles(name, 16)) == (1, 4)
    assert tiles("idm(parameterize=partitioned(2))", 8) == 4
    assert tiles("dm", 32) == 1


def test_the_default_memory_is_the_one_of_the_buffer() -> None:
    made = memory_condenser("default", "convnet(width=8)", "flip", "webp", compile=True)
    buffer = CondensedBuffer(bytes_per_class=500).condenser
    assert isinstance(made, Practical)
    assert isinstance(buffer, Practical)
    pool, budget = load("digits").pool("train", device="cpu"), Budget.bytes(500)
    ours, theirs = made.method(pool, budget), buffer.method(pool, budget)
    assert (ours.choose, ours.steps, ours.optimizer) == (theirs.choose, theirs.steps, theirs.optimizer)
    assert (made.codec, buffer.codec, ours.compile) == (webp(), None, True)


def test_strategies_share_a_memory() -> None:
    pool = load("digits").pool("train", device="cpu")
    shared = Shared(selections.random())
    assert shared(pool, 1, seed=0) is shared(pool, 1, seed=0)
    assert shared(pool, 1, seed=1) is not shared(pool, 1, seed=0)


def test_a_small_run_writes_its_record_and_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class_incremental(
        images_per_class=(1,),
        memories=("ring", "dm(steps=2, networks=banked(size=1))"),
        seeds=2,
        net="convnet(width=8)",
        epochs=1,
        gdumb_steps=2,
        per_class=10,
        workers=1,
        out=tmp_path,
    )
    said = capsys.readouterr().out
    record = read(tmp_path / "class_incremental_digits.json")
    assert len(record.results) == 2 * (2 + 2 * 2)
    assert {r["strategy"] for r in record.results} == {"gdumb", "er", "finetuning", "joint"}
    ring, made = (
        [r for r in record.results if r["memory"] == m] for m in ("ring", "dm(steps=2, networks=banked(size=1))")
    )
    assert {r["images"] for r in ring} == {r["images"] for r in made} == {10}
    assert {r["nbytes"] for r in ring} == {r["nbytes"] for r in made}
    assert all(len(r["accuracies"]) == 5 for r in record.results)
    assert (tmp_path / "class_incremental_digits.png").stat().st_size > 1000
    assert "finetuning" in said
    assert "95 % interval over 2 seeds" in said


def test_every_strategy_of_the_table_runs_and_those_without_a_memory_once(tmp_path: Path) -> None:
    how: dict[str, Any] = {"seeds": 1, "net": "convnet(width=4)", "epochs": 1, "gdumb_steps": 1, "per_class": 4}
    class_incremental(
        images_per_class=(1, 2), memories=("ring",), strategies=tuple(STRATEGIES), workers=1, **how, out=tmp_path
    )
    ran = Counter(r["strategy"] for r in read(tmp_path / "class_incremental_digits.json").results)
    assert ran == {name: 2 if strategy.has_memory else 1 for name, strategy in STRATEGIES.items()}


def test_wrong_arguments_stop_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="strategies"):
        class_incremental(strategies=("lwf",), out=tmp_path)
    with pytest.raises(ValueError, match="method must be one of"):
        class_incremental(memories=("magic",), out=tmp_path)
    assert list(tmp_path.iterdir()) == []
