"""What a condensed set says of itself to people who did not make it: a data set card in Markdown."""

from __future__ import annotations

import json
from typing import Any

from ddreplay.storage.condensed_set import CondensedSet

__all__ = ["dataset_card"]


def dataset_card(condensed: CondensedSet, beside: str = "") -> str:
    """A card with a header that hubs read: what the images are, of what data, how they were made, and what they are not fit for.

    What the set does not know, its licence and where the real images come from, is left for its owner to fill in.

    Args:
        beside: a sentence on the files that lie beside the card.
    """
    said = dict(condensed.provenance)
    method, data, versions = str(said.get("method", "unknown")), said.get("data"), said.get("versions")
    source = str(data.get("name", "unknown data")) if isinstance(data, dict) else "unknown data"
    kinds = [
        f"{part.shape[0]} x {part.shape[1]} x {part.shape[2]}, {sum(part.counts)} stored images, {part.codec.spec()['name']}"
        for part in condensed.parts
    ]
    rows: dict[str, Any] = {
        "method": method,
        "of": source,
        "budget": said.get("budget", "not noted"),
        "classes": len(condensed.class_ids),
        "stored images": condensed.stored_images,
        "images trained on": len(condensed),
        "bytes": f"{condensed.nbytes} (and {condensed.header_nbytes} of header)",
        "stored as": "; ".join(kinds),
        "seed": said.get("seed", "not noted"),
        "seconds": said.get("seconds", "not noted"),
        "versions": _pairs(versions),
    }
    table = "\n".join(f"| {name} | {str(value).replace('|', '/')} |" for name, value in rows.items())
    names = ", ".join(
        f"{name} ({c})" if name != str(c) else name
        for c, name in zip(condensed.class_ids, condensed.class_names, strict=True)
    )
    return _CARD.format(
        title=f"{source}, condensed by {method}",
        tags=json.dumps(["dataset-condensation", method]),
        size="n<1K" if len(condensed) < 1000 else "1K<n<10K" if len(condensed) < 10_000 else "10K<n<100K",
        table=table,
        names=names,
        settings=json.dumps(said.get("settings", {}), indent=1),
        beside=f"{beside} " if beside else "",
    )


def _pairs(versions: Any) -> str:
    known = versions if isinstance(versions, dict) else {}
    return ", ".join(f"{name} {version}" for name, version in known.items()) or "not noted"


_CARD = """---
task_categories: [image-classification]
tags: {tags}
size_categories: [{size}]
---

# {title}

A few images per class that stand for many. Where they are condensed they are optimised to teach a network, not to look like
photographs; where the method is a selection (random, herding, ...) they are real images.

| | |
|---|---|
{table}

Classes: {names}.

## Use

```python
from ddreplay import CondensedSet

batch = CondensedSet.load("set.safetensors").images()  # batch.x is normalised, batch.y are class ids
```

{beside}The safetensors file has the numbers as they were stored.

## To be filled in by whoever publishes it

- Licence of the real images, and of this set: ...
- Where the real images come from, and who is shown in them: ...
- Accuracy of networks trained on it, with protocol and seeds (`ddreplay evaluate`): ...

## Limits

- It serves the classes, the image size and about the kind of network it was made for.
- It is no protection of privacy: images may resemble real ones closely (`ddreplay report` shows the nearest real image beside each).

## Settings

```json
{settings}
```
"""
