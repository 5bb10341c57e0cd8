"""Back-propagation through training: BPTT (Remember the Past), the original dataset distillation (DD), and label distillation (LD)."""

from __future__ import annotations

from ddreplay.augment.siamese import Identity, Siamese
from ddreplay.backbones import ConvNet, Net
from ddreplay.condense.distiller import Distiller
from ddreplay.condense.optimizer import SGD
from ddreplay.networks import Fresh, Loops, Rounds, TrainedOnSynthetic, with_net
from ddreplay.objectives import UnrolledLoss
from ddreplay.objectives.unrolling import Memory
from ddreplay.parameterize.form import Parameterize
from ddreplay.parameterize.pixels import Pixels

__all__ = ["LD_LOOPS", "bptt", "dd", "ld"]

LD_LOOPS = Loops(((1, 50, 1),))
"""Label steps that a network sees, and epochs on the labelled set after each, whatever the budget; ours."""


def bptt(
    net: Net | None = None,
    *,
    iterations: int = 20000,
    steps: int = 150,
    lr: float = 0.1,
    lr_net: float = 0.01,
    momentum: float = 0.9,
    batch: int | None = 10,
    batch_real: int = 64,
    max_norm: float | None = 2.0,
    strategy: str | None = "flip_rotate",
    parameterize: Parameterize = Pixels("noise"),
    memory: Memory = "constant",
) -> Distiller:
    """Back-propagation through the unrolled training of a fresh network, momentum included (BPTT, Remember the Past).

        L = CE(x; w_N)          v_{i+1} = m v_i + grad CE(a(S); w_i),  w_{i+1} = w_i - lr_net v_{i+1}

    Args:
        net: Makes a randomly initialised network; ``None``: the ConvNet of the paper, depth by image size.
        iterations: The number of image updates. The released configuration says 500,000.
        steps: N, steps of the unrolled training.
        lr: The step size on pixels in normalised space, momentum 0.5.
        lr_net: The step size of the unrolled training.
        momentum: The momentum of the unrolled training.
        batch: The number of synthetic images of every class in one of its steps; ``None``: all.
        batch_real: The number of real images per class in the outer loss.
        max_norm: The gradient of the images is shortened to this norm; ``None``: it is not.
        strategy: The operations, one per step for the real batch and all inner steps (``flip_rotate``; for digits ``rotate``), or ``None``.
        parameterize: Says how stored numbers become images; the default starts from noise, `ddreplay.parameterize.Basis` gives
            addressable memories.
        memory: ``"graph"`` or ``"constant"``: what is kept of the unrolled steps, see `UnrolledLoss`.
    Departures: noise is normal with a standard deviation of 1, not Xavier-uniform, which is some forty times smaller and is
        ``Pixels(XavierNoise())``. Whitening (ZCA) is `Whitened`, of pixels; the released code takes the mean of every image from it and
        makes it of length 1 before, and its variances are regularised by a tenth of their mean.
    Reference: Deng and Russakovsky, "Remember the Past: Distilling Datasets into Addressable Memories for Neural Networks", NeurIPS
        2022.
    Example:
        >>> bptt(ConvNet(width=8), iterations=2, steps=2)(toy_pool(), 1).images().x.shape
        torch.Size([3, 1, 8, 8])
    """
    net = ConvNet() if net is None else net
    return Distiller(
        Fresh(net),
        UnrolledLoss(steps, lr=lr_net, momentum=momentum, batch=batch, memory=memory),
        augment=Identity() if strategy is None else Siamese(strategy),
        parameterize=with_net(parameterize, net),
        optimizer=SGD(lr=lr, momentum=0.5, max_norm=max_norm),
        steps=iterations,
        batch_real=batch_real,
        name="bptt",
    )


