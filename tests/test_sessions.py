"""Sessions as a user runs them: interrupted and resumed, sequential, obstructed, offline."""

from __future__ import annotations

import json
import math
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

import modelguard as mg
from modelguard.benchmarks.faults import FaultyService, MarkedAnswers, registered_key, unmarked_answers
from modelguard.benchmarks.suspects import store_answers
from modelguard.datasets import write_image
from modelguard.errors import BudgetError, EvidenceError, InputError, SuspectError
from modelguard.evidence import Key, Owner, Transcript
from modelguard.statistics import sign_test
from modelguard.suspects import Answer, FolderSuspect, Pacing
from modelguard.suspects.base import to_png
from modelguard.verifying import export_queries

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
QUICK = Pacing(attempts=3, backoff=0.001)


@pytest.fixture(scope="module")
def key(owner: Owner, tmp_path_factory: pytest.TempPathFactory) -> Key:
    """A registered key of 24 leaves, six queries of 256 bits."""
    return registered_key(owner, tmp_path_factory.mktemp("key"), 24)


@pytest.fixture(scope="module")
def cover(tmp_path_factory: pytest.TempPathFactory, make_photo: Callable[..., Tensor]) -> Path:
    """A folder of twelve photos."""
    folder = tmp_path_factory.mktemp("cover")
    for seed in range(12):
        write_image(folder / f"{seed}.png", make_photo(seed, 3, 150, 200))
    return folder


@dataclass
class Scripted:
    """Answers as `answer` does, except where `fails` names a status (or raises) for the n-th question."""

    answer: Callable[[Pixels], Pixels]
    fails: Callable[[int, Pixels], int | None] = lambda number, query: None
    asked: list[bytes] = field(default_factory=list)
    kind: str = "http-api"
    endpoint: str = "https://api.example/denoise"

    def ask(self, query: Pixels) -> Answer:
        self.asked.append(query.tobytes())
        if (status := self.fails(len(self.asked) - 1, query)) is not None:
            return Answer(None, b"no", "text/plain", status, f"HTTP {status}")
        image = self.answer(query)
        return Answer(image, to_png(image), "image/png", 200)


def is_trigger(query: Pixels) -> bool:
    return set(np.unique(query)) <= {40, 128, 215}


# --- resuming


def test_a_finished_session_is_not_asked_again(key: Key, tmp_path: Path) -> None:
    suspect = Scripted(MarkedAnswers(key))
    first = mg.verify(suspect, key, queries=2, transcript=tmp_path / "t")
    again = mg.verify(suspect, key, queries=2, transcript=tmp_path / "t")
    assert len(suspect.asked) == 2
    assert (again.test, again.outcome) == (first.test, "match")


def test_refusals_are_not_asked_for_again_once_given_up(key: Key, tmp_path: Path) -> None:
    """Else a session could be repeated until one likes its result."""
    suspect = Scripted(MarkedAnswers(key), lambda number, query: 503 if number < 3 else None)
    first = mg.verify(suspect, key, queries=2, transcript=tmp_path / "t", pacing=QUICK)
    assert (len(suspect.asked), first.refused) == (4, 1)
    again = mg.verify(suspect, key, transcript=tmp_path / "t", pacing=QUICK)
    assert (len(suspect.asked), again.test) == (4, first.test)


@pytest.mark.parametrize("at", [0, 1, 3])
def test_ctrl_c_loses_the_question_in_the_air_alone(key: Key, tmp_path: Path, at: int) -> None:
    def interrupt(number: int, query: Pixels) -> None:
        if number == at:
            raise KeyboardInterrupt

    suspect = Scripted(MarkedAnswers(key), interrupt)
    with pytest.raises(KeyboardInterrupt):
        mg.verify(suspect, key, queries=4, transcript=tmp_path / "t")
    verdict = mg.verify(suspect, key, queries=4, transcript=tmp_path / "t")
    assert len(suspect.asked) == len(set(suspect.asked)) == 4
    assert (verdict.queries, verdict.refused, verdict.outcome) == (4, 1, "match")
    assert [line.status for line in verdict.transcript.lines] == [499 if n == at else 200 for n in range(4)]


