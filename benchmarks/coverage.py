"""How often intervals hold the truth: simulated, seeded, written to docs/data/coverage.csv.

    python benchmarks/coverage.py [--out FILE] [--share 1.0]

Every cell draws data sets of a known curve, fits them all as one batch and counts how many
intervals hold the true parameters. A profile interval holds a value exactly if chi-square, with the
parameter held there, has risen by less than the squared quantile, so one more batch of fits counts
them. Bootstrap and jackknife refit every data set many times; fewer data sets have to do.
"""

import argparse
import csv
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import gradfit as gf
from gradfit._distributions import normal_quantile

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "docs" / "data" / "coverage.csv"
LEVELS = (0.6827, 0.95)
SIZES = (10, 30, 300)
FITS = {10: 2000, 30: 2000, 300: 1000}
"""Data sets for methods that need one fit each."""
RESAMPLED = {10: 200, 30: 200, 300: 60}
"""Data sets for methods that need hundreds of refits each."""
REFITS = 399
COV_TYPES = ("expected", "observed", "propagated", "sandwich")
COLUMNS = ("model", "errors", "n", "method", "level", "parameter", "inside", "trials")


class Curve(NamedTuple):
    """A true curve, where it is measured, and how well."""

    formula: str
    truth: dict[str, float]
    ends: tuple[float, float]
    small: tuple[float, float]
    large: tuple[float, float]


CURVES = {
    "line": Curve("a + b*x", {"a": 1.0, "b": 2.0}, (0, 10), (0.05, 0.1), (1.0, 1.5)),
    "decay": Curve("a*exp(-b*x)", {"a": 4.0, "b": 0.6}, (0, 6), (0.02, 0.04), (0.3, 0.2)),
    "saturation": Curve(
        "top*x/(half + x)", {"top": 5.0, "half": 2.0}, (0.5, 12), (0.05, 0.03), (0.8, 0.3)
    ),
}


class Cell(NamedTuple):
    """Simulated data sets of one curve."""

    name: str
    errors: str
    n: int
    x: np.ndarray
    y: np.ndarray
    sx: float
    sy: float

    @property
    def curve(self) -> Curve:
        return CURVES[self.name]

    def fit(self, count: int | None = None, **options: Any) -> Any:
        """Fit the first ``count`` data sets, all by default, as one batch."""
        x, y = self.x[:count], self.y[:count]
        start = {k: v for k, v in self.curve.truth.items() if k not in options.get("fixed", {})}
        options = {"sx": self.sx, "sy": self.sy, "start": start} | options
        groups = np.repeat(np.arange(len(x)), self.n)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return gf.fit(self.curve.formula, x.ravel(), y.ravel(), groups=groups, **options)

    def fit_one(self, k: int) -> Any:
        """Fit one data set."""
        c = self.curve
        return gf.fit(c.formula, self.x[k], self.y[k], sx=self.sx, sy=self.sy, start=c.truth)


def simulate(name: str, errors: str, n: int, count: int) -> Cell:
    """Draw data sets; the same cell always draws the same."""
    c = CURVES[name]
    sx, sy = getattr(c, errors)
    where = (list(CURVES).index(name), ("small", "large").index(errors), n)
    rng = np.random.default_rng(where)
    x = np.linspace(*c.ends, n)
    y = gf.simulate(c.formula, c.truth, x)[1]
    e = rng.standard_normal((count, 2, n))
    return Cell(name, errors, n, x + sx * e[:, 0], y + sy * e[:, 1], sx, sy)


Count = tuple[str, float, str, int, int]


def of_tables(cell: Cell) -> Iterator[Count]:
    """Count intervals from standard errors, for every kind of covariance."""
    tables = {f"t, {kind}": cell.fit(cov_type=kind) for kind in COV_TYPES}
    tables["t, scaled"] = cell.fit(absolute_sigma=False)
    tables["t, bias-corrected"] = cell.fit(bias_correction=True)
    for method, many in tables.items():
        for level in LEVELS:
            ends = many.interval(level)
            for name, value in cell.curve.truth.items():
                low, high = ends[name]
                inside = ((low <= value) & (value <= high))[many.success]
                yield method, level, name, int(inside.sum()), len(inside)


def of_profiles(cell: Cell) -> Iterator[Count]:
    """Count profile intervals by holding each parameter at the truth."""
    free = cell.fit()
    for name, value in cell.curve.truth.items():
        held = cell.fit(fixed={name: value})
        fine = free.success & held.success
        rise = (held.chi2 - free.chi2)[fine]
        for level in LEVELS:
            limit = normal_quantile((1 + level) / 2)
            yield "profile", level, name, int((rise <= limit**2).sum()), int(fine.sum())


def of_resamples(cell: Cell, count: int) -> Iterator[Count]:
    """Count bootstrap and jackknife intervals."""
    inside: dict[tuple[str, float, str], list[bool]] = {}
    for k in range(count):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit = cell.fit_one(k)
            if not fit.success:
                continue
            for method, found in _resampled(fit, k):
                for level in LEVELS:
                    for name, (low, high) in found(level).items():
                        hit = low <= cell.curve.truth[name] <= high
                        inside.setdefault((method, level, name), []).append(hit)
    for (method, level, name), hits in inside.items():
        yield method, level, name, sum(hits), len(hits)


def _resampled(fit: Any, seed: int) -> Iterator[tuple[str, Any]]:
    """Return methods with their intervals; a resample that fails altogether counts for nothing."""
    for kind in ("pairs", "residual", "parametric"):
        try:
            found = fit.bootstrap(REFITS, kind, seed=seed)
        except gf.errors.InputError:
            continue
        yield f"bootstrap, {kind}", found.interval
    yield "jackknife", fit.jackknife().interval


def cells(share: float = 1.0) -> Iterator[dict[str, Any]]:
    """Yield the rows of the table, cell by cell; ``share`` takes that part of the data sets."""
    for n in SIZES:
        for name in CURVES:
            for errors in ("small", "large"):
                cell = simulate(name, errors, n, max(20, int(share * FITS[n])))
                several = max(10, int(share * RESAMPLED[n]))
                for counts in (of_tables(cell), of_profiles(cell), of_resamples(cell, several)):
                    for row in counts:
                        yield dict(zip(COLUMNS, (name, errors, n, *row), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=TABLE)
    parser.add_argument("--share", type=float, default=1.0)
    given = parser.parse_args()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with given.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for row in cells(given.share):
            writer.writerow(row)
            file.flush()


if __name__ == "__main__":
    main()
