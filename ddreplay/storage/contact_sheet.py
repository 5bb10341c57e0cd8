"""Pictures of a condensed set for people: a labelled contact sheet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from ddreplay.data.space import to_pixels
from ddreplay.storage.condensed_set import CondensedSet

__all__ = ["contact_sheet"]

_GAP, _LABEL, _LINE = 2, 120, 14


def contact_sheet(condensed: CondensedSet, path: str | Path, *, columns: int = 20, scale: int | None = None) -> Path:
    """Write a PNG with one row a class (more where it has over ``columns`` images): its name, id and images, in pixel colours.

    Args:
        scale: enlargement without smoothing; ``None``: so that an image is about 48 pixels high.
    """
    from PIL import Image, ImageDraw

    _, h, w = condensed.shape
    scale = scale or max(1, round(48 / h))
    rows = [
        (f"{name} ({c_id})" if name != str(c_id) else name, to_pixels(images, part.mean, part.std))
        for part in condensed.parts
        for c_id, name, images in zip(part.class_ids, part.class_names, part.images, strict=True)
    ]
    lines = [max(1, -(-len(images) // columns)) for _, images in rows]
    cell_h, cell_w = max(h * scale, _LINE) + _GAP, w * scale + _GAP
    width = _LABEL + min(columns, max(len(images) for _, images in rows)) * cell_w
    sheet = Image.new("RGB", (width, sum(lines) * cell_h + _GAP), "white")
    draw, top = ImageDraw.Draw(sheet), _GAP
    for (label, images), used in zip(rows, lines, strict=True):
        draw.text((_GAP, top + 1), label[:18], fill="black")
        for k, image in enumerate(images):
            left = _LABEL + (k % columns) * cell_w
            sheet.paste(_picture(image, scale), (left, top + (k // columns) * cell_h))
        top += used * cell_h
    sheet.save(path, format="PNG")
    return Path(path)


def _picture(image: Float[Tensor, "c h w"], scale: int) -> Any:
    from PIL import Image

    shown: UInt8[Tensor, "h w c"] = image.clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0)
    shown = shown[:, :, :3] if shown.shape[2] >= 3 else shown[:, :, :1].expand(-1, -1, 3)
    big = F.interpolate(shown.permute(2, 0, 1)[None].float(), scale_factor=scale, mode="nearest")[0]
    return Image.fromarray(big.permute(1, 2, 0).to(torch.uint8).numpy(), "RGB")
