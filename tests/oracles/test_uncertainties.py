"""Every kind of standard error of every reference problem."""

from typing import Any

import numpy as np
import pytest

import gradfit as gf
from oracles import refsets
from oracles.arrive import fit
from oracles.test_reference_fits import ARRIVE, COARSE, values

KINDS = {"expected": "sd_gn", "observed": "sd_hess", "propagated": "sd_propagated"}
ALL = [refsets.load(name) for name in refsets.names()]
CASES = [
    (s.name, kind)
    for s in ALL
    for kind, key in KINDS.items()
    if s.unique and s.free and s.expected(key) is not None
]


def start_of(problem: refsets.RefSet) -> str:
    known = [start for name, start in ARRIVE if name == problem.name]
    fine = [start for start in problem.starts if start not in problem.odrpack_misses]
    return (known or fine or list(problem.starts))[-1]


def answer(problem: refsets.RefSet, kind: str) -> Any:
    """Fit a problem; one whose points share errors is given their whole covariance."""
    start = start_of(problem)
    if not problem.between:
        return fit(problem.name, start, cov_type=kind)
    n = problem.x.shape[1]
    V = np.zeros((2 * n, 2 * n))
    for place, name in ((slice(n), "x"), (slice(n, None), "y")):
        if name in problem.between:
            V[place, place] = problem.between[name]
    return gf.fit(
        problem.formula.model(), problem.x[0], problem.y[0], start=problem.start(start),
        cov_joint=V, cov_type=kind,
    )  # fmt: skip


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_standard_errors_of_every_kind_agree_to_eight_digits(name: str, kind: str) -> None:
    problem = refsets.load(name)
    got = answer(problem, kind)
    free = [problem.names.index(k) for k in problem.free]
    digits = min(8, COARSE.get(name, (8, ""))[0])
    np.testing.assert_allclose(
        values(got.stderr)[free], problem.expected(KINDS[kind]), rtol=10.0**-digits
    )
