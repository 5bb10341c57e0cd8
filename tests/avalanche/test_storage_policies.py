"""The storage policies: what they hold, what they look at, what Avalanche makes of it."""

from __future__ import annotations

import copy
import pickle
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.benchmarks.utils.data_loader import ReplayDataLoader
from avalanche.training.plugins import ReplayPlugin
from avalanche.training.supervised.feature_replay import FeatureDataset
from avalanche.training.templates import SupervisedTemplate
from jaxtyping import TypeCheckError
from toy_streams import (
    MEAN,
    STD,
    Images,
    Seen,
    label_free_stream,
    labelled,
    linear,
    noisy,
    plain,
    task_labelled_stream,
)

from ddreplay import ConvNet, dm
from ddreplay.avalanche import CondensedBuffer, RingBuffer
from ddreplay.networks import Banked
from ddreplay.storage.codecs import float32

QUICK = dm(ConvNet(width=8), networks=Banked(size=2), steps=2, batch_real=4)
SPACE: dict[str, Any] = {"mean": MEAN, "std": STD, "device": "cpu"}


def condensed(**how: Any) -> CondensedBuffer:
    return CondensedBuffer(condenser=QUICK, **{**SPACE, "images_per_class": 2, **how})


def ring(**how: Any) -> CondensedBuffer:
    return RingBuffer(**{**SPACE, "images_per_class": 2, **how})


def after(dataset: Any) -> Any:
    """All that a policy may look at of an experience."""
    return SimpleNamespace(dataset=dataset)


def labels_of(buffer: Any) -> list[int]:
    return [int(buffer[k][1]) for k in range(len(buffer))]


def strategy_with(*plugins: Any, classes: int = 6, epochs: int = 1) -> Any:
    model = linear(classes)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return SupervisedTemplate(
        model=model, optimizer=optimizer, train_mb_size=8, train_epochs=epochs, evaluator=None, plugins=list(plugins)
    )


STREAMS = {"labelled": task_labelled_stream, "label-free": lambda: label_free_stream([[0, 1], [2, 3], [4, 5]])}


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("make", [condensed, ring])
def test_stands_in_the_stock_replay_plugin(stream: str, make: Any) -> None:
    memory = make(total_num_classes=6)
    strategy = strategy_with(ReplayPlugin(mem_size=12, storage_policy=memory), seen := Seen())
    old: set[int] = set()
    for k, experience in enumerate(STREAMS[stream]().train_stream):
        strategy.train(experience)
        new = {int(c) for c in experience.dataset.targets}
        if k:
            assert all(set(step) & old for step in seen.labels[-1])
        old |= new
        assert sorted(labels_of(memory.buffer)) == sorted([*old] * 2)
        assert sum(len(part) for part in memory.buffer_datasets) == len(memory.buffer) <= memory.max_size


@pytest.mark.parametrize("stream", STREAMS)
def test_samples_have_the_structure_of_the_experience(stream: str) -> None:
    memory = condensed()
    experience = next(iter(STREAMS[stream]().train_stream))
    memory.post_adapt(None, experience)
    current, stored = experience.dataset[0], memory.buffer[0]
    assert [type(part) for part in stored] == [type(part) for part in current]
    assert stored[0].shape == current[0].shape
    assert stored[0].dtype == current[0].dtype
    loader = ReplayDataLoader(
        experience.dataset, memory.buffer, batch_size=4, batch_size_mem=4, oversample_small_tasks=True
    )
    assert all(len(batch) == len(current) and len(batch[0]) == 8 for batch in loader)


@pytest.mark.parametrize(("task_labels", "length"), [("always", 3), ("never", 2), ("auto", None)])
@pytest.mark.parametrize("make", [plain, labelled])
def test_task_labels_can_be_asked_for(task_labels: Any, length: int | None, make: Any) -> None:
    memory = ring(task_labels=task_labels)
    memory.post_adapt(None, after(data := make(noisy([0]))))
    assert len(memory.buffer[0]) == (length or len(data[0]))


