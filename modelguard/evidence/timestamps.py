"""Timestamps (RFC 3161): an authority's word that a message existed at a time; needs the extra `timestamp`.

Tokens are verified by rfc3161-client against root certificates of the reader's own choice, when they are
acquired and again whenever evidence is checked, offline. Certificates need to have been valid at the time of
the token, not today.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding

from modelguard.errors import InputError, TimestampError
from modelguard.evidence import prf, records

Roots = Sequence[x509.Certificate]
"""Certificates of authorities the reader trusts."""

MAX_TOKEN_BYTES = 64 << 10
MAX_ROOTS_BYTES = 4 << 20
CLOCK_SLACK = timedelta(minutes=5)  # between an authority's clock and ours


@dataclass(frozen=True)
class Timestamp:
    """What a verified token shows; make it with `verify`.

    Attributes:
        time: when the authority had the message, UTC in whole seconds.
        signature: the authority's signature; of an ECDSA signature (r, s) only r, as whoever holds it can
            alter s.
    """

    time: datetime
    signature: bytes

    @property
    def salt(self) -> bytes:
        """The key's salt, if this token is over a precommit message."""
        return prf.salt_from_token(self.signature)

    def __str__(self) -> str:
        """Return the time as records write it."""
        return self.time.strftime(records.TIME_FORMAT)


class TimestampAuthority:
    """A service that stamps, and the root certificates its tokens must lead to.

    Args:
        url: where it answers RFC 3161 requests, http or https.
        roots: PEM files of the root certificates.
        timeout: seconds a request may take in all.

    Raises:
        InputError: not such a URL, or a file holds no certificate.
    """

    def __init__(self, url: str, roots: str | Path | Iterable[str | Path], timeout: float = 30) -> None:
        if urlsplit(url).scheme not in ("http", "https"):
            raise InputError(
                f"tsa: {url!r} is no http or https address", "give the URL of an RFC 3161 service"
            )
        self.url = url
        self.timeout = timeout
        self.roots = load_roots([roots] if isinstance(roots, (str, Path)) else roots)

    @property
    def pem(self) -> bytes:
        """The root certificates as PEM."""
        return b"".join(root.public_bytes(Encoding.PEM) for root in self.roots)

    def stamp(self, message: bytes) -> bytes:
        """Have a message stamped; only its digest leaves this machine.

        Returns:
            The authority's answer (a DER TimeStampResp), already verified; at most 64 KiB.

        Raises:
            TimestampError: no answer, a token that does not verify, or a clock that is five minutes off.
            InputError: the extra `timestamp` is not installed.
        """
        client = _client()
        builder = client.TimestampRequestBuilder().data(message)
        request = builder.hash_algorithm(client.HashAlgorithm.SHA256).build()
        token = self._post(request.as_bytes())
        stamp = verify(token, message, self.roots, nonce=request.nonce)
        if datetime.now(UTC) - stamp.time > CLOCK_SLACK:
            raise TimestampError(
                f"timestamp: {self.url} dates it {stamp}, which is past",
                "compare the clocks, or ask another authority",
            )
        return token

    def _post(self, body: bytes) -> bytes:
        from http.client import HTTPException
        from urllib.request import Request, urlopen

        headers = {"Content-Type": "application/timestamp-query"}
        deadline, answer = time.monotonic() + self.timeout, b""
        try:
            with urlopen(Request(self.url, body, headers), timeout=self.timeout) as response:
                while part := response.read1(MAX_TOKEN_BYTES):
                    answer += part
                    if len(answer) > MAX_TOKEN_BYTES or time.monotonic() > deadline:
                        break
        except (OSError, HTTPException, ValueError) as error:
            raise TimestampError(
                f"timestamp: no answer from {self.url} ({error})", "try again, or another authority"
            ) from error
        if time.monotonic() > deadline:
            raise TimestampError(
                f"timestamp: {self.url} took longer than {self.timeout:g} s",
                "try again, or another authority",
            )
        return answer

    def __repr__(self) -> str:
        return f"TimestampAuthority({self.url!r}, {len(self.roots)} roots)"


def load_roots(paths: Iterable[str | Path]) -> tuple[x509.Certificate, ...]:
    """Read root certificates from PEM files; a file may hold several.

    Raises:
        InputError: a file cannot be read or holds no certificate.
    """
    roots: list[x509.Certificate] = []
    for path in paths:
        try:
            with Path(path).open("rb") as file:
                roots += parse_roots(file.read(MAX_ROOTS_BYTES))
        except OSError as error:
            raise InputError(f"tsa_roots: cannot read {path} ({error.strerror})", "check the path") from error
        except ValueError:
            raise InputError(
                f"tsa_roots: {path} holds no certificate in PEM",
                "get the root certificate from the authority",
            ) from None
    return tuple(roots)


