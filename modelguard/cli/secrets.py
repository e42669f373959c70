"""Passphrases and owners on the command line."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from modelguard._files import check_new
from modelguard.cli.output import note
from modelguard.errors import InputError, WrongPassphraseError

if TYPE_CHECKING:
    from modelguard.evidence import Owner


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
        return Owner.load(path, getpass.getpass(f"Passphrase of {path}: "))


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
