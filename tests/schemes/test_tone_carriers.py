from __future__ import annotations

import numpy as np
from photo_reading import SALT, SECRETS, photo

from modelguard.schemes import tone_carriers
from modelguard.statistics import sign_test


def scheme(channels: int = 1, scale: int = 1) -> dict[str, int | str]:
    return tone_carriers.public(channels=channels, scale=scale)


def test_leaves_have_waves_and_bits_of_their_own() -> None:
    numbers, phases = tone_carriers.carriers(scheme(3), SECRETS[0], SALT)
    assert (numbers.shape, phases.shape) == ((64, 5), (64,))
    assert -128 <= numbers.min() < -100 < 100 < numbers.max() <= 127
    assert 0 <= phases.min() < 30 < 225 < phases.max() <= 255
    others = (tone_carriers.carriers(scheme(3), *one)[0] for one in ((SECRETS[1], SALT), (SECRETS[0], b"")))
    assert all((numbers != other).mean() > 0.9 for other in others)
    bits = tone_carriers.bits(scheme(), SECRETS[0], SALT)
    assert (bits.dtype, bits.shape, set(bits.tolist())) == (np.int8, (64,), {-1, 1})


def test_an_answer_that_is_the_query_says_nothing() -> None:
    image = photo(0, 1)
    scores = tone_carriers.decode_photo(scheme(), SECRETS, SALT, image, image)
    bits = np.concatenate([tone_carriers.bits(scheme(), one, SALT) for one in SECRETS])
    assert sign_test(bits, scores).p > 1e-3
