"""Two-phase opening: triggers first, bits for one finished transcript."""

from __future__ import annotations

import json
import stat
from dataclasses import replace

import numpy as np
import pytest

from modelguard.errors import EvidenceError, InputError, MalformedEvidenceError, SignatureError
from modelguard.evidence import (
    Bits,
    Opened,
    Session,
    Transcript,
    Triggers,
    certify,
    check_bundle,
    dsse,
    open_bits,
    open_triggers,
    records,
    register,
)
from modelguard.statistics import Multiplicity

CERTIFICATE = "certificate.dsse.json"
BITS = "bits.dsse.json"


@pytest.fixture
def transcript(tmp_path, registration, tools):
    """The examiner's, with nothing asked yet."""
    return Transcript.create(tmp_path / "session", Session.draw(registration, tools.suspect, 4))


@pytest.fixture
def triggers(tmp_path, key, owner, registration, transcript):
    """What the examiner reads from the owner's file."""
    path = open_triggers(key, registration, transcript.session).save(tmp_path / "triggers.json")
    return Triggers.load(path, [owner.public])


@pytest.fixture
def asked(transcript, triggers, key, registration, tools):
    """The transcript after the examiner asked a marked model with the triggers alone."""
    leaves = tuple(triggers.leaves)
    for start in (0, 2):
        group = leaves[start : start + 2]
        secrets = [triggers.leaves[leaf].secret_k for leaf in group]
        image = tools.trigger(registration.scheme, secrets, triggers.salt)
        transcript.add("trigger", image, leaves=group, decoded=tools.marked(key, group))
    return transcript


@pytest.fixture
def bits(owner, key, registration, asked):
    return open_bits(owner, key, registration, asked)


@pytest.fixture
def sign(tmp_path, registration, asked, examiner, tools):
    """Certify as the examiner does, into tmp_path/made."""

    def run(key, mode="arbiter", **changes):
        arguments = {"registration": registration, "transcript": asked, "examiner": examiner, **changes}
        return certify(
            tmp_path / "made",
            **arguments,
            key=key,
            mode=mode,
            multiplicity=Multiplicity(1, 1, 0),
            **tools.callables,
        )

    return run


def test_an_arbiter_who_never_holds_the_key_gets_a_match(tmp_path, triggers, bits, sign, trust, tools):
    made = sign(Opened(triggers, bits))
    assert (made.verdict, made.mode, made.leaves) == ("match", "arbiter", tuple(triggers.leaves))
    assert check_bundle(tmp_path / "made", trust, **tools.callables) == made
    assert (tmp_path / "made" / BITS).read_bytes() == bits.envelope


def test_triggers_hold_no_secret_bit(tmp_path, key, triggers, bits):
    text = (tmp_path / "triggers.json").read_text()
    seen = repr((triggers.leaves, triggers.registration.fields, triggers.session.to_record()))
    for leaf in triggers.leaves:
        secret_k, secret_b = key.leaf(leaf)
        assert secret_k.hex() in text
        assert secret_b.hex() not in text + seen
        assert repr(secret_b) not in seen
    assert key.master.hex() not in text
    assert stat.S_IMODE((tmp_path / "triggers.json").stat().st_mode) == 0o600


def test_without_the_bits_agreement_is_a_coin_toss(key, registration, triggers, asked, tools):
    """What the examiner can compute before the second phase does not tell the bits."""
    guesses = [
        tools.bits(registration.scheme, triggers.leaves[leaf].digest_b, triggers.salt)
        for leaf in triggers.leaves
    ]
    true = [tools.bits(registration.scheme, key.leaf(leaf)[1], key.salt) for leaf in triggers.leaves]
    assert 0.35 < np.mean(np.concatenate(guesses) == np.concatenate(true)) < 0.65


def test_a_burnt_leaf_is_not_opened_again(key, registration, transcript):
    burnt = key.burn(transcript.session.leaves(registration)[1:2])
    with pytest.raises(InputError, match="used before"):
        open_triggers(burnt, registration, transcript.session)


