"""`modelguard inspect`: show what a bundle says, without judging it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from modelguard.cli.app import MATCH
from modelguard.cli.check import BUNDLE_HELP
from modelguard.cli.output import note


def inspect(bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help=BUNDLE_HELP)]) -> int:
    """Show what the files of a bundle say as JSON, believing none of it.

    Exit code 0 means that it could be read, and nothing else; `modelguard check` says whether it holds.
    """
    from modelguard.checking import inspect as show

    content = show(bundle)
    note("nothing of this was checked: no signature, no digest, no figure")
    print(json.dumps(content, indent=1))
    return MATCH
