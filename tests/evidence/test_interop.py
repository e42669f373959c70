"""Other people's software agrees: securesystemslib on envelopes, model-signing on manifests.

That OpenSSL agrees on timestamps is in test_timestamps.py and test_chronology.py.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from modelguard.evidence import Key, Owner, PublicKey, dsse, register, revoke, rotate
from modelguard.evidence.registration import _by_parts


@pytest.fixture(scope="module")
def curve(tmp_path_factory):
    path = tmp_path_factory.mktemp("curve") / "curve.pem"
    return Owner.create(path, "Curve Ltd", "passphrase", alg="ecdsa-p256")


def foreign(key: PublicKey):
    signer = pytest.importorskip("securesystemslib.signer")
    return signer.SSlibKey.from_crypto(serialization.load_der_public_key(key.der), keyid=key.keyid)


def read(envelope: bytes):
    return pytest.importorskip("securesystemslib.dsse").Envelope.from_dict(json.loads(envelope))


def test_securesystemslib_verifies_every_envelope_of_a_bundle(made, owner, examiner, stranger):
    from securesystemslib.exceptions import VerificationError

    for name, signer in (("registration", owner), ("certificate", examiner)):
        envelope = read((made[0] / f"{name}.dsse.json").read_bytes())
        assert list(envelope.verify([foreign(signer.public)], 1)) == [signer.keyid]
        with pytest.raises(VerificationError):
            envelope.verify([foreign(stranger.public)], 1)
        assert json.loads(envelope.payload)["_type"] == "https://in-toto.io/Statement/v1"


def test_securesystemslib_verifies_statements_and_p256(owner, curve):
    keys = [foreign(owner.public), foreign(curve.public)]
    assert set(read(rotate(owner, curve, "yearly").envelope).verify(keys, 2)) == {owner.keyid, curve.keyid}
    assert read(revoke(curve, curve.keyid, "lost").envelope).verify(keys[1:], 1)


def test_securesystemslib_and_a_second_signature(tmp_path):
    """A reader who knows nothing of ML-DSA still verifies the first signature."""
    pytest.importorskip("cryptography.hazmat.primitives.asymmetric.mldsa")
    both = Owner.create(tmp_path / "o", "Name", "passphrase", ml_dsa=True)
    envelope = read(dsse.sign(b"{}", both))
    assert len(envelope.signatures) == 2
    assert list(envelope.verify([foreign(both.public)], 1)) == [both.keyid]


def test_we_verify_what_securesystemslib_signs(owner):
    signer = pytest.importorskip("securesystemslib.signer")
    ours = signer.CryptoSigner(owner._key, foreign(owner.public))
    envelope = pytest.importorskip("securesystemslib.dsse").Envelope(b"{}", dsse.PAYLOAD_TYPE, {})
    envelope.sign(ours)
    assert dsse.verify(json.dumps(envelope.to_dict()).encode(), [owner.public]).payload == b"{}"


FILES = ["model.safetensors", "a/b", "a.b", "a-b/c", "a", "B", "sub/deep/er.bin", "ä", "a b"]


@pytest.mark.parametrize("names", [FILES[:1], [name for name in FILES if name != "a"]])
def test_model_signing_computes_the_same_root(names, curve, tools, tmp_path):
    """The registration's manifest root is the subject of model-signing's own signature over these files."""
    model_signing = pytest.importorskip("model_signing")
    folder = tmp_path / "model"
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"weights %d" % number * 999)
    (tmp_path / "key.pem").write_bytes(
        curve._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    curve.save_public(tmp_path / "key.pub")
    signature = tmp_path / "model.sig"
    model_signing.signing.Config().use_elliptic_key_signer(private_key=tmp_path / "key.pem").sign(
        folder, signature
    )
    model_signing.verifying.Config().use_elliptic_key_verifier(public_key=tmp_path / "key.pub").verify(
        folder, signature
    )
    theirs = json.loads(base64.b64decode(json.loads(signature.read_bytes())["dsseEnvelope"]["payload"]))

    key = Key.create(curve, tools.scheme, 2, decoder=tools.decoder, log2_n=4)
    files = [(name, folder / name) for name in names]
    manifest = register(curve, key, files, tools.info).fields["model"]["manifest"]
    assert manifest["root"] == theirs["subject"][0]["digest"]["sha256"]
    listed = [(one["name"], one["digest"]) for one in theirs["predicate"]["resources"]]
    assert [(one["name"], one["sha256"]) for one in manifest["files"]] == listed


def test_names_are_ordered_as_paths():
    assert sorted(FILES, key=_by_parts) == [str(path) for path in sorted(map(Path, FILES))]
