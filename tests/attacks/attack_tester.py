"""What every attack must pass: subclass `AttackTester` once for each."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import nn

from modelguard.attacks import Attack, Loot
from modelguard.datasets import GaussianNoise, ImageSet
from modelguard.errors import InputError
from modelguard.networks import RED, DnCNN


def differences(one: nn.Module, two: nn.Module) -> list[str]:
    """Return the names of tensors that differ; both must have the same names, shapes and types."""
    a, b = one.state_dict(), two.state_dict()
    assert {k: (v.shape, v.dtype) for k, v in a.items()} == {k: (v.shape, v.dtype) for k, v in b.items()}
    return [key for key in a if not torch.equal(a[key], b[key])]


class AttackTester(ABC):
    """Override `attack` (small enough to run in a second) and `bad`."""

    @abstractmethod
    def attack(self) -> Attack:
        """Return a new attack, the same each time, that changes any model noticeably."""

    @abstractmethod
    def bad(self) -> Sequence[tuple[Callable[[], Attack], str]]:
        """Return constructions that must fail and the argument each error names."""

    @pytest.fixture(params=["batch norm", "transposed", "training"])
    def model(self, request: pytest.FixtureRequest) -> nn.Module:
        """A grey restorer with all that hosts are made of."""
        with torch.random.fork_rng():
            torch.manual_seed(1)
            net = RED(width=4) if request.param == "transposed" else DnCNN(depth=4, width=8)
        return net.train(request.param == "training")

    @pytest.fixture
    def loot(self, photos: ImageSet) -> Loot:
        """What the thief has."""
        return Loot(photos, GaussianNoise(25))

    def test_the_given_model_is_left_alone(self, model: nn.Module, loot: Loot) -> None:
        before, modes = copy.deepcopy(model), [module.training for module in model.modules()]
        flags = [p.requires_grad for p in model.parameters()]
        attacked = self.attack()(model, loot)
        assert differences(model, before) == []
        assert [module.training for module in model.modules()] == modes
        assert [p.requires_grad for p in model.parameters()] == flags
        assert all(p.grad is None for p in model.parameters())
        own = {p.data_ptr() for p in model.parameters()}
        assert not own & {p.data_ptr() for p in attacked.parameters()}

    def test_the_copy_is_a_working_model_of_the_same_make(self, model: nn.Module, loot: Loot) -> None:
        attacked = self.attack()(model, loot)
        assert type(attacked) is type(model)
        assert differences(model, attacked) != []
        assert not any(module.training for module in attacked.modules())
        assert [p.device for p in attacked.parameters()] == [p.device for p in model.parameters()]
        answer = attacked(loot.images[0][None])
        assert answer.shape == loot.images[0][None].shape
        assert answer.isfinite().all()

    def test_the_same_attack_gives_the_same_copy(self, model: nn.Module, loot: Loot) -> None:
        one = self.attack()(model, loot)
        torch.rand(5)  # nothing hangs on the global generator
        assert differences(one, self.attack()(model, loot)) == []

    def test_attacks_can_follow_each_other(self, model: nn.Module, loot: Loot) -> None:
        again = self.attack()(self.attack()(model, loot), loot)
        assert again(loot.images[0][None]).isfinite().all()

    def test_the_name_is_short(self) -> None:
        assert 0 < len(self.attack().name) <= 40

    def test_bad_arguments_are_named(self) -> None:
        for build, name in self.bad():
            with pytest.raises(InputError, match=name):
                build()
