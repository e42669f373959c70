import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelguard.errors import InputError
from modelguard.networks import PatchGAN, unet
from modelguard.networks.unet import reflected


def parameters(net: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(("channels", "count"), [((2, 1), 41_823_873), ((6, 3), 41_832_067)])
def test_the_paper_sizes_have_the_published_parameter_counts(channels, count):
    with torch.device("meta"):
        assert parameters(unet(*channels)) == count
        assert parameters(PatchGAN(1)) == 1_554_433


@pytest.mark.parametrize("size", [(32, 48), (33, 50), (7, 90), (1, 1)])
def test_any_size_gives_an_image_of_the_same_size_in_range(size):
    net = unet(2, 3, levels=5, width=4)
    with torch.no_grad():
        image = net(torch.rand(2, 2, *size) * 9 - 4)
    assert image.shape == (2, 3, *size)
    assert image.min() >= 0
    assert image.max() <= 1


@pytest.mark.parametrize("levels", [2, 3, 5])
def test_every_parameter_learns(levels):
    net = unet(1, 1, levels=levels, width=4).train()
    net(torch.rand(2, 1, 64, 64)).square().mean().backward()
    silent = [name for name, parameter in net.named_parameters() if not parameter.grad.abs().sum()]
    assert silent == []


@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 2, 8, 32]))
@settings(max_examples=60, deadline=None)
def test_reflection_extends_to_the_multiple_without_touching_the_image(height, width, multiple):
    image = torch.rand(1, 1, height, width)
    wide = reflected(image, multiple)
    assert wide.shape[-2] % multiple == wide.shape[-1] % multiple == 0
    assert torch.equal(wide[..., :height, :width], image)
    if width > 1 and wide.shape[-1] > width:
        assert torch.equal(wide[..., width], wide[..., width - 2])
    assert set(wide.flatten().tolist()) == set(image.flatten().tolist())


def test_a_unet_without_skips_is_refused():
    with pytest.raises(InputError, match="levels: 1"):
        unet(1, 1, levels=1)


def test_the_discriminator_judges_patches():
    assert PatchGAN(3, width=4)(torch.rand(2, 3, 64, 96)).shape == (2, 1, 4, 6)
