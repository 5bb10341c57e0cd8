"""Looking at condensed sets: kernels, features, similarity of networks, consistency, transfer across architectures.

Importing this package loads neither scikit-learn nor matplotlib; the functions that need them do.
"""

from benchmarks.analysis.cka import cka_matrix, cka_picture, layer_outputs, linear_cka
from benchmarks.analysis.consistency import consistency_ratio
from benchmarks.analysis.cross_architecture import cross_architecture, cross_architecture_table
from benchmarks.analysis.features import (
    alignment,
    intra_class_diversity,
    style_distance,
    style_statistics,
    tsne,
    tsne_picture,
    uniformity,
)
from benchmarks.analysis.ntk import (
    KernelVelocity,
    image_kernel,
    kernel_distance,
    ntk,
    parameter_jacobian,
    projected_ntk,
)
from benchmarks.analysis.watching import Watched, WatchedTerm

__all__ = [
    "KernelVelocity",
    "Watched",
    "WatchedTerm",
    "alignment",
    "cka_matrix",
    "cka_picture",
    "consistency_ratio",
    "cross_architecture",
    "cross_architecture_table",
    "image_kernel",
    "intra_class_diversity",
    "kernel_distance",
    "layer_outputs",
    "linear_cka",
    "ntk",
    "parameter_jacobian",
    "projected_ntk",
    "style_distance",
    "style_statistics",
    "tsne",
    "tsne_picture",
    "uniformity",
]
