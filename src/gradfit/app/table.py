"""Tables of numbers: CSV, TSV and Parquet, from a file or from standard input."""

import codecs
import difflib
import io
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from gradfit._format import printable, shown
from gradfit.app.files import reason_of
from gradfit.errors import InputError

_MISSING = ["", "na", "n/a", "null", "none", "nan"]
_SEPARATORS = ("\t", ";", ",")
_SEPARATOR_TOLD = re.compile(r"\s*\"?sep=(.)\"?\s*", re.IGNORECASE)
COMMENT = "#"
_GROUP = "group of the fit"


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which columns of a table play which part, as typed by the user."""

    x: Sequence[str]
    y: Sequence[str] = ()
    sx: str | None = None
    sy: str | None = None
    rho: str | None = None
    group: str | None = None
    omit: bool = False


@dataclass(frozen=True, eq=False)
class Table:
    """A table as read: text cells from a text file, typed cells from Parquet.

    Where semicolons part the columns a comma may stand for a decimal point.
    """

    frame: pl.DataFrame
    source: str
    commas: bool = False

    def resolve(self, option: str, text: str) -> list[str]:
        """Split ``c1,c2`` into column names, unless it is the name of one column."""
        if text in self.frame.columns:
            return [self._known(option, text)]
        return [self._known(option, name.strip()) for name in text.split(",")]

    def resolve_errors(self, option: str, text: str) -> list[str | float]:
        """Split like :meth:`resolve`; what is no column may be a number."""
        if text in self.frame.columns:
            return [self._known(option, text)]
        return [self._column_or_number(option, item.strip()) for item in text.split(",")]

    def numbers(self, name: str, *, missing: bool) -> pl.Series:
        """Return a column as float64, missing cells as NaN.

        Raises
        ------
        InputError
            A cell is no number, or is missing although ``missing`` is False; with the column, the
            data row and the text that stands there.
        """
        column = self.frame[name]
        if column.dtype == pl.String:
            column = self._parse(column)
        elif column.dtype.is_numeric() or column.dtype == pl.Null:
            column = column.cast(pl.Float64)
        else:
            raise InputError(
                f"column {shown(name)} of {self.source} holds {column.dtype}, not numbers; "
                "convert it first"
            )
        column = column.fill_null(float("nan"))
        if not missing and (first := _first(~column.is_finite())) is not None:
            what = "missing" if math.isnan(column[first]) else "infinite"
            raise InputError(
                f"{self._place(name, first)}: the value is {what}; correct it, or leave such rows "
                "out with --nan omit"
            )
        return column

    def labels(self, name: str) -> pl.Series:
        """Return a column of group labels: whole numbers where all cells are, else text."""
        column = self.frame[name]
        empty = column.is_null()
        if column.dtype == pl.String:
            empty |= column == ""
        if (first := _first(empty)) is not None:
            raise InputError(f"{self._place(name, first)}: the name of the group is missing")
        if column.dtype != pl.String:
            return column
        whole = column.cast(pl.Int64, strict=False)
        # "007" is a name, not the number 7.
        same = whole.cast(pl.String) == column
        return whole if not whole.has_nulls() and same.all() else column

    def _parse(self, column: pl.Series) -> pl.Series:
        column = column.set(column.str.to_lowercase().is_in(_MISSING), None)
        values = column.cast(pl.Float64, strict=False)
        first = _first(values.is_null() & column.is_not_null())
        if first is None:
            return values
        if self.commas and not column.str.contains(".", literal=True).any():
            points = column.str.replace(",", ".", literal=True).cast(pl.Float64, strict=False)
            if points.null_count() == column.null_count():
                return points
        cell = column[first]
        raise InputError(
            f"{self._place(column.name, first)}: {shown(cell)} is not a number"
            f"{_remedy(cell, first)}"
        )

    def _place(self, name: str, row: int) -> str:
        return f"column {shown(name)} of {self.source}, data row {row + 1}"

    def _column_or_number(self, option: str, text: str) -> str | float:
        if text not in self.frame.columns and _is_number(text):
            return float(text)
        return self._known(option, text)

    def _known(self, option: str, name: str) -> str:
        columns = self.frame.columns
        if name not in columns:
            raise InputError(
                f"{option}: {self.source} has no column {shown(name)}; {_nearest(name, columns)}"
                f"its columns are {_listing(columns)}{_header_hint(columns)}"
            )
        if f"{name}_duplicated_0" in columns:
            raise InputError(f"{option}: {self.source} has more than one column {shown(name)}")
        return name


def read(source: str) -> Table:
    """Read a table from a file, or from standard input for ``-``.

    Parquet is told by its first bytes. Everything else is text, in UTF-8 or as Windows and Excel
    write it: the first line names the columns, which tabs, semicolons, commas or blanks part;
    empty lines, and comments that start with ``#``, are left out (:func:`tabular`).

    Raises
    ------
    InputError
        The file cannot be read or holds no table; one line that says why.
    """
    name = "standard input" if source == "-" else printable(Path(source).name)
    content = _content(source)
    try:
        if content[:4] == b"PAR1":
            return Table(pl.read_parquet(io.BytesIO(content)), name)
        return _read_text(content, name)
    except pl.exceptions.NoDataError:
        raise InputError(f"{name} is empty; a line of column names and rows are needed") from None
    except (InputError, KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # noqa: BLE001 - Polars panics past Exception
        reason = reason_of(error).partition(". ")[0][:200]  # type: ignore[arg-type]
        if "more fields" in str(error):
            reason = "a row has more cells than the first line has names"
        raise InputError(f"cannot read {name} as a table: {reason}") from None


def omits(option: str, text: str) -> bool:
    """Read ``raise`` or ``omit``."""
    if text not in ("raise", "omit"):
        raise InputError(f"{option}: expected raise or omit, got {text!r}")
    return text == "omit"


def select(table: Table, columns: Columns) -> dict[str, Any]:
    """Return the arguments of a fit: ``data`` as a frame of numbers, and the names in it."""
    x = [name for text in columns.x for name in table.resolve("--x", text)]
    y = [name for text in columns.y for name in table.resolve("--y", text)]
    asked: dict[str, list[str] | list[str | float]] = {"x": list(x), "y": list(y)}
    for key, text, count in (
        ("sx", columns.sx, len(x)),
        ("sy", columns.sy, len(y)),
        ("rho", columns.rho, 1),
    ):
        if text is not None:
            items = table.resolve_errors(f"--{key}", text)
            if len(items) not in (1, count):
                allowed = "1 entry" if count == 1 else f"1 or {count} entries"
                raise InputError(f"--{key}: expected {allowed}, got {len(items)}")
            asked[key] = items
    names = dict.fromkeys(
        item for items in asked.values() for item in items if isinstance(item, str)
    )
    # A missing value spoils one group only, and the status of that group says so.
    missing = columns.omit or columns.group is not None
    frame = pl.DataFrame([table.numbers(name, missing=missing) for name in names])
    out: dict[str, Any] = {
        key: items[0] if len(items) == 1 else items for key, items in asked.items() if items
    }
    if columns.group is not None:
        (group,) = table.resolve("--group", columns.group)
        frame = frame.with_columns(table.labels(group).alias(_GROUP))
        out["groups"] = _GROUP
    out["data"] = frame
    out["nan_policy"] = "omit" if columns.omit else "raise"
    return out


def _content(source: str) -> bytes:
    if source == "-":
        if sys.stdin is None:
            raise InputError("standard input is closed; name a file, or feed a table to it")
        try:
            return sys.stdin.buffer.read()
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read standard input: {reason_of(error)}") from None
    try:
        return Path(source).read_bytes()
    except FileNotFoundError:
        raise InputError(f"there is no file {printable(source)}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {printable(source)}: {reason_of(error)}") from None


def _read_text(content: bytes, name: str) -> Table:
    text = _decoded(content)
    if "\0" in text:
        raise InputError(f"{name} is neither text nor Parquet; save it as CSV in UTF-8")
    rows, separator = tabular(text)
    if separator == " ":  # columns stand where blanks part them
        rows = ["\t".join(row.split()) for row in rows]
        separator = "\t"
    frame = pl.read_csv(
        io.BytesIO("\n".join(rows).encode("utf-8", "replace")),
        separator=separator,
        infer_schema=False,
        comment_prefix=COMMENT,
    )
    frame = frame.rename({column: column.strip() for column in frame.columns})
    frame = frame.with_columns(pl.all().str.strip_chars())
    if not frame.height:
        raise InputError(f"{name} has a line of column names, but no row of numbers below it")
    return Table(frame, name, commas=separator == ";")


def tabular(text: str) -> tuple[list[str], str]:
    """Return the lines of a table, the names of its columns first, and what parts its columns.

    Line breaks are those of Unix, Windows or old Macs. Empty lines, and those that start with
    ``#``, are no rows. Excel may name the separator in a first line ``sep=;``; ``numpy.savetxt``
    writes the names into a comment, which is taken where the first line is of numbers.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    told: str | None = None
    if (match := _SEPARATOR_TOLD.fullmatch(lines[0])) is not None:
        told, lines = match[1], lines[1:]
    rows = [line for line in lines if line.strip()]
    first = next((i for i, row in enumerate(rows) if not row.startswith(COMMENT)), len(rows))
    comment = rows[first - 1] if 0 < first <= len(rows) else ""
    rows = [row for row in rows[first:] if not row.startswith(COMMENT)]
    if not rows:
        return [], told or ","
    names = comment.lstrip(COMMENT).strip()
    # Of numbers with decimal commas only the names tell what parts the columns.
    for separator in (told,) if told else (separator_of(names), separator_of(rows[0])):
        cells = _split(rows[0], separator)
        numeric = all(_is_number(cell.replace(",", ".")) for cell in cells)
        if numeric and names and len(_split(names, separator)) == len(cells):
            return [names, *rows], separator
    return rows, told or separator_of(rows[0])


