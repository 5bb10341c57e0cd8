"""New images pass the memory's codec, and nothing else about an experience changes."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import pytest
import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.utils import DataAttribute
from avalanche.benchmarks.utils.classification_dataset import ClassificationDataset
from avalanche.training.plugins import LwFPlugin
from avalanche.training.storage_policy import ClassBalancedBuffer
from avalanche.training.supervised import ER_ACE, Naive
from toy_streams import MEAN, STD, Seen, label_free_stream, linear, noisy, task_labelled_stream

from ddreplay import ConvNet, dm
from ddreplay.avalanche import CodecPlugin, CondensedBuffer, CondensedReplayPlugin, MemoryOnlyPlugin, RingBuffer, use_in
from ddreplay.avalanche.codec_consistency import Stored, how_stored
from ddreplay.avalanche.datasets import read
from ddreplay.networks import Banked
from ddreplay.storage.codecs import Codec, bits, jpeg

STREAMS = {"labelled": task_labelled_stream, "label-free": lambda: label_free_stream([[0, 1], [2, 3], [4, 5]])}
LOSSY = jpeg(quality=10)


def ring(**how: Any) -> CondensedBuffer:
    return RingBuffer(**{"images_per_class": 4, "codec": LOSSY, "mean": MEAN, "std": STD, "device": "cpu", **how})


def base(kind: Any = Naive, **how: Any) -> Any:
    model = linear()
    how = {"criterion": torch.nn.CrossEntropyLoss(), "train_mb_size": 8, "evaluator": None, **how}
    torch.manual_seed(5)
    return kind(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), **how)


def through(codec: Codec, x: torch.Tensor, size: int) -> torch.Tensor:
    """One class, in sheets of ``size``, image by image the slow way."""
    shown = []
    for start in range(0, len(x), size):
        rows = [(start + k) % len(x) for k in range(size)]
        sheet = torch.stack([x[k] * STD[0] + MEAN[0] for k in rows])
        given = codec.decode(codec.encode([sheet]), [size], (1, 8, 8))[0]
        shown += [(image - MEAN[0]) / STD[0] for image in given]
    return torch.stack(shown[: len(x)])


def of_experience(dataset: Any) -> tuple[torch.Tensor, torch.Tensor]:
    items = [dataset[k] for k in range(len(dataset))]
    return torch.stack([item[0] for item in items]), torch.tensor([item[1] for item in items])


@pytest.mark.parametrize("stream", STREAMS)
def test_new_images_are_seen_through_the_codec_in_the_same_order(stream: str) -> None:
    def run(crisp: float) -> Any:
        strategy = base(plugins=[CondensedReplayPlugin(memory := ring(), crisp=crisp), seen := Seen()], train_epochs=2)
        for experience in STREAMS[stream]().train_stream:
            strategy.train(experience)
        return seen, memory.buffer

    (coded, memory), (crisp, same) = run(0.0), run(1.0)
    assert coded.labels == crisp.labels
    assert torch.equal(of_experience(memory)[0], of_experience(same)[0])  # filled from crisp images
    for k, experience in enumerate(STREAMS[stream]().train_stream):
        x, y = of_experience(experience.dataset)
        wanted = x.clone()
        for label in y.unique():
            wanted[y == label] = through(LOSSY, x[y == label], 4)
        for step, (before, after) in enumerate(zip(crisp.images[k], coded.images[k], strict=True)):
            for old, new, label in zip(before, after, crisp.labels[k][step], strict=True):
                if label in y:
                    (row,) = (x == old).flatten(1).all(1).nonzero().flatten().tolist()
                    torch.testing.assert_close(new, wanted[row])
                    assert not torch.equal(new, old)
                else:
                    assert torch.equal(new, old)


def test_a_sheet_holds_as_many_images_as_in_the_memory() -> None:
    x, y = of_experience(noisy([3, 7], per_class=10))
    mixed = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    stored = Stored(LOSSY, 4, MEAN, STD)
    given = stored.give_back(x[mixed], y[mixed])
    for label in (3, 7):
        torch.testing.assert_close(given[y[mixed] == label], through(LOSSY, x[mixed][y[mixed] == label], 4))
    few = stored.give_back(x[:3], y[:3])
    torch.testing.assert_close(few, through(LOSSY, x[:3], 3))
    vectors = Stored(bits(2), 4, (0.0,), (1.0,)).give_back(torch.rand(6, 5), torch.zeros(6, dtype=torch.int64))
    assert vectors.shape == (6, 5)
    assert vectors.unique().numel() <= 4 * 5


@pytest.mark.parametrize("memory", [lambda: ring(codec="uint8"), lambda: ClassBalancedBuffer(12)])
def test_where_nothing_is_lost_the_experience_stays_as_it_is(memory: Any) -> None:
    class Dataset(Seen):
        def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
            super().before_training_exp(strategy)
            x, _ = of_experience(strategy.adapted_dataset)
            assert torch.equal(x, of_experience(strategy.experience.dataset)[0])

    strategy = base(plugins=[plugin := CondensedReplayPlugin(memory()), Dataset()])
    for experience in task_labelled_stream().train_stream:
        strategy.train(experience)
        assert plugin.coding.stored is None


def test_a_share_of_crisp_images_is_drawn_in_every_epoch() -> None:
    plugins = [CodecPlugin(ring(), crisp=0.3, seed=1), seen := Seen()]
    strategy = base(plugins=plugins, train_epochs=6, train_mb_size=20)
    experience = next(iter(STREAMS["label-free"]().train_stream))
    strategy.train(experience)
    x, _ = of_experience(experience.dataset)
    crisp = [
        frozenset(row for row, one in enumerate(x) if (epoch == one).flatten(1).all(1).any())
        for epoch in seen.images[0]
    ]
    assert [len(rows) for rows in crisp] == [6] * 6
    assert len(set(crisp)) > 3
    for wrong in (-0.1, 1.5):
        with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
            CodecPlugin(ring(), crisp=wrong)


class Drawn:
    """A training transform that draws a sign, from the global generator."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return x * (1 - 2 * torch.randint(2, ()))


