"""The whole way, and everything a liar may try on it."""

from __future__ import annotations

import inspect
import json
import math
import os
import shutil
import signal
from base64 import b64encode
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelguard.errors import EvidenceError, InputError, MalformedEvidenceError, SignatureError
from modelguard.evidence import (
    Key,
    Line,
    Session,
    Transcript,
    certify,
    check_bundle,
    dsse,
    needed_grind_bits,
    prf,
    register,
)
from modelguard.evidence import bundle as bundle_module
from modelguard.statistics import Multiplicity

CERTIFICATE = "certificate.dsse.json"
REGISTRATION = "registration.dsse.json"


@pytest.fixture
def check(tools, trust):
    def run(path, trust=trust, **changes):
        return check_bundle(path, trust, **{**tools.callables, **changes})

    return run


# --- what holds -------------------------------------------------------------------------------------------


def test_match(made, check, tools, registration):
    checked = check(made[0])
    assert checked == made[1]
    assert (checked.verdict, checked.bits, checked.matches) == ("match", 256, 244)
    assert checked.log10_p < -50
    # 76 bits for scrypt/4, 100 suspects
    assert math.isclose(checked.log10_p_adj, checked.log10_p + 76 * math.log10(2) + 2)
    assert (checked.owner, checked.examiner, checked.mode) == (
        "Example Imaging Ltd",
        "Independent Lab",
        "witness",
    )
    assert checked.suspect == tools.suspect
    assert checked.registration == registration
    assert "declared, not timestamped" in checked.statement
    assert (
        f"at most 10^{math.ceil(checked.log10_p_adj * 100) / 100:.2f}, all declared trials"
        in checked.statement
    )
    assert any("not theft" in limit for limit in checked.limits)
    assert any("witness's word" in limit for limit in checked.limits)
    with pytest.raises(TypeError, match="verdict"):
        bool(checked)


def test_bundle_holds_exactly_what_is_specified(made):
    names = {path.relative_to(made[0]).as_posix() for path in made[0].rglob("*") if path.is_file()}
    blobs = {name for name in names if name.startswith("blobs/")}
    assert names - blobs == {REGISTRATION, CERTIFICATE, "transcript.jsonl"}
    assert len(blobs) == 6


def make(
    tmp_path, registration, key, examiner, tools, respond, count=4, exclude=(), mode="witness", **changes
):
    session = Session.draw(registration, tools.suspect, count, exclude)
    transcript = Transcript.create(tmp_path / "session", session)
    tools.ask(transcript, key, registration, respond)
    arguments = {
        "registration": registration,
        "key": key,
        "transcript": transcript,
        "examiner": examiner,
        "mode": mode,
        "multiplicity": Multiplicity(1, 1, 0),
        **tools.callables,
        **changes,
    }
    return certify(tmp_path / "made", **arguments)


def test_independent_suspect_is_inconclusive(tmp_path, registration, key, examiner, tools, check):
    def innocent(key, leaves):
        return np.random.default_rng(1).integers(0, 256, (16, 16 * len(leaves), 1)).astype(np.uint8)

    checked = make(tmp_path, registration, key, examiner, tools, innocent)
    assert (checked.verdict, checked.log10_p_adj) == ("inconclusive", 0.0)
    assert "nor that they do not" in checked.statement
    assert check(tmp_path / "made") == checked


def test_suspect_marked_with_another_key_is_inconclusive(tmp_path, registration, key, owner, examiner, tools):
    other = Key.create(owner, tools.scheme, 8, decoder=tools.decoder, log2_n=4)
    checked = make(
        tmp_path, registration, key, examiner, tools, lambda _, leaves: tools.marked(other, leaves)
    )
    assert checked.verdict == "inconclusive"


