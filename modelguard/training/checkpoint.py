"""Training state in one safetensors file: weights, optimiser moments, counters. Nothing is pickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from modelguard._files import atomic_write_bytes
from modelguard.errors import InputError


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the tensors of an optimiser's state by flat name."""
    return {
        f"{index}.{name}": value
        for index, slots in optimiser.state_dict()["state"].items()
        for name, value in slots.items()
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put tensors saved by `optimiser_tensors` back, in the memory layout of their parameters."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        moment = torch.empty_like(parameters[int(index)]).copy_(value) if value.ndim else value
        state.setdefault(int(index), {})[name] = moment
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})


def save_checkpoint(
    path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, counters: dict[str, Any]
) -> None:
    """Write weights, optimiser state and JSON-able counters atomically."""
    tensors = {f"model.{key}": value for key, value in model.state_dict().items()}
    tensors |= {f"optimiser.{key}": value for key, value in optimiser_tensors(optimiser).items()}
    contiguous = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    atomic_write_bytes(path, save(contiguous, {"counters": json.dumps(counters)}), overwrite=True)


def load_checkpoint(
    path: Path, model: nn.Module, optimiser: torch.optim.Optimizer | None = None
) -> dict[str, Any]:
    """Restore what `save_checkpoint` wrote, without an optimiser the weights alone, and return the counters.

    Raises:
        InputError: the file is damaged or belongs to another model.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
            counters: dict[str, Any] = json.loads((file.metadata() or {})["counters"])
        model.load_state_dict(_below("model.", tensors))
        if optimiser is not None:
            restore_optimiser(optimiser, _below("optimiser.", tensors))
    except (SafetensorError, LookupError, ValueError, RuntimeError) as error:
        raise InputError(
            f"checkpoint: {path} does not fit this training run ({error})", "start again in an empty folder"
        ) from error
    return counters


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
