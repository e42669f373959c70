"""Using a model without changing it, where it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import nn

from modelguard.errors import ModelContractError


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put `model` in evaluation mode without gradients for a while, then every submodule back as it was."""
    modes = [(module, module.training) for module in model.modules()]
    for module in model.modules():
        module.training = False  # not `eval`: exported programs have none
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def device_of(model: nn.Module) -> torch.device:
    """Return the device a model is on, the CPU for one without tensors.

    Raises:
        ModelContractError: it is spread over several devices, or on `meta` and so without values.
    """
    devices = sorted({str(tensor.device) for tensor in chain(model.parameters(), model.buffers())})
    if len(devices) > 1:
        raise ModelContractError(
            f"model: its tensors are on {', '.join(devices)}", f"move it to one: model.to({devices[0]!r})"
        )
    if devices == ["meta"]:
        raise ModelContractError(
            "model: it is on the device meta, without values", "build it on the CPU, or load its weights"
        )
    return torch.device(devices[0] if devices else "cpu")
