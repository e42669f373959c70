from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from photo_reading import Soften, agreement
from torch import nn

from modelguard import photos
from modelguard.benchmarks.parity import deploy
from modelguard.datasets import to_uint8
from modelguard.errors import InputError
from modelguard.evidence import Key, Owner
from modelguard.networks import VDSR, DnCNN, Upscaled
from modelguard.schemes import Barrier, Contract, WaveBarrier, shell
from modelguard.schemes.barrier import Barred, Filtered
from modelguard.schemes.wave_barrier import Waved
from modelguard.suspects import as_suspect
from modelguard.weights import dump_state, load_state

Kind = type[Barrier] | type[WaveBarrier]
both = pytest.mark.parametrize("kind", [Barrier, WaveBarrier])


def barred(
    kind: Kind, host: nn.Module, owner: Owner, channels: int = 1, scale: int = 1
) -> tuple[Filtered | Waved, Key]:
    scheme = kind()
    public = scheme.public(Contract(channels, scale))
    key = Key.create(owner, public, scheme.leaves, decoder=scheme.decoder, log2_n=1)
    return scheme.attach(host, key), key


def asked(model: nn.Module, number: int, channels: int) -> tuple[Any, Any]:
    query = photos.load(channels).images[number].permute(1, 2, 0).contiguous().numpy()
    return query, as_suspect(model).ask(query).image


