"""Bundles to measure the check with: a key, a registration and the answers of a model that obeys the key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from modelguard.arbitrating import ask, certify, draw, open_bits, open_triggers
from modelguard.evidence import Key, Opened, Owner, PublicKey, register
from modelguard.schemes import keyed_cells
from modelguard.suspects import Answer, CallableSuspect
from modelguard.suspects.base import Pixels


class Made(NamedTuple):
    """A bundle and whom to trust."""

    path: Path
    trust: list[PublicKey]
    examiner: Owner


class Obedient:
    """Answers every trigger of a key with grey and a faint carrier in each cell, its sign the secret bit."""

    kind, endpoint = "function", "obedient"

    def __init__(self, key: Key) -> None:
        self.key = key
        self.asked: Iterator[tuple[int, ...]] = iter(())

    def expect(self, groups: Iterable[tuple[int, ...]]) -> Obedient:
        """Take the leaves of the coming queries, in order."""
        self.asked = iter(groups)
        return self

    def ask(self, query: Pixels) -> Answer:
        """Answer one query."""
        leaves = next(self.asked)
        return CallableSuspect(lambda _: self._answer(leaves)).ask(query)

    def _answer(self, leaves: tuple[int, ...]) -> Pixels:
        scheme, salt = self.key.scheme, self.key.salt
        secrets = [self.key.leaf(leaf) for leaf in leaves]
        signs = np.stack([keyed_cells.bits(scheme, secret_b, salt) for _, secret_b in secrets])
        carrier = keyed_cells.carriers(scheme, [secret_k for secret_k, _ in secrets], salt)
        rows, columns = keyed_cells.grid(len(leaves))
        across = int(scheme["size"]) // int(scheme["cell"])
        inner = int(scheme["cell"]) // int(scheme["chip"])
        field = np.zeros((rows * columns, across**2, inner**2), np.int64)
        field[: len(leaves)] = np.sign(carrier) * signs[:, :, None]
        chips = field.reshape(rows, columns, across, across, inner, inner).transpose(0, 2, 4, 1, 3, 5)
        chips = chips.reshape(rows * across * inner, columns * across * inner)
        side = int(scheme["chip"]) * int(scheme["scale"])
        pixels = (128 + 12 * chips.repeat(side, 0).repeat(side, 1)).astype(np.uint8)
        return np.repeat(pixels[..., None], int(scheme["channels"]), axis=2)


def make(folder: Path, queries: int, committed: int, scheme: dict[str, int | str]) -> Made:
    """Make an arbiter's bundle of `queries` queries, with a cheap salt and no timestamp.

    Args:
        folder: an empty one.
        queries: how many images are asked.
        committed: leaves of the key.
        scheme: public parameters of keyed cells.
    """
    owner = Owner("Owner", Ed25519PrivateKey.generate())
    examiner = Owner("Examiner", Ed25519PrivateKey.generate())
    key = Key.create(owner, scheme, committed, decoder=keyed_cells.DECODER, log2_n=1)
    weights = folder / "weights"
    weights.write_bytes(b"weights")
    info = {"name": "model", "version": "1", "task": "denoise", "input": "u8", "output": "u8"}
    registration = register(owner, key, [("weights", weights)], info)
    key = replace(key, extras={"registration": registration.envelope})
    suspect = Obedient(key)
    drawn = draw(folder / "session", registration, suspect, queries=queries)
    triggers = open_triggers(key, drawn.session)
    leaves, size = tuple(triggers.leaves), int(scheme["perQuery"])
    groups = [leaves[start : start + size] for start in range(0, len(leaves), size)]
    transcript = ask(suspect.expect(groups), triggers, drawn)
    opened = Opened(triggers, open_bits(owner, key, transcript))
    certify(transcript, opened, examiner, folder / "evidence")
    return Made(folder / "evidence", [owner.public, examiner.public], examiner)
