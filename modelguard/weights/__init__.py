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
    card(name)
    data = read(FOLDER / f"{name}.safetensors")
    try:
        load_state(net, data)
    except InputError as error:
        raise InputError(
            f"pretrained: {name!r} does not fit the sizes asked for ({error.message})", "drop the other sizes"
        ) from error


def read(path: Path) -> bytes:
    """Return the content of a safetensors file, checked against the card beside it, if there is one.

    Raises:
        WeightsError: the file is missing or is not the one its card describes.
    """
    if not path.is_file():
        raise WeightsError(f"weights {path.stem!r}: there is no file {path}", "reinstall the package")
    data, beside = path.read_bytes(), path.with_suffix(".json")
    if beside.is_file() and hashlib.sha256(data).hexdigest() != _sha256_of(beside):
        raise WeightsError(
            f"weights {path.stem!r}: the file differs from its card",
            "reinstall the package, or get both anew",
        )
    return data


def _sha256_of(card: Path) -> str | None:
    """Return the sha256 that a card names, None if it is no card of ours."""
    try:
        return str(json.loads(card.read_bytes())["sha256"])
    except (ValueError, LookupError, TypeError):
        return None


def config(data: bytes) -> dict[str, Any]:
    """Return the configuration that `publish` wrote into a safetensors file; empty if there is none.

    Raises:
        InputError: not a safetensors file, or one with a configuration of another kind.
    """
    try:
        load(data)
    except SafetensorError as error:
        raise InputError(f"weights: not a safetensors file ({error})", "check the path") from error
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    try:
        content: dict[str, Any] = json.loads(header.get("__metadata__", {}).get("config", "{}"))
    except ValueError as error:
        raise InputError(
            f"weights: the configuration in the file is no JSON ({error})",
            "give a file that modelguard has written",
        ) from error
    return content


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


def dump_state(
    net: nn.Module, dtype: torch.dtype | None = None, config: dict[str, Any] | None = None
) -> bytes:
    """Return the state of `net` as safetensors bytes, its floating-point tensors cast to `dtype` if given.

    Args:
        net: any module.
        dtype: such as torch.float16.
        config: JSON-able, kept in the file's metadata; see `config`.
    """
    state = {}
    for key, value in net.state_dict().items():
        value = value.detach().cpu()
        if dtype is not None and value.is_floating_point():
            value = value.to(dtype)
        state[key] = value.contiguous().clone()
    return save(state, None if config is None else {"config": json.dumps(config)})


def publish(
    net: nn.Module,
    name: str,
    about: dict[str, Any],
    folder: Path = FOLDER,
    config: dict[str, Any] | None = None,
) -> Path:
    """Write `net` as fp16 weights called `name` with a card made of `about` and the file's sha256.

    Args:
        net: to be written.
        name: of both files.
        about: for the card.
        folder: for both files.
        config: what a net is built from that has more than one size; goes into the file.
    """
    data = dump_state(net, torch.float16, config)
    parameters = sum(p.numel() for p in net.parameters())
    content = {**about, "name": name, "parameters": parameters, "bytes": len(data)}
    content["sha256"] = hashlib.sha256(data).hexdigest()
    text = json.dumps(content, indent=1) + "\n"
    atomic_write_bytes(folder / f"{name}.safetensors", data, overwrite=True)
    return atomic_write_bytes(folder / f"{name}.json", text.encode(), overwrite=True)