def test_what_training_transforms_draw_is_drawn_in_every_epoch_and_coded_after() -> None:
    images = noisy([0, 1], per_class=8)
    dataset = ClassificationDataset(
        [images],
        data_attributes=[DataAttribute(images.targets, "targets")],
        transform_groups={"train": Drawn(), "eval": None},  # type: ignore[arg-type]
    )
    strategy = base(plugins=[CodecPlugin(memory := ring()), seen := Seen()], train_epochs=5, train_mb_size=16)
    (experience,) = benchmark_from_datasets(train=[dataset], test=[dataset]).train_stream
    state = torch.get_rng_state()
    plugin = strategy.plugins[0]
    strategy.train(experience)
    x, y = of_experience(dataset.eval())
    positive = through(plugin.stored.codec, x[y == 0], 4)
    epochs = [sum(bool((step == one).flatten(1).all(1).any()) for one in positive) for step in seen.images[0]]
    assert len(set(epochs)) > 1  # other signs, other sheets
    shown = torch.stack([one for step in seen.images[0] for one in step])
    assert shown.unique().numel() <= 256  # what 8 bits give back
    assert not torch.equal(state, torch.get_rng_state())  # loaders shuffle
    assert memory.memories == {}


def test_the_quality_is_that_of_the_memory_and_guessed_before_there_is_one() -> None:
    how = {"images_per_class": None, "bytes_per_class": 200, "codec": "jpeg"}
    stream = label_free_stream([[0, 1], [2, 3], [4, 5]], per_class=40)
    memory = ring(**how)
    strategy = base(plugins=[plugin := CondensedReplayPlugin(memory)])
    for k, experience in enumerate(stream.train_stream):
        parts = memory.memories[0].condensed.parts if k else ()
        strategy.train(experience)
        found = plugin.coding.stored
        if parts:
            assert found == Stored.like(parts[-1])
        else:  # other images of the same class were measured
            (part,) = memory.memories[0].condensed.parts
            assert abs(found.codec.quality - part.codec.quality) <= 5
            assert abs(found.images - max(part.counts)) <= 2
    assert len(plugin.coding.seconds) == 3


