"""Time gradfit beside SciPy's ODR and odrpack: same points, start and tolerances, same process.

The answers are compared before anything is timed, and where one differs no ratio is given. Runs
alternate between the solvers, and medians are shown. The others are called as their users call
them, with derivatives by finite differences.
"""

import importlib
import importlib.metadata
import json
import os
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gradfit._fit import fit
from gradfit._prepare import prepare
from gradfit._types import FloatArray
from gradfit.app.output import progress, show

SX, SY = 0.05, 0.05
TOLERANCE = 1e-12
"""Relative change of chi-square and of the parameters at which every solver stops."""
OURS = ("gradfit", "prepared")
SAME = 1e-2
"""Largest difference of answers that count as equal, in standard errors: the finite differences of
the others leave up to half of it."""

Solver = Callable[[FloatArray, Any], FloatArray]
"""Points (G, N) or (m, N), and (G, N), (q, N) or nothing, to parameters (G, p)."""


class Model(NamedTuple):
    """A model in the words of each solver; ``truth`` are the parameters of the points.

    ``formula`` is ours; ``plain`` takes parameters and x, as NumPy arrays, and ``curve`` gives the
    points without errors.
    """

    name: str
    formula: Any
    plain: Callable[[FloatArray, FloatArray], FloatArray]
    curve: Callable[[int], tuple[FloatArray, Any]]
    start: Mapping[str, float]


class Work(NamedTuple):
    """So many fits of so many points, timed so many times."""

    fits: int
    points: int
    repeats: int
    model: Model

    @property
    def title(self) -> str:
        """The work in words."""
        if self.fits == 1:
            return f"{self.model.name}, N = {self.points:,}"
        return f"{self.fits:,} fits of {self.points} points"


def _decay_points(n: int) -> tuple[FloatArray, FloatArray]:
    x = np.linspace(0.0, 8.0, n)
    return x, 4.0 * np.exp(-0.4 * x) + 0.7


def _surface_points(n: int) -> tuple[FloatArray, FloatArray]:
    x = np.stack([np.linspace(0.0, 3.0, n), np.sin(np.arange(n)) + 1.0])
    return x, 3.0 * np.exp(-0.7 * x[0]) + 0.5 * x[1]


def _pair_points(n: int) -> tuple[FloatArray, FloatArray]:
    x = np.linspace(0.0, 3.0, n)
    return x, np.stack([3.0 * np.exp(-0.7 * x), 2.1 * x])


def _circle_points(n: int) -> tuple[FloatArray, None]:
    angle = np.linspace(0.0, 6.0, n)
    return np.stack([2.0 + 3.0 * np.cos(angle), 1.0 + 3.0 * np.sin(angle)]), None


def _pair(x: Any, a: Any, b: Any) -> Any:
    import torch

    return torch.stack([a * torch.exp(-b * x), a * b * x])


DECAY = Model(
    "one fit",
    "a*exp(-b*x) + c",
    lambda b, x: b[0] * np.exp(-b[1] * x) + b[2],
    _decay_points,
    {"a": 3.5, "b": 0.35, "c": 0.5},
)
SURFACE = Model(
    "two variables",
    "a*exp(-b*x[0]) + c*x[1]",
    lambda b, x: b[0] * np.exp(-b[1] * x[0]) + b[2] * x[1],
    _surface_points,
    {"a": 2.5, "b": 0.6, "c": 0.7},
)
PAIR = Model(
    "two responses",
    _pair,
    lambda b, x: np.stack([b[0] * np.exp(-b[1] * x), b[0] * b[1] * x]),
    _pair_points,
    {"a": 2.5, "b": 0.6},
)
CIRCLE = Model(
    "implicit circle",
    "(x[0] - a)**2 + (x[1] - b)**2 - r**2",
    lambda b, x: (x[0] - b[0]) ** 2 + (x[1] - b[1]) ** 2 - b[2] ** 2,
    _circle_points,
    {"a": 1.5, "b": 0.5, "r": 2.5},
)

