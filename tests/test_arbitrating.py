"""An examiner who never holds the key, from the first draw to a bundle anyone can check."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import modelguard as mg
from modelguard.arbitrating import ask, certify, draw
from modelguard.errors import BudgetError, InputError, SuspectError
from modelguard.evidence import Opened, Transcript, Triggers
from modelguard.protecting import Protected
from modelguard.suspects import Answer, ModuleSuspect, Pacing


@pytest.fixture(scope="module")
def examiner() -> mg.Owner:
    return mg.Owner("Independent Lab", Ed25519PrivateKey.generate())


class Counting:
    """A suspect that counts what it is asked, and whose first answers are these statuses or exceptions."""

    kind, endpoint = "module", "counted"

    def __init__(self, model: object, *first: int | BaseException) -> None:
        self.inner, self.first, self.asked = ModuleSuspect(model), first, 0  # type: ignore[arg-type]

    def ask(self, query: object) -> Answer:
        self.asked += 1
        if self.asked > len(self.first) or self.first[self.asked - 1] == 200:
            return self.inner.ask(query)  # type: ignore[arg-type]
        status = self.first[self.asked - 1]
        if isinstance(status, BaseException):
            raise status
        return Answer(None, b"", "", status, f"HTTP {status}")


def quick(attempts: int) -> Pacing:
    return Pacing(attempts=attempts, backoff=0.001)


def statuses(transcript: Transcript) -> list[int]:
    return [line.status for line in transcript.lines]


def test_the_whole_way_through_files(
    protected: Protected, owner: mg.Owner, examiner: mg.Owner, tmp_path: Path
) -> None:
    registration = protected.registration.save(tmp_path / "registration.dsse.json")
    trust = [owner.public, examiner.public]
    # examiner, owner, examiner, owner, examiner
    drawn = draw(tmp_path / "session", registration, protected.model, trust=trust[:1], queries=2, label="X")
    triggers = mg.open_triggers(protected.key, tmp_path / "session" / "session.json")
    triggers.save(tmp_path / "triggers.json")
    handed = Triggers.load(tmp_path / "triggers.json", trust[:1])
    transcript = ask(protected.model, handed, drawn.folder)
    bits = mg.open_bits(owner, protected.key, transcript.folder)
    checked = certify(transcript, Opened(handed, bits), examiner, tmp_path / "evidence")
    assert (checked.mode, checked.verdict, checked.bits) == ("arbiter", "match", 256)
    assert mg.check(tmp_path / "evidence", trust) == checked
    assert mg.inspect(tmp_path / "evidence")["bits.dsse.json"]["signedBy"] == [owner.keyid]


def test_an_unmarked_model_is_inconclusive(
    protected: Protected, unmarked: object, owner: mg.Owner, examiner: mg.Owner, tmp_path: Path
) -> None:
    drawn = draw(tmp_path / "session", protected.registration, unmarked)
    triggers = mg.open_triggers(protected.key, drawn.session)
    transcript = ask(unmarked, triggers, drawn)
    opened = Opened(triggers, mg.open_bits(owner, protected.key, transcript))
    assert certify(transcript, opened, examiner, tmp_path / "evidence").verdict == "inconclusive"


def test_no_question_is_asked_twice(protected: Protected, tmp_path: Path) -> None:
    suspect = Counting(protected.model, 429, 429)
    drawn = draw(tmp_path / "session", protected.registration, suspect, queries=3)
    triggers = mg.open_triggers(protected.key, drawn.session)
    assert len(ask(suspect, triggers, drawn, pacing=quick(1)).lines) == 3
    again = ask(suspect, triggers, tmp_path / "session", pacing=quick(2))
    assert suspect.asked == 5  # the two refused ones once more
    assert statuses(again) == [429, 429, 200, 200, 200]
    assert len(ask(suspect, triggers, Transcript(tmp_path / "session")).lines) == 5
    assert drawn.lines == ()  # the folder counts, not what was read of it before


def test_refusals_that_may_pass_are_retried_and_recorded_up_to_a_bound(
    protected: Protected, tmp_path: Path
) -> None:
    said: list[str] = []
    suspect = Counting(protected.model, 503, 429, 200, 503, 503, 503, 403)
    drawn = draw(tmp_path / "session", protected.registration, suspect, queries=3)
    triggers = mg.open_triggers(protected.key, drawn.session)
    asked = ask(suspect, triggers, drawn, pacing=quick(3), progress=said.append)
    assert statuses(asked) == [503, 429, 200, 503, 503, 503, 403]
    assert [line.leaves for line in asked.lines].count(asked.lines[-1].leaves) == 1  # 403 is for good
    assert said == [f"refused: HTTP {status}" for status in (503, 429, 503, 503, 503, 403)]


def test_a_session_cut_off_goes_on_where_it_stopped(
    protected: Protected, owner: mg.Owner, examiner: mg.Owner, tmp_path: Path
) -> None:
    suspect = Counting(protected.model, 200, KeyboardInterrupt())
    drawn = draw(tmp_path / "session", protected.registration, suspect, queries=3)
    triggers = mg.open_triggers(protected.key, drawn.session)
    with pytest.raises(KeyboardInterrupt):
        ask(suspect, triggers, drawn)
    with pytest.raises(BudgetError, match="all 2 questions"):
        ask(suspect, triggers, drawn, pacing=Pacing(requests=2))
    asked = ask(suspect, triggers, drawn)
    assert (suspect.asked, statuses(asked)) == (3, [200, 499, 200])  # that in the air may have been answered
    opened = Opened(triggers, mg.open_bits(owner, protected.key, asked))
    assert certify(asked, opened, examiner, tmp_path / "evidence").verdict == "match"


def test_another_suspect_than_the_session_s_is_not_asked(protected: Protected, tmp_path: Path) -> None:
    drawn = draw(tmp_path / "session", protected.registration, protected.model)
    suspect = Counting(protected.model)
    with pytest.raises(InputError, match="counted is not the session's"):
        ask(suspect, mg.open_triggers(protected.key, drawn.session), drawn)
    assert suspect.asked == 0


def test_nobody_decodes_while_asking(protected: Protected, tmp_path: Path) -> None:
    """Between the two openings no x_b of the session is anywhere in the examiner's objects or files."""
    drawn = draw(tmp_path / "session", protected.registration, protected.model)
    path = mg.open_triggers(protected.key, drawn.session).save(tmp_path / "triggers.json")
    triggers = Triggers.load(path, [protected.registration.owner])
    ask(protected.model, triggers, drawn)
    secrets = [protected.key.leaf(leaf)[1] for leaf in triggers.leaves]
    held = [one for one in gc.get_referents(triggers, *triggers.leaves.values()) if isinstance(one, bytes)]
    assert not set(secrets) & set(held)
    for file in tmp_path.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        assert not any(secret in content or secret.hex().encode() in content for secret in secrets)


