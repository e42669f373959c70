from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelguard import photos
from modelguard.codecs.qr import qr_code, read_qr
from modelguard.errors import InputError


@settings(max_examples=15, deadline=None)
@given(st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1, max_size=40))
def test_what_is_written_is_read(text: str) -> None:
    code = qr_code(text, 256)
    assert (code.size, code.mode) == ((256, 256), "L")
    assert read_qr(code) == text


def test_a_damaged_and_grey_code_is_read_in_any_form() -> None:
    pixels = torch.from_numpy(np.asarray(qr_code("MG:0123ABCD", 256)).copy()).float() / 255
    noisy = (0.3 + 0.4 * pixels + 0.1 * torch.randn(pixels.shape)).clamp(0, 1)
    noisy[120:140, 120:140] = 1
    assert read_qr(noisy.expand(3, -1, -1)) == "MG:0123ABCD"


def test_a_photo_holds_no_code() -> None:
    assert read_qr(photos.load(3)[2]) is None


def test_too_much_text_and_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="9999 characters"):
        qr_code("x" * 9999)
    with pytest.raises(InputError, match="64 px are too few"):
        qr_code("MG:0123ABCD", 64)
    for name in ("segno", "zxingcpp"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match="segno is not installed"):
        qr_code("text")
    with pytest.raises(InputError, match="zxing-cpp is not installed"):
        read_qr(torch.rand(3, 32, 32))
