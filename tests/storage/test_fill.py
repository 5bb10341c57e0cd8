"""Budgets are filled: finer steps of a codec, class by class, and one image more where there are none."""

import pytest
import torch

from ddreplay import Budget, selections
from ddreplay.storage.codecs import avif, bits, codec_from_spec, fill, fit_quality, jpeg, nbytes


def photos(classes: int, n: int, size: int = 32) -> list[torch.Tensor]:
    """Smooth pictures with some detail."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(classes * n, 3, 4, 4, generator=generator)
    fine = torch.rand(classes * n, 3, size, size, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=size, mode="bicubic")
    return list((0.8 * smooth + 0.2 * fine).clamp(0, 1).split(n))


@pytest.mark.parametrize("max_bytes", [900, 1500, 4000, 9000])
def test_avif_is_filled_and_never_exceeds(max_bytes: int) -> None:
    classes = photos(2, 20)
    codec = fit_quality("avif", classes, max_bytes=max_bytes)
    stored = fill(codec, classes, max_bytes)
    assert nbytes(codec.encode(classes)) <= nbytes(stored) <= max_bytes
    assert nbytes(stored) >= 0.97 * max_bytes


def test_filled_sheets_are_read_selected_and_shown_by_the_base_codec() -> None:
    classes = photos(3, 12)
    codec = fit_quality("avif", classes, max_bytes=3000)
    stored = fill(codec, classes, 3000)
    assert nbytes(stored) > nbytes(codec.encode(classes))
    given = codec.decode(stored, [12] * 3, (3, 32, 32))
    plain = codec.decode(codec.encode(classes), [12] * 3, (3, 32, 32))

    def error(images: list[torch.Tensor]) -> float:
        return sum(float((a - b).square().mean()) for a, b in zip(images, classes, strict=True))

    assert error(given) < error(plain)
    kept = codec.select(stored, [12] * 3, (3, 32, 32), [2, 0])
    assert torch.equal(codec.decode(kept, [12] * 2, (3, 32, 32))[0], given[2])
    assert codec.picture(stored, [12] * 3, (3, 32, 32), 1).startswith(b"\x00\x00\x00")


def test_classes_of_different_numbers_are_filled_and_empty_ones_left_alone() -> None:
    a, b = photos(2, 12)
    classes = [a, b[:5], b[:0]]
    codec = fit_quality("avif", classes, max_bytes=2500)
    stored = fill(codec, classes, 2500)
    assert 0.95 * 2500 <= nbytes(stored) <= 2500
    assert [len(x) for x in codec.decode(stored, [12, 5, 0], (3, 32, 32))] == [12, 5, 0]


def test_a_codec_without_steps_between_stores_as_it_does() -> None:
    classes = photos(2, 6)
    for codec in (bits(3), jpeg(20)):
        stored = fill(codec, classes, 10**6)
        assert all(torch.equal(stored[k], v) for k, v in codec.encode(classes).items())


def test_members_between_two_qualities() -> None:
    base = avif(4)
    sizes = [nbytes(member.encode(photos(1, 60))) for member in base.between()]
    own, above = nbytes(base.encode(photos(1, 60))), nbytes(avif(6).encode(photos(1, 60)))
    assert sizes[0] == above
    assert sum(own < size < above for size in sizes) >= 3
    assert avif(100).between()[0].quality == 100  # nothing lies above; what lies between is still offered
    assert codec_from_spec(base.between()[1].spec()) == base.between()[1]
    assert codec_from_spec({"name": "avif", "quality": 30, "speed": 6, "subsampling": "4:4:4"}) == avif()


@pytest.mark.parametrize("argument", [{"matrices": 16}, {"matrices": -1}])
def test_bad_steps(argument: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(argument))):
        avif(**argument)


def test_one_image_more_where_a_codec_has_no_steps(toy_pool) -> None:
    pool = toy_pool()
    assert (pool.classes, pool.shape) == (3, (1, 8, 8))
    found = selections.random(codec=codec_from_spec({"name": "uint8"}))(pool, Budget.bytes(230))
    (part,) = found.parts
    assert max(part.counts) - min(part.counts) == 1
    assert 0.9 * 690 <= found.nbytes <= 690
