"""The codec for small pictures: its coder, its model, and what it saves."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_sample_images

from ddreplay.storage.codecs import codec_from_spec, dct, fill, fit_quality, nbytes, thumb
from ddreplay.storage.codecs import coefficient_model as model
from ddreplay.storage.codecs.range_coder import DecisionReader, code_decisions


def crops(n: int, size: int = 32) -> torch.Tensor:
    """Pieces of two photographs, each made smaller by four."""
    photos = torch.tensor(np.stack(load_sample_images().images)).permute(0, 3, 1, 2).float() / 255
    small = torch.nn.functional.interpolate(photos, scale_factor=0.25, mode="area")
    random = torch.Generator().manual_seed(0)
    found = []
    for _ in range(n):
        k, top, left = (int(torch.randint(high, (1,), generator=random)) for high in (2, 106 - size, 160 - size))
        found.append(small[k, :, top : top + size, left : left + size])
    return torch.stack(found)


@given(st.lists(st.tuples(st.integers(1, 65535), st.floats(0, 1)), max_size=300))
def test_decisions_come_back_in_about_as_many_bits_as_they_hold(drawn: list[tuple[int, float]]) -> None:
    p = np.array([share for share, _ in drawn], dtype=np.int64)
    yes = np.array([chance * 65536 < share for share, chance in drawn], dtype=np.int64)
    data = code_decisions(yes, p)
    reader = DecisionReader(data)
    found = [reader.read(p[:7]), reader.read(p[7:])]
    assert np.concatenate(found).tolist() == yes.tolist()
    assert reader.left() == 0
    bits = sum(-math.log2(share / 65536 if bit else 1 - share / 65536) for share, bit in zip(p, yes, strict=True))
    assert len(data) <= bits / 8 + 2 + 0.001 * len(drawn)


@pytest.mark.parametrize("shape", [(9, 3, 16, 16), (1, 1, 1, 1), (4, 1, 8, 8), (3, 5, 6, 17), (2, 3, 3, 2)])
def test_large_coefficients_come_back_as_they_were(shape: tuple[int, int, int, int]) -> None:
    random = torch.Generator().manual_seed(0)
    sizes = torch.randint(3, 60, shape, generator=random) * (torch.rand(shape, generator=random) < 0.3)
    values = (sizes * (2 * torch.randint(2, shape, generator=random) - 1)).numpy()
    values[0, 0, 0, 0] = 3533  # the mean of white pixels at the finest step
    diagonals, data = model.encode_blocks(values.astype(float))
    assert (model.decode_blocks(diagonals, data, shape) == values).all()
    assert diagonals <= shape[2] + shape[3] - 1
    with pytest.raises(ValueError, match="more than the coefficients need"):
        model.decode_blocks(diagonals, data + b"many more", shape)


def test_nothing_takes_nothing() -> None:
    assert model.encode_blocks(np.zeros((5, 3, 32, 32))) == (0, b"")
    grey = [torch.full((8, 3, 32, 32), 0.5)]
    stored = thumb().encode(grey)
    assert nbytes(stored) == 1 + 2 + 2  # the body's length, its head, and a byte for four images
    torch.testing.assert_close(thumb().decode(stored, [8], (3, 32, 32))[0], grey[0])


def test_tables_do_not_hang_on_how_a_machine_rounds() -> None:
    exact = [65536 / (1 + math.exp(-k / 256)) for k in range(-2048, 2048)]
    assert min(abs(value % 1 - 0.5) for value in exact) > 1e-6


def test_less_error_than_avif_at_the_same_bytes() -> None:
    classes = [crops(64)]
    budget, errors = 1200, {}
    for family in ("avif", "thumb"):
        codec = fit_quality(family, classes, max_bytes=budget)
        stored = fill(codec, classes, budget)
        assert nbytes(stored) <= budget
        errors[family] = (codec.decode(stored, [64], (3, 32, 32))[0] - classes[0]).square().mean()
    assert errors["thumb"] < 0.92 * errors["avif"]


def test_more_quality_is_more_bytes_and_less_error() -> None:
    images = crops(12)
    codecs = [thumb(quality) for quality in (0.0, 5.0, 5.5, 20.0, 100.0)]
    stored = [codec.encode([images]) for codec in codecs]
    sizes = [nbytes(x) for x in stored]
    given = [codec.decode(x, [12], (3, 32, 32))[0] for codec, x in zip(codecs, stored, strict=True)]
    errors = [float((x - images).square().mean()) for x in given]
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)
    assert math.sqrt(errors[-1]) * 255 < 1
    assert thumb(100.0).step == 2.0


@pytest.mark.parametrize("max_bytes", [300, 900])
def test_budgets_are_filled(max_bytes: int) -> None:
    classes = list(crops(40, 16).split([25, 15]))
    codec = fit_quality("thumb", classes, max_bytes=max_bytes)
    stored = fill(codec, classes, max_bytes)
    assert 0.99 * max_bytes <= nbytes(stored) <= max_bytes
    assert [len(x) for x in codec.decode(stored, [25, 15], (3, 16, 16))] == [25, 15]


@pytest.mark.parametrize("size", [33, 80])
def test_larger_images_are_cut_into_blocks(size: int) -> None:
    images = crops(3, size)
    codec = thumb(60.0)
    given = codec.decode(codec.encode([images]), [3], (3, size, size))[0]
    assert given.shape == images.shape
    assert float((given - images).square().mean().sqrt()) * 255 < 6


def test_of_the_rest_it_stores_as_pictures_do() -> None:
    wide = [torch.linspace(-1, 2, 2 * 3 * 64).view(2, 3, 8, 8)]
    found = thumb(90.0).decode(thumb(90.0).encode(wide), [2], (3, 8, 8))[0]
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    torch.testing.assert_close(found, wide[0].clamp(0, 1), atol=0.03, rtol=0)
    assert codec_from_spec({"name": "thumb", "quality": 5.0}) == thumb(5.0)
    for wrong in (-1.0, 101.0, 0.3, float("nan")):
        with pytest.raises(ValueError, match="quality of thumb"):
            thumb(wrong)
        with pytest.raises(ValueError, match="price of thumb"):
            thumb(price=wrong * 10)
    with pytest.raises(ValueError, match="at most 16 channels"):
        thumb().encode([torch.rand(1, 17, 4, 4)])


def test_damaged_bytes_are_named() -> None:
    codec, shape = thumb(20.0), (3, 32, 32)
    stored = codec.encode([crops(8)])
    for counts, data in (
        ([10**9], stored["data"]),  # more images than so few bytes can hold
        ([8], torch.cat([stored["data"][:1], torch.tensor([64], dtype=torch.uint8), stored["data"][2:]])),
        ([8], torch.cat([torch.tensor([201], dtype=torch.uint8), stored["data"][1:]])),
    ):
        with pytest.raises(ValueError, match="damaged"):
            codec.decode({**stored, "data": data}, counts, shape)
    longer = torch.cat([stored["data"], torch.full((9,), 7, dtype=torch.uint8)])
    sizes = torch.tensor(list(len(longer).to_bytes(2, "little")), dtype=torch.uint8)[None]
    with pytest.raises(ValueError, match="damaged"):
        codec.decode({"sizes": sizes, "data": longer}, [8], shape)
    assert dct().name != codec.name
