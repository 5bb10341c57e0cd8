"""An Avalanche storage policy for streams without boundaries, over `ddreplay.OnlineMemory`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from avalanche.training.storage_policy import ExemplarsBuffer
from torch import Tensor

from ddreplay.avalanche.datasets import Transform, memory_dataset, read
from ddreplay.condense.condenser import Condenser, OnProgress
from ddreplay.data.pool import ClassPool
from ddreplay.online_memory import OnlineMemory

__all__ = ["OnlineCondensedBuffer"]


class OnlineCondensedBuffer(ExemplarsBuffer):  # type: ignore[misc]
    """A memory that takes in an online stream a few images at a time, and condenses a class when enough of it has come.

    What waits is replayed with what is condensed, and everything is charged. Experiences may be of any classes, and mean nothing to it.

    Args:
        max_bytes, condenser, enough, reservoir, seconds, seed, on_progress: as in `ddreplay.OnlineMemory`.
        mean, std: normalisation of the stream's evaluation transform, one number per channel; waiting images are stored in 8 bits a
            value between 0 and 1.
        task_labels: samples of ``buffer`` are (x, y, task), with task 0, or (x, y); ``"auto"``: as in the experience.
        device: where condensing runs.
        replay_transform: augmentation of replayed images.
    Attributes:
        memory: the `ddreplay.OnlineMemory`.
    """

    def __init__(
        self,
        max_bytes: int,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        condenser: Condenser | None = None,
        enough: int = 50,
        reservoir: float = 0.5,
        seconds: float | None = None,
        seed: int = 0,
        task_labels: Literal["auto", "always", "never"] = "auto",
        device: torch.device | str = "auto",
        replay_transform: Transform | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        super().__init__(0)
        how: dict[str, Any] = {"enough": enough, "reservoir": reservoir, "seconds": seconds, "seed": seed}
        self.memory = OnlineMemory(condenser, max_bytes=max_bytes, on_progress=on_progress, **how)
        self.mean, self.std, self.device = tuple(mean), tuple(std), device
        self.task_labels, self.replay_transform = task_labels, replay_transform
        self._task_aware, self._tensor_labels = task_labels != "never", False
        self._flat: Any = None

    def update(self, strategy: Any, **kwargs: Any) -> None:
        """Take in the strategy's current experience."""
        self.post_adapt(strategy, strategy.experience)

    def post_adapt(self, agent: Any, exp: Any) -> None:
        """Take in an experience; only its dataset is looked at."""
        self.update_from_dataset(exp.dataset)

    def update_from_dataset(self, new_data: Any) -> None:
        """Take in a dataset of Avalanche, read through its evaluation transforms, or any other with items (tensor, label)."""
        if len(new_data) == 0:
            return
        samples = read(new_data, self.task_labels)
        how: dict[str, Any] = {"mean": self.mean, "std": self.std, "device": self.device}
        self.memory.update(ClassPool(samples.x, samples.y, **how))
        self._task_aware, self._tensor_labels = samples.task_aware, samples.tensor_labels
        self._renew()

    def flush(self) -> None:
        """Condense what waits: at the end of the stream."""
        self.memory.flush()
        self._renew()

    def _renew(self) -> None:
        self._flat, self.max_size = None, len(self.memory)

    @property
    def buffer(self) -> Any:
        """All stored images as one dataset of Avalanche, built once after every change."""
        if self._flat is None:
            x, y = self.memory.batch() if len(self.memory) else (torch.zeros(0, 1, 1, 1), torch.zeros(0))
            self._flat = self._dataset(x, [int(label) for label in y.tolist()])
        return self._flat

    def _dataset(self, x: Tensor, y: list[int]) -> Any:
        tasks = [0] * len(y) if self._task_aware else None
        return memory_dataset(x, y, tasks, self.replay_transform, tensor_labels=self._tensor_labels)

    @property
    def nbytes(self) -> int:
        """Bytes of everything stored, waiting images included."""
        return self.memory.nbytes

    def resize(self, strategy: Any, new_size: int) -> None:
        """Not in images: its size is in bytes."""
        raise ValueError("an OnlineCondensedBuffer has max_bytes, and no number of images; make one with other bytes")

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values: everything that the next updates depend on."""
        labels = {"task_aware": self._task_aware, "tensor_labels": self._tensor_labels}
        return {"memory": self.memory.state_dict(), **labels}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`. Raises ValueError on a damaged one; nothing has changed then."""
        self.memory.load_state_dict(state.get("memory", {}))
        self._task_aware, self._tensor_labels = bool(state.get("task_aware")), bool(state.get("tensor_labels"))
        self._renew()
