"""One fit as text, for a lab book."""

import math
import warnings
from collections.abc import Mapping, Sequence
from itertools import combinations
from textwrap import wrap

from gradfit._format import (
    columns,
    duration,
    folded,
    measured,
    number,
    percent,
    plural,
    probability,
)
from gradfit._types import FloatArray
from gradfit._views import words
from gradfit._views.fitted import Fitted, as_array, equation, free
from gradfit.errors import CoverageWarning

WIDTH = 80
MATRIX = 6
"""Free parameters up to which the correlations are printed as a matrix."""
STRONGEST = 6
"""Pairs that are listed where there are more."""


def summary(fit: Fitted) -> str:
    """Return a fit as text: parameters with errors, quality, conventions, status, warnings."""
    parts = [_head(fit)]
    if has_values(fit):
        parts += [_parameters(fit), correlations(fit)]
    parts += [_facts(fit), _warnings(fit)]
    return "\n\n".join("\n".join(part) for part in parts if part)


def _head(fit: Fitted) -> list[str]:
    data = fit.observed
    points = words.points_given(data)
    lines = [
        *folded(f"Fit of {equation(fit.model, fit.observed)}", WIDTH, indent="  "),
        points,
    ]
    if not fit.success:
        lines += ["", *wrap(f"FAILED ({fit.status.name}): {fit.message}", WIDTH)]
    return lines


def has_values(fit: Fitted) -> bool:
    """Return whether there are parameters to speak of; a fit of bad data has none."""
    return all(math.isfinite(value) for value in fit.params.values())


def parameter_rows(fit: Fitted) -> list[tuple[str, str, str, str]]:
    """Return name, value with error, relative error and remark of every parameter."""
    biases = words.noticeable(fit)
    return [_parameter(fit, name, biases.get(name, 0.0)) for name in fit.names]


def _parameter(fit: Fitted, name: str, bias: float) -> tuple[str, str, str, str]:
    value, error = fit.params[name], fit.stderr[name]
    if name in fit.fixed:
        return name, number(value, 10), "", "fixed"
    if name in fit.at_bound:
        return name, number(value, 10), "", _beyond(fit, name)
    if error == math.inf:
        return name, number(value), "", "undetermined"
    if math.isnan(error):
        return name, number(value), "", "error unknown"
    remark = f"bias {number(bias, 2)}" if bias else ""
    return name, measured(value, error), percent(error / abs(value) if value else math.inf), remark


def interval(fit: Fitted, level: float) -> Mapping[str, tuple[float, float]]:
    """Return the intervals of a fit; what warnings say of them stands beside them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CoverageWarning)
        return fit.interval(level)


def _beyond(fit: Fitted, name: str) -> str:
    """Say that a parameter is at its bound, and how far off it may be."""
    low, high = interval(fit, 0.95)[name]
    for sign, end in (("<", high), (">", low)):
        if end != fit.params[name] and math.isfinite(end):
            return f"at its bound, {sign} {number(end, 2)} (95 %)"
    return "at its bound"


def _parameters(fit: Fitted) -> list[str]:
    return columns([("parameter", "value ± error", "relative", ""), *parameter_rows(fit)], "lprl")


def correlations(fit: Fitted) -> list[str]:
    """Return the correlations of the free parameters as lines of text."""
    names = free(fit)
    at = [fit.names.index(name) for name in names]
    corr = as_array(fit.corr)[at][:, at]
    if len(names) < 2:
        return []
    if len(names) == 2:
        return [f"correlation of {names[0]} and {names[1]}  {coefficient(corr[0, 1])}"]
    if len(names) <= MATRIX:
        return ["correlation", *_matrix(names, corr)]
    return [f"strongest of {len(names) * (len(names) - 1) // 2} correlations", *_pairs(names, corr)]


def _matrix(names: Sequence[str], corr: FloatArray) -> list[str]:
    head = ["", *names[:-1]]
    body = [
        [names[i], *(coefficient(corr[i, j]) if j < i else "" for j in range(len(names) - 1))]
        for i in range(1, len(names))
    ]
    return columns([head, *body], "l" + "r" * (len(names) - 1))


def strongest(names: Sequence[str], corr: FloatArray) -> list[tuple[str, str, float]]:
    """Return the most strongly correlated pairs, strongest first."""
    pairs = [(names[i], names[j], float(corr[i, j])) for i, j in combinations(range(len(names)), 2)]
    known = [pair for pair in pairs if math.isfinite(pair[2])]
    return sorted(known, key=lambda pair: -abs(pair[2]))[:STRONGEST]


def _pairs(names: Sequence[str], corr: FloatArray) -> list[str]:
    return columns([[a, b, coefficient(r)] for a, b, r in strongest(names, corr)], "llr")


def coefficient(r: float) -> str:
    """Write a correlation; more digits where it comes near 1."""
    if not math.isfinite(r):
        return "-"
    digits = 3 if abs(r) < 0.9995 else 6
    return f"{r:.{digits}f}"


def facts(fit: Fitted) -> list[tuple[str, list[str]]]:
    """Return what else there is to say, as headings with lines of text."""
    said: list[tuple[str, list[str]]] = []
    if has_values(fit):
        said = [
            ("chi2", [f"{number(fit.chi2, 5)} for {plural(fit.dof, 'degree')} of freedom"]),
            ("MSWD", [number(fit.mswd, 4) if math.isfinite(fit.mswd) else "-"]),
            ("p-value", [probability(fit.p_value)]),
        ]
        if fit.loss != "linear":
            said.append(("loss", [f"{fit.loss}: far points count less, chi2 is the sum of it"]))
            if not fit.absolute_sigma:
                told = f"{number(fit.scale, 4)}, 1.4826 times the median distance"
                said.append(("scale", [told]))
        if len(fit.fixed) < len(fit.names):
            source = f"from the {words.information(fit)}"
            said.append(("errors", ["one standard deviation", words.convention(fit), source]))
    ended = [fit.message] if fit.success else [fit.status.name]
    said.append(("status", [*ended, _work(fit)]))
    return [*said, ("backend", [f"{fit.backend}, {duration(fit.seconds)}"])]


def _work(fit: Fitted) -> str:
    counts = f"{plural(fit.n_steps, 'step')}, {plural(fit.n_eval, 'evaluation')}"
    return f"{counts}, condition {number(fit.condition, 2)}"


def _facts(fit: Fitted) -> list[str]:
    rows = [
        (heading if first else "", text)
        for heading, lines in facts(fit)
        for k, line in enumerate(lines)
        for first, text in _folded(line, WIDTH - 11, k == 0)
    ]
    return columns(rows, "ll")


def _folded(line: str, width: int, first: bool) -> list[tuple[bool, str]]:
    return [(first and k == 0, text) for k, text in enumerate(wrap(line, width) or [""])]


def _warnings(fit: Fitted) -> list[str]:
    return [
        line
        for text in words.warnings(fit)
        for line in wrap(text, WIDTH - 2, initial_indent="! ", subsequent_indent="  ")
    ]