def test_refusals_alone_prove_nothing(tmp_path, registration, key, examiner, tools, check):
    session = Session.draw(registration, tools.suspect, 1)
    transcript = Transcript.create(tmp_path / "session", session)
    leaves = session.leaves(registration)
    transcript.add(
        "trigger", tools.trigger(key.scheme, [key.leaf(leaves[0])[0]], key.salt), leaves=leaves, status=403
    )
    arguments = {"registration": registration, "key": key, "transcript": transcript, "examiner": examiner}
    made = certify(
        tmp_path / "made", **arguments, mode="witness", multiplicity=Multiplicity(1, 1, 0), **tools.callables
    )
    assert (made.verdict, made.log10_p, made.matches, made.bits) == ("inconclusive", 0.0, 0, 64)
    assert check(tmp_path / "made") == made


def test_owner_alone_is_mode_self_and_says_so(tmp_path, registration, key, owner, tools, check):
    checked = make(tmp_path, registration, key, owner, tools, tools.marked, mode="self")
    assert checked.verdict == "match"
    assert checked.multiplicity.grind_bits == 76 + 7  # a nonce drawn again: C(8, 4) = 70 sets
    assert any("owner's word" in limit for limit in checked.limits)
    assert check(tmp_path / "made", [owner.public]) == checked


@pytest.mark.parametrize(("who", "mode"), [("owner", "arbiter"), ("owner", "witness"), ("examiner", "self")])
def test_mode_must_fit_who_signs(tmp_path, registration, key, owner, examiner, tools, who, mode):
    signer = {"owner": owner, "examiner": examiner}[who]
    with pytest.raises(EvidenceError, match="mode"):
        make(tmp_path, registration, key, signer, tools, tools.marked, mode=mode)
    assert [path.name for path in tmp_path.iterdir()] == ["session"]


def test_leaves_used_before_cost_grinding(tmp_path, registration, key, examiner, tools):
    checked = make(tmp_path, registration, key, examiner, tools, tools.marked, exclude={0, 1, 2, 3})
    assert set(checked.leaves) == {4, 5, 6, 7}
    assert checked.multiplicity.grind_bits == 76 + 7  # C(8, 4) = 70 sets


def test_a_certificate_of_the_owner_cannot_hide_the_choice_of_a_nonce(
    tmp_path, registration, key, owner, tools, check
):
    make(tmp_path, registration, key, owner, tools, tools.marked, mode="self")
    path = tmp_path / "made" / CERTIFICATE
    tools.resign(path, lambda s: s["predicate"]["result"]["multiplicity"].update(grindBits=82), owner)
    with pytest.raises(EvidenceError, match="grindBits: too few"):
        check(tmp_path / "made", [owner.public])


def test_what_a_nonce_costs_its_owner(tmp_path, folder, owner, tools):
    key = Key.create(owner, tools.scheme, 256, decoder=tools.decoder, log2_n=1)
    files = [("weights.safetensors", folder / "weights.safetensors")]
    registration = register(owner, key, files, tools.info)

    def bits(count, exclude=(), mode="self", sequential=False, asked=0):
        session = Session.draw(registration, tools.suspect, count, exclude, sequential)
        groups = [session.leaves(registration)[at : at + 2] for at in range(0, asked, 2)]
        lines = [Line(seq, "", "trigger", "", 200, leaves) for seq, leaves in enumerate(groups)]
        return needed_grind_bits(registration, session, lines, mode) - registration.grind_bits

    assert bits(2) == math.ceil(math.log2(math.comb(256, 2)))
    assert bits(2, mode="witness") == bits(2, mode="arbiter") == 0
    assert bits(100) == 80  # no one tries more nonces
    assert bits(2, range(4, 256)) == math.ceil(math.log2(math.comb(256, 4) * math.comb(4, 2)))
    assert bits(100, range(156)) == bits(100, range(156), "witness")  # all that were left
    assert bits(40, sequential=True, asked=4) == math.ceil(math.log2(math.comb(256, 4))) + 3


def test_reader_may_only_tighten(made, check):
    stricter = check(made[0], multiplicity=Multiplicity(1, 1000, 0))
    assert stricter.multiplicity == Multiplicity(100, 1000, 76)
    assert math.isclose(stricter.log10_p_adj, made[1].log10_p_adj + 3)
    assert check(made[0], multiplicity=Multiplicity(1, 1, 250)).verdict == "inconclusive"
    assert check(made[0], multiplicity=Multiplicity(1, 1, 0)) == made[1]


