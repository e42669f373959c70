from __future__ import annotations

import copy
import json
import math
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modelguard.datasets import GaussianNoise, ImageSet, Patches
from modelguard.errors import InputError, TrainingDivergedError
from modelguard.networks import DnCNN
from modelguard.training import Backward, Objective, TrainConfig, fit, resolve_precision, restoration

MSE = restoration(nn.functional.mse_loss)


def noisy_mse(model: nn.Module, batch: Any, backward: Backward) -> dict[str, Tensor]:
    """An objective that draws random numbers, as schemes do."""
    degraded, target = batch
    loss = (model(degraded + 0.01 * torch.randn_like(degraded)) - target).pow(2).mean()
    backward(loss)
    return {"loss": loss, "twice": 2 * loss}


def config(**changes: Any) -> TrainConfig:
    plain: dict[str, Any] = {"steps": 12, "batch": 4, "lr": 1e-3, "warmup": 2, "precision": "fp32"}
    return TrainConfig(**plain | changes)


class At:
    """Wraps an objective; does something at one of its calls (from 1), before or after its backward pass."""

    def __init__(self, call: int, action: Callable[[], None], inner: Objective = noisy_mse) -> None:
        self.call, self.action, self.inner, self.calls = call, action, inner, 0

    def __call__(self, model: nn.Module, batch: Any, backward: Backward) -> dict[str, Tensor]:
        self.calls += 1
        scalars = self.inner(model, batch, backward)
        if self.calls == self.call:
            self.action()
        return scalars


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.fixture
def patches(photos: ImageSet) -> Patches:
    return Patches(photos, GaussianNoise(25), 12, 10_000)


def equal(one: nn.Module, two: nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), two.state_dict().items(), strict=True)
    return all(k == other and torch.equal(v, w) for (k, v), (other, w) in pairs)


def test_training_lowers_the_loss(tiny: nn.Module, patches: Patches) -> None:
    tiny.train()
    result = fit(tiny, patches, MSE, config(steps=150, batch=8, lr=3e-3))
    assert result.steps == 150
    assert [row["step"] for row in result.log] == [50, 100, 150]
    assert result.log[-1]["loss"] < 0.7 * result.log[0]["loss"]
    assert result.scalars["loss"] == result.log[-1]["loss"]


def test_same_seed_same_weights_other_seed_other_weights(tiny: nn.Module, patches: Patches) -> None:
    nets = [copy.deepcopy(tiny) for _ in range(4)]
    for net, seed in zip(nets, (5, 5, 6, 5 + 2**31), strict=True):
        fit(net, patches, noisy_mse, config(seed=seed, steps=4))
    assert equal(nets[0], nets[1])
    assert not equal(nets[0], nets[2])
    assert not equal(nets[0], nets[3])


@pytest.mark.parametrize(
    "how", [{"precision": "fp32"}, {"precision": "bf16"}, {"optimiser": "muon"}], ids=["fp32", "bf16", "muon"]
)
@pytest.mark.parametrize("stop", [1, 7])
def test_interrupted_and_resumed_equals_uninterrupted(
    stop: int, how: dict[str, str], tiny: nn.Module, patches: Patches, tmp_path: Path
) -> None:
    tiny.train()
    whole, broken, resumed = (copy.deepcopy(tiny) for _ in range(3))
    expected = fit(whole, patches, noisy_mse, config(**how))
    with pytest.raises(KeyboardInterrupt):
        fit(broken, patches, At(stop, interrupt), config(**how), run_dir=tmp_path)
    result = fit(resumed, patches, noisy_mse, config(**how), run_dir=tmp_path, resume=True)
    assert equal(resumed, whole)
    assert not equal(broken, whole)
    assert result.scalars == expected.scalars


def test_resuming_from_a_periodic_checkpoint_is_exact(
    tiny: nn.Module, patches: Patches, tmp_path: Path
) -> None:
    tiny.train()
    whole, broken, resumed = (copy.deepcopy(tiny) for _ in range(3))
    fit(whole, patches, noisy_mse, config())

    def crash() -> None:
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        fit(broken, patches, At(8, crash), config(checkpoint_every=5), run_dir=tmp_path)
    fit(resumed, patches, noisy_mse, config(checkpoint_every=5), run_dir=tmp_path, resume=True)
    assert equal(resumed, whole)


