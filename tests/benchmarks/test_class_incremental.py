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
from benchmarks.report.records import Record, read
from benchmarks.stream_cells import Cell, Settings, run_cell
from benchmarks.streams import average_accuracy, backward_transfer, class_incremental_stream, forgetting
from ddreplay import Budget, ClassPool, Distiller
from ddreplay.avalanche import CondensedBuffer
from ddreplay.datasets import load
from ddreplay.methods import Practical
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
    assert average_accuracy([None, None, TABLE[2]]) == average_accuracy(TABLE)
    assert forgetting([None, None, TABLE[2]]) is backward_transfer([None, None, TABLE[2]]) is None
    with pytest.raises(ValueError, match="nothing was measured after experience 1"):
        average_accuracy([None, None, TABLE[2]], 1)


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
    fixed = [class_incremental_stream(digits, 5, seed=s, per_class=7, order="fixed") for s in (1, 2)]
    assert fixed[0].order == fixed[1].order == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    assert not torch.equal(*(one.train[0].dataset[0][0] for one in fixed))
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


# ---- resuming

SMALL: dict[str, Any] = {
    "net": "convnet(width=4)", "epochs": 1, "gdumb_steps": 2, "per_class": 6, "workers": 1, "bounds": False, "experiences": 2,
}  # fmt: skip
DM = "dm(steps=2, networks=banked(size=2, trained=2))"
DECIDED = (
    "strategy",
    "memory",
    "seed",
    "images_per_class",
    "bytes_per_class",
    "accuracies",
    "images",
    "nbytes",
    "method",
)


def decided(record: Record) -> list[dict[str, Any]]:
    return [{name: result[name] for name in DECIDED} for result in record.results]


def test_a_run_that_was_killed_goes_on_to_the_same_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    how: dict[str, Any] = {**SMALL, "images_per_class": (1,), "memories": ("ring", DM), "seeds": 2, "augment": True}
    class_incremental(**how, out=tmp_path / "whole")
    ran: list[Cell] = []

    def until_killed(settings: Settings, cache: Path, cell: Cell) -> dict[str, Any]:
        if len(ran) == 3:
            raise KeyboardInterrupt
        ran.append(cell)
        return run_cell(settings, cache, cell)

    monkeypatch.setattr("benchmarks.class_incremental.run_cell", until_killed)
    with pytest.raises(KeyboardInterrupt):
        class_incremental(**how, out=tmp_path / "killed")
    path = tmp_path / "killed" / "class_incremental_digits.json"
    assert len(read(path).results) == 3
    assert {(cell.memory, cell.seed) for cell in ran} >= {("ring", 0), (DM, 0)}  # a seed's pairs come first
    monkeypatch.setattr("benchmarks.class_incremental.run_cell", run_cell)
    class_incremental(**how, out=tmp_path / "killed")
    whole = read(tmp_path / "whole" / "class_incremental_digits.json")
    assert len(whole.results) == 8
    assert decided(read(path)) == decided(whole)


def test_finished_cells_are_not_run_again_and_others_are_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[Cell] = []

    def noted(settings: Settings, cache: Path, cell: Cell) -> dict[str, Any]:
        ran.append(cell)
        return run_cell(settings, cache, cell)

    monkeypatch.setattr("benchmarks.class_incremental.run_cell", noted)
    how: dict[str, Any] = {**SMALL, "out": tmp_path, "name": "mine"}
    class_incremental(images_per_class=(1,), memories=("ring",), strategies=("gdumb",), seeds=1, **how)
    assert ran == [Cell("ring", 0, "gdumb", images_per_class=1)]
    class_incremental(images_per_class=(1, 2), memories=("ring", "herding"), strategies=("gdumb",), seeds=1, **how)
    assert [(cell.memory, cell.images_per_class) for cell in ran[1:]] == [("herding", 1), ("ring", 2), ("herding", 2)]
    class_incremental(bytes_per_class=(500,), memories=("ring",), strategies=("er",), seeds=2, **how)
    record = read(tmp_path / "mine.json")
    assert len(ran) == len(set(ran)) == len(record.results) == 6
    assert record.protocol["condensers"] == {"ring": "random", "herding": "herding(epochs=10)"}
    assert "2 cells run, 4 were in the record" in capsys.readouterr().out


