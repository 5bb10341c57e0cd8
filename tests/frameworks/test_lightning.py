"""The callback: what joins a batch, what is condensed when, and what Lightning's checkpoints keep of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from ddreplay import ClassPool, CondensedMemory
from ddreplay.methods import selections

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    lightning = pytest.importorskip("lightning.pytorch")
    from ddreplay.frameworks.lightning import CondensedReplay

MakePool = Callable[..., ClassPool]


class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(64, 10)
        self.seen: list[tuple[int, list[int]]] = []

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        self.seen.append((len(batch[0]), sorted(set(batch[1].tolist()))))
        return torch.nn.functional.cross_entropy(self.layer(batch[0].flatten(1)), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def fit(module: Module, replay: CondensedReplay, experience: ClassPool, **how: Any) -> Any:
    batch = experience.all()
    loader = DataLoader(TensorDataset(batch.x, experience.class_ids[batch.y]), batch_size=4)
    off: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", callbacks=[replay], **off, **how)
    replay.experience = experience
    trainer.fit(module, loader)
    return trainer


def test_old_images_join_new_ones_and_an_experience_is_condensed_at_its_end(toy_pool: MakePool) -> None:
    pool, module = toy_pool(), Module()
    replay = CondensedReplay(CondensedMemory(selections.random(), images_per_class=2), batch_size=3)
    fit(module, replay, pool.select([0]), enable_checkpointing=False)
    assert [size for size, _ in module.seen] == [4, 2]  # nothing was remembered yet
    assert replay.memory.condensed.class_ids == (2,)
    assert replay.experience is None
    fit(module, replay, pool.select([1, 2]), enable_checkpointing=False)
    assert [size for size, _ in module.seen[2:]] == [6, 6, 6]  # two are held of three asked for
    assert all(2 in classes and classes != [2] for _, classes in module.seen[2:])
    assert sorted(replay.memory.condensed.class_ids) == [2, 5, 9]
    fit(module, replay, pool.select([0]), enable_checkpointing=False)
    assert module.seen[-1][0] == 2 + 3


def test_the_memory_is_in_lightnings_checkpoint(toy_pool: MakePool, tmp_path: Path) -> None:
    pool, module = toy_pool(), Module()
    replay = CondensedReplay(CondensedMemory(selections.random(), images_per_class=2))
    fit(module, replay, pool.select([0, 1]), enable_checkpointing=False)
    trainer = fit(module, replay, pool.select([2]), default_root_dir=tmp_path)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    state = torch.load(tmp_path / "last.ckpt", weights_only=False)["callbacks"]["CondensedReplay"]
    other = CondensedReplay(CondensedMemory(selections.random(), images_per_class=2))
    other.load_state_dict(state)
    assert torch.equal(other.memory.batch().x, replay.memory.batch().x)
    with pytest.raises(ValueError, match="no sound one"):
        other.load_state_dict({**state, "memory": {}})


def test_what_it_refuses(toy_pool: MakePool) -> None:
    memory = CondensedMemory(selections.random(), images_per_class=2)
    with pytest.raises(ValueError, match="at least 1 image"):
        CondensedReplay(memory, batch_size=0)
    memory.update(toy_pool())
    with pytest.raises(TypeError, match="must be a list of images and labels, got dict"):
        CondensedReplay(memory).on_train_batch_start(None, None, {}, 0)
