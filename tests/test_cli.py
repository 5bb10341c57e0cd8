"""The command line: what people and machines read, what misuse gives, and how it stops."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import ddreplay
from ddreplay import ClassPool, CondensedSet
from ddreplay.cli import main
from ddreplay.methods import selections

QUICK = ["--method", "dm", "--net", "convnet(width=8)", "--images-per-class", "1", "--json"]
ROOT = Path(__file__).resolve().parent.parent


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    main(list(arguments))
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that misuse gives."""
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    said = capsys.readouterr()
    assert stopped.value.code == 2
    assert said.out == ""
    assert said.err.count("\n") == 1, said.err
    return said.err


def photos(folder: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 6) -> Path:
    for k, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (20 + 3 * i, 24), (40 + 150 * k, 10 * i, 90)).save(folder / name / f"{i}.jpg")
    return folder


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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["condense", "no-such-data"], "neither a known name"),
        (["condense", "digits", "--method", "magic"], "method must be one of"),
        (
            ["condense", "digits", "--method", "dm", "--option", "speed=9"],
            "an option of dm must be one of net, networks",
        ),
        (["condense", "digits", "--method", "dm", "--option", "steps"], "NAME=VALUE"),
        (
            ["condense", "digits", "--method", "dm", "--option", "steps=ten"],
            "steps of dm must be a whole number, got 'ten'",
        ),
        (["condense", "digits", "--method", "dm", "--option", "lr=abc"], "lr of dm must be a number, got 'abc'"),
        (["condense", "digits", "--method", "dm", "--option", "steps=0"], "steps of dm must be at least 1, got 0"),
        (["condense", "digits", "--method", "dm", "--option", "steps=-1"], "steps of dm must be at least 1, got -1"),
        (["condense", "digits", "--option", "steps=3"], "none is named: add --method dm"),
        (["condense", "digits", "--net", "transformer"], "net must be one of"),
        (["condense", "digits", "--net", "convnet(wide=1)"], "an option of convnet must be one of width, depth"),
        (["condense", "digits", "--codec", "gif"], "codec must be one of float32"),
        (["condense", "digits", "--codec", "jpeg(quality=200)"], "quality of jpeg must be"),
        (["condense", "digits", "--images-per-class", "0"], "images_per_class must be at least 1"),
        (["condense", "digits", "--images-per-class", "1", "--bytes-per-class", "9"], "exactly one budget"),
        (["condense", "digits", "--bytes-per-class", "-3"], "bytes_per_class must be at least 1"),
        (["condense", "digits", "--seconds", "-5"], "seconds must be at least 0"),
        (["condense", "digits", "--checkpoint-every", "0"], "checkpoint_every must be at least 1 step, got 0"),
        (["condense", "digits", "--device", "gpu"], "device must be auto, cpu, cuda"),
        (["condense", "digits", "--augment", "mirror"], "mirror"),
        (["condense", "digits", "--size", "16"], "size is for folders"),
        (["condense", "digits", "--method", "herding(epochs=-1)"], "epochs"),
        (["show", "no-such-file"], "No such file"),
        (["evaluate", "no-such-file", "--test", "digits"], "No such file"),
        (["evaluate", "any", "--test", "digits", "--seeds", "0"], "seeds must be at least 1 network, got 0"),
        (
            ["evaluate", "any", "--test", "digits", "--epochs", "-1"],
            "epochs of protocol dm2023, -1 epochs must be at least 0",
        ),
        (["evaluate", "any", "--test", "digits", "--protocol", "dm2024"], "did you mean dm2023?"),
        (["methods", "bankd"], "did you mean banked?"),
    ],
)
def test_misuse_is_one_line_and_code_2(
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert words in refused(capsys, *arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_cuda_is_refused_where_there_is_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = refused(capsys, "condense", "digits", "--device", "cuda", "--out", str(tmp_path / "set"))
    assert "needs CUDA, which torch does not find here; use device='cpu' or 'auto'" in said


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_told_to_stop_it_keeps_its_state_and_says_where(number: signal.Signals, tmp_path: Path) -> None:
    state, out = tmp_path / "state", tmp_path / "set"
    command = [sys.executable, "-m", "ddreplay", "condense", "digits", "--method", "dm", "--net", "convnet(width=8)"]
    command += ["--option", "steps=100000", "--checkpoint", str(state), "--checkpoint-every", "1", "--out", str(out)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not state.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(number)
        said, told = process.communicate(timeout=120)
    assert process.returncode == 128 + number, told[-2000:]
    assert f"the state is in {state}, and the same command goes on from there" in told
    assert said == ""
    assert not out.exists()


def test_interrupted_without_a_checkpoint_it_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        monkeypatch.setattr("ddreplay.datasets.load", lambda *_, number=number, **__: signal.raise_signal(number))
        with pytest.raises(SystemExit) as stopped:
            main(["condense", "digits", "--out", str(tmp_path / "set")])
        assert stopped.value.code == code
        assert "nothing is kept (condense --checkpoint FILE keeps the state)" in capsys.readouterr().err


def test_a_papers_settings_say_how_long_they_take(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    order: list[str] = []
    monkeypatch.setattr("ddreplay.forecast.condensing_seconds", lambda *_: order.append("time") or 40_000.0)
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


def test_methods_are_listed_and_explained(capsys: pytest.CaptureFixture[str]) -> None:
    main(["methods"])
    said = capsys.readouterr().out
    assert "  dm                      Dataset condensation with distribution matching (DM)." in said
    assert "  banked  " in said
    main(["methods", "banked"])
    assert "size=40\n" in capsys.readouterr().out
    assert run(capsys, "methods", "dm", "--json")["steps"]["default"] == "20000"


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Digits condensed by one step of dm, and herding's choice, one image per class each."""
    folder = tmp_path_factory.mktemp("sets")
    for name, method in (("dm", "dm(steps=1)"), ("herding", "herding(epochs=0)")):
        how = ["--method", method, *QUICK[2:], "--seed", "3", "--out", str(folder / name)]
        main(["condense", "digits", *how])
    return folder / "dm", folder / "herding"


def test_an_evaluation_stands_beside_real_images_of_as_many_bytes(
    sets: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    how = ["--test", "digits", *QUICK[2:4], "--epochs", "1", "--seeds", "2", "--baselines"]
    found = run(capsys, "evaluate", str(sets[0]), *how, "--json")
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


def test_compared_sets_say_where_they_differ(sets: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    found = run(capsys, "compare", *map(str, sets), "--json")
    assert found["different"]["method"] == ["dm", "herding"]
    assert found["different"]["settings.steps"] == [1, None]
    assert found["alike"]["seed"] == 3
    assert len(set(found["different"]["images_sha256"])) == 2
    assert "nbytes" in found["alike"]
    main(["compare", str(sets[0]), str(sets[0])])
    assert capsys.readouterr().out.startswith("nothing differs")
    assert "files must be two sets or more, got 1" in refused(capsys, "compare", str(sets[0]))


def test_exported_images_are_read_as_a_folder_of_classes(
    sets: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from torchvision.datasets import ImageFolder
    from torchvision.transforms.functional import pil_to_tensor

    out = tmp_path / "pictures"
    told = run(capsys, "export", str(sets[1]), str(out), "--images", "--json")
    assert told["pictures"] == 10
    read = ImageFolder(str(out))
    assert read.classes == [str(digit) for digit in range(10)]
    stored = CondensedSet.load(sets[1])
    pixels = torch.cat([part._stored_pixels()[k] for part in stored.parts for k in range(10)])
    for (picture, label), own in zip(read, pixels, strict=True):
        assert torch.equal(pil_to_tensor(picture)[:1], own.mul(255).round().byte())  # real images, stored without loss
        assert torch.equal(own, pixels[label])
    card = (out / "README.md").read_text()
    assert "| method | herding |" in card
    assert "Licence of the real images" in card


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


def test_a_completion_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--tyro-print-completion", "bash"])
    assert not stopped.value.code
    assert "--images-per-class" in capsys.readouterr().out


def test_a_foreign_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x").write_bytes(b"\x80\x04not a set")
    assert "no whole safetensors file" in refused(capsys, "show", str(tmp_path / "x"))


def test_columns_below_one_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pool = ClassPool(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1]), device="cpu")
    path = selections.random()(pool, 1).save(tmp_path / "set")
    assert "columns must be at least 1, got 0" in refused(capsys, "show", str(path), "--columns", "0")


def test_unknown_commands_stop_with_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["frobnicate"])
    assert stopped.value.code == 2
    assert "condense" in capsys.readouterr().err


def test_it_says_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    assert capsys.readouterr().out == f"ddreplay {ddreplay.__version__}\n"


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
