"""The folder anyone can check offline: registration, certificate, transcript and the blobs it refers to."""

from __future__ import annotations

import hashlib
import math
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelguard._files import atomic_write_bytes
from modelguard.errors import EvidenceError, InputError, MalformedEvidenceError
from modelguard.evidence import dsse, records
from modelguard.evidence.blobs import MAX_BLOB_BYTES, decode_png, get_blob, read_bounded
from modelguard.evidence.certificate import (
    Answer,
    Bits,
    Certificate,
    Decode,
    Trigger,
    evaluate,
    needed_grind_bits,
    opening_record,
    result_record,
    verdict_of,
)
from modelguard.evidence.chronology import Chronology
from modelguard.evidence.key import Key
from modelguard.evidence.owner import Owner, PublicKey
from modelguard.evidence.registration import Registration
from modelguard.evidence.revocation import MAX_STATEMENT_BYTES, Statement, load_statements, load_trusted
from modelguard.evidence.stamped import read_stamped, read_token
from modelguard.evidence.timestamps import MAX_TOKEN_BYTES, Roots, TimestampAuthority, transcript_message
from modelguard.evidence.transcript import (
    BLOB_FOLDER,
    MAX_TRANSCRIPT_BYTES,
    TRANSCRIPT_FILE,
    SuspectInfo,
    Transcript,
    answers,
    chain,
    parse_lines,
)
from modelguard.statistics import Multiplicity

REGISTRATION_FILE = "registration.dsse.json"
CERTIFICATE_FILE = "certificate.dsse.json"
REGISTRATION_TOKEN_FILE = "registration.tsr"
TRANSCRIPT_TOKEN_FILE = "transcript.tsr"
CERTIFICATE_TOKEN_FILE = "certificate.tsr"
REVOCATION_FOLDER = "revocations"
_LIMITS = {
    REGISTRATION_FILE: 2 * records.MAX_JSON_BYTES,
    CERTIFICATE_FILE: 2 * records.MAX_JSON_BYTES,
    TRANSCRIPT_FILE: MAX_TRANSCRIPT_BYTES,
    REGISTRATION_TOKEN_FILE: MAX_TOKEN_BYTES,
    TRANSCRIPT_TOKEN_FILE: MAX_TOKEN_BYTES,
    CERTIFICATE_TOKEN_FILE: MAX_TOKEN_BYTES,
}
_MODE_LIMIT = {
    "self": "That the responses came from the suspect is the owner's word.",
    "witness": "That the responses came from the suspect is the owner's and the witness's word.",
    "arbiter": "That the responses came from the suspect is the examiner's word; repeat it on new leaves.",
}


@dataclass(frozen=True)
class CheckedEvidence:
    """What a bundle proves, recomputed by the reader.

    Attributes:
        registration: the owner's record.
        verdict: "match" or "inconclusive"; never "innocent".
        log10_p: log10 of the exact p-value.
        log10_p_adj: the same after all tries that had to be counted.
        multiplicity: the tries counted.
        bits: number of secret bits tested.
        matches: how many of them the responses agreed with.
        leaves: the opened leaves.
        owner: the owner's name, as the owner wrote it.
        suspect: who was asked.
        examiner: the examiner's name, as the examiner wrote it.
        mode: "self", "witness" or "arbiter".
        statement: what is proven, in one or two sentences.
        limits: what is not proven.
        times: when its parts came to be, as far as timestamps show it.
    """

    registration: Registration
    verdict: str
    log10_p: float
    log10_p_adj: float
    multiplicity: Multiplicity
    bits: int
    matches: int
    leaves: tuple[int, ...]
    owner: str
    suspect: SuspectInfo
    examiner: str
    mode: str
    statement: str
    limits: tuple[str, ...]
    times: Chronology

    def __bool__(self) -> bool:
        raise TypeError("checked evidence is neither true nor false; read its verdict")


