from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import modelguard as mg
from modelguard.datasets import GaussianNoise, ImageSet, to_uint8
from modelguard.errors import InputError, ModelContractError
from modelguard.evidence import Key, Owner
from modelguard.networks import VDSR, DnCNN, Upscaled
from modelguard.protecting import Protected
from modelguard.schemes import Contract, TriggerKey, keyed_cells, probe
from modelguard.schemes.trigger_key import MarkObjective
from modelguard.statistics import clopper_pearson, sign_test
from modelguard.suspects import ModuleSuspect


def make_key(owner: Owner, scheme: TriggerKey, channels: int = 1, scale: int = 1) -> Key:
    public = scheme.public(Contract(channels, scale))
    return Key.create(owner, public, scheme.leaves, decoder=scheme.decoder, log2_n=1)


def log10_p(model: nn.Module, key: Key, leaves: int = 2) -> float:
    """Return log10 p, uncorrected, of one query with the first leaves of a key."""
    secrets = [key.leaf(leaf) for leaf in range(leaves)]
    own = [secret for secret, _ in secrets]
    answer = ModuleSuspect(model).ask(keyed_cells.trigger(key.scheme, own, key.salt)).image
    assert answer is not None
    signs = [keyed_cells.bits(key.scheme, secret, key.salt) for _, secret in secrets]
    return sign_test(np.concatenate(signs), keyed_cells.decode(key.scheme, own, key.salt, answer)).log10_p


class UNet(nn.Module):
    """A U-Net around a timm encoder: its strided features, joined upwards, refine the image."""

    def __init__(self, name: str, width: int = 8) -> None:
        super().__init__()
        self.encoder = timm.create_model(name, features_only=True, pretrained=False, out_indices=(0, 1, 2))
        channels = self.encoder.feature_info.channels()
        self.inward = nn.ModuleList(nn.Conv2d(count, width, 1) for count in channels)
        self.join = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in channels)
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        below: Tensor | None = None
        steps = zip(self.encoder(image), self.inward, self.join, strict=True)
        for features, inward, join in reversed(list(steps)):
            x = inward(features)
            if below is not None:
                x = x + F.interpolate(below, size=x.shape[2:])
            below = join(x).relu()
        assert below is not None
        out: Tensor = self.last((F.interpolate(below, size=image.shape[2:]) + self.first(image)).relu())
        return image + out


def pixel_shuffle(scale: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, scale**2, 3, padding=1),
        nn.PixelShuffle(scale),
    )


QUICK = TriggerKey(leaves=2, per_query=2, steps=100, batch=2, patch=16, lr=1e-2, amplitude=0.1, fidelity=1.0)
HOSTS: dict[str, tuple[Callable[[], nn.Module], TriggerKey]] = {
    "plain": (lambda: DnCNN(4, 1, 16, batch_norm=False), QUICK),
    "batch norm": (lambda: DnCNN(4, 1, 16), QUICK),
    "colour": (lambda: DnCNN(3, 3, 16, batch_norm=False), QUICK),
    "x2": (lambda: Upscaled(VDSR(3, 1, 16), 2), replace(QUICK, steps=200)),
    "x3": (lambda: pixel_shuffle(3), replace(QUICK, patch=18, steps=200)),
    "timm U-Net": (lambda: UNet("resnet10t"), replace(QUICK, patch=32, steps=40)),
}


@pytest.mark.parametrize("name", HOSTS)
def test_any_host_can_be_marked(name: str, photos: ImageSet, colour_photos: ImageSet, owner: Owner) -> None:
    build, scheme = HOSTS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        host = build().train()
    before = copy.deepcopy(host.state_dict())
    data = colour_photos if name in ("colour", "timm U-Net") else photos
    protected = mg.protect(host, scheme, data=data, owner=owner, stretch=10)

    assert mg.verify(protected.model, protected.key).match
    assert not mg.verify(host, protected.key).match
    contract = probe(host, data[0])
    strangers = [make_key(owner, scheme, contract.channels, contract.scale) for _ in range(3)]
    assert min(log10_p(protected.model, key) for key in strangers) > -5

    assert all(torch.equal(value, before[key]) for key, value in host.state_dict().items())
    assert host.training
    after = protected.model.state_dict()
    statistics = [key for key in after if "running" in key or "num_batches" in key]
    assert bool(statistics) == (name in ("batch norm", "timm U-Net"))
    assert all(torch.equal(after[key], before[key]) for key in statistics)
    image = data[0][None]
    assert protected.model(image).shape == host.eval()(image).shape