def test_ctrl_c_finishes_the_step_and_checkpoints_it(
    tiny: nn.Module, patches: Patches, tmp_path: Path
) -> None:
    one, two = copy.deepcopy(tiny), copy.deepcopy(tiny)
    with pytest.raises(KeyboardInterrupt):
        fit(one, patches, At(3, interrupt), config(), run_dir=tmp_path)
    seen: list[int] = []
    again = At(10**9, lambda: None)
    fit(
        two,
        patches,
        again,
        config(),
        run_dir=tmp_path,
        resume=True,
        on_checkpoint=lambda m, s: seen.append(s),
    )
    # Asked in step 3, noticed in step 4, which is finished: eight of twelve are left.
    assert again.calls == 8
    assert seen == [12]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_does_not_wait(tiny: nn.Module, patches: Patches) -> None:
    def twice() -> None:
        interrupt()
        interrupt()

    objective = At(3, twice)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny, patches, objective, config())
    assert objective.calls == 3
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_in_the_last_step_still_interrupts(tiny: nn.Module, patches: Patches) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(tiny, patches, At(12, interrupt), config())


def test_handlers_of_the_program_are_left_alone(tiny: nn.Module, patches: Patches) -> None:
    got: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: got.append(number))
    try:
        fit(tiny, patches, At(3, interrupt), config())
    finally:
        signal.signal(signal.SIGINT, before)
    assert got == [signal.SIGINT]


def test_works_outside_the_main_thread(tiny: nn.Module, patches: Patches) -> None:
    done: list[int] = []
    thread = threading.Thread(target=lambda: done.append(fit(tiny, patches, MSE, config()).steps))
    thread.start()
    thread.join()
    assert done == [12]


def test_one_process_at_a_time_in_a_run_folder(tiny: nn.Module, patches: Patches, tmp_path: Path) -> None:
    other = copy.deepcopy(tiny)

    def intrude() -> None:
        fit(other, patches, MSE, config(), run_dir=tmp_path / "run", resume=True)

    with pytest.raises(InputError, match=r"run_dir: another process trains in .*run"):
        fit(copy.deepcopy(tiny), patches, At(3, intrude), config(), run_dir=tmp_path / "run")
    assert equal(other, tiny)
    fit(tiny, patches, MSE, config(), run_dir=tmp_path / "run")  # the error let go of it


def test_resuming_a_finished_run_changes_nothing(tiny: nn.Module, patches: Patches, tmp_path: Path) -> None:
    again = copy.deepcopy(tiny)
    fit(tiny, patches, MSE, config(), run_dir=tmp_path)
    objective = At(0, lambda: None)
    assert fit(again, patches, objective, config(), run_dir=tmp_path, resume=True).steps == 12
    assert objective.calls == 0
    assert equal(again, tiny)


class Spoilt:
    """An objective whose loss is multiplied, or made non-finite, at the given calls (from 1)."""

    def __init__(self, calls: set[int], factor: float) -> None:
        self.bad, self.factor, self.calls = calls, factor, 0
        self.seen: list[dict[str, Tensor]] = []

    def __call__(self, model: nn.Module, batch: Any, backward: Backward) -> dict[str, Tensor]:
        self.calls += 1
        self.seen.append({k: v.detach().clone() for k, v in model.state_dict().items()})
        degraded, target = batch
        loss = (model(degraded) - target).pow(2).mean() * (self.factor if self.calls in self.bad else 1)
        backward(loss)
        return {"loss": loss}


@pytest.mark.parametrize("factor", [math.nan, math.inf, 1e4], ids=["nan", "inf", "spike"])
def test_a_spike_restores_the_good_state_and_halves_the_rate(
    factor: float, tiny: nn.Module, patches: Patches
) -> None:
    objective = Spoilt({60}, factor)
    steady = config(steps=100, warmup=0, lr=1e-3, lr_end=1e-3)
    result = fit(tiny, patches, objective, steady)
    assert result.rollbacks == (59,)
    after_50, after_spike = objective.seen[50], objective.seen[60]
    assert all(torch.equal(after_50[k], after_spike[k]) for k in after_50)
    assert [row["lr"] for row in result.log] == [1e-3, 5e-4]
    assert all(bool(p.isfinite().all()) for p in tiny.state_dict().values())


def test_a_spike_before_fifty_losses_are_known_is_let_through(tiny: nn.Module, patches: Patches) -> None:
    assert fit(tiny, patches, Spoilt({20}, 1e4), config(steps=30)).rollbacks == ()


def test_the_good_state_itself_is_no_spike(patches: Patches) -> None:
    """Its loss may be far above those since, if training was going well."""
    model = nn.Conv2d(1, 1, 1)
    calls = 0

    def plunging(model: nn.Module, batch: Any, backward: Backward) -> dict[str, Tensor]:
        nonlocal calls
        calls += 1
        loss = sum((p - 5).pow(2).sum() for p in model.parameters()) * (math.nan if calls == 100 else 1)
        assert isinstance(loss, Tensor)
        backward(loss)
        return {"loss": loss}

    assert fit(model, patches, plunging, config(steps=200, lr=0.1, batch=1)).rollbacks == (99,)


