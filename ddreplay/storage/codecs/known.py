"""From what a file says of its codec to the codec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from ddreplay.storage.codecs.avif import avif
from ddreplay.storage.codecs.codec import Codec
from ddreplay.storage.codecs.dct import dct
from ddreplay.storage.codecs.jpeg import jpeg
from ddreplay.storage.codecs.plain import bits, float16, float32, uint8
from ddreplay.storage.codecs.thumb import thumb
from ddreplay.storage.codecs.webp import webp

__all__ = ["CODECS", "codec_from_spec"]

CODECS: dict[str, Any] = {kind.name: kind for kind in (float32, float16, uint8, bits, jpeg, webp, avif, thumb, dct)}
"""The codecs of this package, by name."""


def codec_from_spec(spec: Mapping[str, Any], more: Sequence[type] = ()) -> Codec:
    """The codec that ``spec`` describes. Parameters left out take their defaults.

    Args:
        more: codecs besides those of this package.
    Raises:
        ValueError: on an unknown name or parameter.
    Example:
        >>> codec_from_spec({"name": "jpeg", "quality": 15}).spec()
        {'name': 'jpeg', 'quality': 15, 'subsampling': '4:4:4'}
    """
    kinds: dict[Any, Any] = {**CODECS, **{getattr(kind, "name", None): kind for kind in more}}
    parameters = dict(spec)
    name = parameters.pop("name", None)
    if name not in kinds:
        raise ValueError(
            f"codec name must be one of {', '.join(kinds)}, got {name!r}; somebody's own is read by "
            "CondensedSet.load(path, codecs=[TheirCodec])"
        )
    known = [field.name for field in fields(kinds[name])]
    unknown = [key for key in parameters if key not in known]
    if unknown:
        raise ValueError(f"codec {name} takes {', '.join(known) or 'no parameters'}; got {', '.join(unknown)}")
    codec: Codec = kinds[name](**parameters)
    return codec
