from __future__ import annotations

import hashlib
import json
import os
import pickle
import sys

import pytest

from modelguard.errors import InputError, KeyFileError, WrongPassphraseError
from modelguard.evidence import resolve_passphrase, seal, unseal
from modelguard.evidence.sealed import SealedFile, scrypt

SECRET = b"a secret of the owner" * 5


@pytest.fixture(scope="module")
def sealed():
    return seal(SECRET, "passphrase", "key", log2_n=8)


def test_round_trip(sealed):
    assert unseal(sealed, "passphrase", "key") == SECRET
    assert SECRET not in sealed
    assert seal(SECRET, "passphrase", "key", log2_n=8) != sealed


def test_scrypt_agrees_with_rfc_7914():
    expected = "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"
    assert scrypt(b"pleaseletmein", b"SodiumChloride", 14).hex() == expected


def test_wrong_passphrase(sealed):
    with pytest.raises(WrongPassphraseError):
        unseal(sealed, "Passphrase", "key")


def test_composed_and_decomposed_accents_are_one_passphrase():
    assert unseal(seal(SECRET, "caf\u00e9", "key", log2_n=4), "cafe\u0301", "key") == SECRET


def test_another_kind_is_refused(sealed):
    with pytest.raises(KeyFileError, match="'key', not 'owner'"):
        unseal(sealed, "passphrase", "owner")


def test_every_damaged_byte_is_damage_not_a_wrong_passphrase(sealed):
    for position in range(len(sealed)):
        damaged = bytearray(sealed)
        damaged[position] ^= 1
        with pytest.raises(KeyFileError) as caught:
            unseal(bytes(damaged), "passphrase", "key")
        assert caught.type is KeyFileError, position


def test_every_truncation_and_foreign_data(sealed):
    for data in [sealed[:length] for length in range(0, len(sealed), 7)] + [
        sealed + b"x",
        b"\n" * 99,
        b"{}\n",
    ]:
        with pytest.raises(KeyFileError) as caught:
            unseal(data, "passphrase", "key")
        assert caught.type is KeyFileError


def test_forged_header_is_caught_by_the_aead(sealed):
    line, _, rest = sealed[:-32].partition(b"\n")
    header = json.loads(line) | {"kind": "owner"}
    body = json.dumps(header, separators=(",", ":"), sort_keys=True).encode() + b"\n" + rest
    with pytest.raises(WrongPassphraseError):
        unseal(body + hashlib.sha256(body).digest(), "passphrase", "owner")


@pytest.mark.parametrize("field", [{"log2n": 40}, {"log2n": 21}, {"r": 1 << 20}, {"p": 64}, {"log2n": True}])
def test_scrypt_cost_of_a_foreign_file_is_capped(sealed, field):
    line, _, rest = sealed.partition(b"\n")
    with pytest.raises(KeyFileError, match="not a sealed"):
        unseal(json.dumps(json.loads(line) | field).encode() + b"\n" + rest, "passphrase", "key")


@pytest.mark.parametrize("log2_n", [0, 21])
def test_no_file_is_made_that_could_not_be_read(log2_n):
    with pytest.raises(InputError, match="log2_n"):
        seal(SECRET, "passphrase", "key", log2_n=log2_n)


def test_passphrase_comes_from_argument_then_environment_then_prompt(monkeypatch):
    monkeypatch.setenv("MODELGUARD_PASSPHRASE", "from the environment")
    assert resolve_passphrase("argument") == "argument"
    assert resolve_passphrase(None) == "from the environment"
    monkeypatch.delenv("MODELGUARD_PASSPHRASE")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    answers = iter(["typed", "one", "two", "same", "same"])
    monkeypatch.setattr("getpass.getpass", lambda prompt: next(answers))
    assert resolve_passphrase(None) == "typed"
    with pytest.raises(InputError, match="differ"):
        resolve_passphrase(None, confirm=True)
    assert resolve_passphrase(None, confirm=True) == "same"


def test_no_passphrase_says_what_to_do(monkeypatch):
    monkeypatch.delenv("MODELGUARD_PASSPHRASE", raising=False)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    with pytest.raises(InputError) as caught:
        resolve_passphrase(None)
    assert "MODELGUARD_PASSPHRASE" in caught.value.remedy
    with pytest.raises(InputError, match="empty"):
        resolve_passphrase("")


def test_a_missing_or_huge_file_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        SealedFile(tmp_path / "nowhere", "passphrase", "key")
    (tmp_path / "huge").touch()
    os.truncate(tmp_path / "huge", (1 << 30) + 1)
    with pytest.raises(KeyFileError, match="huge"):
        SealedFile(tmp_path / "huge", "passphrase", "key")


def test_a_file_is_written_again_without_its_passphrase(tmp_path, sealed):
    (tmp_path / "k").write_bytes(sealed)
    file = SealedFile(tmp_path / "k", "passphrase", "key")
    file.write(b"another secret")
    assert file.read() == SealedFile(tmp_path / "k", "passphrase", "key").read() == b"another secret"
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o600
    first, _, _ = sealed.partition(b"\n")
    second, _, _ = (tmp_path / "k").read_bytes().partition(b"\n")
    assert json.loads(first)["salt"] == json.loads(second)["salt"]
    assert json.loads(first)["nonce"] != json.loads(second)["nonce"]


def test_nothing_is_written_over_a_file_that_changed(tmp_path, sealed):
    path = tmp_path / "k"
    path.write_bytes(sealed)
    file = SealedFile(path, "passphrase", "key")
    for content, error in (
        (seal(SECRET, "another", "key", log2_n=4), WrongPassphraseError),
        (seal(SECRET, "passphrase", "owner", log2_n=4), KeyFileError),
        (sealed[:-1], KeyFileError),
    ):
        path.write_bytes(content)
        with pytest.raises(error):
            file.write(b"x")
        assert path.read_bytes() == content
    path.unlink()
    with pytest.raises(InputError, match="cannot read"):
        file.write(b"x")
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(file)
