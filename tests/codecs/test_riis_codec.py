from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from modelguard import photos, weights
from modelguard.codecs import RIIS, riis
from modelguard.codecs.files import hide_file
from modelguard.datasets import to_uint8
from modelguard.distortions import Blur, Jpeg, Noise, Poisson, Quantise
from modelguard.errors import InputError, WeightsError

TINY = Path(__file__).parent / "tiny-riis.safetensors"


@pytest.fixture(scope="module")
def codec() -> RIIS:
    return RIIS.from_pretrained(TINY)


@pytest.fixture(scope="module")
def pictures() -> list[Tensor]:
    """A host and two secrets, uint8 (3, 96, 96)."""
    return [to_uint8(photos.load(3)[n][:, 64:160, 64:160]) for n in (1, 2, 4)]


@pytest.fixture(scope="module")
def container(codec: RIIS, pictures: list[Tensor]) -> Tensor:
    return codec.hide(pictures[0], pictures[1:])


def psnr(one: Any, other: Any) -> float:
    return float(-10 * np.log10(np.mean((np.asarray(one, float) - np.asarray(other, float)) ** 2) / 255**2))


def pil(picture: Tensor, mode: str = "RGB") -> Image.Image:
    return Image.fromarray(picture.permute(1, 2, 0).numpy()).convert(mode)


def test_secrets_and_host_come_back(codec: RIIS, pictures: list[Tensor], container: Tensor) -> None:
    assert codec.capacity == 2
    assert (container.shape, container.dtype) == (pictures[0].shape, torch.uint8)
    found = codec.reveal(container, Quantise())
    secrets, host = found
    assert psnr(container, pictures[0]) > 18
    assert psnr(host, pictures[0]) > psnr(container, pictures[0])
    for wanted, other, one in zip(pictures[1:], pictures[:0:-1], secrets, strict=True):
        assert psnr(one, wanted) > max(17, psnr(one, other) + 3)


@pytest.mark.parametrize("distortion", [Jpeg(80), Noise(8), Poisson()])
def test_secrets_outlive_distortions(
    codec: RIIS, pictures: list[Tensor], container: Tensor, distortion: torch.nn.Module
) -> None:
    picture = to_uint8(distortion(container[None].float() / 255))[0]
    for known in (distortion, None):
        found = codec.reveal(picture, known)
        for wanted, other, one in zip(pictures[1:], pictures[:0:-1], found.secrets, strict=True):
            assert psnr(one, wanted) > psnr(one, other) + 1
    assert codec.reveal(picture, distortion).distortion is distortion


def test_what_is_guessed_is_reckoned_with(codec: RIIS, container: Tensor) -> None:
    sure = RIIS(copy.deepcopy(codec.net), "sure")
    last = sure.net.inspector.head[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([0.7, 0.0, 0.1, 2.0]))
    found = sure.reveal(container)
    assert isinstance(found.distortion, Noise)
    assert found.distortion.sigma == pytest.approx(7)
    assert found.score == pytest.approx(0.8808, abs=1e-4)
    last.bias.data[2] = 0.0
    assert torch.equal(sure.reveal(container).host, codec.reveal(container, Noise(7)).host)
    assert not torch.equal(sure.reveal(container).host, codec.reveal(container, Jpeg(40)).host)


def test_the_score_tells_containers_from_photos(
    codec: RIIS, container: Tensor, pictures: list[Tensor]
) -> None:
    found = codec.reveal(container)
    assert found.credible
    assert found.credible == (found.score > 0.5)
    assert 0 <= codec.reveal(pictures[0]).score < found.score <= 1


@pytest.mark.parametrize("size", [(97, 33), (64, 100), (35, 47)])
def test_any_size_and_aspect(codec: RIIS, pictures: list[Tensor], size: tuple[int, int]) -> None:
    host = photos.load(3)[3][:, : size[0], : size[1]]
    container = codec.hide(host, pictures[1])
    assert (container.shape, container.dtype) == (host.shape, torch.float32)
    assert torch.equal(container, to_uint8(container).float() / 255)
    secrets, back = codec.reveal(container)
    assert [one.shape for one in (*secrets, back)] == [host.shape] * 3


