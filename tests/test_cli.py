"""The command line: what people and machines read, and what misuse gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from ddreplay import ClassPool, CondensedSet
from ddreplay.cli import METHODS, build, main, make_net
from ddreplay.methods import selections
from ddreplay.storage.contact_sheet import contact_sheet

QUICK = ["--net", "convnet(width=8)", "--images-per-class", "1", "--json"]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    main(list(arguments))
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_condense_show_and_evaluate_digits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new folder" / "set.safetensors"
    made = run(
        capsys, "condense", "digits", *QUICK, "--option", "steps=2", "networks=banked(size=2)", "--out", str(out)
    )
    assert (made["classes"], made["stored_images"], made["file_bytes"]) == (10, 10, out.stat().st_size)
    shown = run(capsys, "show", str(out), "--json")
    assert shown["settings"]["augment"]["strategy"] == "color_crop_cutout_scale_rotate"  # digits are not mirrored
    assert shown["steps_done"] == 2
    assert shown["nbytes"] + shown["header_nbytes"] == made["file_bytes"]
    with Image.open(out.with_suffix(".png")) as picture:
        assert picture.format == "PNG"
    tested = run(
        capsys, "evaluate", str(out), "--test", "digits", "--epochs", "2", "--seeds", "2", *QUICK[:2], "--json"
    )
    assert len(tested["accuracies"]) == 2
    assert tested["protocol"]["name"].startswith("dm2023")
    assert tested["nbytes"] == made["nbytes"]


def test_a_run_goes_on_from_its_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = [
        "condense",
        "digits",
        *QUICK,
        "--option",
        "steps=3",
        "networks=banked(size=1)",
        "--checkpoint",
        str(tmp_path / "state"),
    ]
    first = run(capsys, *common, "--out", str(tmp_path / "a"), "--seconds", "1000")
    assert first["nbytes"] > 0
    again = run(capsys, *common, "--out", str(tmp_path / "b"))
    assert again["nbytes"] == first["nbytes"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["condense", "no-such-data"], "neither a known name"),
        (["condense", "digits", "--method", "magic"], "method must be one of"),
        (["condense", "digits", "--option", "speed=9"], "an option of dm must be one of"),
        (["condense", "digits", "--option", "steps"], "NAME=VALUE"),
        (["condense", "digits", "--net", "transformer"], "net must be one of"),
        (["condense", "digits", "--net", "convnet(wide=1)"], "an option of convnet"),
        (["condense", "digits", "--images-per-class", "0"], "at least 1"),
        (["show", "no-such-file"], "No such file"),
        (["evaluate", "no-such-file", "--test", "digits"], "No such file"),
    ],
)
def test_misuse_is_one_line_and_code_2(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    said = capsys.readouterr()
    assert stopped.value.code == 2
    assert words in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_foreign_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x").write_bytes(b"\x80\x04not a set")
    with pytest.raises(SystemExit) as stopped:
        main(["show", str(tmp_path / "x")])
    assert stopped.value.code == 2
    assert "no whole safetensors file" in capsys.readouterr().err


def test_unknown_commands_stop_with_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["frobnicate"])
    assert stopped.value.code == 2
    assert "condense" in capsys.readouterr().err


def test_networks_are_named_with_their_arguments() -> None:
    assert repr(make_net("convnet(width=16, depth=2)")).startswith("ConvNet(width=16, depth=2")
    with pytest.raises(ValueError, match="width must be one of"):
        make_net("convnet(width=__import__('os'))")


def test_every_method_is_built_by_name() -> None:
    for name in METHODS:
        if name == "whitened":
            name = "whitened(mtt)"
        assert callable(build(name, "convnet(width=8)", ()))


def test_contact_sheets_have_the_right_colours(tmp_path: Path) -> None:
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    images[0, 0], images[1, 2] = 255, 128
    pool = ClassPool(images, torch.tensor([0, 1]), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), device="cpu")
    path = contact_sheet(selections.random()(pool, 1), tmp_path / "c.png", scale=2)
    with Image.open(path) as picture:
        colours = {c for _, c in picture.convert("RGB").getcolors(100000) or []}
    assert {(255, 0, 0), (0, 0, 128)} <= colours


def test_a_set_of_another_normalisation_is_tested_in_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from ddreplay.datasets import load

    digits = load("digits")
    pool = ClassPool(digits.train_images, digits.train_labels, mean=(0.9,), std=(0.1,), device="cpu")
    path = selections.random()(pool, 1).save(tmp_path / "s")
    assert CondensedSet.load(path).parts[0].mean[0] == pytest.approx(0.9)
    found = run(
        capsys, "evaluate", str(path), "--test", "digits", "--epochs", "1", "--seeds", "1", *QUICK[:2], "--json"
    )
    assert 0 <= found["mean"] <= 100
