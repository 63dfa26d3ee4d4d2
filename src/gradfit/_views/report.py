"""One fit as one page: everything in a single file, for light and dark screens and for paper."""

import math
from base64 import b64encode
from collections.abc import Callable, Sequence
from html import escape
from io import BytesIO
from typing import Any, NamedTuple, Protocol

from gradfit import __version__
from gradfit._format import duration, number, percent, probability
from gradfit._views import words
from gradfit._views.curves import Drawable
from gradfit._views.fitted import as_array, equation, free
from gradfit._views.html import correlation_table
from gradfit._views.palette import DARK, LIGHT, Palette
from gradfit._views.plot import plot_fit
from gradfit._views.residuals import checks
from gradfit._views.summary import facts, has_values, interval, parameter_rows

LEVEL = 0.95


class Reportable(Drawable, Protocol):
    """A fit that can be asked for intervals."""

    def interval(self, level: float = 0.95) -> dict[str, tuple[float, float]]:
        """Return a confidence interval for every parameter."""
        ...


class Trade(NamedTuple):
    """What the page of a line says besides: its name, what it assumes, figures, and picture."""

    method: str
    assumes: str
    told: Sequence[tuple[str, str]]
    draw: Callable[[str], Any]


def page(fit: Reportable, trade: Trade | None = None) -> str:
    """Return the whole page, in the words of a trade if there is one."""
    title = escape(equation(fit.model, fit.observed))
    sections = [
        _head(fit, title),
        _warnings(fit),
        *([] if trade is None else [_section(escape(trade.method), _figures(trade))]),
        _picture(fit, trade),
        *(_numbers(fit, trade) if has_values(fit) else []),
        _section("How it ended", _facts(fit)),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_css()}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(section for section in sections if section)
        + f"\n<footer>gradfit {__version__}, {escape(fit.backend)} backend, "
        f"{duration(fit.seconds)}</footer>\n</main>\n</body>\n</html>\n"
    )


def _figures(trade: Trade) -> str:
    rows = [list(row) for row in trade.told]
    return f"<p>assumes {escape(trade.assumes)}</p>" + (_table(["", ""], rows) if rows else "")


def _numbers(fit: Reportable, trade: Trade | None) -> list[str]:
    rests = words.assumptions(fit)
    if trade is not None:
        # The first sentences speak of errors and curves; a trade says itself what it assumes.
        rests = [f"It assumes {trade.assumes}.", *rests[words.GENERAL :]]
    return [
        _section("Parameters", _parameters(fit) + _digits(fit)),
        _section("Correlations", correlation_table(fit)),
        _section("Quality of the fit", _quality(fit)),
        _section("What the residuals say", _checks(fit)),
        _section("What this rests on", _list(rests)),
    ]


def _head(fit: Reportable, title: str) -> str:
    data = fit.observed
    points = words.points_given(data)
    kind, said = ("good", "converged") if fit.success else ("bad", f"failed: {fit.status.name}")
    if fit.success and len(fit.fixed) == len(fit.names):
        said = "evaluated"
    return (
        f"<header><h1>{title}</h1>"
        f'<p>{escape(points)} <span class="pill {kind}">{said}</span></p></header>'
    )


def _warnings(fit: Reportable) -> str:
    told = fit.message.split("; ")[1:] if fit.success else [fit.message]
    said = [*(t for t in told if not t.endswith("nearer foot")), *words.warnings(fit)]
    return f"<aside>{_list(said)}</aside>" if said else ""


def _picture(fit: Reportable, trade: Trade | None) -> str:
    light, dark = (_svg(fit, theme, trade) for theme in ("light", "dark"))
    told = escape(f"Points, fitted curve and residuals of {equation(fit.model, fit.observed)}")
    return (
        "<figure><picture>"
        f'<source media="screen and (prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{told}">'
        "</picture></figure>"
    )


def _svg(fit: Reportable, theme: str, trade: Trade | None) -> str:
    out = BytesIO()
    figure: Any = (
        plot_fit(fit, None, LEVEL, theme, titled=False) if trade is None else trade.draw(theme)
    )
    figure.savefig(out, format="svg")
    return f"data:image/svg+xml;base64,{b64encode(out.getvalue()).decode()}"


def _section(heading: str, body: str) -> str:
    return f"<section><h2>{heading}</h2>{body}</section>" if body else ""