def parse_roots(pem: bytes) -> Roots:
    """Parse certificates in PEM; ValueError if there is none."""
    return tuple(x509.load_pem_x509_certificates(pem))


def verify(token: bytes, message: bytes, roots: Roots, *, nonce: int | None = None) -> Timestamp:
    """Verify a token offline.

    Args:
        token: DER TimeStampResp, as `TimestampAuthority.stamp` returns it.
        message: what it must be over.
        roots: certificates the reader trusts; those in the token only help to build the chain.
        nonce: of the request, if it is at hand.

    Raises:
        TimestampError: too large, malformed, over another message, of an authority below none of the roots or
            with a certificate not valid at its time, or dated in the future.
        InputError: no roots, or the extra `timestamp` is not installed.
    """
    client = _client()
    if not roots:
        raise no_roots()
    if len(token) > MAX_TOKEN_BYTES:
        raise TimestampError(
            f"timestamp: more than {MAX_TOKEN_BYTES} bytes",
            "this is no token; ask for the one that was given",
        )
    try:
        response = client.decode_timestamp_response(token)
        client.VerifierBuilder(roots=list(roots), nonce=nonce).build().verify_message(response, message)
        stamp = Timestamp(response.tst_info.gen_time, _signature(response))
    except (client.VerificationError, ValueError, IndexError) as error:
        raise TimestampError(
            f"timestamp: does not verify ({_reason(error)})",
            "check which authority's root certificate you trust, or ask for the token that was given",
        ) from None
    if stamp.time - datetime.now(UTC) > CLOCK_SLACK:
        raise TimestampError(f"timestamp: dated {stamp}, in the future", "check the clock of this machine")
    return stamp


def transcript_message(head: bytes) -> bytes:
    """Return what the timestamp of a closed transcript is over.

    Args:
        head: of its hash chain, 32 bytes.
    """
    return b"modelguard/v1/tst-transcript\x00" + head


def check_order(*stamps: tuple[str, Timestamp | None]) -> None:
    """Check that named timestamps do not go back in time; None is skipped.

    Raises:
        TimestampError: one is earlier than one before it.
    """
    given = [(name, stamp) for name, stamp in stamps if stamp is not None]
    for (first, before), (second, after) in pairwise(given):
        if after.time < before.time:
            raise TimestampError(
                f"timestamp of the {second}: {after} is before that of the {first}, {before}",
                "one of the clocks went back, or these tokens do not belong together",
            )


def no_roots() -> InputError:
    """Return the error of a reader who has a timestamp to verify and trusts no authority."""
    return InputError(
        "tsa_roots: none given, so no timestamp can be verified",
        "pass the root certificate (PEM) of the timestamp authority you trust",
    )


def _client() -> Any:
    try:
        import rfc3161_client
    except ImportError:
        raise InputError(
            "timestamp: rfc3161-client is not installed", 'install "modelguard-sdk[timestamp]"'
        ) from None
    return rfc3161_client


def _reason(error: Exception) -> str:
    found = re.search(r'Verify error: ?([^"]*)"', str(error))
    return found[1] if found else str(error)[:200]


def _signature(response: Any) -> bytes:
    """Return the unalterable part of a verified token's CMS signature value.

    The algorithm's name in the SignerInfo is not under the signature; the signer's certificate is.
    """
    (_, content), *_ = _elements(response.time_stamp_token())  # ContentInfo
    (_, signed), *_ = _elements(_elements(content)[1][1])  # SignedData
    ((_, signer),) = _elements(_elements(signed)[-1][1])  # the only SignerInfo
    (value,) = (body for tag, body in _elements(signer) if tag == 0x04)
    (info,) = response.signed_data.signer_infos
    for der in response.signed_data.certificates:
        certificate = x509.load_der_x509_certificate(der)
        if (certificate.issuer, certificate.serial_number) == (info.issuer, info.serial_number):
            key = certificate.public_key()
            if isinstance(key, RSAPublicKey):
                return value
            if isinstance(key, EllipticCurvePublicKey):
                ((_, pair),) = _elements(value)
                return _elements(pair)[0][1]  # (r, n - s) verifies as well as (r, s)
    raise ValueError("signed by neither RSA nor ECDSA")


def _elements(der: bytes) -> list[tuple[int, bytes]]:
    """Split DER elements that follow one another into (tag, content).

    Raises:
        ValueError: not DER: a length that is cut or not the shortest, or a tag of several bytes.
    """
    found, at = [], 0
    while at < len(der):
        size, start = der[at + 1] if at + 1 < len(der) else 0xFF, at + 2
        if size >= 0x80:
            written = der[start : start + size - 0x80]
            size, start = int.from_bytes(written, "big"), start + size - 0x80
            if size < 0x80 or not written[0]:
                raise ValueError("not DER")
        if der[at] & 0x1F == 0x1F or start + size > len(der):
            raise ValueError("not DER")
        found.append((der[at], der[start : start + size]))
        at = start + size
    return found
