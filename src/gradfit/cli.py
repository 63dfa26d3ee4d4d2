"""The command line: what the options are called, what they mean, and the exit codes.

0 fitted; 1 did not converge, the result is still written; 2 bad input, nothing is written.
"""

import errno
import io
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from gradfit import __version__
from gradfit.errors import GradfitError

BAD_INPUT = 2
INTERRUPTED = 130
BUG = 70
OPTIONS = {
    **dict.fromkeys(("sigma", "yerr", "dy", "err", "error", "errors", "uy"), "--sy"),
    **dict.fromkeys(("weights", "weight"), "--sy, with standard deviations (1/sqrt(weight)),"),
    **dict.fromkeys(("xerr", "dx", "ux"), "--sx"),
    **dict.fromkeys(("p0", "beta0", "guess", "init", "params"), "--start"),
    **dict.fromkeys(("groups", "groupby", "by"), "--group"),
    **dict.fromkeys(("fixed",), "--fix"),
    **dict.fromkeys(("output", "o"), "--out"),
    **dict.fromkeys(("formula", "function", "func", "f"), "--model"),
    **dict.fromkeys(("limits",), "--bounds"),
    **dict.fromkeys(("nan-policy",), "--nan"),
}
"""Options that other programs have, and what they are called here."""

_app = typer.Typer(
    name="gradfit",
    help="Fit any formula to data with errors in every variable.",
    epilog="Exit codes: 0 fitted, 1 did not converge (the result is still written), 2 bad input.",
    add_completion=False,
    rich_markup_mode="rich",
)

_Data = Annotated[
    str, typer.Argument(metavar="DATA", help="CSV, TSV or Parquet file, or - for standard input.")
]
_X = Annotated[
    list[str],
    typer.Option("--x", metavar="COL", help="Column of x; c1,c2 or repeated for several."),
]
_Sx = Annotated[
    str | None,
    typer.Option("--sx", metavar="COL|NUMBER", help="Standard deviations of x; 0 means exact."),
]
_Sy = Annotated[
    str | None,
    typer.Option("--sy", metavar="COL|NUMBER", help="Standard deviations of y; 0 means exact."),
]
_Rho = Annotated[
    str | None,
    typer.Option("--rho", metavar="COL|NUMBER", help="Correlation of the errors of x and y."),
]
_Relative = Annotated[
    bool,
    typer.Option(
        "--relative", help="Take standard deviations as weights; scale errors by the scatter."
    ),
]
_Group = Annotated[
    str | None,
    typer.Option("--group", metavar="COL", help="Fit the rows of each label on their own."),
]
_Nan = Annotated[
    str, typer.Option("--nan", metavar="raise|omit", help="What to do with missing values.")
]
_Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Write picture, report, table and JSON there."),
]
_Json = Annotated[
    bool, typer.Option("--json", help="Print JSON with full precision instead of the summary.")
]
_Quiet = Annotated[bool, typer.Option("--quiet", help="Print neither summary nor remarks.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"gradfit {__version__}")
        raise typer.Exit


@_app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


@_app.command(
    "fit",
    epilog='Example: gradfit fit decay.csv --model "a*exp(-b*t) + c" --x t --y n --sy sn --out out',
)
def _fit(
    *,
    data: _Data,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            metavar="FORMULA|NAME",
            help='A formula such as "a*exp(-b*x) + c", several with commas between for several '
            "columns of y, or the name of a built-in model.",
        ),
    ],
    x: _X,
    y: Annotated[
        list[str] | None,
        typer.Option("--y", metavar="COL", help="Columns of y; none for an implicit model."),
    ] = None,
    sx: _Sx = None,
    sy: _Sy = None,
    rho: _Rho = None,
    relative: _Relative = False,
    start: Annotated[
        list[str] | None, typer.Option("--start", metavar="a=1,b=2", help="Start values.")
    ] = None,
    fix: Annotated[
        list[str] | None, typer.Option("--fix", metavar="c=0", help="Hold parameters at values.")
    ] = None,
    limits: Annotated[
        list[str] | None,
        typer.Option("--bounds", metavar="b=0:10", help="Keep parameters inside; b=0: is open."),
    ] = None,
    group: _Group = None,
    nan: _Nan = "raise",
    out: _Out = None,
    as_json: _Json = False,
    quiet: _Quiet = False,
) -> int:
    """Fit a formula or a built-in model to the columns of a table."""
    from gradfit.app import fit, output, table

    return fit.run(
        data,
        model,
        table.Columns(
            x=x, y=y or (), sx=sx, sy=sy, rho=rho, group=group, omit=table.omits("--nan", nan)
        ),
        fit.Options(start=start or (), fixed=fix or (), bounds=limits or (), relative=relative),
        output.Delivery(out=out, as_json=as_json, quiet=quiet),
    )


