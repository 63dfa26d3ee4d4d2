"""Descent on reference problems: where it can it reaches the solution, elsewhere it says why not.

The loss is the weighted squared distance with a correction of x for every point as a parameter;
`gradfit.fit` eliminates those, descent has to find them too.
"""

from typing import Any

import numpy as np
import pytest
import torch

import gradfit as gf
from oracles import refsets
from oracles.arrive import deviations, fit

REACHED = [
    "arsenate_deming",
    "creatinine_deming",
    "iso28037_c7",
    "kafe2_line4",
    "michaelis_menten_relative",
    "pearson_unit",
    "pearson_york",
    "pearson_york_swapped",
    "scipy_pearson_sd",
    "strd_chwirut2",
    "strd_eckerle4",
    "strd_enso",
    "strd_norris",
    "trap_sine_xerr",
]

MISSED = {
    "isochron_smnd1": "lost in the rounding error",
    "strd_filip": "flat along a direction",
    "strd_misra1a": "lost in the rounding error",
    "strd_wampler1": "lost in the rounding error",
    "trap_line_offset": "flat along a direction",
    "trap_parabola_symmetric": "bends down",
}
"""Problems that gradients alone do not solve, and words that must say so."""

SOMETIMES = {"strd_misra1a"}
"""Those that one rounding error may carry to the solution, and the next one not."""


def errors(problem: refsets.RefSet) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviations of x and y per point; all 1 when none are given."""
    given = (problem.sx, problem.sy)
    nothing = 1.0 if all(s is None for s in given) else 0.0
    shape = problem.x[0].shape
    return tuple(  # type: ignore[return-value]
        np.array(np.broadcast_to(np.squeeze(nothing if s is None else s), shape)) for s in given
    )


def descend(name: str, epochs: int, rounding: int = 0) -> tuple[refsets.RefSet, Any]:
    """Descend from the last start; each `rounding` adds up other last bits than the others do."""
    problem = refsets.load(name)
    columns = problem.x[0], problem.y[0], *errors(problem)
    order = np.arange(len(columns[0]))
    if rounding:
        np.random.default_rng(rounding).shuffle(order)
    x, y, sx, sy = (torch.from_numpy(column[order]) for column in columns)

    def loss(delta: Any = 0.0, **params: torch.Tensor) -> torch.Tensor:
        curve = problem.formula([x + delta * sx], [params[n] for n in problem.names], torch)[0]
        return torch.sum(((y - curve) / sy) ** 2) + torch.sum(torch.as_tensor(delta) ** 2)

    begin = problem.start(list(problem.starts)[-1])
    start: dict[str, Any] = {n: v * (1 + rounding * 2.0**-50) for n, v in begin.items()}
    if sx.any():
        start["delta"] = np.zeros(len(x))
    return problem, gf.descend(loss, start, epochs=epochs)


def assert_solved(problem: refsets.RefSet, run: Any) -> np.ndarray:
    """See that a descent ended at the reference; return how near its parameters must be."""
    assert run.loss == pytest.approx(problem.chi2, rel=1e-10)
    found = np.array([run.params[n] for n in problem.names])
    near = 1e-4 * deviations(problem, "sd_gn_scaled")
    assert (np.abs(found - problem.beta) <= near).all()
    return near


@pytest.mark.parametrize("name", REACHED)
def test_automatic_steps_reach_the_reference_and_the_fit(name):
    # In a narrow valley the last bits, and so the processor, decide how many steps it takes: from
    # a few hundred to more than ten thousand for the same problem. That they arrive is certain.
    problem, run = descend(name, epochs=100_000)
    assert run.success, run.diagnosis
    near = assert_solved(problem, run)
    fitted = fit(name, list(problem.starts)[-1])
    assert run.loss == pytest.approx(float(fitted.chi2), rel=1e-10)
    for k, n in enumerate(problem.names):
        assert abs(run.params[n] - float(fitted.params[n])) <= near[k]


@pytest.mark.parametrize("rounding", range(3))
@pytest.mark.parametrize("name", MISSED)
def test_where_gradients_do_not_suffice_the_words_say_so(name, rounding):
    # Last bits decide where it ends and how (stalled, out of epochs, gradient vanished), but not
    # what the words say of the problem, and never that it arrived where it did not.
    problem, run = descend(name, 1300, rounding)
    if run.success and name in SOMETIMES:
        assert_solved(problem, run)
        return
    assert not run.success, run.diagnosis
    assert MISSED[name] in run.diagnosis
