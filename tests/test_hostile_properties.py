"""What Hypothesis finds: any bytes and any values, in files of every kind, are refused in the package's words or are sound."""

from __future__ import annotations

import functools
import io
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.soak.forging import open_set, sealed_set
from benchmarks.soak.samples import toy_pool
from ddreplay import Budget, CondensedFileError, CondensedMemory, CondensedSet
from ddreplay.methods import selections
from ddreplay.storage.codecs import avif, bits, codec_from_spec, dct, jpeg, thumb, uint8, webp
from ddreplay.storage.decoders import decoder_from_spec
from ddreplay.storage.sealed import read_state

QUICK = settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
SHAPE = (3, 8, 8)


@functools.cache
def sound() -> bytes:
    return selections.random()(toy_pool(), 2).to_bytes()


def read_or_refused(payload: bytes) -> bool:
    """Whether it was read; then its images are finite."""
    try:
        found = CondensedSet.from_bytes(payload)
    except CondensedFileError:
        return False
    assert not found.parts or torch.isfinite(found.images().x).all()
    return True


@QUICK
@given(st.binary(max_size=300))
def test_any_bytes_are_no_set(payload: bytes) -> None:
    assert not read_or_refused(payload)


@QUICK
@given(st.integers(0), st.integers(0, 300), st.binary(max_size=40))
def test_a_set_with_any_bytes_replaced_is_noticed(at: int, length: int, put: bytes) -> None:
    at %= len(sound())
    changed = sound()[:at] + put + sound()[at + length :]
    assert read_or_refused(changed) == (changed == sound())


@QUICK
@given(st.sampled_from(["format", "parts", "provenance"]), JSON)
def test_any_description(key: str, value: Any) -> None:
    about, tensors = open_set(sound())
    read = read_or_refused(sealed_set({**about, key: value}, tensors))
    assert not read or key == "provenance"


@QUICK
@given(
    st.sampled_from(["codec", "decoder", "shape", "class_names"]), JSON, st.sampled_from(["", "name", "factor", "n"])
)
def test_any_part(key: str, value: Any, inside: str) -> None:
    about, tensors = open_set(sound())
    part = about["parts"][0]
    changed = {**part[key], inside: value} if inside and isinstance(part[key], dict) else value
    read_or_refused(sealed_set({**about, "parts": [{**part, key: changed}]}, tensors))


@QUICK
@given(
    JSON,
    st.dictionaries(st.sampled_from(["name", "factor", "inner", "mean", "n", "quality", "step"]), JSON, max_size=3),
)
def test_any_codec_and_decoder(name: Any, parameters: dict[str, Any]) -> None:
    for read in (codec_from_spec, decoder_from_spec):
        try:
            read({"name": name, **parameters})
        except (ValueError, TypeError):
            continue


@QUICK
@given(
    st.sampled_from([uint8(), bits(3), jpeg(40), webp(40), avif(40, 9), thumb(), dct(9)]),
    st.integers(0),
    st.binary(min_size=1, max_size=9),
)
def test_any_stored_bytes(codec: Any, at: int, put: bytes) -> None:
    stored = codec.encode([torch.linspace(0, 1, 2 * 192).view(2, *SHAPE), torch.zeros(3, *SHAPE)])
    key = sorted(stored)[at % len(stored)]
    raw = bytearray(stored[key].flatten().view(torch.uint8).numpy().tobytes())
    where = at % max(1, len(raw))
    raw[where : where + len(put)] = put[: len(raw) - where]
    changed = torch.frombuffer(raw, dtype=torch.uint8).view(stored[key].dtype).view(stored[key].shape)
    try:
        found = codec.decode({**stored, key: changed}, [2, 3], SHAPE)
    except ValueError:
        return
    assert [tuple(x.shape) for x in found] == [(2, *SHAPE), (3, *SHAPE)]


@QUICK
@given(st.sampled_from(["budget", "seconds", "condensed", "random"]), JSON)
def test_any_state(key: str, value: Any) -> None:
    memory = CondensedMemory(selections.random(), images_per_class=2)
    memory.update(toy_pool())
    before = memory.condensed.to_bytes()
    try:
        memory.load_state_dict({**memory.state_dict(), key: value})
    except ValueError:
        assert memory.condensed.to_bytes() == before
        assert memory.budget == Budget.images(2)


@QUICK
@given(st.binary(max_size=200))
def test_any_bytes_are_no_state(payload: bytes) -> None:
    with pytest.raises(ValueError, match="the state"):
        read_state(payload, "the state")


@QUICK
@given(st.binary(max_size=200), st.integers(0))
def test_any_bytes_in_an_archive(put: bytes, at: int) -> None:
    import tempfile
    from pathlib import Path

    from ddreplay.datasets import load

    content = io.BytesIO()
    images, labels = np.zeros((4, 8, 8), np.uint8), np.array([0, 1, 0, 1])
    np.savez(content, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    raw = bytearray(content.getvalue())
    raw[at % len(raw) : at % len(raw) + len(put)] = put
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.npz"
        path.write_bytes(raw)
        message = ""
        try:
            assert load(path).shape == (1, 8, 8)
        except ValueError as error:
            message = str(error)
        assert not message or "a.npz" in message
