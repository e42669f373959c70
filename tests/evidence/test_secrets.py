"""No public record holds a secret before it is opened."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode

import pytest

from modelguard.evidence import Transcript


def forms(secret):
    """A secret as it might be written; Base64 at each of the three alignments."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    for shift in range(3):
        yield b64encode(bytes(shift) + secret)[4:-4]


def contents(paths):
    for path in paths:
        data = path.read_bytes()
        yield path.name, data
        if path.name.endswith(".dsse.json"):
            yield path.name, b64decode(json.loads(data)["payload"])


def leaked(paths, secrets):
    return {
        (file, name)
        for file, data in contents(paths)
        for name, secret in secrets.items()
        if any(form in data for form in forms(secret))
    }


@pytest.fixture
def secrets(owner, examiner, key, tools):
    return {
        "master": key.master,
        "passphrase": tools.passphrase.encode(),
        "owner's key": owner._key.private_bytes_raw(),
        "examiner's key": examiner._key.private_bytes_raw(),
        **{f"x_K {leaf}": key.leaf(leaf)[0] for leaf in range(8)},
        **{f"x_b {leaf}": key.leaf(leaf)[1] for leaf in range(8)},
    }


def test_registration_transcript_and_public_key(registration, owner, session_folder, secrets, tmp_path):
    public = [
        registration.save(tmp_path / "registration.dsse.json"),
        owner.save_public(tmp_path / "owner.pub"),
    ]
    public += [path for path in session_folder.rglob("*") if path.is_file()]
    assert len(public) > 8
    assert leaked(public, secrets) == set()


def test_bundle_opens_the_selected_leaves_and_nothing_else(made, secrets):
    found = leaked([path for path in made[0].rglob("*") if path.is_file()], secrets)
    opened = {f"x_{kind} {leaf}" for kind in "Kb" for leaf in made[1].leaves}
    assert {name for _, name in found} == opened
    assert {file for file, _ in found} == {"certificate.dsse.json"}


def test_sealed_files(owner, key, folder, secrets, tools, tmp_path):
    key.save(tmp_path / "key.mgkey", tools.passphrase)
    assert leaked([tmp_path / "key.mgkey", folder / "owner.key"], secrets) == set()


def test_transcript_repr(session_folder, secrets):
    text = repr(Transcript(session_folder).session).encode()
    assert not any(form in text for secret in secrets.values() for form in forms(secret))
