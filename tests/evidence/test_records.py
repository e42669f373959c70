from __future__ import annotations

import json
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from modelguard.errors import EvidenceError, MalformedEvidenceError
from modelguard.evidence import dsse, records, revoke, rotate

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-records.MAX_INT, records.MAX_INT) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)

BAD = {
    "duplicate key": b'{"a":1,"a":1}',
    "nested duplicate key": b'[{"b":{"a":1,"a":2}}]',
    "float": b'{"a":1.0}',
    "exponent": b'{"a":1e3}',
    "NaN": b'{"a":NaN}',
    "Infinity": b'{"a":-Infinity}',
    "2^53": b'{"a":9007199254740992}',
    "-2^53": b'{"a":-9007199254740992}',
    "5000 digits": b'{"a":' + b"9" * 5000 + b"}",
    "depth 25": b"[" * 25 + b"]" * 25,
    "depth 1e5": b"[" * 100_000 + b"]" * 100_000,
    "objects in depth": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "20 MB": b'"' + b"x" * 20_000_000 + b'"',
    "bad UTF-8": b'{"a":"\xff"}',
    "overlong UTF-8": b'"\xc0\x80"',
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf{}",
    "lone surrogate": b'"\\ud800"',
    "surrogate key": b'{"\\ud800":1}',
    "trailing data": b"{} {}",
    "empty": b"",
    "control character": b'"\n"',
    "single quotes": b"{'a':1}",
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_strict_loader_refuses(data):
    with pytest.raises(MalformedEvidenceError):
        records.loads(data)


def test_limits_are_reached_but_not_passed():
    assert records.loads(b'{"a":9007199254740991,"b":-9007199254740991}') == {"a": 2**53 - 1, "b": 1 - 2**53}
    assert records.loads(b"[" * 23 + b"1" + b"]" * 23)
    assert records.loads(b"[1]", limit=3) == [1]
    with pytest.raises(MalformedEvidenceError, match="at most 2"):
        records.loads(b"[1]", limit=2)


@settings(max_examples=100, deadline=None)
@given(JSON)
def test_dumps_and_loads_are_inverse(value):
    data = records.dumps(value)
    assert records.loads(data) == value
    assert records.dumps(records.loads(data)) == data


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60) | st.text('[]{}",:0123456789.eE-+tfn\\u', max_size=60).map(str.encode))
@example(b"-0")
def test_loader_never_crashes_and_never_disagrees_with_json(data):
    try:
        value = records.loads(data)
    except MalformedEvidenceError:
        return
    assert json.loads(data) == value


def test_ulid_sorts_by_time():
    first, second = records.ulid(), records.ulid()
    assert re.fullmatch("[0-7][0-9A-HJKMNP-TV-Z]{25}", first)
    assert first[:10] <= second[:10]
    assert first != second


@pytest.mark.parametrize(
    "value",
    ["2026-02-30T00:00:00Z", "2026-01-01T00:00:00", "2026-01-01T00:00:00Z ", "٢026-01-01T00:00:00Z", 5],
)
def test_moments(value):
    with pytest.raises(MalformedEvidenceError, match="UTC"):
        records.moment("at", value)


@pytest.mark.parametrize("name", ["/a", "a/../b", "..", "a\\b", "a\x00", "", "a//b", "./a", 3])
def test_subject_names_stay_inside(name, registration, owner):
    payload = dsse.verify(registration.envelope, [owner.public]).payload
    statement = json.loads(payload)
    statement["subject"][0]["name"] = name
    with pytest.raises(MalformedEvidenceError, match="name"):
        records.parse_statement(json.dumps(statement).encode(), records.REGISTRATION_TYPE)


def paths(value, here=()):
    """Every place in a JSON value."""
    yield here
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        yield from paths(item, (*here, name))


def change(value, place, edit):
    value = json.loads(json.dumps(value))
    target = value
    for name in place[:-1]:
        target = target[name]
    edit(target, place[-1])
    return json.dumps(value).encode()


@pytest.mark.parametrize("file", ["registration", "certificate", "revocation", "rotation"])
def test_no_field_may_be_missing_renamed_or_of_another_type(made, tools, file, owner, examiner):
    if file == "revocation":
        statement = json.loads(dsse.unverified(revoke(owner, owner.keyid, "lost").envelope)[0])
    elif file == "rotation":
        statement = json.loads(dsse.unverified(rotate(owner, examiner, "yearly").envelope)[0])
    else:
        statement = tools.payload_of(made[0] / f"{file}.dsse.json")
    kind = statement["predicateType"]
    records.parse_statement(json.dumps(statement).encode(), kind)
    scheme = ("predicate", "watermark", "scheme")

    def rename(target, name):
        target["extra"] = target.pop(name)

    def drop(target, name):
        del target[name]

    def wrong_type(target, name):
        target[name] = None

    def fraction(target, name):
        target[name] = 0.5

    tried = 0
    for place in paths(statement):
        if not place or isinstance(place[-1], int) or place[:3] == scheme:
            continue
        for edit in (rename, drop, wrong_type, fraction):
            with pytest.raises(MalformedEvidenceError):
                records.parse_statement(change(statement, place, edit), kind)
            tried += 1
    assert tried > 30


def test_unknown_field_in_every_object(made, tools):
    statement = tools.payload_of(made[0] / "certificate.dsse.json")
    for place in paths(statement):
        target = statement
        for name in place:
            target = target[name]
        if isinstance(target, dict):
            target["later"] = 1
            with pytest.raises(MalformedEvidenceError, match="later"):
                records.parse_statement(json.dumps(statement).encode(), records.VERIFICATION_TYPE)
            del target["later"]


VALUES = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | st.text(max_size=70) | JSON


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_value_anywhere_is_kept_or_refused(registration, owner, data):
    """Nothing but a MalformedEvidenceError, and nothing accepted that another reader would see otherwise."""
    statement = json.loads(dsse.verify(registration.envelope, [owner.public]).payload)
    place = data.draw(st.sampled_from([place for place in paths(statement) if place]))
    value = data.draw(VALUES)

    def put(target, name):
        target[name] = value

    changed = change(statement, place, put)
    try:
        _, predicate = records.parse_statement(changed, records.REGISTRATION_TYPE)
    except MalformedEvidenceError:
        return
    assert predicate == json.loads(changed)["predicate"]
    assert not any(isinstance(one, float) for one in leaves_of(predicate))


def leaves_of(value):
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from leaves_of(item)
    else:
        yield value


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**9), st.binary(min_size=1, max_size=4), st.booleans())
def test_spoilt_envelopes_raise_our_errors(registration, owner, position, noise, insert):
    envelope = registration.envelope
    at = position % len(envelope)
    spoilt = envelope[:at] + noise + envelope[at + (0 if insert else len(noise)) :]
    try:
        verified = dsse.verify(spoilt, [owner.public])
    except EvidenceError:
        return
    assert verified.record_id == registration.record_id  # a changed hint, or no change