def test_expired_certificate_keeps_its_facts(tmp_path, registration, key, examiner, tools, check):
    past = {"notBefore": "2020-01-01T00:00:00Z", "notAfter": "2021-01-01T00:00:00Z"}
    checked = make(tmp_path, registration, key, examiner, tools, tools.marked, validity=past)
    assert checked.verdict == "match"
    assert (
        checked.limits[-1]
        == "The certificate is valid from 2020-01-01T00:00:00Z to 2021-01-01T00:00:00Z only."
    )


def test_decoder_never_sees_the_bits(made, check, tools, key):
    calls = []

    def spy(scheme, secrets_k, salt, response):
        calls.append((secrets_k, salt))
        return tools.decode(scheme, secrets_k, salt, response)

    check(made[0], decode=spy)
    assert list(inspect.signature(tools.decode).parameters) == ["scheme", "secrets_k", "salt", "response"]
    assert [secret for secrets_k, _ in calls for secret in secrets_k] == [
        key.leaf(n)[0] for n in made[1].leaves
    ]
    assert {salt for _, salt in calls} == {key.salt}


# --- what does not: unsigned changes ----------------------------------------------------------------------


@pytest.mark.parametrize("file", [REGISTRATION, CERTIFICATE])
def test_changed_payload(bundle, check, file, tools):
    envelope = json.loads((bundle / file).read_bytes())
    statement = tools.payload_of(bundle / file)
    statement["predicate"]["validity"]["notAfter"] = "2099-01-01T00:00:00Z"
    envelope["payload"] = b64encode(json.dumps(statement).encode()).decode()
    (bundle / file).write_bytes(json.dumps(envelope).encode())
    with pytest.raises(SignatureError):
        check(bundle)


@pytest.mark.parametrize("file", [REGISTRATION, CERTIFICATE])
def test_stranger_signs(bundle, check, file, tools, stranger):
    tools.resign(bundle / file, lambda statement: None, stranger)
    with pytest.raises(SignatureError):
        check(bundle)


def test_trust_comes_from_the_reader_alone(bundle, check, owner, examiner, stranger):
    for trust in ([stranger.public], [owner.public], [stranger.public, owner.public]):
        with pytest.raises(SignatureError):
            check(bundle, trust)
    with pytest.raises(EvidenceError):
        check(bundle, [examiner.public])
    with pytest.raises(InputError, match="trust"):
        check(bundle, [])


@pytest.mark.parametrize("file", [REGISTRATION, CERTIFICATE])
def test_payload_type_confusion(bundle, check, file):
    envelope = json.loads((bundle / file).read_bytes())
    envelope["payloadType"] = "application/json"
    (bundle / file).write_bytes(json.dumps(envelope).encode())
    with pytest.raises(MalformedEvidenceError, match="payloadType"):
        check(bundle)


@pytest.mark.parametrize(("source", "target"), [(REGISTRATION, CERTIFICATE), (CERTIFICATE, REGISTRATION)])
def test_predicate_type_confusion(bundle, check, source, target):
    shutil.copy(bundle / source, bundle / target)
    with pytest.raises(MalformedEvidenceError, match="predicateType"):
        check(bundle)


def edit_lines(edit):
    def run(path):
        path.write_bytes(b"".join(edit(path.read_bytes().splitlines(keepends=True))))

    return run


TRANSCRIPT_DAMAGE = {
    "line removed": edit_lines(lambda lines: lines[1:]),
    "truncated": edit_lines(lambda lines: lines[:-1]),
    "last newline lost": edit_lines(lambda lines: [*lines[:-1], lines[-1][:-1]]),
    "cut in a line": edit_lines(lambda lines: [*lines[:-1], lines[-1][:30]]),
    "lines swapped": edit_lines(lambda lines: [lines[1], lines[0], *lines[2:]]),
    "line added": edit_lines(lambda lines: [*lines, lines[0].replace(b'"seq":0', b'"seq":4')]),
    "status changed": edit_lines(lambda lines: [line.replace(b"429", b"200") for line in lines]),
    "space added": edit_lines(lambda lines: [lines[0].replace(b",", b", ", 1), *lines[1:]]),
    "emptied": edit_lines(lambda lines: []),
}