def test_refusals_alone_are_an_error(protected: Protected, tmp_path: Path) -> None:
    suspect = Counting(protected.model, *[429] * 9)
    drawn = draw(tmp_path / "session", protected.registration, suspect)
    triggers = mg.open_triggers(protected.key, drawn.session)
    with pytest.raises(SuspectError, match=r"refused every query \(the last time: HTTP 429\)"):
        ask(suspect, triggers, drawn, pacing=quick(3))
    assert suspect.asked == 3


def test_triggers_of_another_session_are_refused(protected: Protected, tmp_path: Path) -> None:
    one = draw(tmp_path / "one", protected.registration, protected.model)
    two = draw(tmp_path / "two", protected.registration, protected.model)
    with pytest.raises(InputError, match="another session"):
        ask(protected.model, mg.open_triggers(protected.key, one.session), two)
    assert two.lines == ()


def test_used_leaves_are_not_opened_silently(protected: Protected, tmp_path: Path) -> None:
    drawn = draw(tmp_path / "one", protected.registration, protected.model, queries=2)
    burnt = protected.key.burn(mg.open_triggers(protected.key, drawn.session).leaves)
    with pytest.raises(InputError, match="used before"):
        mg.open_triggers(burnt, drawn.session)
    with pytest.raises(InputError, match="2 unopened"):
        draw(tmp_path / "two", protected.registration, protected.model, queries=2, exclude=burnt.burnt)
    rest = draw(tmp_path / "two", protected.registration, protected.model, exclude=burnt.burnt)
    assert not set(mg.open_triggers(burnt, rest.session).leaves) & burnt.burnt
