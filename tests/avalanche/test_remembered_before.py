"""A memory that takes an experience in before it is trained on."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from avalanche.training.supervised import Naive
from toy_streams import MEAN, STD, Seen, label_free_stream, linear, task_labelled_stream

from ddreplay.avalanche import CondensedReplayPlugin, RingBuffer
from ddreplay.storage.codecs import bits

STREAMS = {"labelled": task_labelled_stream, "label-free": lambda: label_free_stream([[0, 1], [2, 3], [4, 5]])}


def trained(plugins: list[Any]) -> Any:
    model = linear()
    torch.manual_seed(5)
    how: dict[str, Any] = {"criterion": torch.nn.CrossEntropyLoss(), "train_mb_size": 8, "evaluator": None}
    return Naive(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), plugins=plugins, **how)


@pytest.mark.parametrize("stream", STREAMS)
def test_new_classes_are_replayed_beside_old_ones(stream: str) -> None:
    memory = RingBuffer(images_per_class=3, mean=MEAN, std=STD, device="cpu", codec=bits(2))
    plugin = CondensedReplayPlugin(memory, batch_size_mem="balanced", update="before")
    strategy = trained([plugin, seen := Seen()])
    for k, experience in enumerate(STREAMS[stream]().train_stream):
        strategy.train(experience)
        held = set(memory.buffer.targets.uniques)
        assert len(held) == 2 * (k + 1)
        stored = torch.stack([memory.buffer[i][0] for i in range(len(memory.buffer))])
        replayed: Counter[int] = Counter()
        for labels, images in zip(seen.labels[-1], seen.images[-1], strict=True):
            for label, image in list(zip(labels, images, strict=True))[-6 * (k + 1) :]:
                replayed[label] += 1
                assert bool((stored == image).flatten(1).all(1).any())
        assert set(replayed) == held
    assert all(len(memory.buffer.targets.val_to_idx[label]) == 3 for label in range(6))


def test_the_codec_is_known_in_the_first_experience() -> None:
    memory = RingBuffer(bytes_per_class=40, mean=MEAN, std=STD, device="cpu")
    plugin = CondensedReplayPlugin(memory, update="before")
    strategy = trained([plugin])
    strategy.train(task_labelled_stream().train_stream[0])
    (condensed,) = (held.condensed for held in memory.memories.values())
    assert plugin.coding.stored is not None
    assert plugin.coding.stored.codec == condensed.parts[-1].codec


def test_nothing_else_changes_what_is_remembered() -> None:
    found = []
    for update in ("before", "after"):
        memory = RingBuffer(images_per_class=3, mean=MEAN, std=STD, device="cpu")
        strategy = trained([CondensedReplayPlugin(memory, update=update)])  # type: ignore[arg-type]
        for experience in task_labelled_stream().train_stream:
            strategy.train(experience)
        found.append(torch.stack([memory.buffer[i][0] for i in range(len(memory.buffer))]))
    assert torch.equal(*found)
