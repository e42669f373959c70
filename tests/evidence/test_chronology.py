"""A key, a registration and a bundle with timestamps, and what a liar may try on their order."""

from __future__ import annotations

import shutil
import subprocess
from base64 import b64decode
from dataclasses import replace
from datetime import timedelta

import pytest
from tsa import Authority, needs_openssl

from modelguard.errors import EvidenceError, InputError, KeyFileError, TimestampError
from modelguard.evidence import (
    Key,
    Registration,
    Session,
    TimestampAuthority,
    Transcript,
    check_bundle,
    dsse,
    load_roots,
    register,
)
from modelguard.evidence.timestamps import verify
from modelguard.evidence.transcript import chain

pytest.importorskip("rfc3161_client")
pytestmark = needs_openssl
TOKENS = ("registration.tsr", "transcript.tsr", "certificate.tsr")


@pytest.fixture(scope="module")
def asked(tsa):
    return TimestampAuthority(tsa.url, tsa.root)


@pytest.fixture(scope="module")
def stamped_key(owner, tools, asked):
    return Key.create(owner, tools.scheme, 8, decoder=tools.decoder, tsa=asked)


@pytest.fixture(scope="module")
def unstamped(folder, registration, owner, stamped_key, tools):
    return register(owner, stamped_key, [("w.safetensors", folder / "weights.safetensors")], tools.info)


@pytest.fixture(scope="module")
def stamped(unstamped, asked):
    return unstamped.stamp(asked)


@pytest.fixture(scope="module")
def signed(tmp_path_factory, stamped, stamped_key, examiner, tools, asked):
    """(path, CheckedEvidence) of a bundle with all four timestamps."""
    folder = tmp_path_factory.mktemp("stamped")
    transcript = Transcript.create(folder / "session", Session.draw(stamped, tools.suspect, 4))
    tools.ask(transcript, stamped_key, stamped)
    path = folder / "bundle"
    return path, tools.certify(path, stamped, stamped_key, transcript, examiner, tsa=asked)


@pytest.fixture
def copied(signed, tmp_path):
    return shutil.copytree(signed[0], tmp_path / "bundle")


@pytest.fixture
def check(tools, trust, tsa):
    def run(path, roots=(tsa.root,)):
        return check_bundle(path, trust, **tools.callables, roots=load_roots(roots))

    return run


def test_the_timestamp_spares_grinding_bits(signed, check, stamped_key):
    checked = check(signed[0])
    assert checked == signed[1]
    assert (checked.verdict, checked.multiplicity.grind_bits) == ("match", 24)
    assert checked.registration.salt() == stamped_key.salt
    assert checked.registration.fields["watermark"]["keyCommitment"]["saltSource"] == "tst-signature/1"
    times = checked.times
    order = [times.committed, times.registered, times.closed, times.certified]
    assert [one.time for one in order] == sorted(one.time for one in order)
    assert f"committed at {times.committed} (timestamped)" in checked.statement
    assert not any("owner's word; no timestamp" in limit for limit in checked.limits)


