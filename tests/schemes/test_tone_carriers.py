from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from modelguard import photos
from modelguard.errors import InputError
from modelguard.schemes import PhotoReader, TriggerReader, read, tone_carriers
from modelguard.statistics import sign_test

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
SALT = b"salt"
SECRETS = [bytes([n]) * 32 for n in range(4)]


def photo(number: int, channels: int, side: int = 160) -> Pixels:
    image: Pixels = photos.load(channels).images[number].permute(1, 2, 0).numpy()
    return np.ascontiguousarray(image[40 : 40 + side, 40 : 40 + side])


def scheme(channels: int = 1, scale: int = 1) -> dict[str, int | str]:
    return tone_carriers.public(channels=channels, scale=scale)


def test_it_is_found_as_a_reader_of_photos() -> None:
    reader = read(scheme())
    assert isinstance(reader, PhotoReader)
    assert not isinstance(reader, TriggerReader)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"id": "mg.keyed-cells/1"}, "is not mg.tone-carriers/1"),
        ({"channels": 2}, "2 channels"),
        ({"scale": 5}, "scale 5"),
        ({"perSession": 17}, "17 leaves"),
        ({"levels": 0}, "0 levels"),
        ({"levels": "15"}, "levels is no integer"),
        ({"levels": True}, "levels is no integer"),
        ({"more": 1}, "more is missing or unknown"),
    ],
)
def test_other_parameters_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        tone_carriers.bits({**scheme(), **change}, SECRETS[0], SALT)


def test_leaves_have_waves_and_bits_of_their_own() -> None:
    numbers, phases = tone_carriers.carriers(scheme(3), SECRETS[0], SALT)
    assert (numbers.shape, phases.shape) == ((64, 5), (64,))
    assert -128 <= numbers.min() < -100 < 100 < numbers.max() <= 127
    assert 0 <= phases.min() < 30 < 225 < phases.max() <= 255
    others = (tone_carriers.carriers(scheme(3), *one)[0] for one in ((SECRETS[1], SALT), (SECRETS[0], b"")))
    assert all((numbers != other).mean() > 0.9 for other in others)
    bits = tone_carriers.bits(scheme(), SECRETS[0], SALT)
    assert (bits.dtype, bits.shape, set(bits.tolist())) == (np.int8, (64,), {-1, 1})


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((64, 64), (64, 64)), ((512, 100), (512, 100)), ((1024, 600), (512, 300)), ((600, 1024), (300, 512))],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_photos_are_asked_as_they_are_or_smaller(
    shape: tuple[int, int], expected: tuple[int, int], channels: int
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, channels), np.uint8)
    asked = tone_carriers.fitted(image)
    assert (asked.dtype, asked.shape) == (np.uint8, (*expected, channels))
    assert (asked == image).all() or shape != expected
    assert tone_carriers.fitted(asked) is asked


@pytest.mark.parametrize("shape", [(63, 500, 1), (2000, 200, 3)])
def test_small_and_thin_photos_are_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match="too small to carry"):
        tone_carriers.fitted(np.zeros(shape, np.uint8))


def test_an_answer_that_is_the_query_says_nothing() -> None:
    image = photo(0, 1)
    scores = tone_carriers.decode_photo(scheme(), SECRETS, SALT, image, image)
    assert sign_test(tone_bits(), scores).p == 1


def tone_bits() -> np.ndarray[Any, np.dtype[np.int8]]:
    return np.concatenate([tone_carriers.bits(scheme(), one, SALT) for one in SECRETS])


@pytest.mark.parametrize("channels", [1, 3])
def test_flat_photos_and_extremes_are_decoded(channels: int) -> None:
    for query, answer in ((0, 255), (128, 128), (255, 0)):
        pair = (np.full((64, 80, channels), value, np.uint8) for value in (query, answer))
        scores = tone_carriers.decode_photo(scheme(channels), SECRETS, SALT, *pair)
        assert (scores.dtype, scores.shape) == (np.int64, (256,))
        assert not scores.any()


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), channels=st.sampled_from([1, 3]), scale=st.integers(1, 4))
def test_whatever_is_answered_gives_bounded_scores(seed: int, channels: int, scale: int) -> None:
    """Even black and white noise stays far from where 64-bit sums would wrap."""
    dice = np.random.default_rng(seed)
    query = 255 * dice.integers(0, 2, (64, 65, channels), np.uint8)
    answer = 255 * dice.integers(0, 2, (64 * scale, 65 * scale, channels), np.uint8)
    scores = tone_carriers.decode_photo(scheme(channels, scale), SECRETS, SALT, query, answer)
    assert scores.shape == (256,)
    assert abs(scores).max() < 2**40


def test_an_answer_of_another_size_is_resampled() -> None:
    image = photo(1, 3)
    answer = np.asarray(Image.fromarray(image).resize((200, 120), Image.Resampling.BICUBIC))
    back = np.stack(
        [
            np.asarray(Image.fromarray(c).resize((160, 160), Image.Resampling.BICUBIC))
            for c in answer.transpose(2, 0, 1)
        ],
        axis=2,
    )
    one, two = (tone_carriers.decode_photo(scheme(3), SECRETS[:1], SALT, image, x) for x in (answer, back))
    assert (one == two).all()
    assert one.any()


def test_wrong_images_are_refused() -> None:
    grey, colour = photo(0, 1), photo(0, 3)
    large = np.zeros((600, 600, 1), np.uint8)
    for query, answer in ((colour, grey), (grey, colour), (large, large)):
        with pytest.raises(InputError, match="photo: query"):
            tone_carriers.decode_photo(scheme(), SECRETS, SALT, query, answer)
    with pytest.raises(InputError, match="5 leaves in one session"):
        tone_carriers.decode_photo(scheme(), [*SECRETS, SALT], SALT, grey, grey)


def test_fresh_keys_find_nothing_in_an_unmarked_service() -> None:
    """p-values of a blur under fresh keys are no smaller than chance allows."""
    query = photo(2, 1, 96)
    blurred = np.asarray(Image.fromarray(query[..., 0]).resize((48, 48), Image.Resampling.BICUBIC))
    answer = np.asarray(Image.fromarray(blurred).resize((96, 96), Image.Resampling.BICUBIC))[..., None]
    ps = []
    for number in range(60):
        secret, salt = bytes(32), number.to_bytes(4, "big")
        scores = tone_carriers.decode_photo(scheme(), [secret], salt, query, answer)
        ps.append(float(sign_test(tone_carriers.bits(scheme(), secret, salt), scores).p))
    assert scores.any()
    assert sum(p <= 0.05 for p in ps) <= 10  # one in 3,000 by chance
    assert min(ps) > 1e-5
