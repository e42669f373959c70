from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
from attack_tester import AttackTester, differences
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from modelguard.attacks import (
    Attack,
    AttackResult,
    FineTune,
    HalfPrecision,
    Int8,
    Loot,
    Prune,
    WeightNoise,
    evaluate,
)
from modelguard.datasets import BicubicLoss, GaussianNoise, ImageSet
from modelguard.errors import InputError, TrainingDivergedError
from modelguard.metrics import quality
from modelguard.networks import RED, VDSR

Bad = Sequence[tuple[Callable[[], Attack], str]]


class TestFineTune(AttackTester):
    def attack(self) -> Attack:
        return FineTune(steps=3, batch=2, lr=1e-3, patch=16, seed=4)

    def bad(self) -> Bad:
        return [
            (lambda: FineTune(steps=0), "steps"),
            (lambda: FineTune(batch=0), "batch"),
            (lambda: FineTune(patch=0), "patch"),
            (lambda: FineTune(lr=0.0), "lr"),
            (lambda: FineTune(lr=math.nan), "lr"),
        ]


class TestPrune(AttackTester):
    def attack(self) -> Attack:
        return Prune(0.3)

    def bad(self) -> Bad:
        return [
            (lambda: Prune(-0.1), "rate"),
            (lambda: Prune(1.1), "rate"),
            (lambda: Prune(math.nan), "rate"),
        ]


class TestHalfPrecision(AttackTester):
    def attack(self) -> Attack:
        return HalfPrecision()

    def bad(self) -> Bad:
        return []


class TestInt8(AttackTester):
    def attack(self) -> Attack:
        return Int8()

    def bad(self) -> Bad:
        return []


class TestWeightNoise(AttackTester):
    def attack(self) -> Attack:
        return WeightNoise(0.1, seed=3)

    def bad(self) -> Bad:
        return [
            (lambda: WeightNoise(-0.1), "relative_sigma"),
            (lambda: WeightNoise(math.inf), "relative_sigma"),
        ]


@pytest.fixture
def loot(photos: ImageSet) -> Loot:
    """What the thief has."""
    return Loot(photos, GaussianNoise(25))


@pytest.fixture
def zoo() -> nn.Module:
    """Every kind of layer with weights."""
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Conv2d(4, 6, 3, groups=2),
        nn.ConvTranspose2d(6, 8, 3, groups=2),
        nn.ConvTranspose2d(8, 5, 3),
        nn.Conv3d(5, 2, 1),
        nn.Linear(7, 3),
        nn.BatchNorm2d(3),
    )


WEIGHTS = ["0.weight", "1.weight", "2.weight", "3.weight", "4.weight"]


def test_fine_tuning_learns(tiny: nn.Module, loot: Loot, photos: ImageSet) -> None:
    tuned = FineTune(steps=60, batch=8, lr=3e-3, patch=16)(tiny, loot)
    assert quality(tuned, photos, loot.task).psnr > quality(tiny, photos, loot.task).psnr + 1


def test_fine_tuning_changes_batch_norm_too(tiny: nn.Module, loot: Loot) -> None:
    changed = differences(tiny, FineTune(steps=2, batch=2, patch=16)(tiny, loot))
    assert set(changed) == set(tiny.state_dict())


def test_fine_tuning_frees_frozen_weights(tiny: nn.Module, loot: Loot) -> None:
    tiny.requires_grad_(False)
    assert "body.0.weight" in differences(tiny, FineTune(steps=1, batch=2, patch=16)(tiny, loot))


def test_fine_tuning_is_seeded(tiny: nn.Module, loot: Loot) -> None:
    one, two = (FineTune(steps=1, batch=2, patch=16, seed=seed)(tiny, loot) for seed in (0, 1))
    assert differences(one, two) != []


def test_fine_tuning_serves_super_resolution(photos: ImageSet) -> None:
    """Patches of a side that not every scale divides."""
    FineTune(steps=3, batch=4, patch=40)(VDSR(depth=3, width=4), Loot(photos, BicubicLoss((2, 3, 4))))


def test_fine_tuning_too_fast_is_reported_not_softened(loot: Loot) -> None:
    net = RED(width=4)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1e19)
    with pytest.raises(TrainingDivergedError):
        FineTune(steps=5, batch=2, patch=16)(net, loot)


def test_fine_tuning_takes_uneven_images_as_they_come() -> None:
    """A textured patch among flat ones costs far more than the median; nothing is rolled back for it."""
    flat, noise = torch.full((1, 16, 16), 0.5), torch.rand(1, 16, 16)
    loot = Loot(ImageSet.of([flat] * 30 + [noise]), BicubicLoss((4,)))
    net = nn.Conv2d(1, 1, 1)
    with torch.no_grad():
        net.weight.fill_(1)
        net.bias.zero_()  # type: ignore[union-attr]
    FineTune(steps=300, batch=1, lr=1e-9, patch=16)(net, loot)


def test_fine_tuning_needs_images_of_a_patch(tiny: nn.Module, loot: Loot) -> None:
    with pytest.raises(InputError, match="patches need 49"):
        FineTune(patch=49)(tiny, loot)