def test_openssl_verifies_every_timestamp_of_a_bundle(signed, tsa, stamped, tmp_path):
    """Each .tsr file, and the one inside the registration, over messages put together here by hand."""
    folder, checked = signed
    session = Transcript(folder.parent / "session").session
    head = chain(session.first_link(), (folder / "transcript.jsonl").read_bytes())
    inside = checked.registration.fields["watermark"]["keyCommitment"]["precommitTst"]
    (tmp_path / "precommit.tsr").write_bytes(b64decode(inside))
    for token, message in (
        (folder / "registration.tsr", dsse.token_message(stamped.envelope)),
        (folder / "certificate.tsr", dsse.token_message((folder / "certificate.dsse.json").read_bytes())),
        (folder / "transcript.tsr", b"modelguard/v1/tst-transcript\x00" + head),
        (tmp_path / "precommit.tsr", stamped.precommit),
    ):
        (tmp_path / "message").write_bytes(message)
        words = ["ts", "-verify", "-in", str(token), "-data", "message", "-CAfile", str(tsa.root)]
        done = subprocess.run(["openssl", *words], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert "Verification: OK" in done.stdout, (token, done.stderr)


def test_a_key_file_keeps_its_timestamp(stamped_key, tmp_path, tools, tsa):
    stamped_key.save(tmp_path / "key.mgkey", tools.passphrase)
    again = Key.load(tmp_path / "key.mgkey", tools.passphrase)
    assert again == stamped_key
    assert again.roots == load_roots([tsa.root])
    assert again.commitment["precommitTst"]


def test_two_keys_of_one_commitment_differ(stamped_key, asked):
    """What the owner cannot foretell is the authority's signature."""
    other = verify(asked.stamp(stamped_key.precommit), stamped_key.precommit, asked.roots)
    assert other.salt != stamped_key.salt


def test_a_registration_is_read_with_the_timestamp_beside_it(stamped, owner, tsa, tmp_path):
    stamped.save(tmp_path / "registration.dsse.json")
    assert {path.name for path in tmp_path.iterdir()} == {"registration.dsse.json", "registration.tsr"}
    roots = load_roots([tsa.root])
    again = Registration.load(tmp_path / "registration.dsse.json", [owner.public], roots)
    assert again == stamped
    assert (again.committed, again.stamped) == (stamped.committed, stamped.stamped)


def test_without_roots_a_timestamp_is_an_error(signed, check, stamped, owner):
    with pytest.raises(InputError, match="tsa_roots: none given"):
        check(signed[0], roots=())
    unread = Registration.from_envelope(stamped.envelope, [owner.public])
    with pytest.raises(InputError, match="tsa_roots: none given"):
        unread.salt()


def test_without_roots_any_single_timestamp_is_an_error(made, signed, tools, trust, tmp_path):
    """One over an unstamped bundle's record as well: it is never passed over."""
    for name in TOKENS:
        bundle = shutil.copytree(made[0], tmp_path / name)
        shutil.copy(signed[0] / name, bundle)
        with pytest.raises(InputError, match="tsa_roots"):
            check_bundle(bundle, trust, **tools.callables)


def test_another_authority(copied, check, tmp_path):
    strange = Authority(tmp_path / "strange")
    with pytest.raises(TimestampError, match="does not verify"):
        check(copied, roots=[strange.root])


@pytest.mark.parametrize("name", TOKENS)
@pytest.mark.parametrize("other", TOKENS)
def test_one_timestamp_is_not_another(copied, signed, check, name, other):
    shutil.copy(signed[0] / other, copied / name)
    if name == other:
        check(copied)
        return
    with pytest.raises(TimestampError):
        check(copied)


@pytest.mark.parametrize("name", TOKENS)
@pytest.mark.parametrize("content", [b"", b"junk", b"\x30\x80", bytes(65536)])
def test_a_damaged_timestamp(copied, check, name, content):
    (copied / name).write_bytes(content)
    if content:
        with pytest.raises(TimestampError):
            check(copied)
    else:  # the same as none
        check(copied)


@pytest.mark.parametrize("name", TOKENS)
def test_a_huge_timestamp_and_a_link(copied, check, name):
    (copied / name).write_bytes(bytes(65537))
    with pytest.raises(EvidenceError, match="too large"):
        check(copied)
    (copied / name).unlink()
    (copied / name).symlink_to("/dev/zero")
    with pytest.raises(EvidenceError, match="link"):
        check(copied)


def test_a_bundle_may_lack_timestamps_but_not_that_of_its_key(copied, check, owner, tools):
    for name in TOKENS:
        (copied / name).unlink()
    times = check(copied).times
    assert times.committed
    assert (times.registered, times.closed, times.certified) == (None, None, None)

    def drop(statement):
        del statement["predicate"]["watermark"]["keyCommitment"]["precommitTst"]

    tools.resign(copied / "registration.dsse.json", drop, owner)
    with pytest.raises(EvidenceError, match="precommitTst"):
        check(copied)


def test_an_unstamped_key_cannot_borrow_a_timestamp(registration, stamped, owner, tools, tmp_path, tsa):
    """Neither by naming the source nor by carrying another key's token."""
    token = stamped.fields["watermark"]["keyCommitment"]["precommitTst"]
    for change in ({"precommitTst": token}, {"saltSource": "tst-signature/1"}):
        path = registration.save(tmp_path / f"{len(change)}{min(change)}.dsse.json")
        tools.resign(path, lambda s, c=change: s["predicate"]["watermark"]["keyCommitment"].update(c), owner)
        with pytest.raises(EvidenceError, match="precommitTst"):
            Registration.load(path, [owner.public])
    path = registration.save(tmp_path / "both.dsse.json")
    both = {"precommitTst": token, "saltSource": "tst-signature/1"}
    tools.resign(path, lambda s: s["predicate"]["watermark"]["keyCommitment"].update(both), owner)
    with pytest.raises(TimestampError, match="messages"):
        Registration.load(path, [owner.public], load_roots([tsa.root]))


def test_fewer_grinding_bits_than_requests_allow(stamped, owner, tools, tmp_path):
    path = stamped.save(tmp_path / "registration.dsse.json")
    tools.resign(path, lambda s: s["predicate"]["policy"].update(grindBits=23), owner)
    with pytest.raises(EvidenceError, match="grindBits"):
        Registration.load(path, [owner.public])


def test_an_appended_signature_is_not_under_the_timestamp(copied, check, owner, stranger):
    path = copied / "registration.dsse.json"
    payload = dsse.verify(path.read_bytes(), [owner.public]).payload
    path.write_bytes(dsse.sign(payload, owner, stranger))
    with pytest.raises(TimestampError, match="messages"):
        check(copied)


def test_time_that_went_back(copied, check, tsa, stamped, tmp_path):
    """The same authority, whose clock was put back after it stamped the key."""
    client = pytest.importorskip("rfc3161_client")
    builder = client.TimestampRequestBuilder().data(dsse.token_message(stamped.envelope))
    tsa.clock = timedelta(days=-3)
    try:
        (copied / "registration.tsr").write_bytes(tsa.reply(builder.build().as_bytes()))
    finally:
        tsa.clock = timedelta(0)
    with pytest.raises(TimestampError, match="before that of the key") as caught:
        check(copied)
    assert "clock" in caught.value.remedy


def test_a_registration_is_not_stamped_before_its_key(unstamped, asked, tsa):
    tsa.clock = timedelta(minutes=-2)  # too little to be noticed by itself
    try:
        with pytest.raises(TimestampError, match="before that of the key"):
            unstamped.stamp(asked)
    finally:
        tsa.clock = timedelta(0)


def test_a_key_file_with_a_broken_timestamp(stamped_key, tmp_path):
    replace(stamped_key, tsa_roots=b"no certificate").save(tmp_path / "key.mgkey", "passphrase")
    with pytest.raises(KeyFileError):
        Key.load(tmp_path / "key.mgkey", "passphrase")
