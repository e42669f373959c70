"""Asking with patience and within bounds: every question and refusal is recorded, none is asked in vain."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tenacity import RetryCallState, Retrying, retry_if_result, stop_after_attempt, wait_random_exponential

from modelguard.errors import BudgetError, InputError, ModelGuardError
from modelguard.evidence import Line, Transcript
from modelguard.evidence.blobs import array_digest
from modelguard.suspects.base import Answer, Pixels, Suspect, may_pass

MAX_WAIT = 3600.0
"""Longest wait in seconds that a suspect may ask for; after a longer one the session is to be resumed."""
_MAX_BACKOFF = 60.0
_RESUME = "run it again with the same transcript: it goes on where it stopped"


@dataclass(frozen=True)
class Pacing:
    """How fast and how stubbornly a suspect is asked, and when to stop.

    Attributes:
        per_minute: most questions a minute, repeated ones included; None for as fast as it answers.
        attempts: how often a question is put while its refusal may pass (time-outs, resets, 408, 425, 429,
            5xx, damaged images).
        backoff: longest first wait before it is put again, in seconds; doubles each time up to a minute, of
            which a random part is waited. A longer Retry-After of the suspect is kept to.
        requests: most questions in the whole session, repeated ones and those before a resumption included.
        seconds: most time for this run.

    Raises:
        InputError: a number is out of range.
    """

    per_minute: float | None = None
    attempts: int = 5
    backoff: float = 1.0
    requests: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense."""
        for name in ("per_minute", "seconds", "backoff"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError(f"{name}: {value} is not positive and finite", "give a positive number")
        for name in ("attempts", "requests"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name}: {value} is too few", "allow one or more")


class Interview:
    """Puts questions to a suspect and records each in a transcript before the next.

    Args:
        suspect: who is asked.
        transcript: what was asked before is not asked again; see `put`.
        pacing: how fast and how often.
        say: is told of refusals and waits, a line each.
    """

    def __init__(
        self, suspect: Suspect, transcript: Transcript, pacing: Pacing, say: Callable[[str], None]
    ) -> None:
        self.suspect, self.transcript, self.pacing, self._say = suspect, transcript, pacing, say
        self.last_refusal = ""
        self._next = 0.0
        self._end = math.inf if pacing.seconds is None else time.monotonic() + pacing.seconds
        self._backoff = wait_random_exponential(multiplier=pacing.backoff, max=_MAX_BACKOFF)
        self._before: dict[tuple[str, str], list[Line]] = defaultdict(list)
        for line in transcript.lines:
            self._before[line.kind, line.request].append(line)

    def put(self, kind: str, query: Pixels, leaves: Sequence[int] = ()) -> Pixels | None:
        """Ask until there is an answer, a refusal for good, or no attempt left.

        Args:
            kind: "trigger" or "ordinary".
            query: uint8 (H, W, C).
            leaves: in a trigger, in order.

        Returns:
            The answer, from the transcript if there is one in it; None if it was refused.

        Raises:
            BudgetError: the questions or the time are used up, or the suspect asks for a very long wait.
            SuspectError: asking again cannot help.
        """
        before = self._before[kind, array_digest(query)]
        if before and before[-1].decoded is not None:
            return self.transcript.response(before[-1])
        left = self.pacing.attempts - len(before)
        if left < 1 or (before and not may_pass(before[-1].status)):
            return None
        retrying = Retrying(
            retry=retry_if_result(lambda answer: answer.image is None and may_pass(answer.status)),
            stop=stop_after_attempt(left),
            wait=self._wait,
            sleep=self._sleep,
            retry_error_callback=lambda state: state.outcome and state.outcome.result(),
        )
        answer: Answer = retrying(self._once, kind, query, leaves)
        return answer.image

    def _once(self, kind: str, query: Pixels, leaves: Sequence[int]) -> Answer:
        limit = self.pacing.requests
        if limit is not None and len(self.transcript.lines) >= limit:
            raise BudgetError(f"requests: all {limit} questions are used up", _RESUME)
        self._sleep(max(0.0, self._next - time.monotonic()))
        if self.pacing.per_minute is not None:
            self._next = time.monotonic() + 60 / self.pacing.per_minute
        self.transcript.announce(kind, query, leaves)
        try:
            answer = self.suspect.ask(query)
        except ModelGuardError:
            self.transcript.withdraw()  # it did not answer: on a resumption it may be asked
            raise
        self.transcript.add(
            kind,
            query,
            status=answer.status,
            leaves=leaves,
            raw=answer.raw or None,
            raw_type=answer.media_type if answer.raw else None,
            decoded=answer.image,
            converted=answer.converted or None,
        )
        if answer.image is None:
            self.last_refusal = answer.reason or f"status {answer.status}"
            self._say(f"refused: {self.last_refusal}")
        return answer

    def _wait(self, state: RetryCallState) -> float:
        answer = state.outcome and state.outcome.result()
        asked_for = answer.retry_after if answer else 0.0
        if asked_for > MAX_WAIT:
            raise BudgetError(f"suspect: it asks to wait {asked_for / 3600:.1f} h", _RESUME)
        return max(asked_for, self._backoff(state))

    def _sleep(self, seconds: float) -> None:
        if time.monotonic() + seconds > self._end:
            raise BudgetError(f"seconds: the {self.pacing.seconds:g} s are used up", _RESUME)
        if seconds > 1:
            self._say(f"waiting {seconds:.0f} s")
        if seconds > 0:
            time.sleep(seconds)