@_app.command(
    "line", epilog="Example: gradfit line points.csv --x x --y y --sx sx --sy sy --rho 0.3"
)
def _line(
    *,
    data: _Data,
    x: Annotated[str, typer.Option("--x", metavar="COL", help="Column of x.")],
    y: Annotated[str, typer.Option("--y", metavar="COL", help="Column of y.")],
    sx: _Sx = None,
    sy: _Sy = None,
    rho: _Rho = None,
    relative: _Relative = False,
    group: _Group = None,
    nan: _Nan = "raise",
    out: _Out = None,
    as_json: _Json = False,
    quiet: _Quiet = False,
) -> int:
    """Fit a straight line with errors in x and y; no start values needed."""
    from gradfit.app import line, output, table

    return line.run(
        data,
        table.Columns(
            x=(x,), y=(y,), sx=sx, sy=sy, rho=rho, group=group, omit=table.omits("--nan", nan)
        ),
        relative,
        output.Delivery(out=out, as_json=as_json, quiet=quiet),
    )


@_app.command("demo")
def _demo(
    *,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where page, numbers and points go.")
    ] = Path("gradfit-demo"),
    as_json: _Json = False,
    quiet: _Quiet = False,
) -> int:
    """Tell the whole story on simulated points, on screen and as one HTML page."""
    from gradfit.app import demo, output

    return demo.run(output.Delivery(out=out, as_json=as_json, quiet=quiet))


@_app.command(
    "graph",
    epilog='Example: gradfit graph "mean((a*x - y + b)**2 / (a**2 + 1))" --set a=0.5 --set b=0 '
    "--out loss.html",
)
def _graph(
    *,
    formula: Annotated[str, typer.Argument(metavar="FORMULA", help="Any formula.")],
    values: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="a=0.5", help="Value of a name; x=1,2,3 for several."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="FILE", help="Table whose columns give the other names."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE.svg|FILE.html", help="Draw the graph there."),
    ] = None,
    quiet: _Quiet = False,
) -> int:
    """Open up the computational graph of a formula: values, gradients, and why."""
    from gradfit.app import graph

    return graph.run(formula, values or (), data=data, out=out, quiet=quiet)


@_app.command("bench")
def _bench(
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Smaller sizes, a few seconds.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Where to write Markdown and JSON as well."),
    ] = None,
    as_json: _Json = False,
) -> int:
    """Time gradfit against SciPy and odrpack on this machine, as ratios."""
    from gradfit.app import bench

    return bench.run(quick=quick, as_json=as_json, out=out)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    _open_streams()
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")  # a terminal without "±" still gets the numbers
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = typer.main.get_command(_app)
    try:
        code = command.main(given or ["--help"], prog_name="gradfit", standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:  # the reader of a help page has gone away
        return _leave(sys.stdout, 0)
    except Exception as error:  # noqa: BLE001 - a bug must not look like a fit that failed
        line = _as_line(error)
        if line is None:
            traceback.print_exc()
            return BUG
        return _say(line, BAD_INPUT)
    if code == INTERRUPTED:
        return _say("interrupted, nothing written", INTERRUPTED)
    return int(code or 0)


class _Closed(io.TextIOBase):
    """Stands for a standard output that was closed before the program began."""

    def write(self, text: str) -> int:
        raise OSError(errno.EBADF, "standard output is closed")


def _open_streams() -> None:
    """Keep the numbers 0 to 2 for standard streams, so that no file of a user's becomes one."""
    if None not in (sys.stdin, sys.stdout, sys.stderr):
        return
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = _Closed()
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - open to the end


def _say(line: str, code: int) -> int:
    try:
        print(f"gradfit: {line}", file=sys.stderr, flush=True)
    except (OSError, ValueError):
        return _leave(sys.stderr, code)
    return code


def _leave(stream: Any, code: int) -> int:
    """Return the code; Python will not write once more to a stream that takes nothing."""
    with suppress(Exception):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return code


def _as_line(error: Exception) -> str | None:
    """Return one line for what the user or the system got wrong, None for a bug of ours."""
    if isinstance(error, GradfitError):
        return str(error)
    if isinstance(error, OSError):
        _leave(sys.stdout, 0)
        return " ".join(f"the system refuses: {error.strerror or error}".split())
    if isinstance(error, MemoryError):
        return "the memory of this machine does not suffice"
    # Typer's own errors share no public base class across its versions, but all have this method.
    describe: Any = getattr(error, "format_message", None)
    if describe is None:
        return None
    said = " ".join(str(describe()).split())
    instead = OPTIONS.get(str(getattr(error, "option_name", "")).lstrip("-"))
    return said if instead is None else f"{said.partition(' Did you')[0]} It is {instead} here."
