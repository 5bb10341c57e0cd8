"""``ddreplay condense``: what it says, writes, keeps and refuses."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from running_commands import QUICK, photos, refused, run

from ddreplay import CondensedSet
from ddreplay.cli import main
from ddreplay.datasets import normalization


def test_condense_show_and_evaluate_digits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new folder" / "set.safetensors"
    made = run(
        capsys, "condense", "digits", *QUICK, "--option", "steps=2", "networks=banked(size=2)", "--out", str(out)
    )
    assert (made["classes"], made["stored_images"], made["file_bytes"]) == (10, 10, out.stat().st_size)
    assert made["data"].startswith("1258 images to condense, 1 x 8 x 8, 10 classes (0, 1,")
    shown = run(capsys, "show", str(out), "--json")
    assert shown["settings"]["augment"]["strategy"] == "color_crop_cutout_scale_rotate"  # digits are not mirrored
    assert (shown["steps_done"], shown["budget"], shown["data"]["name"]) == (2, "1 image a class", "digits")
    assert shown["header_nbytes"] + shown["nbytes"] == made["file_bytes"]
    with Image.open(out.with_suffix(".png")) as picture:
        assert picture.format == "PNG"
    tested = run(
        capsys, "evaluate", str(out), "--test", "digits", "--epochs", "2", "--seeds", "2", *QUICK[2:4], "--json"
    )
    assert len(tested["accuracies"]) == 2
    assert tested["protocol"]["name"] == "dm2023, 2 epochs, color_crop_cutout_scale_rotate"
    assert tested["nbytes"] == made["nbytes"]


def test_who_names_no_method_gets_the_practical_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "set"
    how = ["--images-per-class", "1", "--seconds", "0.5", "--net", "convnet(width=8)", "--json", "--out", str(out)]
    made = run(capsys, "condense", "digits", *how)
    assert made["method"] == "dm (the practical default)"
    assert "image steps" in made["cut_short"]
    settings = CondensedSet.load(out).provenance["settings"]
    assert settings["networks"]["is"] == "Banked"
    assert settings["networks"]["net"]["width"] == 8


def test_a_network_without_norms_is_refused_where_norms_are_matched(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = photos(tmp_path / "photos")
    common = [
        "condense",
        str(folder),
        "--size",
        "32",
        "--images-per-class",
        "1",
        "--out",
        str(tmp_path / "set"),
        "--json",
    ]
    said = refused(capsys, *common, "--method", "ddm(alexnet(), steps=1)")
    assert "taps names 'norms', which the network does not have" in said


def test_what_cannot_be_written_is_said_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*_: Any, **__: Any) -> None:
        raise AssertionError("the data were read first")

    monkeypatch.setattr("ddreplay.datasets.load", loaded)
    (tmp_path / "file").write_text("")
    for out in (tmp_path, tmp_path / "file" / "set", Path("/proc/self/set")):
        for name in ("--out", "--checkpoint"):
            assert "cannot be written" in refused(capsys, "condense", "digits", name, str(out))


def test_files_have_the_permissions_of_the_umask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = os.umask(0o027)
    try:
        run(capsys, "condense", "digits", *QUICK, "--option", "steps=1", "--out", str(tmp_path / "set"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "set").stat().st_mode) == 0o640


def test_a_run_goes_on_from_its_checkpoint_and_says_when_it_is_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"
    common = [
        "condense",
        "digits",
        *QUICK,
        "--option",
        "steps=3",
        "networks=banked(size=1)",
        "--checkpoint",
        str(state),
    ]
    main([*common, "--out", str(tmp_path / "a"), "--seconds", "1000", "--checkpoint-every", "1"])
    assert "finished" not in capsys.readouterr().err
    main([*common, "--out", str(tmp_path / "b")])
    assert f"checkpoint {state} is that of a finished run" in capsys.readouterr().err
    a, b = CondensedSet.load(tmp_path / "a"), CondensedSet.load(tmp_path / "b")
    assert torch.equal(a.images().x, b.images().x)


def test_a_papers_settings_say_how_long_they_take(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    order: list[str] = []
    monkeypatch.setattr("ddreplay.forecast.condensing_seconds", lambda *_, **__: order.append("time") or 40_000.0)
    monkeypatch.setattr("ddreplay.terminal.Bars.__call__", lambda *_: order.append("step"))
    main(["condense", "digits", *QUICK[:-1], "--option", "steps=2", "--out", str(tmp_path / "set")])
    said = capsys.readouterr().err
    assert "dm takes about 11 hours here; less: --seconds 600 stops in time, --option steps=1000" in said
    assert order == ["time", "step", "step"]


def test_photos_of_different_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = photos(tmp_path / "photos"), str(tmp_path / "set")
    (folder / "cat" / "list.txt").write_text("no image")
    assert "give size=64 (--size 64)" in refused(capsys, "condense", str(folder), "--out", out)
    common = ["--images-per-class", "1", "--out", out]
    main(
        [
            "condense",
            str(folder),
            "--method",
            "random",
            *common,
            "--size",
            "16",
            "--test-fraction",
            "0.5",
            "--augment",
            "color_crop",
        ]
    )
    said = capsys.readouterr()
    for stream in (said.out, said.err):
        assert (
            "6 images to condense, 3 x 16 x 16, 2 classes (cat, dog); 6 images, 50% of every class drawn with seed 0"
            in stream
        )
        assert "1 of other kinds were left out (1 x .txt)" in stream
    # the same size, split and operations as the set was made with
    tested = run(capsys, "evaluate", out, "--test", str(folder), *QUICK[2:4], "--epochs", "1", "--seeds", "1", "--json")
    assert tested["protocol"]["augment"] == "color_crop"
    other = run(
        capsys,
        "evaluate",
        out,
        "--test",
        str(folder),
        *QUICK[2:4],
        "--epochs",
        "1",
        "--seeds",
        "1",
        "--augment",
        "crop",
        "--json",
    )
    assert other["protocol"]["augment"] == "crop"


def test_the_normalisation_is_the_one_that_was_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = (np.arange(8 * 8 * 8 * 3) * 37 % 251).astype(np.uint8).reshape(8, 8, 8, 3)
    splits = {f"{split}_images": pixels for split in ("train", "test")}
    labels = {f"{split}_labels": np.arange(8) % 2 for split in ("train", "test")}
    np.savez(tmp_path / "eight.npz", **splits, **labels)
    command = ["condense", str(tmp_path / "eight.npz"), "--method", "random", "--images-per-class", "1"]
    found = {}
    for named in ([], ["--normalization", "cifar10"], ["--normalization", "train"]):
        out = tmp_path / "set.safetensors"
        main([*command, *named, "--out", str(out)])
        found["".join(named[1:])] = CondensedSet.load(out).parts[0].mean
    assert found["cifar10"] == pytest.approx(normalization("cifar10").mean)
    assert found[""] == found["train"] != found["cifar10"]
    with pytest.raises(SystemExit):
        main([*command, "--normalization", "mnist"])
    assert "channels" in capsys.readouterr().err
