"""Contact sheets: every name and id is legible, colours are right, and the sheet says where it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from ddreplay import ClassPool, CondensedSet
from ddreplay.methods import selections
from ddreplay.storage import contact_sheet as module
from ddreplay.storage.contact_sheet import _about, _label, _rows, contact_sheet


@pytest.fixture(name="no_fonts")
def _no_fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A system that has no fonts but Pillow's own."""
    monkeypatch.setattr(module, "_FONTS", ())
    module._fonts.cache_clear()
    yield
    module._fonts.cache_clear()


def condensed(names: dict[int, str], per_class: int = 3, channels: int = 3) -> CondensedSet:
    labels = torch.tensor(list(names)).repeat_interleave(per_class)
    images = torch.zeros(len(labels), channels, 8, 8, dtype=torch.uint8)
    images[:, 0] = 255
    how: dict[str, Any] = {"mean": (0.4,) * channels, "std": (0.2,) * channels, "class_names": names}
    return selections.random()(ClassPool(images, labels, device="cpu", **how), per_class)


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def test_it_has_the_right_colours(tmp_path: Path) -> None:
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    images[0, 0], images[1, 2] = 255, 128
    pool = ClassPool(images, torch.tensor([0, 1]), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), device="cpu")
    path = contact_sheet(selections.random()(pool, 1), tmp_path / "c.png", scale=2)
    with Image.open(path) as picture:
        colours = {c for _, c in picture.convert("RGB").getcolors(100000) or []}
    assert {(255, 0, 0), (0, 0, 128)} <= colours


def test_no_name_is_cut_and_no_id_is_lost() -> None:
    names = {3: "cat", 7: "Staffordshire bullterrier with an exceptionally long name", 9: "x" * 90, 12: "12"}
    labels = [row.label for row in _rows(condensed(names))]
    told = ["".join("".join(label.lines).split()) for label in labels]
    assert told == ["".join(f"{names[c]} ({c})".split()) for c in (3, 7, 9)] + ["12"]
    assert len(labels[1].lines) > 1
    assert all(label.width >= max(label.font.getlength(line) for line in label.lines) for label in labels)


def test_there_is_room_for_every_line_and_image(tmp_path: Path) -> None:
    short, long = condensed({0: "cat"}), condensed({0: "x" * 400})
    (width, height), (wider, higher) = (
        size(contact_sheet(one, tmp_path / "c.png", scale=1, columns=3)) for one in (short, long)
    )
    assert wider >= width
    assert higher - height >= 10 * 12  # the label takes more lines than the images
    narrow = size(contact_sheet(short, tmp_path / "c.png", scale=6, columns=1))
    wide = size(contact_sheet(short, tmp_path / "c.png", scale=6, columns=3))
    assert narrow[1] - wide[1] == 2 * 50


def test_it_says_method_and_budget() -> None:
    found = condensed({0: "cat", 1: "dog"})
    assert _about(found) == f"random, 3 images per class, 6 stored images, {found.nbytes} bytes"
    assert _about(CondensedSet(found.parts, {"method": "dm", "budget": "4 kB a class"})).startswith(
        "dm, 4 kB a class, 6"
    )
    assert _about(CondensedSet(found.parts, {"method": "dm", "max_bytes": 99})).startswith("dm, 99 bytes in all, 6")
    assert _about(CondensedSet(found.parts)).startswith("unknown method, 6 stored")


@pytest.mark.usefixtures("no_fonts")
def test_what_no_font_can_draw_goes_as_what_can() -> None:
    def told(text: str) -> str:
        return " ".join(_label(text, wrap=80).lines)

    assert told("École n\u0303o (3)") == "Ecole no (3)"
    assert told("猫 (2)") == "U+732B (2)"
    assert told("plain") == "plain"


def test_it_takes_a_font_that_can_draw_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    own, other = module._fonts()[0], object()
    monkeypatch.setattr(module, "_fonts", lambda: [own, other])
    monkeypatch.setattr(module, "_draws", lambda font, letter: font is other or letter.isascii())
    assert _label("猫", wrap=80) == module._Label(["猫"], other)
    assert _label("cat", wrap=80).font is own


@pytest.mark.parametrize("how", [{"columns": 0}, {"scale": 0}])
def test_numbers_below_one_are_refused(how: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        contact_sheet(condensed({0: "cat"}), tmp_path / "c.png", **how)
