"""The barrier of the paper as a thing to deploy: hosts, files, and what keeps R apart."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms.v2.functional import gaussian_blur

from modelguard.datasets import ImageSet
from modelguard.errors import InputError, KeyFileError, ModelContractError, WrongPassphraseError
from modelguard.networks import DnCNN
from modelguard.schemes.logo_barrier import (
    Embedder,
    Extractor,
    LogoBarrier,
    Sizes,
    answer,
    identify,
    padded,
    protect,
    rounded,
    stack,
)
from modelguard.schemes.logo_score import score
from modelguard.statistics import centred_ncc, ncc

TINY = Sizes(levels=2, width=4, extractor=4, discriminator=4)


def logo(channels: int = 1, side: int = 12) -> Tensor:
    picture = torch.ones(channels, side, side)
    picture[:, side // 4 : -side // 4, side // 4 :] = 0
    return picture


def pair(
    channels: int = 1, logos: int = 1, seed: int = 0, logo_channels: int = 1
) -> tuple[Embedder, Extractor]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        pictures = [logo(logo_channels, 12 - 2 * number) for number in range(logos)]
        embedder = Embedder(stack(pictures), channels, TINY).eval()
        extractor = Extractor(channels, logo_channels, logos, TINY).eval()
    identify(embedder, extractor)
    return embedder, extractor


def test_smaller_logos_are_padded_with_white_in_the_middle() -> None:
    both = stack([logo(side=12), logo(side=8)])
    assert both.shape == (2, 1, 12, 12)
    assert (both[1, :, :2] == 255).all()
    assert torch.equal(both[1, :, 2:10, 2:10].float() / 255, logo(side=8))


@pytest.mark.parametrize(
    ("logos", "message"),
    [
        ([], "empty"),
        ([torch.ones(1, 4, 4) * 255], "255"),
        ([torch.full((1, 4, 4), torch.nan)], "nan"),
        ([torch.ones(4, 4)], "shape"),
        ([torch.ones(2, 4, 4)], "2 channels"),
        ([torch.ones(1, 4, 4), torch.ones(3, 4, 4)], r"logos\[1\]: 3 channels"),
    ],
)
def test_what_is_no_logo_is_refused(logos: list[Tensor], message: str) -> None:
    with pytest.raises(InputError, match=message):
        stack(logos)


@pytest.mark.parametrize(("height", "width"), [(11, 30), (30, 11)])
def test_images_smaller_than_the_logo_are_refused(height: int, width: int) -> None:
    embedder, _ = pair()
    with pytest.raises(InputError, match=f"12 x 12 px do not fit into an image of {height} x {width}"):
        embedder(torch.rand(1, 1, height, width))
    with pytest.raises(InputError, match="do not fit"):
        padded(torch.rand(1, 12, 12), height, width)


@pytest.mark.parametrize(("channels", "logo_channels"), [(1, 1), (3, 1), (1, 3), (3, 3)])
def test_grey_and_colour_logos_go_into_grey_and_colour_images_of_any_size(
    channels: int, logo_channels: int
) -> None:
    embedder, extractor = pair(channels, logo_channels=logo_channels)
    with torch.no_grad():
        marked = embedder(torch.rand(2, channels, 21, 34))
    assert marked.shape == (2, channels, 21, 34)
    assert 0 <= marked.min() <= marked.max() <= 1
    picture, found = extractor.extract(marked[0])
    assert picture.shape == (logo_channels, 21, 34)
    assert found in (0, 1)
    assert torch.equal(picture, picture.mul(255).round() / 255)


def test_an_adding_h_begins_near_the_image_and_is_one_in_its_file(tmp_path: Path) -> None:
    image = torch.rand(1, 1, 20, 20)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain, adding = (Embedder(stack([logo()]), 1, replace(TINY, adding=how)) for how in (False, True))
    with torch.no_grad():
        assert (adding(image) - image).abs().mean() < 0.1 < (plain(image) - image).abs().mean()
        adding.eval()
        again = Embedder.load(adding.save(tmp_path / "h.safetensors"))
        assert torch.equal(again(image), adding(image))
        assert again(torch.ones(1, 1, 20, 20)).min() >= 0
        assert again(torch.ones(1, 1, 20, 20)).max() <= 1


def test_the_logo_that_is_asked_for_goes_in() -> None:
    embedder, _ = pair(logos=3)
    images = torch.rand(1, 1, 20, 20).expand(3, -1, -1, -1)
    with torch.no_grad():
        together = embedder(images, torch.tensor([0, 1, 2]))
        single = torch.cat([embedder(images[:1], number) for number in range(3)])
    torch.testing.assert_close(together, single)
    assert not torch.allclose(together[0], together[1])
    with pytest.raises(InputError, match="no logo 3"):
        embedder(images, 3)


def test_rounding_is_to_8_bits_and_lets_the_gradient_through() -> None:
    image = torch.tensor([-0.2, 0.1003, 0.7, 1.3], requires_grad=True)
    out = rounded(image)
    torch.testing.assert_close(out.detach() * 255, torch.tensor([0.0, 26.0, 178.0, 255.0]))
    out.sum().backward()
    assert image.grad is not None
    assert torch.equal(image.grad, torch.ones(4))


def blur(image: Tensor) -> Tensor:
    return gaussian_blur(image, [3, 3])


@pytest.mark.parametrize("host", [DnCNN(3, 1, 4), blur], ids=["network", "classical filter"])
def test_any_callable_is_protected_and_left_as_it_was(host: Any, make_photo: Callable[..., Tensor]) -> None:
    embedder, _ = pair()
    image = make_photo(0, 1, 24, 20)
    before = answer(host, image[None], 1)
    barrier = protect(host, embedder, image)
    with torch.no_grad():
        out = barrier(image[None])
        torch.testing.assert_close(out, embedder(barrier.host(image[None]).clamp(0, 1)))
    assert not any(module.training for module in barrier.modules())
    assert torch.equal(answer(host, image[None], 1), before)
    assert host is blur or host.training


def test_no_value_of_the_extractor_is_in_the_barrier() -> None:
    embedder, extractor = pair()
    barrier = protect(DnCNN(3, 1, 4), embedder, torch.rand(1, 20, 20))
    assert not any(isinstance(module, Extractor | type(extractor.net)) for module in barrier.modules())
    assert not any("extractor" in name or "classifier" in name for name in barrier.state_dict())
    secret = {value.numpy().tobytes() for value in extractor.state_dict().values() if value.numel() > 16}
    assert not secret & {value.numpy().tobytes() for value in barrier.state_dict().values()}


def test_the_barrier_follows_its_host_in_precision_and_is_exported_with_it() -> None:
    embedder, _ = pair()
    barrier = protect(DnCNN(3, 1, 4).to(torch.bfloat16), embedder, torch.rand(1, 20, 20))
    with torch.no_grad():
        assert barrier(torch.rand(1, 1, 20, 20, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert next(embedder.parameters()).dtype == torch.float32
    barrier, image = protect(DnCNN(3, 1, 4), embedder, torch.rand(1, 20, 20)), torch.rand(2, 1, 20, 20)
    anything = torch.export.Dim.AUTO
    exported = torch.export.export(barrier, (image,), dynamic_shapes=({2: anything, 3: anything},)).module()
    for other in (image, torch.rand(2, 1, 21, 34)):
        with torch.no_grad():
            torch.testing.assert_close(exported(other), barrier(other))


class Odd(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.idle = kind, nn.Parameter(torch.zeros(1))

    def forward(self, image: Tensor) -> Any:
        return {
            "tuple": (image,),
            "dict": {"image": image},
            "channels": image.expand(-1, 3, -1, -1),
            "NaN": image / 0,
            "0..255": image * 255 + 3,
            "-1..1": image * 2 - 1,
            "smaller": image[..., ::2, ::2],
            "odd": image[..., 1:-1, 1:-1],
        }[self.kind]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("tuple", "came back as tuple"),
        ("dict", "came back as dict"),
        ("channels", r"\(1, 3, 20, 20\)"),
        ("NaN", "NaN"),
        ("0..255", "values from 3 to 258"),
        ("-1..1", "values from -1 to 1"),
        ("smaller", r"\(20, 20\) px came back as \(10, 10\)"),
        ("odd", r"\(20, 20\) px came back as \(18, 18\)"),
    ],
)
def test_hosts_that_give_no_image_are_refused(kind: str, message: str) -> None:
    with pytest.raises(ModelContractError, match=message):
        protect(Odd(kind), pair()[0], torch.ones(1, 20, 20))


def test_hosts_whose_answers_are_too_small_are_refused() -> None:
    with pytest.raises(InputError, match="do not fit"):
        protect(lambda image: image, pair()[0], torch.rand(1, 10, 10))


def test_data_is_marked_image_by_image() -> None:
    embedder, _ = pair()
    images = ImageSet.of([torch.rand(1, 20, 20), torch.rand(1, 13, 40)])
    marked = embedder.mark(images)
    assert [tuple(image.shape) for image in marked] == [(1, 20, 20), (1, 13, 40)]
    with torch.no_grad():
        torch.testing.assert_close(marked[1], embedder(images[1][None])[0], atol=0.51 / 255, rtol=0)
    with pytest.raises(InputError, match="1 channels"):
        embedder.mark(ImageSet.of([torch.rand(3, 20, 20)]))


def test_both_halves_come_back_from_their_files(tmp_path: Path) -> None:
    embedder, extractor = pair(3, logos=2)
    embedder.save(tmp_path / "h")
    extractor.save(tmp_path / "r", "secret words")
    image = torch.rand(3, 20, 20)
    again = Embedder.load(tmp_path / "h")
    assert torch.equal(again(image[None], 1), embedder(image[None], 1))
    reader = Extractor.load(tmp_path / "r", "secret words")
    assert torch.equal(reader.extract(image)[0], extractor.extract(image)[0])
    assert reader.pair == again.pair == embedder.pair != ""
    assert (tmp_path / "r").stat().st_mode & 0o077 == 0
    assert extractor.net.tail.weight.detach().numpy().tobytes() not in (tmp_path / "r").read_bytes()


def test_files_are_not_written_over_and_bad_ones_refused(tmp_path: Path) -> None:
    embedder, extractor = pair()
    embedder.save(tmp_path / "h")
    extractor.save(tmp_path / "r", "secret words")
    with pytest.raises(InputError, match="exists"):
        embedder.save(tmp_path / "h")
    with pytest.raises(InputError, match="exists"):
        extractor.save(tmp_path / "r", "secret words")
    with pytest.raises(WrongPassphraseError):
        Extractor.load(tmp_path / "r", "other words")
    with pytest.raises(KeyFileError):
        Extractor.load(tmp_path / "h", "secret words")
    for data in (b"", b"hello" * 20, (tmp_path / "h").read_bytes()[:-9], (tmp_path / "r").read_bytes()):
        (tmp_path / "bad").write_bytes(data)
        with pytest.raises(InputError) as caught:
            Embedder.load(tmp_path / "bad")
        assert len(str(caught.value)) < 500  # and not what is in the file
    with pytest.raises(InputError, match="cannot read"):
        Embedder.load(tmp_path / "none")


def test_an_extractor_of_another_pair_is_refused() -> None:
    embedder, _ = pair(seed=1)
    _, stranger = pair(seed=2)
    with pytest.raises(InputError, match="of the pairs"):
        score(stranger, embedder, [torch.rand(1, 20, 20)], logo())
    untrained = Embedder(stack([logo()]), 1, TINY), Extractor(1, 1, 1, TINY)
    with pytest.raises(InputError, match="untrained"):
        score(untrained[1].eval(), untrained[0].eval(), [torch.rand(1, 20, 20)], logo())


@pytest.mark.parametrize(
    "image", [torch.rand(3, 20, 20), torch.full((1, 20, 20), torch.nan), torch.rand(20, 20)]
)
def test_what_is_no_image_is_not_read(image: Tensor) -> None:
    with pytest.raises(InputError, match="no finite image of 1 channels"):
        pair()[1].extract(image)


def test_scores_are_the_papers_measures_of_what_is_found() -> None:
    embedder, extractor = pair()
    images, wrong = [torch.rand(1, 20, 20), torch.rand(1, 30, 24)], logo().transpose(1, 2)
    scores = score(extractor, embedder, images, wrong)
    found = [extractor.extract(image)[0] for image in images]
    right = [padded(logo(), *picture.shape[1:]) for picture in found]
    foreign = [padded(wrong, *picture.shape[1:]) for picture in found]
    assert scores.images == 2
    assert scores.nc == pytest.approx(sum(map(ncc, found, right)) / 2)
    assert scores.centred_nc == pytest.approx(sum(map(centred_ncc, found, right)) / 2)
    assert scores.wrong_nc == pytest.approx(sum(map(ncc, found, foreign)) / 2)
    assert scores.wrong_centred_nc == pytest.approx(sum(map(centred_ncc, found, foreign)) / 2)
    share = [float(picture.mean()) ** 0.5 for picture in right]
    assert scores.blank_nc == pytest.approx(sum(share) / 2, rel=1e-6)
    with pytest.raises(InputError, match="nothing to score"):
        score(extractor, embedder, [], wrong)


def test_a_blank_passes_the_papers_rule_for_a_small_logo_and_never_the_centred_one() -> None:
    """Table 6 of the paper has logos of 32 px in 256: any empty answer is then a success."""
    embedder, extractor = pair()
    with torch.no_grad():
        for parameter in extractor.net.tail.parameters():
            parameter.zero_()
        extractor.net.tail.bias.fill_(1)
    small = score(extractor, embedder, [torch.rand(1, 96, 96)], logo().transpose(1, 2))
    assert small.sr_nc == 1
    assert small.nc == small.blank_nc > 0.95
    assert small.sr_centred == small.centred_nc == 0


def test_a_copy_of_the_barrier_is_a_barrier() -> None:
    barrier = LogoBarrier(nn.Identity(), pair()[0]).eval()
    image = torch.rand(1, 1, 20, 20)
    assert torch.equal(copy.deepcopy(barrier)(image), barrier(image))
