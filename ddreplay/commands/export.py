"""``ddreplay export``: a set as pictures that any viewer, or any other library, reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from ddreplay.terminal import report

if TYPE_CHECKING:
    from ddreplay import CondensedSet

__all__ = ["export"]


def export(
    file: tyro.conf.Positional[Path], out: tyro.conf.Positional[Path], images: bool = False, json: bool = False
) -> None:
    """Write one picture per class, as it is stored, or every image on its own, and a card that says what they are.

    Args:
        file: a set written by condense.
        out: the folder; files are named by class id and name.
        images: a PNG for every image that is trained on, in a folder for each class, as torchvision's ImageFolder, timm and FiftyOne
            read them. 8 bits a channel: brighter or darker than a picture can be is cut off.
        json: print one JSON object instead of text.
    """
    from ddreplay import CondensedSet
    from ddreplay.storage.dataset_card import dataset_card
    from ddreplay.storage.image_folder import write_image_folder

    condensed = CondensedSet.load(file)
    out.mkdir(parents=True, exist_ok=True)
    written = write_image_folder(condensed, out) if images else _sheets(condensed, out)
    card = out / "README.md"
    card.write_text(dataset_card(condensed), encoding="utf-8")
    files = [path.relative_to(out).as_posix() for path in written]
    report({"folder": str(out), "card": str(card), "pictures": len(files), "files": files}, json)


def _sheets(condensed: CondensedSet, out: Path) -> list[Path]:
    """A picture per class, the bytes that the codec stores."""
    from ddreplay.storage.image_folder import class_label

    written = []
    for part in condensed.parts:
        for k, (class_id, name) in enumerate(zip(part.class_ids, part.class_names, strict=True)):
            if part.counts[k]:
                path = out / f"{class_label(class_id, name)}.{part.codec.extension}"
                path.write_bytes(part.codec.picture(part.stored, part.counts, part.shape, k))
                written.append(path)
    return written
