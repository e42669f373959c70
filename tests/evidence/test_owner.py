from __future__ import annotations

import base64
import copy
import json
import os
import pickle
import stat

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from modelguard.errors import InputError, KeyFileError, SignatureError, WrongPassphraseError
from modelguard.evidence import Key, Owner, PublicKey, dsse, register, seal

SPKI_PREFIX = bytes.fromhex("302a300506032b6570032100")
P = 2**255 - 19
Y8 = int.from_bytes(
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"
)
LOW_ORDER = [(1, 0), (P - 1, 0), (0, 0), (0, 1), (Y8, 0), (Y8, 1), (P - Y8, 0), (P - Y8, 1)]
NON_CANONICAL = [(1, 1), (P - 1, 1), (P, 0), (P, 1), (P + 1, 0), (P + 1, 1)]


def encode(y, sign):
    return (y | sign << 255).to_bytes(32, "little")


def test_create_load_sign(folder, owner, tools):
    again = Owner.load(folder / "owner.key", tools.passphrase)
    assert (again.name, again.keyid) == ("Example Imaging Ltd", owner.keyid)
    assert again.keyid.startswith("sha256:")
    signature = again.sign(b"data")
    owner.public.verify(signature, b"data")
    for bad_signature, data in [(signature, b"other"), (signature[:-1], b"data"), (b"", b"data")]:
        with pytest.raises(SignatureError):
            owner.public.verify(bad_signature, data)


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_file_is_for_its_user_only(folder, owner):
    assert stat.S_IMODE((folder / "owner.key").stat().st_mode) == 0o600


def test_never_overwrites(folder, owner, tools):
    before = (folder / "owner.key").read_bytes()
    with pytest.raises(InputError, match="exists"):
        Owner.create(folder / "owner.key", "Other", tools.passphrase)
    with pytest.raises(InputError, match="exists"):  # before any passphrase is asked for
        Owner.create(folder / "owner.key", "Other", "")
    assert (folder / "owner.key").read_bytes() == before


@pytest.mark.parametrize("name", ["", "two\nlines", "x" * 2000])
def test_name_is_one_line(tmp_path, name):
    with pytest.raises(InputError, match="name"):
        Owner.create(tmp_path / "o.key", name, "passphrase")


def test_wrong_passphrase_and_foreign_file(folder, owner, tmp_path):
    with pytest.raises(WrongPassphraseError):
        Owner.load(folder / "owner.key", "wrong")
    (tmp_path / "foreign").write_bytes(b"-----BEGIN PRIVATE KEY-----\n")
    with pytest.raises(KeyFileError):
        Owner.load(tmp_path / "foreign", "wrong")


def test_sealed_file_without_a_signing_key(tmp_path):
    pkcs8 = generate_private_key(SECP384R1()).private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    curve = json.dumps({"name": "x", "pkcs8": base64.b64encode(pkcs8).decode()}).encode()
    for content in (b"{}", b'{"name":"x","pkcs8":"AAAA"}', curve):
        (tmp_path / "o.key").write_bytes(seal(content, "passphrase", "owner", log2_n=4))
        with pytest.raises(KeyFileError, match="no signing key"):
            Owner.load(tmp_path / "o.key", "passphrase")


def test_public_pem_round_trip(owner, tmp_path):
    owner.save_public(tmp_path / "owner.pub")
    assert PublicKey.load(tmp_path / "owner.pub") == owner.public
    assert PublicKey.from_der(owner.public_key).keyid == owner.keyid
    with pytest.raises(InputError, match="exists"):
        owner.save_public(tmp_path / "owner.pub")


def test_secret_is_in_no_repr_and_is_not_pickled(owner):
    seed = owner._key.private_bytes_raw()
    assert seed.hex() not in repr(owner)
    for attempt in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            attempt(owner)


@pytest.mark.parametrize("point", LOW_ORDER)
def test_low_order_keys_are_refused(point):
    raw = encode(*point)
    forged = 0
    for message in range(64):
        for r in LOW_ORDER:
            try:  # the library itself takes such keys, and one signature then fits many messages
                Ed25519PublicKey.from_public_bytes(raw).verify(encode(*r) + bytes(32), b"%d" % message)
            except InvalidSignature:
                continue
            forged += 1
    assert forged > 0
    with pytest.raises(KeyFileError, match="low order"):
        PublicKey.from_der(SPKI_PREFIX + raw)


@pytest.mark.parametrize("point", NON_CANONICAL)
def test_non_canonical_keys_are_refused(point):
    with pytest.raises(KeyFileError):
        PublicKey.from_der(SPKI_PREFIX + encode(*point))


