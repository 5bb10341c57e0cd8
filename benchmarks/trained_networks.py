"""The networks that strategies train: those of the library and Avalanche's slim ResNet-18, compiled in training where that is wanted."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ddreplay import names
from ddreplay.backbones import NetFactory
from ddreplay.backbones.compiling import compiled
from ddreplay.data.space import Shape

__all__ = ["CompiledInTraining", "SlimResNet18", "trained_network"]


@dataclass(frozen=True)
class SlimResNet18:
    """Avalanche's slim ResNet-18, for images of 3 x 32 x 32.

    Args:
        width: The number of channels of the first stage.
    Raises:
        ValueError: when it is called for images of another shape.
    Reference: Lopez-Paz and Ranzato, "Gradient Episodic Memory for Continual Learning", NeurIPS 2017.
    """

    width: int = 20

    def __call__(self, shape: Shape, classes: int) -> nn.Module:
        from avalanche.models import SlimResNet18 as Slim

        if tuple(shape) != (3, 32, 32):
            raise ValueError(
                f"slim_resnet18 takes images of 3 x 32 x 32, got {shape}; take another --net, such as convnet"
            )
        made: nn.Module = Slim(classes, nf=self.width)
        return made


def trained_network(text: str) -> NetFactory:
    """What `ddreplay.names.network` reads, or ``slim_resnet18``."""
    return SlimResNet18() if text in ("slim_resnet18", "slim_resnet18()") else names.network(text)


class CompiledInTraining(nn.Module):
    """A network whose training steps run through ``torch.compile``, in batches of a multiple of ``batch_size``.

    Other batches (the last one of an epoch) would compile anew for a few steps, and run as they are; so does evaluation. Which batches are
    compiled follows from their size alone, so that results do not depend on what ran before.
    """

    def __init__(self, net: nn.Module, batch_size: int) -> None:
        super().__init__()
        self.net, self.batch_size = net, batch_size

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) % self.batch_size == 0:
            return compiled()(self.net, x)
        out: Tensor = self.net(x)
        return out
