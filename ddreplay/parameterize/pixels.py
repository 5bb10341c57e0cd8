"""Images that are stored and trained on as they are."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ddreplay.data.pool import ClassPool
from ddreplay.parameterize.form import Form, Init, check_init, initial_images
from ddreplay.randomness import Random

__all__ = [
    "Pixels",
]


@dataclass(frozen=True)
class Pixels:
    """The images themselves, in network space and unclamped; they start as real images or as standard normal noise.

    Args:
        init: where they start: ``"real"``, ``"noise"``, or what a function gives, such as ``RepresentativeImages()``.
        fixed: they stay where they start, and something else is learned, such as their labels.
    """

    init: Init = "real"
    fixed: bool = False

    def __post_init__(self) -> None:
        check_init(self.init)

    def __call__(self, pool: ClassPool, images_per_class: int, random: Random) -> Form:
        return PixelForm(initial_images(pool, images_per_class, self.init, random), pool.classes, fixed=self.fixed)


class PixelForm(Form):
    """Images stored as they are."""

    by_class = True

    def __init__(self, images: Tensor, classes: int, *, fixed: bool = False) -> None:
        super().__init__()
        if fixed:
            self.register_buffer("images", images)
        else:
            self.images = nn.Parameter(images)
        self.classes = classes
        self.stored_per_class = self.per_class = len(images) // classes