def certify(
    folder: str | Path,
    *,
    registration: Registration,
    key: Key,
    transcript: Transcript,
    examiner: Owner,
    mode: str,
    trigger: Trigger,
    bits: Bits,
    decode: Decode,
    multiplicity: Multiplicity,
    validity: Mapping[str, str] | None = None,
    tsa: TimestampAuthority | None = None,
    revocations: Sequence[Statement] = (),
) -> CheckedEvidence:
    """Open the selected leaves, sign a certificate and write the bundle.

    The bundle is checked as a stranger would before it appears under its name, so one that does not hold is
    never seen. It publishes the secrets of its leaves, which are first marked as used in the file that the
    key was loaded from.

    Args:
        folder: the new bundle; must not exist.
        registration: of the marked model.
        key: the owner's secret key, of which the selected leaves are opened.
        transcript: of the finished session.
        examiner: who signs.
        mode: "self" if the examiner is the owner, else "witness" or "arbiter".
        trigger: derives the image of some leaves.
        bits: derives the secret bits of a leaf.
        decode: the decoder that the registration names.
        multiplicity: what was tried; its grind_bits are raised to what the registration demands.
        validity: {"notBefore", "notAfter"}; default five years from now.
        tsa: stamps the closed transcript and the certificate; None leaves them unstamped.
        revocations: statements about the keys involved, to go with the bundle.

    Returns:
        What the bundle proves; `match` or not, it is written.

    Raises:
        InputError: the folder exists, key and registration do not belong together, or an argument is wrong.
        EvidenceError: the transcript does not cover the selection, or `mode` does not fit the examiner.
    """
    folder = Path(folder)
    if os.path.lexists(folder):
        raise InputError(f"folder: {folder} exists already", "choose another name")
    if key.commitment != registration.fields["watermark"]["keyCommitment"]:
        raise InputError("key: is not the one of this registration", "load the key that was registered")
    session = transcript.session
    selection = session.leaves(registration)
    data = transcript.read()
    blobs = transcript.folder / BLOB_FOLDER
    secrets = {leaf: key.leaf(leaf) for leaf in selection}
    responses = _responses(answers(transcript.lines, selection), blobs)
    test = evaluate(registration.scheme, key.salt, secrets, responses, trigger, bits, decode)
    least = Multiplicity(1, 1, needed_grind_bits(registration, len(session.exclude)))
    sha256, head = hashlib.sha256(data).hexdigest(), chain(session.first_link(), data)
    predicate = {
        "schema": "1.0",
        "certificateId": records.ulid(),
        **session.to_record(),
        "examiner": {"name": examiner.name, "mode": mode, "keyid": examiner.keyid},
        "transcript": {
            "alg": "sha256-chain/1",
            "count": len(transcript.lines),
            "sha256": sha256,
            "head": head.hex(),
        },
        "openings": [opening_record(key, leaf) for leaf in selection],
        "result": result_record(test, _strictest(multiplicity, least), registration.alpha),
        "validity": dict(validity or records.validity(5)),
    }
    try:
        payload = records.build_statement({TRANSCRIPT_FILE: sha256}, records.VERIFICATION_TYPE, predicate)
    except MalformedEvidenceError as error:
        raise InputError(error.message, "see the arguments of certify") from None
    tokens = {REGISTRATION_TOKEN_FILE: registration.token} if registration.token else {}
    if tsa is not None:  # in this order: the certificate opens the bits
        tokens[TRANSCRIPT_TOKEN_FILE] = tsa.stamp(transcript_message(head))
    certificate = dsse.sign(payload, examiner)
    if tsa is not None:
        tokens[CERTIFICATE_TOKEN_FILE] = tsa.stamp(dsse.token_message(certificate))
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        atomic_write_bytes(temporary / REGISTRATION_FILE, registration.envelope)
        atomic_write_bytes(temporary / CERTIFICATE_FILE, certificate)
        atomic_write_bytes(temporary / TRANSCRIPT_FILE, data)
        for name, token in tokens.items():
            atomic_write_bytes(temporary / name, token)
        for one in revocations:
            one.save(temporary / REVOCATION_FOLDER / f"{one.record_id}.dsse.json")
        for name in {name for line in transcript.lines for name in line.blobs}:
            atomic_write_bytes(temporary / BLOB_FOLDER / name, get_blob(blobs, name))
        trust = [registration.owner, examiner.public]
        roots = (*key.roots, *(tsa.roots if tsa else ()))
        checked = check_bundle(temporary, trust, trigger, bits, decode, multiplicity, roots)
        key.burn_in_file(selection)  # before anybody can see what was opened
        temporary.chmod(0o755)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return checked


