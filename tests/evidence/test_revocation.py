"""Keys and records that ended, before and after something was signed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tsa import needs_openssl

from modelguard.errors import (
    EvidenceError,
    InputError,
    MalformedEvidenceError,
    RevokedError,
    SignatureError,
    TimestampError,
)
from modelguard.evidence import (
    History,
    Key,
    Owner,
    Session,
    Statement,
    TimestampAuthority,
    Transcript,
    check_bundle,
    load_roots,
    load_statements,
    register,
    revoke,
    rotate,
)
from modelguard.evidence.timestamps import Timestamp


def fresh(name="Next Ltd", **more):
    return Owner(name, Ed25519PrivateKey.generate(), **more)


def at(text):
    return Timestamp(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC), b"")


def shifted(hours):
    return (datetime.now(UTC) + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")


NOON, RECORD = "2026-06-01T12:00:00Z", "ab" * 32


# --- statements -------------------------------------------------------------------------------------------


def test_a_statement_says_what_ended(owner, tmp_path):
    made = revoke(owner, owner.keyid, "laptop stolen", effective=NOON)
    made.save(tmp_path / "one.dsse.json")
    again = Statement.load(tmp_path / "one.dsse.json")
    assert again == made
    assert (again.target, again.effective, again.successor) == (owner.keyid, NOON, None)
    assert again.fields["reason"] == "laptop stolen"
    assert load_statements([tmp_path]) == load_statements([tmp_path / "one.dsse.json"]) == [made]


def test_a_rotation_names_its_successor(owner, tmp_path):
    pytest.importorskip("cryptography.hazmat.primitives.asymmetric.mldsa")
    new = Owner.create(tmp_path / "new", "Next Ltd", "passphrase", alg="ecdsa-p256", ml_dsa=True)
    made = rotate(owner, new, "yearly")
    assert made.successor == new.public
    assert made.successor.second == new.public.second
    assert made.signed_by(owner.public)
    assert made.signed_by(new.public)


@pytest.mark.parametrize("target", ["", "sha256:12", "everything", "AB" * 32, "../x"])
def test_targets_are_ids(owner, target):
    with pytest.raises(InputError, match=r"hexadecimal|id"):
        revoke(owner, target, "reason")


def test_other_arguments(owner, tmp_path):
    for change in ({"effective": "yesterday"}, {"reason": "two\nlines"}):
        with pytest.raises(InputError):
            revoke(owner, **{"target": owner.keyid, "reason": "r", **change})
    with pytest.raises(InputError, match="old key"):
        rotate(owner, owner, "reason")
    with pytest.raises(InputError, match=r"\.dsse\.json"):
        revoke(owner, owner.keyid, "r").save(tmp_path / "x.json")


def test_a_registration_is_no_statement(registration, tmp_path):
    registration.save(tmp_path / "x.dsse.json")
    with pytest.raises(MalformedEvidenceError):
        load_statements([tmp_path])


@pytest.mark.parametrize(
    "edit",
    [
        lambda s: s["subject"][0]["digest"].update(sha256="0" * 64),
        lambda s: s["predicate"]["new"].update(keyid="sha256:" + "0" * 64),
        lambda s: s["predicate"]["new"].update(alg="ecdsa-p256"),
        lambda s: s["predicate"]["new"].update(spki="AAAA"),
        lambda s: s["predicate"].update(old=s["predicate"]["new"]["keyid"]),
        lambda s: s["predicate"].pop("reason"),
    ],
)
def test_a_statement_that_contradicts_itself(owner, tools, tmp_path, edit):
    path = rotate(owner, fresh(), "yearly").save(tmp_path / "x.dsse.json")
    tools.resign(path, edit, owner)
    with pytest.raises(MalformedEvidenceError):
        Statement.load(path)


# --- what they do -----------------------------------------------------------------------------------------


def test_before_and_after(owner, examiner):
    """Both directions: what was stamped before the end counts, what was not does not."""
    history = History.of(
        [revoke(owner, owner.keyid, "lost", effective=NOON)], [owner.public, examiner.public]
    )
    history.check("registration", owner.public, RECORD, at("2026-06-01T11:59:59Z"))
    history.check("certificate", examiner.public, RECORD, None)
    for late in (at(NOON), at("2027-01-01T00:00:00Z"), None):
        with pytest.raises(RevokedError, match=f"revoked from {NOON}"):
            history.check("registration", owner.public, RECORD, late)


def test_the_earliest_end_counts(owner):
    ends = ["2026-07-01T00:00:00Z", NOON, "2026-08-01T00:00:00Z"]
    history = History.of([revoke(owner, owner.keyid, "x", effective=end) for end in ends], [owner.public])
    assert history.ends == {owner.keyid: NOON}


def test_a_single_record(owner):
    history = History.of([revoke(owner, RECORD, "wrong file", effective=NOON)], [owner.public])
    history.check("registration", owner.public, "cd" * 32, None)
    history.check("registration", owner.public, RECORD, at("2026-01-01T00:00:00Z"))
    with pytest.raises(RevokedError, match="it was revoked"):
        history.check("registration", owner.public, RECORD, at(NOON))


def test_nobody_revokes_for_another(owner, stranger):
    with pytest.raises(SignatureError, match="those who may"):
        History.of([revoke(stranger, owner.keyid, "mischief")], [owner.public])
    history = History.of([revoke(stranger, RECORD, "mischief")], [owner.public])
    with pytest.raises(SignatureError, match="those who may"):
        history.check("registration", owner.public, RECORD, None)


def test_strangers_statements_are_passed_over(owner, stranger):
    statements = [revoke(stranger, stranger.keyid, "x"), rotate(stranger, fresh(), "x")]
    history = History.of(statements, [owner.public])
    assert (history.trust, history.ends) == ((owner.public,), {})


def test_a_recovery_key_revokes_a_lost_one(owner, examiner):
    lost = revoke(examiner, owner.keyid, "lost", effective=NOON)
    with pytest.raises(SignatureError):
        History.of([lost], [owner.public])
    history = History.of([lost], [owner.public], recovery={owner.keyid: examiner.public})
    assert history.ends == {owner.keyid: NOON}


def test_a_key_is_handed_over(owner):
    second, third = fresh(), fresh()
    chain = [rotate(second, third, "again"), rotate(owner, second, "yearly", effective=NOON)]
    history = History.of(chain, [owner.public])
    assert history.trust == (owner.public, second.public, third.public)
    assert history.party(owner.public) == (owner.public, second.public, third.public)
    assert history.party(third.public) == (third.public,)
    history.check("registration", owner.public, RECORD, at("2026-01-01T00:00:00Z"))
    history.check("certificate", third.public, RECORD, None)
    with pytest.raises(RevokedError):
        history.check("certificate", owner.public, RECORD, None)


def test_a_hand_over_takes_two_signatures(owner, stranger):
    new = fresh()
    good = json.loads(rotate(owner, new, "yearly").envelope)
    for kept in good["signatures"]:
        one = Statement(json.dumps({**good, "signatures": [kept]}).encode())
        with pytest.raises(SignatureError, match="those who may"):
            History.of([one], [owner.public])
    with pytest.raises(SignatureError):
        History.of([rotate(stranger, new, "theft", old=owner.public)], [owner.public])


def test_a_thief_cannot_hand_over_a_revoked_key(owner):
    thief = fresh("Mallory")
    statements = [rotate(owner, thief, "mine now"), revoke(owner, owner.keyid, "stolen", effective=NOON)]
    history = History.of(statements, [owner.public])
    assert history.trust == (owner.public,)
    assert history.ends == {owner.keyid: NOON}


def test_two_heirs_are_one_too_many_unless_the_recovery_key_decides(owner, examiner):
    thief, heir = fresh("Mallory"), fresh()
    theft, rescue = rotate(owner, thief, "mine now"), rotate(examiner, heir, "stolen", old=owner.public)
    with pytest.raises(EvidenceError, match="two keys"):
        History.of([theft, rotate(owner, heir, "yearly")], [owner.public])
    for order in ([theft, rescue], [rescue, theft]):
        history = History.of(order, [owner.public], recovery={owner.keyid: examiner.public})
        assert history.trust == (owner.public, heir.public)


def test_a_circle_ends(owner):
    other = fresh()
    history = History.of([rotate(owner, other, "x"), rotate(other, owner, "back")], [owner.public])
    assert set(history.ends) == {owner.keyid, other.keyid}
    assert len(history.party(owner.public)) == 2


# --- in a bundle ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def asked(tsa):
    return TimestampAuthority(tsa.url, tsa.root)


@pytest.fixture(scope="module")
def rotated(tmp_path_factory, owner, tools, asked):
    """(bundle, successor, rotation): registered by the owner, handed over, certified by the successor."""
    folder, new = tmp_path_factory.mktemp("rotated"), fresh("Example Imaging Ltd")
    (folder / "w").write_bytes(b"weights")
    key = Key.create(owner, tools.scheme, 8, decoder=tools.decoder, tsa=asked)
    registration = register(owner, key, [("w", folder / "w")], tools.info).stamp(asked)
    rotation = rotate(owner, new, "yearly", effective=shifted(1), tsa=asked)
    transcript = Transcript.create(folder / "session", Session.draw(registration, tools.suspect, 4))
    tools.ask(transcript, key, registration)
    path = folder / "bundle"
    tools.certify(path, registration, key, transcript, new, "self", tsa=asked, revocations=[rotation])
    return path, new, rotation


@pytest.fixture
def check(tools, tsa, owner):
    def run(path, *revocations, trust=(owner.public,), roots=(tsa.root,)):
        return check_bundle(path, trust, **tools.callables, roots=load_roots(roots), revocations=revocations)

    return run


@needs_openssl
def test_whoever_trusts_the_old_key_trusts_its_successor(rotated, check):
    bundle, _, rotation = rotated
    assert {path.suffix for path in (bundle / "revocations").iterdir()} == {".json", ".tsr"}
    checked = check(bundle)
    assert (checked.verdict, checked.mode) == ("match", "self")
    assert checked == check(bundle, rotation)


@needs_openssl
def test_a_revocation_from_elsewhere_counts_both_ways(rotated, check, owner):
    """A bundle can leave it out; the reader's own list cannot."""
    bundle, new, _ = rotated
    check(bundle, revoke(owner, owner.keyid, "later found stolen", effective=shifted(2)))
    with pytest.raises(RevokedError, match="registration: is of"):
        check(bundle, revoke(owner, owner.keyid, "stolen long ago", effective=shifted(-2)))
    check(bundle, revoke(new, new.keyid, "stolen", effective=shifted(2)))
    with pytest.raises(RevokedError, match="certificate: is of"):
        check(bundle, revoke(new, new.keyid, "stolen", effective=shifted(-2)))
    check(bundle, revoke(owner, check(bundle).registration.record_id, "withdrawn", effective=shifted(2)))
    with pytest.raises(RevokedError, match="and it was revoked"):
        check(bundle, revoke(owner, check(bundle).registration.record_id, "wrong", effective=shifted(-2)))


