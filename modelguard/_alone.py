"""One process at a time in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from modelguard.errors import InputError


@contextmanager
def alone(lock: Path, what: str) -> Iterator[None]:
    """Context that only one process is in; the system lets go of the lock when it ends, however it does.

    Args:
        lock: file that is made for it, in a folder that exists.
        what: argument and deed of the error, such as "run_dir: another process trains in runs/1".

    Raises:
        InputError: another process, or another call of this one, is in it.
    """
    held = FileLock(lock)
    try:
        held.acquire(blocking=False)
    except Timeout:
        raise InputError(what, "wait until it is done, or stop it; then run this again") from None
    try:
        yield
    finally:
        held.release()