def check_bundle(
    path: str | Path,
    trust: Sequence[PublicKey],
    trigger: Trigger,
    bits: Bits,
    decode: Decode,
    multiplicity: Multiplicity | None = None,
    roots: Roots = (),
    revocations: Sequence[Statement] = (),
) -> CheckedEvidence:
    """Check a bundle from end to end, believing nothing but the trusted keys.

    Args:
        path: the bundle's folder.
        trust: public keys of the owner and the examiner, from a source other than the bundle.
        trigger: derives the image of some leaves.
        bits: derives the secret bits of a leaf.
        decode: the decoder that `registration.decoder` names; the caller compares its digest.
        multiplicity: what the reader knows was tried; each count declared in the bundle can only be raised.
        roots: certificates of the timestamp authorities the reader trusts.
        revocations: statements the reader knows of; a bundle can leave out those that speak against it.

    Raises:
        SignatureError: no trusted key signed a record.
        TimestampError: a timestamp does not verify, or time goes back.
        RevokedError: a record does not count, as its signer's key or itself had ended.
        MalformedEvidenceError: a record or blob breaks the format.
        EvidenceError: anything else that does not hold.
        InputError: `trust` is empty, or there is a timestamp and `roots` is empty.
    """
    path = Path(path)
    stored = _check_names(path)
    statements = [
        *load_statements([path / REVOCATION_FOLDER] if (path / REVOCATION_FOLDER).exists() else []),
        *revocations,
    ]
    registration, history = load_trusted(path / REGISTRATION_FILE, trust, roots, statements)
    envelope, token = read_stamped(path / CERTIFICATE_FILE)
    heirs = history.party(registration.owner)
    certificate = Certificate.from_envelope(envelope, history.trust, registration, heirs)
    claimed, session = certificate.fields, certificate.session
    head = bytes.fromhex(claimed["transcript"]["head"])
    closed = read_token(path / TRANSCRIPT_TOKEN_FILE)
    times = Chronology.verify(roots, registration, head, closed, envelope, token)
    history.check("certificate", certificate.examiner, certificate.record_id, times.certified)
    salt = registration.salt()

    data = read_bounded(path / TRANSCRIPT_FILE, MAX_TRANSCRIPT_BYTES)
    lines = parse_lines(data)
    stated = {
        "alg": "sha256-chain/1",
        "count": len(lines),
        "sha256": hashlib.sha256(data).hexdigest(),
        "head": chain(session.first_link(), data).hex(),
    }
    for name, value in stated.items():
        if claimed["transcript"][name] != value:
            raise EvidenceError(f"transcript.{name}: not what was certified", "ask for that one")

    asked = answers(lines, certificate.leaves)
    secrets = certificate.opened(registration)
    blobs = path / BLOB_FOLDER
    referred = {name for line in lines for name in line.blobs}
    if strangers := stored - referred:
        raise EvidenceError(f"blob {min(strangers)[:16]}...: in no line of the transcript", "remove it")
    for name in sorted(referred):
        get_blob(blobs, name)
    responses = _responses(asked, blobs)
    test = evaluate(registration.scheme, salt, secrets, responses, trigger, bits, decode)

    tries = claimed["result"]["multiplicity"]
    declared = Multiplicity(tries["suspects"], tries["registrations"], tries["grindBits"])
    if declared.grind_bits < needed_grind_bits(registration, len(session.exclude)):
        raise EvidenceError("result.multiplicity.grindBits: too few", "ask for a valid certificate")
    for name, value in result_record(test, declared, registration.alpha).items():
        if claimed["result"][name] != value:
            raise EvidenceError(f"result.{name}: recomputed as {value!r}", "do not believe the certificate")

    counted = _strictest(declared, multiplicity or declared)
    log10_p_adj = counted.adjust(test.log10_p)
    verdict = verdict_of(test, counted, registration.alpha)
    mode = claimed["examiner"]["mode"]
    return CheckedEvidence(
        registration=registration,
        verdict=verdict,
        log10_p=test.log10_p,
        log10_p_adj=log10_p_adj,
        multiplicity=counted,
        bits=test.bits,
        matches=test.matches,
        leaves=certificate.leaves,
        owner=registration.owner_name,
        suspect=session.suspect,
        examiner=claimed["examiner"]["name"],
        mode=mode,
        statement=_statement(registration, verdict, log10_p_adj),
        times=times,
        limits=(*_limits(mode, times), *_expired(registration, certificate)),
    )