@pytest.mark.parametrize("name", TRANSCRIPT_DAMAGE)
def test_transcript_damage(bundle, check, name):
    TRANSCRIPT_DAMAGE[name](bundle / "transcript.jsonl")
    with pytest.raises(EvidenceError, match="transcript"):
        check(bundle)


def first_blob(bundle):
    return sorted((bundle / "blobs").iterdir())[0]


def replace_by_link(path, target):
    path.rename(target)
    path.symlink_to(target)


FOLDER_DAMAGE = {
    "blob altered": (lambda b: first_blob(b).write_bytes(b"x"), "changed"),
    "blob missing": (lambda b: first_blob(b).unlink(), "cannot be read"),
    "blob a link": (lambda b: replace_by_link(first_blob(b), b.parent / "elsewhere"), "link"),
    "blob a folder": (lambda b: (b / "blobs" / ("0" * 64)).mkdir(), "link"),
    "blob huge": (lambda b: os.truncate(first_blob(b), (16 << 20) + 1), "too large"),
    "blob nobody refers to": (lambda b: (b / "blobs" / ("0" * 64)).write_bytes(b""), "no line"),
    "blob of another name": (lambda b: (b / "blobs" / "readme").write_bytes(b""), "unknown file"),
    "blob name with newline": (lambda b: (b / "blobs" / ("0" * 64 + "\n")).write_bytes(b""), "unknown file"),
    "blob name in capitals": (lambda b: (b / "blobs" / ("A" * 64)).write_bytes(b""), "unknown file"),
    "blobs a link": (lambda b: replace_by_link(b / "blobs", b.parent / "elsewhere"), "not a folder"),
    "blobs missing": (lambda b: shutil.rmtree(b / "blobs"), "cannot be read"),
    "unknown file": (lambda b: (b / "pickle.pkl").write_bytes(b"x"), "unknown file"),
    "registration missing": (lambda b: (b / REGISTRATION).unlink(), "cannot be read"),
    "certificate a link": (lambda b: replace_by_link(b / CERTIFICATE, b.parent / "elsewhere"), "link"),
    "certificate huge": (lambda b: os.truncate(b / CERTIFICATE, 1 << 30), "too large"),
    "transcript huge": (lambda b: os.truncate(b / "transcript.jsonl", 1 << 30), "too large"),
    "transcript a pipe": (
        lambda b: ((b / "transcript.jsonl").unlink(), os.mkfifo(b / "transcript.jsonl")),
        "link",
    ),
    "nothing there": (lambda b: shutil.rmtree(b), "not a folder"),
}


@pytest.mark.parametrize("name", FOLDER_DAMAGE)
def test_folder_damage(bundle, check, name):
    damage, message = FOLDER_DAMAGE[name]
    damage(bundle)
    with pytest.raises(EvidenceError, match=message):
        check(bundle)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    file=st.sampled_from([REGISTRATION, CERTIFICATE, "transcript.jsonl"]),
    place=st.floats(0, 1),
    bit=st.integers(0, 7),
)
def test_any_flipped_bit_is_found_or_harmless(made, bundle, check, file, place, bit):
    original = (made[0] / file).read_bytes()
    damaged = bytearray(original)
    damaged[int(place * (len(original) - 1))] ^= 1 << bit
    (bundle / file).write_bytes(damaged)
    try:
        assert check(bundle) == replace(
            made[1], registration=replace(made[1].registration, envelope=(bundle / REGISTRATION).read_bytes())
        )  # such as a bit of a key id, which is a hint
    except EvidenceError:
        pass
    finally:
        (bundle / file).write_bytes(original)


# --- what does not: lies under a trusted signature --------------------------------------------------------


def result(**change):
    return lambda fields: fields["result"].update(change)


def opening(index, **change):
    return lambda fields: fields["openings"][index].update(change)


