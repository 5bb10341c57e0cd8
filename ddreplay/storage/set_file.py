"""The file of a condensed set: a safetensors file whose every byte is under one checksum, and whose every value is looked at."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ddreplay.storage.codecs.known import codec_from_spec
from ddreplay.storage.codecs.sheets import CodecUnavailable
from ddreplay.storage.decoders import Decoder, decoder_from_spec
from ddreplay.storage.part import Part

__all__ = ["CondensedFileError", "read_set", "write_set"]

FORMAT = 3
"""What is written. Format 2, whose checksum is over the tensors alone, is read too."""

ALWAYS_ALLOWED = 2**28
"""Bytes of decoded images that any file may ask for."""

LARGEST_RATIO = 1024
"""How many times the bytes of a file its decoded images may take, where that is more."""

LARGEST_SIDE = 2**24  # pixels, and channels

_NO_DIGEST = "0" * 64
_INTEGERS = (torch.uint8, torch.int16, torch.int32, torch.int64)
_OWN = {"class_ids", "counts", "normalisation", "soft_labels"}


class CondensedFileError(ValueError):
    """A file is not a condensed set, or not a whole one."""


def write_set(parts: Sequence[Part], provenance: Mapping[str, Any]) -> bytes:
    """The file's content."""
    from safetensors.torch import save

    tensors = {f"{k}.{name}": t.contiguous() for k, part in enumerate(parts) for name, t in part.tensors().items()}
    about = {
        "format": FORMAT,
        "sha256": _NO_DIGEST,  # of the file with these zeros in it; the first such string in the file
        "parts": [_header(part) for part in parts],
        "provenance": dict(provenance),
    }
    blank: bytes = save(tensors, {"ddreplay": json.dumps(about, default=str)})
    return blank.replace(_NO_DIGEST.encode(), hashlib.sha256(blank).hexdigest().encode(), 1)


def _header(part: Part) -> dict[str, Any]:
    return {
        "codec": part.codec.spec(),
        "decoder": part.decoder.spec(),
        "shape": list(part.shape),
        "class_names": list(part.class_names),
        "space": "network = (pixel - mean) / std, pixel in [0, 1], layout n c h w",
    }


def read_set(
    payload: bytes,
    source: str,
    decoders: Sequence[type[Decoder]] = (),
    codecs: Sequence[type] = (),
    max_decoded: int | None = None,
) -> tuple[tuple[Part, ...], dict[str, Any]]:
    """Parts and provenance of a file's content; ``source`` names it in errors.

    Nothing is decoded before checksum and declared sizes are found to be sound.

    Args:
        max_decoded: bytes that decoded images may take; ``None``: `ALWAYS_ALLOWED`, or `LARGEST_RATIO` times the file.
    Raises:
        CondensedFileError: when it is truncated, tampered with, or something else.
        CodecUnavailable: when this build of Pillow lacks the format that its pictures are in.
    """
    limit = max(ALWAYS_ALLOWED, LARGEST_RATIO * len(payload)) if max_decoded is None else max_decoded
    try:
        about, tensors = _open(payload)
        _check_digest(about, tensors, payload)
        return _parts(about, tensors, decoders, codecs, limit), dict(about["provenance"])
    except CondensedFileError as error:
        raise CondensedFileError(f"{source}: {error}") from error
    except CodecUnavailable:
        raise
    except Exception as error:  # whatever a wrong value, or somebody's own codec, leads to: the file is at fault
        raise CondensedFileError(f"{source}: the description does not fit the content ({error!r})") from error


