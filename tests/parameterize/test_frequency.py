"""Selected frequencies: the transform, the form, and the codec that stores it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from ddreplay import ClassPool, ConvNet, dm
from ddreplay.parameterize.coded import Coded
from ddreplay.parameterize.frequency import Frequency, selected
from ddreplay.randomness import Random
from ddreplay.storage.codecs import codec_from_spec, dct, nbytes, uint8
from ddreplay.storage.codecs.dct import from_frequencies, to_frequencies

MakePool = Callable[..., ClassPool]


def test_the_transform_is_the_sum_of_cosines() -> None:
    image = torch.rand(1, 1, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = to_frequencies(image)[0, 0]
    for u in range(3):
        for v in range(4):
            total = sum(
                float(image[0, 0, x, y])
                * math.cos((2 * x + 1) * u * math.pi / 6)
                * math.cos((2 * y + 1) * v * math.pi / 8)
                for x in range(3)
                for y in range(4)
            )
            scale = math.sqrt((2 if u else 1) / 3 * (2 if v else 1) / 4)
            assert float(found[u, v]) == pytest.approx(scale * total, abs=1e-12)
    torch.testing.assert_close(from_frequencies(to_frequencies(image)), image)


def test_the_selection_is_by_variance(toy_pool: MakePool) -> None:
    pool = toy_pool(shape=(3, 6, 5))
    mask = selected(pool, 7)
    assert mask.sum(1).tolist() == [7, 7, 7]
    for k in range(3):
        found = to_frequencies(pool.of_class(k))
        variance = [
            (sum(float(found[:, c, u, v].var(0, correction=0)) for c in range(3)), 5 * u + v)
            for u in range(6)
            for v in range(5)
        ]
        best = [place for _, place in sorted(variance, reverse=True) if place != 0][:6]
        assert sorted(mask[k].nonzero().flatten().tolist()) == sorted([0, *best])


def test_images_live_in_their_coefficients_and_begin_as_projections(toy_pool: MakePool) -> None:
    pool = toy_pool(shape=(3, 8, 8))
    form = Frequency(10)(pool, 2, Random(0))
    assert form.coefficients.shape == (3, 2, 3, 10)
    spectrum = to_frequencies(form.decode().detach()).flatten(2).unflatten(0, (3, 2))
    for k in range(3):
        assert spectrum[k][:, :, ~form.mask[k]].abs().max() < 1e-4
        torch.testing.assert_close(spectrum[k][:, :, form.mask[k]], form.coefficients[k].detach(), atol=1e-4, rtol=0)
    whole = Frequency(64)(pool, 2, Random(0)).decode()
    assert (whole[:, None] - pool.all().x[None]).flatten(2).abs().amax(2).min(1).values.max() < 1e-4


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 6, 5), (2, 9, 8)])
def test_the_codec_keeps_all_within_its_step(shape: tuple[int, int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    classes = [torch.randn(n, *shape, generator=generator) for n in (3, 0, 1)]
    codec = dct(shape[1] * shape[2], 4.0)
    found = codec.decode(codec.encode(classes), [3, 0, 1], shape)
    for a, b in zip(classes, found, strict=True):
        assert a.shape == b.shape
        rounding = to_frequencies(b - a) if shape[0] != 3 else to_frequencies(b - a).norm(dim=1) / 3**0.5
        assert rounding.numel() == 0 or rounding.abs().max() <= 2.0 / 255 + 1e-5


def test_what_the_form_holds_survives_its_codec(toy_pool: MakePool) -> None:
    pool = toy_pool(shape=(3, 8, 8))
    method = replace(dm(ConvNet(width=8), steps=3), parameterize=Frequency(10, step=0.05))
    found = method(pool, 2)
    assert found.parts[0].codec == dct(10, 0.05)
    x = found.images().x
    spectrum = to_frequencies(x).flatten(2).unflatten(0, (3, 2))
    mask = selected(pool, 10)
    assert all(spectrum[k][:, :, ~mask[k]].abs().max() < 1e-3 for k in range(3))


def test_bytes_fall_with_the_step_and_classes_can_be_dropped() -> None:
    classes = [torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(k)) for k in range(3)]
    sizes = [nbytes(codec.encode(classes)) for codec in dct(20).qualities()]
    assert sizes[0] < sizes[-1] / 3
    codec = dct(20)
    stored = codec.encode(classes)
    kept = codec.select(stored, [4, 4, 4], (3, 8, 8), [2, 0])
    whole, part = codec.decode(stored, [4, 4, 4], (3, 8, 8)), codec.decode(kept, [4, 4], (3, 8, 8))
    assert torch.equal(part[0], whole[2])
    assert torch.equal(part[1], whole[0])
    assert nbytes(kept) < nbytes(stored)
    assert codec.picture(stored, [4, 4, 4], (3, 8, 8), 1)[1:4] == b"PNG"


def test_entropy_coding_pays() -> None:
    images = [torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.4]
    assert nbytes(dct(64, 16.0).encode(images)) < 0.5 * 20 * 64


def test_damage_is_noticed() -> None:
    codec = dct(8)
    stored = codec.encode([torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))])
    for broken in (stored["data"][:-3], stored["data"][:0]):
        with pytest.raises(ValueError, match="damaged"):
            codec.decode({**stored, "data": broken}, [3], (1, 8, 8))
    with pytest.raises(ValueError, match="damaged"):
        codec.decode(stored, [4], (1, 8, 8))
    assert codec_from_spec(codec.spec()) == codec
    with pytest.raises(ValueError, match="positive"):
        dct(0)
    with pytest.raises(ValueError, match="positive"):
        Frequency(4, step=0.0)


def test_it_is_condensed_through_its_quantiser(toy_pool: MakePool) -> None:
    pool = toy_pool()
    form = Coded(dct(8, 64.0), Frequency(8), every=1)(pool, 2, Random(0))
    seen = form.decode()
    seen.square().sum().backward()
    assert form.stored.coefficients.grad.abs().sum() > 0  # type: ignore[union-attr]
    blocks = form._blocks()
    again = torch.cat(dct(8, 64.0).decode(dct(8, 64.0).encode(blocks), [2, 2, 2], pool.shape))
    torch.testing.assert_close((seen * pool.std[0] + pool.mean[0]).detach(), again, atol=1e-5, rtol=0)
    assert form.storage(uint8()) == dct(8, 64.0)