def swap_openings(fields):
    fields["openings"][:2] = fields["openings"][1::-1]


def tries(**change):
    return lambda fields: fields["result"]["multiplicity"].update(change)


def selection(**change):
    return lambda fields: fields["selection"].update(change)


EXAMINER_LIES = {
    "more matches": (result(matches=256), "result.matches"),
    "more bits": (result(bits=257), "result.bits"),
    "larger T": (result(T=10**6), "result.T"),
    "larger W": (result(W=10**6), "result.W"),
    "smaller tail": (result(tail="0x1"), "result.tail"),
    "tail written otherwise": (result(tail="0x0"), "result.tail"),
    "smaller p": (result(log10p="-99.99"), "result.log10p"),
    "other verdict": (result(verdict="inconclusive"), "result.verdict"),
    "no grinding": (tries(grindBits=0), "grindBits"),
    "one bit of grinding less": (tries(grindBits=75), "grindBits"),
    "no suspect": (tries(suspects=0), "suspects"),
    "another suspect": (lambda f: f["suspect"].update(label="vendor Y"), "transcript.head"),
    "another endpoint": (lambda f: f["suspect"].update(endpoint="https://elsewhere"), "transcript.head"),
    "another nonce": (selection(nonce="0" * 64), "transcript.head"),
    "leaves excluded afterwards": (selection(exclude=[0]), "transcript.head"),
    "more leaves afterwards": (selection(count=5), "transcript.head"),
    "unknown rule": (selection(rule="my-choice/1"), "rule"),
    "another registration": (lambda f: f.update(registration="0" * 64), "certificate.registration"),
    "another transcript": (lambda f: f["transcript"].update(sha256="0" * 64), "subject"),
    "another head": (lambda f: f["transcript"].update(head="0" * 64), "transcript.head"),
    "more lines": (lambda f: f["transcript"].update(count=9), "transcript.count"),
    "forged x_K": (opening(0, xK="0" * 64), "not under the committed root"),
    "forged x_b": (opening(1, xb="0" * 64), "not under the committed root"),
    "forged path": (lambda f: f["openings"][2]["path"].reverse(), "not under the committed root"),
    "path too long": (lambda f: f["openings"][2]["path"].append("0" * 64), "not under the committed root"),
    "leaf relabelled": (
        lambda f: f["openings"][0].update(leaf=(f["openings"][0]["leaf"] + 1) % 8),
        "openings",
    ),
    "openings swapped": (swap_openings, "openings"),
    "opening dropped": (lambda f: f["openings"].pop(), "openings"),
    "opening repeated": (lambda f: f["openings"].append(f["openings"][0]), "openings"),
    "examiner of another key": (lambda f: f["examiner"].update(keyid="sha256:" + "0" * 64), "examiner"),
    "owner as arbiter": (lambda f: f["examiner"].update(mode="self"), "mode"),
    "unknown mode": (lambda f: f["examiner"].update(mode="god"), "mode"),
    "unknown field": (lambda f: f.update(comment="guilty"), "unknown field"),
}


@pytest.mark.parametrize("name", EXAMINER_LIES)
def test_examiner_lies(bundle, check, tools, examiner, name):
    edit, message = EXAMINER_LIES[name]
    tools.resign(bundle / CERTIFICATE, lambda statement: edit(statement["predicate"]), examiner)
    with pytest.raises(EvidenceError, match=message):
        check(bundle)


def test_subject_lie(bundle, check, tools, examiner):
    tools.resign(bundle / CERTIFICATE, lambda s: s["subject"][0].update(name="other.jsonl"), examiner)
    with pytest.raises(EvidenceError, match="subject"):
        check(bundle)


STRICT = {
    "duplicate key": lambda text: text.replace('"schema":', '"schema":"1.0","schema":'),
    "float": lambda text: text.replace('"suspects":100', '"suspects":100.0'),
    "NaN": lambda text: text.replace('"suspects":100', '"suspects":NaN'),
    "5000 digits": lambda text: text.replace('"suspects":100', '"suspects":1' + "0" * 5000),
    "depth": lambda text: text.replace('"suspects":100', '"suspects":' + "[" * 100_000 + "]" * 100_000),
    "not an object": lambda text: "[" + text + "]",
    "20 MB": lambda text: text + " " * 12_000_000,
}


