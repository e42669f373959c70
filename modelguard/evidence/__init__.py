"""Evidence that others can check: owner keys, commitments, registrations, transcripts, certificates, bundles.

Knows no scheme: how an opened leaf becomes an image, bits and scores is handed in as three callables.
"""

from __future__ import annotations

from modelguard.evidence.bundle import CheckedEvidence, answer_images, certify, check_bundle, inspect_bundle
from modelguard.evidence.certificate import needed_grind_bits
from modelguard.evidence.key import Decoder, Key, Scheme, select
from modelguard.evidence.opening import Bits, Opened, Triggers, close, open_bits, open_triggers
from modelguard.evidence.owner import Owner, PublicKey
from modelguard.evidence.prf import stream
from modelguard.evidence.registration import Registration, register
from modelguard.evidence.revocation import History, Statement, load_statements, revoke, rotate
from modelguard.evidence.sealed import resolve_passphrase, seal, unseal
from modelguard.evidence.timestamps import Timestamp, TimestampAuthority, load_roots
from modelguard.evidence.transcript import Line, Session, SuspectInfo, Transcript

__all__ = [
    "Bits",
    "CheckedEvidence",
    "Decoder",
    "History",
    "Key",
    "Line",
    "Opened",
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
    "Triggers",
    "answer_images",
    "certify",
    "check_bundle",
    "close",
    "inspect_bundle",
    "load_roots",
    "load_statements",
    "needed_grind_bits",
    "open_bits",
    "open_triggers",
    "register",
    "resolve_passphrase",
    "revoke",
    "rotate",
    "seal",
    "select",
    "stream",
    "unseal",
]
