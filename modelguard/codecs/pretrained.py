"""Codecs by name: weights that ship, or a file of one's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from modelguard import weights
from modelguard.errors import InputError

Net = TypeVar("Net", bound=nn.Module)


def shipped(family: str) -> list[str]:
    """Return the names of the weights of a family that ship, without the family."""
    prefix = f"{family}-"
    return [name.removeprefix(prefix) for name in weights.names() if name.startswith(prefix)]


def pretrained(family: str, name: str | Path, build: Callable[[dict[str, Any]], Net]) -> tuple[Net, str]:
    """Return a net with its weights, and the name that its file gives it.

    Args:
        family: such as "dbmark": begins the names of shipped weights and holds the sizes in a file.
        name: of weights that ship, without the family, or path of a safetensors file. Its SHA-256 is checked
            against the card beside it, which a file of one's own may lack.
        build: makes the net from its sizes.

    Raises:
        InputError: nothing of that name ships, or the file holds no net of this family.
        WeightsError: the file is not the one its card describes.
    """
    title, names = family.upper(), shipped(family)
    if str(name) in names:
        path = weights.FOLDER / f"{family}-{name}.safetensors"
    elif Path(name).is_file():
        path = Path(name)
    else:
        raise InputError(
            f"name: no {title} weights {str(name)!r} ship, and no file is called that",
            f"choose one of {', '.join(names)}" if names else f"train some: see docs/{family}.md",
        )
    data = weights.read(path)
    config = weights.config(data)
    try:
        net, own = build(config[family]), str(config["name"])
    except (TypeError, LookupError) as error:
        raise InputError(
            f"weights: {path} holds no {title} net", f"give a file that publish_{family} has written"
        ) from error
    weights.load_state(net, data)
    return net, own
