"""What codecs leave of images at equal bytes: the benchmark's numbers are those of the codecs."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.codecs import at_bytes, codecs, table
from ddreplay.storage.codecs import bits, fit_quality


def test_the_error_is_that_of_what_comes_back() -> None:
    classes = list(torch.rand(2, 5, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    found = at_bytes(bits(1), classes, 500)
    assert found is not None
    assert found.codec == fit_quality("bits", classes, max_bytes=500)
    assert found.nbytes <= 500
    given = found.codec.decode(found.codec.encode(classes), [5, 5], (1, 8, 8))
    expected = [float((255 * (a - b)).square().mean()) for a, b in zip(given, classes, strict=True)]
    assert found.errors == pytest.approx(expected, rel=1e-5)
    assert at_bytes(bits(1), classes, 20) is None


def test_the_table_pairs_classes_and_says_what_does_not_fit() -> None:
    cell = {"images_per_class": 4, "bytes_per_class": 100, "nbytes": 190, "write_seconds": 0.1, "read_seconds": 0.2}
    rows = table(
        [
            {"codec": "jpeg", "images_per_class": 4, "bytes_per_class": 100},
            {"codec": "avif", **cell, "errors": [100.0, 50.0]},
            {"codec": "thumb", **cell, "errors": [80.0, 45.0]},
        ]
    )
    assert "does not fit" in rows
    assert "15 % (10 to 20)" in rows


def test_the_command_writes_a_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    codecs(codecs=("jpeg", "webp"), images_per_class=(8,), bytes_per_class=(200,), classes=2, out=tmp_path)
    results = json.loads((tmp_path / "codecs.json").read_text())["results"]
    assert [x["codec"] for x in results] == ["jpeg", "webp"]
    assert all(x["nbytes"] <= 400 and len(x["errors"]) == 2 for x in results)
    assert "webp has less" in capsys.readouterr().out
    with pytest.raises(ValueError, match="go together"):
        codecs(images_per_class=(8, 9), bytes_per_class=(200,))