def test_reserve_leaves_serve_a_second_examiner(
    tmp_path, key, registration, triggers, owner, stranger, tools, trust
):
    burnt = key.burn(triggers.leaves)
    session = Session.draw(registration, tools.suspect, 4, burnt.burnt)
    again = open_triggers(burnt, registration, session)
    assert not set(again.leaves) & set(triggers.leaves)
    transcript = Transcript.create(tmp_path / "again", session)
    tools.ask(transcript, key, registration)
    opened = Opened(again, open_bits(owner, burnt, registration, transcript))
    arguments = {"registration": registration, "transcript": transcript, "examiner": stranger}
    checked = certify(
        tmp_path / "second",
        **arguments,
        key=opened,
        mode="arbiter",
        multiplicity=Multiplicity(1, 1, 0),
        **tools.callables,
    )
    assert checked.verdict == "match"
    assert checked.multiplicity.grind_bits == 76 + 7  # naming the burnt leaves was a choice of 1 in 70


def test_bits_are_for_one_transcript(tmp_path, triggers, bits, asked, sign, tools, registration, key):
    """An examiner who has the bits cannot make up other answers with them."""
    other = Transcript.create(tmp_path / "other", asked.session)
    tools.ask(other, key, registration, lambda key, group: tools.marked(key, group, seed=1))
    with pytest.raises(EvidenceError, match=r"bits\.transcript: opened for another one"):
        sign(Opened(triggers, bits), transcript=other)
    asked.add("control", np.full((16, 16, 1), 128, np.uint8), status=500)
    with pytest.raises(EvidenceError, match=r"bits\.transcript: opened for another one"):
        sign(Opened(triggers, bits))
    assert not (tmp_path / "made").exists()


def test_bits_wait_for_all_answers(owner, key, registration, transcript):
    with pytest.raises(EvidenceError, match="not the selected leaves"):
        open_bits(owner, key, registration, transcript)


@pytest.mark.parametrize("mode", ["self", "witness"])
def test_who_opened_in_two_steps_is_an_arbiter(triggers, bits, sign, owner, mode):
    signer = {"examiner": owner} if mode == "self" else {}
    with pytest.raises(EvidenceError, match="mode"):
        sign(Opened(triggers, bits), mode=mode, **signer)


def test_who_holds_the_key_is_no_arbiter(key, sign):
    with pytest.raises(EvidenceError, match="mode"):
        sign(key, mode="arbiter")


def test_the_owner_is_no_arbiter(triggers, bits, sign, owner):
    with pytest.raises(EvidenceError, match="mode"):
        sign(Opened(triggers, bits), examiner=owner)


def edited(path, edit):
    fields = json.loads(path.read_bytes())
    edit(fields)
    path.write_bytes(records.dumps(fields))


TRIGGER_LIES = {
    "another secret": (lambda f: f["openings"][0].update(xK="0" * 64), "committed root"),
    "another digest of bits": (lambda f: f["openings"][0].update(bits="0" * 64), "committed root"),
    "leaves dropped": (lambda f: f["openings"].pop(), "selected leaves"),
    "another nonce": (lambda f: f["selection"].update(nonce="0" * 64), "selected leaves"),
    "too many": (lambda f: f["selection"].update(count=9), "count"),
    "unknown field": (lambda f: f.update(note="hello"), "unknown field"),
    "another format": (lambda f: f.update(format="modelguard-triggers/2"), "format"),
}


@pytest.mark.parametrize("name", TRIGGER_LIES)
def test_a_changed_trigger_file_is_refused(tmp_path, triggers, owner, name):
    edit, message = TRIGGER_LIES[name]
    edited(tmp_path / "triggers.json", edit)
    with pytest.raises(EvidenceError, match=message):
        Triggers.load(tmp_path / "triggers.json", [owner.public])


