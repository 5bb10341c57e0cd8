"""``ddreplay evaluate``: what it tests on, and what stands beside a set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from running_commands import QUICK, photos, refused, run

from ddreplay import ClassPool, CondensedSet
from ddreplay.cli import main
from ddreplay.methods import selections


def test_another_class_is_refused_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dogs, others = photos(tmp_path / "a", ("Samoyed", "beagle")), photos(tmp_path / "b", ("Samoyed", "dingo"))
    out = str(tmp_path / "set")
    run(
        capsys,
        "condense",
        str(dogs),
        "--method",
        "random",
        "--size",
        "16",
        "--images-per-class",
        "1",
        "--out",
        out,
        "--json",
    )
    how = ["--epochs", "1", "--seeds", "1", *QUICK[2:4], "--json"]
    assert "the set lacks: dingo (1); the set has Samoyed, beagle" in refused(
        capsys, "evaluate", out, "--test", str(others), *how
    )


def test_an_evaluation_stands_beside_real_images_of_as_many_bytes(
    sets: tuple[Path, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = ["--test", "digits", *QUICK[2:4], "--epochs", "1", "--seeds", "2", "--baselines"]
    kept = ["--checkpoint", str(tmp_path / "ck"), "--json"]
    found = run(capsys, "evaluate", str(sets[0]), *how, *kept)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ck", "ck.herding", "ck.random"]
    with monkeypatch.context() as patch:
        patch.setattr("ddreplay.evaluation.train", lambda *_, **__: pytest.fail("a network is trained again"))
        again = run(capsys, "evaluate", str(sets[0]), *how[:-1], *kept)
    assert again["accuracies"] == found["accuracies"]
    assert set(found["baselines"]) == {"random", "herding"}
    for beside in found["baselines"].values():
        assert 0.95 * found["nbytes"] <= beside["nbytes"] <= found["nbytes"]
        assert beside["protocol"] == found["protocol"]
        assert len(beside["accuracies"]) == 2
    main(["evaluate", str(sets[0]), *how, "--per-class"])
    said = capsys.readouterr()
    rows = [line.split() for line in said.out.splitlines()]
    assert [row[0] for row in rows[:3]] == ["condensed", "random", "herding"]
    assert rows[4] == ["per", "class,", "%", "condensed", "random", "herding"]
    assert [row[0] for row in rows[5:]] == [str(digit) for digit in range(10)]
    assert float(rows[5][1]) == pytest.approx(found["per_class"]["0"], abs=0.051)
    assert "networks on herding: 100%" in said.err


def test_a_set_of_another_normalisation_is_tested_in_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from ddreplay.datasets import load

    digits = load("digits")
    pool = ClassPool(digits.train_images, digits.train_labels, mean=(0.9,), std=(0.1,), device="cpu")
    path = selections.random()(pool, 1).save(tmp_path / "s")
    assert CondensedSet.load(path).parts[0].mean[0] == pytest.approx(0.9)
    found = run(
        capsys, "evaluate", str(path), "--test", "digits", "--epochs", "1", "--seeds", "1", *QUICK[2:4], "--json"
    )
    assert 0 <= found["mean"] <= 100


def test_without_a_protocol_it_takes_minutes_and_says_which_it_is(
    sets: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def seconds(condensed: Any, pool: Any, net: Any, *, protocol: Any, seeds: int) -> float:
        asked.append((net.width, protocol, seeds))
        raise ValueError("enough was seen")

    monkeypatch.setattr("ddreplay.forecast.evaluating_seconds", seconds)
    for flags in ([], ["--protocol", "dm2023"], ["--protocol", "dc2021", "--epochs", "7", "--net", "convnet"]):
        refused_line = ["evaluate", str(sets[0]), "--test", "digits", *flags]
        with pytest.raises(SystemExit):
            main(refused_line)
    assert [(width, p.epochs, seeds) for width, p, seeds in asked] == [(32, 200, 3), (32, 1000, 3), (128, 7, 3)]
    assert asked[0][1].name.startswith("dm2023, 200 epochs")
