"""Protect an image-to-image model as intellectual property, and prove it later with signed evidence.

Three verbs: `protect` marks a model and keeps a secret key, `verify` asks a suspect service, `check` examines
a bundle of evidence offline. Everything else is in the rooms below (`modelguard.networks`, `.attacks`, ...),
which load when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from modelguard._version import __version__

if TYPE_CHECKING:
    from modelguard.arbitrating import open_bits, open_triggers
    from modelguard.checking import check, inspect
    from modelguard.codecs import RIIS, DBMark
    from modelguard.datasets import BicubicLoss, Downscale, GaussianNoise, ImageSet
    from modelguard.errors import ModelGuardError
    from modelguard.evidence import Key, Owner, PublicKey, TimestampAuthority
    from modelguard.protecting import Protected, protect
    from modelguard.schemes import Barrier, SelfWatermark, SymmetricBarrier, TriggerKey, WaveBarrier
    from modelguard.sharing import from_pretrained, push_to_hub, save_pretrained
    from modelguard.verifying import Verdict, verify

__all__ = [
    "RIIS",
    "Barrier",
    "BicubicLoss",
    "DBMark",
    "Downscale",
    "GaussianNoise",
    "ImageSet",
    "Key",
    "ModelGuardError",
    "Owner",
    "Protected",
    "PublicKey",
    "SelfWatermark",
    "SymmetricBarrier",
    "TimestampAuthority",
    "TriggerKey",
    "Verdict",
    "WaveBarrier",
    "__version__",
    "check",
    "from_pretrained",
    "inspect",
    "open_bits",
    "open_triggers",
    "protect",
    "push_to_hub",
    "save_pretrained",
    "verify",
]

_WHERE = {
    "RIIS": "codecs",
    "Barrier": "schemes",
    "BicubicLoss": "datasets",
    "DBMark": "codecs",
    "Downscale": "datasets",
    "GaussianNoise": "datasets",
    "ImageSet": "datasets",
    "Key": "evidence",
    "ModelGuardError": "errors",
    "Owner": "evidence",
    "Protected": "protecting",
    "PublicKey": "evidence",
    "SelfWatermark": "schemes",
    "SymmetricBarrier": "schemes",
    "TimestampAuthority": "evidence",
    "TriggerKey": "schemes",
    "Verdict": "verifying",
    "WaveBarrier": "schemes",
    "check": "checking",
    "from_pretrained": "sharing",
    "inspect": "checking",
    "open_bits": "arbitrating",
    "open_triggers": "arbitrating",
    "protect": "protecting",
    "push_to_hub": "sharing",
    "save_pretrained": "sharing",
    "verify": "verifying",
}
_ROOMS = {
    "arbitrating",
    "attacks",
    "codecs",
    "datasets",
    "distortions",
    "errors",
    "evidence",
    "networks",
    "photos",
    "report",
    "schemes",
    "statistics",
    "suspects",
    "training",
    "weights",
}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        value = getattr(importlib.import_module(f"modelguard.{_WHERE[name]}"), name)
        globals()[name] = value
        return value
    if name in _ROOMS:
        return importlib.import_module(f"modelguard.{name}")
    raise AttributeError(f"module 'modelguard' has no attribute {name!r}")
