"""What every command shares: exit codes that mean something, and errors without a traceback."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import typer
from typer.core import TyperGroup

import modelguard
from modelguard.cli.output import note
from modelguard.errors import InputError, ModelGuardError

MATCH, INCONCLUSIVE, FAILURE, USAGE, INTERRUPTED = 0, 1, 2, 3, 130
TRACEBACK_VARIABLE = "MODELGUARD_TRACEBACK"

_PACKAGE = str(Path(modelguard.__file__).parent)
# typer exports no name for the base of its usage errors, and newer ones no longer take it from click
_USAGE_ERROR: Any = typer.BadParameter.__mro__[1]


class Commands(TyperGroup):
    """Commands that return their exit code; an error becomes a message on stderr and one of the codes."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command line and exit, or return the exit code if not in standalone mode."""
        as_json = "--json" in (sys.argv[1:] if args is None else args)
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = _show_warning
            try:
                code = super().main(args, prog_name, complete_var, False, windows_expand_args, **extra) or 0
                if code == INTERRUPTED:
                    _report("interrupted", "nothing is left half-written", as_json)
            except Exception as error:
                if os.environ.get(TRACEBACK_VARIABLE):
                    raise
                code = _explain(error, as_json)
        if standalone_mode:
            sys.exit(code)
        return code


def _explain(error: Exception, as_json: bool) -> int:
    if isinstance(error, _USAGE_ERROR):
        command = error.ctx.command_path if error.ctx else "modelguard"
        _report(error.format_message(), f"try `{command} --help`", as_json)
        return USAGE
    if isinstance(error, ModelGuardError):
        _report(error.message, error.remedy, as_json)
        return USAGE if isinstance(error, InputError) else FAILURE
    if isinstance(error, OSError):
        _report(str(error), "check the path, the permissions and the free space", as_json)
        return FAILURE
    if isinstance(error, typer.Abort):
        _report("nothing was entered", "answer the question, or set MODELGUARD_PASSPHRASE", as_json)
        return USAGE
    remedy = f"this is a defect of modelguard: set {TRACEBACK_VARIABLE}=1 for the traceback and report it"
    _report(f"{type(error).__name__}: {error}", remedy, as_json)
    return FAILURE


def _report(message: str, remedy: str, as_json: bool) -> None:
    note(f"error: {message}" + (f"\n  -> {remedy}" if remedy else ""))
    if as_json:
        print(json.dumps({"error": message, "remedy": remedy}))


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show warnings of ours as notes; those of libraries are for their developers."""
    if issubclass(category, UserWarning) and filename.startswith(_PACKAGE):
        note(f"note: {message}")
