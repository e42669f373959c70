"""What the public parameters of every scheme must be: its id, and whole numbers by name, none too many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def form_problem(scheme: Mapping[str, object], id: str, names: Sequence[str]) -> str | None:
    """Return what is wrong with the form of public parameters, in words, or None.

    Args:
        scheme: public parameters.
        id: of the scheme they should be of.
        names: of its numbers.
    """
    if scheme.get("id") != id:
        return f"id {scheme.get('id')!r} is not {id}"
    if odd := scheme.keys() ^ {"id", *names}:
        return f"{', '.join(sorted(odd))} is missing or unknown"
    if odd := {name for name in names if type(scheme[name]) is not int}:
        return f"{', '.join(sorted(odd))} is no integer"
    return None
