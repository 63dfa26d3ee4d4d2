"""Machine code beside torch on every reference problem: the same steps to the same answers.

A fit of dozens of steps, or one that ends within rounding error of chi-square, may take a step
more or less where a last bit decides; so it is counted how many do, and asked that they end alike.
"""

import warnings
from typing import Any

import numpy as np
import pytest

import gradfit as gf
from oracles import refsets
from oracles.arrive import chi2_noise

SETS = [s for s in map(refsets.load, refsets.names()) if s.unique]
REFUSED = ("iso28037_c9",)
"""Points without any error, which both refuse."""
OTHERWISE = {
    ("ggs94_ellipse8", "conicfit benchmark"): "neither arrives in 500 steps",
    ("strd_filip", "zeros"): "condition 1e15: both lose eight digits, each its own",
    ("strd_wampler4", "zeros"): "condition 1e7 squared, and residuals of 1e5: seven digits",
}
"""Starts from which the two may end apart, and why."""


@pytest.fixture(autouse=True, scope="module")
def machine_code(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NUMBA_CACHE_DIR", str(tmp_path_factory.mktemp("machine_code")))
        yield


def both(problem: refsets.RefSet, start: str) -> tuple[Any, Any]:
    given = {"start": problem.start(start), "absolute_sigma": True, **problem.keywords()}
    model = problem.formula.model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gf.errors.ConvergenceWarning)
        eager, native = (gf.fit(model, backend=b, **given) for b in ("eager", "native"))
    assert native.backend == "native", native.message
    return eager, native


def compare(cases: list[tuple[refsets.RefSet, str]]) -> float:
    """Compare answers; return the share of fits with another number of steps or another end."""
    others = 0
    for problem, start in cases:
        eager, native = both(problem, start)
        others += eager.n_steps != native.n_steps or eager.status != native.status
        name = f"{problem.name} from {start}"
        if (problem.name, start) in OTHERWISE:
            continue
        assert native.success == eager.success, name
        wanted, found = (np.array(list(r.params.values())) for r in (eager, native))
        stderr = np.nan_to_num(list(eager.stderr.values()), posinf=0.0)
        assert (np.abs(found - wanted) <= 1e-9 * np.maximum(np.abs(wanted), stderr)).all(), name
        assert native.chi2 == pytest.approx(eager.chi2, rel=1e-9, abs=rounding(problem)), name
    return others / len(cases)


def rounding(problem: refsets.RefSet) -> float:
    """What rounding alone may change of chi-square."""
    plain = not problem.implicit and len(problem.formula.equations) == 1
    return 10 * chi2_noise(problem) if plain else 1e-18


def cases(all_starts: bool) -> list[tuple[refsets.RefSet, str]]:
    chosen = [s for s in SETS if s.name not in REFUSED]
    return [(s, start) for s in chosen for start in list(s.starts)[0 if all_starts else -1 :]]


def test_both_take_the_same_steps_to_every_reference():
    assert compare(cases(all_starts=False)) <= 0.1


@pytest.mark.slow
def test_both_take_the_same_steps_from_every_start():
    assert compare(cases(all_starts=True)) <= 0.12
