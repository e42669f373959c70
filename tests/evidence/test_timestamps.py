"""Timestamps from an authority on loopback, and everything that may be wrong with one."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st
from tsa import YEAR, Authority, needs_openssl, tlv

from modelguard.errors import InputError, ModelGuardError, TimestampError
from modelguard.evidence import TimestampAuthority, prf
from modelguard.evidence.timestamps import (
    MAX_TOKEN_BYTES,
    Timestamp,
    _elements,
    check_order,
    load_roots,
    verify,
)

pytest.importorskip("rfc3161_client")
pytestmark = needs_openssl
MESSAGE = b"modelguard/v1/test\x00message"


@pytest.fixture(scope="module", params=["rsa", "ec"])
def authority(request, tmp_path_factory):
    with Authority(tmp_path_factory.mktemp(request.param), request.param) as made:
        yield made


@pytest.fixture(scope="module")
def token(authority):
    return TimestampAuthority(authority.url, authority.root).stamp(MESSAGE)


@pytest.fixture
def spoilt(tsa):
    yield tsa
    tsa.clock, tsa.change, tsa.status = timedelta(0), bytes, 200


def test_a_token_shows_when(authority, token):
    stamp = verify(token, MESSAGE, load_roots([authority.root]))
    assert abs(datetime.now(UTC) - stamp.time) < timedelta(minutes=1)
    assert str(stamp) == stamp.time.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_openssl_agrees(authority, token, tmp_path):
    (tmp_path / "token.tsr").write_bytes(token)
    (tmp_path / "message").write_bytes(MESSAGE)
    words = ["ts", "-verify", "-in", "token.tsr", "-data", "message", "-CAfile", str(authority.root)]
    done = subprocess.run(["openssl", *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "Verification: OK" in done.stdout
    assert done.returncode == 0


def test_the_salt_is_the_authoritys_signature(authority, token):
    """OpenSSL's own reading of the token ends in the same bytes."""
    stamp = verify(token, MESSAGE, load_roots([authority.root]))
    words = ["openssl", "asn1parse", "-inform", "DER"]
    listing = subprocess.run(words, input=token, capture_output=True, check=True).stdout.decode()
    last = listing.splitlines()[-1]
    assert "OCTET STRING" in last
    assert stamp.signature.hex().upper() in last
    assert len(stamp.signature) in (256, 32, 33, 31)
    assert stamp.salt == prf.salt_from_token(stamp.signature)
    assert len(stamp.salt) == 32


def test_two_stamps_of_one_message_differ(authority):
    asked = TimestampAuthority(authority.url, authority.root)
    roots = load_roots([authority.root])
    assert len({verify(asked.stamp(MESSAGE), MESSAGE, roots).salt for _ in range(2)}) == 2


def test_no_byte_changes_what_a_token_shows(authority, token):
    """Some bytes of a token are under no signature; altering them must not alter time or salt."""
    roots = load_roots([authority.root])
    right, accepted = verify(token, MESSAGE, roots), 0
    for position in range(len(token)):
        altered = bytearray(token)
        altered[position] ^= 1 << position % 8
        try:
            assert verify(bytes(altered), MESSAGE, roots) == right
            accepted += 1
        except TimestampError:
            continue
    assert accepted < 15


def with_last(der, edit):
    """Change the last OCTET STRING of a token, its signature value."""
    *before, (tag, body) = _elements(der)
    body = edit(body) if tag == 0x04 else with_last(body, edit)
    return b"".join(tlv(*one) for one in before) + tlv(tag, body)


