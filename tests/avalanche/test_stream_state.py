"""A stream that is interrupted between two experiences goes on to the same bits."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.models import IncrementalClassifier
from avalanche.training.storage_policy import ClassBalancedBuffer
from avalanche.training.templates import SupervisedTemplate
from torch import nn
from toy_streams import MEAN, STD, linear, task_labelled_stream

from ddreplay import ConvNet, dm
from ddreplay.augment import Siamese
from ddreplay.avalanche import (
    AugmentPlugin,
    CondensedBuffer,
    CondensedReplayPlugin,
    RingBuffer,
    load_stream,
    save_stream,
)
from ddreplay.backbones import as_factory
from ddreplay.storage.codecs import bits
from strategies.derpp import derpp
from strategies.er_ace import er_ace
from strategies.experience_replay import experience_replay
from strategies.gdumb import gdumb
from strategies.lwf_replay import lwf_replay

Make = Callable[[], Any]


def condensed(**more: Any) -> CondensedBuffer:
    how: dict[str, Any] = {"condenser": dm(ConvNet(width=8), steps=2), "mean": MEAN, "std": STD, **more}
    return CondensedBuffer(images_per_class=2, **how)


class Growing(nn.Module):
    """A head of as many outputs as classes were seen."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            self.features = nn.Linear(64, 8)
            self.head = IncrementalClassifier(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.features(x.flatten(1)).relu())
        return out


def growing() -> Any:
    strategy = experience_replay(Growing(), condensed(), epochs=2, batch_size=4)
    strategy.plugins.append(AugmentPlugin(Siamese("flip_scale"), seed=3))
    return strategy


STRATEGIES: dict[str, Make] = {
    "replay": lambda: experience_replay(linear(), condensed(), epochs=2, batch_size=4),
    "replay, bits, crisp, finished": lambda: experience_replay(
        linear(), condensed(codec=bits(3)), epochs=2, batch_size=4, crisp=0.5, finish_steps=3
    ),
    "replay, balanced, ring": lambda: experience_replay(
        linear(), RingBuffer(images_per_class=3, mean=MEAN, std=STD), batch_size=4, batch_size_mem="balanced"
    ),
    "replay, growing, augmented": growing,
    "gdumb": lambda: gdumb(linear(), condensed(), steps=12, batch_size=4),
    "der++": lambda: derpp(linear(), condensed(), epochs=2, batch_size=4, logit_bytes_per_class=20),
    "er-ace": lambda: er_ace(linear(), condensed(task_labels="always"), epochs=2, batch_size=4),
    "lwf": lambda: lwf_replay(linear(), condensed(), epochs=2, batch_size=4),
}


def everything(strategy: Any) -> list[torch.Tensor]:
    """Weights, the optimiser's averages, and the memory."""
    momenta = [value["momentum_buffer"] for value in strategy.optimizer.state.values() if value]
    held = strategy.plugins[0].storage_policy if "storage_policy" not in vars(strategy) else strategy.storage_policy
    return [*strategy.model.state_dict().values(), *momenta, *(sample[0] for sample in held.buffer)]


@pytest.mark.parametrize("name", STRATEGIES)
def test_it_goes_on_to_the_same_bits(name: str, tmp_path: Path) -> None:
    stream, path = task_labelled_stream().train_stream, tmp_path / "stream"
    torch.manual_seed(11)
    whole = STRATEGIES[name]()
    for experience in stream:
        whole.train(experience)
    torch.manual_seed(11)
    for done in range(len(stream)):  # a new process for every experience, each with random states of its own
        strategy = STRATEGIES[name]()
        if done:
            torch.manual_seed(done)
            assert load_stream(path, strategy, stream) == done
        strategy.train(stream[done])
        save_stream(path, strategy)
    assert strategy.clock.train_iterations == whole.clock.train_iterations
    for a, b in zip(everything(strategy), everything(whole), strict=True):
        assert torch.equal(a, b)


def test_another_strategy_and_damage_are_refused(tmp_path: Path) -> None:
    stream, path = task_labelled_stream().train_stream, tmp_path / "stream"
    strategy = STRATEGIES["replay"]()
    strategy.train(stream[0])
    save_stream(path, strategy)
    before = strategy.model.state_dict()["1.weight"].clone()
    with pytest.raises(ValueError, match="make it as it was"):
        load_stream(path, STRATEGIES["lwf"](), stream)
    with pytest.raises(ValueError, match="does not fit"):
        load_stream(path, experience_replay(linear(9), condensed()), stream)
    with pytest.raises(ValueError, match="of a stream of 0"):
        load_stream(path, STRATEGIES["replay"](), stream[:0])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        load_stream(path, strategy, stream)
    assert torch.equal(strategy.model.state_dict()["1.weight"], before)


class Counting(SupervisedPlugin):
    """A plugin of one's own with a plain value."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def after_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self.seen += 1


class Averaging(SupervisedPlugin):
    """A plugin of one's own with a tensor, which says how it is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.zeros(2)

    def after_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self.mean = self.mean + 1

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.mean = state["mean"]


class Closed(SupervisedPlugin):
    """A plugin that does not say how it is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = torch.zeros(2)


def with_plugins(*plugins: Any) -> Any:
    strategy = STRATEGIES["replay"]()
    strategy.plugins += plugins
    return strategy


def test_plugins_of_ones_own(tmp_path: Path) -> None:
    stream, path = task_labelled_stream().train_stream, tmp_path / "stream"
    strategy = with_plugins(Counting(), Averaging())
    strategy.train(stream[0])
    save_stream(path, strategy)
    again = with_plugins(Counting(), Averaging())
    load_stream(path, again, stream)
    assert [plugin.seen for plugin in again.plugins if isinstance(plugin, Counting)] == [1]
    assert [plugin.mean.tolist() for plugin in again.plugins if isinstance(plugin, Averaging)] == [[1, 1]]
    with pytest.raises(TypeError, match=r"Closed holds .*weights"):
        save_stream(path, with_plugins(Closed()))


def test_a_memory_that_cannot_be_kept_is_named(tmp_path: Path) -> None:
    model = linear()
    replay = CondensedReplayPlugin(ClassBalancedBuffer(10, adaptive_size=True))
    strategy = SupervisedTemplate(
        model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), plugins=[replay], evaluator=None
    )
    with pytest.raises(TypeError, match="RingBuffer"):
        save_stream(tmp_path / "stream", strategy)


def test_factories_of_a_known_model_do_not_follow_its_weights() -> None:
    """The default condenser looks with fresh copies of the strategy's network, whenever it was told of it."""
    model = linear()
    first = as_factory(model)
    with torch.no_grad():
        model[1].weight.add_(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        a = first((1, 8, 8), 6)
        torch.manual_seed(0)
        b = as_factory(model)((1, 8, 8), 6)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_the_recipe_in_the_docs_runs_as_it_stands(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "robustness.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {
        "make_strategy": STRATEGIES["replay"],
        "benchmark": task_labelled_stream(),
        "path": tmp_path / "stream",
    }
    exec(compile(block, "robustness.md", "exec"), names)
    exec(compile(block, "robustness.md", "exec"), names)  # which finds that nothing is left to do
    assert (names["done"], names["strategy"].clock.train_exp_counter) == (3, 3)