def test_non_finite_gradients_of_a_finite_loss_are_rolled_back(tiny: nn.Module, patches: Patches) -> None:
    calls = 0

    def root(model: nn.Module, batch: Any, backward: Backward) -> dict[str, Tensor]:
        nonlocal calls
        calls += 1
        loss = model(batch[0]).mean() ** 2
        if calls == 50:  # the derivative of the root at 0 is infinite
            loss = loss + (0 * next(model.parameters())).abs().sum().sqrt()
        backward(loss)
        return {"loss": loss}

    result = fit(tiny, patches, root, config(steps=60))
    assert result.rollbacks == (49,)
    assert all(bool(p.isfinite().all()) for p in tiny.parameters())


def test_diverging_for_good_raises(tiny: nn.Module, patches: Patches) -> None:
    objective = Spoilt(set(range(5, 1000)), math.nan)
    with pytest.raises(TrainingDivergedError, match="after 3 roll-backs") as caught:
        fit(tiny, patches, objective, config(steps=100, rollbacks=3))
    assert objective.calls == 8
    assert "learning rate" in caught.value.diagnostics()


def test_both_precisions_in_one_process(tiny: nn.Module, patches: Patches) -> None:
    types: list[torch.dtype] = []

    def objective(model: nn.Module, batch: Any, backward: Backward) -> dict[str, Tensor]:
        convolution = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
        hook = convolution.register_forward_hook(lambda m, i, out: types.append(out.dtype))
        scalars = MSE(model, batch, backward)
        hook.remove()
        return scalars

    for precision in ("bf16", "fp32", "bf16"):
        fit(copy.deepcopy(tiny), patches, objective, config(steps=1, precision=precision))
        fit(tiny, patches, objective, config(steps=1, precision=precision))
    two = [torch.bfloat16] * 2
    assert types == [*two, torch.float32, torch.float32, *two]


def test_a_trained_model_answers_in_its_own_precision(tiny: nn.Module, patches: Patches) -> None:
    seen: list[Tensor] = []
    image = torch.rand(1, 1, 12, 12)

    def look(model: nn.Module, step: int) -> None:
        with torch.no_grad():
            seen.append(model(image))

    attributes = set(vars(tiny))
    fit(tiny, patches, MSE, config(precision="bf16"), on_checkpoint=look)
    fresh = DnCNN(depth=4, width=8)
    fresh.load_state_dict(tiny.state_dict())
    look(fresh.to(memory_format=torch.channels_last), 0)
    look(tiny, 0)
    # bf16 would differ by a thousandth; sums may differ in the last bit
    assert torch.allclose(seen[1], seen[2], atol=1e-6)
    assert torch.allclose(seen[0], seen[1], atol=1e-6)  # at checkpoints too
    assert set(vars(tiny)) == attributes


def test_frozen_weights_stay(tiny: nn.Module, patches: Patches) -> None:
    first = next(tiny.parameters())
    first.requires_grad_(False)
    before = [p.clone() for p in tiny.parameters()]
    fit(tiny, patches, MSE, config())
    changed = [not torch.equal(a, b) for a, b in zip(before, tiny.parameters(), strict=True)]
    assert changed == [False] + [True] * (len(changed) - 1)


def test_gradients_are_clipped(patches: Patches) -> None:
    model = nn.Conv2d(1, 1, 1)

    def steep(model: nn.Module, batch: Any, backward: Backward) -> dict[str, Tensor]:
        loss = 1e3 * model(batch[0]).sum()  # the gradient of the bias alone is 1e3 for each pixel
        backward(loss)
        return {"loss": loss}

    fit(model, patches, steep, config(steps=1, clip=0.5))
    total = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
    assert float(total) == pytest.approx(0.5, rel=1e-3)


def test_the_rate_warms_up_and_falls_to_its_end() -> None:
    plan = TrainConfig(steps=100, lr=1.0, lr_end=0.1, warmup=10)
    rates = [plan.rate(step) for step in range(100)]
    assert rates[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert plan.rate(100) == pytest.approx(0.1)
    assert {TrainConfig(steps=9, lr=0.3, lr_end=0.3, warmup=0).rate(step) for step in range(9)} == {0.3}


def test_too_little_data_is_named(photos: ImageSet, tiny: nn.Module) -> None:
    with pytest.raises(InputError, match="47 items are too few for 12 steps of 4"):
        fit(tiny, Patches(photos, GaussianNoise(25), 12, 47), MSE, config())


def test_the_run_folder_holds_a_log(tiny: nn.Module, patches: Patches, tmp_path: Path) -> None:
    result = fit(tiny, patches, MSE, config(steps=100), run_dir=tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert rows == result.log
    names = {"checkpoint.safetensors", "log.jsonl", "run.lock"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == names


def test_precision_is_forced_or_fits_the_device() -> None:
    cpu = torch.device("cpu")
    assert resolve_precision("bf16", cpu) == "bf16"
    assert resolve_precision("fp32", cpu) == "fp32"
    assert resolve_precision("auto", torch.device("meta")) == "fp32"
