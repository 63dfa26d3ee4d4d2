"""Fits as HTML: tables that any page or notebook can hold."""

from collections.abc import Sequence
from html import escape

from gradfit._views import words
from gradfit._views.fitted import Fitted, as_array, equation, free
from gradfit._views.summary import MATRIX, coefficient, facts, parameter_rows, strongest
from gradfit._views.summary_table import Table, endings, first_rows

CELL = "padding:.15em .9em .15em 0;text-align:left;font-variant-numeric:tabular-nums"


def fit_fragment(fit: Fitted) -> str:
    """Return a fit as a few tables, in the colours of whatever page holds them."""
    title = escape(equation(fit.model, fit.observed))
    points = words.points_given(fit.observed)
    warned = "".join(f"<div>⚠ {escape(text)}</div>" for text in words.warnings(fit))
    stopped = "" if fit.success else f"<div><b>Failed: {fit.status.name}</b></div>"
    head = ["parameter", "value ± error", "relative", ""]
    body = [[name, value, share, remark] for name, value, share, remark in parameter_rows(fit)]
    rest = [[heading, "; ".join(lines)] for heading, lines in facts(fit)]
    return (
        f"<div><b>{title}</b><br>{escape(points)}{stopped}"
        f"{table([head, *body])}{table(rest, header=False)}{warned}</div>"
    )


def trade_fragment(fit: str, method: str, assumes: str, told: Sequence[tuple[str, str]]) -> str:
    """Return the tables of a line under the name that its trade gives it, its figures last."""
    figures = table([list(row) for row in told], header=False) if told else ""
    return f"<div><b>{escape(method)}</b><br>assumes {escape(assumes)}{fit}{figures}</div>"


def table_fragment(many: Table) -> str:
    """Return the first of many fits as a table."""
    title = escape(equation(many.model, many.observed))
    ended = "<br>".join(escape(line) for line in endings(many))
    return f"<div><b>{title}</b><br>{ended}{table(first_rows(many))}</div>"


def table(rows: Sequence[Sequence[str]], header: bool = True) -> str:
    """Return rows of text as a table; the first is its heading."""
    lines: list[str] = []
    for k, row in enumerate(rows):
        tag = "th" if header and k == 0 else "td"
        cells = "".join(f'<{tag} style="{CELL}">{escape(cell)}</{tag}>' for cell in row)
        lines.append(f"<tr>{cells}</tr>")
    return f"<table>{''.join(lines)}</table>"


def correlation_table(fit: Fitted) -> str:
    """Return correlations as a matrix with cells tinted by strength, or the strongest pairs."""
    names = free(fit)
    at = [fit.names.index(name) for name in names]
    corr = as_array(fit.corr)[at][:, at]
    if len(names) < 2:
        return ""
    if len(names) > MATRIX:
        pairs = [[a, b, coefficient(r)] for a, b, r in strongest(names, corr)]
        return table([["", "", "strongest correlations"], *pairs])
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    lines = [f"<tr><th></th>{head}</tr>"]
    for i, name in enumerate(names):
        cells = "".join(_tinted(float(corr[i, j]), i == j) for j in range(len(names)))
        lines.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
    return f'<table class="matrix">{"".join(lines)}</table>'


def _tinted(r: float, same: bool) -> str:
    if same:
        return '<td class="same">1</td>'
    kind = "up" if r > 0 else "down"
    strength = f"{abs(r) * 45:.0f}%" if abs(r) <= 1 else "0%"
    return f'<td class="{kind}" style="--r:{strength}">{coefficient(r)}</td>'