def test_a_record_of_other_settings_is_refused_and_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how: dict[str, Any] = {
        **SMALL,
        "images_per_class": (1,),
        "memories": ("ring",),
        "seeds": 1,
        "strategies": ("gdumb",),
    }
    class_incremental(**how, out=tmp_path)
    path = tmp_path / "class_incremental_digits.json"
    before = path.read_bytes()
    for other in ({"lr": 0.5}, {"only_last": True}, {"order": "fixed"}, {"condense_net": "lenet"}, {"finish_steps": 1}):
        with pytest.raises(ValueError, match=f"another run, with other settings: {next(iter(other))} .*, now .*--out"):
            class_incremental(**{**how, **other}, out=tmp_path)
    monkeypatch.setattr("benchmarks.class_incremental.method_of", lambda settings, cell: "changed")
    with pytest.raises(ValueError, match="the settings or versions that ring condenses with"):
        class_incremental(**how, out=tmp_path)
    assert path.read_bytes() == before


def test_budgets_of_both_kinds_must_differ(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"different numbers, got \[20\]"):
        class_incremental(images_per_class=(20,), bytes_per_class=(20, 500), out=tmp_path)


# ---- cells


def settings(**changed: Any) -> Settings:
    given: dict[str, Any] = {
        "dataset": "digits", "root": None, "download": False, "experiences": 5, "order": "drawn", "net": "convnet(width=4)",
        "condense_net": "convnet(width=4)", "epochs": 1, "batch_size": 8, "lr": 0.05, "gdumb_steps": 20, "gdumb_batch_size": 8,
        "gdumb_lr_to": 0.01, "finish_steps": 0, "update": "after", "crisp": 0.0, "balanced": False, "augment": True,
        "only_last": False, "per_class": 10,
        "validation": False, "codec": None, "device": "cpu", "compile": False,
    }  # fmt: skip
    return Settings(**{**given, **changed})


@pytest.mark.parametrize("strategy", ["gdumb", "joint"])
def test_training_after_the_last_experience_alone_ends_with_the_same_accuracy(strategy: str, tmp_path: Path) -> None:
    memory = Cell(strategy, 0, strategy) if strategy == "joint" else Cell("ring", 0, strategy, images_per_class=3)
    every, last = (run_cell(settings(only_last=only), tmp_path, memory) for only in (False, True))
    assert last["accuracies"][:-1] == [None] * 4
    assert last["accuracies"][-1] == every["accuracies"][-1]
    assert every["average_accuracy"] > 15
    assert (last["images"], last["nbytes"]) == (every["images"], every["nbytes"])
    assert last["forgetting"] is last["backward_transfer"] is None


def test_bytes_are_those_of_the_memory_and_of_what_a_strategy_stores_beside_it(tmp_path: Path) -> None:
    er, dark = (run_cell(settings(), tmp_path, Cell("ring", 0, s, images_per_class=2)) for s in ("er", "derpp"))
    # of every image the outputs of the classes known when it came, then two floats a class and two bytes a name of a class
    outputs = sum(2 * 2 * known for known in (2, 4, 6, 8, 10))
    assert dark["nbytes_beside"] == outputs + 8 * 10 + 2 * 10
    assert dark["nbytes"] == er["nbytes"] + dark["nbytes_beside"]
    assert er["nbytes_beside"] == 0


def test_new_images_pass_the_codec_in_the_first_experience_too(tmp_path: Path) -> None:
    cell = Cell("ring(codec=bits(n=1))", 0, "er", images_per_class=3)
    coded, crisp = (run_cell(settings(crisp=share), tmp_path, cell)["accuracies"][0] for share in (0.0, 1.0))
    assert coded != crisp


def test_a_constant_step_size_of_gdumb_is_what_older_records_say_nothing_of(tmp_path: Path) -> None:
    cell = Cell("ring", 0, "gdumb", images_per_class=3)
    annealed, constant = settings(), settings(gdumb_lr_to=1.0)
    assert run_cell(annealed, tmp_path, cell)["accuracies"] != run_cell(constant, tmp_path, cell)["accuracies"]
    data = annealed.data()
    assert {**constant.deciding(data), "gdumb_lr_to": 0.01} == annealed.deciding(data)


def test_settings_reach_strategies(tmp_path: Path) -> None:
    cell = Cell("ring", 0, "er", images_per_class=3)
    plain = run_cell(settings(), tmp_path, cell)["accuracies"]
    for changed in (
        {"finish_steps": 5},
        {"update": "before"},
        {"balanced": True},
        {"augment": False},
        {"order": "fixed"},
        {"lr": 0.01},
    ):
        assert run_cell(settings(**changed), tmp_path, cell)["accuracies"] != plain
