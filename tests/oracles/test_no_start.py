"""The reference problems, solved without the start values that they come with."""

import warnings

import pytest

import gradfit as gf
from oracles import refsets

EXCEPT = {"odr_enso"}
"""With errors in x, ever faster oscillations fit ever better: there is no lowest chi-square."""
ILL_CONDITIONED = {"strd_filip", "trap_line_offset"}
"""Rounding of the residuals alone changes chi-square in the eighth digit."""
ALL = [
    name
    for name in refsets.names()
    if name not in EXCEPT and refsets.load(name).unique and not refsets.load(name).between
]
NIST = [name for name in ALL if name.startswith("strd_")]


def assert_solved(name: str) -> None:
    problem = refsets.load(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = gf.fit(problem.formula.model(), **problem.keywords())
    # NIST certifies 11 digits of a sum of squares; that of an exact polynomial is 0.
    scale = float((problem.y**2).sum()) if problem.y is not None else 0.0
    rel = 1e-7 if name in ILL_CONDITIONED else 1e-8
    assert fit.chi2 == pytest.approx(problem.chi2, rel=rel, abs=1e-26 * scale)


@pytest.mark.parametrize("name", NIST)
def test_problems_of_nist_need_no_start_values(name):
    assert_solved(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ALL if name not in NIST])
def test_other_problems_need_no_start_values(name):
    assert_solved(name)
