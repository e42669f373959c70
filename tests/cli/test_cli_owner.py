"""`modelguard owner`, and timestamps and revocations in the other commands."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from workshop import PASSPHRASE, Run

import modelguard as mg


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODELGUARD_PASSPHRASE", PASSPHRASE)
    return tmp_path


def created(run: Run, name: str, *more: object) -> dict[str, Any]:
    result = run("owner", "create", f"{name}.pem", "--name", name, "--json", *more)
    assert result.code == 0, result.err
    found: dict[str, Any] = json.loads(result.out)
    return found


def test_create_and_show(run: Run, place: Path) -> None:
    recovery = created(run, "rescue")
    made = created(run, "acme", "--alg", "ecdsa-p256", "--recovery", "rescue.pub.pem")
    assert (made["alg"], made["recovery"]) == ("ecdsa-p256", recovery["keyid"])
    assert mg.PublicKey.load("acme.pub.pem").keyid == made["keyid"]
    shown = run("owner", "show", "acme.pem")
    assert shown.code == 0
    assert made["keyid"] in shown.out
    assert run("owner", "create", "acme.pem", "--name", "again").code == 3
    assert run("owner", "create", "other.pem", "--name", "x", "--recovery", "nowhere").code == 3
    assert not Path("other.pem").exists()


def test_rotate_and_revoke(run: Run, place: Path) -> None:
    old, new = created(run, "old"), created(run, "new")
    done = run(
        "owner", "rotate", "old.pem", "new.pem", "--reason", "yearly", "--out", "r.dsse.json", "--json"
    )
    assert done.code == 0, done.err
    assert json.loads(done.out)["target"] == old["keyid"]
    ended = run("owner", "revoke", "new.pem", "--reason", "stolen", "--out", "v.dsse.json")
    assert ended.code == 0
    assert new["keyid"] in ended.out
    assert "publish" in ended.out
    again = run("owner", "revoke", "new.pem", "--reason", "stolen", "--out", "v.dsse.json")
    assert again.code == 3


def test_a_lost_key_is_replaced_by_its_recovery_key(run: Run, place: Path) -> None:
    created(run, "rescue")
    lost = created(run, "old", "--recovery", "rescue.pub.pem")
    created(run, "new")
    Path("old.pem").unlink()
    words = ("--recovery", "rescue.pem", "--reason", "lost", "--out", "r.dsse.json", "--json")
    done = run("owner", "rotate", "old.pub.pem", "new.pem", *words)
    assert done.code == 0, done.err
    assert json.loads(done.out)["target"] == lost["keyid"]


def test_what_is_wrong_is_named(run: Run, place: Path) -> None:
    created(run, "acme")
    base = ("owner", "revoke", "acme.pem", "--reason", "x", "--out", "v.dsse.json")
    for more in (
        ("--target", "everything"),
        ("--effective", "yesterday"),
        ("--tsa", "http://127.0.0.1:9/"),
        ("--tsa", "ftp://x/", "--tsa-root", "acme.pub.pem"),
        ("--tsa", "http://127.0.0.1:9/", "--tsa-root", "acme.pub.pem"),
    ):
        result = run(*base, *more)
        assert result.code == 3, more
        assert "->" in result.err
    assert run(*base[:-1], "v.json").code == 3
    assert not list(place.glob("v.*"))


@pytest.fixture
def typing(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A terminal at which these words are typed."""
    words: list[str] = []
    monkeypatch.delenv("MODELGUARD_PASSPHRASE")
    monkeypatch.setattr("getpass.getpass", lambda prompt="": words.pop(0))
    monkeypatch.setattr("modelguard.cli.secrets.sys", _Terminal())
    monkeypatch.setattr("modelguard.evidence.sealed.sys", _Terminal())
    return words


class _Terminal:
    def __init__(self) -> None:
        self.stdin = self

    def isatty(self) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        return getattr(sys, name)


def test_a_wrong_passphrase_may_be_typed_three_times(
    run: Run, place: Path, request: pytest.FixtureRequest
) -> None:
    created(run, "acme")
    words = request.getfixturevalue("typing")
    words += ["wrong", "again", PASSPHRASE]
    result = run("owner", "show", "acme.pem")
    assert result.code == 0
    assert "2 more to go" in result.err
    words += ["wrong", "again", "thrice", PASSPHRASE]
    result = run("owner", "show", "acme.pem")
    assert result.code == 2
    assert "passphrase" in result.err
    assert words == [PASSPHRASE]  # it is not asked for a fourth time


def test_a_wrong_passphrase_in_the_environment_is_not_asked_again(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    created(run, "acme")
    monkeypatch.setenv("MODELGUARD_PASSPHRASE", "wrong")
    assert run("owner", "show", "acme.pem").code == 2


def test_stamped_from_protect_to_check(run: Run, workshop: Path) -> None:
    """The whole way with a timestamp authority, and a revocation at its end."""
    pytest.importorskip("rfc3161_client")
    sys.path.insert(0, str(Path(__file__).parents[1] / "evidence"))
    try:
        from tsa import Authority
    finally:
        sys.path.pop(0)
    with Authority(workshop / "tsa") as tsa:
        stamps = ("--tsa", tsa.url, "--tsa-root", tsa.root)
        words = ("tinynet:Net", "stamped", "--data", "photos", "--owner", "acme.pem", "--steps", 400, *stamps)
        made = run("protect", *words, "--leaves", 8)
        assert made.code == 0, made.err
        assert Path("stamped/registration.tsr").exists()
        key = ("--key", "stamped/key.mgkey")
        weights = ("--weights", "stamped")
        asked = run("verify", "tinynet:Net", *weights, *key, "--transcript", "session", "--json")
        assert asked.code == 0, asked.err
        words = ("certify", "session", *key, "--owner", "acme.pem", "--out", "evidence", *stamps, "--json")
        signed = run(*words)
        assert signed.code == 0, signed.err
        assert json.loads(signed.out)["multiplicity"]["grind_bits"] == 24 + 7  # C(8, 4) = 70 sets of leaves
        revoked = ("owner", "revoke", "acme.pem", "--reason", "x", "--effective", "2020-01-01T00:00:00Z")
        assert run(*revoked, "--out", "v.dsse.json", *stamps).code == 0
        root = tsa.root
    check = ("check", "evidence", "--trust", "acme.pub.pem")
    assert run(*check, "--tsa-root", root).code == 0  # offline: the authority is gone
    missing = run(*check)
    assert missing.code == 3
    assert "tsa_roots" in missing.err
    ended = run(*check, "--tsa-root", root, "--revocation", "v.dsse.json")
    assert ended.code == 2
    assert "revoked from 2020-01-01T00:00:00Z" in ended.err
