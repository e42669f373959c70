"""How tables name hosts and write figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelguard.statistics import Multiplicity

HOSTS = {
    "dncnn": "DnCNN",
    "dncnn-colour": "DnCNN by colour",
    "red": "RED",
    "vdsr-2": "VDSR x2",
    "vdsr-3": "VDSR x3",
    "vdsr-4": "VDSR x4",
    "kair": "DnCNN, public weights",
    "vdsr-public-2": "VDSR x2, public weights",
    "vdsr-public-3": "VDSR x3, public weights",
    "vdsr-public-4": "VDSR x4, public weights",
}

Result = dict[str, Any]
Row = Sequence[object]


def known_host(name: str) -> str:
    """Return the longest name of a host that `name` begins with, or nothing."""
    return max((host for host in HOSTS if name.startswith(host)), key=len, default="")


def host_title(name: str) -> str:
    """Return a name of a result as tables show it: the host, then its tag."""
    known = known_host(name)
    tag = name.removeprefix(known).strip("-_ ")
    return ", ".join(filter(None, (HOSTS.get(known), tag)))


def host_rank(name: str) -> tuple[int, str]:
    """Return what results are put in order by."""
    return [*HOSTS, ""].index(known_host(name)), name


def p_value(reading: Result) -> str:
    """Return log10 of the adjusted p of one reading, and its verdict where it is no match."""
    p = f"{reading['log10_p_adj']:.1f}"
    return p if reading["verdict"] == "match" else f"{p}, inconclusive"


def stamped_p_value(reading: Result) -> str:
    """Return what a key salted by a timestamp would give: 24 bits of search are charged, not 60."""
    adjusted = Multiplicity(1, 1, 24).adjust(reading["log10_p"])
    return f"{adjusted:.1f}" if adjusted <= -6 else f"{adjusted:.1f}, inconclusive"


def plain(value: Any) -> str:
    """Return a figure, or a list or table of them, in words."""
    if value is None:
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')} {plain(one)}" for key, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(plain, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
