"""Every error a caller may want to handle; each says what was wrong and what to do about it."""

from __future__ import annotations

import math


class ModelGuardError(Exception):
    """Base of all errors raised on purpose by modelguard.

    Args:
        message: what happened, naming the argument and the value.
        remedy: what the reader can do about it.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def diagnostics(self) -> str:
        """Return the message and its remedy as text a person can act on."""
        return f"{self.message}\n  -> {self.remedy}" if self.remedy else self.message


class InputError(ModelGuardError, ValueError):
    """An argument, file or folder given by the user cannot be used."""


class ModelContractError(ModelGuardError):
    """A model does not map (B, C, H, W) in [0, 1] to finite (B, C, sH, sW) as declared."""


class TrainingDivergedError(ModelGuardError):
    """Training kept producing non-finite or exploding losses after every roll-back."""


class EmbeddingError(ModelGuardError):
    """The mark could not be embedded at the asked strength and fidelity."""


class KeyFileError(ModelGuardError):
    """A key file is truncated, foreign or damaged."""


class WrongPassphraseError(KeyFileError):
    """The passphrase does not open this file."""


class SuspectError(ModelGuardError):
    """The suspect could not be asked or did not answer with an image."""


class BudgetError(SuspectError):
    """The allowed questions or time were used up first; the transcript can be resumed."""


class EvidenceError(ModelGuardError):
    """A registration, transcript, certificate or bundle does not prove what it claims."""


class SignatureError(EvidenceError):
    """No trusted key made this signature."""


class TimestampError(EvidenceError):
    """A timestamp token does not show what it claims, or no authority gave one."""


class RevokedError(EvidenceError):
    """A record was not made before its key, or the record itself, was revoked."""


class MalformedEvidenceError(EvidenceError):
    """A record breaks the format: unknown field, float, duplicate key, size or depth."""


class WeightsError(ModelGuardError):
    """Pre-trained weights are missing or are not the file their card describes."""


class SharingError(ModelGuardError):
    """The hub that models are shared through cannot be reached, or refuses."""


def check_counts(**counts: int) -> None:
    """Raise InputError for the first of these settings, given by name, that is below 1."""
    for name, count in counts.items():
        if count < 1:
            raise InputError(f"{name}: {count} is too few", "use a whole number from 1")


def check_above_zero(**numbers: float) -> None:
    """Raise InputError for the first of these settings, given by name, that is not a number above 0."""
    for name, number in numbers.items():
        if not 0 < number < math.inf:
            raise InputError(f"{name}: {number} is out of range", "use a number above 0")
