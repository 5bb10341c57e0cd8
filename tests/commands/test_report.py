"""``ddreplay report``: the page, and what it needs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from running_commands import QUICK, refused, run

from ddreplay import CondensedSet
from ddreplay.cli import main
from ddreplay.commands.words import A_PAGE, Trials


def test_a_report_is_one_page(sets: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "page.html"
    how = ["--data", "digits", "--nets", QUICK[3], "--epochs", "1", "--seeds", "1", "--out", str(out)]
    told = run(capsys, "report", *map(str, sets), *how, "--json")
    page = out.read_text(encoding="utf-8")
    assert told["bytes_of_the_page"] == len(page.encode())
    assert "Report on dm and herding" in page
    assert "539 to test on" in page
    assert page.count("Loss of the condensation") == 2  # a title and a label, of the one set that has a loss
    assert "files must be one set or more, got none" in refused(capsys, "report", *how)


def test_what_a_report_needs_is_said_before_the_work(
    sets: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def loaded(*_: Any, **__: Any) -> None:
        raise AssertionError("the data were read first")

    monkeypatch.setattr("ddreplay.datasets.load", loaded)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    said = refused(capsys, "report", str(sets[0]), "--data", "digits", "--out", str(tmp_path / "page.html"))
    assert "pip install 'ddreplay[report]'" in said


def test_a_loss_that_is_a_sum_is_drawn_term_by_term(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, out = tmp_path / "set", tmp_path / "page.html"
    run(capsys, "condense", "digits", "--method", "ddm(steps=3)", *QUICK[2:], "--out", str(made))
    assert set(CondensedSet.load(made).provenance["loss_terms"]) == {"mean embedding", "gram matching"}
    how = ["--data", "digits", "--nets", QUICK[3], "--epochs", "1", "--seeds", "1", "--no-baselines"]
    run(capsys, "report", str(made), *how, "--out", str(out), "--json")
    page = out.read_text(encoding="utf-8")
    for name in ("all together", "mean embedding", "gram matching"):
        assert f"Loss of the condensation over image steps: {name}</title>" in page
    shown = run(capsys, "show", str(made), "--json")
    assert len(shown["loss_terms"]["gram matching"]) == 3


def test_the_time_of_all_networks_is_said_beforehand(
    sets: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ddreplay.forecast.evaluating_seconds", lambda *_, **__: 400.0)
    how = ["--data", "digits", "--nets", QUICK[3], "--epochs", "2", "--seeds", "1", "--out", str(tmp_path / "p.html")]
    main(["report", *map(str, sets), *how])
    said = capsys.readouterr().err
    assert "6 networks of 2 epochs take about 40 minutes here; less: --epochs 1, --no-baselines" in said
    assert "ranking real images: 100%" in said


def test_a_page_of_much_work_takes_fewer_epochs_and_says_so(
    sets: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "page.html"
    how = ["--data", "digits", "--nets", QUICK[3], "--seeds", "1", "--out", str(out), "--no-baselines"]
    networks, images = 1, 10 * 8 * 8  # of the one set
    monkeypatch.setattr("ddreplay.commands.words.A_PAGE", 60.5 * networks * images)
    main(["report", str(sets[0]), *how])
    said = capsys.readouterr().err
    assert "networks are trained for 60 epochs, so that so many images of this size take minutes on a processor" in said
    assert "--epochs 200 trains them as ddreplay evaluate does" in said
    assert "networks on dm, convnet(width=8), condensed (1 of 1): 100%" in said
    page = out.read_text(encoding="utf-8")
    assert (
        "The networks are trained for 60 epochs, so that so many images of this size take minutes on a processor"
        in page
    )
    assert "for 60 epochs on" in page


@pytest.mark.parametrize(
    ("asked", "work", "epochs"),
    [({}, 1.0, 200), ({}, A_PAGE / 120.5, 120), ({}, A_PAGE, 50), ({"epochs": 300}, A_PAGE, 300)],
)
def test_epochs_of_a_page_follow_the_work_and_nothing_else(asked: dict[str, Any], work: float, epochs: int) -> None:
    assert Trials(**asked).within(work).chosen().epochs == epochs


def test_a_named_protocol_stays_whole() -> None:
    assert Trials(protocol="dc2021").within(A_PAGE).chosen().name == "dc2021"