def dd(
    net: Net | None = None,
    *,
    iterations: int = 10000,
    steps: int = 30,
    lr: float = 0.1,
    lr_net: float = 0.02,
    lr_lr: float = 0.001,
    batch_real: int = 100,
    parameterize: Parameterize = Pixels("noise"),
    memory: Memory = "constant",
) -> Distiller:
    """The original dataset distillation (DD): plain unrolled gradient descent whose step sizes are learned.

        L = CE(x; w_N)          w_{i+1} = w_i - lr_i grad CE(S; w_i),  lr_i learned

    Args:
        net, iterations, steps, lr, batch_real, parameterize, memory: As in `bptt`; every inner step sees the whole set.
        lr_net: The inner step sizes at the start.
        lr_lr: The step size of the inner step sizes, which a softplus keeps positive.
    Departures: all steps share the images, where the paper also gives each step its own. SGD moves the images, not Adam.
    Reference: Wang et al., "Dataset Distillation", arXiv 2018.
    Example:
        >>> dd(ConvNet(width=8), iterations=2, steps=2)(toy_pool(), 1).images().x.shape
        torch.Size([3, 1, 8, 8])
    """
    net = ConvNet() if net is None else net
    return Distiller(
        Fresh(net),
        UnrolledLoss(steps, lr=lr_net, momentum=0.0, batch=None, lr_lr=lr_lr, memory=memory),
        parameterize=with_net(parameterize, net),
        optimizer=SGD(lr=lr, momentum=0.5),
        steps=iterations,
        batch_real=batch_real,
        name="dd",
    )


def ld(
    net: Net | None = None,
    *,
    rounds: int = 100,
    loops: Loops | tuple[int, int] = LD_LOOPS,
    steps: int = 1,
    lr_net: float = 0.01,
    lr_labels: float = 100.0,
    batch_real: int = 100,
    parameterize: Parameterize = Pixels(fixed=True),
    memory: Memory = "graph",
) -> Distiller:
    """Label distillation (LD): real images stay as they are, and their soft labels are learned.

    The labels must be those after which a network that took N steps on the labelled images does well on real data, while the
    network goes on learning from them:

        L = CE(x; w_N)          w_{i+1} = w_i - lr_net grad CE(S, labels; w_i)          N = 1 in the paper

    Args:
        net: Makes a randomly initialised network; ``None``: the ConvNet of the papers, depth by image size.
        rounds: The number of networks.
        loops: (label steps that a network sees, epochs on the labelled set after each), or a table of both by budget.
        steps: N, the steps that are differentiated through.
        lr_net: The step size of those steps, and of the epochs.
        lr_labels: The step size of the labels' logits, momentum 0.5.
        batch_real: The number of real images per class in the outer loss.
        parameterize: Says which images are labelled; the default takes random real ones, ``Pixels()`` would learn them too.
        memory: As in `bptt`.
    Departures: in the released code labels are shares of classes that start equal, move by Adam (0.001), and are clamped and scaled to a
        sum of 1; here they are the softmax of what is learned, start as the true class with probability 0.9 and descend by SGD with
        momentum. There the step looked through is taken on 50 of the images and the network then learns from the same 50 by Adam (0.001),
        once for each label step, until its error on real images has not fallen for 50 steps; here all images are in both, networks learn
        by SGD, and are replaced after a fixed number of steps. There it has 400 epochs of 1,024 real images a step, chooses labels on
        held-out images, and its networks are AlexNet and LeNet; the numbers of networks and steps and the step size of the labels are ours.
    Reference: Bohdal, Yang and Hospedales, "Flexible Dataset Distillation: Learn Labels Instead of Images", arXiv 2020.
    Example:
        >>> found = ld(ConvNet(width=8), rounds=1, loops=(2, 1))(toy_pool(), 1)
        >>> found.images().x.shape, found.soft_labels.shape
        (torch.Size([3, 1, 8, 8]), torch.Size([3, 3]))
    """
    net, loops = ConvNet() if net is None else net, Loops.of(loops)
    return Distiller(
        TrainedOnSynthetic(net, loops=loops, lr=lr_net),
        UnrolledLoss(steps, lr=lr_net, momentum=0.0, batch=None, lr_labels=lr_labels, memory=memory),
        parameterize=with_net(parameterize, net),
        optimizer=SGD(lr=0.1, momentum=0.5),
        steps=Rounds(rounds, loops),
        batch_real=batch_real,
        name="ld",
    )
