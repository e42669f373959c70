"""How a suspect is asked: a module, or any callable. `as_suspect` picks the adapter."""

from __future__ import annotations

from torch import nn

from modelguard.errors import InputError
from modelguard.suspects.base import Answer, Suspect
from modelguard.suspects.exported import ExportedSuspect
from modelguard.suspects.function import CallableSuspect
from modelguard.suspects.module import ModuleSuspect
from modelguard.suspects.onnx import OnnxSuspect

__all__ = [
    "Answer",
    "CallableSuspect",
    "ExportedSuspect",
    "ModuleSuspect",
    "OnnxSuspect",
    "Suspect",
    "as_suspect",
]


def as_suspect(obj: object) -> Suspect:
    """Return `obj` as something that can be asked.

    Args:
        obj: a suspect (returned as it is), an nn.Module, or a callable as `CallableSuspect` takes.

    Raises:
        InputError: anything else, classes included.
    """
    if not isinstance(obj, type):
        if isinstance(obj, Suspect):
            return obj
        if isinstance(obj, nn.Module):
            return ModuleSuspect(obj)
        if callable(obj):
            return CallableSuspect(obj)
    kind = f"the class {obj.__name__}" if isinstance(obj, type) else f"a {type(obj).__name__}"
    raise InputError(
        f"suspect: {kind} cannot be asked", "give an nn.Module, a callable or an object that is a `Suspect`"
    )
