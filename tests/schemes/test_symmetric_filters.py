from __future__ import annotations

import numpy as np
import pytest
from photo_reading import SALT, SECRETS, photo
from PIL import Image, ImageFilter

from modelguard.errors import InputError
from modelguard.schemes import symmetric_filters
from modelguard.schemes.filter_fits import sums
from modelguard.statistics import sign_test

SCHEME = symmetric_filters.public(channels=3, scale=1)


def test_leaves_have_carriers_and_bits_of_their_own() -> None:
    for draw in (symmetric_filters.carriers, symmetric_filters.bits):
        signs = draw(SCHEME, SECRETS[0], SALT)
        assert (signs.dtype, signs.shape, set(signs.tolist())) == (np.int8, (102,), {-1, 1})
        assert 0.3 < (signs != draw(SCHEME, SECRETS[1], SALT)).mean() < 0.7


def test_filters_are_symmetric_and_see_nothing_flat() -> None:
    filters = symmetric_filters.filters()
    assert filters.shape == (17, 13, 13)
    for turned in (filters[:, ::-1], filters[:, :, ::-1], filters.transpose(0, 2, 1)):
        assert (filters == turned).all()
    assert not filters.sum((1, 2)).any()
    assert np.linalg.eigvalsh(np.corrcoef(filters.reshape(17, -1).astype(float)))[0] > 0.02


def test_what_treats_colours_alike_is_not_seen() -> None:
    """Of a picture without colours, a blur moves no score; a shift of one colour by a pixel does."""
    query = np.repeat(photo(1, 1), 3, axis=2)
    blurred = np.asarray(Image.fromarray(query).filter(ImageFilter.GaussianBlur(1)))
    shifted = query.copy()
    shifted[..., 0] = np.roll(query[..., 0], 1, axis=1)
    plain, moved = (
        symmetric_filters.decode_photo(SCHEME, SECRETS[:1], SALT, query, one) for one in (blurred, shifted)
    )
    assert not plain.any()
    assert moved.all()


def test_an_answer_that_is_the_query_says_nothing() -> None:
    image = photo(0, 3)
    scores = symmetric_filters.decode_photo(SCHEME, SECRETS[:1], SALT, image, image)
    assert sign_test(symmetric_filters.bits(SCHEME, SECRETS[0], SALT), scores).p == 1


def test_a_turned_pair_has_the_same_scores() -> None:
    query = photo(2, 3, 96)
    answer = np.clip(query.astype(int) + query[..., [1, 2, 0]] // 16 - 8, 0, 255).astype(np.uint8)
    upright, turned = (
        symmetric_filters.decode_photo(SCHEME, SECRETS[:1], SALT, *(np.ascontiguousarray(x) for x in pair))
        for pair in ((query, answer), (query[:, ::-1].swapaxes(0, 1), answer[:, ::-1].swapaxes(0, 1)))
    )
    assert np.corrcoef(upright, turned)[0, 1] > 0.85  # every third pixel of N is another one


def test_the_largest_photo_stays_in_bounds() -> None:
    """Squares that filters answer to with all they have, and colours that change as far as they can."""
    tiles = (np.arange(512) // 4 % 2)[:, None] ^ (np.arange(512) // 4 % 2)
    query = np.repeat((255 * tiles).astype(np.uint8)[..., None], 3, axis=2)
    answer = query.copy()
    answer[..., 0] = np.roll(query[..., 0], 4, axis=1)
    scores = symmetric_filters.decode_photo(SCHEME, SECRETS[:1], SALT, query, answer)
    assert 0 < abs(scores).max() < 2**55
    tone, bank = 16 * query[..., 0].astype(np.int64), (symmetric_filters.filters(), symmetric_filters.SHIFT)
    seen = np.broadcast_to(96 * np.sign(tone - 2040), (2, 512, 512))
    shared, overlap = sums(tone, seen, *bank, symmetric_filters._classes(tone))
    assert 2**20 < int(abs(shared).max()) < 2**44
    assert abs(overlap).sum(axis=1).max() < 2**45


def test_grey_photos_and_more_leaves_are_refused() -> None:
    with pytest.raises(InputError, match="1 channels, not 3"):
        symmetric_filters.public(channels=1, scale=1)
    with pytest.raises(InputError, match="2 leaves a session, not 1"):
        symmetric_filters.bits({**SCHEME, "perSession": 2}, SECRETS[0], SALT)
