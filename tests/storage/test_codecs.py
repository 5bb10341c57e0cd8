"""Codecs: what comes back, what it costs, and what happens to damaged bytes."""

from __future__ import annotations

import io
import pickle

import pytest
import torch
from PIL import Image, features

from ddreplay.storage.codecs import (
    BudgetTooSmall,
    CodecUnavailable,
    avif,
    bits,
    codec_from_spec,
    fit_quality,
    float16,
    float32,
    jpeg,
    nbytes,
    thumb,
    uint8,
    webp,
)
from ddreplay.storage.codecs.sheets import from_sheet, grid, to_sheet

VALUES = [float32(), float16(), uint8(), bits(1), bits(3), bits(7)]
PICTURES = [jpeg(60, "4:2:0"), jpeg(60, "4:4:4"), jpeg(60, "4:2:2"), webp(60), avif(60), avif(60, 9, "4:2:0")]
ALL = [*VALUES, *PICTURES, thumb(60.0)]
SHAPES = [(1, 8, 8), (3, 8, 8), (3, 12, 20), (1, 28, 9), (3, 16, 16)]


def smooth(counts, shape, seed=0):
    """Images of low frequencies with a little noise, in 0..1, as a codec likes them."""
    random = torch.Generator().manual_seed(seed)
    made = []
    for n in counts:
        coarse = torch.rand(n, shape[0], 3, 3, generator=random)
        big = torch.nn.functional.interpolate(coarse, shape[1:], mode="bilinear") if n else torch.empty(0, *shape)
        made.append((big + 0.05 * torch.rand(n, *shape, generator=random)).clamp(0, 1))
    return made


@pytest.mark.parametrize("codec", ALL, ids=repr)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_round_trip(codec, shape):
    counts = [3, 0, 1, 7, 3]
    classes = smooth(counts, shape)
    stored = codec.encode(classes)
    decoded = codec.decode(stored, counts, shape)
    assert [tuple(x.shape) for x in decoded] == [(n, *shape) for n in counts]
    assert all(x.dtype == torch.float32 for x in decoded)
    step = {1: 0.5, 3: 1 / 14, 7: 1 / 254}
    bound = step[codec.n] + 1e-6 if isinstance(codec, bits) else 0.08
    error = torch.cat([(a - b).abs().flatten() for a, b in zip(classes, decoded, strict=True)])
    assert error.max() <= bound if codec in VALUES else error.mean() <= bound


