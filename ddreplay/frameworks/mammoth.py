"""Replay in Mammoth: a buffer that its rehearsal methods take in the place of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ddreplay.data.pool import ClassPool
from ddreplay.data.space import to_pixels
from ddreplay.online_memory import OnlineMemory
from ddreplay.randomness import Random

__all__ = ["CondensedMammothBuffer"]


class CondensedMammothBuffer:
    """An `OnlineMemory` with the interface of Mammoth's ``Buffer``: ``add_data``, ``get_data`` and what goes with them.

        self.buffer = CondensedMammothBuffer(OnlineMemory(max_bytes=200_000), mean=MEAN, std=STD)       # in a model's __init__

    Mammoth gives images before normalisation, with values in [0, 1], and takes them so; networks that condense see them normalised. Images
    and labels are kept. Outputs of networks (``logits``, which DER stores) belong to single real images, which condensed ones are not, and
    are refused.

    Args:
        memory: holds everything, within its bytes.
        mean, std: the data set's normalisation, one number per channel.
        device: where batches are put.
        seed: of which images a batch has.
    Reference: Buzzega et al., "Dark Experience for General Continual Learning", NeurIPS 2020, whose released code became Mammoth.
    """

    def __init__(
        self,
        memory: OnlineMemory,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        self.memory, self.mean, self.std, self.device = memory, tuple(mean), tuple(std), torch.device(device)
        self.num_seen_examples = 0
        self._random = Random(seed)
        self._held: tuple[Tensor, Tensor] | None = None
        self._start = memory.state_dict()

    @property
    def buffer_size(self) -> int:
        """Images that are held now; the limit is the memory's, in bytes."""
        return len(self)

    @property
    def used_attributes(self) -> list[str]:
        """What is kept of an image."""
        return [] if self.is_empty() else ["examples", "labels"]

    @property
    def examples(self) -> Float[Tensor, "n c h w"]:
        """All images, with values in [0, 1]."""
        return self._all()[0]

    @property
    def labels(self) -> Tensor:
        """Their class ids, int64 [n]."""
        return self._all()[1]

    def add_data(
        self,
        examples: Float[Tensor, "n c h w"],
        labels: Tensor | None = None,
        logits: Tensor | None = None,
        task_labels: Tensor | None = None,
        **others: Any,
    ) -> None:
        """Take in images as they come; a class is condensed when enough of it has come.

        Args:
            task_labels: not kept.
            others: what Mammoth keeps of single real images besides (attention maps, true labels, scores), which must be None.
        Raises:
            ValueError: without labels, or with logits or others.
        """
        if labels is None:
            raise ValueError("labels must be given: images are condensed class by class")
        beside = [name for name, value in {"logits": logits, **others}.items() if value is not None]
        if beside:
            raise ValueError(
                f"{', '.join(beside)} of real images cannot be kept with condensed ones; take a method that replays images and labels"
            )
        stored = examples.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8).cpu()
        self.memory.update(ClassPool(stored, labels.cpu(), mean=self.mean, std=self.std, device=self.device))
        self.num_seen_examples += len(stored)
        self._held = None

    def get_data(
        self,
        size: int,
        transform: Callable[[Tensor], Tensor] | None = None,
        return_index: bool = False,
        device: torch.device | str | None = None,
        mask_task_out: int | None = None,
        cpt: int | None = None,
        return_not_aug: bool = False,
        not_aug_transform: Callable[[Tensor], Tensor] | None = None,
        force_indexes: Any = None,
    ) -> tuple[Tensor, ...]:
        """Images and labels, drawn without repetition: ``size`` of them, or all where there are fewer.

        Args:
            transform: of every image.
            return_index: their places come first.
            mask_task_out: leave out this task, whose classes follow from ``cpt``, classes of a task.
            return_not_aug: the images as they are come before those that ``transform`` was applied to; ``not_aug_transform``: of them.
            force_indexes: these places, among those that are not left out, instead of a draw.
        Raises:
            ValueError: when a task is to be left out and ``cpt`` is missing.
        """
        x, y = self._all()
        among = torch.arange(len(y))
        if mask_task_out is not None:
            if cpt is None:
                raise ValueError("cpt, the classes of a task, must be given with mask_task_out")
            among = among[y // cpt != mask_task_out]
        drawn = torch.randperm(len(among), generator=self._random.cpu)[:size]
        rows = among[drawn if force_indexes is None else torch.as_tensor(force_indexes, dtype=torch.int64).cpu()]
        found = self._given(x[rows], y[rows], transform, device)
        if return_not_aug:
            found = (self._given(x[rows], y[rows], not_aug_transform, device)[0], *found)
        return (rows.to(found[0].device), *found) if return_index else found

    def get_data_by_index(
        self,
        indexes: Tensor,
        transform: Callable[[Tensor], Tensor] | None = None,
        device: torch.device | str | None = None,
    ) -> tuple[Tensor, ...]:
        """The images and labels at these places."""
        x, y = self._all()
        return self._given(x[indexes.cpu()], y[indexes.cpu()], transform, device)

    def get_all_data(
        self, transform: Callable[[Tensor], Tensor] | None = None, device: torch.device | str | None = None
    ) -> tuple[Tensor, ...]:
        """All images and labels."""
        return self._given(*self._all(), transform, device)

    def empty(self) -> None:
        """Forget everything."""
        self.memory.load_state_dict(self._start)
        self.num_seen_examples, self._held = 0, None

    def is_empty(self) -> bool:
        """Whether nothing is held."""
        return len(self.memory) == 0

    def to(self, device: torch.device | str) -> CondensedMammothBuffer:
        """Where batches are put from now on."""
        self.device = torch.device(device)
        return self

    def __len__(self) -> int:
        """Images that are held."""
        return len(self.memory)

    def _all(self) -> tuple[Tensor, Tensor]:
        if self._held is None:
            batch = self.memory.batch()
            self._held = to_pixels(batch.x, self.mean, self.std).clamp(0, 1), batch.y
        return self._held

    def _given(
        self,
        x: Tensor,
        y: Tensor,
        transform: Callable[[Tensor], Tensor] | None,
        device: torch.device | str | None,
    ) -> tuple[Tensor, ...]:
        target = self.device if device is None else torch.device(device)
        if transform is not None and len(x):
            x = torch.stack([transform(image) for image in x])
        return x.to(target), y.to(target)