def test_only_the_current_experience_is_touched() -> None:
    parts = [noisy([2 * k, 2 * k + 1], seed=k) for k in range(3)]
    memory = condensed(total_num_classes=6)
    strategy = strategy_with(ReplayPlugin(mem_size=12, storage_policy=memory))
    stream = label_free_from(parts)
    for k, experience in enumerate(stream):
        for j, part in enumerate(parts):
            part.closed = j != k
        strategy.train(experience)
    for part in parts:
        part.closed = True
    assert sorted(labels_of(memory.buffer)) == sorted([*range(6)] * 2)


def label_free_from(parts: list[Images]) -> Any:
    from avalanche.benchmarks import benchmark_from_datasets

    return benchmark_from_datasets(train=[plain(part) for part in parts]).train_stream


def test_a_class_that_comes_back_is_chosen_from_new_and_stored_images() -> None:
    memory = ring(images_per_class=3)
    first, second = noisy([1], per_class=2), noisy([1, 2], per_class=1, seed=5)
    memory.post_adapt(None, after(plain(first)))
    memory.post_adapt(None, after(plain(second)))
    x, y = memory.condensed.images()
    ones = torch.cat([first.x, second.x[:1]])
    torch.testing.assert_close(x[y == 1].flatten(1).sort(0).values, ones.flatten(1).sort(0).values, rtol=0, atol=1e-5)
    assert sorted(labels_of(memory.buffer)) == [1, 1, 1, 2]


def test_a_class_that_comes_back_is_condensed_once_more() -> None:
    memory = condensed()
    for seed in range(3):
        memory.post_adapt(None, after(plain(noisy([0, 1], seed=seed))))
    assert sorted(labels_of(memory.buffer)) == [0, 0, 1, 1]
    assert len(memory.seconds) == 3


def test_a_class_smaller_than_its_budget_keeps_its_real_images() -> None:
    memory = condensed(images_per_class=4)
    one, many = noisy([0], per_class=1), noisy([1], per_class=9)
    both = Images(torch.cat([one.x, many.x]), [*one.targets, *many.targets])
    memory.post_adapt(None, after(labelled(both)))
    assert sorted(labels_of(memory.buffer)) == [0, 1, 1, 1, 1]
    torch.testing.assert_close(memory.buffer_groups[0].buffer[0][0], one.x[0], rtol=0, atol=1e-5)


def test_tasks_that_share_class_ids_are_kept_apart() -> None:
    benchmark = task_labelled_stream(task_labels=True, class_ids_from_zero_in_each_exp=True)
    memory = condensed(total_num_classes=6)
    for experience in benchmark.train_stream:
        memory.post_adapt(None, experience)
    found = sorted((memory.buffer[k][2], memory.buffer[k][1]) for k in range(12))
    assert found == sorted([(t, c) for t in range(3) for c in range(2)] * 2)
    assert {key: (g.task, g.class_id) for key, g in memory.buffer_groups.items()} == {
        0: (0, 0), 1: (0, 1), -1: (1, 0), -2: (1, 1), -3: (2, 0), -4: (2, 1),
    }  # fmt: skip
    assert all({part[k][2] for k in range(2)} == {g.task} for part, g in zip(
        memory.buffer_datasets, memory.buffer_groups.values(), strict=True
    ))  # fmt: skip
    current = benchmark.train_stream[2].dataset
    loader = ReplayDataLoader(current, memory.buffer, batch_size=6, batch_size_mem=6, task_balanced_dataloader=True)
    assert sorted(next(iter(loader))[2].tolist()[6:]) == [0, 0, 1, 1, 2, 2]
    with pytest.raises(ValueError, match="memories"):
        memory.condensed  # noqa: B018


def test_memory_joins_with_current_data_and_groups_with_each_other() -> None:
    experience = task_labelled_stream().train_stream[0]
    memory = ring()
    memory.post_adapt(None, experience)
    for whole in (memory.buffer.concat(experience.dataset), experience.dataset.concat(memory.buffer)):
        assert len(whole) == len(whole.targets) == len(whole.targets_task_labels) == len(experience.dataset) + 4
        assert {len(whole[k]) for k in range(len(whole))} == {3}
    first, second = memory.buffer_datasets
    assert len(first.concat(second).targets_task_labels) == 4


