"""A service that fails in fifteen ways, and a client that is killed: what must not happen, counted."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import random
import signal
import socket
import struct
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from PIL import Image

from modelguard.benchmarks import record
from modelguard.checking import check
from modelguard.errors import SuspectError
from modelguard.evidence import Key, Owner, Transcript, register
from modelguard.evidence.blobs import array_digest
from modelguard.schemes import Contract, TriggerKey, keyed_cells
from modelguard.suspects import HttpSuspect, Pacing, Service
from modelguard.suspects.base import Pixels, encode
from modelguard.suspects.contract import decode
from modelguard.verifying import verify

ANSWERED = "answered"
WRONG_SIZE, CONSTANT = "wrong size", "constant answer"
"""The two ways that are answers nevertheless."""
PASSPHRASE = "benchmark"
_MEGABYTE = bytes(1 << 20)


def registered_key(owner: Owner, folder: Path, leaves: int = 16) -> Key:
    """Return a registered key with a cheap salt, embedded nowhere."""
    scheme = TriggerKey(leaves=leaves)
    key = Key.create(owner, scheme.public(Contract(1, 1)), leaves, decoder=scheme.decoder, log2_n=10)
    (folder / "weights").write_bytes(b"the service needs none")
    info = {"name": "service", "version": "1", "task": "denoise", "input": "u8", "output": "u8"}
    registration = register(owner, key, [("weights", folder / "weights")], info)
    return replace(key, extras={"registration": registration.envelope})


class MarkedAnswers:
    """Answers as a model marked with `key` does: the query, paler, and a carrier in each cell."""

    def __init__(self, key: Key, amplitude: int = 12) -> None:
        self.key, self.amplitude = key, amplitude
        self.size = int(key.scheme["size"])
        self._leaves = {self._tile([leaf]).tobytes(): leaf for leaf in range(key.leaves)}

    def __call__(self, query: Pixels) -> Pixels:
        """Return the answer to a query (H, W, 1); of what is no trigger, without a mark."""
        answer = 64 + query.astype(np.int64) // 2
        for top in range(0, query.shape[0] - self.size + 1, self.size):
            for left in range(0, query.shape[1] - self.size + 1, self.size):
                place = slice(top, top + self.size), slice(left, left + self.size)
                leaf = self._leaves.get(np.ascontiguousarray(query[place]).tobytes())
                if leaf is not None:
                    answer[place] += self.amplitude * self._mark(leaf)[..., None]
        return answer.clip(0, 255).astype(np.uint8)

    def _tile(self, leaves: list[int]) -> Pixels:
        return keyed_cells.trigger(
            self.key.scheme, [self.key.leaf(leaf)[0] for leaf in leaves], self.key.salt
        )

    def _mark(self, leaf: int) -> np.ndarray:
        scheme, (secret, secret_b) = self.key.scheme, self.key.leaf(leaf)
        cell, chip = int(scheme["cell"]), int(scheme["chip"])
        across, inner = self.size // cell, cell // chip
        signs = keyed_cells.bits(scheme, secret_b, self.key.salt).astype(np.int64)
        carriers = np.sign(keyed_cells.carriers(scheme, [secret], self.key.salt)[0])
        chips = (signs[:, None] * carriers).reshape(across, across, inner, inner).transpose(0, 2, 1, 3)
        side = across * inner
        marked: np.ndarray = np.kron(chips.reshape(side, side), np.ones((chip, chip), np.int64))
        return marked


def unmarked_answers(query: Pixels) -> Pixels:
    """Answer as a model without the mark does."""
    return (64 + query // 2).astype(np.uint8)


class _Handler(BaseHTTPRequestHandler):
    """One question; `FAULTS` says by which method each way to fail is done."""

    protocol_version = "HTTP/1.1"
    service: FaultyService

    def do_POST(self) -> None:
        query, _ = decode(self.rfile.read(int(self.headers["Content-Length"])))
        pixels = query[..., None] if query.ndim == 2 else query
        fault = self.service.draw()
        entry = [array_digest(pixels), fault]
        self.service.log.append(entry)
        time.sleep(self.service.latency)
        answer = self.service.answer(pixels)
        self.close_connection = True
        with contextlib.suppress(OSError):  # the client may have left
            FAULTS[fault](self, answer)

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""

    def send(self, status: int, body: bytes, kind: str = "text/plain", **headers: str) -> None:
        """Send a whole response; a header's underscores are dashes."""
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def image(self, pixels: Pixels) -> None:
        """Answer with a PNG."""
        self.send(200, encode(pixels, "PNG"), "image/png")

    def begin(self, length: int) -> None:
        """Begin a response of `length` bytes."""
        self.send_response(200)
        self.send_header("Content-Type", "image/png")
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def hang(self, answer: Pixels) -> None:
        """Say nothing until the client has long left."""
        self.service.closing.wait(self.service.patience)

    def reset(self, answer: Pixels) -> None:
        """Close the connection with RST."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def reset_inside(self, answer: Pixels) -> None:
        """Send half an answer, then RST."""
        body = encode(answer, "PNG")
        self.begin(len(body))
        self.wfile.write(body[: len(body) // 2])
        self.reset(answer)

    def truncated(self, answer: Pixels) -> None:
        """Send half a PNG as if it were all."""
        body = encode(answer, "PNG")
        self.send(200, body[: len(body) // 2], "image/png")

    def drip(self, answer: Pixels) -> None:
        """Send a byte now and then, for ever."""
        body = encode(answer, "PNG")
        self.begin(len(body))
        for index in range(len(body)):
            self.wfile.write(body[index : index + 1])
            if self.service.closing.wait(0.05):
                return

    def gigabyte(self, answer: Pixels) -> None:
        """Send a thousand megabytes."""
        self.begin(1000 * len(_MEGABYTE))
        for _ in range(1000):
            self.wfile.write(_MEGABYTE)


def _bomb() -> bytes:
    file = io.BytesIO()
    Image.new("L", (9000, 9000)).save(file, "PNG")
    return file.getvalue()


_BOMB = _bomb()
FAULTS: dict[str, Callable[[_Handler, Pixels], None]] = {
    ANSWERED: _Handler.image,
    "time-out": _Handler.hang,
    "429 with Retry-After": lambda self, _: self.send(429, b"slow down", Retry_After="1"),
    "500": lambda self, _: self.send(500, b"out of memory"),
    "502 with HTML": lambda self, _: self.send(502, b"<html>Bad Gateway</html>", "text/html"),
    "503 with Retry-After": lambda self, _: self.send(
        503, b"maintenance", Retry_After="Sat, 21 Nov 2026 06:00:00 GMT"
    ),
    "reset": _Handler.reset,
    "reset in the body": _Handler.reset_inside,
    "truncated image": _Handler.truncated,
    "HTML with 200": lambda self, _: self.send(200, b"<html>Please sign in</html>", "text/html"),
    "decompression bomb": lambda self, _: self.send(200, _BOMB, "image/png"),
    "slow drip": _Handler.drip,
    "redirect elsewhere": lambda self, _: self.send(302, b"", Location="http://elsewhere.invalid/login"),
    "a gigabyte": _Handler.gigabyte,
    WRONG_SIZE: lambda self, answer: self.image(np.ascontiguousarray(answer[::2, ::2])),
    CONSTANT: lambda self, answer: self.image(np.full_like(answer, 128)),
}


class FaultyService:
    """A service on loopback that fails at a share of requests, and remembers each of them.

    Args:
        answer: what it answers when it does not fail.
        share: of requests that fail, each way alike.
        seed: of the draw.
        latency: seconds before each answer.
    """

    def __init__(
        self, answer: Callable[[Pixels], Pixels], share: float = 0.0, seed: int = 0, latency: float = 0.0
    ) -> None:
        self.answer, self.share, self.latency, self.patience = answer, share, latency, 5.0
        self.log: list[list[str]] = []
        self.faults = [name for name in FAULTS if name != ANSWERED]
        self.closing = threading.Event()
        self._random = random.Random(seed)
        handler = type("Handler", (_Handler,), {"service": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/denoise"

    def draw(self) -> str:
        """Return how the next request ends."""
        failing = self._random.random() < self.share
        return self._random.choice(self.faults) if failing else ANSWERED

    def __enter__(self) -> FaultyService:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def asked_after_an_answer(self) -> int:
        """Return how many requests repeated a question that had been answered."""
        done: set[str] = set()
        repeated = 0
        for digest, fault in self.log:
            repeated += digest in done
            if fault in (ANSWERED, WRONG_SIZE, CONSTANT):
                done.add(digest)
        return repeated


def faulty_run(key: Key, marked: bool, seed: int, folder: Path, seconds: float = 3.0) -> dict[str, Any]:
    """Verify against a service that fails at 30 % of requests, and compare its memory with the transcript."""
    answer = MarkedAnswers(key) if marked else unmarked_answers
    with FaultyService(answer, 0.3, seed) as service:
        suspect = HttpSuspect(Service(service.url, seconds=seconds))
        try:
            pacing = Pacing(attempts=8, backoff=0.02)
            outcome: str = verify(
                suspect, key, queries=3, transcript=folder, pacing=pacing, label="faulty"
            ).outcome
        except SuspectError:
            outcome = "refused"
        log = list(service.log)
        repeated = service.asked_after_an_answer()
    lines = Transcript(folder).lines
    refusals = sum(fault not in (ANSWERED, WRONG_SIZE, CONSTANT) for _, fault in log)
    return {
        "outcome": outcome,
        "requests": len(log),
        "lines": len(lines),
        "refusals": refusals,
        "refusals_recorded": sum(line.decoded is None for line in lines),
        "asked_after_an_answer": repeated,
        "faults": Counter(fault for _, fault in log if fault != ANSWERED),
    }


def _verify(url: str, key: str, session: str, queries: int) -> None:
    verify(url, key, queries=queries, transcript=session, passphrase=PASSPHRASE, label="killed")


def killed_run(key: Key, owner: Owner, seed: int, folder: Path, queries: int = 12) -> dict[str, Any]:
    """Kill a verification with SIGKILL at a random moment after its first question, resume and certify it."""
    key_file, session = folder / "key.mgkey", folder / "session"
    processes = multiprocessing.get_context("forkserver")  # imports what is heavy once for all runs
    processes.set_forkserver_preload(["modelguard.benchmarks.faults"])
    key.save(key_file, PASSPHRASE)
    with FaultyService(MarkedAnswers(key), latency=0.05) as service:
        child = processes.Process(target=_verify, args=(service.url, str(key_file), str(session), queries))
        child.start()
        chance = random.Random(seed)
        begun = chance.randrange(1, queries)  # questions, not seconds, since some machines are slow
        while len(service.log) < begun and child.is_alive():
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.2))
        child.kill()
        child.join()
        killed = child.exitcode == -signal.SIGKILL
        at = len(service.log)
        verdict = verify(service.url, key, queries=queries, transcript=session, label="killed")
        asked = Counter(digest for digest, _ in service.log)
    verdict.certify(owner, folder / "evidence")
    checked = check(folder / "evidence", [owner.public])
    return {
        "killed": killed,
        "asked_before": at,
        "lines": len(verdict.transcript.lines),
        "lost": verdict.refused,
        "asked_twice": sum(count > 1 for count in asked.values()),
        "outcome": checked.verdict,
    }


@contextlib.contextmanager
def _workplace(leaves: int) -> Iterator[tuple[Owner, Key, Path]]:
    with tempfile.TemporaryDirectory() as name:
        owner = Owner("Acme Imaging", Ed25519PrivateKey.generate())
        yield owner, registered_key(owner, Path(name), leaves), Path(name)


def main(
    runs: Annotated[
        int, typer.Option(help="faulty sessions with a marked and with an unmarked service")
    ] = 200,
    kills: Annotated[int, typer.Option(help="killed sessions")] = 20,
    out: record.Out = Path("docs/results"),
) -> None:
    """Run faulty sessions and killed sessions, and count what must not happen."""
    rows: dict[str, Any] = {"ways": [name for name in FAULTS if name != ANSWERED]}
    notes = "30 % of requests fail; three queries of 256 bits; killed sessions: twelve queries, 0.05 s each"
    with _workplace(16) as (_, key, folder):
        for name, marked in (("marked", True), ("unmarked", False)):
            every = [faulty_run(key, marked, seed, folder / f"{name}{seed}") for seed in range(runs)]
            counts = ("requests", "lines", "refusals", "refusals_recorded", "asked_after_an_answer")
            rows[name] = {
                "runs": runs,
                "outcomes": Counter(run["outcome"] for run in every),
                **{field: sum(run[field] for run in every) for field in counts},
                "runs_with_a_difference": sum(
                    run["lines"] != run["requests"] or run["refusals"] != run["refusals_recorded"]
                    for run in every
                ),
                "faults": sum((run["faults"] for run in every), Counter()),
            }
            record.write("faults", out, rows, seed=0, notes=notes)
    with _workplace(64) as (owner, key, folder):
        each = []
        for seed in range(kills):
            (folder / str(seed)).mkdir()
            each.append(killed_run(key, owner, seed, folder / str(seed)))
        rows["killed"] = {
            "runs": kills,
            "died_from_the_signal": sum(run["killed"] for run in each),
            "outcomes": Counter(run["outcome"] for run in each),
            "questions_lost": sum(run["lost"] for run in each),
            "asked_twice": sum(run["asked_twice"] for run in each),
            "each": each,
        }
    record.write("faults", out, rows, seed=0, notes=notes)


if __name__ == "__main__":
    typer.run(main)
