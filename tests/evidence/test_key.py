from __future__ import annotations

import copy
import hashlib
import json
import os
import pickle
import struct
import warnings
from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelguard.errors import EvidenceError, InputError, KeyFileError, WrongPassphraseError
from modelguard.evidence import Decoder, Key, Owner, Transcript, certify, merkle, prf, seal, select
from modelguard.evidence.sealed import SealedFile
from modelguard.statistics import Multiplicity


def sha(data):
    return hashlib.sha256(data).digest()


def test_everything_follows_from_the_master(key, owner, tools):
    secrets = [prf.leaf_secrets(key.master, index) for index in range(8)]
    assert [key.leaf(index) for index in range(8)] == secrets
    leaves = [merkle.leaf(index, *pair) for index, pair in enumerate(secrets)]
    assert key.root == merkle.root(leaves)
    for index in range(8):
        merkle.verify(leaves[index], index, 8, key.path(index), key.root)
    message = b"modelguard/v1/precommit\x00" + key.root + struct.pack(">I", 8) + sha(owner.public_key)
    message += sha(tools.decoder.id.encode() + b"\x00" + bytes.fromhex(tools.decoder.sha256))
    message += sha(sha(b"none")) + sha(b'{"id":"test.cells/1","levels":15,"size":16}')
    assert key.precommit == message
    assert key.salt == prf.salt_from_scrypt(message, 4)
    assert key.commitment == {
        "alg": "merkle-sha256-rfc6962",
        "leaves": 8,
        "root": key.root.hex(),
        "saltSource": "scrypt/4",
    }


def test_two_keys_differ(key, owner, tools):
    other = Key.create(owner, tools.scheme, 8, decoder=tools.decoder, reference="ab" * 32, log2_n=4)
    assert other.master != key.master
    assert other.root != key.root
    assert other.salt != key.salt


def test_precommit_binds_every_public_part(key, tools):
    for change in (
        {"reference": "ab" * 32},
        {"decoder": tools.decoder._replace(id="test.decoder/2")},
        {"scheme": {**tools.scheme, "levels": 14}},
        {"owner": b"other"},
        {"master": b"x" * 32},
        {"leaves": 9},
    ):
        assert replace(key, **change).precommit != key.precommit


def test_save_and_load(key, tmp_path, tools):
    full = replace(key.burn([3, 1]), extras={"extractor": bytes(range(256)), "note": b"", "more": b"\n\n"})
    full.save(tmp_path / "a.mgkey", tools.passphrase)
    assert Key.load(tmp_path / "a.mgkey", tools.passphrase) == full
    with pytest.raises(InputError, match="exists"):
        key.save(tmp_path / "a.mgkey", "")
    key.save(tmp_path / "a.mgkey", tools.passphrase, overwrite=True)
    assert Key.load(tmp_path / "a.mgkey", tools.passphrase).burnt == frozenset()
    with pytest.raises(WrongPassphraseError):
        Key.load(tmp_path / "a.mgkey", "wrong")


def test_owner_file_is_no_key_file(folder, owner, tools):
    with pytest.raises(KeyFileError, match="'owner', not 'key'"):
        Key.load(folder / "owner.key", tools.passphrase)


@pytest.mark.parametrize("content", [b"{}", b"", b"\xff", b'{"format":"modelguard-key/2"}\n'])
def test_foreign_content(tmp_path, content):
    (tmp_path / "k").write_bytes(seal(content, "passphrase", "key", log2_n=4))
    with pytest.raises(KeyFileError):
        Key.load(tmp_path / "k", "passphrase")


def test_wrong_content_is_not_quoted(key, tmp_path):
    """A message must not carry what was inside the sealed file."""
    key.save(tmp_path / "good", "passphrase")
    line = SealedFile(tmp_path / "good", "passphrase", "key").read()
    fields = json.loads(line) | {"master": key.master.hex() + "00"}
    for content in (json.dumps(fields).encode() + b"\n", line + b"surplus"):
        (tmp_path / "bad").write_bytes(seal(content, "passphrase", "key", log2_n=4))
        with pytest.raises(KeyFileError) as caught:
            Key.load(tmp_path / "bad", "passphrase")
        assert key.master.hex()[:50] not in caught.value.diagnostics()


def test_burn_makes_a_new_key(key):
    burnt = key.burn([2]).burn([2, 5])
    assert (burnt.burnt, key.burnt) == (frozenset({2, 5}), frozenset())
    for wrong in (8, -1):
        with pytest.raises(InputError, match="no leaf"):
            key.burn([wrong])
        with pytest.raises(InputError):
            key.leaf(wrong)


def test_no_secret_in_repr_no_pickle_no_change(key):
    for secret in (key.master, *key.leaf(0)):
        assert secret.hex() not in repr(key)
        assert repr(secret)[2:-1] not in repr(key)
    for attempt in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            attempt(key)
    with pytest.raises(FrozenInstanceError):
        key.leaves = 9
    with pytest.raises(TypeError):
        key.scheme["levels"] = 1


