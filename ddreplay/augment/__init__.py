"""What both sides undergo: siamese augmentation, and mixing across classes."""

from ddreplay.augment.by_class import ByClass
from ddreplay.augment.mixing import CutMix, Mix, MixTransform, MixUp
from ddreplay.augment.siamese import DIGITS, NATURAL, Augment, Composed, Drawn, Identity, Siamese, Step, Transform

__all__ = [
    "Augment",
    "ByClass",
    "Composed",
    "CutMix",
    "DIGITS",
    "Drawn",
    "Identity",
    "Mix",
    "MixTransform",
    "MixUp",
    "NATURAL",
    "Siamese",
    "Step",
    "Transform",
]
