"""What features of condensed images look like: alignment, uniformity, diversity, style, t-SNE.

Features are plain tensors, one row an image; maps are [n, c, h, w].
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from benchmarks.report.figures import COLORS, GRAY, save_figure
from ddreplay.randomness import Random

__all__ = [
    "alignment",
    "intra_class_diversity",
    "style_distance",
    "style_statistics",
    "tsne",
    "tsne_picture",
    "uniformity",
]


def alignment(features: Float[Tensor, "n d"], labels: Int64[Tensor, " n"], *, power: float = 2.0) -> Float[Tensor, ""]:
    """How close features of one class are on the unit sphere; lower is closer.

        mean over pairs i < j of equal label of  || z_i - z_j ||^power        z = f / |f|

    Raises:
        ValueError: when no class has two images.
    Reference: Wang and Isola, "Understanding Contrastive Representation Learning through Alignment and Uniformity on
    the Hypersphere", ICML 2020; pairs of equal label as in DCC (Fig. 6).
    """
    z = _on_sphere(features)
    pairs = [_pair_distances(z[labels == k]) for k in torch.unique(labels)]
    distances = torch.cat(pairs)
    if not len(distances):
        raise ValueError("alignment needs a class with at least two images; condense two or more images per class")
    return distances.pow(power).mean()


def uniformity(features: Float[Tensor, "n d"], *, t: float = 2.0) -> Float[Tensor, ""]:
    """How evenly features cover the unit sphere; lower is more even, 0 where all are equal.

        log mean over pairs i < j of  exp(-t || z_i - z_j ||^2)        z = f / |f|

    Reference: Wang and Isola, ICML 2020.
    """
    if len(features) < 2:
        raise ValueError(f"uniformity needs at least two images, got {len(features)}")
    exponents = -t * _pair_distances(_on_sphere(features)).square()
    return exponents.logsumexp(0) - math.log(len(exponents))


def intra_class_diversity(features: Float[Tensor, "n d"], labels: Int64[Tensor, " n"]) -> Float[Tensor, " classes"]:
    """Per class (ascending label), the mean distance between two of its images; NaN for a class of one image.

    DDM (Fig. 4) compares classes by such a number; the formula here (mean Euclidean distance) is ours.
    """
    return torch.stack([_pair_distances(features[labels == k]).mean() for k in torch.unique(labels)])


def style_statistics(maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n channels_twice"]:
    """Mean and standard deviation of every channel of a feature map, concatenated.

    Departures: DDM (Fig. 1) has the variance where this has the standard deviation, which is in the unit of the mean.
    """
    std, mean = torch.std_mean(maps, dim=(2, 3), correction=0)
    return torch.cat([mean, std], 1)


def style_distance(real: Float[Tensor, "n c h w"], syn: Float[Tensor, "m c h2 w2"]) -> Float[Tensor, ""]:
    """Euclidean distance between the average `style_statistics` of two sets of images."""
    distance: Tensor = (style_statistics(real).mean(0) - style_statistics(syn).mean(0)).norm()
    return distance


def tsne(features: Float[Tensor, "n d"], *, perplexity: float = 30.0, seed: int = 0) -> Float[Tensor, "n two"]:
    """Points in the plane by t-SNE (scikit-learn), started from the principal components.

    Raises:
        ValueError: when perplexity is not below the number of images.
    """
    from sklearn.manifold import TSNE

    if not 0 < perplexity < len(features):
        raise ValueError(f"perplexity must be positive and below the {len(features)} images, got {perplexity}")
    state = Random(seed).integer(2**31)
    model = TSNE(n_components=2, perplexity=perplexity, init="pca", random_state=state)
    return torch.from_numpy(model.fit_transform(features.detach().cpu().double().numpy())).float()


def tsne_picture(
    path: str | Path, sets: Mapping[str, Float[Tensor, "_ d"]], *, perplexity: float = 30.0, seed: int = 0
) -> Path:
    """Sets of features ({"real": ..., "DM": ...}) in one t-SNE plane, one colour for each set, the first grey; later sets lie on top."""
    points = tsne(torch.cat([f.detach().cpu() for f in sets.values()]), perplexity=perplexity, seed=seed)
    with save_figure(path, width=4.5, height=4.5) as (axis,):
        parts = torch.split(points, [len(f) for f in sets.values()])
        for k, (name, part) in enumerate(zip(sets, parts, strict=True)):
            axis.scatter(*part.T.tolist(), s=8, label=name, color=(GRAY, *COLORS)[k % (1 + len(COLORS))])
        axis.legend()
        axis.set_xticks([])
        axis.set_yticks([])
    return Path(path)


def _on_sphere(features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    return F.normalize(features, dim=1)


def _pair_distances(features: Float[Tensor, "n d"]) -> Float[Tensor, " pairs"]:
    return F.pdist(features) if len(features) > 1 else features.new_zeros(0)
