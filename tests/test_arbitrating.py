"""An examiner who never holds the key, from the first draw to a bundle anyone can check."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import modelguard as mg
from modelguard.arbitrating import ask, certify, draw
from modelguard.errors import InputError, SuspectError
from modelguard.evidence import Opened, Transcript, Triggers
from modelguard.protecting import Protected
from modelguard.suspects import Answer, ModuleSuspect


@pytest.fixture(scope="module")
def examiner() -> mg.Owner:
    return mg.Owner("Independent Lab", Ed25519PrivateKey.generate())


class Counting:
    """A suspect that counts what it is asked, and refuses the first `refusals` queries."""

    kind, endpoint = "module", "counted"

    def __init__(self, model: object, refusals: int = 0) -> None:
        self.inner, self.refusals, self.asked = ModuleSuspect(model), refusals, 0  # type: ignore[arg-type]

    def ask(self, query: object) -> Answer:
        self.asked += 1
        if self.asked <= self.refusals:
            return Answer(None, b"", "", 429)
        return self.inner.ask(query)  # type: ignore[arg-type]


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
    drawn = draw(tmp_path / "session", protected.registration, protected.model, queries=3)
    triggers = mg.open_triggers(protected.key, drawn.session)
    suspect = Counting(protected.model, refusals=2)
    assert len(ask(suspect, triggers, drawn).lines) == 3
    again = ask(suspect, triggers, tmp_path / "session")
    assert suspect.asked == 5  # the two refused ones once more
    assert [line.status for line in again.lines] == [429, 429, 200, 200, 200]
    assert len(ask(suspect, triggers, Transcript(tmp_path / "session")).lines) == 5


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
    drawn = draw(tmp_path / "session", protected.registration, protected.model)
    triggers = mg.open_triggers(protected.key, drawn.session)
    with pytest.raises(SuspectError, match="refused every query"):
        ask(Counting(protected.model, refusals=9), triggers, drawn)


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
