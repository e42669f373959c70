from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from photo_reading import Soften, agreement
from torch import Tensor, nn

from modelguard import photos
from modelguard.benchmarks.parity import deploy
from modelguard.datasets import to_uint8
from modelguard.errors import InputError
from modelguard.evidence import Key, Owner
from modelguard.networks import VDSR, DnCNN, Upscaled
from modelguard.schemes import Contract, SymmetricBarrier, shell
from modelguard.schemes.symmetric_barrier import Coloured
from modelguard.suspects import as_suspect
from modelguard.weights import dump_state, load_state


def barred(
    host: nn.Module, owner: Owner, scheme: SymmetricBarrier | None = None, scale: int = 1
) -> tuple[Coloured, Key]:
    scheme = scheme or SymmetricBarrier()
    public = scheme.public(Contract(3, scale))
    key = Key.create(owner, public, scheme.leaves, decoder=scheme.decoder, log2_n=1)
    return scheme.attach(host, key), key


def query_of(number: int) -> np.ndarray[Any, Any]:
    return photos.load(3).images[number].permute(1, 2, 0).contiguous().numpy()


def asked(model: nn.Module, number: int = 4) -> tuple[Any, Any]:
    query = query_of(number)
    return query, as_suspect(model).ask(query).image


def test_one_photo_shows_the_mark_and_hardly_changes(owner: Owner) -> None:
    model, key = barred(Soften(), owner)
    query, answer = asked(model)
    test = agreement(key, query, answer)
    assert test.bits == 102
    assert test.matches > 85
    assert test.log10_p < -16
    unmarked = asked(Soften())[1]
    change = answer.astype(float) - unmarked
    assert 10 * np.log10(255**2 / np.square(change).mean()) > 38
    assert abs(change).max() <= 7
    stranger = barred(Soften(), owner)[1]
    for one in (agreement(key, query, unmarked), agreement(stranger, query, answer)):
        assert one.log10_p > -6


def test_a_leaf_of_two_still_agrees(owner: Owner) -> None:
    model, key = barred(Soften(), owner, SymmetricBarrier(leaves=2))
    assert agreement(key, *asked(model)).matches > 64


def test_it_moves_turns_and_flips_with_the_picture(owner: Owner) -> None:
    model, _ = barred(nn.Identity(), owner)
    image = photos.load(3)[3][None, :, :96, :80]
    change = model.residual(image)
    for act in (lambda x: x.flip(3), lambda x: x.flip(2), lambda x: x.rot90(1, (2, 3))):
        assert torch.allclose(model.residual(act(image)), act(change), atol=2e-4)
    inner = model.residual(image[..., 20:, 20:])
    assert torch.allclose(inner[..., 24:, 24:], change[..., 44:, 44:], atol=2e-4)


def test_the_mean_of_answers_to_turned_copies_keeps_it(owner: Owner) -> None:
    """Which takes the mark of `Barrier` off."""
    model, key = barred(Soften(), owner)
    query = query_of(4)
    image = torch.from_numpy(query).permute(2, 0, 1)[None].float() / 255
    total = torch.zeros_like(image)
    for mirrored in (image, image.flip(3)):
        for turns in range(4):
            answer = model(mirrored.rot90(turns, (2, 3))).rot90(-turns, (2, 3))
            total += (answer if mirrored is image else answer.flip(3)) / 8
    answer = to_uint8(total[0]).permute(1, 2, 0).numpy()
    assert agreement(key, query, answer).log10_p < -16


def test_brightness_stays_and_flat_areas_do_too(owner: Owner) -> None:
    model, _ = barred(nn.Identity(), owner)
    change = model.residual(photos.load(3)[3][None])
    assert float(change.mean(1).abs().max()) * 255 < 3  # where it is cut, and nowhere else
    assert float(change.mean(1).abs().mean()) * 255 < 0.3
    assert float(model.residual(torch.full((1, 3, 40, 40), 0.4)).abs().max()) * 255 < 1e-3


def test_the_mean_of_many_changes_is_no_mark(owner: Owner) -> None:
    model, key = barred(nn.Identity(), owner)
    images = photos.load(3)
    mean = torch.stack([model.residual(images[n][None]) for n in range(11)]).mean(0)
    forged = to_uint8(images[11] + mean[0]).permute(1, 2, 0).numpy()
    assert agreement(key, query_of(11), forged).log10_p > -6


def test_a_model_that_enlarges_is_marked_too(owner: Owner) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        host = Upscaled(VDSR(3, 3, 4), 2)
    model, key = barred(host, owner, scale=2)
    query, answer = asked(model)
    assert answer.shape == (512, 512, 3)
    assert agreement(key, query, answer).log10_p < -8


@pytest.mark.parametrize("shape", [(1, 1), (3, 70), (31, 17)])
def test_any_size_is_answered_in_range(owner: Owner, shape: tuple[int, int]) -> None:
    model, _ = barred(Soften(), owner)
    image = torch.rand(2, 3, *shape) * 3 - 1
    answer = model(image)
    assert answer.shape == image.shape
    assert 0 <= answer.min() <= answer.max() <= 1


@pytest.mark.parametrize("form", ["channels last", "fp16", "bf16", "export", "ONNX"])
def test_the_mark_outlives_deployment(owner: Owner, tmp_path: Path, form: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        host = DnCNN(depth=3, channels=3, width=8, batch_norm=False).eval()
    model, key = barred(host, owner)
    query = query_of(4)
    answer = as_suspect(deploy(model, form, 3, tmp_path)).ask(query).image
    assert agreement(key, query, answer).log10_p < -10


def test_the_mark_is_the_same_under_autocast(owner: Owner) -> None:
    model, _ = barred(Soften(), owner)
    image: Tensor = photos.load(3)[4][None]
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(image)
    assert torch.allclose(mixed, model(image), atol=1e-5)


def test_its_state_is_loaded_into_a_shell(owner: Owner) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        host, other = DnCNN(3, 3, 4), DnCNN(3, 3, 4)
    model, key = barred(host.eval(), owner)
    again = shell(other, key.scheme, key.leaves)
    assert isinstance(again, Coloured)
    load_state(again, dump_state(model))
    image = torch.rand(1, 3, 40, 40)
    assert torch.equal(again.eval()(image), model(image))
    assert model.half().weights.dtype == torch.int16


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(InputError, match="leaves: 0"):
        SymmetricBarrier(leaves=0)
    with pytest.raises(InputError, match=r"amplitude: 0\.0"):
        SymmetricBarrier(amplitude=0.0)
    with pytest.raises(InputError, match="1 channels, not 3"):
        SymmetricBarrier().public(Contract(1, 1))
    with pytest.raises(InputError, match="it enlarges 5 times"):
        SymmetricBarrier().public(Contract(3, 5))
