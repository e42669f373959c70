"""How a model or a suspect is named on the command line."""

from __future__ import annotations

import importlib
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelguard.errors import InputError

if TYPE_CHECKING:
    from torch import nn

FAMILIES = ("dncnn", "red", "vdsr")
FORMS = (
    "write FAMILY:WEIGHTS for a model that ships with modelguard (dncnn:denoise-25, vdsr:sr-234@2 with the "
    "scale behind the @), or package.module:factory for one of your own"
)
MODEL_HELP = (
    "`dncnn:denoise-25` (a family and weights that ship with modelguard), `vdsr:sr-234@2` (with "
    "its scale), or `package.module:factory`: a function of yours without arguments that returns an "
    "nn.Module; the current folder is searched too."
)
WEIGHTS_HELP = "Safetensors file loaded into the model, or a folder written by `modelguard protect`."


def load_model(name: str, weights: Path | None = None) -> nn.Module:
    """Return the model called `name`, in evaluation mode.

    Args:
        name: see `MODEL_HELP`.
        weights: file, or folder of a protected model, loaded into it.

    Raises:
        InputError: there is no such model, its factory fails, or the weights do not fit.
    """
    from torch import nn

    found = load_suspect(name, weights)
    if not isinstance(found, nn.Module):
        raise InputError(
            f"MODEL: {name} gave a {type(found).__name__}", "let the factory return an nn.Module"
        )
    return found


def load_suspect(name: str, weights: Path | None = None) -> Any:
    """Return what `name` names: a model, or from a factory anything that `modelguard.verify` can ask.

    Raises:
        InputError: as in `load_model`; weights given for something that is no nn.Module.
    """
    from torch import nn

    parts = re.fullmatch(r"([\w.]+):([\w.-]+)(?:@(\d+))?", name)
    if parts is None:
        raise InputError(f"MODEL: {name!r} is no name of a model", FORMS)
    place, what, scale = parts.groups()
    if place in FAMILIES:
        found = _shipped(place, what, int(scale) if scale else None)
    elif scale is None:
        found = _own(place, what)
    else:
        raise InputError(f"MODEL: {name!r}: only shipped models take a scale", "leave out the @")
    if weights is not None:
        if not isinstance(found, nn.Module):
            raise InputError(f"weights: {name} gave a {type(found).__name__}", "leave the weights out")
        found = _load_weights(found, weights)
    return found.eval() if isinstance(found, nn.Module) else found


def _shipped(family: str, what: str, scale: int | None) -> nn.Module:
    from modelguard import networks, weights

    known = [name.replace("-", ":", 1) for name in weights.names() if name.split("-")[0] in FAMILIES]
    if f"{family}:{what}" not in known:
        raise InputError(f"MODEL: no weights {what!r} for {family} ship", f"choose one of {', '.join(known)}")
    resolves = what.startswith("sr-")
    if resolves != (scale is not None):
        remedy = f"write {family}:{what}@2, say" if resolves else "leave out the @"
        raise InputError(f"MODEL: {family}:{what} {'needs a' if resolves else 'has no'} scale", remedy)
    given = {} if scale is None else {"scale": scale}
    model: nn.Module = getattr(networks, family)(pretrained=what, **given)
    return model


def _own(place: str, what: str) -> Any:
    from torch import nn

    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        importlib.invalidate_caches()
        module = importlib.import_module(place)
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and place.startswith(str(error.name))
        remedy = "run where the module is, or install it" if missing else f'try python -c "import {place}"'
        raise InputError(f"MODEL: cannot import {place} ({type(error).__name__}: {error})", remedy) from error
    if not hasattr(module, what):
        raise InputError(f"MODEL: {place} has no {what!r}", "give the name of a function in that module")
    found = getattr(module, what)
    if isinstance(found, nn.Module):
        return found
    try:
        return found()
    except Exception as error:
        raise InputError(
            f"MODEL: {place}:{what}() failed ({type(error).__name__}: {error})",
            "give a function that takes no arguments and returns the model",
        ) from error


def named_number(option: str, text: str, usual: float, whole: Sequence[str] = ()) -> tuple[str, float]:
    """Return the parts of NAME or NAME=NUMBER.

    Args:
        option: what errors call it.
        text: as given.
        usual: the number where none is given.
        whole: names that take whole numbers.

    Raises:
        InputError: it is no such number.
    """
    name, equals, value = text.partition("=")
    if not equals:
        return name, usual
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{option}: {value!r} is no number", f"write {name}=NUMBER")
    if name in whole and number != int(number):
        raise InputError(f"{option}: {name} takes a whole number, not {value}", f"write {name}={int(number)}")
    return name, number


def _load_weights(model: nn.Module, path: Path) -> nn.Module:
    from modelguard.evidence import dsse, records
    from modelguard.protecting import REGISTRATION_NAME, WEIGHTS_NAME
    from modelguard.schemes import shell
    from modelguard.weights import load_state

    file = path / WEIGHTS_NAME if path.is_dir() else path
    note = file.with_name(REGISTRATION_NAME)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"weights: cannot read {file} ({error.strerror})", "check the path") from error
    if file.name == WEIGHTS_NAME and note.is_file():  # says only what to build: nothing is believed
        payload, _ = dsse.unverified(note.read_bytes())
        watermark = records.parse_statement(payload, records.REGISTRATION_TYPE)[1]["watermark"]
        model = shell(model, watermark["scheme"], watermark["keyCommitment"]["leaves"])
    load_state(model, data)
    return model
