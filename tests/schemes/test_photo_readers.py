"""What all readers of ordinary photos do alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from photo_reading import SALT, SECRETS, photo
from PIL import Image

from modelguard.errors import InputError
from modelguard.schemes import (
    PhotoReader,
    TriggerReader,
    odd_filters,
    planes,
    read,
    symmetric_filters,
    tone_carriers,
)
from modelguard.statistics import sign_test

every = pytest.mark.parametrize(
    ("reader", "secrets", "bits"),
    [(odd_filters, SECRETS[:1], 192), (symmetric_filters, SECRETS[:1], 102), (tone_carriers, SECRETS, 256)],
    ids=["odd filters", "symmetric filters", "tone carriers"],
)


def fewest(reader: Any) -> int:
    """Return the fewest channels that it reads."""
    return 3 if reader is symmetric_filters else 1


@every
def test_it_is_found_as_a_reader_of_photos(reader: Any, secrets: list[bytes], bits: int) -> None:
    found = read(reader.public(channels=fewest(reader), scale=1))
    assert found is reader
    assert isinstance(found, PhotoReader)
    assert not isinstance(found, TriggerReader)


@every
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"id": "mg.keyed-cells/1"}, "is not mg."),
        ({"id": "mg.odd-filters-inside/2"}, "is not mg."),
        ({"channels": 2}, "2 channels"),
        ({"scale": 5}, "scale 5"),
        ({"perSession": 17}, "17 leaves"),
        ({"levels": 0}, "0 levels"),
        ({"levels": "15"}, "levels is no integer"),
        ({"levels": True}, "levels is no integer"),
        ({"more": 1}, "more is missing or unknown"),
    ],
)
def test_other_parameters_are_refused(
    reader: Any, secrets: list[bytes], bits: int, change: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        reader.bits({**reader.public(channels=fewest(reader), scale=1), **change}, secrets[0], SALT)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((64, 64), (64, 64)), ((512, 100), (512, 100)), ((1024, 600), (512, 300)), ((600, 1024), (300, 512))],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_photos_are_asked_as_they_are_or_smaller(
    shape: tuple[int, int], expected: tuple[int, int], channels: int
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, channels), np.uint8)
    asked = planes.fitted(image)
    assert (asked.dtype, asked.shape) == (np.uint8, (*expected, channels))
    assert shape != expected or (asked == image).all()
    assert planes.fitted(asked) is asked


@pytest.mark.parametrize("shape", [(63, 500, 1), (2000, 200, 3)])
def test_small_and_thin_photos_are_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match="too small to carry"):
        planes.fitted(np.zeros(shape, np.uint8))


@every
@pytest.mark.parametrize("channels", [1, 3])
def test_flat_photos_and_extremes_are_decoded(
    reader: Any, secrets: list[bytes], bits: int, channels: int
) -> None:
    channels = max(channels, fewest(reader))
    scheme = reader.public(channels=channels, scale=1)
    for query, answer in ((0, 255), (128, 128), (255, 0)):
        pair = (np.full((64, 80, channels), value, np.uint8) for value in (query, answer))
        scores = reader.decode_photo(scheme, secrets, SALT, *pair)
        assert (scores.dtype, scores.shape) == (np.int64, (bits,))
        assert not scores.any()


@every
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), channels=st.sampled_from([1, 3]), scale=st.integers(1, 4))
def test_whatever_is_answered_gives_bounded_scores(
    reader: Any, secrets: list[bytes], bits: int, seed: int, channels: int, scale: int
) -> None:
    """Even black and white noise stays far from where 64-bit sums would wrap."""
    dice, channels = np.random.default_rng(seed), max(channels, fewest(reader))
    query = 255 * dice.integers(0, 2, (64, 65, channels), np.uint8)
    answer = 255 * dice.integers(0, 2, (64 * scale, 65 * scale, channels), np.uint8)
    scheme = reader.public(channels=channels, scale=scale)
    scores = reader.decode_photo(scheme, secrets, SALT, query, answer)
    assert scores.shape == (bits,)
    assert abs(scores).max() < (2**40 if reader is tone_carriers else 2**55)


@every
def test_an_answer_of_another_size_is_resampled(reader: Any, secrets: list[bytes], bits: int) -> None:
    image, scheme = photo(2, 3), reader.public(channels=3, scale=1)
    answer = np.asarray(Image.fromarray(image).resize((200, 120), Image.Resampling.BICUBIC))
    back = np.stack(
        [
            np.asarray(Image.fromarray(c).resize((160, 160), Image.Resampling.BICUBIC))
            for c in answer.transpose(2, 0, 1)
        ],
        axis=2,
    )
    one, two = (reader.decode_photo(scheme, secrets[:1], SALT, image, x) for x in (answer, back))
    assert (one == two).all()
    assert one.any()


@every
def test_wrong_images_are_refused(reader: Any, secrets: list[bytes], bits: int) -> None:
    channels = fewest(reader)
    right, wrong, scheme = (
        photo(0, channels),
        photo(0, 4 - channels),
        reader.public(channels=channels, scale=1),
    )
    large = np.zeros((600, 600, channels), np.uint8)
    for query, answer in ((wrong, right), (right, wrong), (large, large)):
        with pytest.raises(InputError, match="photo: query"):
            reader.decode_photo(scheme, secrets, SALT, query, answer)
    with pytest.raises(InputError, match=f"{len(secrets) + 1} leaves in one session"):
        reader.decode_photo(scheme, [*secrets, SALT], SALT, right, right)


@every
def test_fresh_keys_find_nothing_in_an_unmarked_service(reader: Any, secrets: list[bytes], bits: int) -> None:
    """p-values of a blur under fresh keys are no smaller than chance allows."""
    query, scheme = photo(2, fewest(reader), 96), reader.public(channels=fewest(reader), scale=1)
    picture = Image.fromarray(query.squeeze())
    blurred = picture.resize((48, 48), Image.Resampling.BICUBIC).resize((96, 96), Image.Resampling.BICUBIC)
    answer = np.asarray(blurred).reshape(query.shape)
    ps = []
    for number in range(60):
        salt = number.to_bytes(4, "big")
        scores = reader.decode_photo(scheme, secrets[:1], salt, query, answer)
        ps.append(float(sign_test(reader.bits(scheme, secrets[0], salt), scores).p))
    assert scores.any()
    assert sum(p <= 0.05 for p in ps) <= 10  # one in 3,000 by chance
    assert min(ps) > 1e-5
