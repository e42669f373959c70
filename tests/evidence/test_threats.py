"""The threat table of docs/what-it-proves.md: every row is tried here on a good bundle and must fail.

A row that cryptography cannot stop is here too, with what is done about it instead.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import zipfile
from base64 import b64decode, b64encode
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from modelguard.errors import EvidenceError, KeyFileError, ModelGuardError
from modelguard.evidence import (
    Key,
    Opened,
    PublicKey,
    Session,
    TimestampAuthority,
    Transcript,
    check_bundle,
    dsse,
    inspect_bundle,
    load_roots,
    open_bits,
    open_triggers,
    records,
    register,
    revoke,
)
from modelguard.statistics import Multiplicity

CERTIFICATE, REGISTRATION, TRANSCRIPT = (
    "certificate.dsse.json",
    "registration.dsse.json",
    "transcript.jsonl",
)
SIGNED = (REGISTRATION, CERTIFICATE, "bits.dsse.json", TRANSCRIPT)
PAGE = Path(__file__).parents[2] / "docs" / "what-it-proves.md"


@pytest.fixture(scope="session")
def authority(tsa):
    return TimestampAuthority(tsa.url, tsa.root)


@pytest.fixture(scope="session")
def world(folder, owner, examiner, stranger, tools, tsa, authority):
    """A stamped key, its registration, and an arbiter's stamped bundle made with them in two phases."""
    key = Key.create(owner, tools.scheme, 8, decoder=tools.decoder, tsa=authority)
    (folder / "stamped.safetensors").write_bytes(b"weights")
    files = [("weights.safetensors", folder / "stamped.safetensors")]
    registration = register(owner, key, files, tools.info).stamp(authority)

    def make(path, suspect=tools.suspect, exclude=(), respond=tools.marked):
        session = Session.draw(registration, suspect, 4, exclude)
        transcript = Transcript.create(path.with_suffix(".session"), session)
        triggers = open_triggers(key, registration, session)
        tools.ask(transcript, key, registration, respond)
        token = authority.stamp(b"modelguard/v1/tst-transcript\x00" + head(transcript))
        (transcript.folder / "transcript.tsr").write_bytes(token)
        opened = Opened(triggers, open_bits(owner, key, registration, transcript))
        return tools.certify(
            path, registration, opened, transcript, examiner, "arbiter", suspects=100, tsa=authority
        )

    path = folder / "arbiter"
    return SimpleNamespace(
        made=make(path),
        path=path,
        make=make,
        key=key,
        registration=registration,
        files=files,
        owner=owner,
        examiner=examiner,
        stranger=stranger,
        tools=tools,
        authority=authority,
        roots=load_roots([tsa.root]),
        trust=[owner.public, examiner.public],
    )


def head(transcript):
    from modelguard.evidence.transcript import chain

    return chain(transcript.session.first_link(), transcript.read())


@pytest.fixture
def attack(world, tmp_path):
    """The world with `bundle`, a copy that may be spoilt, and `check`."""
    bundle = shutil.copytree(world.path, tmp_path / "bundle")

    def check(path=bundle, trust=world.trust, roots=world.roots, **more):
        return check_bundle(path, trust, **world.tools.callables, roots=roots, **more)

    return SimpleNamespace(**vars(world), bundle=bundle, check=check, folder=tmp_path)


def test_the_bundle_that_is_attacked_holds(attack):
    checked = attack.check()
    assert checked == attack.made
    assert (checked.verdict, checked.mode) == ("match", "arbiter")
    assert checked.multiplicity.grind_bits == 24
    assert None not in vars(checked.times).values()


def test_inspect_shows_every_file_of_a_bundle(attack):
    (attack.bundle / "revocations").mkdir()
    statement = revoke(attack.owner, attack.owner.keyid, "sold", effective="2099-01-01T00:00:00Z")
    statement.save(attack.bundle / "revocations" / f"{statement.record_id}.dsse.json")
    seen = inspect_bundle(attack.bundle)
    files = {str(file.relative_to(attack.bundle)) for file in attack.bundle.rglob("*") if file.is_file()}
    assert {name for name in files if not name.startswith("blobs/")} | {"blobs"} == set(seen)
    assert "sold" in str(seen[f"revocations/{statement.record_id}.dsse.json"])


# --- the attacks ------------------------------------------------------------------------------------------


def edit(name, change, who="examiner", stamp=False):
    """Change a signed predicate, sign it again as `who`, and have it stamped afresh."""

    def run(a):
        a.tools.resign(a.bundle / name, lambda s: change(s["predicate"]), getattr(a, who))
        if stamp:
            token = a.authority.stamp(dsse.token_message((a.bundle / name).read_bytes()))
            (a.bundle / name.replace(".dsse.json", ".tsr")).write_bytes(token)

    return run


