"""What must agree between the real and the synthetic side."""

from ddreplay.objectives.characteristic_function import CharacteristicFunction
from ddreplay.objectives.class_regulariser import ClassRegulariser
from ddreplay.objectives.feature_alignment import FeatureAlignment
from ddreplay.objectives.gradient_matching import GradientMatching, WarmUp
from ddreplay.objectives.gram_matching import GramMatching
from ddreplay.objectives.intra_class_diversity import IntraClassDiversity
from ddreplay.objectives.kernel_regression import KernelRegression
from ddreplay.objectives.maximum_mean_discrepancy import MaximumMeanDiscrepancy
from ddreplay.objectives.mean_embedding import MeanEmbedding
from ddreplay.objectives.mutual_information import MutualInformation
from ddreplay.objectives.random_prefix import RandomPrefix
from ddreplay.objectives.side import Look, Side
from ddreplay.objectives.style_moments import StyleMoments
from ddreplay.objectives.tangent_kernels import ConvTangentKernel, TangentKernel
from ddreplay.objectives.term import MeanTerm, Sum, Term
from ddreplay.objectives.trajectory_matching import TrajectoryMatching
from ddreplay.objectives.unrolled_loss import UnrolledLoss

__all__ = [
    "CharacteristicFunction",
    "ClassRegulariser",
    "FeatureAlignment",
    "GradientMatching",
    "GramMatching",
    "IntraClassDiversity",
    "KernelRegression",
    "Look",
    "MaximumMeanDiscrepancy",
    "MeanEmbedding",
    "MeanTerm",
    "MutualInformation",
    "RandomPrefix",
    "Side",
    "StyleMoments",
    "Sum",
    "ConvTangentKernel",
    "TangentKernel",
    "Term",
    "TrajectoryMatching",
    "UnrolledLoss",
    "WarmUp",
]