FULL = (
    Work(1, 20, 200, DECAY),
    Work(1, 1_000, 50, DECAY),
    Work(1, 1_000_000, 3, DECAY),
    Work(100_000, 20, 1, DECAY),
    Work(1, 1_000, 20, SURFACE),
    Work(1, 1_000, 20, PAIR),
    Work(1, 1_000, 20, CIRCLE),
)
QUICK = (
    Work(1, 20, 50, DECAY),
    Work(1, 1_000, 15, DECAY),
    Work(1, 100_000, 3, DECAY),
    Work(1_000, 20, 3, DECAY),
)


class Row(NamedTuple):
    """What was measured for one work: by solver, in seconds and in standard errors."""

    work: Work
    seconds: Mapping[str, float]
    apart: Mapping[str, float]

    def ratio(self, name: str) -> float | None:
        """How many times longer a peer takes than gradfit; None where the answers differ."""
        return self.seconds[name] / self.seconds["gradfit"] if self.apart[name] <= SAME else None


def run(*, quick: bool, as_json: bool) -> int:
    """Measure every work with every solver that is installed; print a table, or JSON."""
    rows: list[Row] = []
    with progress("timing", quiet=False) as say:
        for work in QUICK if quick else FULL:
            if say is not None:
                say(work.title)
            rows.append(_measure(work))
    show(_json(rows) if as_json else _table(rows))
    return 0


def _measure(work: Work) -> Row:
    x, y = _simulate(work)
    solvers = {"gradfit": _ours(work), **_prepared(work), **_peers(work.model)}
    answers: dict[str, FloatArray] = {}
    for name, solve in solvers.items():
        try:
            answers[name] = solve(x, y)
        except (RuntimeError, TypeError, ValueError):
            # A solver may not do this kind of fit at all.
            continue
    one = (x[0], y[0]) if work.model is DECAY else (x, y)
    first = fit(work.model.formula, *one, start=work.model.start, **_errors(y))
    errors = np.array([first.stderr[name] for name in work.model.start])
    apart = {
        name: float(np.max(np.abs(answer - answers["gradfit"]) / errors))
        for name, answer in answers.items()
    }
    times: dict[str, list[float]] = {name: [] for name in answers}
    for _ in range(work.repeats):
        for name in answers:
            began = time.perf_counter()
            solvers[name](x, y)
            times[name].append(time.perf_counter() - began)
    return Row(work, {name: statistics.median(t) for name, t in times.items()}, apart)


def _simulate(work: Work) -> tuple[FloatArray, Any]:
    rng = np.random.default_rng(work.points + work.fits)
    x, y = work.model.curve(work.points)
    if work.model is DECAY:
        x, y = np.tile(x, (work.fits, 1)), np.tile(y, (work.fits, 1))
    x = x + SX * rng.standard_normal(x.shape)
    return x, None if y is None else y + SY * rng.standard_normal(y.shape)


def _errors(y: Any) -> dict[str, Any]:
    return {"sx": SX} if y is None else {"sx": SX, "sy": SY}


def _ours(work: Work) -> Solver:
    model = work.model
    options: dict[str, Any] = {"start": model.start, "ftol": TOLERANCE, "xtol": TOLERANCE}
    if work.fits > 1:
        options["groups"] = np.repeat(np.arange(work.fits), work.points)

    def solve(x: FloatArray, y: Any) -> FloatArray:
        if model is DECAY:
            x, y = x.ravel(), y.ravel()
        result = fit(model.formula, x, y, backend="native", **_errors(y), **options)
        return np.stack([np.atleast_1d(result.params[name]) for name in model.start], axis=1)

    return solve


