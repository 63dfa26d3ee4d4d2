"""Machine code beside torch on every reference problem: the same steps to the same answers.

A fit of dozens of steps, or one that ends within rounding error of chi-square, may take a step
more or less where a last bit decides; so it is counted how many do, and asked that they end alike.
"""

import warnings
from typing import Any

import numpy as np
import pytest

import gradfit as gf
from gradfit._native import cpu
from gradfit._native.eights import MOST
from gradfit._native.lower import LANES
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
ILL = {
    ("strd_wampler3", "zeros"): "condition 1e7 squared: eight digits are left of chi-square's slope"
}
"""The same of fits side by side."""
LONG = 100
"""Steps of a fit on which a last bit may send it another way down."""


@pytest.fixture(autouse=True, scope="module")
def machine_code(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADFIT_CACHE_DIR", str(tmp_path_factory.mktemp("machine_code")))
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


def tiled(given: dict[str, Any], times: int) -> dict[str, Any]:
    """Return the same points as many fits."""
    x = np.asarray(given["x"])
    n = x.shape[-1]
    out = {**given, "groups": np.repeat(np.arange(times), n)}
    for key in ("x", "y", "sx", "sy", "rho"):
        value = np.asarray(given.get(key, 0.0), dtype=float)
        if value.ndim and value.shape[-1] == n:
            out[key] = np.tile(value, times)
    if "cov" in given and np.ndim(given["cov"]) == 3:
        out["cov"] = np.tile(given["cov"], (times, 1, 1))
    return out


def in_eights(problem: refsets.RefSet, starts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare fits abreast with fits one by one, as many as there are lanes and one more."""
    model, times = problem.formula.model(), LANES + 1

    def fit(start: dict[str, float], goes_abreast: bool) -> Any:
        given = {"start": start, "absolute_sigma": True, "backend": "native"}
        with monkeypatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if not goes_abreast:
                patch.setattr(cpu, "_goes_abreast", lambda s, count: False)
            return gf.fit(model, **given, **tiled(problem.keywords(), times))

    for name in starts:
        if (problem.name, name) in OTHERWISE | ILL:
            continue
        many, others = (fit(problem.start(name), way) for way in (True, False))
        assert many.backend == "native"
        assert np.ptp(many.chi2) == 0.0
        assert (many.success == others.success).all(), name
        # Where rounding ends a fit it may do so a step or two later.
        apart = np.abs(many.n_steps - others.n_steps)
        assert apart.max() <= 2 or others.n_steps.min() > LONG, name
        for key, value in others.params.items():
            size = np.maximum(np.abs(value), np.nan_to_num(others.stderr[key], posinf=0.0))
            assert (np.abs(many.params[key] - value) <= 1e-9 * size).all(), (name, key)


SMALL = pytest.mark.parametrize(
    "problem",
    [s for s in SETS if not s.implicit and s.name not in REFUSED and s.x.shape[1] <= MOST],
    ids=lambda s: s.name,
)


@SMALL
def test_small_fits_abreast_are_those_one_by_one(problem: refsets.RefSet, monkeypatch):
    in_eights(problem, list(problem.starts)[-1:], monkeypatch)


@pytest.mark.slow
@SMALL
def test_small_fits_abreast_are_those_one_by_one_from_every_start(problem, monkeypatch):
    in_eights(problem, list(problem.starts), monkeypatch)


def test_both_take_the_same_steps_to_every_reference():
    assert compare(cases(all_starts=False)) <= 0.1


@pytest.mark.slow
def test_both_take_the_same_steps_from_every_start():
    assert compare(cases(all_starts=True)) <= 0.12
