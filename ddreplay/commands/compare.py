"""``ddreplay compare``: several sets side by side."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from ddreplay.terminal import printable, report

if TYPE_CHECKING:
    from ddreplay import CondensedSet

__all__ = ["compare"]


def compare(files: tyro.conf.Positional[tuple[Path, ...]], json: bool = False) -> None:
    """Say what two sets or more have in common and where they differ: method, budget, bytes, images, settings.

    Args:
        files: sets written by condense, two or more.
        json: print one JSON object instead of text.
    """
    from ddreplay import CondensedSet

    if len(files) < 2:
        raise ValueError(f"files must be two sets or more, got {len(files)}; ddreplay show looks at one")
    told = [_flat(_told(CondensedSet.load(file))) for file in files]
    rows = {key: [one.get(key) for one in told] for key in dict.fromkeys(k for one in told for k in one)}
    different = {key: values for key, values in rows.items() if any(v != values[0] for v in values)}
    alike = {key: values[0] for key, values in rows.items() if key not in different}
    names = [str(file) for file in files]
    found = {"files": names, "different": different, "alike": alike}
    report({**found, "text": _text(names, different, alike)}, json, "text")


def _told(condensed: CondensedSet) -> dict[str, Any]:
    """What a set says of itself, the most important first."""
    said = condensed.provenance
    data = said.get("data")
    data = data if isinstance(data, dict) else {}
    return {
        "method": said.get("method"),
        "data": data.get("name"),
        "budget": said.get("budget"),
        "classes": ", ".join(condensed.class_names),
        "stored_images": condensed.stored_images,
        "images": len(condensed),
        "images_sha256": sha256(condensed.images().x.numpy().tobytes()).hexdigest() if condensed.parts else None,
        "shape": " x ".join(map(str, condensed.shape)) if condensed.parts else None,
        "nbytes": condensed.nbytes,
        "codecs": ", ".join(sorted({str(part.codec.spec()) for part in condensed.parts})),
        "seconds": said.get("seconds"),
        "seed": said.get("seed"),
        "steps_done": said.get("steps_done"),
        "read": {k: v for k, v in data.items() if k != "name"},
        "settings": said.get("settings", {}),
        "versions": said.get("versions", {}),
    }


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level: ``settings.networks.size``."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        found |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return found


def _text(files: list[str], different: dict[str, list[Any]], alike: dict[str, Any]) -> str:
    """A column for each set where they differ; one line for each thing that is alike, settings left out."""
    head = [Path(file).name for file in files]
    head = files if len(set(head)) < len(head) else head
    cells = [["", *head], *([printable(key), *map(_short, values)] for key, values in different.items())]
    widths = [max(len(row[k]) for row in cells) for k in range(len(cells[0]))]
    lines = ["  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in cells]
    same = [f"  {key}: {_short(value)}" for key, value in alike.items() if "." not in key and value is not None]
    differing = ["different:", *lines] if different else ["nothing differs"]
    return "\n".join([*differing, "", "alike:", *same])


def _short(value: Any) -> str:
    text = "-" if value is None else printable(str(value))
    return text if len(text) <= 40 else f"{text[:39]}…"
