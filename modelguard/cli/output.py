"""Results on stdout, as text or as one JSON object; everything else on stderr."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


def note(text: str) -> None:
    """Say something on stderr, where progress and remarks go."""
    print(text, file=sys.stderr, flush=True)


def emit(result: Mapping[str, Any], text: str | Table, as_json: bool) -> None:
    """Write the result of a command to stdout.

    Args:
        result: JSON-able; NaN and infinities become null.
        text: the same for people.
        as_json: which of the two.
    """
    if as_json:
        print(json.dumps(_plain(result), indent=1))
    else:
        Console(soft_wrap=True, highlight=False, markup=False).print(text)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table whose first and last columns are text and whose others are numbers."""
    result = Table(title=title, title_justify="left")
    for number, name in enumerate(columns):
        words = number in (0, len(columns) - 1)
        result.add_column(name, justify="left" if words else "right", no_wrap=words)
    for row in rows:
        result.add_row(*row)
    return result


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
