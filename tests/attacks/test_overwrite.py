from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
import torch
from attack_tester import AttackTester, differences
from torch import nn

import modelguard as mg
from modelguard.attacks import Attack, Loot, Overwrite, evaluate
from modelguard.datasets import Downscale, GaussianNoise, ImageSet, Task
from modelguard.errors import InputError, ModelContractError
from modelguard.evidence import Decoder, Key
from modelguard.networks import VDSR, Upscaled
from modelguard.protecting import Protected
from modelguard.schemes import Contract, EmbedReport, TriggerKey, keyed_cells

BRIEF = TriggerKey(leaves=1, per_query=1, steps=2, batch=2, patch=16, lr=1e-2)


class TestOverwrite(AttackTester):
    def attack(self) -> Attack:
        return Overwrite(2, scheme=BRIEF)

    def bad(self) -> Sequence[tuple[Callable[[], Attack], str]]:
        return [(lambda: Overwrite(0), "keys"), (lambda: Overwrite(-1), "keys")]

    def test_the_same_attack_gives_the_same_copy(self, model: nn.Module, loot: Loot) -> None:
        """It must not: a thief's keys are random like all keys, and no seed may fix them."""
        one, two = (self.attack()(model, loot) for _ in range(2))
        assert differences(one, two) != []


@dataclass
class Recorder:
    """A scheme that only notes what it is asked to embed."""

    leaves: int = 3
    decoder: Decoder = keyed_cells.DECODER
    contracts: list[Contract] = field(default_factory=list)
    keys: list[Key] = field(default_factory=list)

    def public(self, contract: Contract) -> dict[str, int | str]:
        self.contracts.append(contract)
        return keyed_cells.public(channels=contract.channels, scale=contract.scale)

    def embed(
        self, host: nn.Module, key: Key, images: ImageSet, task: Task, progress: str | None
    ) -> EmbedReport:
        assert all(p.requires_grad for p in host.parameters())
        self.keys.append(key)
        return EmbedReport(0, 0.0, (), {})


def test_every_key_is_fresh_and_fits_the_model(photos: ImageSet) -> None:
    scheme = Recorder()
    host = Upscaled(VDSR(3, 1, 4), 2).requires_grad_(False)
    Overwrite(3, scheme=scheme)(host, Loot(photos, Downscale(2)))
    assert scheme.contracts == [Contract(1, 2)]
    assert len({key.master for key in scheme.keys}) == 3
    assert {key.leaves for key in scheme.keys} == {3}
    assert {key.scheme["scale"] for key in scheme.keys} == {2}


def test_images_of_other_channels_are_refused(colour_photos: ImageSet, tiny: nn.Module) -> None:
    with pytest.raises(ModelContractError):
        Overwrite(scheme=BRIEF)(tiny, Loot(colour_photos, GaussianNoise(25)))


def test_small_images_are_refused(tiny: nn.Module) -> None:
    loot = Loot(ImageSet.of([torch.rand(1, 12, 12)]), GaussianNoise(25))
    with pytest.raises(InputError, match="patches need 16"):
        Overwrite(scheme=BRIEF)(tiny, loot)


def test_a_mark_is_measured_before_and_after(protected: Protected, photos: ImageSet) -> None:
    def strength(model: nn.Module) -> float:
        return mg.verify(model, protected.key).log10_p_adj

    loot = Loot(photos, GaussianNoise(25))
    result = evaluate(Overwrite(1, scheme=BRIEF), protected.model, loot, photos, strength)
    assert result.attack == "overwrite with 1"
    assert result.log10_p_before < -6
    assert result.log10_p_after <= 0
    assert result.details["keys"] == 1
    assert result.details["scheme"]["steps"] == 2


class OnlyNoisy(nn.Module):
    """A denoiser that answers pictures without noise wildly, as one that was marked many times may."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        rough = bool((image[..., 1:] - image[..., :-1]).std() > 0.1)
        answer: torch.Tensor = self.inner(image)
        return answer if rough else 100 * answer - 500


def test_a_model_is_probed_with_what_it_is_meant_for(tiny: nn.Module, photos: ImageSet) -> None:
    scheme = Recorder()
    Overwrite(2, scheme=scheme)(OnlyNoisy(tiny), Loot(photos, GaussianNoise(25)))
    assert len(scheme.keys) == 2
