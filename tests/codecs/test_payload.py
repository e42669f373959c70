from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelguard.codecs import Bits, PayloadCode
from modelguard.errors import InputError

some = settings(max_examples=60, deadline=None)
CODES = {bits: PayloadCode(bits, "test") for bits in (30, 64, 128)}
codes = st.sampled_from(list(CODES.values()))


def sent(code: PayloadCode, data: bytes, seed: int, flips: int, faint: float) -> Bits:
    """Soft bits of `data` with `flips` bits reversed, `faint` as sure as the others."""
    random = np.random.default_rng(seed)
    soft = (2.0 * code.encode(data) - 1) * random.uniform(0.7, 1.3, code.bits)
    wrong = random.choice(code.bits, flips, replace=False)
    soft[wrong] *= -faint
    return Bits(soft.astype(np.float32), code)


@pytest.mark.parametrize(("bits", "data_bits"), [(30, 8), (64, 32), (128, 64), (256, 128)])
def test_half_of_the_bits_or_less_are_data(bits: int, data_bits: int) -> None:
    code = PayloadCode(bits, "test")
    assert code.data_bits == data_bits
    assert code.encode(b"a").shape == (bits,)


@some
@given(codes, st.data())
def test_any_data_comes_back(code: PayloadCode, data: st.DataObject) -> None:
    given_bytes = data.draw(st.binary(min_size=code.data_bytes, max_size=code.data_bytes))
    message = sent(code, given_bytes, 0, 0, 1).message()
    assert message is not None
    assert (message.data, message.errors) == (given_bytes, 0)
    assert message.id == int.from_bytes(given_bytes, "big")


@some
@given(codes, st.integers(0, 2**32), st.data())
def test_two_wrong_bits_are_corrected_wherever_they_are(
    code: PayloadCode, seed: int, data: st.DataObject
) -> None:
    given_bytes = data.draw(st.binary(min_size=code.data_bytes, max_size=code.data_bytes))
    message = sent(code, given_bytes, seed, 2, 1).message()
    assert message is not None
    assert (message.data, message.errors) == (given_bytes, 2)


@some
@given(codes, st.integers(0, 2**32))
def test_more_wrong_bits_are_corrected_where_they_are_faint(code: PayloadCode, seed: int) -> None:
    data = bytes(range(code.data_bytes))
    flips = code.symbols - code.data_symbols  # each may spoil a symbol
    message = sent(code, data, seed, flips, 0.05).message()
    assert message is not None
    assert (message.data, message.errors) == (data, flips)
    assert message.log10_p < -4.5


@some
@given(codes, st.integers(0, 2**32))
def test_random_bits_are_rarely_a_surprise(code: PayloadCode, seed: int) -> None:
    soft = np.random.default_rng(seed).standard_normal(code.bits).astype(np.float32)
    message = Bits(soft, code).message()
    assert message is None or message.log10_p > -5


def test_the_p_value_of_messages_holds_over_masks() -> None:
    soft = np.random.default_rng(4).standard_normal(30).astype(np.float32)  # one image, many masks
    ps = []
    for seed in range(800):
        message = Bits(soft, PayloadCode(30, str(seed))).message()
        ps.append(0.0 if message is None else message.log10_p)
    for level in (0.5, 0.1, 0.02):
        expected = level * len(ps)
        assert sum(p <= np.log10(level) for p in ps) <= expected + 4 * expected**0.5


def test_the_test_of_expected_bits_is_exact_and_down_to_2_to_minus_bits() -> None:
    code = CODES[64]
    bits = code.encode(b"abcd")
    read = Bits((2.0 * bits - 1).astype(np.float32), code)
    assert read.hard.tolist() == bits.tolist()
    assert read.test(bits).p == pytest.approx(2.0**-64)
    assert read.test(1 - bits).p == 1
    assert read.test(bits.tolist()).matches == 64


def test_images_are_pooled_into_one_test_whose_floor_stays() -> None:
    code, random = CODES[30], np.random.default_rng(0)
    bits = code.encode(b"k")
    faint = [
        Bits((0.35 * (2.0 * bits - 1) + random.standard_normal(30)).astype(np.float32), code)
        for _ in range(60)
    ]
    pooled = Bits.pooled(faint)
    assert pooled.test(bits).p < min(read.test(bits).p for read in faint)
    assert pooled.test(bits).p >= 2.0**-30
    for bad in ([], [faint[0], sent(CODES[64], b"k", 0, 0, 1)]):
        with pytest.raises(InputError, match="reads"):
            Bits.pooled(bad)


def test_texts_are_told_from_other_bytes() -> None:
    message = sent(CODES[64], "nö".encode(), 1, 0, 1).message()
    assert message is not None
    assert message.text == "nö"
    other = sent(CODES[64], b"\xff\x00\x01\x02", 1, 0, 1).message()
    assert other is not None
    assert other.text is None


def test_codes_of_different_masks_do_not_read_each_other() -> None:
    soft = (2.0 * PayloadCode(128, "one").encode(b"secret") - 1).astype(np.float32)
    message = Bits(soft, PayloadCode(128, "other")).message()
    assert message is None or message.log10_p > -3


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="2 bytes do not fit, the codec carries 1"):
        CODES[30].encode(b"ab")
    with pytest.raises(InputError, match="bits: 20"):
        PayloadCode(20, "test")
    read = Bits(np.ones(30, np.float32), CODES[30])
    for bad in ([0] * 29, [2] * 30, [[0] * 30]):
        with pytest.raises(InputError, match="payload"):
            read.test(bad)  # type: ignore[arg-type]
