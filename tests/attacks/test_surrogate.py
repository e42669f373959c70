from __future__ import annotations

import copy
import json
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from attack_tester import AttackTester, differences
from safetensors.torch import save_file
from service import BRIEF, Smoother, psnr
from torch import Tensor, nn

from modelguard.attacks import (
    Attack,
    Loot,
    Surrogate,
    evaluate,
)
from modelguard.attacks.stolen_pairs import StolenPatches
from modelguard.attacks.surrogate_report import Exam
from modelguard.datasets import Downscale, ImagePairs, ImageSet
from modelguard.distortions import Quantise
from modelguard.errors import InputError, WeightsError
from modelguard.networks import CNet, DnCNN, Upscaled
from modelguard.training import losses


class TestSurrogate(AttackTester):
    def attack(self) -> Attack:
        return BRIEF

    def bad(self) -> Sequence[tuple[Callable[[], Attack], str]]:
        return [
            (lambda: Surrogate("vgg"), "network"),
            (lambda: Surrogate(loss="l3"), "loss: 'l3' holds l3"),
            (lambda: Surrogate(loss="l1+l1"), "loss"),
            (lambda: Surrogate(loss="adversarial"), "loss"),
            (lambda: Surrogate(augmentation="flips+melt"), "augmentation"),
            (lambda: Surrogate(share=0), "share"),
            (lambda: Surrogate(target="mine"), "target"),  # type: ignore[arg-type]
            (lambda: Surrogate(target="truth"), "mark"),
            (lambda: Surrogate(mark=Quantise()), "mark"),
            (lambda: Surrogate(steps=0), "steps"),
            (lambda: Surrogate(patience=0), "patience"),
            (lambda: Surrogate(lr=0.0), "lr"),
            (lambda: Surrogate(optimiser="sgd"), "optimiser: 'sgd'"),  # type: ignore[arg-type]
        ]

    def test_the_copy_is_a_working_model_of_the_same_make(self, model: nn.Module, loot: Loot) -> None:
        """It is a working model of the thief's own make."""
        attacked = self.attack()(model, loot)
        assert isinstance(attacked, CNet)
        assert not any(module.training for module in attacked.modules())
        answer = attacked(loot.images[0][None])
        assert answer.shape == loot.images[0][None].shape
        assert answer.isfinite().all()


def test_a_thief_learns_the_service_and_its_mark(light_loot: Loot) -> None:
    """The service adds a mark that follows the picture; the thief has it without having seen the host."""
    service, host = Smoother(0.08), Smoother()
    attack = Surrogate("cnet-8", steps=100, batch=2, patch=16, lr=5e-3, check_every=50, augmentation="crop")
    thief = attack(service, light_loot)
    exam = Exam(service, light_loot, host)
    got, innocent = exam.grade(thief), exam.grade(attack(host, light_loot))
    assert got.retained is not None
    assert innocent.retained is not None
    assert got.retained > 0.5 > 0.2 > abs(innocent.retained)


def test_the_best_network_is_kept_not_the_last(pairs: ImagePairs) -> None:
    wild = replace(BRIEF, steps=40, check_every=4, lr=0.1, patience=3)
    stolen = wild.train(pairs)
    assert stolen.best_step == max(stolen.history, key=lambda step: stolen.history[step])
    assert stolen.steps == max(stolen.history) <= 40
    question, answer = pairs[0]
    with torch.no_grad():
        assert psnr(stolen.model(question[None])[0], answer) > 10


def test_patience_ends_training(pairs: ImagePairs) -> None:
    wild = replace(BRIEF, steps=200, check_every=1, lr=0.5, patience=4)
    stolen = wild.train(pairs)
    assert stolen.steps == stolen.best_step + 4


@pytest.mark.parametrize("loss", ["l2", "l1+gradients", "l1+adversarial", "gradients+adversarial"])
def test_every_loss_trains(loss: str, pairs: ImagePairs) -> None:
    attack = replace(BRIEF, loss=loss, patch=32, steps=6)
    one, two = attack.train(pairs), replace(attack, loss="l1").train(pairs)
    assert differences(one.model, two.model) != []
    assert one.model(pairs[0][0][None]).isfinite().all()


def test_muon_and_adam_are_two_ways(pairs: ImagePairs) -> None:
    attack = replace(BRIEF, network="cnet-8", steps=6)
    one, two = attack.train(pairs), replace(attack, optimiser="adam").train(pairs)
    assert differences(one.model, two.model) != []


