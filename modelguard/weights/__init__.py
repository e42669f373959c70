"""Weights that ship with the package: one fp16 safetensors file and one JSON card each, checked by sha256."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from modelguard._files import atomic_write_bytes
from modelguard.errors import InputError, WeightsError

FOLDER = Path(__file__).parent / "files"


def names() -> list[str]:
    """Return the names of all shipped weights."""
    return sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def card(name: str) -> dict[str, Any]:
    """Return the card of shipped weights: data, steps, command, figures and sha256.

    Raises:
        InputError: no weights of that name ship with the package.
    """
    path = FOLDER / f"{name}.json"
    if not path.is_file():
        raise InputError(
            f"pretrained: there are no weights called {name!r}", f"choose one of {', '.join(names())}"
        )
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def load_into(net: nn.Module, name: str) -> None:
    """Load shipped weights into `net` in place.

    Raises:
        InputError: no such weights, or `net` was built with other sizes.
        WeightsError: the file is missing or is not the one its card describes.
    """
    expected = card(name)["sha256"]
    path = FOLDER / f"{name}.safetensors"
    if not path.is_file():
        raise WeightsError(f"weights {name!r}: there is a card but no file {path}", "reinstall the package")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != expected:
        raise WeightsError(f"weights {name!r}: the file differs from its card", "reinstall the package")
    try:
        load_state(net, data)
    except InputError as error:
        raise InputError(
            f"pretrained: {name!r} does not fit the sizes asked for ({error.message})", "drop the other sizes"
        ) from error


def load_state(net: nn.Module, data: bytes) -> None:
    """Load the bytes of a safetensors file into `net`, whatever its floating-point precision.

    Raises:
        InputError: not a safetensors file, or its names or shapes are not those of `net`.
    """
    try:
        state = load(data)
    except SafetensorError as error:
        raise InputError(
            f"weights: not a safetensors file ({error})", "save with modelguard.weights.dump_state"
        ) from error
    own = net.state_dict()
    wrong = sorted(own.keys() ^ state.keys()) or [key for key in own if own[key].shape != state[key].shape]
    if wrong:
        raise InputError(
            f"weights: {len(wrong)} tensors do not match the model, first {wrong[0]!r}",
            "build the model with the sizes it was saved with",
        )
    net.load_state_dict({key: value.to(own[key].dtype) for key, value in state.items()})


def dump_state(net: nn.Module, dtype: torch.dtype | None = None) -> bytes:
    """Return the state of `net` as safetensors bytes, its floating-point tensors cast to `dtype` if given."""
    state = {}
    for key, value in net.state_dict().items():
        value = value.detach().cpu()
        if dtype is not None and value.is_floating_point():
            value = value.to(dtype)
        state[key] = value.contiguous().clone()
    return save(state)


def publish(net: nn.Module, name: str, about: dict[str, Any], folder: Path = FOLDER) -> Path:
    """Write `net` as fp16 weights called `name` with a card made of `about` and the file's sha256."""
    data = dump_state(net, torch.float16)
    parameters = sum(p.numel() for p in net.parameters())
    content = {**about, "name": name, "parameters": parameters, "bytes": len(data)}
    content["sha256"] = hashlib.sha256(data).hexdigest()
    text = json.dumps(content, indent=1) + "\n"
    atomic_write_bytes(folder / f"{name}.safetensors", data, overwrite=True)
    return atomic_write_bytes(folder / f"{name}.json", text.encode(), overwrite=True)