def unsigned_change(a):
    envelope = json.loads((a.bundle / CERTIFICATE).read_bytes())
    statement = json.loads(b64decode(envelope["payload"]))
    statement["predicate"]["result"]["matches"] = 255
    envelope["payload"] = b64encode(records.dumps(statement)).decode()
    (a.bundle / CERTIFICATE).write_bytes(records.dumps(envelope))


def steal_root(a):
    """A thief signs a registration of his own over the owner's root, salt and token."""

    def take(fields):
        spki = b64encode(a.stranger.public_key).decode()
        fields["owner"] = {"name": "Mallory", "keyid": a.stranger.keyid, "alg": "ed25519", "spki": spki}

    edit(REGISTRATION, take, "stranger", stamp=True)(a)
    return {"trust": [a.stranger.public, *a.trust]}


def other_suspect(a):
    a.make(a.folder / "other", type(a.tools.suspect)("vendor Y", "http-api", "https://y.example"))
    for name in (TRANSCRIPT, "transcript.tsr"):
        shutil.copy(a.folder / "other" / name, a.bundle)


def drop_lines(keep):
    def run(a):
        lines = (a.bundle / TRANSCRIPT).read_bytes().splitlines(keepends=True)
        (a.bundle / TRANSCRIPT).write_bytes(b"".join(keep(lines)))

    return run


def token(name, change):
    def run(a):
        path = a.bundle / name
        path.write_bytes(change(path.read_bytes()))

    return run


def swap_tokens(a):
    shutil.copy(a.bundle / "certificate.tsr", a.bundle / "registration.tsr")


def append_signature(name):
    def run(a):
        path = a.bundle / name
        value = json.loads(path.read_bytes())
        message = dsse.pae(value["payloadType"], b64decode(value["payload"]))
        signature = b64encode(a.stranger.sign(message)).decode()
        value["signatures"].append({"keyid": a.stranger.keyid, "sig": signature})
        path.write_bytes(records.dumps(value))

    return run


def text(change):
    """Replace in the text of a certificate's payload, validly signed."""

    def run(a):
        payload = dsse.unverified((a.bundle / CERTIFICATE).read_bytes())[0]
        (a.bundle / CERTIFICATE).write_bytes(dsse.sign(change(payload), a.examiner))

    return run


def rename_type(name):
    def run(a):
        value = json.loads((a.bundle / name).read_bytes())
        value["payloadType"] = "application/json"
        (a.bundle / name).write_bytes(records.dumps(value))

    return run


def blob(a):
    return sorted((a.bundle / "blobs").iterdir())[0]


def link_blob(a):
    path = blob(a)
    path.rename(a.folder / "elsewhere")
    path.symlink_to(a.folder / "elsewhere")


def traverse(a):
    with zipfile.ZipFile(a.folder / "bundle.zip", "w") as archive:
        for file in a.bundle.rglob("*"):
            archive.write(file, file.relative_to(a.bundle))
        archive.writestr("blobs/../../outside", b"x")
    return {"path": a.folder / "bundle.zip"}


def pickle_answer(a):
    """An answer that would run code if anything unpickled it; validly signed throughout."""
    import hashlib
    import pickle

    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(a.folder / "owned"),))

    data = pickle.dumps(Bomb())
    name = hashlib.sha256(data).hexdigest()
    (a.bundle / "blobs" / name).write_bytes(data)
    old = json.loads((a.bundle / TRANSCRIPT).read_text().splitlines()[0])["decoded"]
    a.tools.retranscribe(a.bundle, lambda lines: lines.replace(old.encode(), name.encode()), a.examiner)
    (a.bundle / "blobs" / old).unlink()
    tsr = a.authority.stamp(
        b"modelguard/v1/tst-transcript\x00"
        + bytes.fromhex(a.tools.payload_of(a.bundle / CERTIFICATE)["predicate"]["transcript"]["head"])
    )
    (a.bundle / "transcript.tsr").write_bytes(tsr)
    tsr = a.authority.stamp(dsse.token_message((a.bundle / CERTIFICATE).read_bytes()))
    (a.bundle / "certificate.tsr").write_bytes(tsr)
    closed = a.tools.payload_of(a.bundle / CERTIFICATE)["predicate"]["transcript"]
    digest = hashlib.sha256((a.bundle / "transcript.tsr").read_bytes()).hexdigest()

    def reopen(fields):
        fields["transcript"], fields["transcriptToken"] = closed, digest

    def both(statement):
        reopen(statement["predicate"])
        statement["subject"][0]["digest"]["sha256"] = closed["sha256"]

    a.tools.resign(a.bundle / "bits.dsse.json", both, a.owner)


def revoked(who, effective="2020-01-01T00:00:00Z"):
    def run(a):
        signer = getattr(a, who)
        return {"revocations": [revoke(signer, signer.keyid, "stolen", effective=effective)]}

    return run


