from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from modelguard.distortions import H264
from modelguard.errors import InputError
from modelguard.networks import FilmStrip


def test_h264_gives_the_clip_back_the_worse_the_higher_the_factor(make_photo: Callable[..., Tensor]) -> None:
    photo = make_photo(3, 3, 41, 53)
    clips = torch.stack([photo.roll(shift, 2) for shift in range(4)])[None].repeat(2, 1, 1, 1, 1)
    errors = []
    for crf in (10, 28, 45):
        coded = H264(crf)(clips)
        assert (coded.shape, coded.dtype) == (clips.shape, clips.dtype)
        assert torch.equal(coded * 255, (coded * 255).round())
        assert torch.equal(coded[0], coded[1])
        errors.append(float((coded - clips).square().mean().sqrt()))
    assert 0 < errors[0] < errors[1] < errors[2] < 0.2
    assert errors[0] < 0.1  # colours in 4:2:0
    frames = H264(10)(clips)[0]
    apart = (frames[:, None] - clips[0][None]).square().mean((2, 3, 4))
    assert apart.argmin(1).tolist() == [0, 1, 2, 3]  # in order, none lost


def test_h264_is_a_channel_of_film_strips() -> None:
    strip = torch.rand(1, 3, 3 * 16, 20)
    coded = FilmStrip(H264(23), 3)(strip)
    assert torch.equal(coded[:, :, 16:32], H264(23)(torch.stack(strip.chunk(3, 2), 1))[:, 1])


def test_what_h264_cannot_take_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for crf in (-1, 52, 23.5):
        with pytest.raises(InputError, match="no rate factor"):
            H264(crf)  # type: ignore[arg-type]
    for clip in (torch.rand(3, 16, 16), torch.rand(1, 2, 1, 16, 16), torch.zeros(1, 2, 3, 8, 8).int()):
        with pytest.raises(InputError, match="no batch of clips"):
            H264()(clip)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match="needs PyAV"):
        H264()
