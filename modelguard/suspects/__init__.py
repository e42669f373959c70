"""How a suspect is asked: a module, any callable, a web service, a folder. `as_suspect` picks the adapter."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from modelguard.errors import InputError
from modelguard.suspects.base import Answer, Suspect
from modelguard.suspects.folder import FolderSuspect, write_queries
from modelguard.suspects.function import CallableSuspect
from modelguard.suspects.http import HttpSuspect
from modelguard.suspects.interview import Interview, Pacing
from modelguard.suspects.module import ModuleSuspect
from modelguard.suspects.service import Service

__all__ = [
    "Answer",
    "CallableSuspect",
    "FolderSuspect",
    "HttpSuspect",
    "Interview",
    "ModuleSuspect",
    "Pacing",
    "Service",
    "Suspect",
    "as_suspect",
    "write_queries",
]


def as_suspect(obj: object) -> Suspect:
    """Return `obj` as something that can be asked.

    Args:
        obj: a suspect (returned as it is), an nn.Module, a callable as `CallableSuspect` takes, the http(s)
            address of a service, a TOML file that describes one, or a folder of stored answers.

    Raises:
        InputError: anything else, classes included.
    """
    if not isinstance(obj, type):
        if isinstance(obj, Suspect):
            return obj
        if isinstance(obj, nn.Module):
            return ModuleSuspect(obj)
        if isinstance(obj, (str, Path)):
            return _named(str(obj))
        if callable(obj):
            return CallableSuspect(obj)
    kind = f"the class {obj.__name__}" if isinstance(obj, type) else f"a {type(obj).__name__}"
    raise InputError(
        f"suspect: {kind} cannot be asked", "give an nn.Module, a callable or an object that is a `Suspect`"
    )


def _named(name: str) -> Suspect:
    if "://" in name:
        return HttpSuspect(name)
    if name.endswith(".toml"):
        return HttpSuspect.load(name)
    if Path(name).is_dir():
        return FolderSuspect(name)
    raise InputError(
        f"suspect: {name!r} cannot be asked",
        "give the http(s) address of a service, its TOML file, or a folder of stored answers",
    )
