"""Matching training trajectories: MTT and TESLA."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ddreplay.augment.siamese import NATURAL, Siamese
from ddreplay.backbones import ConvNet, Net
from ddreplay.condense.distiller import Distiller
from ddreplay.condense.optimizer import SGD
from ddreplay.networks import ExpertSegments, with_net
from ddreplay.objectives import TrajectoryMatching
from ddreplay.objectives.unrolling import Memory
from ddreplay.parameterize.form import Parameterize
from ddreplay.parameterize.pixels import Pixels

__all__ = ["mtt", "tesla"]


def mtt(
    net: Net | None = None,
    *,
    iterations: int = 5000,
    steps: int = 30,
    segment: int = 2,
    latest_start: int = 20,
    lr: float = 100.0,
    lr_lr: float = 1e-5,
    inner_lr: float = 0.001,
    batch: int | None = None,
    experts: int = 100,
    lr_expert: float = 0.01,
    batch_expert: int = 256,
    folder: str | Path | None = None,
    strategy: str = NATURAL,
    parameterize: Parameterize = Pixels(),
    memory: Memory = "graph",
    lr_labels: float | None = None,
) -> Distiller:
    """Dataset distillation by matching training trajectories (MTT).

    A student that starts where an expert was after t epochs, and trains N steps on the synthetic images, must arrive where
    the expert was M epochs later:

        L = || w_N - w*_{t+M} ||^2 / || w*_t - w*_{t+M} ||^2          w_{i+1} = w_i - alpha grad CE(a_i(S)),  w_0 = w*_t

    Args:
        net: Makes a randomly initialised network; ``None``: the ConvNet of the paper, depth by image size.
        iterations: The number of image updates.
        steps: N, the student's steps. `MTT_SETTINGS` has the paper's choices by data set.
        segment: M, in epochs.
        latest_start: The epoch that t stays below.
        lr: The step size on pixels in normalised space, momentum 0.5.
        lr_lr: The step size of alpha.
        inner_lr: The step size alpha at the start.
        batch: The number of synthetic images in an inner step; ``None``: all.
        experts: The number of experts that are trained, by plain SGD with the same augmentation. Paper: 100.
        lr_expert: The step size of their training.
        batch_expert: The number of images in a batch of their training.
        folder: The folder where trajectories are kept between runs, see `ExpertSegments`.
        strategy: DSA operations; without ``flip`` for digits (``ddreplay.augment.DIGITS``).
        parameterize: Says how stored numbers become images; the default starts from real images.
        memory: ``"graph"``, ``"constant"`` or ``"first-order"``: what is kept of the student's steps, see `TrajectoryMatching`.
        lr_labels: Learns soft labels with this step size; ``None``: labels stay as they are.
    Departures: experts are trained as far as segments reach, not always for 50 epochs. Whitening (ZCA) is `Whitened`.
    Reference: Cazenavette et al., "Dataset Distillation by Matching Training Trajectories", CVPR 2022.
    Example:
        >>> mtt(ConvNet(width=8), iterations=2, steps=2, latest_start=1, experts=1)(toy_pool(), 1).images().x.shape
        torch.Size([3, 1, 8, 8])
    """
    augment, net = Siamese(strategy), ConvNet() if net is None else net
    source = ExpertSegments(
        net,
        experts=experts,
        latest_start=latest_start,
        segment=segment,
        lr=lr_expert,
        batch_size=batch_expert,
        augment=augment,
        folder=folder,
    )
    return Distiller(
        source,
        TrajectoryMatching(steps, lr=inner_lr, lr_lr=lr_lr, batch=batch, memory=memory, lr_labels=lr_labels),
        augment=augment,
        parameterize=with_net(parameterize, net),
        optimizer=SGD(lr=lr, momentum=0.5),
        steps=iterations,
        name="mtt",
    )


def tesla(
    net: Net | None = None,
    *,
    iterations: int = 5000,
    steps: int = 30,
    segment: int = 2,
    latest_start: int = 20,
    lr: float = 100.0,
    lr_lr: float = 1e-5,
    inner_lr: float = 0.001,
    batch: int | None = None,
    experts: int = 100,
    lr_expert: float = 0.01,
    batch_expert: int = 256,
    folder: str | Path | None = None,
    strategy: str = NATURAL,
    parameterize: Parameterize = Pixels(),
    lr_labels: float | None = None,
    published: bool = False,
) -> Distiller:
    """`mtt` in constant memory: one inner step's graph at a time (TESLA).

    Args:
        published: The gradient of the paper and the released code, which takes later weights as independent of the images. It needs
            one state and two passes, and is another direction than the objective's own as soon as there are two steps.
        net, iterations, steps, segment, latest_start, lr, lr_lr, inner_lr, batch, experts, lr_expert, batch_expert: As in `mtt`.
        folder, strategy, parameterize, lr_labels: As in `mtt`.
    Departures: by default the gradient is the exact one of `mtt`, from weights computed again. The released code assigns labels by
        the expert's logits at every iteration; ``lr_labels`` learns them. Its lost factor 2 of the image gradient is not
        followed: the step size of a published setting is to be halved.
    Reference: Cui et al., "Scaling Up Dataset Distillation to ImageNet-1K with Constant Memory", ICML 2023.
    Example:
        >>> tesla(ConvNet(width=8), iterations=2, steps=2, latest_start=1, experts=1)(toy_pool(), 1).images().x.shape
        torch.Size([3, 1, 8, 8])
    """
    base = mtt(
        net,
        iterations=iterations,
        steps=steps,
        segment=segment,
        latest_start=latest_start,
        lr=lr,
        lr_lr=lr_lr,
        inner_lr=inner_lr,
        batch=batch,
        experts=experts,
        lr_expert=lr_expert,
        batch_expert=batch_expert,
        folder=folder,
        strategy=strategy,
        parameterize=parameterize,
        memory="first-order" if published else "constant",
        lr_labels=lr_labels,
    )
    return replace(base, name="tesla")