@pytest.mark.parametrize("codec", ALL, ids=repr)
def test_same_bytes_twice_and_caller_untouched(codec):
    classes = smooth([4, 2], (3, 16, 16))
    before, state = [x.clone() for x in classes], torch.get_rng_state()
    first, second = codec.encode(classes), codec.encode(classes)
    assert all(torch.equal(first[k], second[k]) for k in first)
    twice = [codec.decode(first, [4, 2], (3, 16, 16)) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*twice, strict=True))
    kept = twice[0][0].clone()
    twice[0][0].zero_()
    assert torch.equal(codec.decode(first, [4, 2], (3, 16, 16))[0], kept)
    assert all(torch.equal(a, b) for a, b in zip(classes, before, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("codec", ALL, ids=repr)
def test_select_is_what_was_stored(codec):
    counts, shape = [3, 1, 0, 5, 3], (3, 12, 12)
    stored = codec.encode(smooth(counts, shape))
    decoded = codec.decode(stored, counts, shape)
    for keep in ([4, 1], [2], [3, 0, 1], [0, 1, 2, 3, 4], []):
        kept = codec.select(stored, counts, shape, keep)
        again = codec.decode(kept, [counts[i] for i in keep], shape)
        assert len(again) == len(keep)
        assert all(torch.equal(decoded[i], x) for i, x in zip(keep, again, strict=True))
        assert nbytes(kept) <= nbytes(stored) + 2
    with pytest.raises(ValueError, match="positions"):
        codec.select(stored, counts, shape, [5])


def test_selecting_everything_changes_no_byte():
    counts, shape = [3, 1, 0, 5, 3], (3, 12, 12)
    for codec in ALL:
        stored = codec.encode(smooth(counts, shape))
        kept = codec.select(stored, counts, shape, range(5))
        assert all(torch.equal(stored[k], kept[k]) for k in stored), codec


@pytest.mark.parametrize("codec", ALL, ids=repr)
def test_spec_pickle_hash_and_empty_set(codec):
    assert codec_from_spec(codec.spec()) == codec
    assert pickle.loads(pickle.dumps(codec)) == codec
    assert hash(codec_from_spec(codec.spec())) == hash(codec)
    assert codec.decode(codec.encode([]), [], (1, 1, 1)) == []


@pytest.mark.parametrize(
    "spec",
    [{"name": "gif"}, {}, {"name": "jpeg", "speed": 3}, {"name": "bits", "n": 8}, {"name": "jpeg", "quality": 0}],
)
def test_bad_spec(spec):
    with pytest.raises(ValueError, match=r"name|takes|must"):
        codec_from_spec(spec)


def test_bytes_of_plain_codecs():
    classes = smooth([3, 2], (3, 8, 8))
    values = 5 * 3 * 8 * 8
    assert nbytes(float32().encode(classes)) == 4 * values
    assert nbytes(float16().encode(classes)) == 2 * values
    assert nbytes(uint8().encode(classes)) == values + 24
    for n in range(1, 8):
        assert nbytes(bits(n).encode(classes)) == -(-values * n // 8) + 24


def test_uint8_is_lossless_on_8_bit_images():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    classes = [levels.float() / 255, levels.flip(3).float() / 255 * 1.0]
    decoded = uint8().decode(uint8().encode(classes), [1, 1], (1, 16, 16))
    assert all(torch.equal(a, b) for a, b in zip(classes, decoded, strict=True))
    part = [(levels[..., :4, :] + 30).float() / 255]  # a narrow range of levels too
    assert torch.equal(uint8().decode(uint8().encode(part), [1], (1, 4, 16))[0], part[0])


def test_float32_gives_back_the_values_and_uint8_spans_what_exceeds_the_unit():
    wide = [torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(1)) * 3]
    assert torch.equal(float32().decode(float32().encode(wide), [4], (2, 8, 8))[0], wide[0])
    decoded = uint8().decode(uint8().encode(wide), [4], (2, 8, 8))[0]
    span = (wide[0].amax((0, 2, 3)) - wide[0].amin((0, 2, 3))).view(2, 1, 1)
    assert ((decoded - wide[0]).abs() <= span / 510 + 1e-5).all()


def test_bits_equals_a_loop():
    images = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(3)) * 2 - 0.5
    stored, text = bits(3).encode([images]), ""
    for value, channel in (
        (float(images[i, c, y, x]), c) for i in range(2) for c in range(3) for y in range(4) for x in range(4)
    ):
        low, high = float(images[:, channel].min()), float(images[:, channel].max())
        text += f"{round((value - low) / (high - low) * 7):03b}"
    text += "0" * (-len(text) % 8)
    assert stored["values"].tolist() == [int(text[i : i + 8], 2) for i in range(0, len(text), 8)]


def test_constant_channel_and_huge_values():
    flat = [torch.full((2, 1, 8, 8), 2.5)]
    extreme = [torch.tensor([-3e38, 3e38]).view(2, 1, 1, 1).expand(2, 1, 8, 8)]
    for codec in (uint8(), bits(2)):
        assert torch.equal(codec.decode(codec.encode(flat), [2], (1, 8, 8))[0], flat[0])
        assert torch.isfinite(codec.decode(codec.encode(extreme), [2], (1, 8, 8))[0]).all()
    with pytest.raises(ValueError, match="65504"):
        float16().encode(extreme)


@pytest.mark.parametrize("codec", ALL, ids=repr)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_not_finite(codec, bad):
    classes = smooth([2, 2], (3, 8, 8))
    classes[1][0, 0, 0, 0] = bad
    with pytest.raises(ValueError, match="position 1"):
        codec.encode(classes)


@pytest.mark.parametrize("codec", PICTURES, ids=repr)
def test_pictures_refuse_other_channels_and_differing_shapes(codec):
    with pytest.raises(ValueError, match="uint8"):
        codec.encode([torch.rand(2, 2, 8, 8)])
    with pytest.raises(ValueError, match="one shape"):
        codec.encode([torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 9)])


