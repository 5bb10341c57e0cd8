"""Linear centred kernel alignment: how alike two networks, layer by layer, see the same images.

Reference: Kornblith, Norouzi, Lee and Hinton, "Similarity of Neural Network Representations Revisited", ICML 2019.
MIM4DD (Fig. 5) draws it between a network trained on real and one trained on condensed images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from benchmarks.report.figures import save_figure

__all__ = ["cka_matrix", "cka_picture", "layer_outputs", "linear_cka"]


def linear_cka(x: Float[Tensor, "n p"], y: Float[Tensor, "n q"]) -> Float[Tensor, ""]:
    """Linear CKA of two sets of features of the same n images, in float64.

        <K', L'> / (|K'| |L'|)        K' = H X X^T H,  L' = H Y Y^T H,  H = I - 1/n

    1 where one is the other under an orthogonal map, a shift and a scale; 0 where they are uncorrelated.

    Raises:
        ValueError: when the features of all images are equal.
    """
    return _alignment(_centred_gram(x), _centred_gram(y))


def cka_matrix(
    first: Mapping[str, Float[Tensor, "n ..."]], second: Mapping[str, Float[Tensor, "n ..."]]
) -> Float[Tensor, "layers others"]:
    """Linear CKA of every layer of one network with every layer of another; feature maps are flattened."""
    rows = [_centred_gram(x.flatten(1)) for x in first.values()]
    columns = [_centred_gram(y.flatten(1)) for y in second.values()]
    return torch.stack([torch.stack([_alignment(k, l) for l in columns]) for k in rows])


def layer_outputs(
    net: nn.Module, x: Float[Tensor, "n ..."], layers: Sequence[str], *, chunk: int = 256
) -> dict[str, Float[Tensor, "n ..."]]:
    """The outputs of named submodules (names of ``net.named_modules()``) in evaluation mode, no gradient, on the CPU.

    Raises:
        ValueError: when a name is none of the network's.
    """
    modules = dict(net.named_modules())
    missing = [name for name in layers if name not in modules]
    if missing:
        raise ValueError(f"layers {missing} are not in the network; it has {[name for name in modules if name]}")
    caught: dict[str, list[Tensor]] = {name: [] for name in layers}

    def catch(name: str) -> torch.utils.hooks.RemovableHandle:
        def keep(module: nn.Module, images: tuple[Tensor, ...], out: Tensor) -> None:
            caught[name].append(out.detach().cpu().clone())

        handle: torch.utils.hooks.RemovableHandle = modules[name].register_forward_hook(keep)
        return handle

    handles = [catch(name) for name in layers]
    modes = {name: module.training for name, module in modules.items()}
    try:
        net.eval()
        with torch.no_grad():
            for images in torch.split(x, chunk):
                net(images)
    finally:
        for handle in handles:
            handle.remove()
        for name, module in modules.items():
            module.training = modes[name]
    return {name: torch.cat(parts) for name, parts in caught.items()}


def cka_picture(
    path: str | Path,
    matrix: Float[Tensor, "layers others"],
    *,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    title: str = "",
) -> Path:
    """The heat map: a lighter cell is a more similar pair of layers; the first layer is at the bottom left."""
    with save_figure(path, width=4.0, height=3.5) as (axis,):
        image = axis.imshow(matrix.tolist(), origin="lower", cmap="magma", vmin=0, vmax=1)
        axis.set_yticks(range(len(rows)), rows)
        axis.set_xticks(range(len(columns)), columns, rotation=60, ha="right")
        axis.set_title(title)
        axis.figure.colorbar(image, ax=axis, label="linear CKA")
    return Path(path)


def _centred_gram(x: Float[Tensor, "n p"]) -> Float[Tensor, "n n"]:
    values = x.detach().double()
    centred = values - values.mean(0)
    if not bool(centred.norm() > 1e-12 * values.norm()):
        raise ValueError("CKA is undefined where all images have the same features; look at another layer")
    return centred @ centred.T


def _alignment(k: Float[Tensor, "n n"], l: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
    similarity: Tensor = (k * l).sum() / (k.norm() * l.norm())
    return similarity
