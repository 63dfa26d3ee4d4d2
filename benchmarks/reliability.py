"""How often intervals of a straight line hold its slope where errors of x are large: simulated.

    python benchmarks/reliability.py [--out FILE] [--share 1.0]

Lines y = x with equal errors of both coordinates. The reliability is the variance of the true x
over that of the observed ones (Fuller, Measurement Error Models (1987), section 1.1). Every cell
is one batch of fits for each kind of standard error; ``told`` counts the summaries, of those looked
at, that say that the default is too short and name the better choice.
"""

import argparse
import csv
import warnings
from pathlib import Path

import numpy as np

import gradfit as gf

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "docs" / "data" / "reliability.csv"
RELIABILITIES = (0.5, 0.6, 0.7, 0.8, 0.9)
SIZES = (10, 50, 200)
SETS = 4000
LOOKED = 20
KINDS = ("expected", "observed", "propagated")
COLUMNS = ("reliability", "n", "cov_type", "inside", "trials", "told", "looked")


def cell(reliability: float, n: int, sets: int) -> list[tuple[float | int | str, ...]]:
    """Return one row for each kind of standard error."""
    rng = np.random.default_rng((int(100 * reliability), n))
    true = rng.standard_normal((sets, n))
    error = ((1 - reliability) / reliability) ** 0.5
    x, y = (true + error * rng.standard_normal((sets, n)) for _ in range(2))
    groups = np.repeat(np.arange(sets), n)
    rows: list[tuple[float | int | str, ...]] = []
    for kind in KINDS:
        many = gf.fit(
            "a + b*x", x.ravel(), y.ravel(), sx=error, sy=error, groups=groups,
            start={"a": 0, "b": 1}, cov_type=kind,
        )  # fmt: skip
        low, high = many.interval(0.95)["b"]
        inside = ((low <= 1) & (high >= 1))[many.success]
        said = [many[k].summary() for k in range(LOOKED)] if kind == "expected" else []
        told = sum(
            'cov_type="propagated" is the better choice' in " ".join(s.split()) for s in said
        )
        rows.append((reliability, n, kind, int(inside.sum()), len(inside), told, len(said)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=TABLE)
    parser.add_argument("--share", type=float, default=1.0, help="of the data sets")
    asked = parser.parse_args()
    with warnings.catch_warnings(), asked.out.open("w", newline="", encoding="utf-8") as file:
        warnings.simplefilter("ignore")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for reliability in RELIABILITIES:
            for n in SIZES:
                writer.writerows(cell(reliability, n, int(SETS * asked.share)))


if __name__ == "__main__":
    main()
