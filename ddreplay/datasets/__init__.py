"""Image data sets by name or from files, as tensors with a train and a test split.

>>> digits = load("digits")
>>> digits.train_images.shape, len(digits.test_images)
(torch.Size([1258, 1, 8, 8]), 539)
>>> digits.normalization
'computed from the train split'
"""

from __future__ import annotations

from ddreplay.datasets.hugging_face import from_hugging_face
from ddreplay.datasets.image_data import ImageData, validation_split
from ddreplay.datasets.load import NAMES, load
from ddreplay.datasets.normalization import Normalization, channel_moments, normalization

__all__ = [
    "NAMES",
    "ImageData",
    "Normalization",
    "channel_moments",
    "from_hugging_face",
    "load",
    "normalization",
    "validation_split",
]
