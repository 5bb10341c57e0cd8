"""MIM4DD's benchmark: its variants, one small run, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import sets
from benchmarks.mim import SWEEPS, gradient_ratio, loss_table, mim4dd, own_loss, table, variants
from benchmarks.report.records import read
from ddreplay import Distiller, names
from ddreplay.objectives import MutualInformation


@pytest.mark.parametrize("sweep", SWEEPS)
def test_every_value_of_a_sweep_is_a_term_with_that_value(sweep: Any) -> None:
    found = variants(0.8, ("temperature=0.7",), sweep, ())
    assert found.pop("alone") is None
    assert len(found) == len(SWEEPS[sweep])
    for value, (label, extra) in zip(SWEEPS[sweep], found.items(), strict=True):
        assert extra is not None
        weight, text = extra
        term = names.parse(text, "term")
        assert isinstance(term, MutualInformation)
        assert label == f"{sweep}={value:g}"
        assert (weight if sweep in ("weight", "ratio") else term.describe()[sweep]) == value
        assert term.describe()["temperature"] == (value if sweep == "temperature" else 0.7)


def small(tmp_path: Path, **more: Any) -> dict[str, Any]:
    how = {"seeds": 2, "networks": 1, "net": "convnet(width=4)", "epochs": 1, "train_per_class": 8, "test_per_class": 3}
    return {**how, "out": tmp_path, "device": "cpu", **more}


def test_a_small_run_pairs_both_sides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mim4dd(methods=("dm(steps=2, networks=banked(size=1))",), term=("depth=1",), weight=0.1, **small(tmp_path))
    record = read(tmp_path / "mim4dd.json")
    assert [r["variant"] for r in record.results] == ["alone", "+ MIM4DD"] * 2
    assert record.protocol["variants"] == {"alone": None, "+ MIM4DD": "mutual_information(depth=1) at 0.1"}
    assert record.protocol["evaluation"].endswith("1 epochs")
    assert table(record.results, "digits").splitlines()[0].split("  ")[0] == "per class"
    said = capsys.readouterr().out
    assert "accuracy %, dm2023" in said
    assert "first and last eighth" in said
    assert (tmp_path / "mim4dd.png").is_file()


def test_the_methods_own_loss_stands_apart_from_the_terms_and_a_run_goes_on(tmp_path: Path) -> None:
    how: dict[str, Any] = {"methods": ("dm(steps=4, networks=banked(size=1), lr=1e-6)",), "weight": 0.5}
    mim4dd(**how, **small(tmp_path, seeds=1))
    alone, added = before = read(tmp_path / "mim4dd.json").results
    assert set(alone["losses"]) == {"loss"}
    assert set(added["losses"]) == {"loss", "mean embedding", "mutual information"}
    own = own_loss(added)
    assert [step for step, _ in own] == [1, 2, 3, 4]
    for (_, whole), (_, part), (_, term) in zip(
        added["losses"]["loss"], own, added["losses"]["mutual information"], strict=True
    ):
        assert whole == pytest.approx(part + term, rel=1e-3)
        assert term != 0
    # images hardly move, so both sides have the same loss; the sum with the term is another number
    assert [value for _, value in own] == pytest.approx([value for _, value in own_loss(alone)], rel=1e-3)
    assert dict(own) != pytest.approx(dict(map(tuple, added["losses"]["loss"])), rel=1e-3)
    assert len(loss_table(before).splitlines()) >= 3
    mim4dd(**how, **small(tmp_path, seeds=2))
    after = read(tmp_path / "mim4dd.json").results
    assert after[:2] == before
    assert [r["seed"] for r in after] == [0, 0, 1, 1]
    with pytest.raises(ValueError, match=r"evaluation .*, now"):
        mim4dd(**how, **small(tmp_path, epochs=2))


def test_a_ratio_is_that_of_the_gradients_by_the_images(tmp_path: Path) -> None:
    text = "dm(steps=1, networks=banked(size=1), lr=1.0)"
    mim4dd(methods=(text,), ratio=0.25, **small(tmp_path, seeds=1))
    weight = read(tmp_path / "mim4dd.json").protocol["weights"][f"{text} | 1 | + MIM4DD"]
    data = sets.read("digits", train_per_class=8, test_per_class=3, device="cpu")
    base = names.condenser(
        "dm(convnet(width=4), steps=1, networks=banked(size=1), lr=1.0, strategy='color_crop_cutout_scale_rotate')"
    )
    assert isinstance(base, Distiller)
    assert gradient_ratio(base, weight * MutualInformation(), data, 1) == pytest.approx(0.25, rel=1e-3)
    with pytest.raises(ValueError, match="ratio must be above 0"):
        mim4dd(methods=(text,), ratio=0.0, **small(tmp_path))


def test_experts_are_kept_beside_the_record(tmp_path: Path) -> None:
    text = "mtt(iterations=1, steps=1, experts=1, latest_start=1, batch_expert=8)"
    mim4dd(methods=(text,), **small(tmp_path, seeds=1))
    assert any((tmp_path / "experts").iterdir())
    assert "folder='experts'" in read(tmp_path / "mim4dd.json").protocol["condensers"][text]


def test_selections_have_nothing_to_add_a_term_to(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="methods must descend an objective, which 'random' does not"):
        mim4dd(methods=("random",), **small(tmp_path))
    assert list(tmp_path.iterdir()) == []
