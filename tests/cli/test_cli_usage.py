"""Help, usage errors and the names of models."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from workshop import Run

from modelguard import __version__

COMMANDS = (
    "demo",
    "protect",
    "attack",
    "verify",
    "certify",
    "check",
    "inspect",
    "embed",
    "extract",
    "arbiter",
    "owner",
    "bench",
)


def test_help_lists_all_commands_and_exit_codes(spawn: Run) -> None:
    result = spawn("--help")
    assert result.code == 0
    assert all(command in result.out for command in COMMANDS)
    assert "1 inconclusive, 2 invalid evidence or failure, 3 usage, 130 interrupted" in result.out


def test_importing_the_commands_loads_no_heavy_room() -> None:
    code = "import sys, modelguard.cli; print(sorted({'torch', 'numpy', 'scipy', 'PIL'} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(run: Run, command: str) -> None:
    result = run(command, "--help")
    assert result.code == 0
    assert len(result.out.splitlines()) > 8
    assert result.err == ""


def test_version(run: Run) -> None:
    assert run("--version").out == f"modelguard {__version__}\n"


def test_no_command_shows_the_help_as_a_usage_error(run: Run) -> None:
    result = run()
    assert result.code == 3
    assert "certify" in result.out


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["nonsense"], "nonsense"),
        (["verify"], "--key"),
        (["verify", "--key", "k"], "SUSPECT"),
        (["verify", "--key", "k", "dncnn:denoise-25", "--answers", "a"], "no two of them"),
        (["verify", "dncnn:denoise-25"], "--key"),
        (["verify", "dncnn:denoise-25", "--key", "k", "--queries", "none"], "--queries"),
        (["verify", "dncnn:denoise-25", "--key", "k", "--jpeg", "0"], "--jpeg"),
        (["certify", "t", "--key", "k", "--owner", "o", "--out", "b", "--mode", "judge"], "--mode"),
        (["bench", "nonsense"], "nonsense"),
        (["bench"], "command"),
    ],
)
def test_usage_errors_exit_with_3(run: Run, words: list[str], part: str) -> None:
    result = run(*words)
    assert result.code == 3
    assert result.err.startswith("error: ")
    assert part in result.err
    assert "--help`" in result.err
    assert result.out == ""


def test_usage_error_of_a_process(spawn: Run) -> None:
    result = spawn("verify", "--nonsense")
    assert result.code == 3
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("dncnn", "is no name of a model"),
        ("dncnn/denoise-25", "is no name of a model"),
        ("ftp://example.com/denoise", "no http or https address"),
        ("nowhere.toml", "cannot read nowhere.toml"),
        ("dncnn:none", "choose one of"),
        ("dncnn:denoise-25@2", "has no scale"),
        ("nowhere.at_all:net", "cannot import nowhere.at_all"),
        ("tinynet:missing", "tinynet has no 'missing'"),
        ("tinynet:fails", "no such checkpoint"),
        ("tinynet:Net@2", "only shipped models take a scale"),
    ],
)
def test_wrong_names_of_models_say_what_is_wrong(run: Run, workshop: Path, name: str, part: str) -> None:
    result = run("verify", name, "--key", "protected/key.mgkey")
    assert result.code == 3
    assert part in result.err
    assert "  -> " in result.err


def test_an_error_in_json_is_one_object_too(run: Run, workshop: Path) -> None:
    result = run("verify", "dncnn", "--key", "protected/key.mgkey", "--json")
    assert set(json.loads(result.out)) == {"error", "remedy"}
    assert result.code == 3


def test_a_defect_is_reported_without_a_traceback(
    run: Run, workshop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def defect(*_: object, **__: object) -> None:
        raise RuntimeError("the drum is stuck")

    monkeypatch.setattr("modelguard.verifying.verify", defect)
    result = run("verify", "tinynet:Net", "--key", "protected/key.mgkey")
    assert result.code == 2
    assert result.err.startswith("error: RuntimeError: the drum is stuck\n  -> this is a defect")
