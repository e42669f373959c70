from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from modelguard.distortions import (
    Blur,
    ForwardASL,
    Jpeg,
    Noise,
    Poisson,
    Quantise,
    SimulatedJpeg,
    level_of,
    nearest,
)
from modelguard.errors import InputError


@given(
    st.one_of(st.builds(Noise, st.floats(0.6, 50)), st.builds(Jpeg, st.integers(1, 97)), st.builds(Poisson))
)
def test_a_level_names_its_distortion(distortion: nn.Module) -> None:
    back = nearest(level_of(distortion))
    assert type(back) is type(distortion)
    if isinstance(distortion, Jpeg) and isinstance(back, Jpeg):
        assert back.quality == distortion.quality
    if isinstance(distortion, Noise) and isinstance(back, Noise):
        assert back.sigma == pytest.approx(distortion.sigma, rel=1e-5)


def test_no_distortion_is_level_0_and_wrappers_do_not_count() -> None:
    for one in (Quantise(), nn.Identity(), Noise(0.0)):
        assert torch.equal(level_of(one), torch.zeros(3))
    assert isinstance(nearest(torch.zeros(3)), Quantise)
    assert torch.equal(level_of(ForwardASL(Jpeg(40))), level_of(Jpeg(40)))
    assert torch.equal(level_of(SimulatedJpeg(40)), level_of(Jpeg(40)))


def test_levels_lie_on_one_scale() -> None:
    assert level_of(Noise(10)).tolist() == [1, 0, 0]
    assert level_of(Poisson()).tolist() == [0, 1, 0]
    assert level_of(Jpeg(40)).tolist() == [0, 0, 1]


def test_what_has_no_level_is_refused() -> None:
    with pytest.raises(InputError, match="Blur"):
        level_of(Blur(1.0))