def test_an_ecdsa_token_turned_into_another_keeps_its_salt(tmp_path):
    """(r, n - s) is as valid as (r, s), so only r may count."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

    def mirror(signature):
        r, s = decode_dss_signature(signature)
        return encode_dss_signature(r, order - s)

    with Authority(tmp_path, "ec") as made:
        asked = TimestampAuthority(made.url, made.root)
        token = asked.stamp(MESSAGE)
    altered = with_last(token, mirror)
    assert altered != token
    assert verify(altered, MESSAGE, asked.roots) == verify(token, MESSAGE, asked.roots)


def test_every_truncation_and_more_is_refused(authority, token):
    roots = load_roots([authority.root])
    for length in range(0, len(token), 5):
        with pytest.raises(TimestampError):
            verify(token[:length], MESSAGE, roots)
    for bad in (token + b"\x00", b"0" * (MAX_TOKEN_BYTES + 1), token * 2, b"\x30\x80" + token):
        with pytest.raises(TimestampError):
            verify(bad, MESSAGE, roots)


def test_noise_never_crashes(authority, token):
    roots, noise = load_roots([authority.root]), random.Random(0)
    for _ in range(300):
        altered = bytearray(token)
        for _ in range(noise.randrange(1, 8)):
            altered[noise.randrange(len(altered))] = noise.randrange(256)
        try:
            verify(bytes(altered), MESSAGE, roots)
        except TimestampError:
            continue


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80))
def test_der_is_read_strictly(data):
    try:
        found = _elements(data)
    except ValueError:
        return
    again = b""
    for tag, body in found:  # as long as the shortest form, so nothing was written in two ways
        length = bytes([len(body)]) if len(body) < 128 else bytes([0x81, len(body)])
        again += bytes([tag]) + length + body
    assert again == data


def test_another_message_another_root_no_root(authority, token, tsa):
    roots = load_roots([authority.root])
    with pytest.raises(TimestampError, match="messages"):
        verify(token, MESSAGE + b"!", roots)
    with pytest.raises(TimestampError, match="does not verify") as caught:
        verify(token, MESSAGE, load_roots([tsa.root]))
    assert "root certificate" in caught.value.remedy
    with pytest.raises(InputError, match="tsa_roots: none given"):
        verify(token, MESSAGE, ())
    assert verify(token, MESSAGE, load_roots([tsa.root, authority.root]))


def test_the_signers_own_certificate_is_no_root_by_itself(authority, token, tsa):
    """What is in the token can never make it trusted."""
    with pytest.raises(TimestampError):
        verify(token, MESSAGE, load_roots([tsa.folder / "tsa.pem"]))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("expired", {"valid": (datetime.now(UTC) - 2 * YEAR, datetime.now(UTC) - YEAR)}),
        ("not yet valid", {"valid": (datetime.now(UTC) + YEAR, datetime.now(UTC) + 2 * YEAR)}),
        ("EKU|purpose", {"purpose": ExtendedKeyUsageOID.CODE_SIGNING}),
    ],
)
def test_certificates_that_were_not_valid(tmp_path, name, change):
    """OpenSSL itself refuses to stamp for the wrong purpose, so these are made here."""
    with Authority(tmp_path, **change) as made:
        made.clock = timedelta(seconds=1)
        with pytest.raises(TimestampError, match=name):
            TimestampAuthority(made.url, made.root).stamp(MESSAGE)


def test_a_certificate_that_has_expired_since_does_not_matter(tmp_path):
    past = datetime.now(UTC) - 3 * YEAR
    made = Authority(tmp_path, valid=(past, past + YEAR))
    made.clock = timedelta(days=-1000)
    client = pytest.importorskip("rfc3161_client")
    query = client.TimestampRequestBuilder().data(MESSAGE).build()
    stamp = verify(made.reply(query.as_bytes()), MESSAGE, load_roots([made.root]))
    assert past < stamp.time < past + YEAR


@pytest.mark.parametrize(("clock", "says"), [(timedelta(hours=2), "future"), (timedelta(hours=-2), "past")])
def test_a_clock_that_is_wrong(spoilt, clock, says):
    spoilt.clock = clock
    with pytest.raises(TimestampError, match=says) as caught:
        TimestampAuthority(spoilt.url, spoilt.root).stamp(MESSAGE)
    assert "clock" in caught.value.remedy


def test_time_does_not_go_back():
    def at(second):
        return Timestamp(datetime(2026, 11, 21, 0, 0, second, tzinfo=UTC), b"")

    check_order(("key", at(1)), ("registration", None), ("transcript", at(1)), ("certificate", at(2)))
    with pytest.raises(TimestampError, match=r"certificate: 2026-11-21T00:00:01Z is before that of the key"):
        check_order(("key", at(2)), ("registration", None), ("certificate", at(1)))


@pytest.mark.parametrize(
    "change",
    [
        lambda token: token[:-7],
        lambda token: b"",
        lambda token: b"<html>Not found</html>",
        lambda token: bytes(1 << 20),
        lambda token: token + token,
    ],
    ids=["truncated", "empty", "web page", "huge", "twice"],
)
def test_a_bad_answer_is_refused_at_once(spoilt, change):
    spoilt.change = change
    with pytest.raises(TimestampError):
        TimestampAuthority(spoilt.url, spoilt.root).stamp(MESSAGE)


def test_an_old_answer_is_no_answer(spoilt):
    asked = TimestampAuthority(spoilt.url, spoilt.root)
    old = asked.stamp(MESSAGE)
    spoilt.change = lambda _: old
    with pytest.raises(TimestampError, match="Nonce"):
        asked.stamp(MESSAGE)


def test_an_authority_that_fails_is_named(spoilt):
    spoilt.status = 503
    with pytest.raises(TimestampError, match="503") as caught:
        TimestampAuthority(spoilt.url, spoilt.root).stamp(MESSAGE)
    assert spoilt.url in caught.value.message
    with pytest.raises(TimestampError, match="no answer"):
        TimestampAuthority("http://127.0.0.1:9/", spoilt.root).stamp(MESSAGE)


def test_an_authority_that_dawdles_is_left(spoilt):
    def dawdle(token):
        time.sleep(0.6)
        return token

    spoilt.change = dawdle
    with pytest.raises(TimestampError, match=r"no answer|longer"):
        TimestampAuthority(spoilt.url, spoilt.root, timeout=0.2).stamp(MESSAGE)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/", "tsa.example", ""])
def test_only_the_web_is_asked(tsa, url):
    with pytest.raises(InputError, match="tsa"):
        TimestampAuthority(url, tsa.root)


def test_roots_are_certificates(tmp_path, tsa):
    with pytest.raises(InputError, match="cannot read"):
        load_roots([tmp_path / "missing.pem"])
    (tmp_path / "junk.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (tmp_path / "empty.pem").touch()
    for name in ("junk.pem", "empty.pem"):
        with pytest.raises(InputError, match="no certificate"):
            load_roots([tmp_path / name])
    assert len(load_roots([tsa.root, tsa.root])) == 2


def test_without_the_extra_it_says_what_to_install(tsa, monkeypatch):
    monkeypatch.setitem(sys.modules, "rfc3161_client", None)
    with pytest.raises(ModelGuardError) as caught:
        verify(b"", MESSAGE, load_roots([tsa.root]))
    assert "modelguard-sdk[timestamp]" in caught.value.remedy