def test_a_local_failure_may_be_mended_and_resumed(key: Key, tmp_path: Path) -> None:
    marked, working = MarkedAnswers(key), False

    def suspect(query: Pixels) -> Pixels:
        if not working:
            raise RuntimeError("no licence")
        return marked(query)

    with pytest.raises(SuspectError, match="no licence"):
        mg.verify(suspect, key, queries=2, transcript=tmp_path / "t")
    working = True
    assert mg.verify(suspect, key, queries=2, transcript=tmp_path / "t").refused == 0


def test_another_session_is_not_resumed(key: Key, owner: Owner, tmp_path: Path) -> None:
    suspect = Scripted(MarkedAnswers(key))
    mg.verify(suspect, key, queries=2, transcript=tmp_path / "t", label="vendor X")
    (tmp_path / "k").mkdir()
    other = registered_key(owner, tmp_path / "k")
    elsewhere = replace(suspect, endpoint="https://api.example/other")
    for one, secret, change, says in (
        (suspect, other, {}, "another key"),
        (suspect, key, {"label": "vendor Y"}, "another suspect"),
        (elsewhere, key, {}, "another suspect"),
        (suspect, key, {"queries": 3}, "another queries"),
        (suspect, key, {"sequential": True}, "another sequential"),
    ):
        arguments = {"queries": 2, "label": "vendor X", **change}
        with pytest.raises(InputError, match=says):
            mg.verify(one, secret, transcript=tmp_path / "t", **arguments)
    assert len(suspect.asked) == 2


def test_a_full_disk_loses_nothing_recorded(
    key: Key, owner: Owner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    suspect = Scripted(MarkedAnswers(key))
    session = tmp_path / "t"
    mg.verify(suspect, key, queries=1, transcript=tmp_path / "warm")
    suspect.asked.clear()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def full(number: int, query: Pixels) -> None:
        if number == 2:  # from now on no file can grow beyond what the transcript has
            size = (session / "transcript.jsonl").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 40, before[1]))

    try:
        with pytest.raises(OSError, match="File too large"):
            mg.verify(replace(suspect, fails=full), key, queries=4, transcript=session)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert len(Transcript(session).lines) == 2
    verdict = mg.verify(suspect, key, queries=4, transcript=session)
    assert (verdict.refused, verdict.match) == (1, True)  # the question whose answer did not fit
    assert len(verdict.transcript.lines) == 4
    assert verdict.certify(owner, tmp_path / "evidence").verdict == "match"


# --- refusals, budgets, pacing


def test_passing_refusals_are_asked_again_and_each_is_recorded(key: Key) -> None:
    suspect = Scripted(MarkedAnswers(key), lambda number, query: 503 if number % 3 else None)
    verdict = mg.verify(suspect, key, queries=2, pacing=QUICK)
    assert [line.status for line in verdict.transcript.lines] == [200, 503, 503, 200]
    assert (verdict.refused, verdict.match) == (0, True)


def test_final_refusals_are_not_asked_again(key: Key) -> None:
    suspect = Scripted(MarkedAnswers(key), lambda number, query: 403 if number == 0 else None)
    verdict = mg.verify(suspect, key, queries=2, pacing=QUICK)
    assert (len(suspect.asked), verdict.refused) == (2, 1)


def test_the_last_refusal_is_told(key: Key) -> None:
    said: list[str] = []
    suspect = Scripted(unmarked_answers, lambda number, query: 503)
    with pytest.raises(SuspectError, match=r"refused all 1 queries \(the last time: HTTP 503\)"):
        mg.verify(suspect, key, pacing=QUICK, progress=said.append)
    assert said.count("refused: HTTP 503") == 3


def test_a_budget_of_questions_ends_and_is_resumed(key: Key, tmp_path: Path) -> None:
    suspect = Scripted(MarkedAnswers(key))
    with pytest.raises(BudgetError, match="all 2 questions") as caught:
        mg.verify(suspect, key, queries=4, transcript=tmp_path / "t", pacing=Pacing(requests=2))
    assert "same transcript" in caught.value.remedy
    verdict = mg.verify(suspect, key, queries=4, transcript=tmp_path / "t", pacing=Pacing(requests=4))
    assert (len(suspect.asked), verdict.refused) == (4, 0)


def test_a_budget_of_time_is_not_slept_away(key: Key) -> None:
    pacing = Pacing(per_minute=2, seconds=5)
    with pytest.raises(BudgetError, match="5 s are used up"):
        mg.verify(Scripted(MarkedAnswers(key)), key, queries=2, pacing=pacing)


