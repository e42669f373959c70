"""How a model is marked. A scheme is one file; its reader is found by the id in its public parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelguard.errors import EvidenceError, MalformedEvidenceError
from modelguard.evidence import Registration
from modelguard.schemes import keyed_cells
from modelguard.schemes.base import Contract, EmbedReport, Reader, Scheme, probe
from modelguard.schemes.trigger_key import TriggerKey

__all__ = ["Contract", "EmbedReport", "Reader", "Scheme", "TriggerKey", "probe", "read", "reader_of"]

_READERS: dict[str, Reader] = {keyed_cells.ID: keyed_cells}


def read(scheme: Mapping[str, Any]) -> Reader:
    """Return the reader for public parameters.

    Raises:
        MalformedEvidenceError: no scheme of that id is known; an unknown one is never guessed.
    """
    try:
        return _READERS[str(scheme["id"])]
    except KeyError as error:
        raise MalformedEvidenceError(f"scheme: {error} is unknown", "update modelguard") from error


def reader_of(registration: Registration) -> Reader:
    """Return the reader whose decoder a registration names.

    Raises:
        MalformedEvidenceError: no scheme of that id is known.
        EvidenceError: the decoder was another one; scores of this one would prove something else.
    """
    reader = read(registration.scheme)
    if registration.decoder != reader.DECODER:
        raise EvidenceError(
            f"decoder: {registration.decoder.id} as registered is not ours", "use the version that made it"
        )
    return reader
