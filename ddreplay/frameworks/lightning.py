"""Replay in Lightning: a callback that any module trains with."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback

from ddreplay.data.pool import ClassPool
from ddreplay.memory import CondensedMemory
from ddreplay.randomness import Random

__all__ = ["CondensedReplay"]


class CondensedReplay(Callback):  # type: ignore[misc]
    """Every batch is joined by remembered images, and an experience is condensed when its training is over.

        replay = CondensedReplay(CondensedMemory(images_per_class=10))
        for experience in experiences:                                      # a ClassPool each
            replay.experience = experience
            Trainer(max_epochs=5, callbacks=[replay]).fit(module, loader_of(experience))

    The memory is in Lightning's checkpoints (``state_dict``). Batches are lists of images and integer labels, as PyTorch's collating
    makes them; images are normalised as those of the experience.

    Args:
        memory: any `CondensedMemory`.
        batch_size: remembered images that join a batch; fewer where fewer are held.
        seed: of which of them.
    Attributes:
        experience: the images of the training at hand, condensed when it is over; ``None``: nothing is.
    Raises:
        ValueError: when batch_size is below 1.
        TypeError: in training, when a batch is not a list of images and labels.
    """

    def __init__(self, memory: CondensedMemory, *, batch_size: int = 32, seed: int = 0) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1 image, got {batch_size}")
        self.memory, self.batch_size = memory, batch_size
        self.experience: ClassPool | None = None
        self._random = Random(seed)
        self._held: Any = None

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Remembered images join the batch, drawn without repetition."""
        if not self.memory.condensed.parts:
            return
        if not isinstance(batch, list) or len(batch) < 2:
            raise TypeError(
                f"a batch must be a list of images and labels, got {type(batch).__name__}; leave collating to PyTorch's default"
            )
        if self._held is None or self._held.x.device != batch[0].device:
            self._held = self.memory.batch(batch[0].device)
        rows = torch.randperm(len(self._held.x), generator=self._random.cpu)[: self.batch_size].to(batch[0].device)
        batch[0] = torch.cat([batch[0], self._held.x[rows].to(batch[0].dtype)])
        batch[1] = torch.cat([batch[1], self._held.y[rows].to(batch[1].dtype)])

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Condense the experience."""
        if self.experience is not None:
            self.memory.update(self.experience)
            self.experience, self._held = None, None

    def state_dict(self) -> dict[str, Any]:
        """The memory and the state of the draws, for Lightning's checkpoint."""
        return {"memory": self.memory.state_dict(), "random": self._random.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint.

        Raises:
            ValueError: when the memory's state is damaged.
        """
        self.memory.load_state_dict(state_dict["memory"])
        self._random.load_state_dict(state_dict["random"])
        self._held = None
