"""Ridge regression from the synthetic images: FRePo, on features of networks, and KIP, with the kernel of an infinitely wide one."""

from __future__ import annotations

from dataclasses import replace

from ddreplay.augment.siamese import Siamese
from ddreplay.backbones import MLP, ConvNet, Net
from ddreplay.condense.distiller import Distiller
from ddreplay.condense.optimizer import LAMB, Adam
from ddreplay.networks import Fresh, NetworkSource, TrainedPool, with_net
from ddreplay.objectives import KernelRegression, TangentKernel
from ddreplay.objectives.tangent_kernels import Kernel
from ddreplay.parameterize.form import Parameterize
from ddreplay.parameterize.pixels import Pixels

__all__ = ["frepo", "kip"]


def frepo(
    net: Net | None = None,
    *,
    networks: NetworkSource = TrainedPool(),
    parameterize: Parameterize = Pixels(),
    steps: int = 500_000,
    lr: float = 3e-4,
    lr_labels: float | None = None,
    learn_labels: bool = True,
    ridge: float = 1e-6,
    margin: float = 1.0,
    batch_real: int = 100,
    strategy: str | None = None,
) -> Distiller:
    """Dataset distillation using neural feature regression with pooling (FRePo).

    A ridge regression from the synthetic images and their learned labels, on the features of a network that was trained on them, must
    say what real images are:

        L = mean_i 1/2 || k(x_i, S) (K_SS + ridge tr(K_SS) / n)^-1 Y - t_i ||^2 - margin mean_j min(first_j - second_j, 1/C)

    k = the inner product of embeddings, Y = the learned labels, t = one-hot - 1/C (see `KernelRegression`). Networks come from a
    pool, each trained a step whenever it has looked (`TrainedPool`); nothing is unrolled. Its sets are to be evaluated by ``frepo2022``.

    Args:
        net: Makes a randomly initialised network; ``None``: the ConvNet of the papers, depth by image size.
        networks: Says which networks look.
        parameterize: Says how stored numbers become images; the default starts from real images.
        steps: The number of image updates. Paper: 500,000.
        lr: The step size of LAMB on pixels in normalised space, relative to their norm.
        lr_labels: The step size of the labels; ``None``: that of the images.
        learn_labels: Whether labels are learned.
        ridge: The regularisation, relative to the mean of the kernel's diagonal.
        margin: The weight of the label margin.
        batch_real: The number of real images per class and step. Paper: 1,024 in all.
        strategy: DSA operations on both sides; ``None``: none, as in the paper.
    Departures: the step size does not fall over the run (paper: along a cosine to a tenth, which is the optimiser `Cosine`); every
        network is the one given, where the paper's is twice as wide in every further block, with batch norm before the convolutions
        while condensing and no norm when it is evaluated; images are not whitened (see `Whitened`). The released code doubles
        prototypes by mirroring them for CIFAR-10 and for small sets of other natural images; this does not. Real images come in equal
        numbers of every class, there they are drawn from all.
    Reference: Zhou, Nezhadarya and Ba, "Dataset Distillation using Neural Feature Regression", NeurIPS 2022.
    Example:
        >>> found = frepo(ConvNet(width=8), networks=TrainedPool(size=2), steps=2)(toy_pool(), 1)
        >>> found.images().x.shape, found.soft_labels.shape
        (torch.Size([3, 1, 8, 8]), torch.Size([3, 3]))
    """
    net = ConvNet() if net is None else net
    made = Distiller(
        with_net(networks, net),
        KernelRegression(ridge, learn_labels=learn_labels, lr_labels=lr_labels, margin=margin),
        parameterize=with_net(parameterize, net),
        optimizer=LAMB(lr=lr),
        steps=steps,
        batch_real=batch_real,
        name="frepo",
    )
    return made if strategy is None else replace(made, augment=Siamese(strategy))


def kip(
    net: Net | None = None,
    *,
    kernel: Kernel = TangentKernel(),
    parameterize: Parameterize = Pixels(),
    steps: int = 2000,
    lr: float = 0.04,
    learn_labels: bool = False,
    ridge: float = 1e-6,
    batch_real: int = 500,
    strategy: str | None = None,
) -> Distiller:
    """Kernel inducing points with the exact tangent kernel of a network of infinite width (KIP).

    A ridge regression from the synthetic images must say what real images are:

        L = mean_i 1/2 || k(x_i, S) (K_SS + ridge tr(K_SS) / n)^-1 Y - t_i ||^2

    k = the kernel, Y and t = one-hot - 1/C. The default is that of a fully connected network (`TangentKernel`), the kernel of the authors'
    public notebook, with which the tables of DCC were made. That of an infinitely wide ConvNet, of the later paper, is
    ``kernel=conv_tangent_kernel`` (`ConvTangentKernel`): exact, and on a single machine for images like digits of 8 x 8 only.

    Args:
        net: Looks at nothing; it may be named because every method takes one.
        kernel: Takes the place of the inner product of images.
        parameterize: Says how stored numbers become images; the default starts from real images.
        steps: The number of image updates; ours.
        lr: The step size of Adam on pixels in normalised space. Notebook: 0.04.
        learn_labels: Whether labels are learned too, at the same step size.
        ridge: The regularisation, relative to the mean of the kernel's diagonal.
        batch_real: The number of real images per class and step. Notebook: 5,000 in all, of ten classes.
        strategy: DSA operations on both sides; ``None``: none, as published.
    Departures: the loss is a sum over classes, the notebook's a mean over them, which does not change what Adam does. Images are
        normalised by channel, as in the notebook; the papers' best sets are whitened (see `Whitened`).
    Reference: Nguyen, Chen and Lee, "Dataset Meta-Learning from Kernel Ridge-Regression", ICLR 2021; Nguyen et al., "Dataset
        Distillation with Infinitely Wide Convolutional Networks", NeurIPS 2021.
    Example:
        >>> kip(steps=2)(toy_pool(), 1).images().x.shape
        torch.Size([3, 1, 8, 8])
    """
    made = Distiller(
        Fresh(MLP(width=1) if net is None else net),
        KernelRegression(ridge, learn_labels=learn_labels, margin=0.0, kernel=kernel),
        parameterize=with_net(parameterize, ConvNet() if net is None else net),
        optimizer=Adam(lr=lr),
        steps=steps,
        batch_real=batch_real,
        name="kip",
    )
    return made if strategy is None else replace(made, augment=Siamese(strategy))
