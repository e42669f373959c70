"""The folder anyone can check offline: registration, certificate, transcript and the blobs it refers to."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelguard._files import atomic_write_bytes
from modelguard.errors import EvidenceError, InputError, MalformedEvidenceError, SignatureError
from modelguard.evidence import dsse, records
from modelguard.evidence.archive import bundle_folder
from modelguard.evidence.blobs import Array, decode_png, get_blob, read_bounded
from modelguard.evidence.certificate import (
    Answer,
    BitsOf,
    Certificate,
    Decode,
    DecodePhoto,
    PhotoAnswer,
    Secrets,
    Trigger,
    evaluate,
    evaluate_photos,
    needed_grind_bits,
    opening_record,
    result_record,
    verdict_of,
)
from modelguard.evidence.chronology import Chronology
from modelguard.evidence.key import Key
from modelguard.evidence.opening import BITS_FILE, TRANSCRIPT_TOKEN_FILE, Bits, Opened, transcript_record
from modelguard.evidence.owner import Owner, PublicKey
from modelguard.evidence.registration import Registration
from modelguard.evidence.revocation import (
    MAX_STATEMENT_BYTES,
    REVOCATION_FOLDER,
    Statement,
    load_statements,
    load_trusted,
)
from modelguard.evidence.stamped import read_stamped, read_token
from modelguard.evidence.timestamps import MAX_TOKEN_BYTES, Roots, TimestampAuthority, transcript_message
from modelguard.evidence.transcript import (
    BLOB_FOLDER,
    MAX_TRANSCRIPT_BYTES,
    TRANSCRIPT_FILE,
    Line,
    Session,
    SuspectInfo,
    Transcript,
    answers,
    check_coverage,
    parse_lines,
    photo_answers,
)
from modelguard.statistics import Multiplicity, SignTest

REGISTRATION_FILE = "registration.dsse.json"
CERTIFICATE_FILE = "certificate.dsse.json"
REGISTRATION_TOKEN_FILE = "registration.tsr"
CERTIFICATE_TOKEN_FILE = "certificate.tsr"
LIMITS = {
    REGISTRATION_FILE: 2 * records.MAX_JSON_BYTES,
    CERTIFICATE_FILE: 2 * records.MAX_JSON_BYTES,
    BITS_FILE: 2 * records.MAX_JSON_BYTES,
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
_PHOTO_LIMIT = {
    "self": "The photos are the owner's choice, who knew the secret bits: they could be picked or doctored.",
    "witness": "The photos were chosen where the secret bits were known: they could be picked or doctored.",
    "arbiter": "The photos are the examiner's choice, made before the secret bits were opened.",
}
_PASSED_ON = "Answers that a marked service gave carry its mark wherever they are passed on."


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
        transcript: what was asked and answered, line by line.
        opened: (x_K, x_b) of every opened leaf.
        salt: the key's salt.
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
    transcript: tuple[Line, ...] = field(repr=False)
    opened: Mapping[int, tuple[bytes, bytes]] = field(repr=False)
    salt: bytes = field(repr=False)

    def __bool__(self) -> bool:
        raise TypeError("checked evidence is neither true nor false; read its verdict")


def certify(
    folder: str | Path,
    *,
    registration: Registration,
    key: Key | Opened,
    transcript: Transcript,
    examiner: Owner,
    mode: str,
    trigger: Trigger | None = None,
    bits: BitsOf,
    decode: Decode | None = None,
    decode_photo: DecodePhoto | None = None,
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
        key: the owner's secret key, of which the selected leaves are opened; or what the owner opened for an
            arbiter.
        transcript: of the finished session.
        examiner: who signs.
        mode: "arbiter" if the examiner asked with opened triggers and never held the key, else "self" if the
            examiner is the owner and "witness" if not.
        trigger: derives the image of some leaves; for a session of triggers.
        bits: derives the secret bits of a leaf.
        decode: the decoder that the registration names, for a session of triggers.
        decode_photo: the same for a session of photos.
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
    if isinstance(key, Opened) and key.triggers.session != session:
        raise InputError("transcript: of another session than the triggers", "take the one asked with them")
    selection = session.asked(registration, transcript.lines)
    data = transcript.read()
    blobs = transcript.folder / BLOB_FOLDER
    secrets = {leaf: key.leaf(leaf) for leaf in selection}
    steps = _Steps(trigger, bits, decode, decode_photo)
    test = steps.test(registration, key.salt, secrets, session, transcript.lines, selection, blobs)
    tried = needed_grind_bits(registration, session, transcript.lines, mode)
    least = Multiplicity(1, 1, tried)
    closed = transcript_record(session, data)
    predicate = {
        "schema": "1.0",
        "certificateId": records.ulid(),
        **session.to_record(),
        "examiner": {"name": examiner.name, "mode": mode, "keyid": examiner.keyid},
        "transcript": closed,
        "openings": [opening_record(key, leaf) for leaf in selection],
        "result": result_record(test, _strictest(multiplicity, least), registration.alpha),
        "validity": dict(validity or records.validity(5)),
    }
    try:
        payload = records.build_statement(
            {TRANSCRIPT_FILE: closed["sha256"]}, records.VERIFICATION_TYPE, predicate
        )
    except MalformedEvidenceError as error:
        raise InputError(error.message, "see the arguments of certify") from None
    tokens = {REGISTRATION_TOKEN_FILE: registration.token} if registration.token else {}
    if token := read_token(transcript.folder / TRANSCRIPT_TOKEN_FILE):
        tokens[TRANSCRIPT_TOKEN_FILE] = token
    elif tsa is not None and isinstance(key, Key):  # before the certificate, which opens the bits
        tokens[TRANSCRIPT_TOKEN_FILE] = tsa.stamp(transcript_message(bytes.fromhex(closed["head"])))
    certificate = dsse.sign(payload, examiner)
    if tsa is not None:
        tokens[CERTIFICATE_TOKEN_FILE] = tsa.stamp(dsse.token_message(certificate))
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        atomic_write_bytes(temporary / REGISTRATION_FILE, registration.envelope)
        atomic_write_bytes(temporary / CERTIFICATE_FILE, certificate)
        atomic_write_bytes(temporary / TRANSCRIPT_FILE, data)
        if isinstance(key, Opened):
            atomic_write_bytes(temporary / BITS_FILE, key.bits.envelope)
        for name, token in tokens.items():
            atomic_write_bytes(temporary / name, token)
        for one in revocations:
            one.save(temporary / REVOCATION_FOLDER / f"{one.record_id}.dsse.json")
        for name in {name for line in transcript.lines for name in line.blobs}:
            atomic_write_bytes(temporary / BLOB_FOLDER / name, get_blob(blobs, name))
        trust = [registration.owner, examiner.public]
        roots = (*key.roots, *(tsa.roots if tsa else ()))
        checked = check_bundle(
            temporary, trust, trigger, bits, decode, multiplicity, roots, decode_photo=decode_photo
        )
        if isinstance(key, Key):
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
    trigger: Trigger | None,
    bits: BitsOf,
    decode: Decode | None,
    multiplicity: Multiplicity | None = None,
    roots: Roots = (),
    revocations: Sequence[Statement] = (),
    decode_photo: DecodePhoto | None = None,
) -> CheckedEvidence:
    """Check a bundle from end to end, believing nothing but the trusted keys.

    Args:
        path: the bundle's folder.
        trust: public keys of the owner and the examiner, from a source other than the bundle.
        trigger: derives the image of some leaves; for a session of triggers.
        bits: derives the secret bits of a leaf.
        decode: the decoder that `registration.decoder` names, for triggers; the caller compares its digest.
        multiplicity: what the reader knows was tried; each count declared in the bundle can only be raised.
        roots: certificates of the timestamp authorities the reader trusts.
        revocations: statements the reader knows of; a bundle can leave out those that speak against it.
        decode_photo: the decoder for photos.

    Raises:
        SignatureError: no trusted key signed a record.
        TimestampError: a timestamp does not verify, or time goes back.
        RevokedError: a record does not count, as its signer's key or itself had ended.
        MalformedEvidenceError: a record or blob breaks the format.
        EvidenceError: anything else that does not hold.
        InputError: `trust` is empty, or there is a timestamp and `roots` is empty.
    """
    with bundle_folder(Path(path), LIMITS) as (folder, stored):
        steps = _Steps(trigger, bits, decode, decode_photo)
        return _check_folder(folder, stored, trust, steps, multiplicity, roots, revocations)


def _check_folder(
    path: Path,
    stored: set[str],
    trust: Sequence[PublicKey],
    steps: _Steps,
    multiplicity: Multiplicity | None,
    roots: Roots,
    revocations: Sequence[Statement],
) -> CheckedEvidence:
    there = [path / REVOCATION_FOLDER] if (path / REVOCATION_FOLDER).exists() else []
    statements = [*load_statements(there), *revocations]
    registration, history = load_trusted(path / REGISTRATION_FILE, trust, roots, statements)
    _nothing_unsigned(REGISTRATION_FILE, registration.envelope, history.trust)
    envelope, token = read_stamped(path / CERTIFICATE_FILE)
    heirs = history.party(registration.owner)
    certificate = Certificate.from_envelope(envelope, history.trust, registration, heirs)
    _nothing_unsigned(CERTIFICATE_FILE, envelope, history.trust)
    claimed, session = certificate.fields, certificate.session
    head = bytes.fromhex(claimed["transcript"]["head"])
    closed = read_token(path / TRANSCRIPT_TOKEN_FILE)
    times = Chronology.verify(roots, registration, head, closed, envelope, token)
    history.check("certificate", certificate.examiner, certificate.record_id, times.certified)
    salt = registration.salt()

    data = read_bounded(path / TRANSCRIPT_FILE, MAX_TRANSCRIPT_BYTES)
    lines = parse_lines(data)
    for name, value in transcript_record(session, data).items():
        if claimed["transcript"][name] != value:
            raise EvidenceError(f"transcript.{name}: not what was certified", "ask for that one")

    check_coverage(lines, session, certificate.leaves)
    secrets = certificate.opened(registration)
    _check_bits(path / BITS_FILE, registration, claimed, secrets, closed)
    blobs = path / BLOB_FOLDER
    referred = {name for line in lines for name in line.blobs}
    if strangers := stored - referred:
        raise EvidenceError(f"blob {min(strangers)[:16]}...: in no line of the transcript", "remove it")
    for name in sorted(referred):
        get_blob(blobs, name)
    test = steps.test(registration, salt, secrets, session, lines, certificate.leaves, blobs)

    tries = claimed["result"]["multiplicity"]
    declared = Multiplicity(tries["suspects"], tries["registrations"], tries["grindBits"])
    mode = claimed["examiner"]["mode"]
    tried = needed_grind_bits(registration, session, lines, mode)
    if declared.grind_bits < tried:
        raise EvidenceError("result.multiplicity.grindBits: too few", "ask for a valid certificate")
    for name, value in result_record(test, declared, registration.alpha).items():
        if claimed["result"][name] != value:
            raise EvidenceError(f"result.{name}: recomputed as {value!r}", "do not believe the certificate")

    counted = _strictest(declared, multiplicity or declared)
    log10_p_adj = counted.adjust(test.log10_p)
    verdict = verdict_of(test, counted, registration.alpha)
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
        limits=(*_limits(mode, times, session), *_expired(registration, certificate)),
        transcript=tuple(lines),
        opened=secrets,
        salt=salt,
    )


def inspect_bundle(path: str | Path) -> dict[str, Any]:
    """Return what a bundle says, believing and judging nothing; its format must hold.

    Returns:
        JSON-able, by file: for a signed one the ids of the keys that claim to have signed it ("signedBy"),
        its "subject" and its "predicate"; the lines of the transcript; the sizes of blobs and timestamps.

    Raises:
        MalformedEvidenceError: a record breaks the format.
        EvidenceError: a file is missing, unknown, too large or a link.
    """
    with bundle_folder(Path(path), LIMITS) as (folder, stored):
        content: dict[str, Any] = {}
        for name, kind in (
            (REGISTRATION_FILE, records.REGISTRATION_TYPE),
            (CERTIFICATE_FILE, records.VERIFICATION_TYPE),
            (BITS_FILE, records.BITS_TYPE),
        ):
            if name == BITS_FILE and not (folder / name).exists():
                continue
            payload, keyids = dsse.unverified(read_bounded(folder / name, LIMITS[name]))
            subject, predicate = records.parse_statement(payload, kind)
            content[name] = {"signedBy": keyids, "subject": subject, "predicate": predicate}
        lines = parse_lines(read_bounded(folder / TRANSCRIPT_FILE, MAX_TRANSCRIPT_BYTES))
        content[TRANSCRIPT_FILE] = [line.to_record() for line in lines]
        blobs = folder / BLOB_FOLDER
        content[BLOB_FOLDER] = {name: (blobs / name).stat().st_size for name in sorted(stored)}
        for file in sorted((folder / REVOCATION_FOLDER).glob("*.dsse.json")):
            payload, keyids = dsse.unverified(read_bounded(file, MAX_STATEMENT_BYTES))
            content[f"{REVOCATION_FOLDER}/{file.name}"] = {"signedBy": keyids, **records.loads(payload)}
        for file in sorted(folder.glob("*.tsr")):
            content[file.name] = file.stat().st_size
        return content


def answer_images(path: str | Path, names: Iterable[str]) -> dict[str, Array]:
    """Return answers of a bundle by their digests in its transcript, each as uint8 (H, W, C).

    Raises:
        EvidenceError: one is not there, or not what its name says.
    """
    with bundle_folder(Path(path), LIMITS) as (folder, _):
        return {name: decode_png(get_blob(folder / BLOB_FOLDER, name)) for name in names}


def _nothing_unsigned(name: str, envelope: bytes, trust: Sequence[PublicKey]) -> None:
    """Raise SignatureError unless every byte of an envelope is a trusted signature or under one.

    DSSE allows hints and signatures of strangers. In a bundle they would be bytes that anyone may change.
    """
    value = records.loads(envelope, limit=len(envelope))
    message = dsse.pae(value["payloadType"], records.unb64(value["payload"], name))
    trusted = {part.keyid: part for key in trust for part in key.parts}
    for entry in value["signatures"]:
        if entry.get("keyid") not in trusted:
            raise SignatureError(
                f"{name}: signed by someone you do not trust as well", "ask for the original"
            )
        trusted[entry["keyid"]].verify(records.unb64(entry["sig"], name), message)
    if records.dumps(value) != envelope:
        raise SignatureError(f"{name}: not as it was written", "ask for the original")


def _check_bits(
    path: Path, registration: Registration, claimed: Mapping[str, Any], secrets: Secrets, token: bytes
) -> None:
    """Check that an arbiter's bits were opened for the finished transcript, and only an arbiter's."""
    arbiter = claimed["examiner"]["mode"] == "arbiter"
    if arbiter != os.path.lexists(path):
        raise EvidenceError(
            f"certificate.examiner.mode: {claimed['examiner']['mode']!r} does not fit how bits were opened",
            f"an arbiter's bundle, and no other, holds {BITS_FILE}",
        )
    if not arbiter:
        return
    opened = Bits.load(path, registration)
    _nothing_unsigned(BITS_FILE, opened.envelope, [registration.owner])
    if opened.transcript != claimed["transcript"]:
        raise EvidenceError("bits.transcript: opened for another one", "the examiner may have seen the bits")
    if opened.token != (hashlib.sha256(token).hexdigest() if token else None):
        raise EvidenceError("bits.transcriptToken: of another timestamp", "ask for the original")
    if opened.secrets != {leaf: secret_b for leaf, (_, secret_b) in secrets.items()}:
        raise EvidenceError("bits: not those of the certificate", "ask for the original")


@dataclass(frozen=True)
class _Steps:
    """What a scheme's reader does, as far as it was handed over."""

    trigger: Trigger | None
    bits: BitsOf
    decode: Decode | None
    decode_photo: DecodePhoto | None

    def test(
        self,
        registration: Registration,
        salt: bytes,
        secrets: Secrets,
        session: Session,
        lines: Sequence[Line],
        leaves: Sequence[int],
        blobs: Path,
    ) -> SignTest:
        """Recompute the test of a session from its blobs."""
        scheme = registration.scheme
        if session.photos:
            if self.decode_photo is None:
                raise EvidenceError(f"scheme: {scheme['id']} is not read from photos", "ask its triggers")
            photos = _photos(photo_answers(lines, session), blobs)
            return evaluate_photos(scheme, salt, secrets, photos, self.bits, self.decode_photo)
        if self.trigger is None or self.decode is None:
            raise EvidenceError(f"scheme: {scheme['id']} is not read from triggers", "ask with photos")
        responses = _responses(answers(lines, leaves), blobs)
        return evaluate(scheme, salt, secrets, responses, self.trigger, self.bits, self.decode)


