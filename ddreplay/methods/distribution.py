"""Distribution matching: DM and what came after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from ddreplay.augment.siamese import NATURAL, Siamese
from ddreplay.backbones import ConvNet, Net
from ddreplay.condense.distiller import Distiller
from ddreplay.condense.optimizer import SGD
from ddreplay.networks import Fresh, ModelQueue, NetworkSource, with_net
from ddreplay.objectives import (
    CharacteristicFunction,
    ClassRegulariser,
    GramMatching,
    IntraClassDiversity,
    MaximumMeanDiscrepancy,
    MeanEmbedding,
    StyleMoments,
    Sum,
)
from ddreplay.objectives.class_regulariser import Unit
from ddreplay.parameterize.form import Parameterize
from ddreplay.parameterize.partitioned import Partitioned
from ddreplay.parameterize.pixels import Pixels

__all__ = ["ddm", "dm", "idm", "m3d", "ncfm"]


def dm(
    net: Net | None = None,
    *,
    networks: NetworkSource = Fresh(),
    parameterize: Parameterize = Pixels(),
    steps: int = 20000,
    lr: float = 1.0,
    per_image: bool = False,
    batch_real: int = 256,
    strategy: str = NATURAL,
) -> Distiller:
    """Dataset condensation with distribution matching (DM).

    For each class, the squared distance between the mean embeddings of real and synthetic images under freshly initialised
    networks:

        L = sum_c || mean_i f(a(x_i)) - mean_j f(a(s_j)) ||^2          f = the network up to its classifier

    Args:
        net: Makes a randomly initialised network; ``None``: the ConvNet of the paper, depth by image size.
        networks: Says which networks look. ``Banked(size=40)`` keeps that many and computes their real side once, which is far faster than
            a new one at every step.
        parameterize: Says how stored numbers become images: ``Pixels("noise")`` starts from noise, ``Partitioned(2)`` stores four smaller
            images in each.
        steps: The number of image updates. Paper: 20,000.
        lr: The step size on pixels in normalised space. Paper and released code: 1.0 (10 from 100 images per class on).
        per_image: ``lr`` is multiplied by the stored images per class, for budgets in bytes, where that number is chosen later:
            0.1 is the paper's step at 10 images per class, times ``factor``^2 with `Partitioned`.
        batch_real: The number of real images per class and step; a bank looks at its own number of them, once.
        strategy: DSA operations; without ``flip`` for digits (``ddreplay.augment.DIGITS``).
    Departures: one augmentation draw per step for all classes, where the released code draws one per class, which is the option
        ``augment=by_class`` (`ByClass`).
    Reference: Zhao and Bilen, "Dataset Condensation with Distribution Matching", WACV 2023.
    Example:
        >>> from ddreplay.networks import Banked
        >>> dm(ConvNet(width=8), networks=Banked(size=2), steps=2)(toy_pool(), 1).images().x.shape
        torch.Size([3, 1, 8, 8])
    """
    net = ConvNet() if net is None else net
    return Distiller(
        with_net(networks, net),
        MeanEmbedding(),
        augment=Siamese(strategy),
        parameterize=with_net(parameterize, net),
        optimizer=SGD(lr=lr, momentum=0.5, per_image=per_image),
        steps=steps,
        batch_real=batch_real,
        name="dm",
    )


def idm(
    net: Net | None = None,
    *,
    networks: NetworkSource = ModelQueue(),
    parameterize: Parameterize = Partitioned(2),
    steps: int = 20000,
    lr: float = 0.2,
    weight: float = 0.5,
    accuracy_unit: Unit = "percent",
    batch_real: int = 256,
    strategy: str = NATURAL,
    step_per: Literal["set", "class"] = "class",
) -> Distiller:
    """Improved distribution matching (IDM).

    `dm` on images that are each cut into 2 x 2 enlarged tiles, under networks of different ages, which must recognise the synthetic
    images as far as they know the classes themselves:

        L = sum_c || mean_i f(a(x_i)) - mean_j f(a(s_j)) ||^2 + w A mean_j CE(net(a(s_j)), c)

    f = the network up to its classifier, s_j = the tiles, A = the network's running accuracy on real images.

    Args:
        net, batch_real, strategy: As in `dm`.
        networks: Says which networks look. Those of a `ModelQueue` know their running accuracy, trained ones of a bank that on real images
            drawn for it; others count as knowing nothing.
        parameterize: Says how stored numbers become images. Paper: ``Partitioned(2)``, and ``Pixels()`` in its comparisons across
            architectures and in continual learning.
        steps: The number of image updates. Paper: 20,000.
        lr: The step size on pixels in normalised space, momentum 0.5. Paper and released code: 0.2.
        weight: The weight w. Paper and released code, CIFAR-10: 0.5, and 0.1 at 50 images per class; other data: `idm_settings`.
        accuracy_unit: The unit of A. Released code: percent (0 to 100); the paper does not say.
        step_per: ``"class"``: the images step once per class, as in the released code, where momentum also moves the classes whose
            turn it is not; ``"set"``: once, on the sum over classes (paper).
    Departures: one augmentation draw, one network and one real batch per step for all classes, where the released code draws an
        augmentation per class. Where CIFAR-10 at one image per class is condensed without tiles, the released code picks real images
        of low loss; this does not.
    Reference: Zhao et al., "Improved Distribution Matching for Dataset Condensation", CVPR 2023.
    Example:
        >>> condensed = idm(ConvNet(width=8), networks=ModelQueue(train_steps=1), steps=2)(toy_pool(), 1)
        >>> condensed.stored_images, condensed.images().x.shape
        (3, torch.Size([12, 1, 8, 8]))
    """
    base = dm(
        net, networks=networks, parameterize=parameterize, steps=steps, lr=lr, batch_real=batch_real, strategy=strategy
    )
    objective = Sum([MeanEmbedding(), ClassRegulariser(accuracy_unit)], [1.0, weight])
    return replace(base, objective=objective, step_per=step_per, name="idm")


def ddm(
    net: Net | None = None,
    *,
    networks: NetworkSource = Fresh(),
    parameterize: Parameterize = Pixels(),
    steps: int = 20000,
    lr: float = 1.0,
    moments: float = 0.0,
    gram: float = 1e4,
    diversity: float = 0.0,
    taps: Sequence[str] = ("norms",),
    of_image: bool = False,
    neighbours: int | None = None,
    batch_real: int = 256,
    strategy: str = NATURAL,
) -> Distiller:
    """Decomposed distribution matching (DDM): `dm`, and style, and diversity within a class.

        L = L_DM + moments * L_MM + gram * L_CM + diversity * L_ICD

    with `StyleMoments`, `GramMatching` and `IntraClassDiversity`.

    Args:
        net, networks, parameterize, steps, batch_real, strategy: As in `dm`.
        lr: The step size on pixels in normalised space, momentum 0.5. Released code: 1.0.
        moments, gram, diversity: The weights, for a network 128 wide: L_DM is a sum over features, so for half the width they are half.
            Released code: 1e4, 1e4 and 10, each alone; together 1e4, 0 and 10.
        taps, of_image: The layers whose style is matched, and whether moments are taken of every image's maps or of the mean map. A
            network without norms needs others than ``("norms",)``: ``("convolutions",)``.
        neighbours: The number of images of the same class that diversity looks at; ``None``: a fifth of them, see `IntraClassDiversity`.
    Departures: by default only correlations are matched, which was best on held-out images when each term was turned on and off
        (benchmarks/records/ddm_ablation.json; CIFAR-10, 10 per class, reduced scale, two seeds: plain 37.1 %, moments 37.3, gram
        38.9, diversity 34.5). Its authors' later code, too, measures diversity at the published weight below plain `dm` and style
        above it (45.1, 48.8 and 51.1 %). One augmentation draw per step for all classes. The released style scripts carry one
        class's distance into the next one's; this does not.
    Reference: Malakshan et al., "Decomposed Distribution Matching in Dataset Condensation", WACV 2025.
    Example:
        >>> ddm(ConvNet(width=8), steps=2, diversity=10.0)(toy_pool(), 2).images().x.shape
        torch.Size([6, 1, 8, 8])
    """
    terms = [
        MeanEmbedding(),
        StyleMoments(taps, of_image=of_image),
        GramMatching(taps),
        IntraClassDiversity(neighbours),
    ]
    base = dm(
        net, networks=networks, parameterize=parameterize, steps=steps, lr=lr, batch_real=batch_real, strategy=strategy
    )
    return replace(base, objective=Sum(terms, [1.0, moments, gram, diversity]), name="ddm")


def m3d(
    net: Net | None = None,
    *,
    networks: NetworkSource = Fresh(),
    parameterize: Parameterize = Pixels(),
    steps: int = 20000,
    lr: float = 1000.0,
    scales: Sequence[float] = (0.25, 0.5, 1.0, 2.0, 4.0),
    batch_real: int = 256,
    strategy: str = NATURAL,
) -> Distiller:
    """`dm` by all moments instead of the first: kernel maximum mean discrepancy (after M3D).

        L = sum_c [ mean k(x, x') + mean k(s, s') - 2 mean k(x, s) ]          k = Gaussian kernels on the embeddings

    Args:
        net, parameterize, steps, batch_real, strategy: As in `dm`.
        networks: Says which networks look. The real side of a bank's entry is the embeddings of its images, all of which every step
            compares: ``Banked(images=256)``.
        lr: The step size on pixels in normalised space, momentum 0.5; the loss is at most 2 per class, hence larger than for `dm`.
        scales: The scales of the kernels, see `MaximumMeanDiscrepancy`.
    Departures: only the objective is M3D's. Networks, augmentation and steps are those of `dm`. The step size is
        our choice, on held-out images of CIFAR-10 (300 to 3000 did alike; 8x8 digits want 5).
    Reference: Zhang et al., "M3D: Dataset Condensation by Minimizing Maximum Mean Discrepancy", AAAI 2024.
    Example:
        >>> m3d(ConvNet(width=8), steps=2)(toy_pool(), 1).images().x.shape
        torch.Size([3, 1, 8, 8])
    """
    base = dm(
        net, networks=networks, parameterize=parameterize, steps=steps, lr=lr, batch_real=batch_real, strategy=strategy
    )
    return replace(base, objective=MaximumMeanDiscrepancy(scales), name="m3d")


def ncfm(
    net: Net | None = None,
    *,
    networks: NetworkSource = Fresh(),
    parameterize: Parameterize = Partitioned(2),
    steps: int = 20000,
    lr: float = 1000.0,
    frequencies: int = 1024,
    spread: float = 1.0,
    amplitude: float = 0.5,
    batch_real: int = 256,
    strategy: str = NATURAL,
) -> Distiller:
    """`dm` by characteristic functions instead of means (after NCFM).

        L = sum_c mean_t distance( mean_i exp(i <t, f(x_i)>), mean_j exp(i <t, f(s_j)>) )          t = random frequencies

    with the distance of amplitudes and phases of `CharacteristicFunction`.

    Args:
        net, networks, steps, batch_real, strategy: As in `dm`.
        parameterize: Says how stored numbers become images. Paper: ``Partitioned(2)``.
        lr: The step size on pixels in normalised space, momentum 0.5.
        frequencies: The number of frequencies that are drawn for a network.
        spread: The spread of the frequencies; large values tell close images apart, small ones compare means.
        amplitude: The weight of amplitudes, beside 1 - ``amplitude`` of phases.
    Departures: only the objective is NCFM's, without the network that learns frequencies, as in its released configuration. Networks,
        augmentation and steps are those of `dm`; the paper matches several layers of trained networks and calibrates with their
        labels. Step size and spread are our choice, on held-out images of CIFAR-10: a spread of 4, with any step size, gained nothing over
        real images; 0.3 and 1 did.
    Reference: Wang et al., "Dataset Distillation with Neural Characteristic Function: A Minmax Perspective", CVPR 2025.
    Example:
        >>> ncfm(ConvNet(width=8), steps=2)(toy_pool(), 1).images().x.shape
        torch.Size([12, 1, 8, 8])
    """
    base = dm(
        net, networks=networks, parameterize=parameterize, steps=steps, lr=lr, batch_real=batch_real, strategy=strategy
    )
    objective = CharacteristicFunction(frequencies, spread=spread, amplitude=amplitude)
    return replace(base, objective=objective, name="ncfm")
