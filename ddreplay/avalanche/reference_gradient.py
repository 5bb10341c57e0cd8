"""A-GEM with any storage policy: no step may raise the loss on what is remembered."""

from __future__ import annotations

from typing import Any

import torch
from avalanche.training.plugins import AGEMPlugin

from ddreplay.avalanche.plugins import update_and_publish

__all__ = ["ReferenceGradientPlugin"]


class ReferenceGradientPlugin(AGEMPlugin, supports_distributed=False):  # type: ignore[misc, call-arg]
    """Average gradient episodic memory (A-GEM) with any storage policy.

    Where the gradient of a batch of new images points against that of a batch of remembered ones, the part that does is taken out of
    it. Avalanche's ``AGEMPlugin`` keeps a random choice of every experience for it; this one asks the policy.

    Args:
        storage_policy: a `CondensedBuffer`, a `RingBuffer` or any policy of Avalanche.
        sample_size: remembered images in a reference gradient, at most all.
    Raises:
        ValueError: when ``sample_size`` is not positive.
    Reference: Chaudhry et al., "Efficient Lifelong Learning with A-GEM", ICLR 2019.
    """

    def __init__(self, storage_policy: Any, *, sample_size: int = 64) -> None:
        if sample_size < 1:
            raise ValueError(f"sample_size must be at least 1, got {sample_size}")
        super().__init__(patterns_per_experience=0, sample_size=sample_size)
        self.storage_policy = storage_policy

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        """Update the memory with the experience that is over."""
        update_and_publish(self, self.storage_policy, strategy)
        memory = self.storage_policy.buffer
        self.buffers = [memory] if len(memory) else []

    def sample_from_memory(self) -> Any:
        """A batch of the memory, drawn without replacement."""
        (memory,) = self.buffers
        rows = torch.randperm(len(memory))[: self.sample_size].tolist()
        return memory.collate_fn([memory[row] for row in rows])