def opening(**change):
    return lambda f: f["openings"][0].update(change)


THREATS = {
    "tampered field, re-signed or freshly stamped lie": {
        "unsigned": (unsigned_change, "none of the trusted keys"),
        "re-signed": (edit(CERTIFICATE, lambda f: f["result"].update(matches=255)), "timestamp"),
        "freshly stamped": (
            edit(CERTIFICATE, lambda f: f["result"].update(matches=255), stamp=True),
            r"result\.matches: recomputed",
        ),
    },
    "swapped key: a stranger signs": {
        "certificate": (edit(CERTIFICATE, lambda f: None, "stranger", stamp=True), "none of the trusted"),
        "registration": (edit(REGISTRATION, lambda f: None, "stranger", stamp=True), "none of the trusted"),
        "bits": (edit("bits.dsse.json", lambda f: None, "examiner"), "none of the trusted"),
    },
    "a thief registers the owner's root": {"root and token copied": (steal_root, "timestamp|precommit")},
    "replay on another suspect, other transcript": {
        "certificate re-targeted": (
            edit(CERTIFICATE, lambda f: f["suspect"].update(label="vendor Y"), stamp=True),
            r"transcript\.head",
        ),
        "transcript of another suspect": (other_suspect, "timestamp|transcript"),
    },
    "cherry-picked or forged openings": {
        "another nonce": (
            edit(CERTIFICATE, lambda f: f["selection"].update(nonce="0" * 64), stamp=True),
            r"transcript\.head",
        ),
        "forged x_K": (edit(CERTIFICATE, opening(xK="0" * 64), stamp=True), "committed root"),
        "forged x_b": (edit(CERTIFICATE, opening(xb="0" * 64), stamp=True), "committed root"),
        "dropped": (
            edit(CERTIFICATE, lambda f: f["openings"].pop(), stamp=True),
            "not the selected leaves",
        ),
    },
    "forged, swapped, truncated or huge timestamp, or one of an untrusted authority": {
        "forged": (token("certificate.tsr", lambda d: d[:-9] + bytes([d[-9] ^ 1]) + d[-8:]), "timestamp"),
        "swapped": (swap_tokens, "timestamp"),
        "truncated": (token("transcript.tsr", lambda d: d[:-1]), "timestamp"),
        "more behind": (token("transcript.tsr", lambda d: d + b"\0"), "timestamp"),
        "huge": (token("transcript.tsr", lambda d: d + bytes(1 << 17)), "too large"),
        "left out": (lambda a: (a.bundle / "transcript.tsr").unlink(), "transcriptToken"),
        "untrusted authority": (lambda a: {"roots": ()}, "no root|root"),
    },
    "transcript truncated, or a line removed": {
        "first line": (drop_lines(lambda lines: lines[1:]), "transcript"),
        "last line": (drop_lines(lambda lines: lines[:-1]), "transcript"),
        "cut": (drop_lines(lambda lines: [*lines[:-1], lines[-1][:-1]]), "transcript"),
    },
    "type confusion": {
        "payload type": (rename_type(CERTIFICATE), "payloadType"),
        "registration as certificate": (
            lambda a: shutil.copy(a.bundle / REGISTRATION, a.bundle / CERTIFICATE) and None,
            "predicateType",
        ),
        "bits as certificate": (
            lambda a: shutil.copy(a.bundle / "bits.dsse.json", a.bundle / CERTIFICATE) and None,
            "predicateType",
        ),
    },
    "extra signature appended": {
        name: (append_signature(name), "timestamp|do not trust|somebody")
        for name in (REGISTRATION, CERTIFICATE, "bits.dsse.json")
    },
    "bad JSON under a valid signature": {
        "duplicate key": (text(lambda t: t.replace(b'"schema":', b'"schema":"1.0","schema":')), "twice"),
        "unknown field": (text(lambda t: t.replace(b'"schema":', b'"note":"x","schema":')), "unknown field"),
        "float": (text(lambda t: t.replace(b'"suspects":100', b'"suspects":100.0')), "not an integer"),
        "NaN": (text(lambda t: t.replace(b'"suspects":100', b'"suspects":NaN')), "not an integer"),
        "5000 digits": (
            text(lambda t: t.replace(b'"suspects":100', b'"suspects":1' + b"0" * 5000)),
            "2\\^53",
        ),
        "depth": (
            text(lambda t: t.replace(b'"suspects":100', b'"suspects":' + b"[" * 10**5 + b"]" * 10**5)),
            "nested",
        ),
        "20 MB": (text(lambda t: t + b" " * 20_000_000), "too large"),
        "bad UTF-8": (text(lambda t: t.replace(b"Independent", b"Ind\xffpendent")), "UTF-8"),
        "writing turned round": (
            text(lambda t: t.replace(b"Independent", "\u202etnednepednI".encode())),
            "examiner.name",
        ),
    },
    "path traversal, linked or altered blob": {
        "traversal in a zip": (traverse, "unknown file"),
        "linked": (link_blob, "link"),
        "altered": (lambda a: blob(a).write_bytes(b"x") and None, "changed"),
        "missing": (lambda a: blob(a).unlink(), "cannot be read"),
    },
    "key or record revoked before it was used": {
        "owner's key": (revoked("owner"), "registration: is of"),
        "examiner's key": (revoked("examiner"), "certificate: is of"),
    },
    "pickled payload": {"as an answer": (pickle_answer, "not an 8-bit PNG")},
}
CASES = [(row, name) for row, attacks in THREATS.items() for name in attacks]


