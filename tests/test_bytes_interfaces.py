"""Budgets in bytes where users meet them: Avalanche's storage policies and the command line."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from ddreplay import CondensedSet, ConvNet
from ddreplay.cli import main
from ddreplay.condense.image_count import Validated

QUICK = Validated(ConvNet(width=8), visits=4)


def test_a_ring_buffer_in_bytes() -> None:
    avalanche = pytest.importorskip("ddreplay.avalanche")
    images = torch.randint(0, 256, (60, 3, 8, 8), generator=torch.Generator().manual_seed(0)).div(255)
    data = [(x, k % 3) for k, x in enumerate(images)]
    for given, most in (({"bytes_per_class": 600}, 1800), ({"max_bytes": 1500}, 1500)):
        memory = avalanche.RingBuffer(codec="jpeg", **given)
        memory.condenser = replace(memory.condenser, choose=QUICK)
        memory.update_from_dataset(data)
        assert 0.5 * most < memory.nbytes <= most
        assert memory.max_size == len(memory.buffer) > 3
        with pytest.raises(ValueError, match="in bytes"):
            memory.resize(None, 5)
    with pytest.raises(ValueError, match="not both"):
        avalanche.RingBuffer(max_size=5, bytes_per_class=9)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, object]:
    main([*map(str, arguments), "--json"])
    return dict(json.loads(capsys.readouterr().out))


def test_condense_in_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.safetensors"
    how = ("--method", "random", "--codec", "uint8", "--out", path)
    found = run(capsys, "condense", "digits", "--bytes-per-class", 500, *how)
    assert 4000 < int(str(found["nbytes"])) <= 5000
    assert found["codecs"] == "uint8"
    with pytest.raises(SystemExit):
        main(["condense", "digits", "--bytes-per-class", "500", "--images-per-class", "3", "--method", "random"])
    assert "exactly one" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["condense", "digits", "--codec", "jpeg(300)"])
    assert "quality of jpeg must be a whole number in 1..100, got 300" in capsys.readouterr().err


def test_export_writes_what_is_stored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, folder = tmp_path / "a.safetensors", tmp_path / "pictures"
    run(
        capsys,
        "condense",
        "digits",
        "--codec",
        "jpeg(quality=50)",
        "--method",
        "random",
        "--images-per-class",
        4,
        "--out",
        path,
    )
    found = run(capsys, "export", path, folder)
    assert found["pictures"] == 10
    part = CondensedSet.load(path).parts[0]
    for k in range(10):
        payload = (folder / f"{k}.jpg").read_bytes()
        assert payload == part.codec.picture(part.stored, part.counts, part.shape, k)
        assert Image.open(io.BytesIO(payload)).size == (16, 16)
