"""Aligning features, layer by layer: CAFE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ddreplay.augment.siamese import Siamese
from ddreplay.backbones import ConvNet, Net
from ddreplay.condense.distiller import Distiller
from ddreplay.condense.optimizer import SGD
from ddreplay.networks import NetworkSource, UntilSettled, with_net
from ddreplay.objectives import FeatureAlignment
from ddreplay.parameterize.form import Parameterize
from ddreplay.parameterize.pixels import Pixels

__all__ = ["cafe"]


def cafe(
    net: Net | None = None,
    *,
    networks: NetworkSource = UntilSettled(),
    parameterize: Parameterize = Pixels("noise"),
    steps: int = 2000,
    lr: float = 0.1,
    taps: Sequence[str] = ("blocks.*.act",),
    weights: Sequence[float] = (0.1, 1.0, 2.0),
    discrimination: float = 0.01,
    batch_real: int = 256,
    strategy: str | None = None,
) -> Distiller:
    """Condensing a data set by aligning features (CAFE).

    Class means must agree in every layer, real images must be told apart by the centres of the synthetic ones, and networks are
    trained on the synthetic set for as long as that changes something (`UntilSettled`):

        L = sum_l w_l sum_c || mean_i f_l(x_i) - mean_j f_l(s_j) ||^2 + d sum_i CE(<f(x_i), mean_j f(s_j)>, y_i)

    Args:
        net: Makes a randomly initialised network; ``None``: the ConvNet of the papers, depth by image size.
        networks: Says which networks look.
        parameterize: Says how stored numbers become images; the default starts from noise, as the released code does.
        steps: The number of image updates; ours.
        lr: The step size on pixels in normalised space, momentum 0.5.
        taps: The layers; ``("convolutions",)`` serves any network.
        weights: Those of the layers and, last, of the embedding. Released code: 0.1 for the first two blocks, 1 for the third, and 2 in
            effect for the embedding, which it aligns twice.
        discrimination: The weight d of the centres' cross-entropy, a sum over real images.
        batch_real: The number of real images per class and step.
        strategy: DSA operations on both sides and in the networks' training (CAFE + DSA); ``None``: none.
    Departures: the released code halves the step size after 1,200, 1,600 and 1,800 of its 2,000 networks; this does not, unless
        the optimiser is `Halved`. ``steps`` counts image updates; there each of the 2,000 networks sees ten updates at least. One
        augmentation draw per step for all classes, where the released code draws one per class. The loss of networks on real images,
        which moves no image, is left out. The paper's weights differ from the released code's, which this follows.
    Reference: Wang et al., "CAFE: Learning to Condense Dataset by Aligning Features", CVPR 2022.
    Example:
        >>> cafe(ConvNet(width=8), steps=2)(toy_pool(), 1).images().x.shape
        torch.Size([3, 1, 8, 8])
    """
    net = ConvNet() if net is None else net
    made = Distiller(
        with_net(networks, net),
        FeatureAlignment(taps, weights=weights, discrimination=discrimination),
        parameterize=with_net(parameterize, net),
        optimizer=SGD(lr=lr, momentum=0.5),
        steps=steps,
        batch_real=batch_real,
        name="cafe",
    )
    if strategy is None:
        return made
    augment = Siamese(strategy)
    source = made.networks
    source = replace(source, augment=augment) if isinstance(source, UntilSettled) else source
    return replace(made, networks=source, augment=augment)
