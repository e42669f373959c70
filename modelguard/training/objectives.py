"""Objectives that more than one trainer shares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from modelguard.training.loop import Backward, Objective
from modelguard.training.precision import channels_last, resolve_precision


def restoration(loss: Callable[[Tensor, Tensor], Tensor]) -> Objective:
    """Return the plain objective of a restoration host: `loss` between its answer and the target."""

    def step(model: nn.Module, batch: Any, backward: Backward) -> dict[str, Tensor]:
        degraded, target = batch
        value = loss(model(degraded), target)
        backward(value)
        return {"loss": value}

    return step


def imitation(teacher: nn.Module, loss: Callable[[Tensor, Tensor], Tensor]) -> Objective:
    """Return the objective of a student: `loss` between its answer and that of a frozen `teacher`.

    A good teacher's answer lacks the noise of the ground truth, so far fewer steps average it out.
    """
    teacher = channels_last(teacher.eval().requires_grad_(False))

    def step(model: nn.Module, batch: Any, backward: Backward) -> dict[str, Tensor]:
        inputs = batch[0]
        value = loss(model(inputs), teacher_answer(teacher, inputs))
        backward(value)
        return {"loss": value}

    return step


@torch.no_grad()
def teacher_answer(teacher: nn.Module, inputs: Tensor) -> Tensor:
    """Return what a frozen model answers, in the precision the training loop uses on this device."""
    native = resolve_precision("auto", inputs.device) == "bf16"
    with torch.autocast(inputs.device.type, torch.bfloat16, enabled=native):
        answer: Tensor = teacher.to(inputs.device)(inputs)
    return answer.float()
