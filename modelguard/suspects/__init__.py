"""How a suspect is asked: module, callable, web service, file, folder. `as_suspect` picks the adapter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from modelguard.errors import InputError
from modelguard.evidence import SuspectInfo
from modelguard.suspects.base import Answer, Suspect
from modelguard.suspects.clip import ClipSuspect
from modelguard.suspects.exported import ExportedSuspect
from modelguard.suspects.folder import FolderSuspect, write_queries
from modelguard.suspects.function import CallableSuspect
from modelguard.suspects.http import HttpSuspect
from modelguard.suspects.interview import Interview, Pacing
from modelguard.suspects.module import ModuleSuspect
from modelguard.suspects.onnx import OnnxSuspect
from modelguard.suspects.service import Service

__all__ = [
    "Answer",
    "CallableSuspect",
    "ClipSuspect",
    "ExportedSuspect",
    "FolderSuspect",
    "HttpSuspect",
    "Interview",
    "ModuleSuspect",
    "OnnxSuspect",
    "Pacing",
    "Service",
    "Suspect",
    "as_suspect",
    "describe",
    "write_queries",
]

FILES: dict[str, Callable[[str], Suspect]] = {
    ".onnx": OnnxSuspect,
    ".pt2": ExportedSuspect,
    ".toml": HttpSuspect.load,
    ".torchscript": ExportedSuspect,
    ".ts": ExportedSuspect,
}
"""Which adapter a file belongs to, by the end of its name."""


def as_suspect(obj: object) -> Suspect:
    """Return `obj` as something that can be asked.

    Args:
        obj: a suspect (returned as it is), an nn.Module, a callable as `CallableSuspect` takes, the http(s)
            address of a service, a file with one of the endings in `FILES`, or a folder of stored answers.

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


def describe(suspect: Suspect, label: str) -> SuspectInfo:
    """Return what records say of a suspect, under a name for people."""
    digest = getattr(suspect, "model_digest", "unknown")
    return SuspectInfo(label, suspect.kind, suspect.endpoint, digest)


def _named(name: str) -> Suspect:
    if "://" in name:
        return HttpSuspect(name)
    if (adapter := FILES.get(Path(name).suffix)) is not None:
        return adapter(name)
    if Path(name).is_dir():
        return FolderSuspect(name)
    raise InputError(
        f"suspect: {name!r} cannot be asked",
        f"give the http(s) address of a service, a file ({', '.join(FILES)}), or a folder of stored answers",
    )
