"""Passphrases and owners on the command line."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from modelguard._files import check_new
from modelguard.cli.output import note
from modelguard.errors import InputError, WrongPassphraseError

if TYPE_CHECKING:
    from modelguard.evidence import Owner

Opened = TypeVar("Opened")
PASSPHRASE_VARIABLE = "MODELGUARD_PASSPHRASE"


def open_owner(path: Path, passphrase: str) -> Owner:
    """Open an owner's file with `passphrase`, or on a terminal with one of its own.

    Raises:
        InputError: no such file.
        KeyFileError: the file is damaged, or no passphrase opens it.
    """
    from modelguard.evidence import Owner

    if not path.exists():
        raise InputError(f"owner: there is no file {path}", 'make one with `protect --create-owner "NAME"`')
    try:
        return Owner.load(path, passphrase)
    except WrongPassphraseError:
        if not sys.stdin.isatty():
            raise
        return ask_until_right(lambda other: Owner.load(path, other), f"Passphrase of {path}: ")[1]


def ask_until_right(load: Callable[[str], Opened], prompt: str | None = None) -> tuple[str, Opened]:
    """Open a file with MODELGUARD_PASSPHRASE, or on a terminal with what is typed, three times at most.

    Args:
        load: opens the file with a passphrase.
        prompt: ask with these words, whatever the variable says.

    Returns:
        The passphrase and what `load` returned.

    Raises:
        InputError: there is no passphrase.
        KeyFileError: the file is damaged, or no passphrase opened it.
    """
    from modelguard.evidence import resolve_passphrase

    for left in (2, 1, 0):
        passphrase = getpass.getpass(prompt) if prompt else resolve_passphrase(None)
        try:
            return passphrase, load(passphrase)
        except WrongPassphraseError:
            typed = prompt or PASSPHRASE_VARIABLE not in os.environ
            if not left or not typed or not sys.stdin.isatty():
                raise
            note(f"that passphrase does not open it; {left} more to go")
    raise AssertionError


@contextmanager
def owner_in(path: Path, create: str | None, passphrase: str) -> Iterator[Owner]:
    """Context with the owner in `path`; a new one if `create` gives a name, removed again if the work fails.

    Raises:
        InputError: no such file, or it exists though it shall be made.
    """
    from modelguard.evidence import Owner

    if create is None:
        yield open_owner(path, passphrase)
        return
    if path.exists():
        raise InputError(f"owner: {path} exists already", "leave out --create-owner to use it")
    public = check_new(path.with_suffix(".pub.pem"), "owner")
    owner = Owner.create(path, create, passphrase)
    try:
        owner.save_public(public)
        yield owner
    except BaseException:
        for file in (path, public):
            file.unlink(missing_ok=True)
        raise
    note(f"made the owner {create!r}: {path} (secret) and {public} (give it to those who shall trust you)")
