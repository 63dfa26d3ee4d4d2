"""Whole sets of files: all that a run writes or nothing, whatever happens in between.

Files are written into a folder of their own first. Where nothing but the set of an earlier run lies
in the way, that folder takes the place of the old one in a single step; among other files the old
set is taken away before the new one is put there, so that no two runs ever lie side by side.
"""

import ctypes
import os
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from gradfit._format import printable
from gradfit.errors import InputError

MARK = ".gradfit-"
"""Begins the names of folders in which a set is being written."""
STALE = 3600.0
"""Seconds after which such a folder belongs to nobody, where processes cannot be asked."""

Write = Callable[[Path], object]


def check_directory(path: Path | None, names: Collection[str] = ()) -> None:
    """Refuse a directory in which files of these names cannot be written, before any work is done.

    Raises
    ------
    InputError
        It is a file, or cannot be written, or a folder stands where a file is to go.
    """
    if path is None:
        return
    try:
        nearest = next(p for p in (path, *path.absolute().parents) if os.path.lexists(p))
        is_folder = nearest.is_dir()
    except (OSError, ValueError) as error:
        raise InputError(f"--out: {printable(str(path))} is no path: {reason_of(error)}") from None
    said = printable(str(nearest))
    if not is_folder:
        raise InputError(f"--out: {said} is a file; name a directory")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"--out: {said} cannot be written")
    for name in names:
        if (path / name).is_dir():
            raise InputError(f"--out: {printable(str(path / name))} is a folder, and in the way")


@contextmanager
def staged(
    directory: Path, files: Mapping[str, Write], owned: Collection[str] = ()
) -> Generator[Callable[[], list[Path]]]:
    """Write all files aside; what is yielded puts them in their place and returns their paths.

    Parameters
    ----------
    directory : Path
        Where they go; made where there is none.
    files : mapping of str to callable
        Name of each, and what writes it to a path.
    owned : collection of str
        Names that an earlier run may have written; those that this one does not write are removed.

    Raises
    ------
    InputError
        The disk is full, or the directory cannot be written.
    """
    names = {*files, *owned}
    target = Path(os.path.realpath(directory))
    made = _missing_parents(target)
    place: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        whole = _can_be_swapped(target, names)
        place = draft = _draft_of(target, whole)
        for name, write in files.items():
            write(draft / name)

        def commit() -> list[Path]:
            try:
                (_swap if whole else _move_in)(draft, target, names)
            except OSError as error:
                raise _failed(directory, error) from None
            return [directory / name for name in files]

        yield commit
    except OSError as error:
        raise _failed(directory, error) from None
    finally:
        if place is not None:
            shutil.rmtree(place, ignore_errors=True)
        for folder in made:
            with suppress(OSError):  # not empty: the files are there
                folder.rmdir()


def write_files(
    directory: Path, files: Mapping[str, Write], owned: Collection[str] = ()
) -> list[Path]:
    """Write all files or none; see :func:`staged`."""
    with staged(directory, files, owned) as commit:
        return commit()


def reason_of(error: Exception) -> str:
    """Return what the system says of a failure, in one line."""
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return printable(" ".join(said.split()))


def _failed(directory: Path, error: OSError) -> InputError:
    return InputError(f"cannot write to {printable(str(directory))}: {reason_of(error)}")


def _missing_parents(target: Path) -> list[Path]:
    """Return the folders above a path that do not exist, the deepest first."""
    return [p for p in target.parents if not p.exists()]


def _can_be_swapped(target: Path, names: Collection[str]) -> bool:
    """Return whether a folder can be put in the place of another as a whole."""
    parent = target.parent
    if not os.access(parent, os.W_OK | os.X_OK):
        return False
    if not target.exists():
        return True
    if os.path.ismount(target) or Path.cwd().is_relative_to(target):
        return False
    return all(
        (path.name in names and path.is_file() and not path.is_symlink()) or _is_abandoned(path)
        for path in target.iterdir()
    )


def _draft_of(target: Path, whole: bool) -> Path:
    """Make an empty folder to write in, beside the target or inside it; clear up after the dead."""
    home = target.parent if whole else target
    home.mkdir(parents=True, exist_ok=True)
    for folder in (target.parent, target) if target.exists() else (target.parent,):
        for path in folder.glob(f"{MARK}*"):
            if _is_abandoned(path):
                shutil.rmtree(path, ignore_errors=True)
    place = home / f"{MARK}{os.getpid()}-{secrets.token_hex(4)}"
    place.mkdir()
    if whole and target.exists():
        shutil.copymode(target, place)
    return place


def _is_abandoned(path: Path) -> bool:
    """Return whether a folder was left behind by a process that is no more."""
    if not path.name.startswith(MARK):
        return False
    number = path.name.removeprefix(MARK).partition("-")[0]
    if os.name == "posix" and number.isdecimal():
        try:
            os.kill(int(number), 0)
        except (ProcessLookupError, OverflowError):
            return True
        except OSError:
            return False
        return False
    try:
        return time.time() - path.stat().st_mtime > STALE
    except OSError:
        return False


def _swap(place: Path, target: Path, names: Collection[str]) -> None:
    """Put a whole folder in the place of another, or of none."""
    if not target.exists():
        place.rename(target)
    elif not _exchange(place, target):
        old = place.with_name(f"{place.name}-old")
        target.rename(old)
        try:
            place.rename(target)
        except BaseException:
            old.rename(target)
            raise
        shutil.rmtree(old, ignore_errors=True)


def _exchange(a: Path, b: Path) -> bool:
    """Exchange two folders in one step; return whether this system can."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    here, exchange = -100, 2
    return rename(here, os.fsencode(a), here, os.fsencode(b), exchange) == 0


def _move_in(place: Path, target: Path, names: Collection[str]) -> None:
    """Take the old set away, then put the new one there; put it all back where that fails."""
    new = [path.name for path in place.iterdir()]
    aside = place / "old"
    aside.mkdir()
    gone: list[str] = []
    put: list[str] = []
    try:
        for name in names:
            if os.path.lexists(target / name):
                (target / name).rename(aside / name)
                gone.append(name)
        for name in new:
            (place / name).rename(target / name)
            put.append(name)
    except BaseException:
        for name in put:
            (target / name).rename(place / name)
        for name in gone:
            (aside / name).rename(target / name)
        raise
