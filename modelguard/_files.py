"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modelguard.errors import InputError


def atomic_write_bytes(
    path: str | Path, data: bytes, *, overwrite: bool = False, mode: int = 0o644, sync: bool = True
) -> Path:
    """Write `data` to `path` through a temporary file in the same folder and a rename.

    Args:
        path: where the file goes; missing parent folders are made.
        data: the whole content.
        overwrite: replace an existing file instead of raising.
        mode: permission bits of the new file.
        sync: wait until it is on the disk, so that it outlives a power cut as well as the process.

    Raises:
        InputError: `path` exists and `overwrite` is false, or its folder cannot be written.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise InputError(f"path: {path} exists already", "choose another name, or remove the file first")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise InputError(
            f"path: cannot write in {path.parent} ({error.strerror})", "choose a folder you may write to"
        ) from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.chmod(temporary, mode)
        if overwrite:
            os.replace(temporary, path)
        else:
            os.link(temporary, path)  # unlike a rename, a link never replaces a file made meanwhile
            os.unlink(temporary)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, FileExistsError):
            raise InputError(f"path: {path} exists already", "choose another name") from error
        raise
    return path


def check_new(path: str | Path, name: str = "folder") -> Path:
    """Return `path` if nothing is there yet; call it before long work whose result goes there.

    Raises:
        InputError: something exists there; `name` is what the message calls it.
    """
    if os.path.lexists(path):
        raise InputError(f"{name}: {path} exists already", "choose another name, or remove it first")
    return Path(path)


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Context that gives an empty temporary folder and renames it to `path` once all is written.

    After an error or Ctrl-C nothing is left of it.

    Raises:
        InputError: `path` exists already, or its parent cannot be written.
    """
    path = check_new(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    except OSError as error:
        raise InputError(
            f"folder: cannot write in {path.parent} ({error.strerror})", "choose a folder you may write to"
        ) from error
    try:
        yield temporary
        temporary.chmod(0o755)
        os.rename(temporary, check_new(path))
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
