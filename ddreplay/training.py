"""One step of training a network on labelled images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddreplay.backbones.compiling import Forward, plain
from ddreplay.data.pool import Batch

__all__ = ["learn"]


def learn(net: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, forward: Forward = plain) -> Tensor:
    """Descend the cross-entropy of one batch; labels are int64 [n] or soft [n, classes]. Returns the logits before the step."""
    logits = forward(net, batch.x)
    optimizer.zero_grad(set_to_none=True)
    F.cross_entropy(logits, batch.y).backward()
    optimizer.step()
    return logits.detach()
