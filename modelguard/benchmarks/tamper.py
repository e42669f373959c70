"""Mutated bundles: none may be accepted, and none may end in anything but an error of ours."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import traceback
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

import modelguard
from modelguard.benchmarks import bundles, record
from modelguard.errors import ModelGuardError
from modelguard.evidence import dsse, records
from modelguard.schemes import keyed_cells

SIGNED = ("registration.dsse.json", "certificate.dsse.json", "bits.dsse.json", "transcript.jsonl")
FREE = {"certificateId", "name", "notBefore", "notAfter"}  # what an examiner says of himself and his paper
Mutation = Callable[[bytes, random.Random], bytes]


def flip(data: bytes, dice: random.Random) -> bytes:
    """Change one bit."""
    at = dice.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << dice.randrange(8)]) + data[at + 1 :]


def cut(data: bytes, dice: random.Random) -> bytes:
    """Leave a stretch out."""
    at = dice.randrange(len(data))
    return data[:at] + data[at + 1 + dice.randrange(64) :]


def double(data: bytes, dice: random.Random) -> bytes:
    """Say a stretch twice."""
    at = dice.randrange(len(data))
    end = at + 1 + dice.randrange(64)
    return data[:end] + data[at:]


def noise(data: bytes, dice: random.Random) -> bytes:
    """Put noise over a stretch."""
    at = dice.randrange(len(data))
    size = 1 + dice.randrange(16)
    return data[:at] + dice.randbytes(size) + data[at + size :]


def insert(data: bytes, dice: random.Random) -> bytes:
    """Insert what parsers stumble over."""
    at = dice.randrange(len(data) + 1)
    pieces = (b"\0", b" ", b"\n", b"\xff", b"{", b"]", b'"', b"1e9", b"NaN", b"null", b"\\ud800", b"[" * 40)
    return data[:at] + dice.choice(pieces) + data[at:]


def truncate(data: bytes, dice: random.Random) -> bytes:
    """End early."""
    return data[: dice.randrange(len(data))]


MUTATIONS: tuple[Mutation, ...] = (flip, cut, double, noise, insert, truncate)


def lies(statement: Any, dice: random.Random) -> bool:
    """Change one value of a statement in place, keeping its type; return False if nothing changed."""
    places = [
        (holder, name)
        for holder, name in _places(statement["predicate"])
        if name not in FREE and not isinstance(holder[name], (dict, list))
    ]
    holder, name = dice.choice(places)
    old = holder[name]
    if isinstance(old, int):
        counted = name in ("suspects", "registrations", "grindBits")  # more of them only weaken the claim
        new: Any = max(0, old + (-1 if counted else dice.choice((-1, 1, 1000))))
    else:
        at = dice.randrange(len(old))
        new = old[:at] + dice.choice("0123456789abcdef") + old[at + 1 :]
    holder[name] = new
    return bool(new != old)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    pairs: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list):
        pairs = enumerate(value)
    for name, item in pairs:
        yield value, name
        yield from _places(item)


def attempt(made: bundles.Made) -> str:
    """Check a bundle; return the class of the error, "accepted", or "crash: ..." for an error not ours."""
    try:
        modelguard.check(made.path, made.trust)
    except ModelGuardError as error:
        return type(error).__name__
    except Exception:
        return f"crash: {traceback.format_exc(limit=-2)}"
    return "accepted"


def mutants(made: bundles.Made, count: int, dice: random.Random) -> Counter[str]:
    """Check `count` mutated bundles: bytes of any file, or a lie signed by the trusted examiner."""
    outcomes: Counter[str] = Counter()
    files = [made.path / name for name in SIGNED] + sorted((made.path / "blobs").iterdir())
    for number in range(count):
        if number % 5 == 4:  # signed anew
            path = made.path / "certificate.dsse.json"
            good = path.read_bytes()
            statement = json.loads(b64decode(json.loads(good)["payload"]))
            if not lies(statement, dice):
                statement["predicate"]["result"]["T"] += 1
            bad = dsse.sign(records.dumps(statement), made.examiner)
        else:
            path = dice.choice(files)
            good = bad = path.read_bytes()
            while bad == good:
                bad = dice.choice(MUTATIONS)(good, dice)
        path.write_bytes(bad)
        outcomes[attempt(made)] += 1
        path.write_bytes(good)
    return outcomes


def every_byte(made: bundles.Made, values: int) -> Counter[str]:
    """Put `values` other values at every position of every signed file, all 255 if so many."""
    outcomes: Counter[str] = Counter()
    for name in SIGNED:
        path = made.path / name
        good = path.read_bytes()
        for at, old in enumerate(good):
            for step in range(1, 256, 255 // values):
                path.write_bytes(good[:at] + bytes([old ^ step]) + good[at + 1 :])
                outcomes[attempt(made)] += 1
        path.write_bytes(good)
    return outcomes


def main(
    count: Annotated[int, typer.Option(help="mutated bundles")] = 50_000,
    values: Annotated[int, typer.Option(min=1, max=255, help="other values of each byte")] = 255,
    seed: Annotated[int, typer.Option(help="of the mutations")] = 0,
    out: record.Out = Path("docs/results"),
) -> None:
    """Try to have a spoilt bundle accepted."""
    folder = Path(tempfile.mkdtemp(prefix="modelguard-tamper-"))
    try:
        scheme = keyed_cells.public(channels=1, scale=1, size=16, per_query=2)
        made = bundles.make(folder, 2, 8, scheme)
        assert attempt(made) == "accepted"  # what is spoilt below is sound
        rows = [
            {"change": "every byte of every signed file", **_row(every_byte(made, values))},
            {"change": "mutated bundles", **_row(mutants(made, count, random.Random(seed)))},
        ]
        assert attempt(made) == "accepted"
    finally:
        shutil.rmtree(folder)
    notes = (
        f"{values} other values of each byte; a fifth of the mutated bundles is a lie signed by the examiner"
    )
    record.write("tamper", out, rows, seed=seed, notes=notes)


def _row(outcomes: Counter[str]) -> dict[str, Any]:
    crashes = sorted({name for name in outcomes if name.startswith("crash")})
    return {
        "tried": outcomes.total(),
        "accepted": outcomes.pop("accepted", 0),
        "crashed": sum(outcomes.pop(name) for name in crashes),
        "crashes": crashes[:5],
        "refused": dict(outcomes.most_common()),
    }


if __name__ == "__main__":
    typer.run(main)