def _check_names(folder: Path) -> set[str]:
    """Check names, kinds and sizes before anything is read; return the names of the blobs."""
    blobs: set[str] = set()
    folders = {
        BLOB_FOLDER: (re.compile("[0-9a-f]{64}"), MAX_BLOB_BYTES),
        REVOCATION_FOLDER: (re.compile(r"[0-9a-f]{64}\.(dsse\.json|tsr)"), MAX_STATEMENT_BYTES),
    }
    for inner in ("", *folders):
        known, most = folders.get(inner, (None, 0))
        if inner and not os.path.lexists(folder / inner):
            continue  # every query was refused, or nothing was revoked
        if not (folder / inner).is_dir() or (known and (folder / inner).is_symlink()):
            raise EvidenceError(f"bundle: {folder / inner} is not a folder", "check the path")
        with os.scandir(folder / inner) as entries:
            for entry in entries:
                if known is None and entry.name in folders:
                    continue
                limit = most if known else _LIMITS.get(entry.name)
                if limit is None or (known and not known.fullmatch(entry.name)):
                    raise EvidenceError(f"bundle: unknown file {entry.name[:80]!r}", "remove it")
                info = entry.stat(follow_symlinks=False)
                if not stat.S_ISREG(info.st_mode) or info.st_size > limit:
                    raise EvidenceError(f"bundle: {entry.name} is too large or a link", "do not open it")
                if inner == BLOB_FOLDER:
                    blobs.add(entry.name)
    return blobs


def _responses(asked: Iterator[tuple[tuple[int, ...], str, str | None]], blobs: Path) -> Iterator[Answer]:
    for leaves, request, decoded in asked:
        yield leaves, request, None if decoded is None else decode_png(get_blob(blobs, decoded))


def _strictest(first: Multiplicity, second: Multiplicity) -> Multiplicity:
    return Multiplicity(
        max(first.suspects, second.suspects),
        max(first.registrations, second.registrations),
        max(first.grind_bits, second.grind_bits),
    )


def _statement(registration: Registration, verdict: str, log10_p_adj: float) -> str:
    key = f"the key committed at {registration.fields['validity']['notBefore']} (declared, not timestamped)"
    if registration.committed:
        key = f"the key committed at {registration.committed} (timestamped)"
    if verdict == "match":
        bound = math.ceil(log10_p_adj * 100) / 100  # rounded upwards: it is an upper bound
        return (
            f"The suspect's recorded responses depend on {key}. If they did not, a result at least this "
            f"strong would occur with probability at most 10^{bound:.2f}, all declared trials counted."
        )
    return f"The suspect's recorded responses do not show that they depend on {key}, nor that they do not."


def _limits(mode: str, times: Chronology) -> tuple[str, ...]:
    age = "The key's age is the owner's word; no timestamp shows that it is older than the suspect."
    if times.committed:
        age = "The key's age is the word of the timestamp authority you trust."
    return (
        "Dependence on the key is not theft: a licensed copy or a leaked key gives it too.",
        "The probability is that of such a result without dependence, not that of innocence.",
        age,
        "How many suspects and registrations were tried is declared, not proven.",
        _MODE_LIMIT[mode],
    )


def _expired(registration: Registration, certificate: Certificate) -> Iterator[str]:
    now = records.utc_now()
    for name, fields in (("registration", registration.fields), ("certificate", certificate.fields)):
        period = fields["validity"]
        if not period["notBefore"] <= now <= period["notAfter"]:
            yield f"The {name} is valid from {period['notBefore']} to {period['notAfter']} only."