@pytest.mark.parametrize("name", STRICT)
def test_strictness_under_a_valid_signature(bundle, check, examiner, name):
    envelope = json.loads((bundle / CERTIFICATE).read_bytes())
    payload = STRICT[name](dsse.verify(json.dumps(envelope).encode(), [examiner.public]).payload.decode())
    (bundle / CERTIFICATE).write_bytes(dsse.sign(payload.encode(), examiner))
    with pytest.raises(EvidenceError):
        check(bundle)


def test_bad_utf8_under_a_valid_signature(bundle, check, examiner):
    (bundle / CERTIFICATE).write_bytes(dsse.sign(b'{"a":"\xff"}', examiner))
    with pytest.raises(MalformedEvidenceError, match="UTF-8"):
        check(bundle)


TRANSCRIPT_LIES = {
    "refusal hidden": (lambda lines: [lines[0], *lines[2:]], "out of order"),
    "trigger dropped": (lambda lines: lines[:3], "not the selected leaves"),
    "only controls": (lambda lines: lines[:1], "not the selected leaves"),
    "answer asked again": (
        lambda lines: [*lines, lines[3].replace('"seq":3', '"seq":4')],
        "asked again after an answer",
    ),
    "another image asked": (
        lambda lines: [*lines[:3], lines[3].replace('"request":"', '"request":"0000')],
        "request",
    ),
    "blob outside": (lambda lines: [lines[0].replace('"raw":"', '"raw":"../'), *lines[1:]], "raw"),
    "unknown kind": (lambda lines: [lines[0].replace("control", "warm-up"), *lines[1:]], "kind"),
}


@pytest.mark.parametrize("name", TRANSCRIPT_LIES)
def test_transcript_lies(bundle, check, tools, examiner, name):
    edit, message = TRANSCRIPT_LIES[name]
    tools.retranscribe(
        bundle, lambda data: "".join(edit(data.decode().splitlines(keepends=True))).encode(), examiner
    )
    with pytest.raises(EvidenceError, match=message):
        check(bundle)


def test_chosen_trigger_pixels(bundle, check, tools, examiner):
    """An image optimised on the suspect is not the one the committed secrets give."""

    def edit(data):
        lines = [json.loads(line) for line in data.splitlines()]
        lines[3]["request"] = "ab" * 32
        return b"".join(json.dumps(line).encode() + b"\n" for line in lines)

    tools.retranscribe(bundle, edit, examiner)
    with pytest.raises(EvidenceError, match="not the image asked"):
        check(bundle)


def test_transcript_of_another_suspect(tmp_path, bundle, registration, key, examiner, tools, check):
    make(tmp_path / "other", registration, key, examiner, tools, tools.marked)
    shutil.copy(tmp_path / "other" / "made" / "transcript.jsonl", bundle)
    with pytest.raises(EvidenceError, match="transcript"):
        check(bundle)


def test_examiner_excludes_leaves_without_paying(tmp_path, registration, key, examiner, tools, check):
    make(tmp_path, registration, key, examiner, tools, tools.marked, exclude={0, 1})
    path = tmp_path / "made" / CERTIFICATE
    tools.resign(path, lambda s: s["predicate"]["result"]["multiplicity"].update(grindBits=76), examiner)
    with pytest.raises(EvidenceError, match="grindBits"):
        check(tmp_path / "made")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"exclude": [0, 9]}, "exclude"),
        ({"exclude": [1, 0]}, "exclude"),
        ({"exclude": [1, 1]}, "exclude"),
        ({"exclude": [0, 1, 2, 3, 4]}, "count"),
        ({"count": 9}, "count"),
    ],
)
def test_impossible_selection(bundle, check, tools, examiner, change, message):
    tools.resign(bundle / CERTIFICATE, lambda s: s["predicate"]["selection"].update(change), examiner)
    with pytest.raises(EvidenceError, match=f"certificate.selection.{message}"):
        check(bundle)