def test_other_keys_are_refused(owner, tmp_path):
    curve = generate_private_key(SECP384R1()).public_key()
    der = curve.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    pem = curve.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    for data in (der, b"", owner.public_key[:-1], owner.public_key + b"x"):
        with pytest.raises(KeyFileError):
            PublicKey.from_der(data)
    with pytest.raises(InputError, match="missing"):
        PublicKey.load(tmp_path / "missing")
    for name, data in (("curve", pem), ("noise", b"noise")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(KeyFileError):
            PublicKey.load(tmp_path / name)


# --- other algorithms -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def curve(tmp_path_factory):
    path = tmp_path_factory.mktemp("curve") / "curve.key"
    Owner.create(path, "Curve Ltd", "passphrase", alg="ecdsa-p256")
    return Owner.load(path, "passphrase")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    pytest.importorskip("cryptography.hazmat.primitives.asymmetric.mldsa")
    path = tmp_path_factory.mktemp("pair") / "pair.key"
    Owner.create(path, "Long Term plc", "passphrase", ml_dsa=True)
    return Owner.load(path, "passphrase")


def test_p256(curve, owner, tmp_path):
    assert (curve.public.alg, owner.public.alg) == ("ecdsa-p256", "ed25519")
    signature = curve.sign(b"data")
    curve.public.verify(signature, b"data")
    for bad_signature, data in [
        (signature, b"other"),
        (signature[:-1], b"data"),
        (owner.sign(b"data"), b"data"),
    ]:
        with pytest.raises(SignatureError):
            curve.public.verify(bad_signature, data)
    curve.save_public(tmp_path / "curve.pub")
    assert PublicKey.load(tmp_path / "curve.pub") == curve.public
    assert dsse.verify(dsse.sign(b"{}", curve), [curve.public]).signers == (curve.public,)


def test_unknown_algorithm(tmp_path):
    with pytest.raises(InputError, match="alg"):
        Owner.create(tmp_path / "o.key", "Name", "passphrase", alg="rsa")
    assert not list(tmp_path.iterdir())


def test_points_that_are_not_on_the_curve_or_compressed(curve):
    numbers = curve._key.public_key().public_numbers()
    prefix = curve.public_key[:-64]
    off = prefix + numbers.x.to_bytes(32, "big") + (numbers.y ^ 1).to_bytes(32, "big")
    compressed = curve._key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
    )
    short = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + compressed
    for der in (off, prefix + bytes(64), short):
        with pytest.raises(KeyFileError):
            PublicKey.from_der(der)


def test_whoever_trusts_a_pair_demands_both_signatures(pair, owner, tmp_path):
    envelope = dsse.sign(b"{}", pair)
    assert dsse.verify(envelope, [pair.public]).signers == (pair.public,)
    value = json.loads(envelope)
    first, second = value["signatures"]
    assert [entry["keyid"] for entry in value["signatures"]] == [key.keyid for key in pair.public.parts]
    for kept in ([first], [second], [first, first]):
        with pytest.raises(SignatureError):
            dsse.verify(json.dumps({**value, "signatures": kept}).encode(), [pair.public])
    # another's second signature does not help, as it would a thief who can forge the first only
    thief = Owner(pair.name, pair._key, Owner.create(tmp_path / "t", "T", "passphrase", ml_dsa=True)._second)
    with pytest.raises(SignatureError):
        dsse.verify(dsse.sign(b"{}", thief), [pair.public])
    # but who trusts only the first key is satisfied by it
    alone = PublicKey.from_der(pair.public_key)
    assert dsse.verify(json.dumps({**value, "signatures": [first]}).encode(), [alone]).signers == (alone,)


def test_a_pair_in_pem(pair, owner, tmp_path):
    pair.save_public(tmp_path / "pair.pub")
    again = PublicKey.load(tmp_path / "pair.pub")
    assert again == pair.public
    assert again.second == pair.public.second
    assert again.second.alg == "ml-dsa-65"
    pem = (tmp_path / "pair.pub").read_bytes()
    owner.save_public(tmp_path / "owner.pub")
    single = (tmp_path / "owner.pub").read_bytes()
    ours, theirs = pem.split(b"-----END PUBLIC KEY-----\n")[:2]
    end = b"-----END PUBLIC KEY-----\n"
    turned = theirs + end + ours + end
    for wrong in (turned, single + single, pem + single, pem[:-30], b""):
        (tmp_path / "wrong.pub").write_bytes(wrong)
        with pytest.raises(KeyFileError):
            PublicKey.load(tmp_path / "wrong.pub")


def test_without_ml_dsa_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr("modelguard.evidence.owner.MLDSA65PrivateKey", None)
    with pytest.raises(InputError, match="no ML-DSA") as caught:
        Owner.create(tmp_path / "o.key", "Name", "passphrase", ml_dsa=True)
    assert "cryptography 48" in caught.value.remedy
    assert not list(tmp_path.iterdir())


def test_a_recovery_key_is_kept_and_registered(tmp_path, examiner, tools):
    made = Owner.create(tmp_path / "o.key", "Careful Ltd", "passphrase", recovery=examiner.public)
    again = Owner.load(tmp_path / "o.key", "passphrase")
    assert again.recovery == made.recovery == examiner.public
    (tmp_path / "w").write_bytes(b"weights")
    key = Key.create(again, tools.scheme, 2, decoder=tools.decoder, log2_n=4)
    record = register(again, key, [("w", tmp_path / "w")], tools.info)
    assert record.recovery == examiner.public


@pytest.mark.parametrize("which", ["curve", "pair"])
def test_registration_by_other_algorithms(which, request, tmp_path, tools):
    signer = request.getfixturevalue(which)
    (tmp_path / "w").write_bytes(b"weights")
    key = Key.create(signer, tools.scheme, 2, decoder=tools.decoder, log2_n=4)
    record = register(signer, key, [("w", tmp_path / "w")], tools.info)
    assert record.fields["owner"]["alg"] == signer.public.alg
    assert record.owner.second == signer.public.second
    assert record.recovery is None
