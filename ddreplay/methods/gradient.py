"""Gradient matching: DC, DSA and their contrastive kin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ddreplay.augment.mixing import Mix
from ddreplay.augment.siamese import NATURAL, Siamese
from ddreplay.backbones import ConvNet, Net
from ddreplay.condense.distiller import Distiller
from ddreplay.condense.optimizer import SGD
from ddreplay.networks import Loops, NetworkSource, Rounds, TrainedOnSynthetic, with_net
from ddreplay.objectives import GradientMatching, WarmUp
from ddreplay.objectives.gradient_matching import Metric, Scope
from ddreplay.parameterize.form import Parameterize
from ddreplay.parameterize.pixels import Pixels

__all__ = ["DCC_LOOPS", "DC_LOOPS", "dc", "dcc", "dsa", "dsac"]

DC_LOOPS = Loops(((1, 1, 1), (10, 10, 50), (20, 20, 25), (30, 30, 20), (40, 40, 15), (50, 50, 10)))
"""Released code of DC and DSA: (images per class, image steps a network, epochs on the synthetic set after each)."""

DCC_LOOPS = Loops(((1, 10, 5), (10, 10, 50), (20, 20, 25), (30, 30, 20), (40, 40, 15), (50, 50, 10)))
"""The same of DCC and DSAC, which show a network ten times at one image per class already."""


def dc(
    net: Net | None = None,
    *,
    rounds: int = 1000,
    loops: Loops | tuple[int, int] = DC_LOOPS,
    lr: float = 0.1,
    lr_net: float = 0.01,
    batch_real: int = 256,
    parameterize: Parameterize = Pixels("noise"),
    metric: Metric = "layerwise",
    mix: Mix | None = None,
    networks: NetworkSource | None = None,
    compile: bool = False,
    pieces: int | None = None,
) -> Distiller:
    """Dataset condensation with gradient matching (DC).

    Per class, the network's loss gradients on real and on synthetic images must point the same way, layer by layer, while the
    network is trained on the synthetic images:

        L = sum_c sum_layers D(grad CE(x_c), grad CE(s_c))          D = sum over output units of 1 - cosine

    Args:
        net: Makes a randomly initialised network; ``None``: the ConvNet of the paper, depth by image size.
        rounds: The number of networks. Paper: 1000.
        loops: (image steps a network, epochs on the synthetic set after each); the default is the released code's table, where a
            budget between two rows takes the larger one's, and one above the last row the last one's.
        lr: The step size on pixels in normalised space, momentum 0.5.
        lr_net: The step size of the network's training, without momentum.
        batch_real: The number of real images per class and step.
        parameterize: Says how stored numbers become images; the default starts from noise, ``Pixels()`` from real images.
        metric: The distance of gradients: ``"layerwise"``, ``"cosine"``, ``"mse"`` or ``"l1"``, see `gradient_distance`.
        mix: Mixed-class augmentation of both sides alike (`ddreplay.augment.mixing`); networks train on unmixed images.
        compile: Runs the real side and the networks' training through ``torch.compile``: about two thirds of the time, once
            compiling has taken some tens of seconds; without a compiler nothing changes.
        pieces: The number of images of a training batch that pass through a network at once; ``None``: all. On a CPU 25 to 50 are faster
            where there are more, which changes rounding alone. A network of `Bfloat16` trains, and sees real images, in bfloat16 in a
            third to a half of the time; synthetic images are matched in full precision.
        networks: Says which networks look, in place of the paper's, which are new in every round and trained on the synthetic set.
            ``Banked(size=200)`` looks at each of 200 new ones again and again and computes their real gradients once: for one image
            per class, where networks hardly train between steps.
    Departures: the released code makes one more update after its last evaluation; this does ``rounds`` x steps, no more.
    Reference: Zhao, Mopuri and Bilen, "Dataset Condensation with Gradient Matching", ICLR 2021.
    Example:
        >>> dc(ConvNet(width=8), rounds=2)(toy_pool(), 1).images().x.shape
        torch.Size([3, 1, 8, 8])
    """
    loops, net = Loops.of(loops), ConvNet() if net is None else net
    return Distiller(
        TrainedOnSynthetic(net, loops=loops, lr=lr_net, compile=compile, pieces=pieces)
        if networks is None
        else with_net(networks, net),
        GradientMatching(scope="class", metric=metric, mix=mix, compile=compile),
        parameterize=with_net(parameterize, net),
        optimizer=SGD(lr=lr, momentum=0.5),
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
    parameterize: Parameterize = Pixels(),
    metric: Metric = "layerwise",
    mix: Mix | None = None,
    networks: NetworkSource | None = None,
    compile: bool = False,
    pieces: int | None = None,
) -> Distiller:
    """`dc` with differentiable siamese augmentation on both sides, and augmented network training (DSA).

    Args:
        net, rounds, loops, lr, lr_net, batch_real, metric, mix, networks, compile, pieces: As in `dc`.
        parameterize: Says how stored numbers become images; the default starts from real images.
        strategy: DSA operations; without ``flip`` for digits (``ddreplay.augment.DIGITS``).
    Departures: one augmentation draw per step for all classes, where the released code draws one per class, which is the option
        ``augment=by_class`` (`ByClass`).
    Reference: Zhao and Bilen, "Dataset Condensation with Differentiable Siamese Augmentation", ICML 2021.
    Example:
        >>> dsa(ConvNet(width=8), rounds=2)(toy_pool(), 1).images().x.shape
        torch.Size([3, 1, 8, 8])
    """
    plain = dc(
        net,
        rounds=rounds,
        loops=loops,
        lr=lr,
        lr_net=lr_net,
        batch_real=batch_real,
        parameterize=parameterize,
        metric=metric,
        mix=mix,
        networks=networks,
        compile=compile,
        pieces=pieces,
    )
    return _augmented(plain, strategy, "dsa")


def dcc(
    net: Net | None = None,
    *,
    rounds: int = 1000,
    loops: Loops | tuple[int, int] = DCC_LOOPS,
    scope: Scope | WarmUp | None = None,
    groups: int | Sequence[Sequence[int]] | None = None,
    lr: float = 0.1,
    lr_net: float = 0.01,
    batch_real: int = 256,
    parameterize: Parameterize = Pixels(),
    metric: Metric = "layerwise",
    mix: Mix | None = None,
    networks: NetworkSource | None = None,
    compile: bool = False,
    pieces: int | None = None,
) -> Distiller:
    """Dataset condensation with contrastive signals (DCC).

    As `dc`, but gradients are summed over classes before they are compared, so that what classes have in common cancels and what
    tells them apart is left; class-wise during a warm-up, which steadies the start:

        L = sum_layers D(sum_c grad CE(x_c), sum_c grad CE(s_c))

    Args:
        net, rounds, lr, lr_net, batch_real, metric, mix, networks, compile, pieces: As in `dc`. Under a bank every image step is a round
            of its own for ``scope``: ``WarmUp(rounds=2500, steps=None)`` is a quarter of 10,000 steps.
        parameterize: Says how stored numbers become images; the default starts from real images.
        loops: As in `dc`; the default is DCC's table.
        scope: ``None``: the paper's bi-level warm-up, for the first quarter of the rounds (250 of 1000) and the first 10 steps of
            a network. ``"set"``: no warm-up. ``WarmUp(rounds=250, steps=None)`` or ``WarmUp(rounds=None, steps=10)``: one level
            alone. ``"class"``: DC with these loops and real images to start from.
        groups: Compares within groups of classes, the paper's future work for many classes: how many, or lists of class positions
            (see `GradientMatching`).
    Departures: the paper's Algorithm 1 ends the warm-up by ``>``, its released code by ``>=``, one step earlier; this follows
        the code. One image of a batch counts as much as another: the collective gradient is the mean over classes, whose scale
        only the 1e-6 in D sees.
    Reference: Lee et al., "Dataset Condensation with Contrastive Signals", ICML 2022.
    Example:
        >>> dcc(ConvNet(width=8), rounds=2, loops=(2, 1))(toy_pool(), 1).images().x.shape
        torch.Size([3, 1, 8, 8])
    """
    plain = dc(
        net,
        rounds=rounds,
        loops=loops,
        lr=lr,
        lr_net=lr_net,
        batch_real=batch_real,
        parameterize=parameterize,
        networks=networks,
        compile=compile,
        pieces=pieces,
    )
    scope = WarmUp(rounds=rounds // 4, steps=10) if scope is None else scope
    return replace(
        plain, objective=GradientMatching(scope, metric, groups=groups, mix=mix, compile=compile), name="dcc"
    )


def dsac(
    net: Net | None = None,
    *,
    rounds: int = 1000,
    loops: Loops | tuple[int, int] = DCC_LOOPS,
    scope: Scope | WarmUp | None = None,
    groups: int | Sequence[Sequence[int]] | None = None,
    lr: float = 0.1,
    lr_net: float = 0.01,
    batch_real: int = 256,
    strategy: str = NATURAL,
    parameterize: Parameterize = Pixels(),
    metric: Metric = "layerwise",
    mix: Mix | None = None,
    networks: NetworkSource | None = None,
    compile: bool = False,
    pieces: int | None = None,
) -> Distiller:
    """`dcc` with differentiable siamese augmentation on both sides, and augmented network training (DSAC).

    Args:
        net, rounds, loops, scope, groups, lr, lr_net, batch_real, parameterize, metric, mix, networks, compile, pieces: As in `dcc`.
        strategy: DSA operations; without ``flip`` for digits (``ddreplay.augment.DIGITS``).
    Departures: one augmentation draw per step for all classes, where the released code draws one per class (`ByClass`); its default keeps
        ``flip`` for every data set.
    Reference: Lee et al., "Dataset Condensation with Contrastive Signals", ICML 2022.
    Example:
        >>> dsac(ConvNet(width=8), rounds=2, loops=(2, 1))(toy_pool(), 1).images().x.shape
        torch.Size([3, 1, 8, 8])
    """
    plain = dcc(
        net,
        rounds=rounds,
        loops=loops,
        scope=scope,
        groups=groups,
        lr=lr,
        lr_net=lr_net,
        batch_real=batch_real,
        parameterize=parameterize,
        metric=metric,
        mix=mix,
        networks=networks,
        compile=compile,
        pieces=pieces,
    )
    return _augmented(plain, strategy, "dsac")


def _augmented(plain: Distiller, strategy: str, name: str) -> Distiller:
    """With siamese augmentation of both sides and of the network's training."""
    augment, networks = Siamese(strategy), plain.networks
    if isinstance(networks, TrainedOnSynthetic):
        networks = replace(networks, augment=augment)
    return replace(plain, networks=networks, augment=augment, name=name)