def reregister(bundle, tools, examiner, signer, edit):
    """Sign a changed registration and a certificate that names it."""

    def update(statement):
        edit(statement["predicate"])

    tools.resign(bundle / REGISTRATION, update, signer)
    record_id = dsse.verify((bundle / REGISTRATION).read_bytes(), [signer.public]).record_id
    tools.resign(bundle / CERTIFICATE, lambda s: s["predicate"].update(registration=record_id), examiner)
    tools.retranscribe(bundle, lambda data: data, examiner)


def test_changed_registration_is_another_record(bundle, tools, owner, check):
    tools.resign(bundle / REGISTRATION, lambda s: s["predicate"]["model"].update(version="2"), owner)
    with pytest.raises(EvidenceError, match=r"certificate\.registration"):
        check(bundle)


def test_thief_registers_the_owners_root(bundle, tools, examiner, stranger, check):
    def steal(fields):
        spki = b64encode(stranger.public_key).decode()
        fields["owner"] = {"name": "Mallory", "keyid": stranger.keyid, "alg": "ed25519", "spki": spki}

    session_before = tools.payload_of(bundle / CERTIFICATE)["predicate"]["selection"]
    reregister(bundle, tools, examiner, stranger, steal)
    assert tools.payload_of(bundle / CERTIFICATE)["predicate"]["selection"] == session_before
    with pytest.raises(EvidenceError, match="not the image asked"):
        check(bundle, [stranger.public, examiner.public])


@pytest.mark.parametrize(
    "edit",
    [
        lambda w: w["scheme"].update(levels=14),
        lambda w: w["decoder"].update(sha256="0" * 64),
        lambda w: w["decoder"].update(id="test.decoder/2"),
        lambda w: w.update(reference={"id": "model", "sha256": "0" * 64}),
        lambda w: w["keyCommitment"].update(saltSource="scrypt/5"),
    ],
    ids=["scheme", "decoder digest", "decoder id", "reference", "salt source"],
)
def test_owner_cannot_change_what_was_committed(bundle, tools, owner, examiner, check, edit):
    reregister(bundle, tools, examiner, owner, lambda fields: edit(fields["watermark"]))
    with pytest.raises(EvidenceError, match="not the image asked"):
        check(bundle)


# --- order, certify and crashes ---------------------------------------------------------------------------


def test_order_of_checks(bundle, check, tools, examiner, monkeypatch):
    """Every earlier fault hides the later ones, and nothing costly runs before the signatures hold."""
    seen = []
    stretch = prf.salt_from_scrypt
    monkeypatch.setattr(prf, "salt_from_scrypt", lambda *a: seen.append("salt") or stretch(*a))

    def trigger(*arguments):
        seen.append("trigger")
        return tools.trigger(*arguments)

    def bits(*arguments):
        seen.append("bits")
        return tools.bits(*arguments)

    def decode(*arguments):
        seen.append("decode")
        return tools.decode(*arguments)

    def fails(message):
        seen.clear()
        with pytest.raises(EvidenceError, match=message):
            check(bundle, trigger=trigger, bits=bits, decode=decode)
        return seen

    good = {name: (bundle / name).read_bytes() for name in (CERTIFICATE, "transcript.jsonl")}
    original = first_blob(bundle).read_bytes()
    # faults from the last check to the first; each new one must be reported instead of those before
    tools.resign(bundle / CERTIFICATE, lambda s: result(matches=1)(s["predicate"]), examiner)
    assert fails("result.matches") == ["salt", *["trigger", "decode", "bits", "bits"] * 2]
    first_blob(bundle).write_bytes(b"x")
    assert fails("changed") == ["salt"]
    tools.resign(bundle / CERTIFICATE, lambda s: opening(0, xb="0" * 64)(s["predicate"]), examiner)
    assert fails("committed root") == ["salt"]
    tools.resign(bundle / CERTIFICATE, lambda s: swap_openings(s["predicate"]), examiner)
    assert fails("not the selected leaves") == ["salt"]
    (bundle / "transcript.jsonl").write_bytes(good["transcript.jsonl"].replace(b"429", b"403"))
    assert fails("transcript.sha256") == ["salt"]
    tools.resign(bundle / CERTIFICATE, lambda s: s["predicate"]["examiner"].update(mode="self"), examiner)
    assert fails("mode") == []
    tools.resign(bundle / CERTIFICATE, lambda s: s["predicate"].update(extra=1), examiner)
    assert fails("unknown field") == []
    (bundle / CERTIFICATE).write_bytes(good[CERTIFICATE].replace(b'"sig":"', b'"sig":"AAAA'))
    assert fails("none of the trusted keys") == []
    (bundle / REGISTRATION).write_bytes(b"{}")
    assert fails("payload") == []
    (bundle / "unknown").touch()
    assert fails("unknown file") == []
    assert original != first_blob(bundle).read_bytes()


