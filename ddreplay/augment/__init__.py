"""What both sides undergo: siamese augmentation, and mixing across classes."""

from ddreplay.augment.mixing import Mix, MixTransform, cutmix, mixup
from ddreplay.augment.siamese import DIGITS, NATURAL, Augment, Drawn, Step, Transform, composed, identity, siamese

__all__ = [
    "DIGITS", "NATURAL", "Augment", "Drawn", "Mix", "MixTransform", "Step", "Transform", "composed", "cutmix", "identity",
    "mixup", "siamese",
]  # fmt: skip
