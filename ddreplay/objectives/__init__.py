"""What must agree between the real and the synthetic side."""

from ddreplay.objectives.embedding import MeanEmbedding
from ddreplay.objectives.gradients import GradientMatching, warmup
from ddreplay.objectives.term import Look, MeanTerm, Side, Sum, Term

__all__ = ["GradientMatching", "Look", "MeanEmbedding", "MeanTerm", "Side", "Sum", "Term", "warmup"]
