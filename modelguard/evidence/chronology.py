"""The order in which a bundle's parts came to be, as far as timestamps show it."""

from __future__ import annotations

from dataclasses import dataclass

from modelguard.evidence import timestamps
from modelguard.evidence.registration import Registration
from modelguard.evidence.stamped import verify_stamped
from modelguard.evidence.timestamps import Roots, Timestamp, check_order, no_roots, transcript_message


@dataclass(frozen=True)
class Chronology:
    """Verified times, each None without a timestamp; make it with `verify`.

    Attributes:
        committed: when the key was fixed; its salt came with this timestamp.
        registered: when the registration was signed at the latest.
        closed: when the transcript was complete at the latest, before the secret bits were opened.
        certified: when the certificate was signed at the latest.
    """

    committed: Timestamp | None = None
    registered: Timestamp | None = None
    closed: Timestamp | None = None
    certified: Timestamp | None = None

    @classmethod
    def verify(
        cls,
        roots: Roots,
        registration: Registration,
        head: bytes,
        transcript_token: bytes,
        certificate: bytes,
        certificate_token: bytes,
    ) -> Chronology:
        """Verify all timestamps of a bundle, and that they do not go back in time.

        Args:
            roots: certificates the reader trusts.
            registration: loaded with the same roots.
            head: of the transcript's hash chain, 32 bytes.
            transcript_token: over the head; empty without.
            certificate: the signed file.
            certificate_token: over the certificate; empty without.

        Raises:
            TimestampError: one does not verify, or is earlier than one that must precede it.
            InputError: there is one, and no root.
        """
        if registration.token and registration.stamped is None:
            raise no_roots()
        closed = None
        if transcript_token:
            closed = timestamps.verify(transcript_token, transcript_message(head), roots)
        certified = verify_stamped(certificate, certificate_token, roots)
        times = cls(registration.committed, registration.stamped, closed, certified)
        check_order(
            ("key", times.committed),
            ("registration", times.registered),
            ("transcript", times.closed),
            ("certificate", times.certified),
        )
        return times
