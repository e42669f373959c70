"""`modelguard certify` and `modelguard check`: from a session to evidence a stranger believes."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest
from workshop import PASSPHRASE, Run, everything_in

import modelguard as mg

KEY = "protected/key.mgkey"


@pytest.fixture
def session(run: Run, workshop: Path) -> Path:
    """The workshop after a match was recorded in session/."""
    result = run("verify", "tinynet:Net", "--weights", "protected", "--key", KEY, "--transcript", "session")
    assert result.code == 0
    assert "next: modelguard certify session --key protected/key.mgkey" in result.out
    return workshop


def certified(run: Run, *more: object) -> dict[str, object]:
    words = ("certify", "session", "--key", KEY, "--owner", "acme.pem", "--out", "evidence", "--json", *more)
    result = run(*words)
    assert result.code == 0, result.err
    found: dict[str, object] = json.loads(result.out)
    return found


def test_certify_burns_the_leaves_and_a_stranger_can_check(run: Run, session: Path) -> None:
    found = certified(run, "--suspects", 4)
    assert found["verdict"] == "match"
    assert found["leaves_left"] == 4
    assert mg.Key.load(KEY, PASSPHRASE).burnt == set(found["leaves"])  # type: ignore[call-overload]

    checked = run("check", "evidence", "--trust", "acme.pub.pem", "--json")
    assert checked.code == 0
    seen = json.loads(checked.out)
    assert seen["multiplicity"]["suspects"] == 4
    assert seen["statement"] == found["statement"]
    assert seen["owner"] == "Acme Imaging"

    words = run("check", "evidence", "--trust", "acme.pub.pem").out
    assert words.startswith("match: ")
    assert "not proven:" in words
    assert seen["limits"][0] in words

    again = run("verify", "tinynet:Net", "--weights", "protected", "--key", KEY, "--queries", 2)
    assert again.code == 3  # eight leaves wanted, four are left
    assert run("verify", "tinynet:Net", "--weights", "protected", "--key", KEY).code == 0


def test_more_suspects_than_declared_can_undo_a_match(run: Run, session: Path) -> None:
    certified(run)
    for counted in ("--suspects", "--registrations"):
        assert run("check", "evidence", "--trust", "acme.pub.pem", counted, 10**80).code == 1


def test_an_inconclusive_session_is_certified_as_such(run: Run, workshop: Path) -> None:
    assert run("verify", "tinynet:Net", "--key", KEY, "--transcript", "session").code == 1
    words = ("certify", "session", "--key", KEY, "--owner", "acme.pem", "--out", "evidence")
    assert run(*words).code == 1
    assert run("check", "evidence", "--trust", "acme.pub.pem").code == 1


def test_evidence_that_does_not_hold_exits_with_2(run: Run, session: Path) -> None:
    certified(run)
    mg.Owner.create("other.pem", "Somebody").save_public("other.pub.pem")
    strangers = run("check", "evidence", "--trust", "other.pub.pem")
    assert strangers.code == 2
    transcript = session / "evidence" / "transcript.jsonl"
    transcript.write_bytes(transcript.read_bytes().replace(b'"status":200', b'"status":201'))
    changed = run("check", "evidence", "--trust", "acme.pub.pem")
    assert changed.code == 2
    assert changed.err.startswith("error: transcript.")
    assert changed.out == ""
    assert run("check", "nowhere", "--trust", "acme.pub.pem").code == 2
    assert run("check", "evidence", "--trust", "nowhere.pem").code == 3


def test_a_witness_signs_with_a_key_of_his_own(run: Run, session: Path) -> None:
    mg.Owner.create("witness.pem", "A notary").save_public("witness.pub.pem")
    words = ("certify", "session", "--key", KEY, "--out", "evidence", "--mode", "witness")
    refused = run(*words, "--owner", "acme.pem")
    assert refused.code == 2
    assert mg.Key.load(KEY, PASSPHRASE).burnt == set()
    assert run(*words, "--owner", "witness.pem").code == 0
    assert run("check", "evidence", "--trust", "acme.pub.pem").code == 2
    both = run("check", "evidence", "--trust", "acme.pub.pem", "--trust", "witness.pub.pem", "--json")
    assert both.code == 0
    assert json.loads(both.out)["examiner"] == "A notary"


@pytest.mark.parametrize(
    ("change", "code", "part"),
    [
        ({"--out": "photos"}, 3, "photos exists already"),
        ({"--owner": "nobody.pem"}, 3, "--create-owner"),
        ({"--key": "acme.pem"}, 2, "holds 'owner', not 'key'"),
        ({"session": "nowhere"}, 2, "session.json"),
    ],
)
def test_wrong_files_leave_nothing_behind(
    run: Run, session: Path, change: dict[str, str], code: int, part: str
) -> None:
    words = {"session": "session", "--key": KEY, "--owner": "acme.pem", "--out": "evidence"} | change
    before = everything_in(session)
    result = run("certify", words.pop("session"), *(word for pair in words.items() for word in pair))
    assert result.code == code
    assert part in result.err
    assert everything_in(session) == before
    assert mg.Key.load(KEY, PASSPHRASE).burnt == set()


def test_a_session_of_another_key_is_not_certified(run: Run, session: Path, built: Path) -> None:
    certified(run)
    shutil.rmtree("evidence")
    shutil.copy(built / "protected" / "key.mgkey", "old.mgkey")  # from a backup: its leaves are not burnt
    lines = (session / "session" / "session.json").read_text()
    (session / "session" / "session.json").write_text(lines.replace('"count":4', '"count":5'))
    result = run("certify", "session", "--key", "old.mgkey", "--owner", "acme.pem", "--out", "evidence")
    assert result.code == 2
    assert "its triggers are not the selected leaves" in result.err


def test_a_zip_is_checked_and_inspected_like_its_folder(run: Run, session: Path) -> None:
    certified(run)
    with zipfile.ZipFile("evidence.zip", "w") as archive:
        for file in Path("evidence").rglob("*"):
            archive.write(file, file.relative_to("evidence"))
    assert run("check", "evidence.zip", "--trust", "acme.pub.pem").code == 0
    shown = run("inspect", "evidence.zip")
    assert shown.code == 0
    assert "nothing of this was checked" in shown.err
    seen = json.loads(shown.out)
    assert seen == json.loads(run("inspect", "evidence").out)
    assert seen["certificate.dsse.json"]["predicate"]["examiner"]["name"] == "Acme Imaging"
    with zipfile.ZipFile("evidence.zip", "a") as archive:
        archive.writestr("../acme.pem", "x")
    for command in (("check", "evidence.zip", "--trust", "acme.pub.pem"), ("inspect", "evidence.zip")):
        refused = run(*command)
        assert refused.code == 2
        assert "unknown file '../acme.pem'" in refused.err


def test_check_writes_a_page_for_people_only_if_the_bundle_holds(run: Run, session: Path) -> None:
    certified(run)
    words = ("check", "evidence", "--trust", "acme.pub.pem", "--report", "page.html")
    assert run(*words).code == 0
    assert "Acme Imaging" in Path("page.html").read_text()
    assert run(*words).code == 3  # it exists
    Path("page.html").unlink()
    Path("evidence/transcript.jsonl").write_bytes(b"")
    assert run(*words).code == 2
    assert not Path("page.html").exists()


@pytest.mark.parametrize("size", [0, 10, 2000])
def test_truncated_files_exit_with_2(run: Run, session: Path, size: int) -> None:
    certified(run)
    for name in ("registration.dsse.json", "certificate.dsse.json", "transcript.jsonl"):
        whole = Path("evidence", name).read_bytes()
        Path("evidence", name).write_bytes(whole[: min(size, len(whole) - 1)])
        refused = run("check", "evidence", "--trust", "acme.pub.pem")
        assert refused.code == 2
        assert refused.err.startswith("error: ")
        assert "\n  -> " in refused.err
        Path("evidence", name).write_bytes(whole)
    assert run("check", "evidence", "--trust", "acme.pub.pem").code == 0