@pytest.mark.parametrize("rate", [0.0, 0.25, 1.0])
def test_pruning_takes_the_smallest_of_each_layer(rate: float, zoo: nn.Module, loot: Loot) -> None:
    pruned = Prune(rate)(zoo, loot).state_dict()
    for name, value in zoo.state_dict().items():
        gone = (pruned[name] == 0) & (value != 0)
        assert torch.equal(pruned[name][~gone], value[~gone])
        if name in WEIGHTS:
            assert int(gone.sum()) == round(rate * value.numel())
            if gone.any() and not gone.all():
                assert value[gone].abs().max() <= value[~gone].abs().min()
        else:
            assert not gone.any()


def test_pruning_handles_channels_last(zoo: nn.Module, loot: Loot) -> None:
    plain = Prune(0.5)(zoo[:3], loot)  # type: ignore[index]
    other = Prune(0.5)(copy.deepcopy(zoo[:3]).to(memory_format=torch.channels_last), loot)  # type: ignore[index]
    assert differences(plain, other) == []


def test_half_precision_rounds_everything_and_nothing_twice(zoo: nn.Module, loot: Loot) -> None:
    rounded = HalfPrecision()(zoo, loot)
    for name, value in zoo.state_dict().items():
        assert torch.equal(rounded.state_dict()[name], value.half().to(value.dtype))
    assert differences(rounded, HalfPrecision()(rounded, loot)) == []


def test_int8_keeps_255_levels_for_each_output_channel(zoo: nn.Module, loot: Loot) -> None:
    rounded = Int8()(zoo, loot)
    assert differences(zoo, rounded) == WEIGHTS
    channels: dict[str, Callable[[Tensor], Tensor]] = {  # the output channels of each layer, one row each
        "0.weight": lambda w: w.flatten(1),
        "1.weight": lambda w: torch.cat([w[:3].transpose(0, 1), w[3:].transpose(0, 1)]).flatten(1),
        "2.weight": lambda w: w.transpose(0, 1).flatten(1),
        "3.weight": lambda w: w.flatten(1),
        "4.weight": lambda w: w,
    }
    for name, rows in channels.items():
        before, after = rows(zoo.state_dict()[name]), rows(rounded.state_dict()[name])
        scale = before.abs().amax(1, keepdim=True) / 127
        levels = after / scale
        torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)
        assert ((after - before).abs() <= scale * 0.5001).all()


def test_int8_leaves_dead_channels_dead(loot: Loot) -> None:
    layer = nn.Conv2d(1, 2, 3)
    with torch.no_grad():
        layer.weight[0] = 0
    assert Int8()(layer, loot).state_dict()["weight"][0].eq(0).all()


def test_weight_noise_is_relative_to_each_layer(loot: Loot) -> None:
    net = nn.Sequential(nn.Conv2d(8, 64, 3), nn.Linear(50, 90))
    with torch.no_grad():
        net[1].weight.mul_(100)  # type: ignore[operator]
    noisy = WeightNoise(0.05, seed=1)(net, loot)
    for name in ("0.weight", "1.weight"):
        value, noise = net.state_dict()[name], noisy.state_dict()[name] - net.state_dict()[name]
        assert float(noise.std() / value.square().mean().sqrt()) == pytest.approx(0.05, rel=0.05)
    assert differences(net, noisy) == ["0.weight", "1.weight"]
    assert differences(noisy, WeightNoise(0.05, seed=2)(net, loot)) != []


@pytest.mark.parametrize("attack", [Prune(0.5), Int8(), WeightNoise(0.1)])
def test_weights_that_cannot_be_set_are_no_silent_success(attack: Attack, loot: Loot) -> None:
    with pytest.raises(InputError, match="'1' is computed"):
        attack(nn.Sequential(nn.Conv2d(1, 2, 3), weight_norm(nn.Conv2d(2, 1, 3))), loot)
    with pytest.raises(InputError, match="no convolution"):
        attack(nn.PReLU(), loot)


def test_evaluate_sets_quality_beside_strength(tiny: nn.Module, loot: Loot, photos: ImageSet) -> None:
    def strength(model: nn.Module) -> float:
        return -float(sum((p != 0).sum() for p in model.parameters()))

    result = evaluate(Prune(0.9), tiny, loot, photos, strength, border=2)
    assert result.attack == "prune 0.9"
    assert result.details == {"rate": 0.9}
    assert result.psnr_before == quality(tiny, photos, loot.task, border=2).psnr
    assert result.psnr_after == quality(Prune(0.9)(tiny, loot), photos, loot.task, border=2).psnr
    assert result.log10_p_before == strength(tiny)
    assert result.log10_p_after > 0.5 * result.log10_p_before
    assert 0 < result.seconds < 60


@dataclass(frozen=True)
class Nested:
    """An attack with settings in settings."""

    inner: Prune
    name: str = "nested"

    def __call__(self, model: nn.Module, loot: Loot) -> nn.Module:
        return self.inner(model, loot)


def test_details_are_plain_values(tiny: nn.Module, loot: Loot, photos: ImageSet) -> None:
    result = evaluate(Nested(Prune(0.5)), tiny, loot, photos, lambda model: 0.0)
    assert result.details == {"inner": {"rate": 0.5}, "name": "nested"}


def test_details_leave_out_what_does_not_matter(tiny: nn.Module, loot: Loot, photos: ImageSet) -> None:
    attack = FineTune(steps=1, batch=2, patch=16)
    result: AttackResult = evaluate(attack, tiny, loot, photos, lambda model: 0.0)
    assert result.details == {"steps": 1, "batch": 2, "lr": 1e-4, "patch": 16, "seed": 0}
    assert attack == FineTune(steps=1, batch=2, patch=16, progress="a bar")
