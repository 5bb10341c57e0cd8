"""Pictures of a condensed set for people: a labelled contact sheet."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from ddreplay.data.space import to_pixels
from ddreplay.storage.condensed_set import CondensedSet

__all__ = ["contact_sheet"]

_GAP, _LETTER, _LINE = 2, 12, 15  # pixels
_WRAP = 28  # letters in a line of a label
_LONGEST = 10 * _WRAP  # letters of a label
_LARGEST = 2**27  # pixels of a sheet
_FONTS = (
    "DejaVuSans.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc", "NotoSansCJKsc-Regular.otf", "NotoSansSC-Regular.otf",
    "SourceHanSans-Regular.ttc", "wqy-zenhei.ttc", "wqy-microhei.ttc", "DroidSansFallbackFull.ttf", "ipag.ttf", "NanumGothic.ttf",
    "Arial Unicode.ttf", "PingFang.ttc", "Hiragino Sans GB.ttc", "AppleGothic.ttf", "msyh.ttc", "simsun.ttc", "YuGothM.ttc",
    "malgun.ttf",
)  # fmt: skip
"""Fonts of systems that have them; Pillow's own draws Latin letters alone."""


@dataclass(frozen=True)
class _Label:
    """Text as lines, and a font that can draw it."""

    lines: list[str]
    font: Any

    @property
    def width(self) -> int:
        return round(max((self.font.getlength(line) for line in self.lines), default=0)) + 4 * _GAP


@dataclass(frozen=True)
class _Row:
    """A class: its label, and its images as pixels."""

    label: _Label
    images: Float[Tensor, "n c h w"]


def contact_sheet(condensed: CondensedSet, path: str | Path, *, columns: int = 20, scale: int | None = None) -> Path:
    """Write a PNG with one row for every class (more where it has over ``columns`` images): its name, id and images, in pixel colours.

    Above them stand method and budget. What no font here can draw goes without its accents (E), or as a number (U+732B).

    Args:
        columns: images in a row.
        scale: enlargement without smoothing; ``None``: so that an image is about 48 pixels high.
    Raises:
        ValueError: when ``columns`` or ``scale`` is below 1, or the picture would be too large.
    """
    if columns < 1 or (scale is not None and scale < 1):
        raise ValueError(f"columns must be at least 1, got {columns}, and scale at least 1 or None, got {scale}")
    from PIL import Image, ImageDraw

    _, h, w = condensed.shape
    scale = scale or max(1, round(48 / h))
    cell_h, cell_w = h * scale + _GAP, w * scale + _GAP
    title, rows = _label(_about(condensed), wrap=10 * _WRAP), list(_rows(condensed))
    left = max(row.label.width for row in rows)
    across = min(columns, max(len(row.images) for row in rows))
    heights = [_height(row, columns, cell_h) for row in rows]
    top = len(title.lines) * _LINE + 2 * _GAP
    size = (max(title.width, left + across * cell_w), top + sum(heights) + _GAP)
    if size[0] * size[1] > _LARGEST:
        raise ValueError(
            f"a contact sheet of {size[0]}x{size[1]} pixels is more than {_LARGEST}; give fewer columns, or a smaller scale"
        )
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    _write(draw, title, _GAP)
    for row, height in zip(rows, heights, strict=True):
        _write(draw, row.label, top)
        for k, image in enumerate(row.images):
            sheet.paste(_picture(image, scale), (left + (k % columns) * cell_w, top + (k // columns) * cell_h))
        top += height
    sheet.save(path, format="PNG")
    return Path(path)


def _rows(condensed: CondensedSet) -> Iterator[_Row]:
    for part in condensed.parts:
        for class_id, name, images in zip(part.class_ids, part.class_names, part.images, strict=True):
            text = f"{name} ({class_id})" if name != str(class_id) else name
            yield _Row(_label(text, wrap=_WRAP), to_pixels(images, part.mean, part.std))


def _height(row: _Row, columns: int, cell_h: int) -> int:
    return max(-(-len(row.images) // columns) * cell_h, len(row.label.lines) * _LINE + _GAP)


def _about(condensed: CondensedSet) -> str:
    """Method, budget and what is stored, in a line."""
    said = condensed.provenance
    budget = said.get("budget")
    if budget is None and "max_bytes" in said:
        budget = f"{said['max_bytes']} bytes in all"
    elif budget is None and "images_per_class" in said:
        budget = f"{said['images_per_class']} images per class"
    stored = f"{condensed.stored_images} stored images, {condensed.nbytes} bytes"
    return ", ".join([str(said.get("method", "unknown method")), *([str(budget)] if budget else []), stored])


def _label(text: str, *, wrap: int) -> _Label:
    """Text in the font that can draw most of it; what that one cannot draw goes without its accents, or as numbers."""
    text = unicodedata.normalize("NFC", text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ...")
    letters = set("".join(text.split()))
    font = max(_fonts(), key=lambda known: sum(_draws(known, letter) for letter in letters))
    drawn = "".join(c if c.isspace() or _draws(font, c) else _instead(font, c) for c in text)
    return _Label(textwrap.wrap(" ".join(drawn.split()), wrap) or [""], font)


def _instead(font: Any, letter: str) -> str:
    plain = "".join(c for c in unicodedata.normalize("NFKD", letter) if not unicodedata.combining(c))
    return plain if plain and all(_draws(font, c) for c in plain) else f" U+{ord(letter):04X} "


@cache
def _fonts() -> Sequence[Any]:
    """Pillow's own font, and those that the system has."""
    from PIL import ImageFont

    found = [ImageFont.load_default(_LETTER)]
    for name in _FONTS:
        try:
            found.append(ImageFont.truetype(name, _LETTER))
        except OSError:  # the system has no such font, or Pillow was built without FreeType
            continue
    return found


@cache
def _draws(font: Any, letter: str) -> bool:
    """Whether a font has a picture of this letter, other than that of letters it lacks."""
    try:
        return bytes(font.getmask(letter)) != bytes(font.getmask("\U0010ffff"))
    except UnicodeEncodeError:
        return False


def _write(draw: Any, label: _Label, top: int) -> None:
    for k, line in enumerate(label.lines):
        draw.text((_GAP, top + k * _LINE), line, fill="black", font=label.font)


def _picture(image: Float[Tensor, "c h w"], scale: int) -> Any:
    from PIL import Image

    shown: UInt8[Tensor, "h w c"] = image.clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0)
    shown = shown[:, :, :3] if shown.shape[2] >= 3 else shown[:, :, :1].expand(-1, -1, 3)
    big = F.interpolate(shown.permute(2, 0, 1)[None].float(), scale_factor=scale, mode="nearest")[0]
    return Image.fromarray(big.permute(1, 2, 0).to(torch.uint8).numpy(), "RGB")
