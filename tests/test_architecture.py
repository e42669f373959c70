"""The order of rooms in docs/architecture.md: imports only point down."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import modelguard

PACKAGE = Path(modelguard.__file__).parent
PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"
FREE = {"__init__", "__main__", "_alone", "_files", "_version", "errors"}


def rooms() -> list[str]:
    rows = [line for line in PAGE.read_text().splitlines() if re.match(r"\| `[\w./`, ]+` \|", line)]
    return [name for row in rows for name in re.findall(r"`(\w+)(?:/|\.py)`", row.split("|")[1])]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("modelguard."))


def test_every_room_is_on_the_page() -> None:
    names = {path.stem for path in PACKAGE.glob("*.py")}
    names |= {path.parent.name for path in PACKAGE.glob("*/*.py")}
    assert names - FREE == set(rooms())


def test_imports_only_point_down() -> None:
    order = {name: rank for rank, name in enumerate(rooms())}
    upward = [
        f"{path.relative_to(PACKAGE)} imports {used}"
        for path in PACKAGE.rglob("*.py")
        for room in [path.relative_to(PACKAGE).with_suffix("").parts[0]]
        for used in imports(path)
        if room not in FREE and used in order and used != room and order[used] < order[room]
    ]
    assert upward == []
