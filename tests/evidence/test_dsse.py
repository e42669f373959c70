from __future__ import annotations

import hashlib
import json
from base64 import b64encode

import pytest

from modelguard.errors import InputError, MalformedEvidenceError, SignatureError
from modelguard.evidence import dsse


def test_pae_of_the_dsse_specification():
    assert dsse.pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert dsse.pae("", b"") == b"DSSEv1 0  0 "
    assert dsse.pae("é", b"\x00") == b"DSSEv1 2 \xc3\xa9 1 \x00"


def test_sign_and_verify(owner, examiner, stranger):
    envelope = dsse.sign(b"{}", owner, examiner)
    verified = dsse.verify(envelope, [stranger.public, examiner.public, owner.public])
    assert verified.payload == b"{}"
    assert set(verified.signers) == {owner.public, examiner.public}
    message = b"DSSEv1 28 application/vnd.in-toto+json 2 {}"
    assert verified.record_id == dsse.record_id(b"{}") == hashlib.sha256(message).hexdigest()


def test_only_trusted_keys_count(owner, stranger):
    envelope = dsse.sign(b"{}", stranger)
    with pytest.raises(SignatureError, match="none of the trusted keys"):
        dsse.verify(envelope, [owner.public])
    with pytest.raises(InputError, match="trust"):
        dsse.verify(envelope, [])


def test_keyid_is_a_hint(owner, stranger):
    value = json.loads(dsse.sign(b"{}", owner))
    value["signatures"][0]["keyid"] = stranger.keyid
    assert dsse.verify(json.dumps(value).encode(), [owner.public]).signers == (owner.public,)
    del value["signatures"][0]["keyid"]
    assert dsse.verify(json.dumps(value).encode(), [owner.public]).signers == (owner.public,)
    assert dsse.verify(dsse.sign(b"{}", stranger, owner), [owner.public]).signers == (owner.public,)


def test_stranger_under_the_owners_keyid(owner, stranger):
    value = json.loads(dsse.sign(b"{}", stranger))
    value["signatures"][0]["keyid"] = owner.keyid
    with pytest.raises(SignatureError):
        dsse.verify(json.dumps(value).encode(), [owner.public])


@pytest.mark.parametrize(
    "change",
    [
        {"payloadType": "text/plain"},
        {"payload": "e30"},
        {"payload": "e3 0="},
        {"payload": "e30=\n"},
        {"payload": None},
        {"signatures": []},
        {"signatures": [{"keyid": "x"}]},
        {"signatures": [{"sig": "AAAA", "cert": "x"}]},
        {"signatures": [{"sig": "AAAA"}] * 17},
        {"extra": 1},
    ],
    ids=str,
)
def test_malformed_envelopes(owner, change):
    value = {**json.loads(dsse.sign(b"{}", owner)), **change}
    with pytest.raises(MalformedEvidenceError):
        dsse.verify(json.dumps(value).encode(), [owner.public])


def test_changed_payload(owner):
    value = json.loads(dsse.sign(b"{}", owner))
    value["payload"] = b64encode(b"[]").decode()
    with pytest.raises(SignatureError):
        dsse.verify(json.dumps(value).encode(), [owner.public])