def _prepared(work: Work) -> dict[str, Solver]:
    if work.fits > 1 or work.model is not DECAY:
        return {}
    tolerances: dict[str, Any] = {"ftol": TOLERANCE, "xtol": TOLERANCE}
    fitter = prepare(work.model.formula, start=work.model.start, sx=SX, sy=SY, **tolerances)
    return {"prepared": lambda x, y: np.array([list(fitter(x[0], y[0]).params.values())])}


def _peers(model: Model) -> dict[str, Solver]:
    solvers = {"scipy.odr": _scipy(model), "odrpack": _odrpack(model)}
    return {name: solve for name, solve in solvers.items() if solve is not None}


def _scipy(model: Model) -> Solver | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            odr: Any = importlib.import_module("scipy.odr")
    except ImportError:
        return None
    implicit = model is CIRCLE
    described = odr.Model(model.plain, implicit=implicit)
    start = list(model.start.values())
    limits = {"sstol": TOLERANCE, "partol": TOLERANCE, "maxit": 500}

    def one(x: FloatArray, y: Any) -> FloatArray:
        data = odr.Data(x, 1, wd=SX**-2) if implicit else odr.RealData(x, y, sx=SX, sy=SY)
        return odr.ODR(data, described, start, **limits).run().beta

    return _one_by_one(one, model)


def _odrpack(model: Model) -> Solver | None:
    try:
        odrpack: Any = importlib.import_module("odrpack")
    except ImportError:
        return None
    start = np.array(list(model.start.values()))
    limits: dict[str, Any] = {"sstol": TOLERANCE, "partol": TOLERANCE, "maxit": 500}
    implicit = model is CIRCLE
    weights: dict[str, Any] = {"weight_x": SX**-2}
    weights |= {"task": "implicit-ODR"} if implicit else {"weight_y": SY**-2}

    def function(x: FloatArray, beta: FloatArray) -> FloatArray:
        return model.plain(beta, x)

    def one(x: FloatArray, y: Any) -> FloatArray:
        y = np.zeros(x.shape[-1]) if implicit else y
        return odrpack.odr_fit(function, x, y, start, **weights, **limits).beta

    return _one_by_one(one, model)


def _one_by_one(one: Solver, model: Model) -> Solver:
    if model is not DECAY:
        return lambda x, y: one(x, y)[None]
    return lambda x, y: np.array([one(xs, ys) for xs, ys in zip(x, y, strict=True)])


def _machine() -> dict[str, Any]:
    import torch

    facts: dict[str, Any] = {"cores": os.cpu_count(), "threads": torch.get_num_threads()}
    for package in ("torch", "numpy", "scipy", "odrpack"):
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            facts[package] = None
    return facts


def _json(rows: Sequence[Row]) -> str:
    table = [
        {
            "work": row.work.title,
            "seconds": row.seconds,
            "ratio": {name: row.ratio(name) for name in row.seconds if name not in OURS},
            "standard errors apart": row.apart,
        }
        for row in rows
    ]
    return json.dumps(
        {"machine": _machine(), "tolerance": TOLERANCE, "rows": table}, indent=2, allow_nan=False
    )


def _table(rows: Sequence[Row]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row.seconds))
    head = f"{'work':<24}" + "".join(f"{name:>23}" for name in names)
    lines = [head, "-" * len(head)]
    for row in rows:
        cells = "".join(f"{_cell(row, name):>23}" for name in names)
        lines.append(f"{row.work.title:<24}{cells}")
    facts = ", ".join(f"{name} {value}" for name, value in _machine().items() if value)
    return "\n".join(
        [
            *lines,
            "",
            "In brackets: how many times longer than gradfit it takes, for equal answers",
            f"(within {SAME:g} standard errors) and equal tolerances ({TOLERANCE:g}).",
            facts,
        ]
    )


def _cell(row: Row, name: str) -> str:
    if name not in row.seconds:
        return "-"
    seconds = row.seconds[name]
    text = f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
    if name in OURS:
        return text
    ratio = row.ratio(name)
    return f"{text} (other answer)" if ratio is None else f"{text} ({ratio:.2g}x)"
