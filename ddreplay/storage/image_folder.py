"""A condensed set as a folder of class folders with a PNG for every image, which other libraries read."""

from __future__ import annotations

import io
import re
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from ddreplay.data.space import to_pixels
from ddreplay.storage.condensed_set import CondensedSet

__all__ = ["class_label", "png_bytes", "write_image_folder", "write_png"]


def class_label(class_id: int, name: str) -> str:
    """A class as the name of a file: its id, and its name where that is another.

    >>> class_label(3, "guinea pig"), class_label(7, "7")
    ('3_guinea_pig', '7')
    """
    label = re.sub(r"[^\w.-]+", "_", name)
    return str(class_id) if label == str(class_id) else f"{class_id}_{label}"


def write_image_folder(condensed: CondensedSet, folder: str | Path) -> list[Path]:
    """Write every image that is trained on as a PNG: ``folder/class/number.png``; returns the paths.

    Class folders are named by id, with leading zeros, and name: their alphabetical order, which is what readers of such folders number
    classes by, is that of the ids.

    Raises:
        ValueError: when the images have neither 1 nor 3 channels.
        OSError: when the folder cannot be written.
    """
    digits = len(str(max(condensed.class_ids, default=0)))
    written = []
    for part in condensed.parts:
        for class_id, name, images in zip(part.class_ids, part.class_names, part.images, strict=True):
            own = class_label(class_id, name)
            place = Path(folder) / f"{class_id:0{digits}d}{own.removeprefix(str(class_id))}"
            place.mkdir(parents=True, exist_ok=True)
            for k, pixels in enumerate(to_pixels(images, part.mean, part.std)):
                written.append(write_png(pixels, place / f"{k:04d}.png"))
    return written


def write_png(pixels: Float[Tensor, "c h w"], path: Path) -> Path:
    """One image with pixels in 0..1 as a file; what lies outside is cut.

    Raises:
        ValueError: when it has neither 1 nor 3 channels.
    """
    path.write_bytes(png_bytes(pixels))
    return path


def png_bytes(pixels: Float[Tensor, "c h w"]) -> bytes:
    """The same as bytes."""
    from PIL import Image

    shown = pixels.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
    if shown.shape[2] not in (1, 3):
        raise ValueError(
            f"an image must have 1 or 3 channels to be a PNG, got {shown.shape[2]}; use CondensedSet.images()"
        )
    buffer = io.BytesIO()
    Image.fromarray(shown[:, :, 0] if shown.shape[2] == 1 else shown).save(buffer, format="PNG")
    return buffer.getvalue()
