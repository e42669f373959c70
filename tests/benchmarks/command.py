"""Benchmarks as they are called from a command line."""

from __future__ import annotations

from collections.abc import Callable

import typer
from typer.testing import CliRunner


def app(main: Callable[..., None]) -> Callable[..., str]:
    """Return a function that takes the words after the command, and returns what was printed."""
    one = typer.Typer()
    one.command()(main)

    def run(*words: object) -> str:
        result = CliRunner().invoke(one, list(map(str, words)), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    return run
