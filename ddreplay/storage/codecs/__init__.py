"""How images become bytes. Images in, stored tensors out; the bytes of a set are the bytes of its stored tensors.

Pixel space: nominally 0..1. ``float32`` and ``float16`` store the values, ``uint8`` and ``bits`` quantise them uniformly, ``jpeg``,
``webp`` and ``avif`` store one picture sheet for each class, ``thumb`` codes small pictures with as few bytes as can be, ``dct`` stores
selected frequencies.
"""

from ddreplay.storage.codecs.avif import avif
from ddreplay.storage.codecs.codec import BudgetTooSmall, Codec, nbytes
from ddreplay.storage.codecs.dct import dct
from ddreplay.storage.codecs.jpeg import jpeg
from ddreplay.storage.codecs.known import codec_from_spec
from ddreplay.storage.codecs.plain import bits, float16, float32, uint8
from ddreplay.storage.codecs.quality import Graded, fill, fit_quality
from ddreplay.storage.codecs.sheets import CodecUnavailable
from ddreplay.storage.codecs.thumb import thumb
from ddreplay.storage.codecs.webp import webp

__all__ = [
    "BudgetTooSmall", "Codec", "CodecUnavailable", "Graded", "avif", "bits", "codec_from_spec", "dct", "fill", "fit_quality", "float16",
    "float32", "jpeg", "nbytes", "thumb", "uint8", "webp",
]  # fmt: skip