def separator_of(line: str) -> str:
    """Return what parts the columns: tab, semicolon, comma, or blanks where there is none."""
    found = max(_SEPARATORS, key=line.count)
    return found if found in line else " " if len(line.split()) > 1 else ","


def _split(line: str, separator: str) -> list[str]:
    return line.split() if separator == " " else [cell.strip() for cell in line.split(separator)]


def _decoded(content: bytes) -> str:
    """Return text in UTF-8, or with a mark in UTF-16, or else in the code page of Windows."""
    if content.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return content.decode("utf-32", errors="replace")
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def _first(mask: pl.Series) -> int | None:
    index = mask.arg_true()
    return int(index[0]) if len(index) else None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _remedy(cell: str, row: int) -> str:
    """Say what to do about a cell that is no number."""
    if _is_number(cell.replace(",", ".")) or _is_number(cell.replace(",", "")):
        return "; write decimal points, and no commas between thousands"
    return "; put # before lines that hold no data, such as units" if row == 0 else ""


def _nearest(name: str, columns: Sequence[str]) -> str:
    by_case = {column.casefold(): column for column in columns}
    close = difflib.get_close_matches(name[:80].casefold(), by_case, n=1)
    return f"did you mean {shown(by_case[close[0]])}? " if close else ""


def _listing(columns: Sequence[str]) -> str:
    some = ", ".join(c if c.isprintable() and len(c) <= 80 else shown(c) for c in columns[:20])
    return some if len(columns) <= 20 else f"{some} and {len(columns) - 20} more"


def _header_hint(columns: Sequence[str]) -> str:
    numeric = sum(_is_number(column) for column in columns)
    return " (the first line must name the columns)" if numeric == len(columns) else ""