def test_a_distiller_through_a_codec_is_guessed_like_real_images() -> None:
    condenser = dm(networks=Banked(ConvNet(width=8), size=2), steps=2, batch_real=4)
    memory = CondensedBuffer(images_per_class=4, condenser=condenser, codec=LOSSY, mean=MEAN, std=STD, device="cpu")
    strategy = base(plugins=[plugin := CondensedReplayPlugin(memory)])
    strategy.train(task_labelled_stream().train_stream[0])
    assert plugin.coding.stored == Stored(LOSSY, 4, MEAN, STD)


def test_the_default_memory_of_a_budget_in_bytes_is_guessed_through_avif() -> None:
    samples = partial(read, next(iter(STREAMS["label-free"]().train_stream)).dataset)
    how = {"mean": MEAN, "std": STD, "device": "cpu"}
    found = how_stored(CondensedBuffer(bytes_per_class=250, **how), samples)
    assert found is not None
    assert found.codec.name == "avif"
    assert 1 <= found.images <= 10
    assert how_stored(CondensedBuffer(images_per_class=2, **how), samples) is None


def test_a_condenser_that_says_nothing_of_its_codec_is_known_by_what_it_stored(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def condenser(pool: Any, *budget: Any, **how: Any) -> Any:
        return ring().condenser(pool, *budget, **how)

    memory = CondensedBuffer(images_per_class=4, condenser=condenser, mean=MEAN, std=STD, device="cpu")
    strategy = base(plugins=[plugin := CondensedReplayPlugin(memory)])
    first, second, _ = task_labelled_stream().train_stream
    with caplog.at_level(logging.INFO, "ddreplay"):
        strategy.train(first)
    assert plugin.coding.stored is None
    assert "is known when the memory holds some" in caplog.text
    strategy.train(second)
    assert plugin.coding.stored == Stored(LOSSY, 4, MEAN, STD)


def test_nothing_but_the_current_experience_is_looked_at() -> None:
    parts = [noisy([0, 1]), noisy([2, 3], seed=1)]
    datasets = [ClassificationDataset([p], data_attributes=[DataAttribute(p.targets, "targets")]) for p in parts]
    stream = benchmark_from_datasets(train=datasets, test=datasets).train_stream
    strategy = base(plugins=[CondensedReplayPlugin(ring(), finish_steps=2)])
    for k, experience in enumerate(stream):
        for j, part in enumerate(parts):
            part.closed = j != k
        strategy.train(experience)


def test_strategies_of_avalanche_see_coded_images() -> None:
    always = ring(task_labels="always")
    er_ace = use_in(base(ER_ACE, batch_size_mem=8, plugins=[CodecPlugin(always), one := Seen()]), always)
    lwf = base(plugins=[LwFPlugin(), CondensedReplayPlugin(ring()), two := Seen()])
    for experience in task_labelled_stream().train_stream:
        x, _ = of_experience(experience.dataset)
        for strategy, seen in ((er_ace, one), (lwf, two)):
            strategy.train(experience)
            assert seen.images[-1]
            assert not any(bool((x == new).flatten(1).all(1).any()) for step in seen.images[-1] for new in step)


def test_gdumb_is_left_alone() -> None:
    strategy = base(plugins=[MemoryOnlyPlugin(memory := ring()), seen := Seen()])
    strategy.train(task_labelled_stream().train_stream[0])
    stored = of_experience(memory.buffer)[0]
    assert all(bool((stored == new).flatten(1).all(1).any()) for step in seen.images[-1] for new in step)