def test_images_are_read_through_evaluation_transforms_and_not_normalised_again() -> None:
    def fail(x: torch.Tensor) -> torch.Tensor:
        raise AssertionError("a training transform was used")

    def normalise(x: torch.Tensor) -> torch.Tensor:
        return (x - MEAN[0]) / STD[0]

    raw = noisy(range(4))
    raw.x = raw.x * STD[0] + MEAN[0]
    benchmark = task_labelled_stream_of(raw, train_transform=fail, eval_transform=normalise)
    memory = ring(images_per_class=10)
    memory.post_adapt(None, benchmark.train_stream[0])
    eval_images = benchmark.train_stream[0].dataset.eval()
    expected = torch.stack([eval_images[k][0] for k in range(len(eval_images))])
    for view in (memory.buffer, memory.buffer.train(), memory.buffer.eval()):
        stored = torch.stack([view[k][0] for k in range(len(view))])
        torch.testing.assert_close(
            stored.flatten(1).sort(0).values, expected.flatten(1).sort(0).values, rtol=0, atol=1e-5
        )


def task_labelled_stream_of(images: Images, **how: Any) -> Any:
    from avalanche.benchmarks import nc_benchmark

    return nc_benchmark(images, images, n_experiences=2, task_labels=False, seed=0, **how)


def negative(x: torch.Tensor) -> torch.Tensor:
    return -x


def test_replay_has_an_augmentation_of_its_own() -> None:
    memory = ring(replay_transform=negative)
    memory.post_adapt(None, after(plain(noisy([0, 1]))))
    train, evaluation = memory.buffer, memory.buffer.eval()
    assert all(torch.equal(train[k][0], -evaluation[k][0]) for k in range(4))
    assert len(pickle.loads(pickle.dumps(memory)).buffer.train()) == 4


def test_stored_images_are_plain_tensors_on_the_cpu_and_the_buffer_is_built_once() -> None:
    memory = condensed()
    memory.post_adapt(None, after(plain(noisy([0, 1]))))
    x = memory.buffer[0][0]
    assert x.is_leaf
    assert not x.requires_grad
    assert x.device.type == "cpu"
    assert memory.buffer is memory.buffer
    assert type(memory.buffer[0][1]) is int
    before = memory.buffer
    memory.post_adapt(None, after(plain(noisy([2]))))
    assert memory.buffer is not before
    with pytest.raises(AttributeError):
        memory.buffer = before


def test_an_untouched_memory_is_an_empty_dataset_with_its_attributes() -> None:
    memory = condensed()
    assert len(memory.buffer) == len(memory.buffer.targets) == len(memory.buffer.targets_task_labels) == 0
    assert memory.buffer_groups == {}
    assert memory.buffer_datasets == []
    assert memory.nbytes == 0
    memory.resize(None, 10)


def test_an_experience_without_samples_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    memory = condensed()
    memory.post_adapt(None, after(plain(noisy([0]))))
    memory.post_adapt(None, after(AvalancheDataset([])))
    assert len(memory.buffer) == 2
    assert "without samples" in caplog.text


def test_a_plain_dataset_of_feature_vectors_gets_task_label_zero() -> None:
    memory = RingBuffer(images_per_class=2, codec=float32(), device="cpu")
    features = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    memory.update_from_dataset(FeatureDataset(features, torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])))
    x, y, task = memory.buffer[0]
    assert (x.shape, y, task) == ((5,), 0, 0)
    assert any(torch.allclose(x, row, atol=1e-5) for row in features[:4])


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ((torch.zeros(1, 8, 8, dtype=torch.uint8), 0), "ToTensor"),
        (("a picture", 0), "got a str"),
        ((torch.zeros(1, 8, 8), 0, 0, 0), "got 4 parts"),
        ((torch.zeros(8, 8), 0), "images \\[c, h, w\\]"),
    ],
)
def test_samples_that_are_no_images_are_refused(item: Any, words: str) -> None:
    memory = ring()
    with pytest.raises(ValueError, match=words):
        memory.update_from_dataset([item, item])
    assert memory.staged == 0


