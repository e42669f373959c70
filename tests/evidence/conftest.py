"""A small honest scheme (64 cells a leaf, sign of a 2x2 carrier) and one bundle made with it."""

from __future__ import annotations

import hashlib
import json
import shutil
from base64 import b64decode
from types import SimpleNamespace

import numpy as np
import pytest
from tsa import Authority

from modelguard.evidence import (
    Decoder,
    Key,
    Owner,
    Registration,
    Session,
    SuspectInfo,
    Transcript,
    certify,
    register,
    stream,
)
from modelguard.evidence.dsse import sign
from modelguard.evidence.transcript import chain
from modelguard.statistics import Multiplicity

PASSPHRASE = "correct horse battery staple"
SCHEME = {"id": "test.cells/1", "size": 16, "levels": 15}
DECODER = Decoder("test.decoder/1", hashlib.sha256(b"test.decoder/1").hexdigest())
SUSPECT = SuspectInfo("vendor X", "http-api", "https://api.vendor-x.example/v2/denoise")


def trigger(scheme, secrets_k, salt):
    size = scheme["size"]
    tiles = [
        np.frombuffer(stream("K", salt, x, size * size), np.uint8).reshape(size, size) for x in secrets_k
    ]
    return np.hstack(tiles)[..., None]


def bits(scheme, secret_b, salt):
    cells = (scheme["size"] // 2) ** 2
    raw = np.unpackbits(np.frombuffer(stream("b", salt, secret_b, cells // 8), np.uint8))
    return (2 * raw.astype(np.int8) - 1).astype(np.int8)


def carrier(scheme, secret_k, salt):
    side = scheme["size"] // 2
    raw = np.unpackbits(np.frombuffer(stream("C", salt, secret_k, side * side // 8), np.uint8))
    signs = 2 * raw.astype(np.int64).reshape(side, side) - 1
    return np.kron(signs, np.array([[1, -1], [-1, 1]]))


def decode(scheme, secrets_k, salt, response):
    size, side = scheme["size"], scheme["size"] // 2
    scores = []
    for index, x in enumerate(secrets_k):
        tile = response[:, index * size : (index + 1) * size, 0].astype(np.int64) * carrier(scheme, x, salt)
        scores.append(tile.reshape(side, 2, side, 2).sum(axis=(1, 3)).ravel())
    return np.concatenate(scores)


def marked(key, leaves, flips=0, seed=0):
    """The response of a model that carries the mark, with some cells wrong."""
    random = np.random.default_rng(seed)
    tiles = []
    for leaf in leaves:
        x_k, x_b = key.leaf(leaf)
        signs = bits(key.scheme, x_b, key.salt).astype(np.int64)
        signs[random.permutation(signs.size)[:flips]] *= -1
        side = key.scheme["size"] // 2
        field = np.kron(signs.reshape(side, side), np.ones((2, 2), np.int64))
        tiles.append(128 + 20 * field * carrier(key.scheme, x_k, key.salt))
    image = np.hstack(tiles) + random.integers(-5, 6, (16, 16 * len(tiles)))
    return image.astype(np.uint8)[..., None]


def ask(transcript, key, registration, respond=marked, mosaic=2):
    """Ask every selected leaf, `mosaic` leaves an image."""
    leaves = transcript.session.leaves(registration)
    for start in range(0, len(leaves), mosaic):
        group = leaves[start : start + mosaic]
        image = trigger(key.scheme, [key.leaf(leaf)[0] for leaf in group], key.salt)
        answer = respond(key, group)
        transcript.add(
            "trigger", image, leaves=group, raw=answer.tobytes(), raw_type="image/x-raw", decoded=answer
        )


def sign_bundle(path, registration, key, transcript, examiner, mode="witness", suspects=1, **more):
    """Certify a session that was held with this scheme."""
    return certify(
        path,
        registration=registration,
        key=key,
        transcript=transcript,
        examiner=examiner,
        mode=mode,
        multiplicity=Multiplicity(suspects, 1, 0),
        trigger=trigger,
        bits=bits,
        decode=decode,
        **more,
    )


def payload_of(path):
    return json.loads(b64decode(json.loads(path.read_bytes())["payload"]))


def resign(path, edit, signer):
    """Change a signed record and sign it again, as a lying signer would."""
    statement = payload_of(path)
    edit(statement)
    path.write_bytes(sign(json.dumps(statement).encode(), signer))


def retranscribe(bundle, edit, signer):
    """Change the transcript and certify the change, as a lying examiner would."""
    path = bundle / "transcript.jsonl"
    data = edit(path.read_bytes())
    path.write_bytes(data)

    def update(statement):
        fields = statement["predicate"]
        session = Session.from_record(fields["registration"], fields["suspect"], fields["selection"])
        digest = hashlib.sha256(data).hexdigest()
        statement["subject"][0]["digest"]["sha256"] = digest
        fields["transcript"] |= {
            "count": data.count(b"\n"),
            "sha256": digest,
            "head": chain(session.first_link(), data).hex(),
        }

    resign(bundle / "certificate.dsse.json", update, signer)


@pytest.fixture(scope="session")
def tools():
    return SimpleNamespace(
        trigger=trigger,
        bits=bits,
        decode=decode,
        marked=marked,
        ask=ask,
        certify=sign_bundle,
        resign=resign,
        retranscribe=retranscribe,
        payload_of=payload_of,
        callables={"trigger": trigger, "bits": bits, "decode": decode},
        scheme=SCHEME,
        decoder=DECODER,
        suspect=SUSPECT,
        passphrase=PASSPHRASE,
        info={"name": "denoiser", "version": "1", "task": "denoise", "input": "u8 HxW", "output": "u8 HxW"},
    )


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("evidence")


@pytest.fixture(scope="session")
def owner(folder):
    return Owner.create(folder / "owner.key", "Example Imaging Ltd", PASSPHRASE)


@pytest.fixture(scope="session")
def examiner(folder):
    return Owner.create(folder / "examiner.key", "Independent Lab", PASSPHRASE)


@pytest.fixture(scope="session")
def stranger(folder):
    return Owner.create(folder / "stranger.key", "Mallory", PASSPHRASE)


@pytest.fixture(scope="session")
def key(owner):
    return Key.create(owner, SCHEME, 8, decoder=DECODER, log2_n=4)


@pytest.fixture(scope="session")
def registration(folder, owner, key, tools) -> Registration:
    (folder / "weights.safetensors").write_bytes(bytes(range(256)))
    return register(owner, key, [("weights.safetensors", folder / "weights.safetensors")], tools.info)


@pytest.fixture(scope="session")
def session_folder(folder, registration, key):
    """A finished transcript: a control, a refusal asked again, four leaves in two mosaics."""
    transcript = Transcript.create(folder / "session", Session.draw(registration, SUSPECT, 4))
    grey = np.full((16, 16, 1), 128, np.uint8)
    transcript.add("control", grey, raw=b"grey", raw_type="text/plain", decoded=grey)
    leaves = transcript.session.leaves(registration)[:2]
    image = trigger(SCHEME, [key.leaf(leaf)[0] for leaf in leaves], key.salt)
    transcript.add("trigger", image, status=429, leaves=leaves)
    ask(transcript, key, registration, lambda key, group: marked(key, group, flips=3))
    return transcript.folder


@pytest.fixture(scope="session")
def made(folder, registration, key, session_folder, examiner):
    """(path, CheckedEvidence) of one good bundle; tests change copies of it."""
    path, transcript = folder / "bundle", Transcript(session_folder)
    return path, sign_bundle(path, registration, key, transcript, examiner, suspects=100)


@pytest.fixture
def bundle(made, tmp_path):
    return shutil.copytree(made[0], tmp_path / "bundle")


@pytest.fixture
def trust(owner, examiner):
    return [owner.public, examiner.public]


@pytest.fixture(scope="session")
def tsa(tmp_path_factory):
    """A timestamp authority that is being served; see tsa.py."""
    pytest.importorskip("rfc3161_client")
    with Authority(tmp_path_factory.mktemp("tsa")) as authority:
        yield authority
