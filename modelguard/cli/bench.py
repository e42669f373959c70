"""`modelguard bench NAME`: one command for each module of `modelguard.benchmarks` that has a `main`."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

import modelguard

FOLDER = Path(modelguard.__file__).parent / "benchmarks"


class Benchmarks(TyperGroup):
    """Commands found in the folder of benchmarks; a module is imported when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the benchmarks."""
        main = re.compile(r"^def main\(", re.MULTILINE)
        return sorted(path.stem for path in FOLDER.glob("*.py") if main.search(path.read_text()))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of one benchmark, or None if there is none of that name."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"modelguard.benchmarks.{cmd_name}")
        one = typer.Typer(add_completion=False)
        one.command(name=cmd_name, help=module.__doc__)(module.main)
        return typer.main.get_command(one)
