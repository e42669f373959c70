"""A page for people: what was claimed, asked and answered, how strong that is, and what it does not prove.

One HTML file that holds its pictures, runs no script and loads nothing. It is made of checked evidence only.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from modelguard._files import atomic_write_bytes
from modelguard.errors import InputError
from modelguard.evidence import CheckedEvidence, Line, answer_images
from modelguard.schemes import PhotoReader, TriggerReader, reader_of

__all__ = ["render", "write"]

SIDE = 320
MOST_QUERIES = 12
AGREES, DIFFERS, REFUSED = (0, 114, 178), (230, 159, 0), (190, 190, 190)
Pixels = npt.NDArray[np.uint8]
MODES = {
    "self": "the owner alone: this is the owner's own word on what was asked and answered",
    "witness": "the owner's key, in the presence of a witness who signed",
    "arbiter": "an examiner who did not hold the secret bits until all answers were recorded",
}


def write(path: str | Path, bundle: str | Path, evidence: CheckedEvidence) -> Path:
    """Write the page of a bundle that was checked.

    Args:
        path: of the new HTML file.
        bundle: the folder or zip that was checked; the pictures are taken from it.
        evidence: what `modelguard.check` returned for it.

    Raises:
        InputError: the file exists, or jinja2 is not installed.
        EvidenceError: the bundle is not the one that was checked.
    """
    return atomic_write_bytes(path, render(bundle, evidence).encode())


def render(bundle: str | Path, evidence: CheckedEvidence) -> str:
    """Return the page as text; see `write`."""
    try:
        import jinja2
    except ImportError:
        raise InputError("report: jinja2 is not installed", "pip install 'modelguard-sdk[report]'") from None
    template = resources.files(__name__).joinpath("page.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    read = [line for line in evidence.transcript if line.kind in ("trigger", "photo")]
    shown = read[:MOST_QUERIES]
    images = answer_images(bundle, {name for line in shown for name in (line.query, line.decoded) if name})
    return environment.from_string(template).render(
        evidence=evidence,
        fields=evidence.registration.fields,
        asked_by=MODES[evidence.mode],
        strength=strength(evidence),
        queries=[_query(evidence, line, images) for line in shown],
        omitted=len(read) - len(shown),
        others=len(evidence.transcript) - len(read),
        expected=evidence.bits / 2,
    )


def strength(evidence: CheckedEvidence) -> str:
    """Return in plain words how strong a result is."""
    if evidence.verdict != "match":
        return (
            "Too weak to show anything. That does not mean that the suspect is innocent: a mark can be "
            "damaged, and answers can be refused."
        )
    flips = math.floor(-evidence.log10_p_adj / math.log10(2))
    return (
        f"Had the answers nothing to do with the key, agreement like this would be as likely as a fair coin "
        f"falling heads {flips} times in a row, every trial that had to be counted already allowed for."
    )


def _query(evidence: CheckedEvidence, line: Line, images: Mapping[str, Pixels]) -> dict[str, Any]:
    scheme, reader = evidence.registration.scheme, reader_of(evidence.registration)
    secrets = [evidence.opened[leaf] for leaf in line.leaves or evidence.opened]
    keys = [secret_k for secret_k, _ in secrets]
    if isinstance(reader, TriggerReader):
        asked = reader.trigger(scheme, keys, evidence.salt)
    else:
        asked = images[str(line.query)]
    shown = {"at": line.at, "status": line.status, "leaves": line.leaves, "asked": _uri(asked)}
    if line.decoded is None:
        return {**shown, "answer": None}
    answer = images[line.decoded]
    signs = np.concatenate([reader.bits(scheme, secret_b, evidence.salt) for _, secret_b in secrets])
    if isinstance(reader, PhotoReader):
        scores = reader.decode_photo(scheme, keys, evidence.salt, asked, answer)
    else:
        assert isinstance(reader, TriggerReader)
        scores = reader.decode(scheme, keys, evidence.salt, answer)
    agreement = np.sign(scores) * signs
    return {
        **shown,
        "answer": _uri(answer),
        "cells": _uri(_cells(agreement)),
        "matches": int((agreement > 0).sum()),
        "bits": agreement.size,
    }


def _cells(agreement: npt.NDArray[np.int64]) -> Pixels:
    """Return one pixel a bit, in the order of the test: blue where the answer has the secret sign."""
    across = math.ceil(math.sqrt(agreement.size))
    colours = np.full((across * across, 3), 255, np.uint8)
    picks = np.where(agreement[:, None] > 0, AGREES, np.where(agreement[:, None] < 0, DIFFERS, REFUSED))
    colours[: agreement.size] = picks
    return colours.reshape(across, across, 3)


def _uri(pixels: Pixels) -> str:
    """Return an image as a data URI, small ones enlarged so that their squares are seen."""
    flat = pixels[..., 0] if pixels.shape[2] in (1, 2) else pixels[..., :3]
    image = Image.fromarray(np.ascontiguousarray(flat))
    if max(image.size) > SIDE:
        image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