def _open(payload: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from safetensors.torch import load

    try:
        length = int.from_bytes(payload[:8], "little")
        metadata = json.loads(payload[8 : 8 + length]).get("__metadata__", {})
        tensors = load(payload)
    except Exception as error:  # safetensors' own, JSON's, and what a header that is no mapping leads to
        raise CondensedFileError(f"this is no whole safetensors file with a description ({error})") from error
    if not isinstance(metadata, dict) or "ddreplay" not in metadata:
        raise CondensedFileError(
            "this is a safetensors file, but no condensed set: its header says nothing of ddreplay"
        )
    about = json.loads(metadata["ddreplay"])
    if not isinstance(about, dict) or not isinstance(about.get("parts"), list):
        raise CondensedFileError("the description is no mapping with parts")
    said = about.get("provenance")
    if not isinstance(said, dict) or not isinstance(said.get("earlier", []), list):
        raise CondensedFileError("the provenance is no mapping with a list of earlier ones")
    if type(said.get("earlier_left_out", 0)) is not int:
        raise CondensedFileError(f"earlier_left_out must be a number, got {said['earlier_left_out']!r}")
    return about, tensors


def _check_digest(about: Mapping[str, Any], tensors: Mapping[str, Tensor], payload: bytes) -> None:
    number, said = about.get("format"), about.get("sha256")
    if type(number) is not int or number not in (2, FORMAT):
        raise CondensedFileError(f"file format {number!r} is not 2 or {FORMAT}, which this version of ddreplay reads")
    if number == 2:
        found = _digest_of_tensors(tensors)
    elif isinstance(said, str) and len(said) == len(_NO_DIGEST) and said.isascii():
        found = hashlib.sha256(payload.replace(said.encode(), _NO_DIGEST.encode(), 1)).hexdigest()
    else:
        raise CondensedFileError(f"the checksum must be 64 letters, got {said!r}")
    if said != found:
        raise CondensedFileError("the content does not fit its checksum: the file was damaged or tampered with")


def _digest_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()


def _parts(
    about: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    decoders: Sequence[type[Decoder]],
    codecs: Sequence[type],
    limit: int,
) -> tuple[Part, ...]:
    parts, left = [], limit
    of_parts: list[dict[str, Tensor]] = [{} for _ in about["parts"]]
    for name, tensor in tensors.items():
        number, _, inside = name.partition(".")
        if not number.isdecimal() or str(int(number)) != number or int(number) >= len(of_parts):
            raise CondensedFileError(f"tensor {name!r} belongs to no part of the set")
        of_parts[int(number)][inside] = tensor
    for header, own in zip(about["parts"], of_parts, strict=True):
        part = _part(header, own, decoders, codecs)
        left -= _decoded_nbytes(part)
        if left < 0:
            raise CondensedFileError(
                f"decoded images would take more than {limit} bytes, which is more than a file of this size may ask for; where it is "
                "to be trusted, give max_decoded="
            )
        parts.append(part)
    for part in parts:
        _check_decoded(part)
    if len({part.shape for part in parts}) > 1:
        raise CondensedFileError(f"parts differ in image shape: {[part.shape for part in parts]}")
    return tuple(parts)


def _part(
    header: Mapping[str, Any], own: Mapping[str, Tensor], decoders: Sequence[type[Decoder]], codecs: Sequence[type]
) -> Part:
    stray = sorted(name for name in own if name not in _OWN and not name.startswith(("stored.", "beside.")))
    if stray:
        raise CondensedFileError(f"tensors {stray} are none that a part has")
    c, h, w = _shape(header["shape"])
    mean, std = _normalisation(own["normalisation"], c)
    class_ids, counts, names = _ids(own["class_ids"]), _ids(own["counts"]), tuple(header["class_names"])
    if not len(class_ids) == len(names) == len(counts) or min(counts, default=0) < 0:
        raise CondensedFileError(
            f"classes, names and counts must be as many, and counts at least 0, got {len(class_ids)}, {len(names)} and {counts[:20]}"
        )
    if not all(isinstance(name, str) for name in names):
        raise CondensedFileError(f"class names must be text, got {names[:20]}")
    return Part(
        stored=_within(own, "stored."),
        codec=codec_from_spec(header["codec"], codecs),
        class_ids=class_ids,
        class_names=names,
        counts=counts,
        shape=(c, h, w),
        mean=mean,
        std=std,
        decoder=decoder_from_spec(header["decoder"], decoders),
        beside=_within(own, "beside."),
        soft_labels=own.get("soft_labels"),
    )


def _shape(said: Any) -> tuple[int, int, int]:
    if not isinstance(said, list) or len(said) != 3 or not all(type(n) is int and 1 <= n <= LARGEST_SIDE for n in said):
        raise CondensedFileError(f"an image shape must be three whole numbers in 1..{LARGEST_SIDE}, got {said!r}")
    return said[0], said[1], said[2]


def _ids(tensor: Tensor) -> tuple[int, ...]:
    if tensor.dtype not in _INTEGERS or tensor.dim() != 1:
        raise CondensedFileError(
            f"class ids and counts must be integers [classes], got {tensor.dtype} {list(tensor.shape)}"
        )
    return tuple(tensor.tolist())


def _normalisation(tensor: Tensor, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if tensor.dtype != torch.float32 or tensor.shape != (2, channels) or not bool(torch.isfinite(tensor).all()):
        raise CondensedFileError(
            f"normalisation must be finite float32 [2, {channels}], got {tensor.dtype} {list(tensor.shape)}"
        )
    mean, std = tensor.tolist()
    if min(std) <= 0:
        raise CondensedFileError(f"the standard deviation of every channel must be positive, got {std}")
    return tuple(mean), tuple(std)


def _decoded_nbytes(part: Part) -> int:
    """Bytes of its images in float32, stored and trained on, by what the file declares."""
    stored = sum(part.counts)
    return 4 * math.prod(part.shape) * max(stored, part.decoder.decoded(part.counts, part.beside))


def _check_decoded(part: Part) -> None:
    """Look at every value. Everything up to here was declarations."""
    everything = range(len(part.counts))
    for kept, found in (
        (part.codec.select(part.stored, part.counts, part.shape, everything), part.stored),
        (part.decoder.select(part.beside, everything), part.beside),
    ):
        if set(kept) != set(found):
            raise CondensedFileError(f"tensors {sorted(set(found) - set(kept))} are of no use to codec and decoder")
    if len(part.images) != len(part.counts):
        raise CondensedFileError("the numbers of classes and of image blocks differ")
    for x in part.images:
        if tuple(x.shape[1:]) != part.shape or not bool(torch.isfinite(x).all()):
            raise CondensedFileError(f"images must be finite [n, *{part.shape}], got {tuple(x.shape)}")
    soft, images = part.soft_labels, sum(len(x) for x in part.images)
    if soft is not None and (
        not soft.is_floating_point()
        or tuple(soft.shape) != (images, len(part.counts))
        or not bool(torch.isfinite(soft).all())
    ):
        raise CondensedFileError(
            f"soft labels must be finite floats [{images}, {len(part.counts)}], got {list(soft.shape)}"
        )


def _within(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