@pytest.mark.parametrize(
    ("kind", "share", "log10_p", "psnr", "limit"),
    [(Barrier, 0.85, -24 - 6, 38, 6), (WaveBarrier, 220 / 256, -24 - 6, 42, 4 * 2.3)],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_one_photo_shows_the_mark_and_hardly_changes(
    owner: Owner, channels: int, kind: Kind, share: float, log10_p: float, psnr: float, limit: float
) -> None:
    host = Soften()
    model, key = barred(kind, host, owner, channels)
    query, answer = asked(model, 4, channels)
    test = agreement(key, query, answer)
    assert test.matches > share * test.bits
    assert test.log10_p < log10_p  # the waves': what 60 bits of search and 10^-6 ask for
    unmarked = asked(host, 4, channels)[1]
    error = np.square(answer.astype(float) - unmarked).mean()
    assert 10 * np.log10(255**2 / error) > psnr
    assert abs(answer.astype(int) - unmarked).max() <= limit + 1
    stranger = barred(kind, host, owner, channels)[1]
    for one in (agreement(key, query, unmarked), agreement(stranger, query, answer)):
        assert one.log10_p > -6
        assert kind is Barrier or one.matches < 160


@pytest.mark.parametrize(("kind", "share"), [(Barrier, 0.75), (WaveBarrier, 200 / 256)])
def test_a_model_that_enlarges_is_marked_too(owner: Owner, kind: Kind, share: float) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        host = Upscaled(VDSR(3, 1, 4), 2)
    model, key = barred(kind, host, owner, scale=2)
    query, answer = asked(model, 4, 1)
    assert answer.shape == (512, 512, 1)
    test = agreement(key, query, answer)
    assert test.log10_p < -8
    assert test.matches > share * test.bits


@both
@pytest.mark.parametrize("shape", [(1, 1), (3, 70), (31, 17), (64, 64)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_is_answered_in_range(
    owner: Owner, shape: tuple[int, int], channels: int, kind: Kind
) -> None:
    model, _ = barred(kind, Soften(), owner, channels)
    image = torch.rand(2, channels, *shape) * 3 - 1
    answer = model(image)
    assert answer.shape == image.shape
    assert 0 <= answer.min() <= answer.max() <= 1
    assert torch.allclose(answer[:1], model(image[:1]), atol=1e-6)  # a batch may be summed in another order


def test_it_moves_with_the_picture_and_turned_by_half_is_negative(owner: Owner) -> None:
    """A crop does not take it off; whoever averages a picture's answers over half-turns does."""
    model, _ = barred(Barrier, nn.Identity(), owner)
    image = photos.load(1)[3][None, :, :96, :80]
    change = model.residual(image)
    assert torch.allclose(model.residual(image.rot90(2, (2, 3))), -change.rot90(2, (2, 3)), atol=2e-4)
    inner = model.residual(image[..., 20:, 20:])
    assert torch.allclose(inner[..., 24:, 24:], change[..., 44:, 44:], atol=2e-4)


def test_waves_turn_and_move_with_the_picture(owner: Owner) -> None:
    """Flips do not average them away, and a crop does not take them off."""
    model, _ = barred(WaveBarrier, nn.Identity(), owner)
    image = photos.load(1)[3][None, :, :96, :80]
    change = model.residual(image)
    for act in (lambda x: x.flip(3), lambda x: x.flip(2), lambda x: x.rot90(1, (2, 3))):
        assert torch.allclose(model.residual(act(image)), act(change), atol=2e-4)
    inner = model.residual(image[..., 20:, 20:])
    assert torch.allclose(inner[..., 24:, 24:], change[..., 44:, 44:], atol=2e-4)


@both
def test_the_mean_of_many_changes_is_no_mark(owner: Owner, kind: Kind) -> None:
    """Whoever adds the mean residual of other photos to a photo does not forge a match."""
    model, key = barred(kind, nn.Identity(), owner)
    images = photos.load(1)
    mean = torch.stack([model.residual(images[n][None]) for n in range(11)]).mean(0)
    forged = to_uint8(images[11] + mean[0]).permute(1, 2, 0).numpy()
    query = images.images[11].permute(1, 2, 0).contiguous().numpy()
    assert agreement(key, query, forged).log10_p > -6


@pytest.mark.parametrize(
    ("kind", "least", "lost", "log10_p"), [(Barrier, 0, 16, -10), (WaveBarrier, 180, 30, -20)]
)
@pytest.mark.parametrize("form", ["channels last", "fp16", "bf16", "export", "ONNX"])
def test_the_mark_outlives_deployment(
    owner: Owner, tmp_path: Path, form: str, kind: Kind, least: int, lost: int, log10_p: float
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        host = DnCNN(depth=3, width=8, batch_norm=False).eval()
    model, key = barred(kind, host, owner)
    deployed = deploy(model, form, 1, tmp_path)
    query = photos.load(1).images[4].permute(1, 2, 0).contiguous().numpy()
    here, there = (as_suspect(one).ask(query).image for one in (model, deployed))
    one, two = (agreement(key, query, answer) for answer in (here, there))
    assert two.matches > max(least, one.matches - lost)
    assert two.log10_p < log10_p


@both
def test_the_mark_is_the_same_under_autocast(owner: Owner, kind: Kind) -> None:
    model, _ = barred(kind, Soften(), owner)
    image = photos.load(1)[4][None]
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(image)
    assert torch.allclose(mixed, model(image), atol=1e-5)


@both
def test_its_state_is_loaded_into_a_shell(owner: Owner, kind: Kind) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        host, other = DnCNN(3, 1, 4), DnCNN(3, 1, 4)
    model, key = barred(kind, host.eval(), owner)
    assert model.host is host
    again = shell(other, key.scheme, key.leaves)
    assert isinstance(again, Barred)
    load_state(again, dump_state(model))
    image = torch.rand(1, 1, 40, 40)
    assert torch.equal(again.eval()(image), model(image))
    half = model.half()
    numbers = (half.weights,) if isinstance(half, Filtered) else (half.numbers, half.signs)
    assert {one.dtype for one in numbers} == {torch.int16 if kind is Barrier else torch.int8}
    assert half(image.half()).dtype == torch.float16


@pytest.mark.parametrize(
    ("kind", "how", "says"),
    [
        (Barrier, {"leaves": 0}, "leaves: 0"),
        (WaveBarrier, {"leaves": 2}, "per_session: 4 of 2 leaves"),
        (WaveBarrier, {"leaves": 20, "per_session": 17}, "per_session: 17"),
        (Barrier, {"amplitude": 0.0}, "amplitude: 0.0"),
        (WaveBarrier, {"amplitude": float("nan")}, "amplitude: nan"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(kind: Kind, how: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        kind(**how)


@both
def test_a_host_that_enlarges_too_much_is_refused(kind: Kind) -> None:
    with pytest.raises(InputError, match="it enlarges 5 times"):
        kind().public(Contract(1, 5))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_traced_model_marks_as_it_did(owner: Owner, channels: int) -> None:
    model = barred(Barrier, Soften(), owner, channels)[0].eval()
    image = torch.rand(1, channels, 40, 48)
    traced = torch.jit.trace(model, image, check_trace=False)
    torch.testing.assert_close(traced(image), model(image))