def _list(items: list[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"


def _table(head: list[str], rows: list[list[str]], kind: str = "") -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f'<table class="{kind}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'


def _cell(text: str) -> str:
    """Set a cell, in which no line ends between a number and its ``%``."""
    return escape(text).replace(" %", "\u00a0%")


def _parameters(fit: Reportable) -> str:
    intervals = interval(fit, LEVEL)
    known = {n for n in free(fit) if math.isfinite(fit.stderr[n])}
    known |= {n for n in fit.at_bound if all(map(math.isfinite, intervals[n]))}
    rows = [
        [name, value, share, _span(*intervals[name]) if name in known else "", remark]
        for name, value, share, remark in parameter_rows(fit)
    ]
    head = ["", "value ± error", "relative", f"{percent(LEVEL)} interval", ""]
    return _table(head, rows, "values")


def _span(low: float, high: float) -> str:
    """Write an interval with a digit more than its width deserves, both ends to the same place."""
    size, width = max(abs(low), abs(high)), high - low
    if not (math.isfinite(size) and width > 0):
        return f"{number(low)} to {number(high)}"
    digits = 3 + max(0, math.floor(math.log10(size / width)))
    places = digits - 1 - math.floor(math.log10(size))
    if 0 <= places <= 6 and size < 1e6:
        return f"{low:.{places}f} to {high:.{places}f}"
    return f"{number(low, digits)} to {number(high, digits)}"


def _quality(fit: Reportable) -> str:
    cells = [
        ("χ²", number(fit.chi2, 5)),
        ("degrees of freedom", f"{fit.dof:,}"),
        ("MSWD = χ²/dof", number(fit.mswd, 4)),
        ("p-value", probability(fit.p_value)),
    ]
    return (
        "<dl>"
        + "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in cells)
        + "</dl>"
    )


def _checks(fit: Reportable) -> str:
    rows = [["✓" if c.fine else "!", c.name, c.found, c.verdict] for c in checks(fit)]
    return _table(["", "", "found", "meaning"], rows, "checks")


def _facts(fit: Reportable) -> str:
    lines = next(lines for heading, lines in facts(fit) if heading == "status")
    return "".join(f"<p>{escape(line)}</p>" for line in lines)


def _digits(fit: Reportable) -> str:
    cov = as_array(fit.cov)
    errors = {n: f"± {error!r}" for n, error in fit.stderr.items()}
    errors |= dict.fromkeys(fit.at_bound, "at its bound")
    lines = [f"{n} = {fit.params[n]!r} {errors[n]}" for n in fit.names]
    lines += ["", "covariance"]
    lines += ["  ".join(f"{value: .17e}" for value in row) for row in cov.tolist()]
    text = escape("\n".join(lines))
    return f"<details><summary>All digits</summary><pre>{text}</pre></details>"


def _css() -> str:
    light, dark = _variables(LIGHT), _variables(DARK)
    return (
        f":root{{color-scheme:light dark;{light}}}"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}" + _RULES
    )


def _variables(colours: Palette) -> str:
    named = ("paper", "ink", "muted", "faint", "curve", "foot")
    return "".join(f"--{name}:{getattr(colours, name)};" for name in named)


_RULES = """
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif}
main{max-width:46rem;margin:0 auto;padding:2.5rem 1.25rem 4rem}
h1{font:600 1.35rem/1.35 ui-monospace,"SF Mono",Menlo,Consolas,monospace;margin:0 0 .3rem;
overflow-wrap:anywhere}
h2{font-size:1rem;margin:2.4rem 0 .6rem}
p,ul{margin:.3rem 0}
ul{padding-left:1.2rem}
header p,footer,th,dt{color:var(--muted)}
.pill{font-size:.85rem;padding:.05rem .55rem;border-radius:1rem;margin-left:.4rem;
border:1px solid currentColor;white-space:nowrap}
.good{color:var(--curve)}
.bad{color:var(--foot)}
aside{border-left:3px solid var(--foot);padding:.3rem .9rem;margin:1.2rem 0}
aside ul{list-style:none;padding:0}
aside li+li{margin-top:.5rem}
figure{margin:1.6rem 0;overflow-x:auto}
img{width:100%;min-width:33rem;height:auto;display:block}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th{font-weight:500;font-size:.85rem;text-align:left}
td,th{padding:.3rem 1.4rem .3rem 0;vertical-align:top}
tbody tr{border-top:1px solid var(--faint)}
.values td:first-child{font-family:ui-monospace,"SF Mono",Menlo,Consolas,monospace}
.values td:nth-child(2){font-weight:600}
.values td:not(:first-child){white-space:nowrap}
.matrix td,.matrix th{padding:.35rem .7rem;text-align:right}
.matrix td{min-width:3.4rem;border:1px solid var(--paper)}
.matrix tr{border:0}
.checks td:not(:last-child){white-space:nowrap}
.up{background:color-mix(in srgb,var(--curve) var(--r),transparent)}
.down{background:color-mix(in srgb,var(--foot) var(--r),transparent)}
.same{color:var(--muted)}
dl{display:flex;flex-wrap:wrap;gap:.6rem 2.6rem;margin:0}
dt{font-size:.85rem}
dd{margin:0;font-size:1.2rem;font-variant-numeric:tabular-nums}
details{margin-top:.8rem;font-size:.9rem}
summary{cursor:pointer;color:var(--muted)}
pre{overflow-x:auto;font-size:.8rem;line-height:1.5}
footer{margin-top:3rem;padding-top:.8rem;border-top:1px solid var(--faint);font-size:.85rem}
section{break-inside:avoid;overflow-x:auto}
@media (max-width:34rem){td,th{padding-right:.8rem}}
"""
