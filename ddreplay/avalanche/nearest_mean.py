"""Classification by the nearest class mean of what is remembered, as iCaRL has it."""

from __future__ import annotations

from typing import Any

import torch
from avalanche.core import SupervisedPlugin
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ddreplay.backbones import Probe

__all__ = ["NearestMean", "NearestMeanPlugin"]

FARTHER_THAN_ANY = -10.0
"""The output of a class without a mean: vectors of unit length are at most 2 apart."""


class NearestMean(nn.Module):
    """A network that in evaluation mode names the class whose mean embedding is the nearest; in training mode it is as it was.

    Embeddings, which the network's last ``nn.Linear`` reads, and their class means have unit length; an output is the negative
    distance to the mean of its class. Without means, or for classes without one, see `remember`.

    Args:
        net: any network from images to logits that ends in an ``nn.Linear``.
    Reference: Rebuffi et al., "iCaRL: Incremental Classifier and Representation Learning", CVPR 2017, Algorithm 1.
    Example:
        >>> net = NearestMean(nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))).eval()
        >>> net.remember(torch.eye(4).view(4, 1, 2, 2), torch.tensor([0, 0, 1, 1]))
        >>> net(torch.tensor([[1.0, 1, 0, 0], [0, 0, 2, 2]]).view(2, 1, 2, 2)).argmax(1)
        tensor([0, 1])
    """

    means: Tensor
    labels: Tensor

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("means", torch.empty(0, 0), persistent=False)
        self.register_buffer("labels", torch.empty(0, dtype=torch.int64), persistent=False)

    @torch.no_grad()
    def remember(self, x: Float[Tensor, "n c h w"], y: Int64[Tensor, " n"], *, chunk: int = 256) -> None:
        """Take the class means of these images for those to measure distances to, instead of earlier ones.

        Until then, and with no images, outputs are those of the network itself.
        """
        mode, device = self.training, next(self.net.parameters()).device
        self.labels = y.unique().to(device)
        if len(y) == 0:
            return
        self.eval()
        embeddings = torch.cat([self._embed(part.to(device))[1] for part in x.split(chunk)])
        self.train(mode)
        means = torch.stack([embeddings[y.to(device) == label].mean(0) for label in self.labels])
        self.means = nn.functional.normalize(means)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        if self.training or not len(self.labels):
            logits: Tensor = self.net(x)
            return logits
        logits, embedding = self._embed(x)
        out = torch.full_like(logits, FARTHER_THAN_ANY)
        out[:, self.labels] = -torch.cdist(embedding, self.means)
        return out

    def _embed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        seen = Probe(self.net)(x)
        return seen.logits, nn.functional.normalize(seen.embedding)


class NearestMeanPlugin(SupervisedPlugin, supports_distributed=False):  # type: ignore[misc, call-arg]
    """After every experience, let a `NearestMean` network remember what the memory holds.

    In a list of plugins it stands behind those that update the memory.

    Args:
        storage_policy: any policy of Avalanche or of this package; it is read, not updated.
    """

    def __init__(self, storage_policy: Any) -> None:
        super().__init__()
        self.storage_policy = storage_policy

    def after_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Take the means of the memory's images, not augmented."""
        if not isinstance(strategy.model, NearestMean):
            raise TypeError(
                f"NearestMeanPlugin needs a NearestMean(network) for a model, got {type(strategy.model).__name__}"
            )
        memory = self.storage_policy.buffer.eval()
        batches = [batch[:2] for batch in DataLoader(memory, batch_size=256, collate_fn=memory.collate_fn)]
        if batches:
            strategy.model.remember(torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches]))
