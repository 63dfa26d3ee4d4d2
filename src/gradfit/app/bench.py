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
from gradfit._types import FloatArray
from gradfit.app.output import progress, show

MODEL = "a*exp(-b*x) + c"
START = {"a": 3.5, "b": 0.35, "c": 0.5}
SX, SY = 0.05, 0.05
TOLERANCE = 1e-12
"""Relative change of chi-square and of the parameters at which every solver stops."""
SAME = 1e-3
"""Largest difference of answers that count as equal, in standard errors."""

Solver = Callable[[FloatArray, FloatArray], FloatArray]
"""Points (G, N) and (G, N) to parameters (G, 3)."""


class Work(NamedTuple):
    """So many fits of so many points, timed so many times."""

    fits: int
    points: int
    repeats: int

    @property
    def title(self) -> str:
        """The work in words."""
        if self.fits == 1:
            return f"one fit, N = {self.points:,}"
        return f"{self.fits:,} fits of {self.points} points"


FULL = (Work(1, 20, 200), Work(1, 1_000, 50), Work(1, 1_000_000, 3), Work(20_000, 20, 3))
QUICK = (Work(1, 20, 50), Work(1, 1_000, 15), Work(1, 100_000, 3), Work(1_000, 20, 3))


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
    solvers = {"gradfit": _ours, **_peers()}
    rows: list[Row] = []
    with progress("timing", quiet=False) as say:
        for work in QUICK if quick else FULL:
            if say is not None:
                say(work.title)
            rows.append(_measure(work, solvers))
    show(_json(rows) if as_json else _table(rows))
    return 0


def _measure(work: Work, solvers: Mapping[str, Solver]) -> Row:
    x, y = _simulate(work)
    answers = {name: solve(x, y) for name, solve in solvers.items()}
    first = fit(MODEL, x[0], y[0], start=START, sx=SX, sy=SY)
    errors = np.array([first.stderr[name] for name in START])
    apart = {
        name: float(np.max(np.abs(answer - answers["gradfit"]) / errors))
        for name, answer in answers.items()
    }
    times: dict[str, list[float]] = {name: [] for name in solvers}
    for _ in range(work.repeats):
        for name, solve in solvers.items():
            began = time.perf_counter()
            solve(x, y)
            times[name].append(time.perf_counter() - began)
    return Row(work, {name: statistics.median(t) for name, t in times.items()}, apart)


def _simulate(work: Work) -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(work.points + work.fits)
    x = np.tile(np.linspace(0.0, 8.0, work.points), (work.fits, 1))
    y = 4.0 * np.exp(-0.4 * x) + 0.7
    return x + SX * rng.standard_normal(x.shape), y + SY * rng.standard_normal(x.shape)


def _ours(x: FloatArray, y: FloatArray) -> FloatArray:
    options: dict[str, Any] = {"start": START, "ftol": TOLERANCE, "xtol": TOLERANCE}
    if len(x) > 1:
        options["groups"] = np.repeat(np.arange(len(x)), x.shape[1])
    result = fit(MODEL, x.ravel(), y.ravel(), sx=SX, sy=SY, **options)
    return np.stack([np.atleast_1d(result.params[name]) for name in START], axis=1)


def _peers() -> dict[str, Solver]:
    solvers = {"scipy.odr": _scipy(), "odrpack": _odrpack()}
    return {name: solve for name, solve in solvers.items() if solve is not None}


def _decay(beta: FloatArray, x: FloatArray) -> FloatArray:
    return beta[0] * np.exp(-beta[1] * x) + beta[2]


def _scipy() -> Solver | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            odr: Any = importlib.import_module("scipy.odr")
    except ImportError:
        return None
    model, start = odr.Model(_decay), list(START.values())
    limits = {"sstol": TOLERANCE, "partol": TOLERANCE, "maxit": 500}

    def one(x: FloatArray, y: FloatArray) -> FloatArray:
        return odr.ODR(odr.RealData(x, y, sx=SX, sy=SY), model, start, **limits).run().beta

    return _one_by_one(one)


def _odrpack() -> Solver | None:
    try:
        odrpack: Any = importlib.import_module("odrpack")
    except ImportError:
        return None
    start = np.array(list(START.values()))
    weights = {"weight_x": SX**-2, "weight_y": SY**-2}
    limits = {"sstol": TOLERANCE, "partol": TOLERANCE, "maxit": 500}

    def model(x: FloatArray, beta: FloatArray) -> FloatArray:
        return _decay(beta, x)

    def one(x: FloatArray, y: FloatArray) -> FloatArray:
        return odrpack.odr_fit(model, x, y, start, **weights, **limits).beta

    return _one_by_one(one)


def _one_by_one(one: Solver) -> Solver:
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
            "ratio": {name: row.ratio(name) for name in row.seconds if name != "gradfit"},
            "standard errors apart": row.apart,
        }
        for row in rows
    ]
    return json.dumps(
        {"machine": _machine(), "tolerance": TOLERANCE, "rows": table}, indent=2, allow_nan=False
    )


def _table(rows: Sequence[Row]) -> str:
    names = list(rows[0].seconds)
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
    seconds = row.seconds[name]
    text = f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
    if name == "gradfit":
        return text
    ratio = row.ratio(name)
    return f"{text} (other answer)" if ratio is None else f"{text} ({ratio:.2g}x)"
