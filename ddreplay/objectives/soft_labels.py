"""Labels that are learned along with the images, or in their place."""

from __future__ import annotations

import math

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ddreplay.objectives.side import Side

__all__ = ["label_logits"]

_CERTAINTY = 0.9  # of the true class at the start


def label_logits(syn: Side) -> Float[nn.Parameter, "n classes"]:
    """What a softmax makes labels of, for every image of a side; the true class begins with a probability of 0.9."""
    scale = math.log(_CERTAINTY * max(syn.classes - 1, 1) / (1 - _CERTAINTY))
    start: Tensor = F.one_hot(syn.labels, syn.classes).float() * scale
    return nn.Parameter(start)
