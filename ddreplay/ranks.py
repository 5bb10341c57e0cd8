"""Several processes at one condensation or evaluation, as ``torchrun`` starts them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["Ranks"]

Item = TypeVar("Item")


@dataclass(frozen=True)
class Ranks:
    """This process among those of a group of ``torch.distributed``: what is its share, and what all of them together found.

    Every process is given the same images, budget and seed, and draws the same; each does its share of the classes (condensing) or of the
    networks (evaluating), and all end with the same result.

        torch.distributed.init_process_group("nccl")        # under torchrun; "gloo" without GPUs
        condensed = dm()(pool, 10, ranks=Ranks())

    Args:
        group: the processes; ``None``: all.
    Raises:
        RuntimeError: when torch.distributed is not initialised.
    """

    group: Any = None

    def __post_init__(self) -> None:
        if not (dist.is_available() and dist.is_initialized()):
            raise RuntimeError(
                "Ranks are the processes of torch.distributed, which is not initialised: start them with torchrun, and call "
                "torch.distributed.init_process_group first"
            )

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""
        return dist.get_rank(self.group)

    @property
    def size(self) -> int:
        """How many processes there are."""
        return dist.get_world_size(self.group)

    def share(self, items: Sequence[Item]) -> list[Item]:
        """The items of this process: neighbours, as many for each process as for another, or one more."""
        n = len(items)
        return list(items[self.rank * n // self.size : (self.rank + 1) * n // self.size])

    def add(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The sum of every tensor over all processes, the same bits for each: one all-reduce."""
        flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
        dist.all_reduce(flat, group=self.group)
        sizes = [tensor.numel() for tensor in tensors]
        return [part.view_as(tensor) for part, tensor in zip(flat.split(sizes), tensors, strict=True)]

    def of_first(self, value: Any) -> Any:
        """What the first process has."""
        held = [value]
        dist.broadcast_object_list(held, src=dist.get_global_rank(self.group, 0) if self.group else 0, group=self.group)
        return held[0]

    def gather(self, value: Any) -> list[Any]:
        """What every process has, in their order."""
        held: list[Any] = [None] * self.size
        dist.all_gather_object(held, value, group=self.group)
        return held

    def check_same(self, value: Any, what: str) -> None:
        """Make sure that every process has the same.

        Raises:
            RuntimeError: on every process, where they differ.
        """
        if any(other != value for other in self.gather(value)):
            raise RuntimeError(f"processes have different {what}; give each the same data, budget, settings and seed")
