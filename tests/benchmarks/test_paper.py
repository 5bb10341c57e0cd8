"""Rows of the papers: their settings by data set and budget, one small run that is interrupted and goes on, states from records."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import paper as command
from benchmarks.paper import paper
from benchmarks.papers import settings
from benchmarks.papers.index import INDEX, RECORDS, entry, every_record, of_entry, of_row
from benchmarks.papers.published import Row, published, rows_of
from benchmarks.papers.report import difference
from benchmarks.papers.running import Run
from benchmarks.papers.settings import NotRun, Scale, setting
from benchmarks.report.records import read
from ddreplay import Distiller, names
from ddreplay.augment import NATURAL, Identity, Siamese
from ddreplay.methods import Whitened
from ddreplay.networks import ModelQueue


def row(table: str, dataset: str, count: int, method: str, **more: str) -> Row:
    (found,) = rows_of(table, datasets=[dataset], images_per_class=[count], methods=[method])[:1]
    return replace(found, **more) if more else found  # type: ignore[arg-type]


def full(*which: Any) -> Distiller:
    made = names.condenser(setting(row(*which), "full").condenser)
    inner = made.condenser if isinstance(made, Whitened) else made
    assert isinstance(inner, Distiller)
    return inner


@pytest.mark.parametrize("scale", ["full", "small"])
def test_every_row_that_can_be_run_is_a_condenser_a_network_and_a_protocol(scale: Scale) -> None:
    run, not_run = 0, set()
    for one in published():
        try:
            how = setting(one, scale)
        except NotRun as error:
            not_run.add(str(error))
            continue
        names.condenser(how.condenser, net=how.net)
        names.network(how.test_net)
        run += 1
    assert run > 350
    assert any(why.startswith("its published scores") for why in not_run)


def test_settings_follow_the_data_and_the_budget() -> None:
    table = "dcc:table2"
    assert [full(table, "cifar10", n, "dcc").networks.loops(n) for n in (1, 10, 50)] == [(10, 5), (10, 50), (50, 10)]  # type: ignore[attr-defined]
    assert full(table, "svhn", 1, "dc").networks.loops(1) == (10, 5)  # type: ignore[attr-defined]  # DCC's own code
    assert full("mim4dd:table1", "cifar10", 1, "dc").networks.loops(1) == (1, 1)  # type: ignore[attr-defined]  # the code of DC
    assert setting(row(table, "cifar100", 1, "dcc"), "full").normalization == "cifar100:dcc"
    assert setting(row("idm:table1", "cifar100", 1, "idm"), "full").normalization == "cifar100"
    weights = [full("idm:table1", "cifar10", n, "idm").objective.weights[1] for n in (1, 10, 50)]  # type: ignore[attr-defined]
    assert weights == [0.5, 0.5, 0.1]
    queue = full("idm:table1", "cifar100", 10, "idm").networks
    assert isinstance(queue, ModelQueue)
    assert queue.train_steps == 50
    assert setting(row("idm:table1", "tinyimagenet", 1, "idm"), "full").net == "convnet(depth=3)"
    assert isinstance(names.condenser(setting(row("mim4dd:table1", "cifar10", 10, "mtt"), "full").condenser), Whitened)
    assert not setting(row("mim4dd:table1", "cifar10", 50, "mtt"), "full").condenser.startswith("whitened")


def test_each_method_is_trained_on_as_its_own_paper_does() -> None:
    found = {
        m: setting(row("mim4dd:table1", "cifar10", 10, m), "full").protocol.name for m in ("dc", "dsa", "mtt", "dream")
    }
    assert found == {"dc": "dc2021", "dsa": "dm2023", "mtt": "mtt2022", "dream": "idc2022"}
    small = {m: setting(row("dcc:table2", "cifar10", 10, m), "small").protocol.epochs for m in ("dcc", "dsac")}
    assert small == {"dcc": 60, "dsac": 200}
    assert setting(row("dcc:table2", "cifar10", 10, "dcc"), "full").networks == 20


def test_cafe_augments_where_the_row_says_so_and_frepo_is_whitened_and_trained_on_by_regression() -> None:
    table = "mim4dd:table1"
    augmented, plain = (setting(row("idm:table1", "cifar10", 10, m), "full") for m in ("cafe+dsa", "cafe"))
    assert augmented.protocol.name == "dm2023"
    assert names.condenser(augmented.condenser, augment=NATURAL).augment == Siamese(NATURAL)  # type: ignore[attr-defined]
    assert plain.protocol.name == "dc2021, 600 epochs"
    assert names.condenser(plain.condenser, augment=NATURAL).augment == Identity()  # type: ignore[attr-defined]
    frepo = setting(row(table, "cifar10", 10, "frepo"), "full")
    assert (frepo.protocol.name, frepo.condenser.startswith("whitened(frepo(")) == ("frepo2022", True)
    assert not setting(row(table, "mnist", 10, "frepo"), "full").condenser.startswith("whitened")
    assert "flip_rotate" in setting(row(table, "cifar10", 10, "bptt"), "full").condenser


def test_the_rows_of_ddms_code_name_its_terms() -> None:
    found = {
        (r.dataset, r.images_per_class, r.variant): setting(r, "full") for r in rows_of("ddm:code", methods=["ddm"])
    }
    assert len(found) == 5
    both, style = found["cifar100", 10, "moments, diversity"], found["cifar100", 10, "moments"]
    assert "moments=10000.0, gram=0.0, diversity=10.0" in both.condenser
    assert "moments=10000.0, gram=0.0, diversity=0.0" in style.condenser
    assert (style.normalization, style.protocol.name) == ("cifar100", "dm2023")
    assert found["tinyimagenet", 10, "moments"].net == "convnet(depth=4)"


def test_numbers_of_real_images_that_are_of_all_classes_together_are_shared_by_them() -> None:
    real = {
        (table, m, d): names.condenser(setting(row(table, d, 1, m), "full").condenser)
        for table, m in (("mim4dd:table1", "frepo"), ("dcc:table2", "kip"))
        for d in ("cifar10", "cifar100")
    }
    found = {key[1:]: getattr(made, "condenser", made).batch_real for key, made in real.items()}
    assert found == {
        ("frepo", "cifar10"): 102,
        ("frepo", "cifar100"): 10,
        ("kip", "cifar10"): 500,
        ("kip", "cifar100"): 50,
    }


def test_variants_change_what_they_say() -> None:
    cold = next(r for r in rows_of("dcc:table4") if r.variant == "no warm-up")
    assert "scope=set" in setting(cold, "full").condenser.replace("'", "")
    steps = {r.variant: setting(r, "full").condenser for r in rows_of("idm:table2", datasets=["cifar100"])}
    assert "weight=0.0" in steps["model sampling"]
    assert "weight=0.1" in steps["model sampling, regularisation"]
    assert "pixels" not in steps["all"]
    with pytest.raises(NotRun, match="does not say"):
        setting(next(r for r in rows_of("dcc:table5") if r.variant == "inner warm-up"), "full")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    arrays = {}
    for split, n in (("train", 8), ("test", 3)):
        labels = np.repeat(np.arange(10), n)
        arrays[f"{split}_images"] = (
            torch.randint(60, (10 * n, 8, 8, 3), generator=generator).numpy() + 19 * labels[:, None, None, None]
        ).astype(np.uint8)
        arrays[f"{split}_labels"] = labels
    np.savez(tmp_path / "cifar10_small.npz", **arrays)
    return tmp_path / "cifar10_small.npz"


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, images: Path, tmp_path: Path) -> dict[str, Any]:
    """Arguments of a run that takes seconds."""
    quick = ("rounds=2", "loops=(2, 1)", "parameterize=pixels", "batch_real=4")
    monkeypatch.setattr(settings, "SMALL_HERE", {**settings.SMALL_HERE, "dcc": quick, "dc": quick})
    monkeypatch.setattr(settings, "SMALL_EPOCHS", 0.01)
    how = {"table": "dcc:table2", "dataset": ("cifar10",), "images_per_class": (1,), "methods": ("random", "dcc")}
    return {**how, "scale": "small", "sets": 2, "networks": 2, "file": images, "device": "cpu", "out": tmp_path / "out"}


def test_a_run_stands_beside_the_papers_numbers_and_goes_on_where_it_was_interrupted(
    tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done, whole = [], Run.cell

    def interrupted(self: Run, *given: Any) -> None:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(given)
        whole(self, *given)

    monkeypatch.setattr(Run, "cell", interrupted)
    with pytest.raises(KeyboardInterrupt):
        paper(**tiny)
    path = tiny["out"] / "paper_dcc_table2_small.json"
    before = read(path).results
    assert [(r["method"], r["seed"], r["number"]) for r in before] == [
        ("random", 0, 0), ("random", 0, 1), ("dcc", 0, 0), ("dcc", 0, 1), ("random", 1, 0), ("random", 1, 1),
    ]  # fmt: skip
    capsys.readouterr()
    monkeypatch.setattr(Run, "cell", whole)
    paper(**tiny)
    record = read(path)
    assert record.results[:6] == before
    assert len(record.results) == 8
    assert all(len(r["per_class"]) == 10 for r in record.results)
    assert [*record.protocol["images"]] == ["cifar10 by the constants of cifar10"]
    said = capsys.readouterr().out
    assert "cifar10, 1 per class, dcc, convnet: 1 sets of" in said
    assert "about" in said
    line = next(line for line in said.splitlines() if " dcc " in line and "32.9 ± 0.8" in line)
    assert "2 x 2" in line
    beside = record.protocol["compared"]["cifar10 | 1 | dcc |  | convnet"]
    assert beside["paper"] == [32.9, 0.8]
    assert beside["networks"] == 4
    assert beside["ours"][0] == pytest.approx(
        sum(r["accuracy"] for r in record.results if r["method"] == "dcc") / 4, abs=0.01
    )
    paper(**{**tiny, "sets": 1})
    assert len(read(path).results) == 8


def test_a_record_of_other_settings_is_refused_and_a_plan_writes_nothing(
    tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paper(**tiny, plan=True)
    assert not list(tiny["out"].glob("*.json"))
    assert "sets of" in capsys.readouterr().out
    paper(**{**tiny, "methods": ("random",), "sets": 1, "networks": 1})
    monkeypatch.setattr(settings, "SMALL_EPOCHS", 0.02)
    with pytest.raises(ValueError, match=r"other settings: rows of cifar10 \| 1 \| random.*, now .*--out"):
        paper(**{**tiny, "methods": ("random",)})


def test_a_row_without_a_network_yet_may_be_run_in_another_way(
    tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Run.cell

    def interrupted(self: Run, *given: Any) -> None:
        if given[0].rows[0].method == "dcc":
            raise KeyboardInterrupt
        whole(self, *given)

    monkeypatch.setattr(Run, "cell", interrupted)
    with pytest.raises(KeyboardInterrupt):
        paper(**{**tiny, "sets": 1, "networks": 1})
    path = tiny["out"] / "paper_dcc_table2_small.json"
    assert [*read(path).protocol["rows"]] == ["cifar10 | 1 | random |  | convnet"]
    monkeypatch.setattr(Run, "cell", whole)
    paper(**{**tiny, "methods": ("dcc",), "sets": 1, "networks": 1, "instead": ("batch_real=3",)})
    rows = read(path).protocol["rows"]
    assert rows["cifar10 | 1 | dcc |  | convnet"]["instead"] == ["batch_real=3"]
    assert len(rows) == 2


def test_states_come_from_the_records(tiny: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert of_entry(entry("dcc:table2"), []).startswith("of 80 numbers 71 never, 9 not to be run")
    dcc = row("dcc:table2", "cifar10", 1, "dcc")
    assert of_row(dcc, []) == "never"
    paper(**tiny)
    (record,) = every_record(tiny["out"])
    assert of_row(dcc, [record]) == "small size"
    large = replace(record, protocol={**record.protocol, "scale": "full"})
    assert of_row(dcc, [large]) == "full size (2 of 5 sets)"
    assert of_row(row("dcc:table2", "cifar10", 10, "dcc"), [large]) == "never"
    assert of_entry(entry("dcc:figure7"), every_record(RECORDS)) == "small size"
    paper(list_=True)
    said = capsys.readouterr().out
    assert all(one.name in said for one in INDEX)


def test_figures_know_their_records_by_what_was_run() -> None:
    of = {name: entry(name).evidence for name in ("idm:figure3", "mim4dd:figure4")}
    assert all(of.values())
    compare, mim = (read(RECORDS / name) for name in ("compare_cifar10.json", "mim4dd_digits_bptt.json"))
    one_age, ages = "dm(networks=banked(size=4, runs=4, trained=9))", "dm(networks=banked(size=4, runs=2, trained=9))"
    for methods, found in (((ages,), False), ((ages, one_age), True)):
        record = replace(compare, protocol={**compare.protocol, "methods": methods})
        assert of["idm:figure3"](record) == found  # type: ignore[misc]
    curves = [{**r, "losses": {"loss": [[1, 2.0]]}} for r in mim.results]
    assert not of["mim4dd:figure4"](mim)  # type: ignore[misc]
    assert of["mim4dd:figure4"](replace(mim, results=curves))  # type: ignore[misc]
    for name, methods, found in (
        ("idm:table2", ("dm", "idm(weight=0.0, parameterize=pixels)", "idm"), True),
        ("idm:table2", ("dm", "idm(weight=0.5)"), False),
        ("idm:figure5", ("idm(weight=0.1)", "idm(weight=0.5)"), True),
        ("idm:figure5", ("idm(weight=0.1)", "dm(weight=0.5)"), False),
        ("idm:figure6", ("idm(networks=model_queue(train_steps=1))", "idm(networks=model_queue(train_steps=5))"), True),
        ("idm:figure7", ("idm(networks=model_queue(batch_size=1))", "idm(networks=model_queue(batch_size=5))"), False),
        ("idm:figure7", ("idm(networks=model_queue(size=1))", "idm(networks=model_queue(size=5))"), True),
    ):
        evidence = entry(name).evidence
        assert evidence is not None
        assert evidence(replace(compare, protocol={**compare.protocol, "methods": methods})) == found, (name, methods)
    for text in re.findall(r'"([^"]+)"', entry("idm:figure3").command):
        assert names.condenser(text, net="convnet(width=4)").networks.ages in {(1960 * k,) for k in range(1, 7)}  # type: ignore[attr-defined]


def test_what_stands_in_place_of_the_papers_settings_is_said(tiny: dict[str, Any]) -> None:
    how = {**tiny, "methods": ("dcc",), "sets": 1, "networks": 1}
    paper(**how, instead=("lr_net=0.02", "rounds=1"), condense_net="convnet(width=4)")
    (record,) = every_record(tiny["out"])
    (used,) = record.protocol["rows"].values()
    assert "lr_net=0.02" in used["condenser"]
    assert "rounds=1" in used["condenser"]
    assert (used["net"], used["test_net"]) == ("convnet(width=4)", "convnet(width=32)")
    large = replace(record, protocol={**record.protocol, "scale": "full"})
    said = of_row(row("dcc:table2", "cifar10", 1, "dcc"), [large])
    assert said == "full size (1 of 5 sets; with condense_net=convnet(width=4), lr_net=0.02, rounds=1)"
    assert "of cifar10_small.npz" in record.protocol["images"]["cifar10 by the constants of cifar10"]
    with pytest.raises(ValueError, match="other settings: rows of cifar10"):
        paper(**how)
    with pytest.raises(ValueError, match=r"instead must be NAME=VALUE.*got 'lr'"):
        paper(**how, instead=("lr",))


def test_numbers_that_are_printed_and_what_is_not_there() -> None:
    assert row("dcc:table2", "cifar10", 1, "dcc").mean == 32.9
    assert row("mim4dd:table1", "cifar10", 10, "bptt+mim4dd").mean == 66.4
    assert {one.table for one in published()} <= {one.name for one in INDEX}
    assert difference(row("dcc:table1", "imagenet32:fish", 10, "dcc"), 21.4, 0.5) == "+2.0 (ours)"
    for wrong, said in (
        ({"table": "dcc:table9"}, "name must be one of"),
        ({"table": "dcc:figure4"}, "is not run by this command: python -m benchmarks analyses"),
        (
            {"table": "dcc:table2", "dataset": ("mnist",)},
            "dataset of dcc:table2 must be among svhn, cifar10, cifar100, got mnist",
        ),
        ({"table": "dcc:table2", "methods": ("c_score",)}, "none of these rows can be run"),
    ):
        with pytest.raises(ValueError, match=said):
            command.paper(**wrong)  # type: ignore[arg-type]
