"""The model of what larger sizes take: counted work, measured rates, and the page that shows them."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.report.records import read
from benchmarks.scaling import IMAGENET, RECORD, TABLE, Plan, Rates, multiply_adds, page_tables, scaling
from ddreplay import ConvNet
from ddreplay.backbones import MLP

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "scaling.md"


@pytest.fixture(scope="module")
def rates() -> Rates:
    return Rates.of(read(RECORD))


def test_work_is_counted_layer_by_layer() -> None:
    maps = [(3, 32), (64, 16), (64, 8)]
    by_hand = sum(9 * inputs * 64 * side * side for inputs, side in maps) + 64 * 4 * 4 * 10
    assert multiply_adds(ConvNet(width=64), (3, 32, 32), 10) == by_hand
    assert multiply_adds(MLP(width=128), (1, 8, 8), 10) == 64 * 128 + 128 * 128 + 128 * 10


def test_rates_give_back_the_rows_that_they_come_from(rates: Rates) -> None:
    record = read(RECORD)
    seconds = {r["row"]: statistics.median(r["seconds"]) for r in record.results}
    plan = Plan("", 10, (3, 32, 32), 64, 10, net=ConvNet(width=64), steps=1, batch_real=64)
    assert plan.seconds(plan.passes(rates), rates) == pytest.approx(seconds["dm"], rel=0.01)
    matching = replace(plan, loops=(1, 0))
    assert matching.seconds(matching.passes(rates), rates) == pytest.approx(seconds["dc"], rel=0.01)
    banked = replace(plan, bank=1)
    assert banked.passes(rates) == pytest.approx(10 * 64 + 100 * rates.learn)  # a class has no more than 64
    trained = plan.networks * (plan.epochs * 100 * rates.train + plan.test)
    assert plan.evaluation_passes(rates) == trained


def test_the_model_holds_for_another_record_within_a_factor_of_three(rates: Rates) -> None:
    record = read(RECORD.parent / "precision_cifar10_dm.json")
    measured = statistics.median(r["condense_seconds"] for r in record.results if r["way"] == "float32")
    plan = Plan("", 10, (3, 32, 32), 300, 10, net=ConvNet(width=32), steps=100, bank=10)
    said = plan.seconds(plan.passes(rates), rates)
    assert said < measured < 3 * said
    assert round(said) == 7
    assert round(measured) == 14  # as the page says


def test_what_grows_with_what(rates: Rates) -> None:
    plan = next(one for one in TABLE if one.bank)
    assert plan.step_traffic == 0 < replace(plan, bank=0).step_traffic == 10 * 256 * 3072
    double = replace(plan, images_per_class=2 * plan.images_per_class)
    assert double.learned_bytes == 2 * plan.learned_bytes
    assert double.reduced_bytes == 2 * plan.reduced_bytes
    assert double.pool_bytes == plan.pool_bytes == 50000 * 3072
    real = plan.bank * 10 * 512
    assert double.passes(rates) - real == pytest.approx(2 * (plan.passes(rates) - real))
    big = IMAGENET[1]
    net = ConvNet(depth=4)((3, 64, 64), 1000)
    weights = sum(p.numel() for p in net.parameters())
    assert big.bank_bytes == 4 * 100 * (weights + 1000 * 128 * 16)


def test_the_page_has_the_tables_of_the_record(rates: Rates, capsys: pytest.CaptureFixture[str]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    for table in page_tables(rates):
        assert table in text, "python -m benchmarks scaling"
    scaling(classes=10)
    printed = capsys.readouterr().out
    assert page_tables(rates, classes=10)[2] in printed
    assert page_tables(rates)[2] not in printed


def test_the_script_of_the_page_runs_under_torchrun(tmp_path: Path) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    block = block.replace("steps=20", "steps=1").replace('protocol="dc2021"', 'protocol=PROTOCOLS["dc2021"].scaled(1)')
    (tmp_path / "condense.py").write_text(
        "from ddreplay.evaluation import PROTOCOLS\n"
        + block.replace("dm(steps=1)", "dm(ConvNet(width=8), steps=1)")
        .replace("condensed, data", "condensed, data", 1)
        .replace("import dm, evaluate", "import ConvNet, dm, evaluate")
        .replace("seeds=2", "net=ConvNet(width=8), seeds=2")
    )
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "condense.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("2 seeds") == 1
    assert (tmp_path / "digits.safetensors").is_file()
    assert torch.cuda.is_available() or "cpu" in block
