"""Distribution matching: DM and what came after it."""

from __future__ import annotations

from ddreplay.augment import NATURAL, siamese
from ddreplay.backbones import Net, convnet
from ddreplay.condense import Distiller, sgd
from ddreplay.networks import banked, fresh
from ddreplay.objectives import MeanEmbedding
from ddreplay.parameterize import Init, pixels

__all__ = ["dm"]


def dm(
    net: Net | None = None,
    *,
    steps: int = 20000,
    lr: float = 1.0,
    batch_real: int = 256,
    strategy: str = NATURAL,
    init: Init = "real",
    bank: int | None = None,
    refresh: int | None = None,
) -> Distiller:
    """Dataset condensation with distribution matching (DM).

    For each class, the squared distance between the mean embeddings of real and synthetic images under freshly initialised
    networks:

        L = sum_c || mean_i f(a(x_i)) - mean_j f(a(s_j)) ||^2          f = the network up to its classifier

    Args:
        net: makes a randomly initialised network; ``None``: the ConvNet of the paper, depth by image size.
        lr: step size on pixels in normalised space. Paper and released code: 1.0 (10 from 100 images per class on).
        strategy: DSA operations; without ``flip`` for digits (``ddreplay.augment.DIGITS``).
        bank: take this many networks whose real side is computed once, instead of a new one at every step (`banked`).
        refresh: with ``bank``: replace an entry every so many steps.
    Departures: one augmentation draw per step for all classes, where the released code draws one per class.
    Reference: Zhao and Bilen, "Dataset Condensation with Distribution Matching", WACV 2023.
    Example:
        >>> dm(convnet(width=8), steps=2)(toy_pool(), 1).images().x.shape
        torch.Size([3, 1, 8, 8])
    """
    net = net or convnet()
    networks = fresh(net) if bank is None else banked(net, bank, refresh=refresh)
    return Distiller(
        networks,
        MeanEmbedding(),
        augment=siamese(strategy),
        parameterize=pixels(init),
        optimizer=sgd(lr=lr, momentum=0.5),
        steps=steps,
        batch_real=batch_real,
        name="dm",
    )
