"""Condensed sets as data sets of Hugging Face's library, as Parquet files and as WebDataset shards: what hubs and loaders read."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ddreplay.data.space import to_pixels
from ddreplay.storage.condensed_set import CondensedSet
from ddreplay.storage.files import write_atomically
from ddreplay.storage.image_folder import png_bytes

__all__ = ["to_hugging_face", "write_parquet", "write_webdataset"]


class _Shown(NamedTuple):
    """An image that is trained on, as a PNG, and its class."""

    png: bytes
    class_id: int
    name: str


def to_hugging_face(condensed: CondensedSet) -> Any:
    """A ``datasets.Dataset`` of the images that are trained on, class by class, as PNG: 8 bits a channel, what lies outside 0..1 is cut.

    Columns: ``image``; ``label``, which counts the classes in ascending order of their ids and knows their names; ``class_id``.

    Raises:
        ImportError: when ``datasets`` is not installed (``ddreplay[huggingface]``).
        ValueError: when the images have neither 1 nor 3 channels.
    """
    datasets = _library()
    shown = list(_shown(condensed))
    names = {one.class_id: one.name for one in shown}
    ids = sorted(names)
    labels = [names[c] for c in ids]
    labels = labels if len(set(labels)) == len(labels) else [f"{names[c]} ({c})" for c in ids]
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=labels), "class_id": datasets.Value("int64")}
    )
    columns = {
        "image": [{"bytes": one.png, "path": None} for one in shown],
        "label": [ids.index(one.class_id) for one in shown],
        "class_id": [one.class_id for one in shown],
    }
    return datasets.Dataset.from_dict(columns, features=features)


def write_parquet(condensed: CondensedSet, path: str | Path) -> Path:
    """Write `to_hugging_face`'s rows as Parquet, images in the file; ``datasets``, pandas and hubs read it.

    Raises:
        ImportError: when ``datasets`` is not installed (``ddreplay[huggingface]``).
        ValueError: when the images have neither 1 nor 3 channels.
        OSError: when the folder cannot be written.
    """
    buffer = io.BytesIO()
    to_hugging_face(condensed).to_parquet(buffer)
    return write_atomically(path, buffer.getvalue())


def write_webdataset(condensed: CondensedSet, path: str | Path) -> Path:
    """Write a WebDataset shard: for every image ``000000.png``, its class id in ``000000.cls`` and its class's name in ``000000.json``.

    The same set gives the same bytes.

    Raises:
        ValueError: when the images have neither 1 nor 3 channels.
        OSError: when the folder cannot be written.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as shard:
        for k, one in enumerate(_shown(condensed)):
            about = json.dumps({"class_id": one.class_id, "class_name": one.name})
            files = {"png": one.png, "cls": str(one.class_id).encode(), "json": about.encode()}
            for kind, content in files.items():
                member = tarfile.TarInfo(f"{k:06d}.{kind}")
                member.size, member.mode = len(content), 0o644
                shard.addfile(member, io.BytesIO(content))
    return write_atomically(path, buffer.getvalue())


def _shown(condensed: CondensedSet) -> Iterator[_Shown]:
    for part in condensed.parts:
        for class_id, name, images in zip(part.class_ids, part.class_names, part.images, strict=True):
            for pixels in to_pixels(images, part.mean, part.std):
                yield _Shown(png_bytes(pixels), class_id, name)


def _library() -> Any:
    try:
        import datasets

        datasets.Dataset  # noqa: B018 - a folder of that name beside a script is imported too, and has none
    except (ImportError, AttributeError) as error:
        raise ImportError("this needs Hugging Face's datasets: pip install 'ddreplay[huggingface]'") from error
    return datasets
