"""Results to standard output and to files; everything else to standard error."""

import os
import sys
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import polars as pl

from gradfit._result import FitResult, FitTable
from gradfit.app.files import reason_of, staged
from gradfit.errors import InputError

Fit: TypeAlias = FitResult | FitTable
SET = ("fit.json", "summary.txt", "fits.csv", "report.html", "fit.png", "fit.svg")
"""Files that a fit may write; what lies there of an earlier one is replaced or removed."""
FORMULA = r"^[=+\-@\t\r]"
"""How a cell begins that spreadsheets would run (OWASP, CSV injection)."""


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """Where the answer goes."""

    out: Path | None = None
    as_json: bool = False
    quiet: bool = False


def deliver(result: Fit, delivery: Delivery) -> int:
    """Write the files, print the answer, and return the exit code: 0 where all fits converged.

    What cannot be printed is not written either.
    """
    text = result.to_json() if delivery.as_json else None if delivery.quiet else result.summary()
    if delivery.out is None:
        if text is not None:
            show(text)
    else:
        with progress("writing", delivery.quiet):
            files = staged(delivery.out, _files(result), SET)
            commit = files.__enter__()
        try:
            if text is not None:
                show(text)
            written = commit()
        finally:
            files.__exit__(None, None, None)
        if not delivery.quiet:
            remark(f"wrote {', '.join(str(path) for path in written)}")
    return 0 if np.all(result.success) else 1


def show(text: str) -> None:
    """Print an answer; a reader that has gone away (``| head``) is no error.

    Raises
    ------
    InputError
        Standard output is closed, or full.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:
        abandon(sys.stdout)
    except (OSError, ValueError) as error:
        abandon(sys.stdout)
        raise InputError(f"cannot print the answer: {reason_of(error)}") from None


def abandon(stream: Any) -> None:
    """Let nothing more be written to a stream, which Python would try once more at its end."""
    with suppress(Exception):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def remark(text: str) -> None:
    """Say on standard error what is no answer, if anybody listens."""
    if sys.stderr is None:
        return
    try:
        print(f"gradfit: {text}", file=sys.stderr, flush=True)
    except (OSError, ValueError):
        abandon(sys.stderr)


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
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console

    with Console(stderr=True).status(label) as status:
        yield lambda text: status.update(f"{label}: {text}")


def _files(result: Fit) -> dict[str, Callable[[Path], object]]:
    files: dict[str, Callable[[Path], object]] = {
        "fit.json": lambda path: save_text(path, result.to_json()),
        "summary.txt": lambda path: save_text(path, result.summary()),
    }
    if isinstance(result, FitTable):
        files["fits.csv"] = lambda path: save_table(path, result)
    else:
        files["report.html"] = result.report
    if np.any(result.success):
        files |= {name: lambda path: result.plot().savefig(path) for name in ("fit.png", "fit.svg")}
    return files


def save_text(path: Path, text: str) -> None:
    """Write a text as a file, with a line break at its end."""
    path.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def save_table(path: Path, result: FitTable) -> None:
    """Write a table as CSV, in which no cell begins like a formula of a spreadsheet."""
    frame = pl.DataFrame(result.to_dict_of_columns())
    texts = [name for name, kind in frame.schema.items() if kind == pl.String]
    safe = [
        pl.when(pl.col(name).str.contains(FORMULA)).then("'" + pl.col(name)).otherwise(pl.col(name))
        for name in texts
    ]
    frame.with_columns(each.alias(name) for each, name in zip(safe, texts, strict=True)).write_csv(
        path
    )
