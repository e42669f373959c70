from __future__ import annotations

import numpy as np
import pytest
from photo_reading import SALT, SECRETS, photo
from PIL import Image, ImageFilter

from modelguard.errors import InputError
from modelguard.schemes import odd_filters, read
from modelguard.schemes.filter_fits import sums
from modelguard.statistics import sign_test


def scheme(channels: int = 1, scale: int = 1) -> dict[str, int | str]:
    return odd_filters.public(channels=channels, scale=scale)


def test_marks_inside_have_an_id_of_their_own_and_one_reader() -> None:
    inside = odd_filters.public(channels=1, scale=1, inside=True)
    assert inside == {**scheme(), "id": "mg.odd-filters-inside/1"}
    assert read(inside) is read(scheme())
    assert (odd_filters.bits(inside, SECRETS[0], SALT) == odd_filters.bits(scheme(), SECRETS[0], SALT)).all()


def test_leaves_have_carriers_and_bits_of_their_own() -> None:
    for draw in (odd_filters.carriers, odd_filters.bits):
        signs = draw(scheme(3), SECRETS[0], SALT)
        assert (signs.dtype, signs.shape, set(signs.tolist())) == (np.int8, (192,), {-1, 1})
        others = (draw(scheme(3), *one) for one in ((SECRETS[1], SALT), (SECRETS[0], b"")))
        assert all(0.3 < (signs != other).mean() < 0.7 for other in others)
    one, two = (draw(scheme(), SECRETS[0], SALT) for draw in (odd_filters.carriers, odd_filters.bits))
    assert 0.3 < (one != two).mean() < 0.7


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


def test_the_largest_photo_stays_in_bounds() -> None:
    """Stripes that one filter answers to with all it has, and an answer that leans as far as it can."""
    column = 255 * (np.arange(512) // 8 % 2)
    query = np.broadcast_to(column[None, :, None], (512, 512, 1)).astype(np.uint8)
    answer = np.roll(query, 4, axis=1)
    scores = odd_filters.decode_photo(scheme(), SECRETS[:1], SALT, query, answer)
    leaning = np.roll(answer[..., 0].astype(np.int64), 1, axis=1) - np.roll(
        answer[..., 0].astype(np.int64), -1, axis=1
    )
    tone, bank = 16 * answer[..., 0].astype(np.int64), (odd_filters.filters(), odd_filters.SHIFT)
    shared, overlap = sums(tone, 96 * np.sign(leaning)[None], *bank, odd_filters._classes(tone))
    assert abs(scores).max() < 2**55
    assert 2**20 < int(abs(shared).max()) < 2**44
    assert abs(overlap).sum(axis=1).max() < 2**45


def test_a_session_reads_one_leaf() -> None:
    with pytest.raises(InputError, match="2 leaves a session, not 1"):
        odd_filters.bits({**scheme(), "perSession": 2}, SECRETS[0], SALT)
