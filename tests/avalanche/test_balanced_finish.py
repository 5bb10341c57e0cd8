"""The steps on the memory alone at the end of an experience."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.storage_policy import ClassBalancedBuffer
from avalanche.training.supervised import ER_ACE, Naive
from toy_streams import MEAN, STD, Seen, label_free_stream, linear, task_labelled_stream

from ddreplay.avalanche import AugmentPlugin, CondensedBuffer, CondensedReplayPlugin, FinishPlugin, RingBuffer, use_in

STREAMS = {"labelled": task_labelled_stream, "label-free": lambda: label_free_stream([[0, 1], [2, 3], [4, 5]])}


def ring(**how: Any) -> CondensedBuffer:
    return RingBuffer(**{"images_per_class": 3, "mean": MEAN, "std": STD, "device": "cpu", **how})


def base(kind: Any = Naive, **how: Any) -> Any:
    model, lr = linear(), how.pop("lr", 0.4)
    how = {"criterion": torch.nn.CrossEntropyLoss(), "train_mb_size": 8, "evaluator": None, **how}
    torch.manual_seed(5)
    return kind(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9), **how)


class Rates(SupervisedPlugin):  # type: ignore[misc]
    """Notes the learning rate of every step."""

    def __init__(self) -> None:
        super().__init__()
        self.rates: list[float] = []

    def before_update(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self.rates.append(strategy.optimizer.param_groups[0]["lr"])


@pytest.mark.parametrize("stream", STREAMS)
def test_a_finish_shows_all_classes_alike_at_falling_rates(stream: str) -> None:
    plugins = [
        CondensedReplayPlugin(memory := ring(), finish_steps=6, batch_size_mem="balanced"),
        seen := Seen(),
        rates := Rates(),
    ]
    strategy = base(plugins=plugins)
    for k, experience in enumerate(STREAMS[stream]().train_stream):
        before = len(rates.rates)
        strategy.train(experience)
        own = rates.rates[before:]
        assert own == [0.4] * (len(own) - 6) + [0.2] * 3 + [pytest.approx(0.04)] * 3
        assert strategy.optimizer.param_groups[0]["lr"] == 0.4
        stored = torch.stack([memory.buffer[i][0] for i in range(len(memory.buffer))])
        for labels, images in zip(seen.labels[-1][-6:], seen.images[-1][-6:], strict=True):
            counts = Counter(labels)
            assert len(labels) == 8 * (k + 1)
            assert set(counts) == set(memory.buffer.targets.uniques)
            assert set(counts.values()) == {4}
            assert all(bool((stored == x).flatten(1).all(1).any()) for x in images)


def test_every_image_comes_once_before_any_comes_again_and_what_is_left_over_goes_round() -> None:
    strategy = base(
        plugins=[
            FinishPlugin(memory := ClassBalancedBuffer(30, adaptive_size=False, total_num_classes=6), 9, batch_size=5),
            seen := Seen(),
        ]
    )
    experience = task_labelled_stream().train_stream[0]
    memory.update_from_dataset(experience.dataset)
    strategy.train(experience)
    steps = list(zip(seen.labels[0], seen.images[0], strict=True))[-9:]
    assert {tuple(sorted(Counter(labels).values())) for labels, _ in steps} == {(2, 3)}
    assert len({max(Counter(labels), key=Counter(labels).__getitem__) for labels, _ in steps}) == 2
    for label in memory.buffer.targets.uniques:
        shown = [x for labels, images in steps for y, x in zip(labels, images, strict=True) if y == label]
        for start in range(0, len(shown) - 4, 5):
            assert len({x.numpy().tobytes() for x in shown[start : start + 5]}) == 5


def test_it_learns_with_the_strategys_own_parts_and_leaves_its_counters_alone() -> None:
    class Negative:
        def draw(self, shape: Any, random: Any, *, n: int | None = None) -> Any:
            return torch.neg

    def run(steps: int) -> Any:
        evaluator = EvaluationPlugin(accuracy_metrics(epoch=True, minibatch=True))
        plugins = [CondensedReplayPlugin(memory := ring(), finish_steps=steps), AugmentPlugin(Negative())]
        strategy = base(plugins=plugins, evaluator=evaluator, lr=0.01)
        for experience in task_labelled_stream().train_stream:
            strategy.train(experience)
        return strategy, memory, len(evaluator.get_all_metrics()["Top1_Acc_MB/train_phase/train_stream/Task000"][1])

    (plain, _, iterations), (finished, memory, same) = run(0), run(40)
    assert iterations == same == finished.clock.train_iterations == plain.clock.train_iterations
    x, y = (torch.stack([torch.as_tensor(memory.buffer[i][k]) for i in range(len(memory.buffer))]) for k in (0, 1))

    def loss(strategy: Any) -> float:
        with torch.no_grad():
            return float(torch.nn.functional.cross_entropy(strategy.model(-x), y))  # as it was augmented

    assert loss(finished) < 0.5 * loss(plain)


def test_it_finishes_what_er_ace_has_learned() -> None:
    memory = ring(task_labels="always")
    strategy = use_in(base(ER_ACE, batch_size_mem=4, plugins=[FinishPlugin(memory, 5), seen := Seen()]), memory)
    for experience in task_labelled_stream().train_stream:
        strategy.train(experience)
        classes = set(memory.buffer.targets.uniques)
        assert [set(labels) for labels in seen.labels[-1][-5:]] == [classes] * 5
        assert [len(labels) for labels in seen.labels[-1][-5:]] == [16] * 5


def test_nothing_is_finished_without_steps_or_without_a_memory() -> None:
    strategy = base(plugins=[FinishPlugin(ring(), 5), FinishPlugin(ring(), 0), seen := Seen()])
    experience = task_labelled_stream().train_stream[0]
    strategy.train(experience)
    assert len(seen.labels[0]) == 3  # 20 images in batches of 8
    with pytest.raises(ValueError, match="steps must be at least 0, got -1"):
        FinishPlugin(ring(), -1)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        FinishPlugin(ring(), 5, batch_size=0)
    with pytest.raises(ValueError, match="finish_steps must be at least 0, got -2"):
        CondensedReplayPlugin(ring(), finish_steps=-2)
