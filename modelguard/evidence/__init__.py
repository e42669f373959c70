"""Evidence that others can check: owner keys, commitments, registrations, transcripts, certificates, bundles.

Knows no scheme: how an opened leaf becomes an image, bits and scores is handed in as three callables.
"""

from __future__ import annotations

from modelguard.evidence.bundle import CheckedEvidence, certify, check_bundle
from modelguard.evidence.certificate import needed_grind_bits
from modelguard.evidence.key import Decoder, Key, Scheme, select
from modelguard.evidence.owner import Owner, PublicKey
from modelguard.evidence.prf import stream
from modelguard.evidence.registration import Registration, register
from modelguard.evidence.revocation import History, Statement, load_statements, revoke, rotate
from modelguard.evidence.sealed import resolve_passphrase, seal, unseal
from modelguard.evidence.timestamps import Timestamp, TimestampAuthority, load_roots
from modelguard.evidence.transcript import Line, Session, SuspectInfo, Transcript

__all__ = [
    "CheckedEvidence",
    "Decoder",
    "History",
    "Key",
    "Line",
    "Owner",
    "PublicKey",
    "Registration",
    "Scheme",
    "Session",
    "Statement",
    "SuspectInfo",
    "Timestamp",
    "TimestampAuthority",
    "Transcript",
    "certify",
    "check_bundle",
    "load_roots",
    "load_statements",
    "needed_grind_bits",
    "register",
    "resolve_passphrase",
    "revoke",
    "rotate",
    "seal",
    "select",
    "stream",
    "unseal",
]