def test_the_random_state_of_the_caller_is_left_alone() -> None:
    memory = condensed()
    benchmark = task_labelled_stream_of(noisy(range(4)), eval_transform=lambda x: x + 0.01 * torch.rand(x.shape))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    memory.post_adapt(None, benchmark.train_stream[0])
    len(memory.buffer)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_seed_decides() -> None:
    def images(seed: int, noise: int) -> torch.Tensor:
        torch.manual_seed(noise)
        memory = condensed(seed=seed)
        memory.post_adapt(None, after(plain(noisy([0, 1]))))
        return memory.condensed.images().x

    assert torch.equal(images(0, 1), images(0, 2))
    assert not torch.equal(images(0, 1), images(1, 1))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda memory: pickle.loads(pickle.dumps(memory))])
def test_a_copy_goes_on_like_the_original(copied: Any) -> None:
    memory = condensed()
    memory.post_adapt(None, after(labelled(noisy([0, 1]))))
    len(memory.buffer)
    twin = copied(memory)
    for one in (memory, twin):
        one.post_adapt(None, after(labelled(noisy([1, 2], seed=3))))
    assert torch.equal(memory.condensed.images().x, twin.condensed.images().x)
    assert labels_of(memory.buffer) == labels_of(twin.buffer)
    assert all(group.owner is twin for group in twin.buffer_groups.values())


def test_a_pickled_group_holds_its_own_images_only() -> None:
    memory = ring(images_per_class=10)
    memory.post_adapt(None, after(labelled(noisy(range(6)))))
    one, all_of_them = (len(pickle.dumps(part)) for part in (memory.buffer_groups[0].buffer, memory.buffer))
    assert one < all_of_them / 4


@pytest.mark.parametrize(
    "how", [{}, {"condense_every": 2}, {"max_size": 12, "adaptive_size": True, "images_per_class": None}]
)
def test_state_dict_continues_the_run(how: Any, tmp_path: Any) -> None:
    benchmark = task_labelled_stream(task_labels=True, class_ids_from_zero_in_each_exp=True)
    whole = condensed(**how)
    whole.post_adapt(None, benchmark.train_stream[0])
    torch.save(whole.state_dict(), tmp_path / "memory.pt")
    again = condensed(**how)
    again.load_state_dict(torch.load(tmp_path / "memory.pt", weights_only=True))
    assert again.staged == whole.staged
    for memory in (whole, again):
        memory.post_adapt(None, benchmark.train_stream[1])
    assert whole.buffer_groups.keys() == again.buffer_groups.keys()
    assert (whole.max_size, whole.nbytes) == (again.max_size, again.nbytes)
    assert len(whole.buffer) == len(again.buffer) > 0
    for k in range(len(whole.buffer)):
        assert torch.equal(whole.buffer[k][0], again.buffer[k][0])
        assert whole.buffer[k][1:] == again.buffer[k][1:]


def test_the_codec_can_be_chosen_for_a_condenser_that_has_one() -> None:
    sizes = {}
    for name, codec in (("uint8", None), ("float32", float32())):
        memory = condensed(codec=codec)
        memory.post_adapt(None, after(plain(noisy([0, 1]))))
        sizes[name] = memory.nbytes
    assert 4 * 4 * 64 < sizes["float32"] < 4 * 4 * 64 + 50
    assert 4 * 64 < sizes["uint8"] < 4 * 64 + 50
    with pytest.raises(TypeError, match="give it its codec itself"):
        CondensedBuffer(images_per_class=1, condenser=lambda pool, n, seed=0: QUICK(pool, n), codec=float32())


def test_arguments_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="condense_every"):
        condensed(condense_every=0)
    with pytest.raises((ValueError, TypeCheckError), match="task_labels"):
        condensed(task_labels="sometimes")