@pytest.mark.parametrize(("row", "name"), CASES, ids=[f"{row} - {name}" for row, name in CASES])
def test_threat(attack, row, name):
    run, message = THREATS[row][name]
    changes = run(attack) or {}
    with pytest.raises(ModelGuardError, match=message) as caught:
        attack.check(**changes)
    assert isinstance(caught.value, EvidenceError) or name == "untrusted authority"
    assert caught.value.remedy
    assert not (attack.folder / "owned").exists()
    assert not (attack.folder / "outside").exists()


@pytest.mark.parametrize("who", ["owner", "examiner"])
def test_a_key_revoked_later_voids_nothing(attack, who):
    """Row: key or record revoked, the other way round."""
    assert attack.check(**revoked(who, "2099-01-01T00:00:00Z")(attack)).verdict == "match"


def low_order_keys():
    prefix = bytes.fromhex("302a300506032b6570032100")
    p = 2**255 - 19
    y8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
    for y in (0, 1, p - 1, y8, p - y8):
        for sign in (0, 1 << 255):
            yield prefix + (y | sign).to_bytes(32, "little")


def test_a_low_order_key_is_nobodys():
    """Row: low-order Ed25519 owner key."""
    for der in low_order_keys():
        with pytest.raises(KeyFileError):
            PublicKey.from_der(der)


# --- what no signature can stop ---------------------------------------------------------------------------


def test_an_authority_that_colludes_is_met_by_counting_more_trials(attack):
    """Row: the timestamp authority colludes with the owner."""
    assert attack.check(multiplicity=Multiplicity(1, 1, 80)).multiplicity.grind_bits == 80
    assert attack.check(multiplicity=Multiplicity(1, 1, 256)).verdict == "inconclusive"


def test_made_up_responses_do_not_survive_another_arbiter(attack):
    """Row: the examiner fabricates responses."""

    def innocent(key, leaves):
        return np.random.default_rng(5).integers(0, 256, (16, 16 * len(leaves), 1)).astype(np.uint8)

    assert any("examiner's word" in limit for limit in attack.check().limits)
    again = attack.make(attack.folder / "again", exclude=attack.made.leaves, respond=innocent)
    assert again.verdict == "inconclusive"
    assert not set(again.leaves) & set(attack.made.leaves)


def test_a_suspect_that_changes_is_seen_by_asking_again(attack):
    """Row: the suspect swaps its model between sessions."""
    lines = attack.check().transcript
    assert all(line.at and line.raw and line.raw in os.listdir(attack.bundle / "blobs") for line in lines)
    again = attack.make(attack.folder / "again", exclude=attack.made.leaves)
    assert again.transcript[0].at >= lines[-1].at


# --- every byte -------------------------------------------------------------------------------------------


def change_bytes(attack, name, positions, values):
    """Put every value at every position of a file; each must be refused by an EvidenceError."""
    path = attack.bundle / name
    good = path.read_bytes()
    for position in positions(len(good)):
        for value in values(good[position]):
            path.write_bytes(good[:position] + bytes([value]) + good[position + 1 :])
            try:
                attack.check()
            except EvidenceError:
                continue
            raise AssertionError(f"{name}: byte {position} as {value} was accepted")
    path.write_bytes(good)


@pytest.mark.parametrize("name", SIGNED)
def test_a_sample_of_single_byte_changes_is_refused(attack, name):
    dice = random.Random(name)
    change_bytes(
        attack,
        name,
        lambda size: sorted(dice.sample(range(size), 25)),
        lambda old: [old ^ 1 << dice.randrange(8)],
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", SIGNED)
def test_every_single_byte_change_of_every_signed_file_is_refused(attack, name):
    """All positions, all 8 flipped bits; `modelguard bench tamper` tries all 255 other values."""
    change_bytes(attack, name, range, lambda old: [old ^ 1 << bit for bit in range(8)])


def test_every_row_is_on_the_page():
    page = PAGE.read_text()
    rows = re.findall(r"^\| ([^|]+?) \|", page.partition("## Threats")[2], re.MULTILINE)
    assert set(THREATS) <= set(rows)
