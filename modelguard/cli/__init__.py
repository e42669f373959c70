"""The command line: `modelguard demo`, `protect`, `attack`, `verify`, `certify`, `check` and some more.

One file a command. Heavy rooms are imported inside the commands, so that `modelguard --help` is quick.
"""

from __future__ import annotations

from typing import Annotated

import typer

from modelguard import __version__
from modelguard.cli.app import USAGE, Commands
from modelguard.cli.arbiter import arbiter
from modelguard.cli.attack import attack
from modelguard.cli.bench import Benchmarks
from modelguard.cli.certify import certify
from modelguard.cli.check import check
from modelguard.cli.demo import demo
from modelguard.cli.embed import embed
from modelguard.cli.extract import extract
from modelguard.cli.hide import hide
from modelguard.cli.inspect import inspect
from modelguard.cli.locate import locate
from modelguard.cli.owner import owner
from modelguard.cli.protect import protect
from modelguard.cli.reveal import reveal
from modelguard.cli.verify import verify

__all__ = ["app", "main"]

app = typer.Typer(
    cls=Commands,
    add_completion=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """Mark an image-to-image model as yours, recognise a stolen copy, and sign evidence anyone can check.

    Exit codes: 0 match or success, 1 inconclusive, 2 invalid evidence or failure, 3 usage, 130 interrupted.
    """
    if version:
        print(f"modelguard {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(USAGE)


for command in (demo, protect, verify, certify, check, inspect, embed, extract, hide, reveal, locate):
    app.command()(command)
app.add_typer(attack, name="attack", help="Do to a marked model what a thief would, and see what is left.")
app.add_typer(arbiter, name="arbiter", help="Examine a suspect without ever holding the secret bits.")
app.add_typer(owner, name="owner", help="Make signing keys, hand them over, revoke them.")
app.add_typer(typer.Typer(cls=Benchmarks), name="bench", help="Run a benchmark and record its figures.")


def main() -> None:
    """Run the command line of this process and exit."""
    app()
