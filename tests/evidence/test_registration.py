from __future__ import annotations

import hashlib
import os
from base64 import b64encode
from decimal import Decimal

import pytest

from modelguard.errors import EvidenceError, InputError, MalformedEvidenceError, SignatureError
from modelguard.evidence import Key, Registration, register


@pytest.fixture
def path(registration, tmp_path):
    return registration.save(tmp_path / "registration.dsse.json")


def test_round_trip(path, registration, owner, stranger, key, tools):
    again = Registration.load(path, [stranger.public, owner.public])
    assert again == registration
    assert (again.owner, again.owner_name, again.leaves) == (owner.public, "Example Imaging Ltd", 8)
    assert (again.root, again.salt(), again.decoder) == (key.root, key.salt, tools.decoder)
    assert dict(again.scheme) == tools.scheme
    assert (again.alpha, again.grind_bits) == (Decimal("1e-6"), 76)
    with pytest.raises(InputError, match="exists"):
        registration.save(path)
    with pytest.raises(SignatureError):
        Registration.load(path, [stranger.public])


def test_manifest_names_every_file_in_order(owner, key, tools, tmp_path):
    contents = {"b.safetensors": b"b" * 3_000_000, "a/z.safetensors": b"z", "a.safetensors": b""}
    files = []
    for number, (name, data) in enumerate(contents.items()):
        (tmp_path / str(number)).write_bytes(data)
        files.append((name, tmp_path / str(number)))
    manifest = register(owner, key, files, tools.info).fields["model"]["manifest"]
    names = ["a/z.safetensors", "a.safetensors", "b.safetensors"]  # as model-signing orders paths
    assert [file["name"] for file in manifest["files"]] == names
    assert [file["size"] for file in manifest["files"]] == [len(contents[name]) for name in names]
    digests = [hashlib.sha256(contents[name]).digest() for name in names]
    assert [file["sha256"] for file in manifest["files"]] == [digest.hex() for digest in digests]
    assert manifest["root"] == hashlib.sha256(b"".join(digests)).hexdigest()


def test_wrong_arguments(folder, owner, stranger, key, tools, registration):
    files = [("w.safetensors", folder / "weights.safetensors")]
    policy = {"test": "weighted-sign-exact/1", "alpha": "1e-6", "grindBits": 76}
    wrong = [
        ("key", (stranger, key, files, tools.info)),
        ("model_files", (owner, key, [("w", folder / "missing")], tools.info)),
        ("subject", (owner, key, [], tools.info)),
        ("files", (owner, key, files * 2, tools.info)),
        ("name", (owner, key, [("../w", files[0][1])], tools.info)),
        ("task", (owner, key, files, {**tools.info, "task": ""})),
        (
            "version",
            (owner, key, files, {name: tools.info[name] for name in ("name", "task", "input", "output")}),
        ),
        ("alpha", (owner, key, files, tools.info, {**policy, "alpha": "5e-2"})),
        ("grindBits", (owner, key, files, tools.info, {**policy, "grindBits": 75})),
        ("notAfter", (owner, key, files, tools.info, policy, {"notBefore": "2026-01-01T00:00:00Z"})),
        (
            "notAfter",
            (
                owner,
                key,
                files,
                tools.info,
                policy,
                {"notBefore": "2026-01-01T00:00:00Z", "notAfter": "2025-01-01T00:00:00Z"},
            ),
        ),
    ]
    for where, arguments in wrong:
        with pytest.raises(InputError, match=where):
            register(*arguments)


def test_stricter_policy_is_kept(folder, owner, key, tools):
    policy = {"test": "weighted-sign-exact/1", "alpha": "1e-9", "grindBits": 100}
    made = register(owner, key, [("w", folder / "weights.safetensors")], tools.info, policy)
    assert (made.alpha, made.grind_bits) == (Decimal("1e-9"), 100)


LIES = {
    "keyid of another": (lambda p: p["owner"].update(keyid="sha256:" + "0" * 64), "keyid"),
    "low-order owner": (
        lambda p: p["owner"].update(
            spki=b64encode(bytes.fromhex("302a300506032b6570032100") + b"\x01" + bytes(31)).decode()
        ),
        "low order",
    ),
    "another root": (lambda p: p["model"]["manifest"].update(root="0" * 64), "manifest.root"),
    "file swapped": (lambda p: p["model"]["manifest"]["files"][0].update(sha256="0" * 64), "subject"),
    "none with a digest": (lambda p: p["watermark"]["reference"].update(sha256="0" * 64), "reference"),
    "no grinding": (lambda p: p["policy"].update(grindBits=0), "grindBits"),
    "weak alpha": (lambda p: p["policy"].update(alpha="1e-2"), "alpha"),
    "alpha of zero": (lambda p: p["policy"].update(alpha="0e-9"), "alpha"),
    "unknown test": (lambda p: p["policy"].update(test="trust-me/1"), "test"),
    "unknown salt": (lambda p: p["watermark"]["keyCommitment"].update(saltSource="none"), "saltSource"),
    "huge scrypt": (lambda p: p["watermark"]["keyCommitment"].update(saltSource="scrypt/30"), "saltSource"),
    "token without a reader": (
        lambda p: p["watermark"]["keyCommitment"].update(precommitTst="AAAA"),
        "precommitTst",
    ),
    "too many leaves": (lambda p: p["watermark"]["keyCommitment"].update(leaves=65537), "leaves"),
    "newer schema": (lambda p: p.update(schema="2.0"), "schema"),
}


@pytest.mark.parametrize("name", LIES)
def test_lies_signed_by_the_owner(path, owner, tools, name):
    edit, where = LIES[name]
    tools.resign(path, lambda statement: edit(statement["predicate"]), owner)
    with pytest.raises(EvidenceError, match=where):
        Registration.load(path, [owner.public])


def test_trusted_signer_who_is_not_the_owner(path, owner, examiner, tools):
    tools.resign(path, lambda statement: None, examiner)
    with pytest.raises(EvidenceError, match="did not sign"):
        Registration.load(path, [owner.public, examiner.public])


def test_missing_file_and_link(path, owner, tmp_path):
    with pytest.raises(EvidenceError, match="cannot be read"):
        Registration.load(tmp_path / "missing", [owner.public])
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(EvidenceError, match="not a regular file"):
        Registration.load(tmp_path / "link", [owner.public])


def test_file_named_twice_and_file_too_large(path, owner, tools):
    tools.resign(path, lambda statement: statement["subject"].append(statement["subject"][0]), owner)
    with pytest.raises(MalformedEvidenceError, match="twice"):
        Registration.load(path, [owner.public])
    os.truncate(path, (16 << 20) + 1)
    with pytest.raises(EvidenceError, match="larger"):
        Registration.load(path, [owner.public])


def test_certificate_is_no_registration(made, trust):
    with pytest.raises(MalformedEvidenceError, match="predicateType"):
        Registration.load(made[0] / "certificate.dsse.json", trust)


def test_reference_model_is_recorded(folder, owner, tools):
    key = Key.create(owner, tools.scheme, 2, decoder=tools.decoder, reference="ab" * 32, log2_n=4)
    made = register(owner, key, [("w", folder / "weights.safetensors")], tools.info)
    assert made.fields["watermark"]["reference"] == {"id": "model", "sha256": "ab" * 32}
    assert made.salt() == key.salt
