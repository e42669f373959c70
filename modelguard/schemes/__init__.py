"""How a model is marked. A scheme is one file; its reader is found by the id in its public parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from modelguard.errors import EvidenceError, MalformedEvidenceError
from modelguard.evidence import Registration
from modelguard.schemes import keyed_cells, odd_filters, symmetric_filters, tone_carriers
from modelguard.schemes.barrier import Barrier, Filtered
from modelguard.schemes.base import (
    AttachedScheme,
    Contract,
    EmbedReport,
    PhotoReader,
    Reader,
    Scheme,
    TrainedScheme,
    TriggerReader,
    probe,
)
from modelguard.schemes.self_watermark import SelfWatermark
from modelguard.schemes.symmetric_barrier import Coloured, SymmetricBarrier
from modelguard.schemes.trigger_key import TriggerKey
from modelguard.schemes.wave_barrier import WaveBarrier, Waved

__all__ = [
    "AttachedScheme",
    "Barrier",
    "Contract",
    "EmbedReport",
    "PhotoReader",
    "Reader",
    "Scheme",
    "SelfWatermark",
    "SymmetricBarrier",
    "TrainedScheme",
    "TriggerKey",
    "TriggerReader",
    "WaveBarrier",
    "probe",
    "read",
    "reader_of",
    "shell",
]

_READERS: dict[str, Reader] = {
    keyed_cells.ID: keyed_cells,
    keyed_cells.CLIP_ID: keyed_cells,
    odd_filters.ID: odd_filters,
    odd_filters.INSIDE_ID: odd_filters,
    symmetric_filters.ID: symmetric_filters,
    tone_carriers.ID: tone_carriers,
}


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


def shell(model: nn.Module, scheme: Mapping[str, Any], leaves: int) -> nn.Module:
    """Return what the weights of a protected model are loaded into: `model`, with what its scheme adds to it.

    Args:
        model: built as the unprotected one was.
        scheme: public parameters.
        leaves: of the key.
    """
    if scheme["id"] == odd_filters.ID:
        return Filtered(model, int(scheme["scale"]))
    if scheme["id"] == symmetric_filters.ID:
        return Coloured(model, int(scheme["scale"]))
    if scheme["id"] == tone_carriers.ID:
        return Waved(model, int(scheme["channels"]), int(scheme["scale"]), leaves)
    return model
