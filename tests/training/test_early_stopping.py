from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from modelguard.datasets import GaussianNoise, ImageSet, Patches
from modelguard.errors import InputError
from modelguard.metrics import quality
from modelguard.training import EarlyStopping, TrainConfig, fit, restoration

MSE = restoration(nn.functional.mse_loss)
CONFIG = TrainConfig(steps=40, batch=2, lr=3e-2, lr_end=3e-2, warmup=0, checkpoint_every=4, precision="fp32")


@pytest.fixture
def patches(photos: ImageSet) -> Patches:
    return Patches(photos, GaussianNoise(25), 12, 10_000)


def scripted(scores: list[float]) -> EarlyStopping:
    """Scores that do not hang on the model."""
    rest = iter(scores)
    return EarlyStopping(lambda model: next(rest), 2)


def test_patience_counts_scores_without_a_new_best(tiny: nn.Module) -> None:
    stopping = scripted([1, 3, 2, 4, 4, 3])
    assert [stopping(tiny, step) for step in range(6)] == [False, False, False, False, False, True]
    assert stopping.best_step == 3  # equal is no better


def test_training_ends_when_patience_does(tiny: nn.Module, patches: Patches) -> None:
    result = fit(tiny, patches, MSE, CONFIG, on_checkpoint=scripted([5, 4, 3, 2, 1]))
    assert result.steps == 12


@pytest.mark.parametrize("on_disk", [False, True])
def test_the_best_weights_come_back(
    tiny: nn.Module, patches: Patches, photos: ImageSet, tmp_path: Path, on_disk: bool
) -> None:
    def score(model: nn.Module) -> float:
        return quality(model, photos, GaussianNoise(25)).psnr

    stopping = EarlyStopping(score, 3, tmp_path if on_disk else None)
    fit(tiny.train(), patches, MSE, CONFIG, on_checkpoint=stopping)
    assert score(tiny) < max(stopping.history.values())  # so high a rate does not end at its best
    stopping.restore(tiny)
    assert score(tiny) == stopping.history[stopping.best_step] == max(stopping.history.values())


class PowerCut(Exception):
    """Of the test below."""


def test_a_run_that_broke_off_ends_as_if_it_had_not(
    tiny: nn.Module, patches: Patches, photos: ImageSet, tmp_path: Path
) -> None:
    """The power goes between scoring a model and saving its checkpoint."""

    def score(model: nn.Module) -> float:
        return quality(model, photos, GaussianNoise(25)).psnr

    whole, broken, resumed = (copy.deepcopy(tiny).train() for _ in range(3))
    expected = EarlyStopping(score, 3)
    steps = fit(whole, patches, MSE, CONFIG, on_checkpoint=expected).steps

    class Failing(EarlyStopping):
        def __call__(self, model: nn.Module, step: int) -> bool:
            super().__call__(model, step)
            if step == 8:
                raise PowerCut
            return False

    with pytest.raises(PowerCut):
        fit(broken, patches, MSE, CONFIG, run_dir=tmp_path, on_checkpoint=Failing(score, 3, tmp_path))
    again = EarlyStopping(score, 3, tmp_path, resume=True)
    assert list(again.history) == [4, 8]
    result = fit(resumed, patches, MSE, CONFIG, run_dir=tmp_path, resume=True, on_checkpoint=again)
    assert result.steps == steps
    assert again.history == expected.history
    expected.restore(whole)
    again.restore(resumed)
    assert all(
        torch.equal(a, b)
        for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    )


def test_without_resume_an_old_history_is_forgotten(tiny: nn.Module, tmp_path: Path) -> None:
    EarlyStopping(lambda model: 1.0, 1, tmp_path)(tiny, 4)
    assert EarlyStopping(lambda model: 1.0, 1, tmp_path).history == {}
    assert EarlyStopping(lambda model: 1.0, 1, tmp_path, resume=True).history == {4: 1.0}


def test_misuse_is_named(tiny: nn.Module) -> None:
    with pytest.raises(InputError, match="patience"):
        EarlyStopping(lambda model: 0.0, 0)
    with pytest.raises(InputError, match="history"):
        EarlyStopping(lambda model: 0.0, 1).restore(tiny)