def test_the_perceptual_loss_wants_its_weights_at_once(
    pairs: ImagePairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str] = []
    monkeypatch.setattr(losses, "try_to_load_from_cache", lambda *names: found[0] if found else None)
    with pytest.raises(WeightsError, match="VGG-16"):
        Surrogate(loss="l1+perceptual")
    layers = {}
    for number, before, after in ((0, 3, 64), (2, 64, 64), (5, 64, 128), (7, 128, 128)):
        layers[f"features.{number}.weight"] = torch.randn(after, before, 3, 3) / (3 * before**0.5)
        layers[f"features.{number}.bias"] = torch.zeros(after)
    save_file(layers, tmp_path / "vgg.safetensors")
    found.append(str(tmp_path / "vgg.safetensors"))
    one, two = (replace(BRIEF, loss=loss).train(pairs) for loss in ("l1+perceptual", "l1"))
    assert differences(one.model, two.model) != []


def test_a_rival_needs_room(pairs: ImagePairs) -> None:
    with pytest.raises(InputError, match="patch: 16"):
        replace(BRIEF, loss="l1+adversarial").train(pairs)


def test_a_thief_may_start_from_a_network_of_his_own(pairs: ImagePairs) -> None:
    start = DnCNN(3, 1, 4).requires_grad_(False)
    before = copy.deepcopy(start)
    stolen = replace(BRIEF, network="mine", start=start).train(pairs)
    assert isinstance(stolen.model, DnCNN)
    assert differences(stolen.model, start) != []
    assert differences(start, before) == []
    first = replace(BRIEF, start=start, lr=1e-9).train(pairs).model
    torch.testing.assert_close(first.body[0].weight, start.body[0].weight, atol=1e-6, rtol=0)  # type: ignore[union-attr,index]


def test_a_super_resolver_is_stolen_too(photos: ImageSet) -> None:
    light_loot = Loot(photos, Downscale(2))
    service = Upscaled(DnCNN(3, 1, 4), 2).eval()
    thief = replace(BRIEF, augmentation="all", patch=8)(service, light_loot)
    assert thief(torch.rand(1, 1, 9, 7)).shape == (1, 1, 18, 14)
    assert Exam(service, light_loot).grade(thief).psnr > 10


def test_a_share_is_a_share(pairs: ImagePairs) -> None:
    assert replace(BRIEF, share=0.5).count(pairs) == 3
    assert differences(replace(BRIEF, share=0.5).train(pairs).model, BRIEF.train(pairs).model) != []
    with pytest.raises(InputError, match="1 of 6 is too few"):
        replace(BRIEF, share=0.01).train(pairs)


def test_the_truth_can_be_the_target(light_loot: Loot) -> None:
    brighter = Surrogate(
        "cnet-4", steps=60, batch=4, patch=16, lr=1e-2, target="truth", mark=lambda image: image + 0.2
    )
    thief = brighter(Smoother(), light_loot)
    clean = light_loot.images[0][None]
    with torch.no_grad():
        assert float((thief(clean) - clean).mean()) == pytest.approx(0.2, abs=0.05)


def test_a_broken_off_thief_becomes_the_same_thief(
    pairs: ImagePairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack = replace(BRIEF, steps=4, check_every=2, loss="l1+adversarial", patch=32)
    whole = attack.train(pairs)
    draw, calls = StolenPatches.__getitem__, 0

    def interrupted(self: StolenPatches, index: int) -> tuple[Tensor, Tensor]:
        nonlocal calls
        calls += 1
        if calls == 3:
            signal.raise_signal(signal.SIGINT)
        return draw(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(StolenPatches, "__getitem__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            attack.train(pairs, run_dir=tmp_path)
    resumed = attack.train(pairs, run_dir=tmp_path, resume=True)
    assert resumed.history == whole.history
    assert differences(resumed.model, whole.model) == []


def test_evaluate_takes_a_surrogate_like_any_attack(light_loot: Loot, photos: ImageSet) -> None:
    result = evaluate(BRIEF, DnCNN(3, 1, 4), light_loot, photos, lambda model: -1.0)
    assert result.attack == "cnet-4_l1_none"
    assert result.details["loss"] == "l1"
    json.dumps(result.details)
