"""How images become bytes. Images in, stored tensors out; the bytes of a set are the bytes of its stored tensors.

Pixel space: nominally 0..1. ``float32`` and ``float16`` store the values, ``uint8`` and ``bits`` quantise them
uniformly, ``jpeg``, ``webp`` and ``avif`` store one picture sheet for each class, ``dct`` selected frequencies (``codecs/``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ddreplay.storage.codecs.avif import avif
from ddreplay.storage.codecs.codec import Codec
from ddreplay.storage.codecs.dct import dct
from ddreplay.storage.codecs.jpeg import jpeg
from ddreplay.storage.codecs.plain import bits, float16, float32, uint8
from ddreplay.storage.codecs.webp import webp

__all__ = ["codec_from_spec"]

_CODECS: dict[str, Any] = {
    "float32": float32, "float16": float16, "uint8": uint8, "bits": bits, "jpeg": jpeg, "webp": webp, "avif": avif,
    "dct": dct,
}  # fmt: skip


def codec_from_spec(spec: Mapping[str, Any]) -> Codec:
    """The codec that ``spec`` describes. Parameters left out take their defaults.

    Raises:
        ValueError: on an unknown name or parameter.
    Example:
        >>> codec_from_spec({"name": "jpeg", "quality": 15}).spec()
        {'name': 'jpeg', 'quality': 15, 'subsampling': '4:4:4'}
    """
    parameters = dict(spec)
    name = parameters.pop("name", None)
    if name not in _CODECS:
        raise ValueError(f"codec name must be one of {', '.join(_CODECS)}, got {name!r}")
    known = asdict(_CODECS[name]())
    unknown = [key for key in parameters if key not in known]
    if unknown:
        raise ValueError(f"codec {name} takes {', '.join(known) or 'no parameters'}; got {', '.join(unknown)}")
    codec: Codec = _CODECS[name](**parameters)
    return codec