def test_triggers_of_somebody_else_are_not_believed(tmp_path, triggers, stranger):
    with pytest.raises(SignatureError):
        Triggers.load(tmp_path / "triggers.json", [stranger.public])
    with pytest.raises(EvidenceError, match="cannot be read"):
        Triggers.load(tmp_path / "nowhere.json", [stranger.public])


def resigned(bits, signer, edit):
    statement = json.loads(dsse.unverified(bits.envelope)[0])
    edit(statement)
    return dsse.sign(records.dumps(statement), signer)


BITS_LIES = {
    "another registration": (lambda s: s["predicate"].update(registration="0" * 64), "registration"),
    "another subject": (lambda s: s["subject"][0].update(name="x"), "subject"),
    "unknown field": (lambda s: s["predicate"].update(note="x"), "unknown field"),
}


@pytest.mark.parametrize("name", BITS_LIES)
def test_a_wrong_bits_record_is_refused(bits, registration, owner, name):
    edit, message = BITS_LIES[name]
    with pytest.raises(EvidenceError, match=message):
        Bits.from_envelope(resigned(bits, owner, edit), registration)


def test_bits_that_were_not_committed_are_refused(bits, triggers, registration, owner):
    envelope = resigned(bits, owner, lambda s: s["predicate"]["bits"][0].update(xb="0" * 64))
    with pytest.raises(EvidenceError, match="not those of the triggers"):
        Opened(triggers, Bits.from_envelope(envelope, registration))


def test_only_the_owner_opens_bits(bits, registration, examiner, key, asked):
    with pytest.raises(SignatureError):
        Bits.from_envelope(resigned(bits, examiner, lambda statement: None), registration)
    with pytest.raises(InputError, match="owner"):
        open_bits(examiner, key, registration, asked)


@pytest.fixture
def made(tmp_path, triggers, bits, sign):
    sign(Opened(triggers, bits))
    return tmp_path / "made"


def test_an_arbiters_bundle_without_its_bits_record_is_refused(made, trust, tools):
    (made / BITS).unlink()
    with pytest.raises(EvidenceError, match="mode"):
        check_bundle(made, trust, **tools.callables)


def test_a_witness_cannot_pass_for_an_arbiter(made, trust, tools, examiner):
    tools.resign(made / CERTIFICATE, lambda s: s["predicate"]["examiner"].update(mode="witness"), examiner)
    with pytest.raises(EvidenceError, match="mode"):
        check_bundle(made, trust, **tools.callables)


def test_a_bits_record_of_another_transcript_is_refused(made, trust, tools, owner):
    tools.resign(made / BITS, lambda s: s["predicate"]["transcript"].update(head="0" * 64), owner)
    with pytest.raises(EvidenceError, match="opened for another"):
        check_bundle(made, trust, **tools.callables)


def test_a_bits_record_with_other_bits_is_refused(made, trust, tools, owner):
    tools.resign(made / BITS, lambda s: s["predicate"]["bits"][0].update(xb="0" * 64), owner)
    with pytest.raises(EvidenceError, match="not those of the certificate"):
        check_bundle(made, trust, **tools.callables)


def test_triggers_and_transcript_must_be_of_one_session(triggers, bits, sign, registration, tools, tmp_path):
    other = Transcript.create(tmp_path / "other", Session.draw(registration, tools.suspect, 4))
    with pytest.raises(InputError, match="another session"):
        sign(Opened(triggers, bits), transcript=other)


def test_a_session_of_another_registration_is_refused(folder, key, owner, registration, transcript, tools):
    files = [("weights.safetensors", folder / "weights.safetensors")]
    other = register(owner, key, files, {**tools.info, "version": "2"})
    with pytest.raises(InputError, match="another registration"):
        open_triggers(key, other, transcript.session)
    with pytest.raises(EvidenceError, match="another registration"):
        Triggers(other, replace(transcript.session), {})


def test_a_damaged_session_file_is_refused(tmp_path, transcript):
    path = transcript.folder / "session.json"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(MalformedEvidenceError):
        Session.load(path)