def test_tiles_leave_no_seams(
    codec: RIIS, pictures: list[Tensor], container: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(riis, "TILE", 64)
    monkeypatch.setattr(riis, "OVERLAP", 32)
    tiled = codec.hide(pictures[0], pictures[1:])
    assert psnr(tiled, container) > 45
    difference = (tiled.float() - container.float()).abs()
    assert difference[:, 30:34].mean() < 2  # where tiles begin and end
    one, other = codec.reveal(tiled), codec.reveal(container)
    assert psnr(one.secrets[0], other.secrets[0]) > 30
    assert one.score == pytest.approx(other.score, abs=0.1)


def test_all_forms_give_the_same_container(
    codec: RIIS, pictures: list[Tensor], container: Tensor, tmp_path: Path
) -> None:
    host, *secrets = (pil(one) for one in pictures)
    host.save(tmp_path / "host.png")
    expected = container.permute(1, 2, 0).numpy()
    assert np.array_equal(np.asarray(codec.hide(host, secrets)), expected)
    assert np.array_equal(np.asarray(codec.hide(tmp_path / "host.png", secrets)), expected)
    assert np.array_equal(codec.hide(np.asarray(host), [np.asarray(one) for one in secrets]), expected)
    assert np.array_equal(codec.hide(pictures[0][None], secrets)[0].permute(1, 2, 0).numpy(), expected)
    found = codec.reveal(Image.fromarray(expected))
    assert [type(one) for one in (*found.secrets, found.host)] == [Image.Image] * 3


def test_fewer_secrets_leave_grey_places_and_grey_secrets_are_welcome(
    codec: RIIS, pictures: list[Tensor]
) -> None:
    grey = pil(pictures[1], "L").resize((40, 70))
    container = codec.hide(pictures[0], grey)
    both = codec.hide(pictures[0], [grey, torch.full((3, 96, 96), 0.5)])
    assert psnr(container, both) > 50


def test_a_cut_along_the_grid_keeps_its_part(codec: RIIS, pictures: list[Tensor], container: Tensor) -> None:
    secrets, _ = codec.reveal(container[:, 16:80, 24:88], Quantise())
    assert psnr(secrets[0], pictures[1][:, 16:80, 24:88]) > 16


def test_edits_are_located(codec: RIIS, pictures: list[Tensor], container: Tensor) -> None:
    untouched = codec.locate(container, pictures[1:], Quantise())
    edited = container.clone()
    edited[:, 24:64, 40:80] = to_uint8(photos.load(3)[6])[:, :40, :40]
    found = codec.locate(edited, pictures[1:], Quantise())
    inside = np.zeros((96, 96), bool)
    inside[24:64, 40:80] = True
    assert (found.mask.shape, found.mask.dtype, found.error.dtype) == ((96, 96), bool, np.float32)
    assert found.error[inside].mean() > 2 * found.error[~inside].mean()
    assert (found.mask & inside).sum() / (found.mask | inside).sum() > 0.4  # these weights reveal badly
    assert untouched.share < 0.05 < found.share
    with pytest.raises(InputError, match="1 to 2"):
        codec.locate(container, [])


def test_colours_are_carried_by_what_looks_grey(codec: RIIS) -> None:
    colour = pil(to_uint8(photos.load(3)[3][:, 64:160, 64:160]))  # coffee
    container = codec.decolour(colour)
    grey = colour.convert("L").convert("RGB")
    assert (container.size, container.mode) == (colour.size, "RGB")
    assert psnr(container, grey) > 15
    assert psnr(container, codec.hide(grey, colour)) > 45
    back = codec.recolour(container, Quantise())
    assert psnr(back, colour) > psnr(back, grey)
    assert np.array_equal(back, codec.reveal(container, Quantise()).secrets[0])
    with pytest.raises(InputError, match="picture: a grey"):
        codec.decolour(torch.zeros(1, 64, 64))


@pytest.mark.parametrize(
    ("secrets", "part"),
    [
        ([], "0 pictures"),
        (["a", "b", "c"], "1 to 2"),
        (np.zeros((40, 40, 4), np.uint8), "alpha"),
        (torch.full((3, 40, 40), 2.0), "image"),
        (torch.zeros(2, 3, 40, 40), "2 pictures at once"),
        ("missing.png", "missing.png"),
    ],
)
def test_bad_secrets_are_refused(codec: RIIS, pictures: list[Tensor], secrets: Any, part: str) -> None:
    with pytest.raises(InputError, match=part):
        codec.hide(pictures[0], secrets)


@pytest.mark.parametrize(
    ("picture", "part"),
    [
        (torch.zeros(1, 64, 64), "grey"),
        (np.zeros((64, 64, 4), np.uint8), "alpha"),
        (torch.zeros(3, 31, 64), "too small"),
        (Image.new("I;16", (64, 64)), "8-bit"),
        (torch.zeros(2, 3, 64, 64), "2 pictures"),
    ],
)
def test_bad_hosts_and_containers_are_refused(codec: RIIS, picture: Any, part: str) -> None:
    for call in (lambda: codec.hide(picture, torch.zeros(3, 64, 64)), lambda: codec.reveal(picture)):
        with pytest.raises(InputError, match=part):
            call()


def test_distortions_without_a_level_are_refused(codec: RIIS, container: Tensor) -> None:
    with pytest.raises(InputError, match="distortion"):
        codec.reveal(container, Blur(1.0))


def test_files_are_checked_and_replaced_only_by_force(
    codec: RIIS, pictures: list[Tensor], tmp_path: Path
) -> None:
    names = [tmp_path / f"{n}.png" for n in range(3)]
    for name, one in zip(names, pictures, strict=True):
        pil(one).save(name)
    target = tmp_path / "out.jpg"
    hidden = hide_file(codec, names[0], names[1:], target)
    with Image.open(target) as written:
        assert psnr(written, pil(pictures[0])) == pytest.approx(hidden.container_psnr, abs=0.01)
    found = codec.reveal(target)
    assert psnr(found.secrets[1], pil(pictures[2])) == pytest.approx(hidden.secret_psnr[1], abs=0.01)
    before = target.read_bytes()
    with pytest.raises(InputError, match="exists"):
        hide_file(codec, names[0], names[1:], target)
    with pytest.raises(InputError, match="missing"):
        hide_file(codec, names[0], [tmp_path / "missing.png"], target, force=True)
    assert target.read_bytes() == before


def test_changed_and_foreign_weight_files_are_refused(tmp_path: Path) -> None:
    changed = tmp_path / TINY.name
    data = bytearray(TINY.read_bytes())
    data[-1] ^= 1
    changed.write_bytes(data)
    RIIS.from_pretrained(changed)  # of yours: no card beside it
    shutil.copy(TINY.with_suffix(".json"), tmp_path)
    with pytest.raises(WeightsError, match="card"):
        RIIS.from_pretrained(changed)
    foreign = tmp_path / "foreign.safetensors"
    foreign.write_bytes(weights.dump_state(torch.nn.Linear(2, 2)))
    with pytest.raises(InputError, match="no RIIS net"):
        RIIS.from_pretrained(foreign)
    with pytest.raises(InputError, match="no RIIS net"):
        RIIS.from_pretrained(Path(__file__).parent / "tiny.safetensors")
    with pytest.raises(InputError, match="'nonsense'"):
        RIIS.from_pretrained("nonsense")
