"""What must agree between the real and the synthetic side."""

from ddreplay.objectives.characteristic import CharacteristicFunction
from ddreplay.objectives.diversity import IntraClassDiversity
from ddreplay.objectives.embedding import MeanEmbedding
from ddreplay.objectives.gradients import GradientMatching, warmup
from ddreplay.objectives.kernel import MaximumMeanDiscrepancy
from ddreplay.objectives.mutual_information import MutualInformation
from ddreplay.objectives.regulariser import ClassRegulariser
from ddreplay.objectives.style import GramMatching, StyleMoments
from ddreplay.objectives.term import Look, MeanTerm, Side, Sum, Term
from ddreplay.objectives.trajectory import TrajectoryMatching
from ddreplay.objectives.unrolled import UnrolledLoss

__all__ = [
    "CharacteristicFunction",
    "ClassRegulariser",
    "GradientMatching",
    "GramMatching",
    "IntraClassDiversity",
    "Look",
    "MaximumMeanDiscrepancy",
    "MeanEmbedding",
    "MeanTerm",
    "MutualInformation",
    "Side",
    "StyleMoments",
    "Sum",
    "Term",
    "TrajectoryMatching",
    "UnrolledLoss",
    "warmup",
]
