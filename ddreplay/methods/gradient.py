"""Gradient matching: DC, DSA and their contrastive kin."""

from __future__ import annotations

from dataclasses import replace

from ddreplay.augment import NATURAL, siamese
from ddreplay.backbones import Net, convnet
from ddreplay.condense import Distiller, sgd
from ddreplay.networks import Loops, Rounds, trained_on_synthetic
from ddreplay.objectives import GradientMatching
from ddreplay.objectives.gradients import Metric
from ddreplay.parameterize import Init, pixels

__all__ = ["DC_LOOPS", "dc", "dsa"]

DC_LOOPS = Loops(((1, 1, 1), (10, 10, 50), (20, 20, 25), (30, 30, 20), (40, 40, 15), (50, 50, 10)))
"""Released code of DC and DSA: (images per class, image steps a network, epochs on the synthetic set after each)."""


def dc(
    net: Net | None = None,
    *,
    rounds: int = 1000,
    loops: Loops | tuple[int, int] = DC_LOOPS,
    lr: float = 0.1,
    lr_net: float = 0.01,
    batch_real: int = 256,
    init: Init = "noise",
    metric: Metric = "layerwise",
) -> Distiller:
    """Dataset condensation with gradient matching (DC).

    Per class, the network's loss gradients on real and on synthetic images must point the same way, layer by layer, while the
    network is trained on the synthetic images:

        L = sum_c sum_layers D(grad CE(x_c), grad CE(s_c))          D = sum over output units of 1 - cosine

    Args:
        net: makes a randomly initialised network; ``None``: the ConvNet of the paper, depth by image size.
        rounds: networks. Paper: 1000.
        loops: (image steps a network, epochs on the synthetic set after each); the default is the released code's table.
        lr: step size on pixels in normalised space. lr_net: of the network's training, without momentum.
    Departures: the released code makes one more update after its last evaluation; this does ``rounds`` x steps, no more.
    Reference: Zhao, Mopuri and Bilen, "Dataset Condensation with Gradient Matching", ICLR 2021.
    Example:
        >>> dc(convnet(width=8), rounds=2)(toy_pool(), 1).images().x.shape
        torch.Size([3, 1, 8, 8])
    """
    loops = loops if isinstance(loops, Loops) else Loops(((1, *loops),))
    return Distiller(
        trained_on_synthetic(net or convnet(), loops=loops, lr=lr_net),
        GradientMatching(scope="class", metric=metric),
        parameterize=pixels(init),
        optimizer=sgd(lr=lr, momentum=0.5),
        steps=Rounds(rounds, loops),
        batch_real=batch_real,
        name="dc",
    )


def dsa(
    net: Net | None = None,
    *,
    rounds: int = 1000,
    loops: Loops | tuple[int, int] = DC_LOOPS,
    lr: float = 0.1,
    lr_net: float = 0.01,
    batch_real: int = 256,
    strategy: str = NATURAL,
    init: Init = "real",
    metric: Metric = "layerwise",
) -> Distiller:
    """`dc` with differentiable siamese augmentation on both sides, and augmented network training (DSA).

    Args:
        strategy: DSA operations; without ``flip`` for digits (``ddreplay.augment.DIGITS``).
    Departures: one augmentation draw per step for all classes, where the released code draws one per class.
    Reference: Zhao and Bilen, "Dataset Condensation with Differentiable Siamese Augmentation", ICML 2021.
    Example:
        >>> dsa(convnet(width=8), rounds=2)(toy_pool(), 1).images().x.shape
        torch.Size([3, 1, 8, 8])
    """
    augment = siamese(strategy)
    base = dc(net, rounds=rounds, loops=loops, lr=lr, lr_net=lr_net, batch_real=batch_real, init=init, metric=metric)
    source = trained_on_synthetic(net or convnet(), loops=loops, lr=lr_net, augment=augment)
    return replace(base, networks=source, augment=augment, name="dsa")
