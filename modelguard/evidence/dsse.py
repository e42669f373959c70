"""DSSE envelopes (github.com/secure-systems-lab/dsse): signatures over bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from modelguard.errors import InputError, SignatureError
from modelguard.evidence import records
from modelguard.evidence.owner import Owner, PublicKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"

_SIGNATURE = records.table(sig=records.base64_text, optional={"keyid": records.text})
_ENVELOPE = records.table(
    payload=records.base64_text,
    payloadType=records.one_of(PAYLOAD_TYPE),
    signatures=records.each(_SIGNATURE, 16),
)


@dataclass(frozen=True)
class Verified:
    """What an envelope holds, once a trusted key has signed it.

    Attributes:
        payload: the signed bytes; nothing else of the envelope may be believed.
        record_id: SHA-256 of the PAE in hexadecimal, the identity of the record.
        signers: those of the trusted keys that signed.
    """

    payload: bytes
    record_id: str
    signers: tuple[PublicKey, ...]


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the pre-authentication encoding, the bytes that are signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def record_id(payload: bytes) -> str:
    """Return the identity of a record: SHA-256 of its PAE in hexadecimal."""
    return hashlib.sha256(pae(PAYLOAD_TYPE, payload)).hexdigest()


def sign(payload: bytes, *signers: Owner) -> bytes:
    """Sign a payload and return the envelope as JSON."""
    message = pae(PAYLOAD_TYPE, payload)
    signatures = [
        {"keyid": keyid, "sig": records.b64(signature)}
        for signer in signers
        for keyid, signature in signer.signatures(message).items()
    ]
    return records.dumps(
        {"payload": records.b64(payload), "payloadType": PAYLOAD_TYPE, "signatures": signatures}
    )


def unverified(envelope: bytes) -> tuple[bytes, list[str]]:
    """Return the payload of an envelope and the key ids it names, neither of which anyone has checked.

    Raises:
        MalformedEvidenceError: not an envelope, or one of another payload type.
    """
    value = records.loads(envelope, limit=2 * records.MAX_JSON_BYTES)
    _ENVELOPE("envelope", value)
    keyids = [entry.get("keyid", "") for entry in value["signatures"]]
    return records.unb64(value["payload"], "envelope.payload"), keyids


def verify(envelope: bytes, trust: Sequence[PublicKey]) -> Verified:
    """Verify an envelope against keys the caller trusts.

    The key ids inside are hints nobody signed, so every signature is tried with every trusted key. A key with
    a second one has signed only if both did.

    Raises:
        InputError: `trust` is empty.
        MalformedEvidenceError: not an envelope, or one of another payload type.
        SignatureError: no trusted key signed it.
    """
    if not trust:
        raise InputError("trust: empty", "give the public keys you trust; the record cannot vouch for itself")
    value = _parsed(envelope)
    payload = records.unb64(value["payload"], "envelope.payload")
    message = pae(PAYLOAD_TYPE, payload)
    signatures = [records.unb64(entry["sig"], "envelope.sig") for entry in value["signatures"]]
    signers = tuple(
        key
        for key in trust
        if all(any(_made_by(part, signature, message) for signature in signatures) for part in key.parts)
    )
    if not signers:
        raise SignatureError(
            "signature: none of the trusted keys signed this record",
            "ask the signer for their public key by a safe way, or do not believe the record",
        )
    return Verified(payload, hashlib.sha256(message).hexdigest(), signers)


def token_message(envelope: bytes) -> bytes:
    """Return what a timestamp of an envelope is over: its payload and all its signatures.

    The signatures alone would not do: under a bad key one signature fits many payloads.

    Raises:
        MalformedEvidenceError: not an envelope.
    """
    value = _parsed(envelope)
    payload = records.unb64(value["payload"], "envelope.payload")
    digests = [hashlib.sha256(pae(PAYLOAD_TYPE, payload))]
    for entry in value["signatures"]:
        digests.append(hashlib.sha256(entry.get("keyid", "").encode()))
        digests.append(hashlib.sha256(records.unb64(entry["sig"], "envelope.sig")))
    return b"modelguard/v1/tst\x00" + b"".join(digest.digest() for digest in digests)


def _parsed(envelope: bytes) -> Any:
    value = records.loads(envelope, limit=2 * records.MAX_JSON_BYTES)
    _ENVELOPE("envelope", value)
    return value


def _made_by(key: PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message)
    except SignatureError:
        return False
    return True
