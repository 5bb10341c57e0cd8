"""The command line: what people and machines read, what misuse gives, and how it stops."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from running_commands import refused

import ddreplay
from ddreplay import ClassPool
from ddreplay.cli import main
from ddreplay.methods import selections

ROOT = Path(__file__).resolve().parent.parent


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