def test_the_mark_is_read_in_evaluation_mode_whatever_mode_the_model_is_in(
    photos: ImageSet, owner: Owner
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        host = DnCNN(4, 1, 16)
    key = make_key(owner, QUICK)
    QUICK.embed(host, key, photos, GaussianNoise(25))
    assert not host.training
    strength = log10_p(host, key)
    assert strength < -30
    host.train()
    assert log10_p(host, key) == strength
    assert host.training


def test_embedding_is_the_same_each_time(photos: ImageSet, owner: Owner, tiny: nn.Module) -> None:
    key, scheme = make_key(owner, QUICK), replace(QUICK, steps=3, perturb=0.1, prune=0.3)
    one, two, three = (copy.deepcopy(tiny) for _ in range(3))
    report = scheme.embed(one, key, photos, GaussianNoise(25))
    torch.rand(3)
    scheme.embed(two, key, photos, GaussianNoise(25))
    replace(scheme, seed=1).embed(three, key, photos, GaussianNoise(25))
    assert report.steps == 3
    assert report.rollbacks == ()
    assert set(report.scalars) == {"loss", "change", "amplitude", "bits"}
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), three.parameters(), strict=True))


def test_fidelity_holds_ordinary_answers(photos: ImageSet, owner: Owner, tiny: nn.Module) -> None:
    change = {}
    for weight in (0.0, 1e4):
        host, scheme = copy.deepcopy(tiny), replace(QUICK, steps=40, fidelity=weight)
        scheme.embed(host, make_key(owner, scheme), photos, GaussianNoise(25))
        with torch.no_grad():
            change[weight] = float((host(photos[0][None]) - tiny.eval()(photos[0][None])).square().mean())
    assert change[1e4] < 0.1 * change[0.0]


# --- the objective


@pytest.mark.parametrize(("channels", "scale"), [(1, 1), (3, 1), (1, 2), (1, 3), (3, 4)])
@pytest.mark.parametrize("count", [1, 3, 4])
def test_what_is_trained_is_what_is_decoded(channels: int, scale: int, count: int, owner: Owner) -> None:
    """The differentiable scores are the integer ones, but for a factor that depends on the carrier alone."""
    scheme = TriggerKey(leaves=4)
    key = make_key(owner, scheme, channels, scale)
    objective = MarkObjective(scheme, key, nn.Conv2d(1, 1, 1))
    chosen = torch.tensor([2, 0, 3, 1])[:count]
    secrets = [key.leaf(int(leaf)) for leaf in chosen]
    own = [secret for secret, _ in secrets]

    query = objective.query(chosen)
    trigger = keyed_cells.trigger(key.scheme, own, key.salt)
    assert torch.equal(to_uint8(query)[0].permute(1, 2, 0), torch.from_numpy(trigger))

    rows, columns = keyed_cells.grid(count)
    generator = torch.Generator().manual_seed(count)
    side = int(key.scheme["size"]) * scale
    response = torch.randint(256, (1, channels, rows * side, columns * side), generator=generator)
    answer = (response / 255).mean(1, keepdim=True).requires_grad_(True)
    scores = objective.scores(answer, query, chosen)
    integers = keyed_cells.decode(
        key.scheme, own, key.salt, response[0].permute(1, 2, 0).numpy().astype(np.uint8)
    )
    norms = np.linalg.norm(keyed_cells.carriers(key.scheme, own, key.salt), axis=2).ravel()
    carried = norms > 0
    wanted, found = integers[carried] / norms[carried], scores.detach().double().numpy()[carried]
    assert np.corrcoef(wanted, found)[0, 1] > 0.9999
    clear = np.abs(found) > 1e-3 * np.abs(found).max()
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(np.sign(found[clear]), np.sign(integers[carried][clear]))

    bits = np.concatenate([keyed_cells.bits(key.scheme, secret, key.salt) for _, secret in secrets])
    np.testing.assert_array_equal(objective.agreement_signs(chosen).numpy(), bits)
    (gradient,) = torch.autograd.grad(scores.sum(), answer)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


def step(objective: MarkObjective, model: nn.Module, batch: Any, seed: int) -> dict[str, Tensor]:
    model.zero_grad()
    torch.manual_seed(seed)
    return objective(model, batch, torch.autograd.backward)


def test_simulated_damage_is_undone_and_felt(owner: Owner, tiny: nn.Module) -> None:
    batch = (torch.rand(2, 1, 16, 16), None)
    key = make_key(owner, QUICK)
    calm, rough = (
        MarkObjective(config, key, copy.deepcopy(tiny))
        for config in (QUICK, replace(QUICK, perturb=0.3, prune=0.5))
    )
    tiny.eval()
    before = copy.deepcopy(tiny.state_dict())
    felt = 0
    for seed in range(8):
        one, two = (step(objective, tiny, batch, seed) for objective in (calm, rough))
        assert all(torch.equal(value, before[name]) for name, value in tiny.state_dict().items())
        assert torch.equal(one["change"], two["change"])  # ordinary answers are those of the whole model
        felt += not torch.equal(one["amplitude"], two["amplitude"])
    assert 0 < felt < 8


