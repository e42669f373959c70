"""`modelguard verify`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from workshop import Run

from modelguard.benchmarks.faults import FaultyService, unmarked_answers
from modelguard.benchmarks.suspects import store_answers

KEY = "protected/key.mgkey"
STOLEN = ("tinynet:Net", "--weights", "protected")


def test_a_stolen_model_matches(run: Run, workshop: Path) -> None:
    result = run("verify", *STOLEN, "--key", KEY, "--suspects", 3, "--label", "the shop", "--json")
    assert result.code == 0
    found = json.loads(result.out)
    assert found["verdict"] == "match"
    assert found["suspect"]["label"] == "the shop"
    assert (found["bits"], found["suspects"], found["queries"], found["transcript"]) == (256, 3, 1, None)
    assert found["matches"] > 200
    assert found["log10_p"] < found["log10_p_adj"] < -6


def test_the_unmarked_model_is_inconclusive(run: Run, workshop: Path) -> None:
    result = run("verify", "tinynet:Net", "--key", KEY)
    assert result.code == 1
    assert result.out.startswith("inconclusive: ")


def test_a_weaker_level_or_more_suspects_change_the_verdict(run: Run, workshop: Path) -> None:
    strict = run("verify", *STOLEN, "--key", KEY, "--alpha", "1e-300")
    assert strict.code == 1


def test_a_jpeg_service_and_a_model_that_is_there_already_are_asked(run: Run, workshop: Path) -> None:
    assert run("verify", *STOLEN, "--key", KEY, "--jpeg", 75).code == 0
    assert run("verify", "tinynet:ready", "--key", KEY, "--jpeg", 75).code == 1


def test_a_function_is_asked_but_takes_neither_weights_nor_jpeg(run: Run, workshop: Path) -> None:
    assert run("verify", "tinynet:blur", "--key", KEY).code == 1
    weighted = run("verify", "tinynet:blur", "--key", KEY, "--weights", "protected")
    assert "leave the weights out" in weighted.err
    assert run("verify", "tinynet:blur", "--key", KEY, "--jpeg", 75).code == 3


def test_what_cannot_be_asked_is_refused(run: Run, workshop: Path) -> None:
    result = run("verify", "tinynet:text", "--key", KEY)
    assert result.code == 3
    assert "'a model' cannot be asked" in result.err


def test_non_finite_answers_are_a_failure(run: Run, workshop: Path) -> None:
    result = run("verify", "tinynet:Broken", "--key", KEY)
    assert result.code == 2
    assert "non-finite" in result.err


def test_weights_that_do_not_fit(run: Run, workshop: Path) -> None:
    assert run("verify", "tinynet:Net", "--weights", "nowhere.safetensors", "--key", KEY).code == 3
    (workshop / "text.safetensors").write_text("not weights")
    result = run("verify", "tinynet:Net", "--weights", "text.safetensors", "--key", KEY)
    assert result.code == 3
    assert "not a safetensors file" in result.err


@pytest.mark.parametrize("damage", ["truncated", "foreign", "wrong kind"])
def test_a_key_file_that_is_none(run: Run, workshop: Path, damage: str) -> None:
    key = workshop / KEY
    whole = key.read_bytes()
    key.write_bytes({"truncated": whole[:-40], "foreign": b"PK\x03\x04" * 99}.get(damage, b""))
    if damage == "wrong kind":
        key.write_bytes((workshop / "acme.pem").read_bytes())
    result = run("verify", *STOLEN, "--key", KEY)
    assert result.code == 2
    assert result.err.startswith("error: key file: ")
    assert result.out == ""


def test_wrong_and_missing_passphrases(run: Run, workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELGUARD_PASSPHRASE", "wrong")
    result = run("verify", *STOLEN, "--key", KEY)
    assert result.code == 2
    assert "passphrase: does not open this file" in result.err
    monkeypatch.delenv("MODELGUARD_PASSPHRASE")
    result = run("verify", *STOLEN, "--key", KEY)
    assert result.code == 3
    assert "MODELGUARD_PASSPHRASE" in result.err


def test_a_missing_key_file_and_an_existing_transcript_are_usage_errors(run: Run, workshop: Path) -> None:
    assert run("verify", *STOLEN, "--key", "nowhere.mgkey").code == 3
    result = run("verify", *STOLEN, "--key", KEY, "--transcript", "photos")
    assert result.code == 3
    assert "transcript: photos exists already" in result.err


def test_a_service_is_asked_by_address_and_by_description(run: Run, workshop: Path) -> None:
    with FaultyService(unmarked_answers) as service:
        result = run("verify", service.url, "--key", KEY, "--json", "--per-minute", 600)
        assert result.code == 1
        assert json.loads(result.out)["suspect"]["endpoint"] == service.url
        (workshop / "service.toml").write_text(f'url = "{service.url}"\nformat = "webp"')
        result = run("verify", "service.toml", "--key", KEY, "--cover", "photos", "--transcript", "t")
        assert result.code == 1
        assert "4 ordinary photos" in result.out
        again = run("verify", "service.toml", "--key", KEY, "--cover", "photos", "--transcript", "t")
        assert again.out == result.out
    assert len(service.log) == 1 + 5


def test_ctrl_c_says_how_to_resume(run: Run, workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: object, query: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("modelguard.suspects.ModuleSuspect.ask", interrupt)
        result = run("verify", *STOLEN, "--key", KEY, "--queries", 2, "--transcript", "t")
    assert result.code == 130
    assert "to resume: the same command again; t holds" in result.err
    result = run("verify", *STOLEN, "--key", KEY, "--queries", 2, "--transcript", "t")
    assert result.code == 0
    assert "1 refused" in result.out


def test_a_sequential_session_stops_early_and_tells(run: Run, workshop: Path) -> None:
    result = run("verify", *STOLEN, "--key", KEY, "--queries", 2, "--sequential", "--json")
    assert result.code == 0
    assert json.loads(result.out)["queries"] == 1
    assert result.err.startswith("match: ")


def test_stored_answers_of_one_and_of_many(run: Run, workshop: Path) -> None:
    result = run("verify", "--key", KEY, "--export-queries", "ask", "--queries", 2, "--json")
    assert (result.code, json.loads(result.out)["queries"]) == (0, 2)
    for name in ("x", "y"):
        store_answers(workshop / "ask", workshop / name, unmarked_answers)
    assert run("verify", "--key", KEY, "--answers", "x", "--transcript", "t").code == 1
    result = run("verify", "--key", KEY, "--answers", "x", "--answers", "y", "--json", "--transcript", "many")
    assert result.code == 1
    found = json.loads(result.out)
    assert [(one["suspect"]["label"], one["suspects"]) for one in found["results"]] == [("x", 2), ("y", 2)]
    assert sorted(path.name for path in (workshop / "many").iterdir()) == ["x", "y"]
    (workshop / "y" / "0001.png").unlink()
    result = run("verify", "--key", KEY, "--answers", "x", "--answers", "y", "--json")
    assert result.code == 2
    assert json.loads(result.out)["failed"] == 1
    assert "1 of 2 are missing" in result.err


def test_too_many_queries_for_the_leaves_that_are_left(run: Run, workshop: Path) -> None:
    result = run("verify", *STOLEN, "--key", KEY, "--queries", 3)
    assert result.code == 3
    assert "12 leaves wanted, 8 unopened" in result.err
