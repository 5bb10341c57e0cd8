"""The ready strategies on the digits of scikit-learn."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from avalanche.benchmarks import nc_benchmark
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.training.plugins import EvaluationPlugin
from sklearn.datasets import load_digits
from toy_streams import Images

sys.path.insert(0, str(Path(__file__).parents[1]))

from ddreplay import ConvNet, dm
from ddreplay.avalanche import CondensedBuffer, RingBuffer
from ddreplay.networks import Banked
from strategies import experience_replay, finetuning, gdumb, joint


@pytest.fixture(scope="module")
def digits() -> Any:
    """Five experiences of two digits each; every third image is a test image."""
    data = load_digits()
    x = torch.tensor(data.images, dtype=torch.float32)[:900, None].div(16).sub(0.3).div(0.37)
    y = torch.tensor(data.target)[:900]
    test = torch.arange(len(x)) % 3 == 0
    parts = [Images(x[rows], y[rows].tolist()) for rows in (~test, test)]
    return nc_benchmark(*parts, n_experiences=5, task_labels=False, seed=0)


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))


def accuracy(strategy: Any, benchmark: Any) -> float:
    for experience in benchmark.train_stream:
        strategy.train(experience)
    found = strategy.eval(benchmark.test_stream)
    return float(found["Top1_Acc_Stream/eval_phase/test_stream/Task000"])


def how(epochs: int) -> dict[str, Any]:
    return {
        "lr": 0.05,
        "epochs": epochs,
        "batch_size": 16,
        "evaluator": EvaluationPlugin(accuracy_metrics(stream=True)),
    }


def test_memory_lies_between_the_bounds(digits: Any) -> None:
    space = {"mean": [0.3], "std": [0.37], "device": "cpu"}
    low = accuracy(finetuning(network(), **how(5)), digits)
    high = accuracy(joint(network(), **how(5)), digits)
    ring = RingBuffer(images_per_class=5, total_num_classes=10, **space)
    replay = accuracy(experience_replay(network(), ring, **how(5)), digits)
    condenser = dm(ConvNet(width=8), networks=Banked(size=4), steps=20, batch_real=32)
    memory = CondensedBuffer(images_per_class=5, total_num_classes=10, condenser=condenser, **space)
    dumb = accuracy(gdumb(network(), memory, **how(40)), digits)
    assert low < 0.35
    assert low + 0.2 < replay < high
    assert low + 0.2 < dumb < high
    assert high > 0.85


def test_joint_trains_on_everything_seen_so_far(digits: Any) -> None:
    strategy = joint(network(), epochs=1, batch_size=64)
    total = 0
    for experience in digits.train_stream[:3]:
        strategy.train(experience)
        total += len(experience.dataset)
        memory = strategy.plugins[0].storage_policy
        assert len(memory.buffer) == memory.max_size == total
    with pytest.raises(ValueError, match="no size"):
        memory.resize(strategy, 10)


@pytest.mark.parametrize(
    "path", sorted(Path(__file__).parents[1].joinpath("strategies").glob("[a-z]*.py")), ids=lambda p: p.stem
)
def test_a_strategy_is_one_short_file_with_one_function_of_its_name(path: Path) -> None:
    functions = [node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
    assert functions == [path.stem]
    assert len(path.read_text().splitlines()) <= 80
