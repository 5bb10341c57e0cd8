"""Several images in the place of one, matched under networks that learn from real data: IDC and DREAM."""

from __future__ import annotations

from dataclasses import replace

from ddreplay.augment.mixing import CutMix
from ddreplay.augment.siamese import Composed
from ddreplay.backbones import ConvNet, Net
from ddreplay.condense.distiller import Distiller
from ddreplay.condense.optimizer import SGD
from ddreplay.networks import TrainedOnReal, with_net
from ddreplay.networks.real_batches import Representative, RepresentativeImages
from ddreplay.objectives import GradientMatching
from ddreplay.objectives.gradient_matching import Metric
from ddreplay.parameterize.form import Parameterize
from ddreplay.parameterize.partitioned import Partitioned

__all__ = ["dream", "idc"]


def idc(
    net: Net | None = None,
    *,
    rounds: int = 2000,
    steps: int = 100,
    parameterize: Parameterize = Partitioned(2),
    lr: float = 0.0125,
    batch_real: int = 64,
    metric: Metric = "mse",
    images_net: int = 2000,
    batch_net: int = 64,
    lr_net: float = 0.01,
    mix: float = 0.5,
) -> Distiller:
    """Dataset condensation via efficient synthetic-data parameterization (IDC).

    Every stored image is cut into 2 x 2 tiles, each enlarged to the full size. Per class, the gradients of the
    convolutions' weights on real images and on enlarged tiles must agree, while the network learns from real images:

        L_c = sum over convolutions || grad CE(a(x_c)) - grad CE(a(tiles of s_c)) ||^2          one image step per class

    Args:
        net: Makes a randomly initialised network; ``None``: the ConvNet of the paper, depth by image size.
        rounds: The number of networks. Paper: 2000.
        steps: The number of rounds over the classes that each network sees. Paper: 100.
        parameterize: Says how stored numbers become images; ``Pixels()``: no multi-formation (IDC-I).
        lr: The step size on pixels in normalised space for one stored image per class; it grows in proportion. Paper: 0.005 / 10 on
            pixels in [0, 1], which is 0.0005 / std^2 here: 0.0125 at CIFAR's std of 0.2.
        batch_real: The number of real images per class and step.
        metric: The distance of gradients: ``"mse"`` (CIFAR, SVHN) or ``"l1"`` (MNIST, ImageNet).
        images_net: The number of real images that the network learns from after each step.
        batch_net: The number of images in a batch of that training.
        lr_net: The step size of the network's training.
        mix: The share of that training's batches that CutMix mixes, 0 to 1.
    Departures: one augmentation draw for all classes of a step, where the released code draws one per class; all synthetic images
        of a class in every step, not 128 at most; pixels are clamped to their range when stored, not during the run; tiles are
        ordered column by column (`Partitioned`).
    Reference: Kim et al., "Dataset Condensation via Efficient Synthetic-Data Parameterization", ICML 2022.
    Example:
        >>> idc(ConvNet(width=8), rounds=1, steps=2, images_net=8)(toy_pool(), 1).images().x.shape
        torch.Size([12, 1, 8, 8])
    """
    net = ConvNet() if net is None else net
    source = TrainedOnReal(
        net,
        steps=steps,
        images=images_net,
        batch_size=batch_net,
        lr=lr_net,
        augment=Composed("color_crop"),
        mix=CutMix(p=mix),
    )
    return Distiller(
        source,
        GradientMatching(scope="class", metric=metric, layers="conv"),
        augment=Composed("color_crop_cutout"),
        parameterize=with_net(parameterize, net),
        optimizer=SGD(lr=lr, momentum=0.5, per_image=True),
        steps=rounds * steps,
        batch_real=batch_real,
        step_per="class",
        name="idc",
    )


def dream(
    net: Net | None = None,
    *,
    interval: int = 10,
    candidates: int | None = None,
    rounds: int = 2000,
    steps: int = 100,
    parameterize: Parameterize = Partitioned(2, RepresentativeImages()),
    lr: float = 0.0125,
    batch_real: int = 128,
    metric: Metric = "mse",
    images_net: int = 2000,
    batch_net: int = 64,
    lr_net: float = 0.01,
    mix: float = 0.5,
) -> Distiller:
    """`idc` with representative real batches and representative images to start from (DREAM).

    Every ``interval`` steps a network sees, each class's images are clustered in its embedding, and the images nearest to the
    ``batch_real`` centres are the real batch until then.

    Args:
        interval: The number of steps between two clusterings. Paper: 10.
        candidates: Clusters a random draw of this many images of every class; ``None``: all of them, as published.
        parameterize: Says how stored numbers become images; the default starts from representative images.
        net, rounds, steps, lr, batch_real, metric, images_net, batch_net, lr_net, mix: As in `idc`.
    Departures: those of `idc`.
    Reference: Liu et al., "DREAM: Efficient Dataset Distillation by Representative Matching", ICCV 2023.
    Example:
        >>> dream(ConvNet(width=8), rounds=1, steps=2, images_net=8, batch_real=4)(toy_pool(), 1).images().x.shape
        torch.Size([12, 1, 8, 8])
    """
    base = idc(
        net,
        rounds=rounds,
        steps=steps,
        parameterize=parameterize,
        lr=lr,
        batch_real=batch_real,
        metric=metric,
        images_net=images_net,
        batch_net=batch_net,
        lr_net=lr_net,
        mix=mix,
    )
    return replace(base, draw=Representative(interval=interval, candidates=candidates), name="dream")