def test_certify_refuses(tmp_path, made, registration, key, owner, examiner, tools, session_folder):
    arguments = {
        "registration": registration,
        "key": key,
        "transcript": Transcript(session_folder),
        "examiner": examiner,
        "mode": "witness",
        "multiplicity": Multiplicity(1, 1, 0),
        **tools.callables,
    }
    before = {path: path.read_bytes() for path in made[0].rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="exists"):
        certify(made[0], **arguments)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="exists"):
        certify(tmp_path / "dangling", **arguments)
    assert {path: path.read_bytes() for path in made[0].rglob("*") if path.is_file()} == before

    other = Key.create(owner, tools.scheme, 8, decoder=tools.decoder, log2_n=4)
    with pytest.raises(InputError, match="key"):
        certify(tmp_path / "new", **{**arguments, "key": other})
    with pytest.raises(InputError, match="mode"):
        certify(tmp_path / "new", **{**arguments, "mode": "judge"})
    with pytest.raises(EvidenceError, match="scores"):
        certify(tmp_path / "new", **{**arguments, "decode": lambda *a: tools.decode(*a)[1:]})
    unfinished = Transcript.create(tmp_path / "unfinished", Session.draw(registration, tools.suspect, 1))
    with pytest.raises(EvidenceError, match="not the selected leaves"):
        certify(tmp_path / "new", **{**arguments, "transcript": unfinished})
    assert not (tmp_path / "new").exists()


def test_transcript_of_another_registration(tmp_path, folder, registration, key, owner, examiner, tools):
    files = [("weights.safetensors", folder / "weights.safetensors")]
    other = register(owner, key, files, {**tools.info, "version": "2"})
    transcript = Transcript.create(tmp_path / "session", Session.draw(other, tools.suspect, 2))
    tools.ask(transcript, key, other)
    with pytest.raises(EvidenceError, match=r"certificate\.registration"):
        tools.certify(tmp_path / "made", registration, key, transcript, examiner)
    assert [path.name for path in tmp_path.iterdir()] == ["session"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("files_written", [0, 2, 8, 9])
def test_killed_in_the_middle_leaves_no_half_bundle(
    tmp_path, registration, key, examiner, tools, session_folder, check, files_written
):
    arguments = {
        "registration": registration,
        "key": key,
        "transcript": Transcript(session_folder),
        "examiner": examiner,
        "mode": "witness",
        "multiplicity": Multiplicity(1, 1, 0),
        **tools.callables,
    }
    child = os.fork()
    if child == 0:
        left = [files_written]
        write = bundle_module.atomic_write_bytes

        def die(*_):
            os.kill(os.getpid(), signal.SIGKILL)

        def write_some(*arguments):
            left[0] -= 1
            return write(*arguments) if left[0] >= 0 else die()

        bundle_module.atomic_write_bytes = write_some
        Path.rename = die  # all nine files are written
        try:
            certify(tmp_path / "made", **arguments)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    (left_over,) = tmp_path.iterdir()
    assert left_over.name.startswith(".made.")
    assert len([path for path in left_over.rglob("*") if path.is_file()]) == files_written
    certify(tmp_path / "made", **arguments)
    assert check(tmp_path / "made").verdict == "match"
