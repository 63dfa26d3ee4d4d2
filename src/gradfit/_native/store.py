"""Machine code on disk: where it lies, whose files are trusted, and which are thrown away.

A file is run, so it is loaded only from a folder and a file that belong to the user and that
nobody else may write to, and only if it is whole and stands under its own name. Where nothing can
be kept each process compiles for itself.
"""

import hashlib
import os
import re
import stat
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

FOLDER = "GRADFIT_CACHE_DIR"
"""Environment variable: the folder for machine code, an absolute path."""
LARGEST = 1 << 28
"""Bytes of all files together; of more those go that were not used for longest."""
OLDEST = 90 * 86400.0
"""Seconds after which a file goes that nobody used."""
DRAFTS = 3600.0
"""Seconds after which a file was left behind by a process that died while it wrote."""

_NAME = re.compile(r"[0-9a-f]{32}")
_DRAFT = "draft-"
_DAY = 86400.0
_BLOCKS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


def folder() -> Path | None:
    """Return where machine code is kept, or None: ``GRADFIT_CACHE_DIR``, or the user's cache.

    A path that is not absolute would be another one in every working directory: it is ignored, as
    the XDG Base Directory Specification has it.
    """
    given = _absolute(FOLDER)
    if given is not None:
        return given
    try:
        home = Path.home()
    except RuntimeError:
        # A user without a home, as in a container.
        return None
    if sys.platform == "win32":
        root = _absolute("LOCALAPPDATA") or home / "AppData" / "Local"
    elif sys.platform == "darwin":
        root = home / "Library" / "Caches"
    else:
        root = _absolute("XDG_CACHE_HOME") or home / ".cache"
    return root / "gradfit" if root.is_absolute() else None


def _absolute(variable: str) -> Path | None:
    path = Path(os.environ.get(variable, "")).expanduser()
    return path if path.is_absolute() else None


def holds(name: str) -> bool:
    """Return whether there is a file of that name where it may be loaded from."""
    where = _trusted()
    return where is not None and os.path.exists(where / name)


def read(name: str) -> bytes | None:
    """Return what is kept under a name; None if there is nothing, or nothing to be trusted."""
    where = _trusted()
    if where is None:
        return None
    try:
        handle = os.open(where / name, os.O_RDONLY | _BLOCKS)
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(handle)
            if not (stat.S_ISREG(status.st_mode) and _is_own(status)):
                return None
            check, binary = file.read(LARGEST).split(b"\n", 1)
    except (OSError, ValueError):
        return None
    if check != _check(name, binary):
        return None
    if time.time() - status.st_mtime > _DAY:
        with suppress(OSError):
            os.utime(where / name)
    return binary


def write(name: str, binary: bytes) -> None:
    """Write a file whole or not at all; where it cannot be written, go without."""
    where = folder()
    if where is None:
        return
    with suppress(OSError):
        where.mkdir(parents=True, exist_ok=True, mode=0o700)
        if _trusted() is None:
            return
        handle, draft = tempfile.mkstemp(prefix=_DRAFT, dir=where)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(b"\n".join((_check(name, binary), binary)))
            os.replace(draft, where / name)
        except OSError:
            os.unlink(draft)
    prune()


def _check(name: str, binary: bytes) -> bytes:
    """Return what a file begins with: that of another name is of no use."""
    return hashlib.sha256(name.encode() + b"\0" + binary).hexdigest().encode()


def _trusted() -> Path | None:
    """Return the folder if it is the user's alone."""
    where = folder()
    with suppress(OSError):
        if where is not None and _is_own(os.stat(where)):
            return where
    return None


def _is_own(status: os.stat_result) -> bool:
    """Return whether something belongs to the user, and nobody else may write to it."""
    if sys.platform == "win32":
        return True
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


# Files that go ------------------------------------------------------------------------------------


class _File(NamedTuple):
    age: float
    size: int
    path: str


def prune() -> None:
    """Delete what has not been used for long, and what is too much; only files of our own names."""
    where = _trusted()
    if where is None:
        return
    now, kept = time.time(), list[_File]()
    with suppress(OSError), os.scandir(where) as entries:
        for entry in entries:
            ours, draft = _NAME.fullmatch(entry.name), entry.name.startswith(_DRAFT)
            if not (ours or draft):
                continue
            with suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                found = _File(now - status.st_mtime, status.st_size, entry.path)
                if found.age > (DRAFTS if draft else OLDEST):
                    os.unlink(entry.path)
                elif ours:
                    kept.append(found)
    total = 0
    for found in sorted(kept):
        total += found.size
        if total > LARGEST:
            with suppress(OSError):
                os.unlink(found.path)
