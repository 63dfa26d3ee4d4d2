"""Results to standard output and to files; everything else to standard error."""

import os
import sys
import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from gradfit._result import FitResult, FitTable
from gradfit.errors import InputError

Fit: TypeAlias = FitResult | FitTable


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """Where the answer goes."""

    out: Path | None = None
    as_json: bool = False
    quiet: bool = False


def deliver(result: Fit, delivery: Delivery) -> int:
    """Write the files, print the answer, and return the exit code: 0 where all fits converged."""
    if delivery.out is not None:
        with progress("writing", delivery.quiet):
            written = write_files(delivery.out, _files(result))
        if not delivery.quiet:
            remark(f"wrote {', '.join(str(path) for path in written)}")
    if delivery.as_json:
        show(result.to_json())
    elif not delivery.quiet:
        show(result.summary())
    return 0 if np.all(result.success) else 1


def show(text: str) -> None:
    """Print an answer; a reader that has gone away (``| head``) is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Python flushes once more at exit, and must not find the broken pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def remark(text: str) -> None:
    """Say on standard error what is no answer."""
    print(f"gradfit: {text}", file=sys.stderr)


@contextmanager
def remarks(quiet: bool) -> Generator[None]:
    """Turn warnings into one line each on standard error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    if not quiet:
        for text in dict.fromkeys(str(warning.message) for warning in caught):
            remark(f"warning: {text}")


@contextmanager
def progress(label: str, quiet: bool) -> Generator[Callable[[str], None] | None]:
    """Show that work goes on; yields a function that says how far it is, None off a terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console

    with Console(stderr=True).status(label) as status:
        yield lambda text: status.update(f"{label}: {text}")


def check_directory(path: Path | None) -> None:
    """Refuse a directory that cannot be written, before any work is done."""
    if path is None:
        return
    nearest = next(p for p in (path, *path.absolute().parents) if p.exists())
    if not nearest.is_dir():
        raise InputError(f"--out: {nearest} is a file; name a directory")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"--out: {nearest} cannot be written")


def write_files(directory: Path, files: Mapping[str, Callable[[Path], object]]) -> list[Path]:
    """Write all files or none: under temporary names first, renamed when all are complete.

    Raises
    ------
    InputError
        The disk is full, or the directory cannot be written.
    """
    created = not directory.exists()
    drafts: dict[Path, Path] = {}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, write in files.items():
            draft = directory / f".{os.getpid()}-{name}"
            drafts[draft] = directory / name
            write(draft)
        for draft, path in drafts.items():
            draft.replace(path)
    except OSError as error:
        raise InputError(f"cannot write to {directory}: {error.strerror or error}") from None
    finally:
        for draft in drafts:
            draft.unlink(missing_ok=True)
        if created and directory.exists() and not any(directory.iterdir()):
            directory.rmdir()
    return list(drafts.values())


def _files(result: Fit) -> dict[str, Callable[[Path], object]]:
    files: dict[str, Callable[[Path], object]] = {
        "fit.json": lambda path: save_text(path, result.to_json()),
        "summary.txt": lambda path: save_text(path, result.summary()),
    }
    if isinstance(result, FitTable):
        files["fits.csv"] = lambda path: result.to_frame().write_csv(path)
    else:
        files["report.html"] = result.report
    if np.any(result.success):
        files |= {name: lambda path: result.plot().savefig(path) for name in ("fit.png", "fit.svg")}
    return files


def save_text(path: Path, text: str) -> None:
    """Write a text as a file, with a line break at its end."""
    path.write_text(text + "\n", encoding="utf-8")
