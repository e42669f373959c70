"""What an attack is, what the thief has, and how an attack is measured."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import Field, dataclass, fields, is_dataclass
from typing import Any, Protocol

from torch import nn
from torch.nn.modules.conv import _ConvNd

from modelguard.datasets import ImageSet, Task
from modelguard.errors import InputError
from modelguard.metrics import quality


@dataclass(frozen=True)
class Loot:
    """What the thief has beside the model: clean images, and the task it is for."""

    images: ImageSet
    task: Task


class Attack(Protocol):
    """Something a thief does to a model to remove its mark.

    Ours are frozen dataclasses: their fields are the details that `evaluate` reports.
    """

    @property
    def name(self) -> str:
        """What to call it in a table, with what matters of its settings."""
        ...

    def __call__(self, model: nn.Module, loot: Loot) -> nn.Module:
        """Return an attacked copy of `model`, in evaluation mode; `model` itself is left as it is."""
        ...


@dataclass(frozen=True)
class AttackResult:
    """What an attack cost the thief in quality, and the owner in evidence.

    Args:
        attack: its name.
        psnr_before: of the model on its task, in dB.
        psnr_after: of the attacked model.
        log10_p_before: strength of the mark: log10 of the adjusted p-value.
        log10_p_after: of the attacked model.
        seconds: the attack took.
        details: the settings of the attack.
    """

    attack: str
    psnr_before: float
    psnr_after: float
    log10_p_before: float
    log10_p_after: float
    seconds: float
    details: dict[str, Any]


def evaluate(
    attack: Attack,
    model: nn.Module,
    loot: Loot,
    test: ImageSet,
    strength: Callable[[nn.Module], float],
    border: int = 0,
) -> AttackResult:
    """Attack `model` and measure task quality and mark strength before and after.

    Args:
        attack: see `Attack`.
        model: the marked model; left as it is.
        loot: what the thief has; its task is the one quality is measured on.
        test: clean images the thief does not have.
        strength: returns log10 of the adjusted p-value of the mark in a model.
        border: pixels left out at each side when measuring quality.
    """
    began = time.monotonic()
    attacked = attack(model, loot)
    seconds = time.monotonic() - began
    before, after = (quality(one, test, loot.task, border=border).psnr for one in (model, attacked))
    return AttackResult(
        attack=attack.name,
        psnr_before=before,
        psnr_after=after,
        log10_p_before=strength(model),
        log10_p_after=strength(attacked),
        seconds=seconds,
        details=_settings(attack),
    )


def _settings(attack: Attack) -> dict[str, Any]:
    settings: tuple[Field[Any], ...] = fields(attack) if is_dataclass(attack) else ()
    values = {field.name: getattr(attack, field.name) for field in settings if field.compare}
    return {name: vars(value) if is_dataclass(value) else value for name, value in values.items()}


def stolen(model: nn.Module) -> nn.Module:
    """Return the thief's own copy of `model`, in evaluation mode."""
    return copy.deepcopy(model).eval()


Layer = _ConvNd | nn.Linear


def weight_layers(model: nn.Module) -> Iterator[Layer]:
    """Yield the convolutions (transposed ones too) and linear layers of `model`.

    Raises:
        InputError: there are none, or one computes its weight from others, where changing it has no effect.
    """
    found = False
    for name, module in model.named_modules():
        if isinstance(module, Layer):
            if not isinstance(module.weight, nn.Parameter):
                raise InputError(
                    f"model: the weight of {name!r} is computed from others", "fold its weight norm first"
                )
            found = True
            yield module
    if not found:
        raise InputError(
            f"model: {type(model).__name__} has no convolution or linear layer", "attack another model"
        )
