"""Writing other owners' marks over the first one."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from torch import nn

from modelguard.attacks.base import Loot, stolen
from modelguard.errors import InputError
from modelguard.evidence import Key, Owner
from modelguard.networks import device_of
from modelguard.schemes import AttachedScheme, TrainedScheme, TriggerKey, probe


@dataclass(frozen=True)
class Overwrite:
    """Embeds `keys` fresh random keys, one after the other; every run draws others.

    Args:
        keys: how many; the paper tries 1 to 5.
        scheme: what the thief embeds or puts behind the model, by default what our own users embed.
        progress: label of the progress bars.
    """

    keys: int = 1
    scheme: TrainedScheme | AttachedScheme = field(default_factory=TriggerKey)
    progress: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.keys < 1:
            raise InputError(f"keys: {self.keys} is too few", "overwrite with 1 or more")

    @property
    def name(self) -> str:
        """Name in tables."""
        return f"overwrite with {self.keys}"

    def __call__(self, model: nn.Module, loot: Loot) -> nn.Module:
        """Return a copy that carries the further marks too."""
        copy: nn.Module = stolen(model).requires_grad_(True)
        # an input it is meant for: after a few marks, a denoiser may answer a clean picture with anything
        given, _ = loot.task(loot.images[0], torch.Generator().manual_seed(0))
        public = self.scheme.public(probe(copy, given))
        thief = Owner("thief", Ed25519PrivateKey.generate())
        for _ in range(self.keys):
            # A cheap salt: what the thief could prove with his key is of no interest here.
            key = Key.create(thief, public, self.scheme.leaves, decoder=self.scheme.decoder, log2_n=1)
            if isinstance(self.scheme, AttachedScheme):
                copy = self.scheme.attach(copy, key)
            else:
                self.scheme.embed(copy, key, loot.images, loot.task, self.progress)
        return copy.to(device_of(model)).eval()
