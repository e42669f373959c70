from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from modelguard import photos
from modelguard.errors import InputError
from modelguard.schemes import PhotoReader, TriggerReader, odd_filters, read
from modelguard.statistics import sign_test

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
SALT = b"salt"
SECRETS = [bytes([n]) * 32 for n in range(4)]


def photo(number: int, channels: int, side: int = 160) -> Pixels:
    image: Pixels = photos.load(channels).images[number].permute(1, 2, 0).numpy()
    return np.ascontiguousarray(image[40 : 40 + side, 40 : 40 + side])


def scheme(channels: int = 1, scale: int = 1) -> dict[str, int | str]:
    return odd_filters.public(channels=channels, scale=scale)


def test_marks_inside_have_an_id_of_their_own_and_one_reader() -> None:
    inside = odd_filters.public(channels=1, scale=1, inside=True)
    assert inside == {**scheme(), "id": "mg.odd-filters-inside/1"}
    assert read(inside) is read(scheme())
    assert (odd_filters.bits(inside, SECRETS[0], SALT) == odd_filters.bits(scheme(), SECRETS[0], SALT)).all()


def test_it_is_found_as_a_reader_of_photos() -> None:
    reader = read(scheme())
    assert isinstance(reader, PhotoReader)
    assert not isinstance(reader, TriggerReader)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"id": "mg.keyed-cells/1"}, "is not mg.odd-filters/1"),
        ({"channels": 2}, "2 channels"),
        ({"scale": 5}, "scale 5"),
        ({"perSession": 17}, "17 leaves"),
        ({"levels": 0}, "0 levels"),
        ({"levels": "15"}, "levels is no integer"),
        ({"levels": True}, "levels is no integer"),
        ({"more": 1}, "more is missing or unknown"),
        ({"id": "mg.odd-filters-inside/2"}, "is not mg.odd-filters/1"),
    ],
)
def test_other_parameters_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        odd_filters.bits({**scheme(), **change}, SECRETS[0], SALT)


def test_leaves_have_carriers_and_bits_of_their_own() -> None:
    for draw in (odd_filters.carriers, odd_filters.bits):
        signs = draw(scheme(3), SECRETS[0], SALT)
        assert (signs.dtype, signs.shape, set(signs.tolist())) == (np.int8, (192,), {-1, 1})
        others = (draw(scheme(3), *one) for one in ((SECRETS[1], SALT), (SECRETS[0], b"")))
        assert all(0.3 < (signs != other).mean() < 0.7 for other in others)
    assert (
        odd_filters.carriers(scheme(), SECRETS[0], SALT) != odd_filters.bits(scheme(), SECRETS[0], SALT)
    ).any()


def test_filters_are_odd_and_see_nothing_flat() -> None:
    filters = odd_filters.filters()
    assert filters.shape == (64, 21, 21)
    assert (filters == -filters[:, ::-1, ::-1]).all()
    assert not filters.sum((1, 2)).any()
    flat = filters.reshape(64, -1).astype(float)
    spectrum = np.linalg.eigvalsh(np.corrcoef(flat))
    assert spectrum[0] > 0.1  # no two of them say the same


def test_what_a_symmetric_filter_does_is_not_seen() -> None:
    """A strong blur changes every pixel, and hardly moves a score beside a shift by one pixel."""
    image = photo(1, 1)
    blurred = np.asarray(Image.fromarray(image[..., 0]).filter(ImageFilter.GaussianBlur(1)))[..., None]
    shifted = np.roll(image, 1, axis=1)
    plain, moved = (
        np.abs(odd_filters.decode_photo(scheme(), SECRETS[:1], SALT, image, one)).mean()
        for one in (blurred, shifted)
    )
    assert moved > 5 * plain


def test_an_answer_that_is_the_query_says_nothing() -> None:
    image = photo(0, 1)
    scores = odd_filters.decode_photo(scheme(), SECRETS[:1], SALT, image, image)
    bits = odd_filters.bits(scheme(), SECRETS[0], SALT)
    assert not scores.any()
    assert sign_test(bits, scores).p == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_flat_photos_and_extremes_are_decoded(channels: int) -> None:
    for query, answer in ((0, 255), (128, 128), (255, 0)):
        pair = (np.full((64, 80, channels), value, np.uint8) for value in (query, answer))
        scores = odd_filters.decode_photo(scheme(channels), SECRETS[:1], SALT, *pair)
        assert (scores.dtype, scores.shape) == (np.int64, (192,))
        assert not scores.any()


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), channels=st.sampled_from([1, 3]), scale=st.integers(1, 4))
def test_whatever_is_answered_gives_bounded_scores(seed: int, channels: int, scale: int) -> None:
    """Even black and white noise stays far from where 64-bit sums would wrap."""
    dice = np.random.default_rng(seed)
    query = 255 * dice.integers(0, 2, (64, 65, channels), np.uint8)
    answer = 255 * dice.integers(0, 2, (64 * scale, 65 * scale, channels), np.uint8)
    scores = odd_filters.decode_photo(scheme(channels, scale), SECRETS[:1], SALT, query, answer)
    assert scores.shape == (192,)
    assert abs(scores).max() < 2**55


def test_wrong_images_are_refused() -> None:
    grey, colour = photo(0, 1), photo(0, 3)
    large = np.zeros((600, 600, 1), np.uint8)
    for query, answer in ((colour, grey), (grey, colour), (large, large)):
        with pytest.raises(InputError, match="photo: query"):
            odd_filters.decode_photo(scheme(), SECRETS[:1], SALT, query, answer)
    with pytest.raises(InputError, match="2 leaves in one session"):
        odd_filters.decode_photo(scheme(), [*SECRETS[:1], SALT], SALT, grey, grey)


def test_fresh_keys_find_nothing_in_an_unmarked_service() -> None:
    """p-values of a blur under fresh keys are no smaller than chance allows."""
    query = photo(2, 1, 96)
    blurred = np.asarray(Image.fromarray(query[..., 0]).resize((48, 48), Image.Resampling.BICUBIC))
    answer = np.asarray(Image.fromarray(blurred).resize((96, 96), Image.Resampling.BICUBIC))[..., None]
    ps = []
    for number in range(60):
        secret, salt = bytes(32), number.to_bytes(4, "big")
        scores = odd_filters.decode_photo(scheme(), [secret], salt, query, answer)
        ps.append(float(sign_test(odd_filters.bits(scheme(), secret, salt), scores).p))
    assert scores.any()
    assert sum(p <= 0.05 for p in ps) <= 10  # one in 3,000 by chance
    assert min(ps) > 1e-5
