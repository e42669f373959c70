"""What an examiner signs after a session: which leaves were opened and what the exact test gave."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from modelguard.errors import EvidenceError, InputError
from modelguard.evidence import dsse, merkle, records
from modelguard.evidence.blobs import Array, array_digest
from modelguard.evidence.key import Key, Scheme
from modelguard.evidence.opening import Opened
from modelguard.evidence.owner import PublicKey
from modelguard.evidence.registration import Registration
from modelguard.evidence.transcript import TRANSCRIPT_FILE, Line, Session
from modelguard.statistics import Multiplicity, SignTest, sign_test

Trigger = Callable[[Scheme, Sequence[bytes], bytes], Array]
"""trigger(scheme, [x_K, ...], salt) -> uint8 (H, W, C), the mosaic of these leaves."""
BitsOf = Callable[[Scheme, bytes, bytes], npt.NDArray[np.int8]]
"""bits(scheme, x_b, salt) -> (n,) in {-1, +1}, the secret bits of one leaf."""
Decode = Callable[[Scheme, Sequence[bytes], bytes, Array], npt.NDArray[np.int64]]
"""decode(scheme, [x_K, ...], salt, response) -> scores of all cells of these leaves; it never sees x_b."""
DecodePhoto = Callable[[Scheme, Sequence[bytes], bytes, Array, Array], npt.NDArray[np.int64]]
"""decode_photo(scheme, [x_K, ...], salt, query, response) -> scores of all cells of these leaves."""
_NONCES_BITS = 80  # nobody is assumed to compute more; as for keys

Secrets = Mapping[int, tuple[bytes, bytes]]
Answer = tuple[tuple[int, ...], str, Array | None]
"""Leaves of a mosaic, digest of the image asked, the response or None for a refusal."""
PhotoAnswer = tuple[str, Array, Array | None]
"""Digest of the photo asked, the photo, the response or None for a refusal."""


@dataclass(frozen=True)
class Certificate:
    """A verified certificate; its numbers are claims until `check_bundle` has recomputed them.

    Attributes:
        fields: the record itself, as checked.
        record_id: its identity, 64 hexadecimal digits.
        examiner: the key that signed it.
        session: the session it is about.
        leaves: the leaves its selection gives, in order; of a sequential session the first ones, as opened.
    """

    fields: Mapping[str, Any] = field(repr=False)
    record_id: str
    examiner: PublicKey
    session: Session
    leaves: tuple[int, ...]

    @classmethod
    def from_envelope(
        cls,
        envelope: bytes,
        trust: Sequence[PublicKey],
        registration: Registration,
        heirs: Sequence[PublicKey] = (),
    ) -> Certificate:
        """Verify a certificate of a registration against keys the caller trusts; `heirs` are its owner's too.

        Raises:
            SignatureError: no trusted key signed it.
            MalformedEvidenceError: it breaks the format.
            EvidenceError: it is another registration's, or its examiner is not the signer.
        """
        verified = dsse.verify(envelope, trust)
        subject, fields = records.parse_statement(verified.payload, records.VERIFICATION_TYPE)
        claimed = fields["examiner"]
        examiner = next((key for key in verified.signers if key.keyid == claimed["keyid"]), None)
        if examiner is None:
            raise EvidenceError("certificate.examiner: did not sign it", "ask the examiner")
        if (claimed["mode"] == "self") != (examiner in (registration.owner, *heirs)):
            raise EvidenceError(
                f"certificate.examiner.mode: {claimed['mode']!r} does not fit who signed",
                "only an owner's own certificate is, and must be, of mode 'self'",
            )
        if fields["registration"] != registration.record_id:
            raise EvidenceError("certificate.registration: another", "ask for the record it names")
        if subject != {TRANSCRIPT_FILE: fields["transcript"]["sha256"]}:
            raise EvidenceError("certificate.subject: not the transcript", "ask the examiner")
        session = Session.from_record(fields["registration"], fields["suspect"], fields["selection"])
        # made-up leaves among the excluded would hide how many sets there were to choose from
        if session.exclude != tuple(sorted(set(session.exclude).intersection(range(registration.leaves)))):
            raise EvidenceError(
                "certificate.selection.exclude: no sorted leaves of this key", "ask the examiner"
            )
        try:
            leaves = session.leaves(registration)
        except InputError as error:
            raise EvidenceError(f"certificate.selection.{error.message}", "ask the examiner") from None
        # one of triggers stopped before the end; that it opened what it asked is checked later
        if session.sequential and not session.photos:
            leaves = leaves[: len(fields["openings"])]
        return cls(fields, verified.record_id, examiner, session, leaves)

    def opened(self, registration: Registration) -> Secrets:
        """Return the opened secrets by leaf, in the order of selection.

        Raises:
            EvidenceError: they are not the selected leaves, or not under the committed root.
        """
        openings = self.fields["openings"]
        if tuple(opening["leaf"] for opening in openings) != self.leaves:
            raise EvidenceError("openings: not the selected leaves", "ask for a valid certificate")
        secrets: dict[int, tuple[bytes, bytes]] = {}
        for opening in openings:
            index, pair = opening["leaf"], (bytes.fromhex(opening["xK"]), bytes.fromhex(opening["xb"]))
            siblings = [bytes.fromhex(node) for node in opening["path"]]
            merkle.verify(merkle.leaf(index, *pair), index, registration.leaves, siblings, registration.root)
            secrets[index] = pair
        return secrets


def opening_record(key: Key | Opened, leaf: int) -> dict[str, Any]:
    """Return an element of `openings`; this publishes the leaf's secrets."""
    secret_k, secret_b = key.leaf(leaf)
    path = [node.hex() for node in key.path(leaf)]
    return {"leaf": leaf, "xK": secret_k.hex(), "xb": secret_b.hex(), "path": path}


