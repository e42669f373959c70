"""Golden vectors of the format: `python tests/vectors/make.py` writes the JSON files of this folder anew.

Do that only together with a new version of what changed: a vector that moves is a format that broke.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from modelguard.evidence import Session, SuspectInfo, dsse, merkle, prf, records
from modelguard.evidence.blobs import array_digest
from modelguard.evidence.transcript import chain
from modelguard.schemes import keyed_cells, odd_filters, planes, symmetric_filters, tone_carriers
from modelguard.statistics import sign_test, upper_tail

HERE = Path(__file__).parent
MASTER = bytes(range(32))
SALT = hashlib.sha256(b"a salt").digest()


def secrets() -> dict[str, Any]:
    return {
        "master": MASTER.hex(),
        "leaves": [
            {"leaf": leaf, "xK": x_k.hex(), "xb": x_b.hex()}
            for leaf in (0, 1, 65535)
            for x_k, x_b in [prf.leaf_secrets(MASTER, leaf)]
        ],
        "streams": [
            {"label": label, "salt": SALT.hex(), "secret": MASTER.hex(), "out": out.hex()}
            for label in ("K", "C", "b")
            for out in [prf.stream(label, SALT, MASTER, 40)]
        ],
        "stretched": {"precommit": b"commitment".hex(), "log2n": 4}
        | {"salt": prf.salt_from_scrypt(b"commitment", 4).hex()},
    }


def tree() -> dict[str, Any]:
    leaves = [merkle.leaf(index, *prf.leaf_secrets(MASTER, index)) for index in range(9)]
    return {
        "master": MASTER.hex(),
        "leaves": [leaf.hex() for leaf in leaves],
        "roots": {str(n): merkle.root(leaves[:n]).hex() for n in range(1, 10)},
        "paths": [
            {"leaves": n, "leaf": leaf, "path": [node.hex() for node in merkle.path(leaves[:n], leaf)]}
            for n, leaf in ((1, 0), (2, 1), (7, 0), (7, 6), (9, 8), (9, 3))
        ],
    }


def envelopes() -> dict[str, Any]:
    payloads = [b"", b"hello world", b'{"a":1}', "h\u00e9".encode()]
    return {
        "payloadType": dsse.PAYLOAD_TYPE,
        "vectors": [
            {
                "payload": payload.hex(),
                "pae": dsse.pae(dsse.PAYLOAD_TYPE, payload).hex(),
                "recordId": dsse.record_id(payload),
            }
            for payload in payloads
        ],
    }


def transcript() -> dict[str, Any]:
    suspect = SuspectInfo("vendor X", "http-api", "https://api.vendor-x.example/v2/denoise")
    session = Session("ab" * 32, suspect, SALT, 2, (3, 5))
    line = {"at": "2026-11-21T06:50:00Z", "kind": "trigger", "leaves": [4, 7], "request": "cd" * 32}
    lines = [
        records.dumps({**line, "seq": 0, "status": 429}),
        records.dumps({**line, "decoded": "ef" * 32, "seq": 1, "status": 200}),
    ]
    data = b"".join(one + b"\n" for one in lines)
    image = (np.arange(24) * 10).astype(np.uint8).reshape(2, 4, 3)
    return {
        "session": session.to_record(),
        "selection": {
            "root": MASTER.hex(),
            "leaves": 16,
            "selected": list(_select(MASTER, session)),
        },
        "first": session.first_link().hex(),
        "lines": [one.decode() for one in lines],
        "heads": [
            chain(session.first_link(), b"".join(one + b"\n" for one in lines[:n])).hex() for n in (1, 2)
        ],
        "sha256": hashlib.sha256(data).hexdigest(),
        "array": {"shape": [2, 4, 3], "values": image.ravel().tolist(), "digest": array_digest(image)},
    }


def _select(root: bytes, session: Session) -> tuple[int, ...]:
    from modelguard.evidence import select

    return select(root, session.nonce, 16, session.count, session.exclude)


def tails() -> dict[str, Any]:
    dice = np.random.default_rng(0)
    cases = []
    for n in (1, 8, 16, 256):
        weights = dice.integers(0, 16, n)
        for statistic in sorted({int(weights.sum()), int(weights.sum()) // 2, 0, -3}):
            tail = hex(upper_tail(weights, statistic))
            cases.append({"weights": weights.tolist(), "T": statistic, "tail": tail})
    bits, scores = dice.choice((-1, 1), 64), dice.integers(-1000, 1000, 64)
    test = sign_test(bits, scores, 15)
    return {
        "tails": cases,
        "test": {
            "bits": bits.tolist(),
            "scores": scores.tolist(),
            "levels": 15,
            "matches": test.matches,
            "T": test.statistic,
            "W": test.total,
            "tail": hex(test.tail),
            "log10p": f"{test.log10_p:.2f}",
        },
    }


def cells() -> dict[str, Any]:
    """K, C and b of keyed cells, and the scores of an answer that everybody can make: 255 - K // 2."""
    vectors = []
    for channels, scale, count, frames in ((1, 1, 1, 1), (1, 1, 4, 1), (3, 2, 3, 1), (1, 2, 3, 2)):
        scheme = keyed_cells.public(channels=channels, scale=scale, size=32, frames=frames)
        pairs = [prf.leaf_secrets(MASTER, leaf) for leaf in range(count)]
        keys = [x_k for x_k, _ in pairs]
        image = keyed_cells.trigger(scheme, keys, SALT)
        answer = (255 - image // 2).repeat(scale, 0).repeat(scale, 1)
        carriers = keyed_cells.carriers(scheme, keys, SALT)
        vectors.append(
            {
                "scheme": scheme,
                "salt": SALT.hex(),
                "xK": [x.hex() for x in keys],
                "xb": [x.hex() for _, x in pairs],
                "K": {"shape": list(image.shape), "first": image.ravel()[:16].tolist()}
                | {"digest": array_digest(image)},
                "C": {"first": carriers[0, 0].tolist(), "sha256": _digest(carriers)},
                "b": [keyed_cells.bits(scheme, x, SALT).tolist() for _, x in pairs],
                "scores": keyed_cells.decode(scheme, keys, SALT, answer).tolist(),
            }
        )
    return {"decoder": keyed_cells.DECODER._asdict(), "vectors": vectors}


def tones() -> dict[str, Any]:
    """Waves and b of tone carriers, and the scores of a small answer to a photo that everybody can make."""
    vectors = []
    for channels, scale, count in ((1, 1, 1), (3, 2, 1)):
        scheme = tone_carriers.public(channels=channels, scale=scale)
        pairs = [prf.leaf_secrets(MASTER, leaf) for leaf in range(count)]
        side = planes.SMALLEST
        query = _picture("photo", side, channels)
        answer = (
            query.repeat(scale, 0).repeat(scale, 1) // 2 + _picture("answer", side * scale, channels) // 4
        )
        keys = [x_k for x_k, _ in pairs]
        waves = [tone_carriers.carriers(scheme, x, SALT) for x in keys]
        vectors.append(
            {
                "scheme": scheme,
                "salt": SALT.hex(),
                "xK": [x.hex() for x in keys],
                "xb": [x.hex() for _, x in pairs],
                "waves": [
                    {"k": numbers[0].tolist(), "phase": int(phases[0])}
                    | {"sha256": _digest(np.column_stack([phases, numbers]))}
                    for numbers, phases in waves
                ],
                "b": [tone_carriers.bits(scheme, x, SALT).tolist() for _, x in pairs],
                "query": array_digest(query),
                "answer": array_digest(answer),
                "scores": tone_carriers.decode_photo(scheme, keys, SALT, query, answer).tolist(),
            }
        )
    return {"decoder": tone_carriers.DECODER._asdict(), "vectors": vectors}


def odd() -> dict[str, Any]:
    """Carriers and b of odd filters, and the scores of a small answer to a photo that everybody can make."""
    parameters = [(1, 1, False), (3, 2, True)]
    return _filters(
        odd_filters,
        [odd_filters.public(channels=c, scale=s, inside=inside) for c, s, inside in parameters],
    )


def symmetric() -> dict[str, Any]:
    """The same of symmetric filters, of two scales."""
    return _filters(
        symmetric_filters, [symmetric_filters.public(channels=3, scale=scale) for scale in (1, 2)]
    )


def _filters(reader: Any, schemes: list[dict[str, int | str]]) -> dict[str, Any]:
    vectors = []
    for scheme in schemes:
        channels, scale = int(scheme["channels"]), int(scheme["scale"])
        x_k, x_b = prf.leaf_secrets(MASTER, 0)
        side = planes.SMALLEST
        query = _picture("photo", side, channels)
        answer = query.repeat(scale, 0).repeat(scale, 1) - _picture("answer", side * scale, channels) // 32
        vectors.append(
            {
                "scheme": scheme,
                "salt": SALT.hex(),
                "xK": x_k.hex(),
                "xb": x_b.hex(),
                "carriers": reader.carriers(scheme, x_k, SALT).tolist(),
                "b": reader.bits(scheme, x_b, SALT).tolist(),
                "query": array_digest(query),
                "answer": array_digest(answer),
                "scores": reader.decode_photo(scheme, [x_k], SALT, query, answer).tolist(),
            }
        )
    return {
        "decoder": reader.DECODER._asdict(),
        "filters": _digest(reader.filters()),
        "vectors": vectors,
    }


def _picture(label: str, side: int, channels: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Soft shapes out of SHAKE256: bytes in squares of 4, averaged over 7 x 7 pixels."""
    rough = -(-side // 4) + 2
    drawn = np.frombuffer(hashlib.shake_256(label.encode()).digest(rough * rough * channels), np.uint8)
    large = drawn.reshape(rough, rough, channels).astype(np.int64).repeat(4, 0).repeat(4, 1)
    parts = [large[y : y + side, x : x + side] for y in range(7) for x in range(7)]
    return (sum(parts) // 49).astype(np.uint8)


def _digest(values: np.ndarray[Any, np.dtype[np.int64]]) -> str:
    return hashlib.sha256(values.astype("<i8").tobytes()).hexdigest()


MADE = {
    "secrets": secrets,
    "merkle": tree,
    "pae": envelopes,
    "transcript": transcript,
    "tail": tails,
    "keyed_cells": cells,
    "tone_carriers": tones,
    "odd_filters": odd,
    "symmetric_filters": symmetric,
}


def content(name: str) -> str:
    """Return the text of a vector file as the package computes it now."""
    return json.dumps(MADE[name](), indent=1) + "\n"


if __name__ == "__main__":
    for name in MADE:
        (HERE / f"{name}.json").write_text(content(name))
