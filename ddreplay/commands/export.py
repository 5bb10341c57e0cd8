"""``ddreplay export``: a set as pictures that any viewer, or any other library, reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from ddreplay.terminal import report

if TYPE_CHECKING:
    from ddreplay import CondensedSet

__all__ = ["export"]

Format = Literal["stored", "images", "parquet", "webdataset"]


def export(
    file: tyro.conf.Positional[Path],
    out: tyro.conf.Positional[Path],
    format: Format = "stored",
    images: bool = False,
    json: bool = False,
) -> None:
    """Write a set in a form that other libraries read, and a card that says what it is.

    Args:
        file: a set written by condense.
        out: the folder.
        format: stored: one picture per class, the bytes that the codec stores. The others hold every image that is trained on, with 8
            bits a channel, brighter or darker than a picture can be cut off: images: a PNG each in a folder for each class, as
            torchvision's ImageFolder, timm and FiftyOne read them; parquet: one file for Hugging Face's datasets, hubs and pandas
            ('ddreplay[huggingface]'); webdataset: a tar shard.
        images: short for --format images.
        json: print one JSON object instead of text.
    """
    from ddreplay import CondensedSet
    from ddreplay.storage.dataset_card import dataset_card

    if images and format not in ("stored", "images"):
        raise ValueError(f"--images is --format images, and --format {format} was given too; leave one out")
    condensed = CondensedSet.load(file)
    out.mkdir(parents=True, exist_ok=True)
    kind: Format = "images" if images else format
    written = _written(condensed, out, kind)
    card = out / "README.md"
    card.write_text(dataset_card(condensed, _BESIDE[kind]), encoding="utf-8")
    files = [path.relative_to(out).as_posix() for path in written]
    shown = files if json or len(files) <= 12 else [*files[:12], f"and {len(files) - 12} more"]
    pictures = len(files) if kind == "stored" else len(condensed)
    told = {"folder": str(out), "card": str(card), "pictures": pictures, "files": files if json else ", ".join(shown)}
    report(told, json)


_BESIDE = {
    "stored": "The pictures beside this card are the bytes that the set stores, one for each class.",
    "images": "The PNG files beside this card have 8 bits a channel and are cut to 0..1.",
    "parquet": "The images of the Parquet file beside this card have 8 bits a channel and are cut to 0..1.",
    "webdataset": "The images of the shard beside this card have 8 bits a channel and are cut to 0..1.",
}


def _written(condensed: CondensedSet, out: Path, kind: Format) -> list[Path]:
    from ddreplay.storage.hugging_face import write_parquet, write_webdataset
    from ddreplay.storage.image_folder import write_image_folder

    if kind == "images":
        return write_image_folder(condensed, out)
    if kind == "parquet":
        return [write_parquet(condensed, out / "train.parquet")]
    return [write_webdataset(condensed, out / "train-000000.tar")] if kind == "webdataset" else _sheets(condensed, out)


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