def evaluate(
    scheme: Scheme,
    salt: bytes,
    secrets: Secrets,
    answers: Iterable[Answer],
    trigger: Trigger,
    bits: BitsOf,
    decode: Decode,
) -> SignTest:
    """Derive triggers and bits again, decode the responses and test their agreement exactly.

    A refused trigger scores 0 in all its cells.

    Raises:
        EvidenceError: an image asked was not the trigger of its leaves, the decoder's scores do not fit, or
            they are too many to count.
    """
    all_bits, all_scores = [], []
    for leaves, request, response in answers:
        keys = [secrets[leaf][0] for leaf in leaves]
        if array_digest(trigger(scheme, keys, salt)) != request:
            raise EvidenceError(f"trigger of leaves {leaves}: not the image asked", "record a new session")
        scores = None if response is None else decode(scheme, keys, salt, response)
        signs = np.concatenate([bits(scheme, secrets[leaf][1], salt) for leaf in leaves])
        if scores is None:
            scores = np.zeros(signs.shape, np.int64)
        if scores.shape != signs.shape:
            raise EvidenceError(f"scores: {scores.shape} for bits of {signs.shape}", "decode every cell")
        all_bits.append(signs)
        all_scores.append(scores)
    return _counted(scheme, np.concatenate(all_bits), np.concatenate(all_scores))


def evaluate_photos(
    scheme: Scheme,
    salt: bytes,
    secrets: Secrets,
    answers: Iterable[PhotoAnswer],
    bits: BitsOf,
    decode_photo: DecodePhoto,
) -> SignTest:
    """Decode the answers to photos, add up the scores of each bit and test their agreement exactly.

    A refused photo adds nothing.

    Raises:
        EvidenceError: a photo is not the one asked or cannot be decoded, or the decoder's scores do not fit.
    """
    keys = [secret_k for secret_k, _ in secrets.values()]
    signs = np.concatenate([bits(scheme, secret_b, salt) for _, secret_b in secrets.values()])
    total = np.zeros(signs.shape, np.int64)
    for request, query, response in answers:
        if array_digest(query) != request:
            raise EvidenceError(f"photo {request[:16]}...: not the image asked", "record a new session")
        if response is None:
            continue
        try:
            scores = decode_photo(scheme, keys, salt, query, response)
        except InputError as error:
            raise EvidenceError(error.message, error.remedy) from None
        if scores.shape != signs.shape:
            raise EvidenceError(f"scores: {scores.shape} for bits of {signs.shape}", "decode every cell")
        total += scores
    return _counted(scheme, signs, total)


def _counted(scheme: Scheme, signs: npt.NDArray[np.int8], scores: npt.NDArray[np.int64]) -> SignTest:
    levels = int(scheme.get("levels", 15))
    try:
        return sign_test(signs, scores, levels)
    except InputError as error:  # the scheme of the record asks for more than can be counted
        raise EvidenceError(f"result.{error.message}", error.remedy) from None


def needed_grind_bits(registration: Registration, session: Session, lines: Sequence[Line], mode: str) -> int:
    """Return log2, rounded up, of all that could have been tried before a session and in it.

    These are the keys before they were committed, the sets of leaves, and the looks of a sequential session.
    Naming leaves as used before is a choice: all C(n, excluded) sets count. So does the nonce if the owner
    drew it, who can draw again until the leaves suit: all sets of as many of the other leaves count, though
    no more than the nonces that can be tried.

    Args:
        registration: of the key.
        session: what was fixed before the first question.
        lines: what was asked.
        mode: "self" if the owner drew the nonce.
    """
    sets = math.comb(registration.leaves, len(session.exclude))
    if mode == "self":
        free, asked = registration.leaves - len(session.exclude), len(session.asked(registration, lines))
        sets *= min(math.comb(free, asked), 1 << _NONCES_BITS)
    return registration.grind_bits + (sets - 1).bit_length() + session.looks_bits(lines)


def verdict_of(test: SignTest, multiplicity: Multiplicity, alpha: Decimal) -> str:
    """Return "match" if the adjusted p-value is at most alpha, else "inconclusive"; never "innocent"."""
    return "match" if multiplicity.adjust(test.log10_p) <= float(alpha.log10()) else "inconclusive"


def result_record(test: SignTest, multiplicity: Multiplicity, alpha: Decimal) -> dict[str, Any]:
    """Return the `result` field, which a verifier recomputes and compares."""
    return {
        "bits": test.bits,
        "matches": test.matches,
        "T": test.statistic,
        "W": test.total,
        "tail": hex(test.tail),
        "log10p": f"{test.log10_p:.2f}",
        "verdict": verdict_of(test, multiplicity, alpha),
        "multiplicity": {
            "suspects": multiplicity.suspects,
            "registrations": multiplicity.registrations,
            "grindBits": multiplicity.grind_bits,
        },
    }