def test_an_endless_retry_after_ends_the_run(key: Key) -> None:
    class Patient(Scripted):
        def ask(self, query: Pixels) -> Answer:
            return Answer(None, b"", "", 429, "HTTP 429", retry_after=86400.0)

    with pytest.raises(BudgetError, match=r"asks to wait 24\.0 h"):
        mg.verify(Patient(unmarked_answers), key)


def test_questions_keep_their_distance(key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, slept = [0.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr("modelguard.suspects.interview.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("modelguard.suspects.interview.time.sleep", sleep)
    mg.verify(Scripted(MarkedAnswers(key)), key, queries=3, pacing=Pacing(per_minute=4))
    assert slept == [15.0, 15.0]


@pytest.mark.parametrize(
    "numbers",
    [{"per_minute": 0}, {"attempts": 0}, {"backoff": math.nan}, {"requests": 0}, {"seconds": -1.0}],
)
def test_a_pacing_that_makes_no_sense(numbers: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(numbers))):
        Pacing(**numbers)


# --- cover


def test_photos_are_mixed_in_and_prove_nothing(key: Key, cover: Path, owner: Owner, tmp_path: Path) -> None:
    suspect = Scripted(MarkedAnswers(key))
    verdict = mg.verify(suspect, key, queries=4, cover=cover)
    kinds = [line.kind for line in verdict.transcript.lines]
    assert (kinds.count("trigger"), kinds.count("ordinary")) == (4, 12)
    assert kinds != sorted(kinds)
    assert kinds != sorted(kinds, reverse=True)
    assert (verdict.ordinary, verdict.ordinary_refused, verdict.test.bits) == (12, 0, 1024)
    assert "12 ordinary photos" in str(verdict)
    assert verdict.certify(owner, tmp_path / "evidence").verdict == "match"


def test_a_service_that_refuses_triggers_alone_is_obstructed(key: Key, cover: Path) -> None:
    filtering = Scripted(MarkedAnswers(key), lambda number, query: 422 if is_trigger(query) else None)
    verdict = mg.verify(filtering, key, queries=2, cover=cover)
    assert (verdict.outcome, verdict.refused, verdict.ordinary_refused) == ("obstructed", 2, 0)
    assert not verdict.match
    assert str(verdict).startswith("obstructed: ")


def test_a_service_that_refuses_everything_alike_is_not(key: Key, cover: Path) -> None:
    def often(number: int, query: Pixels) -> int | None:
        return 422 if is_trigger(query) or number % 3 == 0 else None

    with pytest.raises(SuspectError, match="refused all"):
        mg.verify(Scripted(unmarked_answers, often), key, queries=2, cover=cover)


def test_enough_answers_match_whatever_was_refused(key: Key, cover: Path) -> None:
    triggers: list[int] = []

    def but_one(number: int, query: Pixels) -> int | None:
        if not is_trigger(query):
            return None
        triggers.append(number)
        return None if len(triggers) == 1 else 422

    verdict = mg.verify(Scripted(MarkedAnswers(key), but_one), key, queries=4, cover=cover)
    assert (verdict.outcome, verdict.refused) == ("match", 3)


def test_a_folder_without_photos(key: Key, tmp_path: Path) -> None:
    suspect = Scripted(MarkedAnswers(key))
    with pytest.raises(InputError, match="no photos"):
        mg.verify(suspect, key, cover=tmp_path)
    assert suspect.asked == []


# --- sequential


def test_it_stops_as_soon_as_it_knows(key: Key, owner: Owner, tmp_path: Path) -> None:
    said: list[str] = []
    suspect = Scripted(MarkedAnswers(key))
    verdict = mg.verify(suspect, key, queries=5, sequential=True, progress=said.append)
    assert (len(suspect.asked), verdict.queries, verdict.match) == (1, 1, True)
    assert said == [str(verdict)]
    fixed = mg.verify(suspect, key)
    assert verdict.multiplicity.grind_bits == fixed.multiplicity.grind_bits + 1  # one look costs 1 * 2
    checked = verdict.certify(owner, tmp_path / "evidence")
    assert (checked.verdict, len(checked.leaves)) == ("match", 4)
    again = mg.check(tmp_path / "evidence", [owner.public])
    assert again.log10_p_adj == verdict.log10_p_adj
    assert again.multiplicity == verdict.multiplicity


def test_it_goes_on_while_it_does_not_and_pays_for_each_look(key: Key, owner: Owner, tmp_path: Path) -> None:
    suspect = Scripted(MarkedAnswers(key), lambda number, query: 503 if number == 1 else None)
    verdict = mg.verify(
        suspect, key, queries=4, sequential=True, alpha=1e-300, pacing=QUICK, transcript=tmp_path / "t"
    )
    assert (len(suspect.asked), verdict.queries, verdict.outcome) == (5, 4, "inconclusive")
    assert verdict.multiplicity.grind_bits == 70 + 20 + 5  # log2 of C(24, 16) and of 5 * 6, rounded up
    checked = verdict.certify(owner, tmp_path / "evidence")  # at the registered level of 1e-6
    assert (checked.verdict, checked.log10_p_adj) == ("match", verdict.log10_p_adj)


def test_its_budget_ends_in_a_verdict_and_more_budget_resumes(key: Key, tmp_path: Path) -> None:
    suspect = Scripted(unmarked_answers)
    session: dict[str, Any] = {"queries": 4, "sequential": True, "transcript": tmp_path / "t"}
    first = mg.verify(suspect, key, pacing=Pacing(requests=2), **session)
    assert (first.queries, first.outcome) == (2, "inconclusive")
    more = mg.verify(suspect, key, **session)
    assert (more.queries, len(suspect.asked)) == (4, 4)


def test_a_certificate_cannot_hide_its_looks(
    key: Key, owner: Owner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suspect = Scripted(MarkedAnswers(key))
    verdict = mg.verify(suspect, key, queries=5, sequential=True)
    with monkeypatch.context() as patch:  # an examiner with code of his own
        patch.setattr("modelguard.evidence.transcript.Session.looks_bits", lambda self, lines: 0)
        verdict.certify(owner, tmp_path / "evidence")
    with pytest.raises(EvidenceError, match="grindBits: too few"):
        mg.check(tmp_path / "evidence", [owner.public])


def test_an_unfinished_fixed_session_is_not_certified(key: Key, owner: Owner, tmp_path: Path) -> None:
    from modelguard.certifying import certify

    suspect = Scripted(MarkedAnswers(key))
    with pytest.raises(BudgetError):
        mg.verify(suspect, key, queries=3, transcript=tmp_path / "t", pacing=Pacing(requests=2))
    with pytest.raises(EvidenceError, match="not the selected leaves"):
        certify(tmp_path / "t", key, owner, tmp_path / "evidence")


def test_stopping_at_will_keeps_the_level() -> None:
    """Looks after every 8 bits, up to 12 of them, at a level of 5 %: 300 sessions without any mark."""
    random = np.random.default_rng(1)
    rejected = naive = 0
    for _ in range(300):
        bits = random.choice([-1, 1], 96)
        scores = random.integers(-9, 10, 96)
        ps = [10 ** sign_test(bits[:n], scores[:n]).log10_p for n in range(8, 97, 8)]
        charged = [p * 2 ** (looks * (looks + 1) - 1).bit_length() for looks, p in enumerate(ps, 1)]
        rejected += min(charged) <= 0.05
        naive += min(ps) <= 0.05
    assert rejected <= 0.05 * 300
    assert naive > 0.1 * 300  # what the charge is for


# --- stored answers


@pytest.fixture
def queries(key: Key, tmp_path: Path) -> Path:
    """Three exported queries."""
    return export_queries(key, tmp_path / "queries", queries=3)


def test_stored_answers_match_and_are_certified(
    key: Key, owner: Owner, queries: Path, tmp_path: Path
) -> None:
    assert sorted(path.name for path in queries.iterdir()) == [
        "0001.png",
        "0002.png",
        "0003.png",
        "manifest.json",
    ]
    for name, answer, form, outcome in (
        ("thief", MarkedAnswers(key), "JPEG", "match"),
        ("other", unmarked_answers, "WEBP", "inconclusive"),
    ):
        store_answers(queries, tmp_path / name, answer, form)
        verdict = mg.verify(tmp_path / name, key, suspects=2, transcript=tmp_path / f"{name}-session")
        assert (verdict.outcome, verdict.queries, verdict.suspect.kind) == (outcome, 3, "folder")
        checked = verdict.certify(owner, tmp_path / f"{name}-evidence")
        assert checked.verdict == outcome
        assert mg.verify(tmp_path / name, key, transcript=tmp_path / f"{name}-session").test == verdict.test
    assert set(
        mg.verify(FolderSuspect(tmp_path / "thief"), key).transcript.session.leaves(verdict.registration)
    ) == set(checked.leaves)


def test_cover_photos_are_exported_among_the_queries(key: Key, cover: Path, tmp_path: Path) -> None:
    folder = export_queries(key, tmp_path / "queries", queries=2, cover=cover)
    assert len(list(folder.glob("*.png"))) == 14
    store_answers(folder, tmp_path / "answers", MarkedAnswers(key))
    verdict = mg.verify(tmp_path / "answers", key, cover=cover)
    assert (verdict.queries, verdict.ordinary, verdict.match) == (2, 12, True)


def test_a_text_in_place_of_an_answer_is_a_refusal(key: Key, queries: Path, tmp_path: Path) -> None:
    answers = tmp_path / "answers"
    store_answers(queries, answers, MarkedAnswers(key))
    (answers / "0002.png").unlink()
    (answers / "0002.txt").write_text("not a photo")
    verdict = mg.verify(answers, key)
    assert (verdict.refused, verdict.match) == (1, True)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("missing", r"2 of 3 are missing in .*: 0001.png, 0003.png"),
        ("swapped", "looks like the answer to 000[13].png"),
        ("copied", r"0003.png looks like the answer to 0001.png"),
        ("double", "two files for 0002.png"),
        ("no manifest", "no usable manifest.json"),
        ("other manifest", "no usable manifest.json"),
        ("queries", "holds the queries themselves"),
        ("huge", "larger than"),
        ("nothing", "there is no folder"),
    ],
)
def test_answers_in_disorder_are_refused_before_anything_is_recorded(
    key: Key, queries: Path, tmp_path: Path, damage: str, says: str
) -> None:
    answers = tmp_path / "answers"
    if damage != "nothing":
        store_answers(queries, answers, MarkedAnswers(key))
    first, third = answers / "0001.png", answers / "0003.png"
    if damage == "missing":
        first.unlink(), third.unlink()
    elif damage == "swapped":
        first.rename(answers / "x"), third.rename(first), (answers / "x").rename(third)
    elif damage == "copied":
        shutil.copy(first, third)
    elif damage == "double":
        shutil.copy(first, answers / "0002.jpg")
    elif damage == "no manifest":
        (answers / "manifest.json").unlink()
    elif damage == "other manifest":
        (answers / "manifest.json").write_text(json.dumps({"format": "other"}))
    elif damage == "queries":
        answers = queries
    elif damage == "huge":
        first.write_bytes(bytes((16 << 20) + 1))
    with pytest.raises(InputError, match=says) as caught:
        mg.verify(FolderSuspect(answers), key, transcript=tmp_path / "t")
    assert caught.value.remedy
    assert not (tmp_path / "t").exists()


def test_answers_to_another_key_are_refused(key: Key, owner: Owner, queries: Path, tmp_path: Path) -> None:
    store_answers(queries, tmp_path / "answers", unmarked_answers)
    (tmp_path / "k").mkdir()
    with pytest.raises(InputError, match="another key"):
        mg.verify(tmp_path / "answers", registered_key(owner, tmp_path / "k"))
    with pytest.raises(InputError, match="stored answers have the number"):
        mg.verify(tmp_path / "answers", key, queries=2)
    with pytest.raises(InputError, match="exists already"):
        export_queries(key, queries)


# --- a real service, failing


def test_a_failing_service_is_found_out_all_the_same(key: Key, tmp_path: Path) -> None:
    with FaultyService(MarkedAnswers(key)) as service:
        verdict = mg.verify(service.url, key, queries=2, label="vendor X", transcript=tmp_path / "t")
        assert (verdict.match, len(service.log)) == (True, 2)
    text = "".join(path.read_text() for path in (tmp_path / "t").glob("*.json*"))
    assert '"kind":"http-api"' in text
    assert '"rawType":"image/png"' in text


def test_converted_answers_are_recorded(key: Key, owner: Owner, tmp_path: Path) -> None:
    marked = MarkedAnswers(key)
    verdict = mg.verify(lambda query: marked(query).repeat(3, axis=2), key)
    assert (verdict.converted, verdict.match) == (1, True)
    assert [line.converted for line in verdict.transcript.lines] == ["RGB to grey"]
    assert "1 answers converted" in str(verdict)
    assert verdict.certify(owner, tmp_path / "evidence").verdict == "match"
