"""``ddreplay show``: a contact sheet of a set, and what is in its file."""

from __future__ import annotations

from pathlib import Path

import tyro

from ddreplay.terminal import check_writable, report

__all__ = ["show"]


def show(file: tyro.conf.Positional[Path], out: Path | None = None, columns: int = 20, json: bool = False) -> None:
    """Draw a labelled contact sheet of a condensed set, and say what is in the file.

    Args:
        file: a set written by condense.
        out: the PNG to write; default: the file's name with .png.
        columns: images in a row.
        json: print one JSON object instead of text.
    """
    from ddreplay import CondensedSet
    from ddreplay.storage.contact_sheet import contact_sheet

    picture = out or file.with_suffix(".png")
    condensed = CondensedSet.load(file)
    check_writable(picture)
    contact_sheet(condensed, picture, columns=columns)
    part = condensed.parts[0]
    found = {
        "picture": str(picture),
        "classes": len(condensed.class_ids),
        "stored_images": condensed.stored_images,
        "images": len(condensed),
        "shape": list(condensed.shape),
        "nbytes": condensed.nbytes,
        "header_nbytes": condensed.header_nbytes,
        "codec": part.codec.spec(),
        "decoder": part.decoder.spec(),
        "mean": list(part.mean),
        "std": list(part.std),
    }
    said = {
        k: v for k, v in condensed.provenance.items() if json or k not in ("settings", "earlier", "loss", "loss_terms")
    }
    # what a file says of itself never stands where what is found stands
    report({**found, **{f"provenance_{k}" if k in found else k: v for k, v in said.items()}}, json)