@pytest.mark.parametrize("codec", PICTURES, ids=repr)
def test_format_missing_from_pillow(codec, monkeypatch):
    classes = smooth([2], (3, 8, 8))
    stored = codec.encode(classes)
    monkeypatch.setattr(features, "check", lambda name: False)
    with pytest.raises(CodecUnavailable, match=codec.form):
        codec.encode(classes)
    with pytest.raises(CodecUnavailable, match="pip install"):
        codec.decode(stored, [2], (3, 8, 8))


@pytest.mark.parametrize("codec", ALL, ids=repr)
def test_truncated(codec):
    counts, shape = [3, 2], (3, 16, 16)
    stored = codec.encode(smooth(counts, shape))
    for key, tensor in stored.items():
        for damaged in (tensor[:-1], tensor[:0], torch.cat([tensor, tensor[-1:]]), tensor.double()):
            if damaged.shape != tensor.shape or damaged.dtype != tensor.dtype:
                with pytest.raises(ValueError, match="stored"):
                    codec.decode({**stored, key: damaged}, counts, shape)
        with pytest.raises(ValueError, match="lacks"):
            codec.decode({k: v for k, v in stored.items() if k != key}, counts, shape)
    with pytest.raises(ValueError, match="stored"):
        codec.decode(stored, [3, 3, 1], shape)


@pytest.mark.parametrize("codec", PICTURES, ids=repr)
def test_flipped_bytes_give_pixels_or_a_value_error(codec):
    counts, shape = [3, 2], (3, 16, 16)
    stored = codec.encode(smooth(counts, shape))
    random = torch.Generator().manual_seed(5)
    refused = 0
    for trial in range(60):
        key = ("shared", "sizes", "data")[trial % 3]
        damaged = stored[key].clone().flatten()
        damaged[torch.randint(len(damaged), (4,), generator=random)] = torch.randint(
            256, (4,), generator=random, dtype=torch.uint8
        )
        try:
            decoded = codec.decode({**stored, key: damaged.view_as(stored[key])}, counts, shape)
        except ValueError:
            refused += 1
        else:
            assert [tuple(x.shape) for x in decoded] == [(n, *shape) for n in counts]
    assert refused >= 20


# Mean change of the other images (of 255) when one of eight becomes noise: measured, and below the codec's own error.
@pytest.mark.parametrize(
    ("codec", "bound"),
    [(jpeg(50, "4:2:0"), 0.5), (jpeg(50, "4:4:4"), 0.0), (webp(50), 7.0), (avif(50), 4.0), (avif(50, 6, "4:2:0"), 4.0)],
    ids=repr,
)
@pytest.mark.parametrize("shape", [(3, 16, 16), (3, 12, 20), (1, 8, 8)], ids=str)
def test_tiles_are_independent(codec, bound, shape):
    images = smooth([8], shape)[0]
    other = images.clone()
    other[3] = torch.rand(shape, generator=torch.Generator().manual_seed(9))
    first = codec.decode(codec.encode([images]), [8], shape)[0]
    second = codec.decode(codec.encode([other]), [8], shape)[0]
    rest = [i for i in range(8) if i != 3]
    assert (second[3] - first[3]).abs().mean() > 0.05
    change, own_error = (second[rest] - first[rest]).abs().mean(), (first[rest] - images[rest]).abs().mean()
    assert 255 * change <= bound
    assert change <= own_error


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("shape", [(3, 16, 16), (3, 12, 20), (1, 8, 8)], ids=str)
def test_fitted_jpeg_tables_change_bytes_and_no_pixel(subsampling, shape):
    codec = jpeg(30, subsampling)
    sheets = [to_sheet(x, codec.pitch(shape[0]), codec.limit) for x in smooth([6] * 9, shape)]
    (plain_head, plain), fitted = codec.plain(sheets), codec.alternative(sheets)
    assert fitted is not None
    assert sum(map(len, fitted[1])) < sum(map(len, plain))
    assert b"\xff\xdd" not in fitted[0]  # the restart interval is dropped
    for a, b in zip(plain, fitted[1], strict=True):
        first, second = (Image.open(io.BytesIO(codec.join(*x))) for x in ((plain_head, a), (fitted[0], b)))
        assert first.size == second.size
        assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("codec", PICTURES, ids=repr)