@needs_openssl
def test_without_the_hand_over_the_successor_is_a_stranger(rotated, check, tmp_path, owner):
    import shutil

    bundle = shutil.copytree(rotated[0], tmp_path / "bundle")
    shutil.rmtree(bundle / "revocations")
    with pytest.raises(SignatureError):
        check(bundle)
    with pytest.raises(EvidenceError, match="mode"):  # nor does trusting it by itself make it the owner
        check(bundle, trust=[owner.public, rotated[1].public])


@needs_openssl
def test_statements_of_a_bundle_are_checked_like_the_rest(rotated, check, tmp_path, stranger, owner):
    import shutil

    def broken(name, change):
        bundle = shutil.copytree(rotated[0], tmp_path / name)
        (file,) = (bundle / "revocations").glob("*.dsse.json")
        change(bundle / "revocations", file)
        return bundle

    with pytest.raises(SignatureError):
        check(
            broken(
                "forged",
                lambda folder, _: revoke(stranger, owner.keyid, "x").save(folder / f"{'0' * 64}.dsse.json"),
            )
        )
    with pytest.raises(TimestampError):
        check(broken("stamp", lambda _, file: file.with_name(file.name[:64] + ".tsr").write_bytes(b"junk")))
    with pytest.raises(EvidenceError, match="unknown file"):
        check(broken("name", lambda _, file: file.rename(file.with_name("x.dsse.json"))))
    with pytest.raises(EvidenceError, match="too large"):
        check(broken("large", lambda _, file: file.write_bytes(bytes(70_000))))
    with pytest.raises(MalformedEvidenceError):
        check(broken("noise", lambda _, file: file.write_bytes(b"{}")))


def test_an_unstamped_registration_does_not_outlive_its_key(made, tools, trust, owner):
    late = revoke(owner, owner.keyid, "retired", effective=shifted(1))
    with pytest.raises(RevokedError, match="no timestamp"):
        check_bundle(made[0], trust, **tools.callables, revocations=[late])