@pytest.mark.parametrize(
    "change",
    [
        {"leaves": 0},
        {"leaves": 65537},
        {"scheme": {"size": 16}},
        {"scheme": {"id": "x", "size": 1.5}},
        {"scheme": {"id": "x", "levels": 0}},
        {"scheme": {"id": "x", "flag": True}},
        {"reference": "deadbeef"},
        {"decoder": ("id", "deadbeef")},
        {"log2_n": 21},
    ],
)
def test_create_refuses(owner, tools, change):
    arguments = {"scheme": tools.scheme, "leaves": 4, "decoder": tools.decoder, "log2_n": 4, **change}
    arguments["decoder"] = Decoder(*arguments["decoder"])
    with pytest.raises(InputError):
        Key.create(owner, **arguments)


def test_owner_is_part_of_the_salt(key, stranger: Owner):
    assert prf.salt_from_scrypt(replace(key, owner=stranger.public_key).precommit, 4) != key.salt


def test_selection_golden_vector():
    root, nonce = sha(b"root"), sha(b"nonce")
    counters = range(1000)
    messages = [
        b"modelguard/v1/select\x00" + root + nonce + struct.pack(">I", counter) for counter in counters
    ]
    order = list(dict.fromkeys(int.from_bytes(sha(message), "big") % 64 for message in messages))
    assert select(root, nonce, 64, 10) == tuple(order[:10])
    assert select(root, nonce, 64, 6) == (26, 8, 11, 50, 5, 1)  # pinned
    without = [leaf for leaf in order if leaf not in order[:2]]
    assert select(root, nonce, 64, 10, exclude=order[:2]) == tuple(without[:10])


@settings(max_examples=50, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.integers(1, 40), st.data())
def test_selection_is_distinct_in_range_and_avoids_burnt(nonce, leaves, data):
    exclude = data.draw(st.sets(st.integers(0, leaves - 1)))
    left = leaves - len(exclude)
    count = data.draw(st.integers(0, leaves))
    if 1 <= count <= left:
        chosen = select(b"r" * 32, nonce, leaves, count, exclude)
        assert len(set(chosen)) == count
        assert set(chosen) <= set(range(leaves)) - exclude
    else:
        with pytest.raises(InputError, match="count"):
            select(b"r" * 32, nonce, leaves, count, exclude)


def test_leaves_are_burnt_in_the_file(key, tmp_path):
    path = tmp_path / "key.mgkey"
    key.burn([1]).save(path, "passphrase")
    first, second = Key.load(path, "passphrase"), Key.load(path, "passphrase")
    first.burn_in_file([2, 3])
    second.burn_in_file([3, 5])  # it was loaded before, and must not undo the first
    assert Key.load(path, "passphrase").burnt == {1, 2, 3, 5}
    assert Key.load(path, "passphrase") == key.burn([1, 2, 3, 5])
    with pytest.raises(InputError, match="no leaf"):
        first.burn_in_file([8])
    key.burn_in_file([0])  # a key without a file
    replace(key, master=b"x" * 32).save(path, "passphrase", overwrite=True)
    with pytest.raises(KeyFileError):
        first.burn_in_file([4])


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o600])
def test_a_file_that_others_can_read_gives_a_warning(key, tmp_path, mode):
    path = key.save(tmp_path / "key.mgkey", "passphrase")
    path.chmod(mode)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert Key.load(path, "passphrase") == key
    assert [str(one.message) for one in caught] == (
        [] if mode == 0o600 else [f"{path}: other users can read it; chmod 600 {path}"]
    )


def test_no_bundle_appears_before_its_leaves_are_burnt(
    key, registration, session_folder, examiner, tools, tmp_path
):
    path = key.save(tmp_path / "key.mgkey", "passphrase")
    loaded = Key.load(path, "passphrase")
    arguments = {
        "registration": registration,
        "key": loaded,
        "transcript": Transcript(session_folder),
        "examiner": examiner,
        "multiplicity": Multiplicity(1, 1, 0),
        **tools.callables,
    }
    with pytest.raises(EvidenceError, match="mode"):
        certify(tmp_path / "bundle", mode="self", **arguments)
    assert Key.load(path, "passphrase").burnt == frozenset()  # what failed opened nothing
    path.rename(tmp_path / "moved")
    with pytest.raises(InputError, match="cannot read"):
        certify(tmp_path / "bundle", mode="witness", **arguments)
    assert not (tmp_path / "bundle").exists()
    (tmp_path / "moved").rename(path)
    made = certify(tmp_path / "bundle", mode="witness", **arguments)
    assert Key.load(path, "passphrase").burnt == set(made.leaves)