def _photos(asked: Iterator[tuple[str, str, str | None]], blobs: Path) -> Iterator[PhotoAnswer]:
    for request, query, decoded in asked:
        photo = decode_png(get_blob(blobs, query))
        yield request, photo, None if decoded is None else decode_png(get_blob(blobs, decoded))


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


def _limits(mode: str, times: Chronology, session: Session) -> tuple[str, ...]:
    age = "The key's age is the owner's word; no timestamp shows that it is older than the suspect."
    if times.committed:
        age = "The key's age is the word of the timestamp authority you trust."
    return (
        "Dependence on the key is not theft: a licensed copy or a leaked key gives it too.",
        "The probability is that of such a result without dependence, not that of innocence.",
        age,
        "How many suspects and registrations were tried is declared, not proven.",
        _MODE_LIMIT[mode],
        *((_PHOTO_LIMIT[mode], _PASSED_ON) if session.photos else ()),
    )


def _expired(registration: Registration, certificate: Certificate) -> Iterator[str]:
    now = records.utc_now()
    for name, fields in (("registration", registration.fields), ("certificate", certificate.fields)):
        period = fields["validity"]
        if not period["notBefore"] <= now <= period["notAfter"]:
            yield f"The {name} is valid from {period['notBefore']} to {period['notAfter']} only."