def test_heads_are_charged_once(codec):
    classes = smooth([4] * 6, (3, 16, 16))
    stored = codec.encode(classes)
    files = [codec.picture(stored, [4] * 6, (3, 16, 16), i) for i in range(6)]
    saved = {"jpeg": 200, "webp": 20, "avif": 250}[codec.name]
    assert nbytes(stored) < sum(map(len, files)) - 5 * saved


@pytest.mark.parametrize("codec", ALL, ids=repr)
def test_picture_is_an_ordinary_file(codec):
    counts, shape = [6, 0, 2], (3, 16, 16)
    stored = codec.encode(smooth(counts, shape))
    file = codec.picture(stored, counts, shape, 2)
    with Image.open(io.BytesIO(file)) as image:
        assert image.format == {"jpg": "JPEG", "webp": "WEBP", "avif": "AVIF", "png": "PNG"}[codec.extension]
        assert image.size == (32, 16)
    with pytest.raises(ValueError, match="no images"):
        codec.picture(stored, counts, shape, 1)


def test_png_of_other_channels():
    stored = uint8().encode([torch.rand(2, 5, 8, 8)])
    with Image.open(io.BytesIO(uint8().picture(stored, [2], (5, 8, 8), 0))) as image:
        assert image.mode == "L"
        assert image.size[0] * image.size[1] == 2 * 5 * 64


@pytest.mark.parametrize("count", [1, 2, 7, 10, 12, 20])
def test_sheet_inverts(count):
    images = torch.randint(256, (count, 3, 9, 13), generator=torch.Generator().manual_seed(count)).float() / 255
    sheet = to_sheet(images, 8, 1000)
    assert sheet.shape[0] * sheet.shape[1] == count * 16 * 16  # no empty cell
    assert torch.equal(from_sheet(sheet, count, (3, 9, 13), 8, 1000), images)


def test_grid_of_a_prime_number_of_large_images():
    assert grid(13, (100, 100), 1300) == (1, 13)
    assert grid(13, (100, 100), 1299) == (4, 4)
    with pytest.raises(ValueError, match="exceeds"):
        grid(13, (100, 100), 399)


def test_noise_at_full_quality_is_stored():
    noise = [torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    for quality in (94, 100):
        codec = jpeg(quality, "4:4:4")
        decoded = codec.decode(codec.encode(noise), [4] * 3, (3, 16, 16))
        assert max(float((a - b).abs().mean()) for a, b in zip(noise, decoded, strict=True)) < 0.05


@pytest.mark.parametrize(
    "family", [jpeg(), jpeg(1, "4:2:0"), webp(0, 0), avif(0, 10), bits(), uint8(), float32(), "jpeg"]
)
@pytest.mark.parametrize("budget", [250, 450, 900, 5000, 60000])
def test_fit_quality_stays_within_the_budget(family, budget):
    classes = smooth([4, 4, 3], (3, 8, 8))
    try:
        codec = fit_quality(family, classes, max_bytes=budget)
    except BudgetTooSmall:
        members = (jpeg() if family == "jpeg" else family).qualities()
        assert min(nbytes(x.encode(classes)) for x in (members[0], members[len(members) // 2])) > budget
        return
    assert nbytes(codec.encode(classes)) <= budget
    members = list(codec.qualities())
    after = members.index(codec) + 1
    assert after == len(members) or nbytes(members[after].encode(classes)) > budget
    assert fit_quality(family, classes, bytes_per_class=budget / 3) == codec


@pytest.mark.parametrize("family", [bits(), uint8()])
def test_where_the_search_begins_does_not_matter(family):
    classes = smooth([4, 4, 3], (3, 8, 8))
    members = family.qualities()
    sizes = [nbytes(member.encode(classes)) for member in members]
    for budget in (*sizes, *(size + 1 for size in sizes)):
        expected = max(k for k, size in enumerate(sizes) if size <= budget)
        assert [fit_quality(family, classes, max_bytes=budget, near=near) for near in members] == [
            members[expected]
        ] * len(members)
    for near in members:
        with pytest.raises(BudgetTooSmall, match="smallest of its family"):
            fit_quality(family, classes, max_bytes=sizes[0] - 1, near=near)


def test_fit_quality_takes_one_budget():
    with pytest.raises(ValueError, match="one of"):
        fit_quality("uint8", smooth([1], (1, 8, 8)))
