"""The Accelerate loop: mixed precision, exact resume, spike roll-back; the same on a laptop and many GPUs."""

from __future__ import annotations

import atexit
import json
import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import parse_flag_from_env
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from modelguard._alone import alone
from modelguard.datasets import mixed_seed
from modelguard.errors import InputError, TrainingDivergedError
from modelguard.training.checkpoint import load_checkpoint, save_checkpoint
from modelguard.training.interrupt import HeldInterrupt
from modelguard.training.muon import Muon
from modelguard.training.precision import Precision, channels_last, resolve_precision

Backward = Callable[[Tensor], None]
Objective = Callable[[nn.Module, Any, Backward], dict[str, Tensor]]
"""Called once a step with (model, batch, backward); calls `backward(loss)` once or more and returns scalars,
one of them named "loss". Its randomness must come from torch's global generator, seeded at each step."""

OnCheckpoint = Callable[[nn.Module, int], bool | None]
CHECKPOINT = "checkpoint.safetensors"
Optimiser = Literal["adam", "muon"]


@dataclass(frozen=True)
class TrainConfig:
    """How long and how fast to train.

    Args:
        steps: optimiser steps.
        batch: samples a step and process.
        lr: peak learning rate; warmed up linearly, then a half cosine down to `lr_end`.
        lr_end: final learning rate.
        warmup: steps of linear warm-up.
        clip: gradient norm above which gradients are scaled down.
        precision: "bf16", "fp32", or "auto" for what this hardware does natively.
        seed: of everything random.
        checkpoint_every: steps between checkpoints in the run folder.
        spike: a loss this many times the median of the last 50 is a spike; it and any non-finite loss or
            gradient are rolled back to the last good state at half the learning rate.
        rollbacks: give up after this many.
        optimiser: "adam", or "muon" for nets of convolutions: see `modelguard.training.muon`.

    Raises:
        InputError: an unknown optimiser.
    """

    steps: int
    batch: int = 32
    lr: float = 1e-3
    lr_end: float = 1e-6
    warmup: int = 100
    clip: float = 1.0
    precision: Precision = "auto"
    seed: int = 0
    checkpoint_every: int = 500
    spike: float = 20.0
    rollbacks: int = 5
    optimiser: Optimiser = "adam"

    def __post_init__(self) -> None:
        if self.optimiser not in get_args(Optimiser):
            raise InputError(f"optimiser: {self.optimiser!r} is not known", "use adam or muon")

    def rate(self, step: int) -> float:
        """Return the learning rate of step `step` (from 0), before any roll-back halves it."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        part = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.lr_end + (self.lr - self.lr_end) * 0.5 * (1 + math.cos(math.pi * part))


@dataclass(frozen=True)
class TrainResult:
    """What happened: final smoothed scalars, wall time of this call and the steps at which it rolled back."""

    steps: int
    seconds: float
    scalars: dict[str, float]
    rollbacks: tuple[int, ...] = ()
    log: list[dict[str, float]] = field(default_factory=list, repr=False)


def fit(
    model: nn.Module,
    data: Dataset[Any],
    objective: Objective,
    config: TrainConfig,
    *,
    run_dir: Path | None = None,
    resume: bool = False,
    progress: str | None = None,
    on_checkpoint: OnCheckpoint | None = None,
) -> TrainResult:
    """Train `model` in place on `data`, one pass over consecutive items, with a cosine rate.

    Works alone and under `torchrun` or `accelerate launch`, on CPU and GPU. On Ctrl-C the step is finished
    and the state checkpointed (when there is a run folder) before KeyboardInterrupt goes on, in all processes
    at the same step; a second Ctrl-C does not wait. With `resume` the next call gives the weights an
    uninterrupted run would have given; only a roll-back in the first 50 steps after it goes back less far.

    Args:
        model: moved to the device and left there, in training mode as the objective set it and in its own
            precision: autocast holds during steps only.
        data: at least steps * batch * processes items, item i always the same.
        objective: see `Objective`.
        config: see `TrainConfig`.
        run_dir: where checkpoints and `log.jsonl` go; None keeps nothing on disk.
        resume: continue from the checkpoint in `run_dir` if there is one.
        progress: label of a progress bar on the main process; None for silence.
        on_checkpoint: called on the main process before each periodic checkpoint and the last, with the bare
            model and the step; training ends there if it returns True. After a crash between the two it is
            called again for the same step and the same weights. See `EarlyStopping`.

    Raises:
        InputError: too little data, a checkpoint of another run, or of any without `resume`; or another
            process trains in `run_dir`.
        TrainingDivergedError: losses stayed non-finite or exploding after every roll-back.
    """
    state = _Run(model, data, objective, config, run_dir, resume)
    if run_dir is None or not state.accelerator.is_main_process:
        return state.train(progress, on_checkpoint)
    run_dir.mkdir(parents=True, exist_ok=True)
    with alone(run_dir / "run.lock", f"run_dir: another process trains in {run_dir}"):
        return state.train(progress, on_checkpoint)


def _let_go() -> None:
    """Let gloo's threads drop the last collective operation, for which they need the interpreter.

    If that ends first, the process aborts, with all its work done (pytorch/pytorch#190489).
    """
    time.sleep(0.2)


class _Run:
    def __init__(
        self,
        model: nn.Module,
        data: Dataset[Any],
        objective: Objective,
        config: TrainConfig,
        run_dir: Path | None,
        resume: bool,
    ) -> None:
        AcceleratorState._reset_state()  # another fit in this process may have used another precision
        # Accelerate distributes over CPUs only when told so; else every process would train alone, unnoticed.
        cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
        precision = resolve_precision(config.precision, PartialState(cpu=cpu).device)
        self.accelerator = Accelerator(mixed_precision="no" if precision == "fp32" else precision, cpu=cpu)
        if self.accelerator.num_processes > 1:
            atexit.unregister(_let_go)
            atexit.register(_let_go)
        self.config, self.objective, self.bare = config, objective, model
        self.run_dir = run_dir
        self.start, self.scale, self.rolled = 0, 1.0, []
        # A spare parameter list keeps frozen layers out of the optimiser.
        parameters = [p for p in model.parameters() if p.requires_grad]
        optimiser = (Muon if config.optimiser == "muon" else torch.optim.Adam)(parameters, config.lr)
        channels_last(model)
        before = dict(model.__dict__)
        self.model, self.optimiser = self.accelerator.prepare(model, optimiser)
        # Accelerate binds autocast and a marker to the model itself. Left there they would follow the model
        # and its copies: answers in bf16, and a second `fit` that skips placement and data parallelism.
        self.bound = {k: v for k, v in model.__dict__.items() if k not in before or before[k] is not v}
        self.unbound = {k: before[k] for k in self.bound if k in before}
        self._unbind()
        self.recent: deque[float] = deque(maxlen=50)
        self.smooth: dict[str, float] = {}
        self.log: list[dict[str, float]] = []
        if run_dir is not None and (run_dir / CHECKPOINT).is_file():
            if not resume:
                raise InputError(
                    f"run_dir: {run_dir} holds a run already", "resume it, or choose another folder"
                )
            counters = load_checkpoint(run_dir / CHECKPOINT, model, self.optimiser.optimizer)
            self.start, self.scale, self.rolled = counters["step"], counters["scale"], counters["rolled"]
            self.recent.extend(counters["recent"])
            self.smooth = counters.get("smooth", {})
            self.log = counters["log"]
        share = config.batch * self.accelerator.num_processes
        if len(data) < config.steps * share:  # type: ignore[arg-type]
            raise InputError(
                f"data: {len(data)} items are too few for {config.steps} steps of {share}",  # type: ignore[arg-type]
                "make the data set longer; patches are drawn on the fly, so length costs nothing",
            )
        rest = Subset(data, range(self.start * share, config.steps * share))
        loader = DataLoader(rest, batch_size=config.batch, shuffle=False, drop_last=True)
        self.loader = self.accelerator.prepare(loader)
        self._keep()

    def _keep(self) -> None:
        """Remember the state in memory, the place a spike rolls back to."""
        self.good_recent = self.recent.copy()
        self.good = {key: value.detach().clone() for key, value in self.bare.state_dict().items()}
        slots = self.optimiser.state_dict()["state"]
        self.good_slots = {i: {k: v.detach().clone() for k, v in slot.items()} for i, slot in slots.items()}

    def _roll_back(self, step: int, loss: float) -> None:
        self.rolled.append(step)
        if len(self.rolled) > self.config.rollbacks:
            raise TrainingDivergedError(
                f"training: the loss was {loss:.3g} at step {step}, after {self.config.rollbacks} roll-backs",
                "lower the learning rate, or check the data for broken images",
            )
        self.scale *= 0.5
        self.recent = self.good_recent.copy()  # by later, lower losses the good state itself is a spike
        self.bare.load_state_dict(self.good)
        slots = {i: {k: v.clone() for k, v in slot.items()} for i, slot in self.good_slots.items()}
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": slots})

    def _save(self, step: int) -> None:
        self.accelerator.wait_for_everyone()
        if self.run_dir is None or not self.accelerator.is_main_process:
            return
        counters = {
            "step": step,
            "scale": self.scale,
            "rolled": self.rolled,
            "recent": list(self.recent),
            "smooth": self.smooth,
            "log": self.log,
        }
        save_checkpoint(self.run_dir / CHECKPOINT, self.bare, self.optimiser.optimizer, counters)
        (self.run_dir / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in self.log))

    @contextmanager
    def _binding(self) -> Iterator[None]:
        self.bare.__dict__.update(self.bound)
        try:
            yield
        finally:
            self._unbind()

    def _unbind(self) -> None:
        for name in self.bound:
            del self.bare.__dict__[name]
        self.bare.__dict__.update(self.unbound)

    def _step(self, batch: Any, step: int, interrupted: bool) -> tuple[dict[str, float], bool]:
        """Compute the gradients; return the scalars of all processes and whether any was interrupted."""
        processes, process = self.accelerator.num_processes, self.accelerator.process_index
        torch.manual_seed(mixed_seed(self.config.seed, step * processes + process))
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.rate(step) * self.scale
        self.optimiser.zero_grad()
        with self._binding():
            scalars = self.objective(self.model, batch, self.accelerator.backward)
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.clip)
        flag = torch.tensor(float(interrupted), device=norm.device)
        values = [value.detach().float() for value in (*scalars.values(), norm, flag)]
        *means, norm, flag = self.accelerator.reduce(torch.stack(values), "mean").tolist()
        result = dict(zip(scalars, means, strict=True))
        if not math.isfinite(norm):  # one such update would spoil every weight
            result["loss"] = math.nan
        return result, flag > 0

    def _spiked(self, loss: float) -> bool:
        if not math.isfinite(loss):
            return True
        full = len(self.recent) == self.recent.maxlen
        return full and loss > self.config.spike * statistics.median(self.recent)

    def _ended(self, on_checkpoint: OnCheckpoint, step: int) -> bool:
        """Ask the main process; all return what it says."""
        ended = self.accelerator.is_main_process and on_checkpoint(self.bare, step) is True
        flag = torch.tensor(float(ended), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, "sum").item() > 0)

    def train(self, progress: str | None, on_checkpoint: OnCheckpoint | None) -> TrainResult:
        began, config = time.monotonic(), self.config
        step = self.start
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        shown = progress is not None and self.accelerator.is_main_process
        bar_of = Progress(*columns, console=Console(stderr=True), disable=not shown, transient=True)
        with HeldInterrupt() as interrupt, bar_of as bar:
            task = bar.add_task(progress or "", total=config.steps, completed=self.start, note="")
            for batch in self.loader:
                scalars, stop = self._step(batch, step, interrupt.asked)
                if self._spiked(scalars["loss"]):
                    self._roll_back(step, scalars["loss"])  # the batch that caused it is skipped
                else:
                    self.optimiser.step()
                    self.recent.append(scalars["loss"])
                    self.smooth = {k: v + 0.98 * (self.smooth.get(k, v) - v) for k, v in scalars.items()}
                step += 1
                bar.update(task, completed=step, note=f"loss {self.smooth.get('loss', math.nan):.4g}")
                if step % 50 == 0:
                    self.log.append({"step": step, "lr": config.rate(step - 1) * self.scale, **self.smooth})
                    self._keep()
                due = step % config.checkpoint_every == 0 or step == config.steps
                ended = due and on_checkpoint is not None and self._ended(on_checkpoint, step)
                if due or stop:
                    self._save(step)
                if stop:
                    raise KeyboardInterrupt
                if ended:
                    break
        return TrainResult(step, time.monotonic() - began, self.smooth, tuple(self.rolled), self.log)
