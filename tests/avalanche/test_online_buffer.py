"""The storage policy for online streams: what is replayed, what it costs, and that a stream goes on from its state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets
from toy_streams import MEAN, STD, label_free_stream, linear, noisy, plain

from ddreplay.avalanche import OnlineCondensedBuffer, load_stream, save_stream
from ddreplay.methods import selections
from ddreplay.storage.codecs import uint8
from strategies.experience_replay import experience_replay


def memory(**more: Any) -> OnlineCondensedBuffer:
    how: dict[str, Any] = {"condenser": selections.random(codec=uint8()), "mean": MEAN, "std": STD, "enough": 8, **more}
    return OnlineCondensedBuffer(6000, **how)


def online_stream(steps: int = 12, size: int = 6) -> Any:
    """A few images at a time, classes in blurred order."""
    images = noisy(range(6), per_class=steps)
    order = torch.argsort(
        torch.tensor(images.targets) + 3 * torch.rand(len(images), generator=torch.Generator().manual_seed(0))
    )
    parts = [plain(type(images)(images.x[rows], [images.targets[k] for k in rows])) for rows in order.split(size)]
    return benchmark_from_datasets(train=parts, test=[plain(noisy(range(6), 4, seed=9))])


def test_a_strategy_learns_online_within_the_bytes() -> None:
    buffer = memory()
    strategy = experience_replay(linear(), buffer, batch_size=6)
    for experience in online_stream().train_stream:
        strategy.train(experience)
        assert buffer.nbytes <= 6000
        assert len(buffer.buffer) == buffer.max_size == len(buffer.memory)
    assert len(set(buffer.buffer.targets)) == 6
    assert buffer.memory.memory.condensed.parts
    buffer.flush()
    assert buffer.memory.waiting == 0
    assert len(buffer.buffer) == buffer.memory.memory.condensed.stored_images


def test_an_online_stream_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    stream, path = online_stream().train_stream, tmp_path / "stream"

    def run(stops: bool) -> Any:
        torch.manual_seed(1)
        strategy = experience_replay(linear(), memory(), batch_size=6)
        for k, experience in enumerate(stream):
            strategy.train(experience)
            if stops and k % 5 == 2:
                save_stream(path, strategy)
                strategy = experience_replay(linear(), memory(), batch_size=6)
                assert load_stream(path, strategy, stream) == k + 1
        return strategy

    whole, resumed = run(False), run(True)
    assert torch.equal(whole.model[1].weight, resumed.model[1].weight)


def test_labels_as_in_the_stream_and_what_is_refused() -> None:
    buffer = memory()
    buffer.post_adapt(None, label_free_stream([[0, 1]]).train_stream[0])
    assert len(buffer.buffer[0]) == 2
    with pytest.raises(ValueError, match="max_bytes"):
        buffer.resize(None, 5)
    with pytest.raises(ValueError, match="stays as it was"):
        buffer.load_state_dict({})
    assert len(buffer.buffer) == buffer.max_size > 0