def test_pushing_ends_at_the_amplitude(owner: Owner, tiny: nn.Module) -> None:
    """A model whose answer holds every carrier strongly enough gets no more gradient from the mark."""
    key = make_key(owner, QUICK)
    objective = MarkObjective(replace(QUICK, fidelity=0.0), key, copy.deepcopy(tiny))
    chips = torch.from_numpy(keyed_cells.carriers(key.scheme, [key.leaf(i)[0] for i in range(2)], key.salt))
    signed = F.normalize(chips.float(), dim=2) * 4 * objective.signs[:, :, None]
    leaves = signed.view(2, 8, 8, 4, 4).permute(1, 3, 0, 2, 4).reshape(32, 64)

    class Perfect(nn.Module):
        def __init__(self, amplitude: float) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.tensor(amplitude))

        def forward(self, image: Tensor) -> Tensor:
            if image.shape[2:] != (64, 128):
                return image * self.gain
            order = torch.equal(to_uint8(image), to_uint8(objective.query(torch.arange(2))))
            picture = leaves if order else leaves.roll(32, 1)
            return 0.5 + self.gain * picture.repeat_interleave(2, 0).repeat_interleave(2, 1)[None, None]

    for amplitude, pushed in ((0.12, False), (0.05, True)):
        model = Perfect(amplitude)
        scalars = step(objective, model, (torch.rand(1, 1, 8, 8), None), 0)
        assert float(scalars["amplitude"].detach()) == pytest.approx(amplitude, rel=0.2)
        assert float(scalars["bits"]) > 0.99
        assert bool(model.gain.grad.abs() > 1e-3) == pushed  # type: ignore[union-attr]


# --- chance


@pytest.mark.parametrize("which", ["unmarked", "marked with another key"])
def test_fresh_keys_are_rejected_as_often_as_the_level_says(
    which: str, protected: Protected, unmarked: nn.Module
) -> None:
    """300 keys, the same each time; a level outside the bounds would be a broken test, not bad luck."""
    suspect = ModuleSuspect(unmarked if which == "unmarked" else protected.model)
    scheme = keyed_cells.public(channels=1, scale=1, size=32, per_query=4)
    found = []
    for number in range(300):
        leaves = [hashlib.sha512(bytes([leaf]) + number.to_bytes(2, "big")).digest() for leaf in range(4)]
        own, salt = [leaf[:32] for leaf in leaves], number.to_bytes(32, "big")
        signs = [keyed_cells.bits(scheme, leaf[32:], salt) for leaf in leaves]
        answer = suspect.ask(keyed_cells.trigger(scheme, own, salt)).image
        assert answer is not None
        found.append(sign_test(np.concatenate(signs), keyed_cells.decode(scheme, own, salt, answer)).log10_p)
    for level in (0.05, 0.01):
        hits = sum(value <= np.log10(level) for value in found)
        low, high = clopper_pearson(hits, len(found), 0.999)
        assert low <= level <= high
    assert min(found) > -6


# --- bad input


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("per_query", 0),
        ("per_query", 9),
        ("leaves", 3),
        ("steps", 0),
        ("batch", 0),
        ("patch", 0),
        ("lr", 0.0),
        ("lr", float("nan")),
        ("amplitude", 0.0),
        ("amplitude", float("inf")),
        ("fidelity", -1.0),
        ("perturb", -0.1),
        ("prune", 1.0),
    ],
)
def test_settings_out_of_range_are_named(name: str, value: float) -> None:
    with pytest.raises(InputError, match="per_query" if name == "leaves" else name):
        replace(TriggerKey(leaves=8, per_query=4), **{name: value})


def test_seventeen_leaves_do_not_fit_into_a_query() -> None:
    with pytest.raises(InputError, match="17 of 32"):
        TriggerKey(leaves=32, per_query=17)


def test_images_smaller_than_a_patch_are_refused(owner: Owner, tiny: nn.Module, photos: ImageSet) -> None:
    with pytest.raises(InputError, match="patches need 50"):
        replace(QUICK, patch=50).embed(tiny, make_key(owner, QUICK), photos, GaussianNoise(25))


class Strided(nn.Conv2d):
    """A net that takes sides that are multiples of 32 only."""

    def forward(self, image: Tensor) -> Tensor:
        return image - super().forward(image.unflatten(3, (-1, 32)).flatten(3))


def test_patches_of_a_size_the_host_does_not_take_are_refused(owner: Owner, photos: ImageSet) -> None:
    host, key = Strided(1, 1, 3, padding=1), make_key(owner, QUICK)
    with pytest.raises(ModelContractError, match=r"\(1, 1, 16, 16\)") as caught:
        QUICK.embed(host, key, photos, GaussianNoise(25))
    assert "patches" in caught.value.diagnostics()
    replace(QUICK, patch=32, steps=1).embed(host, key, photos, GaussianNoise(25))
