"""`modelguard arbiter`: both sides of an examination, through files alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from workshop import PASSPHRASE, Run

import modelguard as mg

KEY = ("--key", "protected/key.mgkey")
MODEL = ("tinynet:Net", "--weights", "protected")
TRUST = ("--trust", "acme.pub.pem")
REGISTRATION = ("--registration", "protected/registration.dsse.json")
TRIGGERS = ("--triggers", "triggers.json", *TRUST)


@pytest.fixture
def lab(workshop: Path) -> Path:
    """The workshop with an examiner, lab.pem."""
    mg.Owner.create("lab.pem", "Independent Lab", PASSPHRASE).save_public("lab.pub.pem")
    return workshop


def good(run: Run, *words: object) -> dict[str, Any]:
    result = run("arbiter", *words, "--json")
    assert result.code == 0, result.err
    found: dict[str, Any] = json.loads(result.out)
    return found


def test_from_draw_to_check(run: Run, lab: Path) -> None:
    drawn = good(run, "draw", *MODEL, *REGISTRATION, *TRUST, "--out", "session", "--label", "vendor X")
    assert drawn == {"session": "session/session.json", "leaves": 4}

    opened = good(run, "open-triggers", "session/session.json", *KEY, "--out", "triggers.json")
    assert opened["leaves_left"] == 4
    assert mg.Key.load(KEY[1], PASSPHRASE).burnt == set(opened["leaves"])
    again = run("arbiter", "open-triggers", "session/session.json", *KEY, "--out", "again.json")
    assert again.code == 3
    assert "used before" in again.err

    early = run("arbiter", "open-bits", "session", *KEY, "--owner", "acme.pem", "--out", "bits.dsse.json")
    assert early.code == 2  # nothing was asked yet
    assert not Path("bits.dsse.json").exists()

    for _ in range(2):  # once is enough
        answered = good(run, "ask", *MODEL[:1], "session", *MODEL[1:], *TRIGGERS)
        assert (answered["questions"], answered["answers"]) == (1, 1)

    bits = ("--owner", "acme.pem", "--out", "bits.dsse.json")
    assert good(run, "open-bits", "session", *KEY, *bits)["leaves"] == opened["leaves"]
    words = ("session", *TRIGGERS, "--bits", "bits.dsse.json", "--owner", "lab.pem", "--out", "evidence")
    signed = good(run, "certify", *words, "--suspects", 3)
    assert (signed["verdict"], signed["mode"], signed["examiner"]) == ("match", "arbiter", "Independent Lab")
    assert signed["suspect"]["label"] == "vendor X"

    checked = run("check", "evidence", *TRUST, "--trust", "lab.pub.pem", "--json")
    assert checked.code == 0, checked.err
    assert json.loads(checked.out)["log10_p_adj"] == signed["log10_p_adj"]


def test_what_is_wrong_is_named_and_nothing_is_written(run: Run, lab: Path) -> None:
    draw = ("draw", *MODEL, *REGISTRATION, "--out", "session")
    good(run, *draw, *TRUST)
    good(run, "open-triggers", "session/session.json", *KEY, "--out", "triggers.json")
    ask = ("ask", "tinynet:Net", "session", "--weights", "protected")
    before = mg.Key.load(KEY[1], PASSPHRASE).burnt
    for words, code, part in (
        ((*draw, *TRUST), 3, "exists already"),
        (("draw", *MODEL, *REGISTRATION, "--out", "other", "--trust", "lab.pub.pem"), 2, "trust"),
        (("open-triggers", "triggers.json", *KEY, "--out", "t.json"), 2, "session"),
        (("open-triggers", "session/session.json", *KEY, "--out", "triggers.json"), 3, "exists already"),
        ((*ask, "--triggers", "triggers.json", "--trust", "lab.pub.pem"), 2, "trust"),
        (("ask", "tinynet:ready", "session", *TRIGGERS, "--per-minute", "0"), 3, "per_minute"),
        (("ask", "tinynet:Cropping", "session", *TRIGGERS), 3, "is not the session's"),
        (("ask", "tinynet:Net", "nowhere", *TRIGGERS), 2, "nowhere"),
        (("open-bits", "session", *KEY, "--owner", "lab.pem", "--out", "b.dsse.json"), 3, "owner"),
    ):
        result = run("arbiter", *words)
        assert (result.code, part in result.err) == (code, True), (words, result.err)
        assert "  -> " in result.err
        assert "Traceback" not in result.err
    assert mg.Key.load(KEY[1], PASSPHRASE).burnt == before
    assert not any(Path(name).exists() for name in ("other", "t.json", "b.dsse.json", "nowhere"))


@pytest.mark.parametrize("step", ["draw", "open-triggers", "ask", "open-bits", "certify"])
def test_each_step_says_whose_it_is(run: Run, step: str) -> None:
    result = run("arbiter", step, "--help")
    assert result.code == 0
    assert ("owner:" if step.startswith("open") else "examiner:") in result.out
