"""What asking costs: a thousand stored suspects, overhead a query, memory over ten thousand answers."""

from __future__ import annotations

import json
import random
import resource
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from PIL import Image

from modelguard import photos
from modelguard.benchmarks import record
from modelguard.benchmarks.faults import FaultyService, MarkedAnswers, registered_key, unmarked_answers
from modelguard.datasets import to_uint8
from modelguard.evidence import Key, Owner
from modelguard.suspects import Answer, FolderSuspect
from modelguard.suspects.base import Pixels, encode
from modelguard.suspects.contract import decode
from modelguard.suspects.folder import MANIFEST_FILE
from modelguard.verifying import export_queries, verify


def store_answers(queries: Path, folder: Path, answer: Callable[[Pixels], Pixels], form: str = "PNG") -> None:
    """Answer every exported query into `folder`, as somebody would by hand."""
    folder.mkdir()
    shutil.copy(queries / MANIFEST_FILE, folder)
    for entry in json.loads((queries / MANIFEST_FILE).read_text())["queries"]:
        pixels, _ = decode((queries / entry["name"]).read_bytes())
        file = folder / f"{Path(entry['name']).stem}.{form.lower()}"
        file.write_bytes(encode(answer(pixels.reshape(*pixels.shape[:2], -1)), form))


def many(key: Key, folder: Path, count: int, every: int = 100) -> dict[str, Any]:
    """Check `count` stored suspects, of which one in `every` is marked and each other is one of its own."""
    queries = export_queries(key, folder / "queries", queries=2)
    noise = np.random.default_rng(0)

    def innocent(query: Pixels) -> Pixels:
        return (unmarked_answers(query) + noise.integers(-9, 10, query.shape)).clip(0, 255).astype(np.uint8)

    marked = MarkedAnswers(key)
    for number in range(count):
        store_answers(queries, folder / f"s{number}", innocent if number % every else marked, "JPEG")
    began, processor = time.monotonic(), time.process_time()
    outcomes: Counter[str] = Counter()
    for number in range(count):
        verdict = verify(folder / f"s{number}", key, suspects=count)
        outcomes[f"{'innocent' if number % every else 'marked'}: {verdict.outcome}"] += 1
    seconds, processor = time.monotonic() - began, time.process_time() - processor
    return {
        "suspects": count,
        "queries_each": 2,
        "outcomes": outcomes,
        "seconds": round(seconds, 1),
        "suspects_per_second": round(count / seconds, 1),
        "suspects_per_processor_second": round(count / processor, 1),
    }


def overhead(key: Key, queries: int, latency: float = 0.05) -> dict[str, Any]:
    """Time what verification adds to each query of a service, and of a function in this process."""
    spent = 0.0
    marked = MarkedAnswers(key)

    def timed(query: Pixels) -> Pixels:
        nonlocal spent
        began = time.monotonic()
        time.sleep(latency)
        answer = marked(query)
        spent += time.monotonic() - began
        return answer

    row: dict[str, Any] = {"queries": queries}
    with FaultyService(timed) as service:
        for name, suspect in (("function", timed), ("service", service.url)):
            verify(suspect, key)  # what is loaded once is no overhead of a query
            spent, began, processor = 0.0, time.monotonic(), time.process_time()
            verify(suspect, key, queries=queries)
            added, processor = time.monotonic() - began - spent, time.process_time() - processor
            row[f"{name}_ms_a_query"] = round(1000 * added / queries, 1)
            row[f"{name}_processor_ms_a_query"] = round(1000 * processor / queries, 1)
    return row


class _Weighed(FolderSuspect):
    """Stored answers that note the memory of the process, a line each thousand."""

    megabytes: list[float]

    def ask(self, query: Pixels) -> Answer:
        self._count = getattr(self, "_count", 0) + 1
        if self._count % 1000 == 0:
            self.megabytes.append(round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1))
        return super().ask(query)


def memory(key: Key, folder: Path, answers: int) -> dict[str, Any]:
    """Check one folder of so many stored answers, nearly all of them to ordinary photos."""
    (folder / "photos").mkdir()
    originals = [to_uint8(one).squeeze(0).numpy() for one in photos.load()]
    chance = random.Random(0)
    for number in range(answers - 1):
        picture = chance.choice(originals)
        top, left = (chance.randrange(side - 48) for side in picture.shape)
        crop = Image.fromarray(picture[top : top + 48, left : left + 48])
        crop.save(folder / "photos" / f"{number}.png")
    queries = export_queries(key, folder / "queries", cover=folder / "photos")
    store_answers(queries, folder / "stored", MarkedAnswers(key))
    suspect = _Weighed(folder / "stored")
    suspect.megabytes = []
    began = time.process_time()
    verdict = verify(suspect, key, cover=folder / "photos")
    return {
        "answers": verdict.queries + verdict.ordinary,
        "outcome": verdict.outcome,
        "processor_ms_an_answer": round(1000 * (time.process_time() - began) / answers, 1),
        "peak_megabytes_each_thousand": suspect.megabytes,
    }


def main(
    count: Annotated[int, typer.Option(help="stored suspects")] = 1000,
    queries: Annotated[int, typer.Option(help="timed queries")] = 16,
    answers: Annotated[int, typer.Option(help="stored answers of one suspect")] = 10_000,
    out: record.Out = Path("docs/results"),
) -> None:
    """Check stored suspects, time the overhead of a query, and weigh one long session."""
    with tempfile.TemporaryDirectory() as name:
        owner = Owner("Acme Imaging", Ed25519PrivateKey.generate())
        folder = Path(name)
        rows: dict[str, Any] = {}
        for step in ("memory", "overhead", "many"):
            place = folder / step
            place.mkdir()
            key = registered_key(owner, place, 4 * queries)
            if step == "memory":
                rows[step] = memory(key, place, answers)
            elif step == "overhead":
                rows[step] = overhead(key, queries)
            else:
                rows[step] = many(key, place, count)
            print(step, rows[step], flush=True)
    notes = "one process, grey answers of 128 px, temporary transcripts; wall time was shared with other work"
    record.write("suspects", out, rows, seed=0, notes=notes)


if __name__ == "__main__":
    typer.run(main)
